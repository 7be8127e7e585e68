//! The content of a database, row by row.

use std::collections::BTreeMap;

use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use tokio_postgres::NoTls;

use crate::{Database, Engine};

/// The rows of each table, in a stable order.
pub struct DatabaseDump(BTreeMap<String, Vec<String>>);

impl DatabaseDump {
    /// Reads all rows of a database.
    pub async fn take(database: &Database) -> Self {
        match database.engine {
            Engine::Sqlite => Self::from_sqlite(database.url.strip_prefix("sqlite://").expect("the URL of a file")),
            Engine::Postgres => Self::from_postgres(&database.url).await,
        }
    }

    fn from_sqlite(file: &str) -> Self {
        #[derive(QueryableByName)]
        struct Line {
            #[diesel(sql_type = Text)]
            line: String,
        }
        let mut conn = SqliteConnection::establish(file).expect("the file opens");
        let mut lines = |sql: String| -> Vec<String> {
            let lines = sql_query(&sql).load::<Line>(&mut conn).expect(&sql);
            lines.into_iter().map(|line| line.line).collect()
        };
        // A virtual table stores its content in shadow tables, which this list contains.
        let tables =
            lines("SELECT name AS line FROM pragma_table_list WHERE schema = 'main' AND type <> 'virtual'".into());
        let rows = tables.into_iter().map(|table| {
            let columns =
                lines(format!("SELECT 'quote(\"' || name || '\")' AS line FROM pragma_table_info('{table}')"));
            let rows = lines(format!("SELECT {} AS line FROM \"{table}\" ORDER BY 1", columns.join(" || ',' || ")));
            (table, rows)
        });
        Self(rows.collect())
    }

    async fn from_postgres(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        let lines = async |sql: String| -> Vec<String> {
            let rows = client.query(&sql, &[]).await.expect(&sql);
            rows.iter().map(|row| row.get(0)).collect()
        };
        let mut dump = BTreeMap::new();
        for table in lines("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'".into()).await {
            let rows = lines(format!("SELECT t::text FROM \"{table}\" t ORDER BY 1")).await;
            dump.insert(table, rows);
        }
        Self(dump)
    }

    /// Returns the names of the tables.
    pub fn tables(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Returns the number of rows of a table.
    pub fn count(&self, table: &str) -> usize {
        self.0[table].len()
    }

    /// Asserts that a later dump has the same rows; otherwise reports the removed and the added ones.
    #[track_caller]
    pub fn assert_unchanged(&self, now: &Self, after: &str) {
        assert!(self.0.len() > 10, "{} tables", self.0.len());
        let missing = |from: &Self, other: &Self, mark: &str| -> Vec<String> {
            let rows = from.0.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
            let missing = rows.filter(|(table, row)| !other.0.get(*table).is_some_and(|rows| rows.contains(row)));
            missing.map(|(table, row)| format!("{mark} {table}: {row}")).collect()
        };
        let differences = [missing(self, now, "-"), missing(now, self, "+")].concat();
        assert!(self.0 == now.0, "{after}, the database has changed:\n{}", differences.join("\n"));
    }
}
