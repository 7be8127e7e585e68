//! The keys of the tables begin with the bucket, by which a distributed database finds the machine of a row.

use std::collections::{BTreeMap, BTreeSet};

use testkit::{Engine, TestApp, engine_test};

/// The small tables that a distributed database has on each machine, and the table of diesel's migrations.
const REFERENCE_TABLES: [&str; 8] = [
    "__diesel_schema_migrations",
    "blocked_words",
    "cluster_state",
    "database_epoch",
    "organizations",
    "schema_version",
    "search_reindexing",
    "users",
];

/// The indexes for tasks of the server that go through the rows of all buckets, and the index of words.
const INDEXES_OVER_ALL_BUCKETS: [&str; 5] =
    ["call_participants_in", "calls_changed", "calls_due", "messages_by_word", "removals_by_age"];

/// Selects the columns of each table in their order.
const SQLITE_COLUMNS: &str =
    "SELECT t.name || ' ' || c.name AS line FROM pragma_table_list t, pragma_table_info(t.name) c
    WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY t.name, c.cid";
const POSTGRES_COLUMNS: &str = "SELECT relname || ' ' || attname AS line FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    ORDER BY relname, attnum";

/// Selects the table, the first column, the uniqueness and the name of each index; a primary key is one too.
///
/// A key that is SQLite's rowid needs no index, and it is no key of a row's own.
const SQLITE_INDEXES: &str = "SELECT t.name || ' ' || c.name || ' ' || i.\"unique\" || ' ' || i.name AS line
    FROM pragma_table_list t, pragma_index_list(t.name) i, pragma_index_info(i.name) c
    WHERE t.schema = 'main' AND t.type = 'table' AND c.seqno = 0";
const POSTGRES_INDEXES: &str =
    "SELECT t.relname || ' ' || attname || ' ' || indisunique::int || ' ' || i.relname AS line
    FROM pg_index JOIN pg_class t ON t.oid = indrelid JOIN pg_class i ON i.oid = indexrelid
    JOIN pg_attribute ON attrelid = t.oid AND attnum = indkey[0]
    WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition";

/// Selects the table and the first column of each foreign key, on both sides.
const SQLITE_FOREIGN_KEYS: &str = "SELECT t.name || ' ' || f.\"from\" || ' ' || f.\"table\" || ' ' || f.\"to\" AS line
    FROM pragma_table_list t, pragma_foreign_key_list(t.name) f WHERE t.schema = 'main' AND f.seq = 0";
const POSTGRES_FOREIGN_KEYS: &str =
    "SELECT t.relname || ' ' || own.attname || ' ' || r.relname || ' ' || other.attname AS line
    FROM pg_constraint JOIN pg_class t ON t.oid = conrelid JOIN pg_class r ON r.oid = confrelid
    JOIN pg_attribute own ON own.attrelid = conrelid AND own.attnum = conkey[1]
    JOIN pg_attribute other ON other.attrelid = confrelid AND other.attnum = confkey[1]
    WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND NOT t.relispartition";

/// Returns the rows that a query selects, each split into its words.
async fn rows<const N: usize>(app: &TestApp, sqlite: &str, postgres: &str) -> Vec<[String; N]> {
    let query = match app.database.engine {
        Engine::Sqlite => sqlite,
        Engine::Postgres => postgres,
    };
    let lines = app.database.query_lines(query).await;
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    lines.iter().map(|line| words(line).try_into().expect(line)).collect()
}

/// Returns whether a table is distributed. The tables of SQLite's full-text index are an index.
fn is_distributed(engine: Engine, table: &str) -> bool {
    let is_index = engine == Engine::Sqlite && table.starts_with("message_words");
    !is_index && !REFERENCE_TABLES.contains(&table)
}

#[engine_test]
async fn keys_of_distributed_tables_begin_with_the_bucket(app: &TestApp) {
    let is_distributed = |table: &str| is_distributed(app.database.engine, table);
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for [table, column] in rows(app, SQLITE_COLUMNS, POSTGRES_COLUMNS).await {
        tables.entry(table).or_default().push(column);
    }
    for reference in REFERENCE_TABLES {
        assert!(tables.contains_key(reference), "{reference} does not exist");
    }
    tables.retain(|table, _| is_distributed(table));
    assert!(tables.len() > 15, "{tables:?}");
    let mut without_key: BTreeSet<&str> = tables.keys().map(String::as_str).collect();
    let mut wrong: Vec<String> = Vec::new();
    for (table, columns) in &tables {
        // The rowid of SQLite's messages, to which the full-text index refers.
        let first = columns.iter().find(|column| *column != "pk").expect("a column");
        if first != "bucket" {
            wrong.push(format!("the first column of {table} is {first}"));
        }
    }
    let indexes: Vec<[String; 4]> = rows(app, SQLITE_INDEXES, POSTGRES_INDEXES).await;
    for [table, column, is_unique, index] in indexes.iter().filter(|[table, ..]| is_distributed(table)) {
        if column == "bucket" && is_unique == "1" {
            without_key.remove(table.as_str());
        }
        if column != "bucket" && (is_unique == "1" || !INDEXES_OVER_ALL_BUCKETS.contains(&index.as_str())) {
            wrong.push(format!("the index {index} of {table} begins with {column}"));
        }
    }
    let foreign_keys = rows(app, SQLITE_FOREIGN_KEYS, POSTGRES_FOREIGN_KEYS).await;
    assert!(foreign_keys.len() > 10, "{foreign_keys:?}");
    for [table, column, referenced, referenced_column] in foreign_keys {
        let begins_with_bucket = column == "bucket" && referenced_column == "bucket";
        if is_distributed(&table) && is_distributed(&referenced) && !begins_with_bucket {
            wrong.push(format!("the foreign key of {table} to {referenced} begins with {column}"));
        }
    }
    wrong.extend(without_key.iter().map(|table| format!("{table} has no unique key")));
    assert_eq!(wrong, Vec::<String>::new(), "a table without buckets has to be one of REFERENCE_TABLES");
}
