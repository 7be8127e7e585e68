//! The address of PostgreSQL, and how connections to it are opened.
//!
//! `sslmode` has the meaning that PostgreSQL's documentation gives it (chapter 34.19, "SSL Support"): `prefer` and
//! `require` encrypt without checking the certificate, `verify-ca` requires a trusted issuer, and `verify-full`
//! requires the right host too. `sslrootcert` names a PEM file of issuers to trust in place of the system's; with it,
//! `require` means `verify-ca`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::storage::errors::{ConnectFailure, Failure};
use crate::storage::postgres_session::{PostgresSession, ServerLimits};
use crate::storage::postgres_tls::{CertificateCheck, client_config};
use crate::storage::postgres_transport::{Encryption, PgTransport};
use crate::storage::session::PostgresConn;
use crate::storage::sqlstate::LastSqlState;

/// The time in which a connection has to be open, unless the address has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time after which a peer that confirms nothing counts as gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without traffic after which the peer is asked for a sign of life.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// The time between two such requests, and their number until the peer counts as gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// The default of `keepalives_idle` in tokio-postgres, which stands for "not set".
const DEFAULT_KEEPALIVE_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// The name of PostgreSQL's protocol in a handshake of TLS that no request precedes.
const ALPN_PROTOCOL: &[u8] = b"postgresql";
/// The port of PostgreSQL, unless the address names one.
const DEFAULT_PORT: u16 = 5432;

/// The message about a pooler that does not keep prepared statements.
pub const LOST_STATEMENTS: &str = "leads to a connection pooler that loses prepared statements: use its session mode, \
                                   or PgBouncer 1.21 or later with max_prepared_statements, or no pooler";

/// A parsed PostgreSQL address.
#[derive(Clone)]
pub struct PgEndpoint {
    config: tokio_postgres::Config,
    encryption: Encryption,
    limits: Option<ServerLimits>,
    /// Set once a pooler has refused options at the start of a connection.
    refuses_options: Arc<AtomicBool>,
}

