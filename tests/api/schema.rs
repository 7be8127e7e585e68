//! The schema of the API and those of the databases equal their files.

use std::collections::BTreeSet;

use testkit::{Engine, TestApp, engine_test};
use tokio_postgres::NoTls;

#[test]
fn schema_file_equals_generated_schema() {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).expect("schema.graphql");
    assert!(
        file == parlor::graphql::schema::sdl(),
        "schema.graphql is out of date: cargo run -- schema > schema.graphql"
    );
}

/// Returns the table, name, type and nullability of each column that `src/storage/schema.rs` declares.
fn declared() -> BTreeSet<(String, String, String, bool)> {
    let source = include_str!("../../src/storage/schema.rs");
    let mut columns = BTreeSet::new();
    let mut table = String::new();
    for line in source.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with('{')) {
            table = name.to_owned();
        } else if let Some((column, kind)) = line.split_once(" -> ") {
            let kind = kind.trim_end_matches(',');
            let (kind, null) = match kind.strip_prefix("Nullable<") {
                Some(kind) => (kind.trim_end_matches('>'), true),
                None => (kind, false),
            };
            columns.insert((table.clone(), column.to_owned(), kind.to_owned(), null));
        }
    }
    columns
}

fn kind(engine: Engine, native: &str, declared: &str) -> bool {
    let natives: &[&str] = match (engine, declared) {
        (Engine::Sqlite, "SqlUuid" | "Jsonb" | "Binary") => &["BLOB"],
        (Engine::Sqlite, "Text") => &["TEXT"],
        (Engine::Sqlite, "Double") => &["REAL"],
        (Engine::Sqlite, _) => &["INTEGER"],
        (Engine::Postgres, "SqlUuid") => &["uuid"],
        (Engine::Postgres, "SqlTimestamp") => &["timestamp with time zone"],
        (Engine::Postgres, "Jsonb") => &["jsonb"],
        (Engine::Postgres, "Binary") => &["bytea"],
        (Engine::Postgres, "Text") => &["text"],
        (Engine::Postgres, "BigInt") => &["bigint"],
        (Engine::Postgres, "Bool") => &["boolean"],
        (Engine::Postgres, "Double") => &["double precision"],
        (Engine::Postgres, _) => &["integer"],
    };
    natives.contains(&native)
}

#[engine_test]
async fn migrated_databases_match_schema_rs(app: &TestApp) {
    let engine = app.database.engine;
    let migrated = match engine {
        Engine::Sqlite => sqlite_columns(app.database.url.strip_prefix("sqlite://").expect("a file")),
        Engine::Postgres => postgres_columns(&app.database.url).await,
    };
    let declared = declared();
    assert!(declared.len() > 40);
    for (table, column, expected, null) in &declared {
        let found = migrated.iter().find(|(t, c, _, _)| t == table && c == column);
        let (_, _, native, nullable) = found.unwrap_or_else(|| panic!("{engine:?} has no {table}.{column}"));
        assert!(kind(engine, native, expected), "{table}.{column}: {native}, not {expected}");
        assert_eq!(nullable, null, "{table}.{column}");
    }
    let known = |table: &str, column: &str| declared.iter().any(|(t, c, _, _)| t == table && c == column);
    // `schema.rs` leaves out the full-text index, which differs by engine: the words of PostgreSQL's messages, and
    // tables of SQLite with the rowid of messages, to which they refer.
    let belongs_to_index =
        |table: &str, column: &str| table.starts_with("message_words") || ["pk", "words"].contains(&column);
    let extra: Vec<_> = migrated
        .iter()
        .filter(|(table, column, _, _)| !known(table, column) && !belongs_to_index(table, column))
        .collect();
    assert!(extra.is_empty(), "{extra:?}");
}

type Column = (String, String, String, bool);

fn sqlite_columns(file: &str) -> Vec<Column> {
    use diesel::prelude::*;
    use diesel::sql_types::{Bool, Text};
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        table: String,
        #[diesel(sql_type = Text)]
        column: String,
        #[diesel(sql_type = Text)]
        kind: String,
        #[diesel(sql_type = Bool)]
        required: bool,
    }
    let mut conn = SqliteConnection::establish(file).expect("the file opens");
    let query = "SELECT t.name AS \"table\", c.name AS \"column\", c.type AS kind, c.\"notnull\" AS required
                 FROM sqlite_schema t, pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name NOT LIKE '\\_\\_%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite%'";
    let rows: Vec<Row> = diesel::sql_query(query).load(&mut conn).expect("the schema can be read");
    rows.into_iter().map(|row| (row.table, row.column, row.kind, !row.required)).collect()
}

async fn postgres_columns(url: &str) -> Vec<Column> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    let query = "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text
                 FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '\\_\\_%'";
    let rows = client.query(query, &[]).await.expect("the schema can be read");
    rows.into_iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get::<_, String>(3) == "YES")).collect()
}
