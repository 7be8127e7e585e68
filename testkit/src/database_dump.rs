//! All that a database holds, row by row.

use std::collections::BTreeMap;

use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use tokio_postgres::NoTls;

use crate::{Database, Engine};

/// The rows of each table, in a stable order.
pub struct DatabaseDump(BTreeMap<String, Vec<String>>);

impl DatabaseDump {
    pub async fn take(database: &Database) -> Self {
        match database.engine {
            Engine::Sqlite => Self::of_sqlite(database.url.strip_prefix("sqlite://").expect("the address of a file")),
            Engine::Postgres => Self::of_postgres(&database.url).await,
        }
    }

    fn of_sqlite(file: &str) -> Self {
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
        // A virtual table keeps what it holds in tables of its own, which are here too.
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

    async fn of_postgres(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the cluster answers");
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

    /// How many rows a table has.
    pub fn count(&self, table: &str) -> usize {
        self.0[table].len()
    }

    /// The rows that came since, and those that are gone.
    #[track_caller]
    pub fn assert_unchanged(&self, now: &Self, after: &str) {
        assert!(self.0.len() > 10, "{} tables", self.0.len());
        let only = |of: &Self, other: &Self, mark: &str| -> Vec<String> {
            let rows = of.0.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row)));
            let gone = rows.filter(|(table, row)| !other.0.get(*table).is_some_and(|rows| rows.contains(row)));
            gone.map(|(table, row)| format!("{mark} {table}: {row}")).collect()
        };
        let differences = [only(self, now, "-"), only(now, self, "+")].concat();
        assert!(self.0 == now.0, "{after}, the database is another:\n{}", differences.join("\n"));
    }
}