impl std::fmt::Debug for PgEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgEndpoint").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl PgEndpoint {
    /// Parses a `postgres://` URL and reads the certificates that it names.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the URL, as a predicate of which the setting is the subject.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut rest) = ("prefer", None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => rest.push(pair),
            }
        }
        let mut config: tokio_postgres::Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error| format!("is not a PostgreSQL address: {error}"))?;
        let encryption = encryption(mode, roots, config.get_ssl_negotiation())?;
        // Leads every connection through `PgTransport`, which negotiates the encryption itself.
        config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        set_network_limits(&mut config);
        Ok(Self { config, encryption, limits: None, refuses_options: Arc::default() })
    }

    /// Returns the endpoint with limits that the server enforces, and with a name for its connections.
    ///
    /// Options and a name in the address stay as they are; the options come last, so they replace these.
    pub fn with_session(mut self, limits: ServerLimits, application_name: &str) -> Self {
        self.limits = Some(limits);
        if self.config.get_application_name().is_none() {
            self.config.application_name(application_name);
        }
        self
    }

    /// Opens a connection without limits that the server enforces, such as for migrations.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`connect`](Self::connect).
    pub async fn connect_without_limits(&self) -> Result<PostgresSession, ConnectFailure> {
        self.open(&self.config, None).await.map_err(connect_failure)
    }

    /// Returns the time in which a connection has to be open.
    pub fn connect_timeout(&self) -> Duration {
        let per_host = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        CONNECT_TIMEOUT.max(per_host * u32::try_from(host_count(&self.config)).unwrap_or(1))
    }

    /// Opens a connection.
    ///
    /// The limits are options of the connection, so that no statement has to set them. Poolers that refuse options get
    /// them with each transaction.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be reached, fails the certificate check or rejects the login.
    pub async fn connect(&self) -> Result<PostgresSession, ConnectFailure> {
        let Some(limits) = self.limits else { return self.connect_without_limits().await };
        if !self.refuses_options.load(Ordering::Relaxed) {
            let mut config = self.config.clone();
            let own = limits.startup_options();
            config.options(match self.config.get_options() {
                Some(options) => format!("{own} {options}"),
                None => own,
            });
            match self.open(&config, None).await {
                Err(error) if is_refusal_of_options(&error) => {
                    tracing::warn!(
                        %error,
                        "a pooler refuses options of connections; transactions set the limits instead"
                    );
                    self.refuses_options.store(true, Ordering::Relaxed);
                }
                result => return result.map_err(connect_failure),
            }
        }
        self.open(&self.config, Some(limits)).await.map_err(connect_failure)
    }

    async fn open(
        &self,
        config: &tokio_postgres::Config,
        unset_limits: Option<ServerLimits>,
    ) -> Result<PostgresSession, OpenError> {
        let last_error = LastSqlState::default();
        let transport = PgTransport::new(self.encryption.clone(), last_error.clone());
        let opened = match self.unix_socket() {
            Some(path) => open_unix_socket(config, path, &last_error).await,
            None => {
                let (client, connection) = config.connect(transport.clone()).await?;
                PostgresConn::try_from_client_and_connection(client, connection).await.map_err(OpenError::Setup)
            }
        };
        match opened {
            Ok(conn) => Ok(PostgresSession::new(conn, transport, last_error, unset_limits)),
            // diesel-async prepares statements at once.
            Err(OpenError::Setup(_)) if is_lost_statement(&last_error.get()) => Err(OpenError::LostStatements),
            Err(error) => Err(error),
        }
    }

    /// Returns the socket's path if the server listens on a Unix socket of this machine.
    fn unix_socket(&self) -> Option<PathBuf> {
        match self.config.get_hosts() {
            [Host::Unix(folder)] if self.config.get_hostaddrs().is_empty() => {
                let port = self.config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
                Some(folder.join(format!(".s.PGSQL.{port}")))
            }
            _ => None,
        }
    }
}

fn host_count(config: &tokio_postgres::Config) -> usize {
    config.get_hosts().len().max(config.get_hostaddrs().len()).max(1)
}

/// Opens a Unix socket.
///
/// tokio-postgres would not let it pass through [`PgTransport`], because it has no TLS.
async fn open_unix_socket(
    config: &tokio_postgres::Config,
    path: PathBuf,
    last_error: &LastSqlState,
) -> Result<PostgresConn, OpenError> {
    let stream = UnixStream::connect(&path).await.map_err(|error| OpenError::Socket(path, error))?;
    let transport = PgTransport::new(Encryption::Disabled, last_error.clone());
    let (client, connection) = config.connect_raw(stream, transport).await?;
    // Ends with the client, or with an error that the client's statements return as well.
    tokio::spawn(connection);
    Ok(PostgresConn::try_from(client).await?)
}

fn encryption(mode: &str, roots: Option<&str>, negotiation: SslNegotiation) -> Result<Encryption, String> {
    let (is_required, check) = match (mode, roots) {
        ("disable", _) => return Ok(Encryption::Disabled),
        ("allow" | "prefer", _) => (false, CertificateCheck::Nothing),
        ("require", None) => (true, CertificateCheck::Nothing),
        ("require", Some(_)) | ("verify-ca", _) => (true, CertificateCheck::Issuer),
        ("verify-full", _) => (true, CertificateCheck::IssuerAndHost),
        (other, _) => return Err(format!("has the unknown sslmode {other:?}")),
    };
    let mut tls = client_config(check, roots)?;
    if negotiation == SslNegotiation::Direct {
        tls.alpn_protocols = vec![ALPN_PROTOCOL.to_vec()];
    }
    let tls = MakeRustlsConnect::new(tls);
    match (negotiation, is_required) {
        (SslNegotiation::Direct, false) => Err("has sslnegotiation=direct, which needs sslmode=require or more".into()),
        (SslNegotiation::Direct, true) => Ok(Encryption::Direct(tls)),
        (_, true) => Ok(Encryption::Required(tls)),
        (_, false) => Ok(Encryption::Preferred(tls)),
    }
}

