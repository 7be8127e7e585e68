//! The rows of an organisation in a form that is the same on both engines, to copy them between databases.
//!
//! A row is a JSON array with a value per column, in the order of `schema.rs`: numbers for integers, truth values and
//! times (microseconds since 1970), hexadecimal digits for ids and bytes, and texts for everything else.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::ids::OrganizationId;
use crate::error::{Error, Result};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::organization_tables::{ColumnKind, OrganizationTable, TableColumn};
use crate::storage::sql::assembled::AssembledSql;

/// The values of a row, or those of its key, in the order of the columns.
pub type Values = Vec<Value>;

/// The rows of a table whose keys are after the first one, and not after the second one.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyRange<'a> {
    pub after: Option<&'a Values>,
    pub until: Option<&'a Values>,
}

/// Returns the key of a row within its organisation.
pub fn key_of(table: &OrganizationTable, row: &Values) -> Values {
    table.key().into_iter().map(|at| row[at].clone()).collect()
}

/// Returns a checksum of rows, which does not depend on their order.
pub fn checksum<'a>(table: &OrganizationTable, rows: impl IntoIterator<Item = &'a Values>) -> u128 {
    rows.into_iter().fold(0, |sum, row| {
        let mut hash = Sha256::new();
        for (column, value) in table.columns.iter().zip(row) {
            hash.update(canonical(column.kind, value).to_string());
            hash.update("\n");
        }
        let bytes: [u8; 32] = hash.finalize().into();
        let (first, _) = bytes.split_at(16);
        sum.wrapping_add(first.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    })
}

/// Returns a value in a form that does not depend on how an engine writes JSON.
fn canonical(kind: ColumnKind, value: &Value) -> Value {
    match (kind, value) {
        (ColumnKind::Jsonb, Value::String(text)) => serde_json::from_str(text).map_or(Value::Null, sorted),
        _ => value.clone(),
    }
}

/// Sorts the fields of objects, whose order the engines do not keep.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Array(fields.into_iter().flat_map(|(name, value)| [Value::String(name), value]).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        value => value,
    }
}

/// Reads the first rows of an organisation in a range, in the order of their keys.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn read(
    conn: &mut Conn,
    table: &OrganizationTable,
    organization: &OrganizationId,
    range: KeyRange<'_>,
    limit: usize,
) -> Result<Vec<Values>> {
    let engine = Spelling::of(conn);
    let columns: Vec<String> = table.columns.iter().map(|column| engine.encode(column)).collect();
    let query = AssembledSql::new(format!("SELECT {}({})", engine.array(), columns.join(", ")))
        .sql(format!("{} FROM {} WHERE ", engine.as_text(), table.name))
        .append(engine.scope(table, organization))
        .append(engine.range(table, range))
        .sql(format!(" ORDER BY {} LIMIT {limit}", key_columns(table).join(", ")));
    let lines: Vec<String> = query.load(conn).await?;
    lines.iter().map(|line| parse_row(table, line)).collect()
}

/// Returns the number of rows of an organisation.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn count(conn: &mut Conn, table: &OrganizationTable, organization: &OrganizationId) -> Result<u64> {
    let engine = Spelling::of(conn);
    let query = AssembledSql::new(format!("SELECT CAST(count(*) AS text) FROM {} WHERE ", table.name));
    let counts: Vec<String> = query.append(engine.scope(table, organization)).load(conn).await?;
    Ok(counts.first().and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// Returns the versions of an organisation's chats by the ids of the chats in hexadecimal digits.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn chat_versions(conn: &mut Conn, organization: &OrganizationId) -> Result<BTreeMap<String, i64>> {
    let engine = Spelling::of(conn);
    let id = engine.encode(&TableColumn { name: "id", kind: ColumnKind::Uuid });
    let query = AssembledSql::new(format!("SELECT {id} || ' ' || version FROM chats WHERE bucket = "))
        .sql(organization.bucket().number().to_string())
        .sql(" AND organization_id = ")
        .bind(organization.as_str());
    let lines: Vec<String> = query.load(conn).await?;
    let versions = lines.iter().filter_map(|line| {
        let (id, version) = line.split_once(' ')?;
        Some((id.to_owned(), version.parse().ok()?))
    });
    Ok(versions.collect())
}

/// Inserts rows, or replaces those with the same primary keys.
///
/// # Errors
///
/// Returns an error if the statement fails, such as for a row that refers to one that does not exist.
pub async fn upsert(conn: &mut Conn, table: &OrganizationTable, rows: &[Values]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let engine = Spelling::of(conn);
    let names: Vec<_> = table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    let decoded: Vec<_> = table.columns.iter().enumerate().map(|(at, column)| engine.decode(column.kind, at)).collect();
    let set: Vec<_> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let statement = AssembledSql::new(format!("INSERT INTO {} ({}) ", table.name, names.join(", ")))
        .sql(format!("SELECT {} FROM ", decoded.join(", ")))
        .append(engine.rows(rows)?)
        .sql(format!(" WHERE true ON CONFLICT ({}) DO UPDATE SET {}", table.primary_key.join(", "), set.join(", ")));
    statement.execute(conn).await?;
    Ok(())
}

