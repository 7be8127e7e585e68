//! The configuration of a server, read from environment variables.
//!
//! Each layer defines the settings that it needs; this module reads them and composes them. A setting is written once,
//! in the file of its section: the help text and `docs/SETTINGS.md` come from the same calls
//! ([`reference`](mod@reference)). All settings are read at start, before the server listens, and all errors are
//! reported together.

use crate::auth::settings::AuthSettings;
use crate::config::log::LogSettings;
use crate::config::reader::{Reader, Setting, SettingError};
use crate::graphql::settings::GraphqlSettings;
use crate::http::settings::{HttpSettings, WebOrigin};
use crate::realtime::settings::RealtimeSettings;
use crate::service::settings::ServiceSettings;
use crate::storage::engine::Engine;
use crate::storage::settings::DatabaseSettings;

mod auth;
mod calls;
mod database;
mod http;
mod limits;
pub mod log;
pub mod reader;
mod redis;
pub mod reference;

/// The size of a request that sends a signal, without the signal's payload.
const SIGNAL_ENVELOPE_BYTES: usize = 4_096;

/// All settings that are wrong or unknown, one per line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<SettingError>);

/// The settings of each layer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP server.
    pub http: HttpSettings,
    /// The limits of operations.
    pub graphql: GraphqlSettings,
    /// The limits of use cases.
    pub service: ServiceSettings,
    /// The limits of feeds, and the connection to other nodes.
    pub realtime: RealtimeSettings,
    /// The database.
    pub database: DatabaseSettings,
    /// The keys and rules of tokens.
    pub auth: AuthSettings,
    /// Logs and traces.
    pub log: LogSettings,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    ///
    /// Fails with all settings that are wrong or unknown.
    ///
    /// # Panics
    ///
    /// Panics if a variable is not valid Unicode.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars())
    }

    /// Reads variables, given by name and value.
    ///
    /// Variables that are not named like settings are ignored.
    ///
    /// # Errors
    ///
    /// Fails with all settings that are wrong or unknown.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(vars);
        let config = Self::read(&mut reader);
        let errors = reader.into_errors();
        if errors.is_empty() { Ok(config) } else { Err(ConfigError(errors)) }
    }

    /// Returns true for a server without keys, which creates a secret and listens on loopback only.
    pub fn is_development(&self) -> bool {
        self.auth.is_development()
    }

    /// Checks that a development server has no settings of an installation that others use.
    ///
    /// Such settings suggest that the keys were forgotten; without them, anybody on this machine could use the data.
    ///
    /// # Errors
    ///
    /// Fails with all settings that a development server must not have.
    pub fn check_development(&self) -> Result<(), ConfigError> {
        if !self.is_development() {
            return Ok(());
        }
        let is_shared = |origin: &WebOrigin| !origin.is_any() && !origin.is_loopback();
        let metrics_are_public = self.http.metrics_addr.is_some_and(|addr| !addr.ip().is_loopback());
        let errors: Vec<_> = [
            ("DATABASE_URL", matches!(self.database.engine, Engine::Postgres(_)), "must be an SQLite file"),
            ("REDIS_URL", self.realtime.cluster.redis.is_some(), "must not be set"),
            ("PARLOR_METRICS_ADDR", metrics_are_public, "must be a loopback address"),
            ("PARLOR_CORS_ORIGINS", self.http.cors_origins.iter().any(is_shared), "must be origins of this machine"),
            ("PARLOR_JWT_ISSUER", self.auth.issuer.is_some(), "must not be set"),
            ("PARLOR_JWT_AUDIENCE", self.auth.audience.is_some(), "must not be set"),
        ]
        .into_iter()
        .filter(|(_, is_wrong, _)| *is_wrong)
        .map(|(name, _, rule)| {
            let rule = format!(
                "{rule} without PARLOR_JWT_SECRET or PARLOR_JWKS: a server without keys is a development server"
            );
            SettingError { name: name.to_owned(), value: None, rule }
        })
        .collect();
        if errors.is_empty() { Ok(()) } else { Err(ConfigError(errors)) }
    }

    /// Returns the descriptions of all settings, by section.
    pub fn settings() -> Vec<Setting> {
        let mut reader = Reader::new([]);
        Self::read(&mut reader);
        reader.into_settings()
    }

    /// Reads all settings. The order is that of the help text.
    fn read(reader: &mut Reader) -> Self {
        let auth = auth::read(reader);
        let is_development = auth.is_development();
        let http = http::read(reader, is_development);
        if is_development && !http.addr.ip().is_loopback() {
            let rule = "without PARLOR_JWT_SECRET or PARLOR_JWKS must be a loopback address: a server without keys is a \
                        development server";
            reader.reject_value("PARLOR_ADDR", http.addr, rule);
        }
        let database = database::read(reader);
        let cluster = self::redis::read(reader);
        let graphql = limits::read_operations(reader, is_development);
        let limits = limits::read_sizes(reader);
        let realtime = limits::read_feeds(reader, cluster);
        let rate_limits = limits::read_rates(reader);
        let quotas = limits::read_quotas(reader, limits.send_queue_capacity);
        let calls = calls::read(reader);
        let request_bytes = calls.max_signal_bytes + SIGNAL_ENVELOPE_BYTES;
        if http.max_body_bytes < request_bytes {
            let rule = format!(
                "must be at least {request_bytes}: PARLOR_CALL_SIGNAL_BYTES, and {SIGNAL_ENVELOPE_BYTES} for the rest of \
                 the request that sends a signal"
            );
            reader.reject_value("PARLOR_MAX_BODY_BYTES", http.max_body_bytes, rule);
        }
        let service = ServiceSettings { limits, rate_limits, quotas, calls };
        let log = log::read(reader);
        Self { http, graphql, service, realtime, database, auth, log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn read_config(vars: &[(&str, &str)]) -> Result<Config, String> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_vars(vars).map_err(|error| error.to_string())
    }

    #[test]
    fn config_is_a_development_server_on_loopback_without_variables() {
        let config = read_config(&[]).unwrap();
        assert!(config.is_development());
        assert!(config.http.addr.ip().is_loopback());
    }

    #[test]
    fn config_error_names_each_wrong_setting() {
        for (vars, expected) in [
            (vec![("PARLOR_ADDR", "here")], "PARLOR_ADDR=here: must be an IP address and a port"),
            (vec![("PARLOR_ADDR", "0.0.0.0:8080")], "PARLOR_ADDR=0.0.0.0:8080: without PARLOR_JWT_SECRET"),
            (vec![("PARLOR_METRICS_ADDR", "9464")], "PARLOR_METRICS_ADDR=9464: must be an IP address and a port"),
            (vec![("PARLOR_JWT_SECRET", "short")], "PARLOR_JWT_SECRET: must have at least 32 bytes"),
            (vec![("PARLOR_JWT_SECRET", SECRET), ("PARLOR_JWKS", "keys.json")], "PARLOR_JWKS: must not be set"),
            (
                vec![("PARLOR_JWT_SECRET", SECRET), ("PARLOR_JWT_SECRET_PREVIOUS", "short")],
                "PARLOR_JWT_SECRET_PREVIOUS: must have at least 32 bytes",
            ),
            (
                vec![("PARLOR_JWT_SECRET", SECRET), ("PARLOR_JWT_SECRET_PREVIOUS", SECRET)],
                "PARLOR_JWT_SECRET_PREVIOUS: must be set together with PARLOR_JWT_SECRET, and differ from it",
            ),
            (
                vec![("PARLOR_JWT_SECRET_PREVIOUS", SECRET)],
                "PARLOR_JWT_SECRET_PREVIOUS: must be set together with PARLOR_JWT_SECRET, and differ from it",
            ),
            (vec![("PARLOR_JWKS", "https://u:secret@")], "PARLOR_JWKS: must be a file or an http(s) address"),
            (vec![("PARLOR_JWT_MAX_DAYS", "0")], "PARLOR_JWT_MAX_DAYS=0: must be a whole number from 1 to 36525"),
            (vec![("PARLOR_JWT_SECRET", SECRET), ("PARLOR_JWT_ALGORITHM", "RS256")], "PARLOR_JWT_ALGORITHM=RS256"),
            (vec![("PARLOR_JWKS", "keys.json"), ("PARLOR_JWT_ALGORITHM", "HS256")], "PARLOR_JWT_ALGORITHM=HS256"),
            (vec![("PARLOR_DEFAULT_PERMISSIONS", "chat.fly")], "\"chat.fly\" is not a permission"),
            (vec![("PARLOR_MAX_DEPTH", "two")], "PARLOR_MAX_DEPTH=two: must be a whole number from 3 to 24"),
            (vec![("PARLOR_LOG_FORMAT", "xml")], "PARLOR_LOG_FORMAT=xml: must be text or json"),
            (vec![("PARLOR_REDIS_CLUSTER", "yes")], "PARLOR_REDIS_CLUSTER=yes: must be true or false"),
            (
                vec![("PARLOR_REDIS_CHANNELS", "1000")],
                "PARLOR_REDIS_CHANNELS=1000: must be a power of two from 1 to 65536",
            ),
            (vec![("PARLOR_PORT", "80")], "PARLOR_PORT: there is no such setting"),
            (vec![("DATABASE_URL", "mysql://u:secret@db/chat")], "DATABASE_URL: must begin with"),
            (vec![("DATABASE_URL", "sqlite://:memory:")], "DATABASE_URL: must name a file"),
            (vec![("REDIS_URL", "http://u:secret@redis")], "REDIS_URL: each entry must begin with redis://"),
            (vec![("PARLOR_CORS_ORIGINS", "https://app.example/chat")], "PARLOR_CORS_ORIGINS"),
            (vec![("PARLOR_STUN_URLS", "turn:a.example")], "\"turn:a.example\" must begin with stun: or stuns:"),
            (vec![("PARLOR_TURN_URLS", "turn:a.example")], "PARLOR_TURN_SECRET: must be set together with"),
            (vec![("PARLOR_TURN_SECRET", "hidden")], "PARLOR_TURN_SECRET: must be set together with"),
            (
                vec![("PARLOR_MAX_BODY_BYTES", "131072")],
                "PARLOR_MAX_BODY_BYTES=131072: must be at least 266240: PARLOR_CALL_SIGNAL_BYTES",
            ),
            (
                vec![("PARLOR_CALL_SIGNAL_BYTES", "1048576")],
                "PARLOR_MAX_BODY_BYTES=327680: must be at least 1052672: PARLOR_CALL_SIGNAL_BYTES",
            ),
        ] {
            let error = read_config(&vars).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }

    #[test]
    fn development_server_rejects_settings_of_a_shared_installation() {
        for (name, value) in [
            ("DATABASE_URL", "postgres://u:secret@db/chat"),
            ("DATABASE_URL", "postgresql://localhost/chat"),
            ("REDIS_URL", "redis://localhost"),
            ("PARLOR_METRICS_ADDR", "0.0.0.0:9464"),
            ("PARLOR_CORS_ORIGINS", "http://localhost:5173,https://app.example"),
            ("PARLOR_JWT_ISSUER", "https://issuer.example"),
            ("PARLOR_JWT_AUDIENCE", "parlor"),
        ] {
            let error = read_config(&[(name, value)]).unwrap().check_development().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name}: must ")), "{error}");
            assert!(
                error.contains("without PARLOR_JWT_SECRET or PARLOR_JWKS") && !error.contains("secret@"),
                "{error}"
            );
            read_config(&[(name, value), ("PARLOR_JWT_SECRET", SECRET)]).unwrap().check_development().unwrap();
        }
        let local = [
            ("DATABASE_URL", "sqlite://./chat.db"),
            ("PARLOR_METRICS_ADDR", "127.0.0.1:9464"),
            ("PARLOR_CORS_ORIGINS", "http://localhost:5173,http://127.0.0.1,http://[::1]:80"),
        ];
        read_config(&local).unwrap().check_development().unwrap();
        read_config(&[("PARLOR_CORS_ORIGINS", "*")]).unwrap().check_development().unwrap();
    }

    #[test]
    fn config_error_lists_all_wrong_settings() {
        let error = read_config(&[("PARLOR_ADDR", "x"), ("PARLOR_MAX_DEPTH", "0"), ("PARLOR_Z", "")]).unwrap_err();
        assert_eq!(error.lines().count(), 3, "{error}");
    }

    #[test]
    fn config_ignores_variables_of_others_and_empty_ones() {
        let config = read_config(&[("PARLOR_TEST_POSTGRES", "x"), ("PATH", "/bin"), ("PARLOR_MAX_DEPTH", "")]).unwrap();
        assert_eq!(config.graphql.max_depth, 12);
    }
}