/// Sets how long a lost network stays unnoticed, where the address does not say it.
fn set_network_limits(config: &mut tokio_postgres::Config) {
    if config.get_connect_timeout().is_none() {
        // An unreachable host must leave time for the next one.
        let hosts = u32::try_from(host_count(config)).unwrap_or(1);
        config.connect_timeout(CONNECT_TIMEOUT / hosts);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_idle() == DEFAULT_KEEPALIVE_IDLE {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
}

/// The reason why a connection was not opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}{cause}", cause = cause_of(.0))]
    Postgres(#[from] tokio_postgres::Error),
    #[error("{0}")]
    Setup(#[from] diesel::ConnectionError),
    #[error("{path}: {cause}", path = .0.display(), cause = .1)]
    Socket(PathBuf, std::io::Error),
    #[error("{LOST_STATEMENTS}")]
    LostStatements,
}

/// Returns the cause of an error as the end of its text.
fn cause_of(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default()
}

fn connect_failure(error: OpenError) -> ConnectFailure {
    let failure = match &error {
        OpenError::Postgres(error) => error.code().map(|code| Failure::from_sqlstate(code.code())),
        OpenError::Setup(_) | OpenError::Socket(..) | OpenError::LostStatements => None,
    };
    ConnectFailure::new(failure.filter(|failure| *failure != Failure::Internal).unwrap_or(Failure::Unreachable), error)
}

/// Returns true for the SQLSTATE of a statement that is not prepared, or of another client.
pub fn is_lost_statement(sqlstate: &str) -> bool {
    matches!(sqlstate, "26000" | "42P05")
}

/// Returns true for the error of a pooler that does not know `options`, or a parameter in them.
fn is_refusal_of_options(error: &OpenError) -> bool {
    matches!(error, OpenError::Postgres(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_only_the_documented_sslmodes() {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            assert!(PgEndpoint::parse(&format!("postgres://u:p@db/chat?sslmode={mode}")).is_ok(), "{mode}");
        }
        let error = PgEndpoint::parse("postgres://db/chat?sslmode=strict").unwrap_err();
        assert!(error.contains("strict"), "{error}");
        assert!(PgEndpoint::parse("postgres://db/chat?sslmode=verify-full&sslrootcert=/nowhere.pem").is_err());
        assert!(PgEndpoint::parse("postgres://db/chat?sslmode=prefer&sslnegotiation=direct").is_err());
    }

    #[test]
    fn network_limits_of_the_address_are_kept() {
        let config = |query: &str| PgEndpoint::parse(&format!("postgres://a,b/chat?{query}")).unwrap().config;
        let default = config("");
        assert_eq!(default.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(default.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(default.get_connect_timeout(), Some(&(CONNECT_TIMEOUT / 2)), "both hosts get their turn");
        let own = config("connect_timeout=7&tcp_user_timeout=60&keepalives_idle=61&keepalives_retries=9");
        assert_eq!(own.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(own.get_tcp_user_timeout(), Some(&Duration::from_secs(60)));
        assert_eq!(own.get_keepalives_idle(), Duration::from_secs(61));
        assert_eq!(own.get_keepalives_retries(), Some(9));
    }

    #[test]
    fn unix_socket_is_that_of_the_port() {
        let path = |url: &str| PgEndpoint::parse(url).unwrap().unix_socket();
        let socket = |port: u16| Some(PathBuf::from(format!("/run/postgresql/.s.PGSQL.{port}")));
        assert_eq!(path("postgres://u@%2Frun%2Fpostgresql/chat"), socket(5432));
        assert_eq!(path("postgres:///chat?host=/run/postgresql&port=6432"), socket(6432));
        assert_eq!(path("postgres://u@db/chat"), None);
    }
}