/// Deletes the rows of an organisation in a range that are not among these, and returns their number.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn delete_others(
    conn: &mut Conn,
    table: &OrganizationTable,
    organization: &OrganizationId,
    range: KeyRange<'_>,
    rows: &[Values],
) -> Result<usize> {
    let engine = Spelling::of(conn);
    let keys: Vec<Values> = rows.iter().map(|row| key_of(table, row)).collect();
    let decoded: Vec<_> =
        table.key().into_iter().enumerate().map(|(at, column)| engine.decode(table.columns[column].kind, at)).collect();
    let statement = AssembledSql::new(format!("DELETE FROM {} WHERE ", table.name))
        .append(engine.scope(table, organization))
        .append(engine.range(table, range))
        .sql(format!(" AND ({}) NOT IN (SELECT {} FROM ", key_columns(table).join(", "), decoded.join(", ")))
        .append(engine.rows(&keys)?)
        .sql(")");
    statement.execute(conn).await
}

/// Deletes the first rows of an organisation in the order of their keys, and returns their number.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn delete_first(conn: &mut Conn, table: &OrganizationTable, organization: &OrganizationId) -> Result<usize> {
    let engine = Spelling::of(conn);
    let rows = read_keys(conn, table, organization).await?;
    let Some(last) = rows.last() else { return Ok(0) };
    let statement = AssembledSql::new(format!("DELETE FROM {} WHERE ", table.name))
        .append(engine.scope(table, organization))
        .append(engine.range(table, KeyRange { after: None, until: Some(last) }));
    statement.execute(conn).await
}

/// Reads the first keys of an organisation's rows.
async fn read_keys(conn: &mut Conn, table: &OrganizationTable, organization: &OrganizationId) -> Result<Vec<Values>> {
    let engine = Spelling::of(conn);
    let columns: Vec<_> = table.key().into_iter().map(|at| engine.encode(&table.columns[at])).collect();
    let query = AssembledSql::new(format!("SELECT {}({})", engine.array(), columns.join(", ")))
        .sql(format!("{} FROM {} WHERE ", engine.as_text(), table.name))
        .append(engine.scope(table, organization))
        .sql(format!(" ORDER BY {} LIMIT {}", key_columns(table).join(", "), table.batch));
    let lines: Vec<String> = query.load(conn).await?;
    lines.iter().map(|line| serde_json::from_str(line).map_err(Error::internal)).collect()
}

fn key_columns(table: &OrganizationTable) -> Vec<&'static str> {
    table.key().into_iter().map(|at| table.columns[at].name).collect()
}

fn parse_row(table: &OrganizationTable, line: &str) -> Result<Values> {
    let mut row: Values = serde_json::from_str(line).map_err(Error::internal)?;
    for (column, value) in table.columns.iter().zip(&mut row) {
        if column.kind == ColumnKind::Double
            && let Value::String(text) = value
        {
            // The engines write the same number with different digits.
            *text = text.parse::<f64>().map_err(Error::internal)?.to_string();
        }
    }
    Ok(row)
}

/// The spelling of an engine's SQL.
#[derive(Debug, Clone, Copy)]
enum Spelling {
    Postgres,
    Sqlite,
}

impl Spelling {
    fn of(conn: &Conn) -> Self {
        match conn {
            Conn::Postgres(_) => Self::Postgres,
            Conn::Sqlite(_) => Self::Sqlite,
        }
    }

