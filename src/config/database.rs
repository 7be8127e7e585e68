//! The settings of the database.

use crate::config::reader::Reader;
use crate::storage::engine::Engine;
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
        migration_mode: reader.value(
            "PARLOR_MIGRATE",
            "Migrations at start: run them, refuse if any is missing, or do not look",
            "auto, check or off",
            "auto",
        ),
        max_connections: reader.number(
            "PARLOR_DATABASE_CONNECTIONS",
            "Maximum connections to PostgreSQL",
            "connections",
            16,
            2..=1_000,
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
