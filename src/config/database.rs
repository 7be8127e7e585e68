//! The settings of the database.

use crate::config::reader::Reader;
use crate::storage::pool::Engine;
use crate::storage::settings::DatabaseSettings;

pub(super) fn read(reader: &mut Reader) -> DatabaseSettings {
    reader.section("Database");
    DatabaseSettings {
        engine: reader.value_with(
            "DATABASE_URL",
            "Address of the database",
            "sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME?sslmode=MODE",
            "sqlite://./data/parlor.db",
            Engine::parse,
        ),
        max_connections: reader.number(
            "PARLOR_DATABASE_CONNECTIONS",
            "Maximum connections to PostgreSQL",
            "connections",
            16,
            2..=1_000,
        ),
        acquire_timeout: reader.seconds(
            "PARLOR_DATABASE_WAIT_SECONDS",
            "Seconds that a request waits for a connection",
            5,
            1..=300,
        ),
    }
}