    /// Returns the name of the function that makes an array of values.
    fn array(self) -> &'static str {
        match self {
            Self::Postgres => "json_build_array",
            Self::Sqlite => "json_array",
        }
    }

    /// Returns the conversion of an array to a text.
    fn as_text(self) -> &'static str {
        match self {
            Self::Postgres => "::text",
            Self::Sqlite => "",
        }
    }

    /// Returns the expression of a column's value in a row's array.
    fn encode(self, column: &TableColumn) -> String {
        let name = format!("\"{}\"", column.name);
        match (self, column.kind) {
            (_, ColumnKind::Text | ColumnKind::Integer | ColumnKind::BigInt) => name,
            (Self::Postgres, ColumnKind::Bool) => format!("{name}::int"),
            (Self::Postgres, ColumnKind::Double | ColumnKind::Jsonb) => format!("{name}::text"),
            (Self::Postgres, ColumnKind::Uuid) => format!("replace({name}::text, '-', '')"),
            (Self::Postgres, ColumnKind::Binary) => format!("encode({name}, 'hex')"),
            (Self::Postgres, ColumnKind::Timestamp) => format!("round(extract(epoch FROM {name}) * 1000000)::bigint"),
            (Self::Sqlite, ColumnKind::Bool | ColumnKind::Timestamp) => name,
            (Self::Sqlite, ColumnKind::Double) => format!("iif({name} IS NULL, NULL, printf('%!.17g', {name}))"),
            (Self::Sqlite, ColumnKind::Uuid | ColumnKind::Binary) => {
                format!("iif({name} IS NULL, NULL, lower(hex({name})))")
            }
            // The text is not part of the array's JSON, so that its numbers stay as they are.
            (Self::Sqlite, ColumnKind::Jsonb) => format!("json({name}) || ''"),
        }
    }

    /// Returns the expression of a column's value, given its position in the array `item`.
    fn decode(self, kind: ColumnKind, at: usize) -> String {
        let text = format!("(item ->> {at})");
        match (self, kind) {
            (_, ColumnKind::Text) => text,
            (Self::Postgres, ColumnKind::Integer) => format!("{text}::int"),
            (Self::Postgres, ColumnKind::BigInt) => format!("{text}::bigint"),
            (Self::Postgres, ColumnKind::Bool) => format!("{text}::int::bool"),
            (Self::Postgres, ColumnKind::Double) => format!("{text}::float8"),
            (Self::Postgres, ColumnKind::Uuid) => format!("{text}::uuid"),
            (Self::Postgres, ColumnKind::Binary) => format!("decode({text}, 'hex')"),
            (Self::Postgres, ColumnKind::Jsonb) => format!("{text}::jsonb"),
            (Self::Postgres, ColumnKind::Timestamp) => time_expression(&format!("{text}::bigint")),
            (Self::Sqlite, ColumnKind::Integer | ColumnKind::BigInt | ColumnKind::Bool | ColumnKind::Timestamp) => text,
            (Self::Sqlite, ColumnKind::Double) => format!("CAST({text} AS REAL)"),
            (Self::Sqlite, ColumnKind::Uuid | ColumnKind::Binary) => format!("unhex({text})"),
            (Self::Sqlite, ColumnKind::Jsonb) => format!("jsonb({text})"),
        }
    }

    /// Returns a table of arrays named `item`.
    fn rows(self, rows: &[Values]) -> Result<AssembledSql> {
        let json = serde_json::to_string(rows).map_err(Error::internal)?;
        Ok(match self {
            Self::Postgres => AssembledSql::new("jsonb_array_elements(").bind(json).sql("::jsonb) AS items (item)"),
            Self::Sqlite => AssembledSql::new("(SELECT value AS item FROM json_each(").bind(json).sql("))"),
        })
    }

    /// Returns the condition that a row belongs to an organisation.
    fn scope(self, table: &OrganizationTable, organization: &OrganizationId) -> AssembledSql {
        let bucket = organization.bucket().number();
        let mut scope = AssembledSql::default();
        if table.has("bucket") {
            scope = scope.sql(format!("{}.bucket = {bucket} AND ", table.name));
        }
        let owner = match table {
            table if table.has("organization_id") => None,
            table if table.has("chat_id") => Some(("chats", "chat_id")),
            _ => Some(("calls", "call_id")),
        };
        match owner {
            None => scope.sql("organization_id = ").bind(organization.as_str()),
            Some((owner, column)) => scope
                .sql(format!(
                    "EXISTS (SELECT 1 FROM {owner} AS owner WHERE owner.bucket = {bucket} \
                     AND owner.id = {}.{column} AND owner.organization_id = ",
                    table.name
                ))
                .bind(organization.as_str())
                .sql(")"),
        }
    }

    /// Returns the conditions of a range, each after `AND`.
    fn range(self, table: &OrganizationTable, range: KeyRange<'_>) -> AssembledSql {
        let columns = key_columns(table).join(", ");
        let mut conditions = AssembledSql::default();
        for (operator, bound) in [(">", range.after), ("<=", range.until)] {
            let Some(key) = bound else { continue };
            conditions = conditions.sql(format!(" AND ({columns}) {operator} ("));
            for (index, (at, value)) in table.key().into_iter().zip(key).enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                conditions = self.value(conditions.sql(separator), table.columns[at].kind, value);
            }
            conditions = conditions.sql(")");
        }
        conditions
    }

    /// Adds a value of a key.
    fn value(self, sql: AssembledSql, kind: ColumnKind, value: &Value) -> AssembledSql {
        match (self, kind, value) {
            (Self::Postgres, ColumnKind::Timestamp, Value::Number(number)) => {
                sql.sql(time_expression(&number.to_string()))
            }
            (_, _, Value::Number(number)) => sql.sql(number.to_string()),
            (Self::Postgres, ColumnKind::Uuid, Value::String(text)) => sql.sql("(").bind(text.as_str()).sql("::uuid)"),
            (Self::Sqlite, ColumnKind::Uuid, Value::String(text)) => sql.sql("unhex(").bind(text.as_str()).sql(")"),
            (_, _, Value::String(text)) => sql.bind(text.as_str()),
            // A key has neither null nor truth values.
            (_, _, _) => sql.sql("NULL"),
        }
    }
}

/// Returns PostgreSQL's expression of a time, given its microseconds since 1970.
fn time_expression(micros: &str) -> String {
    format!("('epoch'::timestamptz + {micros} * interval '1 microsecond')")
}
