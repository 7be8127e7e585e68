//! The settings of the database.

use crate::config::reader::Reader;
use crate::storage::engine::Engine;
use crate::storage::postgres_endpoint::PgEndpoint;
use crate::storage::settings::DatabaseSettings;

pub(super) fn read(reader: &mut Reader) -> DatabaseSettings {
    reader.section("Database");
    let engine = reader.value_with(
        "DATABASE_URL",
        "Address of the database",
        "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME?sslmode=MODE",
        "sqlite://./data/parlor.db",
        Engine::parse,
    );
    DatabaseSettings {
        replica: read_replica(reader, &engine),
        engine,
        migration_mode: reader.value(
            "PARLOR_MIGRATE",
            "Migrations at start: run them, refuse if any is missing, or skip them",
            "auto, check or off",
            "auto",
        ),
        max_connections: reader.number(
            "PARLOR_DATABASE_CONNECTIONS",
            "Maximum connections to PostgreSQL",
            "connections",
            20,
            2..=1_000,
        ),
        max_send_lanes: reader.number(
            "PARLOR_SEND_LANES",
            "Lanes that commit sends in parallel; at most one per four connections",
            "lanes",
            2,
            1..=64,
        ),
        wait_timeout: reader.seconds(
            "PARLOR_DATABASE_WAIT_SECONDS",
            "Seconds that a request waits for a connection",
            3,
            1..=300,
        ),
        statement_timeout: reader.seconds(
            "PARLOR_DATABASE_STATEMENT_SECONDS",
            "Seconds that a statement may take, the wait for its connection included",
            4,
            1..=600,
        ),
        reads_per_organization: reader.number(
            "PARLOR_READS_PER_ORGANIZATION",
            "Reads of an organization at once; one connection stays free for others",
            "reads",
            12,
            1..=1_000,
        ),
        reads_per_user: reader.number(
            "PARLOR_READS_PER_USER",
            "Reads of a user at once; one of the organization stays free for others",
            "reads",
            4,
            1..=1_000,
        ),
    }
}

fn read_replica(reader: &mut Reader, engine: &Engine) -> Option<Box<PgEndpoint>> {
    const NAME: &str = "DATABASE_READ_URL";
    let url = reader.text(
        NAME,
        "Address of a replica that serves searches, lists and older messages",
        "postgres://USER:PASSWORD@HOST/NAME?sslmode=MODE",
        "none",
    )?;
    let rule = match (engine, Engine::parse(&url)) {
        (Engine::Sqlite(_), _) => "needs a DATABASE_URL of PostgreSQL: an SQLite file has no replicas".to_owned(),
        (Engine::Postgres(_), Ok(Engine::Postgres(endpoint))) => return Some(endpoint),
        (Engine::Postgres(_), Ok(Engine::Sqlite(_))) => "must begin with postgres://".to_owned(),
        (Engine::Postgres(_), Err(rule)) => rule,
    };
    reader.reject(NAME, rule);
    None
}
