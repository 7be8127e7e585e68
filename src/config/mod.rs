//! Every setting, from the environment. A wrong or unknown one is refused, by name, before anything
//! listens.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::auth::keys::{Algorithm, KeySource, Secret};
use crate::domain::users::{Permission, Permissions};
use crate::storage::pool::Engine;

/// All that is wrong with the settings, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

#[derive(Debug, Clone)]
pub struct Config {
    pub http: HttpConfig,
    pub database: DatabaseConfig,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
    pub redis: RedisConfig,
    pub calls: CallsConfig,
    pub log: LogConfig,
    /// `PARLOR_DATA` (`./data`): where a development server keeps its secret.
    pub data_dir: PathBuf,
}

#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `PARLOR_ADDR` (`127.0.0.1:8080`): address and port to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// `PARLOR_METRICS_ADDR`: address and port of `/metrics`, for the operator alone; not served without.
    pub metrics_addr: Option<SocketAddr>,
    /// `PARLOR_CORS_ORIGINS`: web origins that may call the API, with commas between, or `*`. Set, a
    /// WebSocket that tells its origin is held to it too; not set, only HTTP from elsewhere is refused.
    pub cors_origins: Vec<WebOrigin>,
    /// `PARLOR_MAX_BODY_BYTES` (131072): largest request body and WebSocket message, in bytes.
    pub max_body_bytes: usize,
    /// `PARLOR_SOCKET_INIT_SECONDS` (5): time in which a WebSocket must say `connection_init`.
    pub socket_init_timeout: Duration,
    /// `PARLOR_SOCKET_PING_SECONDS` (20): time between the server's pings; a socket silent for
    /// twice as long is closed.
    pub socket_ping_interval: Duration,
    /// `PARLOR_SOCKET_OPERATIONS` (100): operations under way at once on one WebSocket.
    pub max_socket_operations: usize,
    /// `PARLOR_SOCKET_WRITE_SECONDS` (30): a socket that takes nothing for so long is closed.
    pub socket_write_timeout: Duration,
    /// `PARLOR_DRAIN_SECONDS` (3): time over which sockets are closed at a stop, so that not all come back
    /// at once.
    pub drain_period: Duration,
    /// `PARLOR_SHUTDOWN_SECONDS` (10): time after that in which requests under way get to end.
    pub shutdown_timeout: Duration,
}

/// A web origin as browsers send it (RFC 6454, section 6.2): `https://app.example:8443`, or `*` for
/// any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

impl FromStr for WebOrigin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
        let sound = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@']));
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        ((sound || text == "*") && plain).then(|| Self(text.to_ascii_lowercase())).ok_or(())
    }
}

#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// `DATABASE_URL` (`sqlite://./data/parlor.db`): `sqlite://PATH` or `postgres://…`.
    pub engine: Engine,
    /// `PARLOR_DATABASE_CONNECTIONS` (16): most connections held to PostgreSQL.
    pub max_connections: usize,
    /// `PARLOR_DATABASE_WAIT_SECONDS` (5): how long a request waits for a connection.
    pub acquire_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// `PARLOR_JWT_SECRET` or `PARLOR_JWKS` (a file, or an http(s) address); neither is a
    /// development server.
    pub key_source: Option<KeySource>,
    /// `PARLOR_JWT_ALGORITHM`: HS256 with a secret; RS256 (default), ES256 or EdDSA with a JWKS.
    pub algorithm: Algorithm,
    /// `PARLOR_JWT_ISSUER`: the `iss` that tokens must have.
    pub issuer: Option<String>,
    /// `PARLOR_JWT_AUDIENCE`: the `aud` that tokens must have.
    pub audience: Option<String>,
    /// `PARLOR_JWT_LEEWAY_SECONDS` (30): how far clocks may differ for `exp` and `nbf`.
    pub leeway: Duration,
    /// `PARLOR_DEFAULT_PERMISSIONS`: what a token without `permissions` may, with commas between.
    pub default_permissions: Permissions,
}

#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// `PARLOR_MAX_DEPTH` (12): levels of fields in an operation.
    pub max_depth: usize,
    /// `PARLOR_MAX_COMPLEXITY` (50000): fields that an operation may resolve, with page sizes
    /// multiplied in.
    pub max_complexity: usize,
    /// `PARLOR_MESSAGE_CHARACTERS` (8000): longest text of a message.
    pub max_message_characters: usize,
    /// `PARLOR_CATCH_UP_CHANGES` (1000): changes that a resuming feed is told one by one; further
    /// behind it is reset.
    pub max_catch_up_changes: usize,
    /// `PARLOR_CATCH_UPS` (64): feeds that read from the database at once.
    pub max_concurrent_catch_ups: usize,
    /// `PARLOR_RECEIPT_MEMBERS` (256): members of the largest chat in which all are told who read and
    /// received what.
    pub max_receipt_members: usize,
    /// `PARLOR_TYPING_MEMBERS` (256): members of the largest chat in which all are told who is typing;
    /// 0 is off.
    pub max_typing_members: usize,
    /// `PARLOR_PRESENCE_GRACE_SECONDS` (5): how long one without a connection still counts as there.
    pub presence_grace_period: Duration,
    /// `PARLOR_SENDS_PER_MINUTE` (3000): messages that a person may send, in a burst or spread.
    pub sends_per_minute: NonZeroU32,
    /// `PARLOR_REACTIONS_PER_MINUTE` (3000): reactions, votes and reports of a person.
    pub reactions_per_minute: NonZeroU32,
    /// `PARLOR_CHATS_PER_MINUTE` (600): chats that a person may make.
    pub chats_per_minute: NonZeroU32,
    /// `PARLOR_SIGNALS_PER_MINUTE` (1200): times that a person may say that they type, or how they are
    /// there.
    pub signals_per_minute: NonZeroU32,
    /// `PARLOR_CALLS_PER_MINUTE` (60): calls that a person may start or join.
    pub calls_per_minute: NonZeroU32,
    /// `PARLOR_CALL_SIGNALS_PER_MINUTE` (1200): signals and reports of a person in calls.
    pub call_signals_per_minute: NonZeroU32,
    /// `PARLOR_SEND_QUEUE` (4096): sends that wait for the committer before more are refused.
    pub send_queue_capacity: usize,
}

#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `REDIS_URL`: `redis://` or `rediss://`, how the nodes of one server tell each other what happens;
    /// several of a cluster's with commas between. Without it this node is the only one.
    pub addresses: Vec<String>,
    /// `PARLOR_REDIS_CLUSTER` (`false`): `REDIS_URL` is a Redis Cluster, used by sharded channels (Redis 7).
    pub is_cluster: bool,
    /// `PARLOR_REDIS_PREFIX` (`parlor`): what the names of channels begin with; one for each server that
    /// shares the Redis.
    pub channel_prefix: String,
    /// `PARLOR_NODE_NAME` (made anew at each start): what the other nodes and the logs call this one.
    pub node_name: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CallsConfig {
    /// `PARLOR_CALL_RING_SECONDS` (45): how long a call rings before it is missed.
    pub ring_timeout: Duration,
    /// `PARLOR_CALL_ALONE_SECONDS` (60): an answered call with but one in it ends after so long.
    pub alone_timeout: Duration,
    /// `PARLOR_CALL_LOST_SECONDS` (15): a participant whose feed has been gone for so long has left.
    pub disconnect_timeout: Duration,
    /// `PARLOR_CALL_PARTICIPANTS` (8): people in one call at once; each sends to every other.
    pub max_participants: usize,
    /// `PARLOR_CALL_RING_MEMBERS` (32): members of the largest chat in which a call rings for all; in a larger
    /// one it is told in the chat, and rings for nobody.
    pub max_ring_members: usize,
    /// `PARLOR_STUN_URLS`: STUN servers (RFC 7064), with commas between: `stun:stun.example.org:3478`.
    pub stun_urls: Vec<IceUrl>,
    /// `PARLOR_TURN_URLS`: TURN servers (RFC 7065), with commas between:
    /// `turn:turn.example.org:3478?transport=udp,turns:turn.example.org:5349?transport=tcp`.
    pub turn_urls: Vec<IceUrl>,
    /// `PARLOR_TURN_SECRET`: the secret that the TURN servers share with this one, by which time-limited
    /// credentials are made: coturn's `static-auth-secret`.
    pub turn_secret: Option<Secret>,
    /// `PARLOR_TURN_SECONDS` (43200): how long such credentials hold.
    pub turn_credential_ttl: Duration,
}

/// The address of a STUN or TURN server, as browsers take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceUrl(String);

impl IceUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(url: &str, schemes: &[&str]) -> Result<Self, String> {
        let host = url.split_once(':').filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, host)| host);
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        match host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) && plain {
            true => Ok(Self(url.to_owned())),
            false => Err(format!("{url:?} must begin with {}:", schemes.join(": or "))),
        }
    }
}

#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `PARLOR_LOG` (`info`): what is logged, as `tracing` filters say it (`parlor=debug,info`).
    pub filter: String,
    /// `PARLOR_LOG_FORMAT` (`text`): `text`, or `json` with one object a line.
    pub is_json: bool,
    /// `PARLOR_OTLP_ENDPOINT`: where traces are sent, by OTLP over HTTP (opentelemetry.io), such as
    /// `http://collector:4318`; none are sent without.
    pub otlp_endpoint: Option<String>,
}

impl Config {
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars())
    }

    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let ours = |name: &str| {
            let named = name == "DATABASE_URL" || name == "REDIS_URL";
            named || name.starts_with("PARLOR_") && !name.starts_with("PARLOR_TEST_")
        };
        let mut env = Env { vars: vars.into_iter().filter(|(name, _)| ours(name)).collect(), errors: Vec::new() };
        let config = Self {
            http: HttpConfig {
                addr: env.parse("PARLOR_ADDR", "127.0.0.1:8080"),
                metrics_addr: env.parse_optional("PARLOR_METRICS_ADDR"),
                cors_origins: env.list("PARLOR_CORS_ORIGINS", ""),
                max_body_bytes: env.number("PARLOR_MAX_BODY_BYTES", 128 * 1024, 1024..=64 * 1024 * 1024),
                socket_init_timeout: env.seconds("PARLOR_SOCKET_INIT_SECONDS", 5, 1..=60),
                socket_ping_interval: env.seconds("PARLOR_SOCKET_PING_SECONDS", 20, 1..=3600),
                max_socket_operations: env.number("PARLOR_SOCKET_OPERATIONS", 100, 1..=10_000),
                socket_write_timeout: env.seconds("PARLOR_SOCKET_WRITE_SECONDS", 30, 1..=3600),
                drain_period: env.seconds("PARLOR_DRAIN_SECONDS", 3, 0..=3600),
                shutdown_timeout: env.seconds("PARLOR_SHUTDOWN_SECONDS", 10, 0..=3600),
            },
            database: DatabaseConfig {
                engine: env.parse_with("DATABASE_URL", "sqlite://./data/parlor.db", Engine::parse),
                max_connections: env.number("PARLOR_DATABASE_CONNECTIONS", 16, 2..=1_000),
                acquire_timeout: env.seconds("PARLOR_DATABASE_WAIT_SECONDS", 5, 1..=300),
            },
            auth: env.auth(),
            limits: LimitsConfig {
                max_depth: env.number("PARLOR_MAX_DEPTH", 12, 3..=24),
                max_complexity: env.number("PARLOR_MAX_COMPLEXITY", 50_000, 100..=10_000_000),
                max_message_characters: env.number("PARLOR_MESSAGE_CHARACTERS", 8_000, 1..=100_000),
                max_catch_up_changes: env.number("PARLOR_CATCH_UP_CHANGES", 1_000, 1..=1_000_000),
                max_concurrent_catch_ups: env.number("PARLOR_CATCH_UPS", 64, 1..=10_000),
                max_receipt_members: env.number("PARLOR_RECEIPT_MEMBERS", 256, 0..=10_000),
                max_typing_members: env.number("PARLOR_TYPING_MEMBERS", 256, 0..=10_000),
                presence_grace_period: env.seconds("PARLOR_PRESENCE_GRACE_SECONDS", 5, 0..=300),
                sends_per_minute: env.rate("PARLOR_SENDS_PER_MINUTE", 3_000),
                reactions_per_minute: env.rate("PARLOR_REACTIONS_PER_MINUTE", 3_000),
                chats_per_minute: env.rate("PARLOR_CHATS_PER_MINUTE", 600),
                signals_per_minute: env.rate("PARLOR_SIGNALS_PER_MINUTE", 1_200),
                calls_per_minute: env.rate("PARLOR_CALLS_PER_MINUTE", 60),
                call_signals_per_minute: env.rate("PARLOR_CALL_SIGNALS_PER_MINUTE", 1_200),
                send_queue_capacity: env.number("PARLOR_SEND_QUEUE", 4_096, 1..=1_000_000),
            },
            redis: RedisConfig {
                addresses: env.parse_with("REDIS_URL", "", redis_addresses),
                is_cluster: env.parse("PARLOR_REDIS_CLUSTER", "false"),
                channel_prefix: env.take("PARLOR_REDIS_PREFIX").unwrap_or_else(|| "parlor".into()),
                node_name: env.take("PARLOR_NODE_NAME"),
            },
            calls: env.calls(),
            log: LogConfig {
                filter: env.take("PARLOR_LOG").unwrap_or_else(|| "info".into()),
                is_json: env.parse_with("PARLOR_LOG_FORMAT", "text", |format| match format {
                    "text" => Ok(false),
                    "json" => Ok(true),
                    _ => Err("must be text or json"),
                }),
                otlp_endpoint: env.take("PARLOR_OTLP_ENDPOINT"),
            },
            data_dir: env.parse("PARLOR_DATA", "./data"),
        };
        if config.auth.key_source.is_none() && !config.http.addr.ip().is_loopback() {
            env.errors.push(format!(
                "PARLOR_ADDR={}: without PARLOR_JWT_SECRET or PARLOR_JWKS this is a development server, which listens \
                 on loopback only",
                config.http.addr
            ));
        }
        let unknown = env.vars.keys().map(|name| format!("{name}: there is no such setting; see parlor --help"));
        env.errors.extend(unknown.collect::<Vec<_>>());
        if env.errors.is_empty() { Ok(config) } else { Err(ConfigError(env.errors)) }
    }

    /// A server that was given no keys: it makes its own, and listens on loopback only.
    pub fn is_development(&self) -> bool {
        self.auth.key_source.is_none()
    }
}

/// What is read takes its variable out; what is left over is unknown.
struct Env {
    vars: BTreeMap<String, String>,
    errors: Vec<String>,
}

impl Env {
    /// An empty variable is one that isn't set.
    fn take(&mut self, name: &str) -> Option<String> {
        self.vars.remove(name).filter(|value| !value.is_empty())
    }

    /// Reads a variable; `default` is read alike, and stands in where the value is wrong.
    fn parse_with<T, E: Display>(&mut self, name: &str, default: &str, read: impl Fn(&str) -> Result<T, E>) -> T {
        let fallback = || read(default).unwrap_or_else(|error| panic!("the default of {name} is wrong: {error}"));
        let Some(value) = self.take(name) else {
            return fallback();
        };
        read(&value).unwrap_or_else(|error| {
            // The value of an address may hold a password.
            let shown = if name.ends_with("_URL") { name.to_owned() } else { format!("{name}={value}") };
            self.errors.push(format!("{shown}: {error}"));
            fallback()
        })
    }

    fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, default: &str) -> T {
        self.parse_with(name, default, |value| value.parse())
    }

    fn parse_optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        self.parse_with(name, "", |value| if value.is_empty() { Ok(None) } else { value.parse().map(Some) })
    }

    fn number(&mut self, name: &str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.parse_with(name, &default.to_string(), |value| {
            let number = value.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
        })
    }

    fn rate(&mut self, name: &str, default: usize) -> NonZeroU32 {
        let rate = self.number(name, default, 1..=1_000_000);
        u32::try_from(rate).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    fn seconds(&mut self, name: &str, default: usize, range: RangeInclusive<usize>) -> Duration {
        Duration::from_secs(self.number(name, default, range) as u64)
    }

    fn list<T: FromStr>(&mut self, name: &str, default: &str) -> Vec<T> {
        self.parse_with(name, default, |value| {
            comma_list(value)
                .map(|word| word.parse().map_err(|_| format!("{word:?} is none of the known")))
                .collect::<Result<_, _>>()
        })
    }

    fn calls(&mut self) -> CallsConfig {
        let urls = |env: &mut Self, name: &str, schemes: &[&str]| {
            env.parse_with(name, "", |list| {
                comma_list(list).map(|url| IceUrl::parse(url, schemes)).collect::<Result<Vec<_>, _>>()
            })
        };
        let config = CallsConfig {
            ring_timeout: self.seconds("PARLOR_CALL_RING_SECONDS", 45, 5..=600),
            alone_timeout: self.seconds("PARLOR_CALL_ALONE_SECONDS", 60, 5..=3600),
            disconnect_timeout: self.seconds("PARLOR_CALL_LOST_SECONDS", 15, 5..=600),
            max_participants: self.number("PARLOR_CALL_PARTICIPANTS", 8, 2..=50),
            max_ring_members: self.number("PARLOR_CALL_RING_MEMBERS", 32, 2..=256),
            stun_urls: urls(self, "PARLOR_STUN_URLS", &["stun", "stuns"]),
            turn_urls: urls(self, "PARLOR_TURN_URLS", &["turn", "turns"]),
            turn_secret: self.take("PARLOR_TURN_SECRET").map(Secret::from),
            turn_credential_ttl: self.seconds("PARLOR_TURN_SECONDS", 43_200, 60..=604_800),
        };
        if config.turn_urls.is_empty() != config.turn_secret.is_none() {
            self.errors.push("PARLOR_TURN_SECRET: goes with PARLOR_TURN_URLS, neither without the other".into());
        }
        config
    }

    fn auth(&mut self) -> AuthConfig {
        let secret = self.take("PARLOR_JWT_SECRET");
        let jwks = self.take("PARLOR_JWKS");
        let keys = match (secret, jwks) {
            (Some(_), Some(_)) => {
                self.errors.push("PARLOR_JWKS: can't be combined with PARLOR_JWT_SECRET".into());
                None
            }
            (Some(secret), None) if secret.len() < 32 => {
                self.errors.push("PARLOR_JWT_SECRET: must be at least 32 bytes (RFC 7518, section 3.2)".into());
                // Not a development server: say nothing of the address.
                Some(KeySource::Secret(secret.into()))
            }
            (Some(secret), None) => Some(KeySource::Secret(secret.into())),
            (None, Some(place)) if place.starts_with("https://") || place.starts_with("http://") => {
                Some(KeySource::Url(place))
            }
            (None, Some(file)) => Some(KeySource::File(file.into())),
            (None, None) => None,
        };
        let by_secret = matches!(keys, None | Some(KeySource::Secret(_)));
        let default = if by_secret { "HS256" } else { "RS256" };
        let algorithm = self.parse_with("PARLOR_JWT_ALGORITHM", default, |value| match value.parse() {
            Ok(algorithm) if (algorithm == Algorithm::HS256) == by_secret => Ok(algorithm),
            _ if by_secret => Err("must be HS256 with a secret"),
            _ => Err("must be RS256, ES256 or EdDSA with a JWKS"),
        });
        let everyone = "chat.view,chat.create_group,chat.manage_group,chat.delete,chat.initiate_call";
        AuthConfig {
            key_source: keys,
            algorithm,
            issuer: self.take("PARLOR_JWT_ISSUER"),
            audience: self.take("PARLOR_JWT_AUDIENCE"),
            leeway: self.seconds("PARLOR_JWT_LEEWAY_SECONDS", 30, 0..=300),
            default_permissions: self.list::<Permission>("PARLOR_DEFAULT_PERMISSIONS", everyone).into_iter().collect(),
        }
    }
}

/// What stands between the commas of a list.
fn comma_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn redis_addresses(list: &str) -> Result<Vec<String>, &'static str> {
    let addresses: Vec<String> = comma_list(list).map(ToOwned::to_owned).collect();
    let sound = addresses.iter().all(|address| address.starts_with("redis://") || address.starts_with("rediss://"));
    sound.then_some(addresses).ok_or("must begin with redis:// or rediss://")
}

/// The settings as `parlor --help` prints them.
pub const SETTINGS_HELP: &str = "\
Settings, all by environment variable:
  DATABASE_URL                 sqlite://PATH or postgres://USER:PASSWORD@HOST/NAME?sslmode=…
                               [sqlite://./data/parlor.db]
  REDIS_URL                    redis://HOST:PORT, between the nodes of one server; a cluster's
                               with commas between [none: this node is alone]
  PARLOR_REDIS_CLUSTER         true where REDIS_URL is a Redis Cluster [false]
  PARLOR_REDIS_PREFIX          what the names of its channels begin with [parlor]
  PARLOR_NODE_NAME             what the other nodes call this one [made at each start]
  PARLOR_ADDR                  address and port to listen on [127.0.0.1:8080]
  PARLOR_JWT_SECRET            secret of HS256 tokens, at least 32 bytes
  PARLOR_JWKS                  public keys of RS256, ES256 or EdDSA tokens: a file or an address
  PARLOR_JWT_ALGORITHM         HS256 with a secret; RS256, ES256 or EdDSA with a JWKS [HS256 or RS256]
  PARLOR_JWT_ISSUER            the iss that tokens must have
  PARLOR_JWT_AUDIENCE          the aud that tokens must have
  PARLOR_JWT_LEEWAY_SECONDS    how far clocks may differ, 0 to 300 [30]
  PARLOR_DEFAULT_PERMISSIONS   what a token without permissions may [chat.view,chat.create_group,
                               chat.manage_group,chat.delete,chat.initiate_call]
  PARLOR_METRICS_ADDR          address and port of /metrics, for the operator alone [not served]
  PARLOR_OTLP_ENDPOINT         where traces are sent, OTLP over HTTP: http://HOST:4318 [not sent]
  PARLOR_CORS_ORIGINS          web origins that may call the API, with commas between, or *
  PARLOR_DATA                  where a development server keeps its secret [./data]
  PARLOR_DATABASE_CONNECTIONS  most connections to PostgreSQL [16]
  PARLOR_DATABASE_WAIT_SECONDS how long a request waits for one [5]
  PARLOR_MAX_BODY_BYTES        largest request body and WebSocket message [131072]
  PARLOR_MAX_DEPTH             levels of fields in an operation [12]
  PARLOR_MAX_COMPLEXITY        fields an operation may resolve, page sizes multiplied in [50000]
  PARLOR_MESSAGE_CHARACTERS    longest text of a message [8000]
  PARLOR_CATCH_UP_CHANGES      changes a resuming feed is told before it is reset [1000]
  PARLOR_CATCH_UPS             feeds that read from the database at once [64]
  PARLOR_RECEIPT_MEMBERS       members of the largest chat with receipts for all [256]
  PARLOR_TYPING_MEMBERS        members of the largest chat that tells who is typing; 0 is off [256]
  PARLOR_PRESENCE_GRACE_SECONDS how long one whose connection went is still there, 0 to 300 [5]
  PARLOR_SENDS_PER_MINUTE      messages that a person may send [3000]
  PARLOR_REACTIONS_PER_MINUTE  reactions, votes and reports of a person [3000]
  PARLOR_CHATS_PER_MINUTE      chats that a person may make [600]
  PARLOR_SIGNALS_PER_MINUTE    setTyping and setPresence of a person [1200]
  PARLOR_CALL_RING_SECONDS     how long a call rings before it is missed [45]
  PARLOR_CALL_ALONE_SECONDS    an answered call with but one in it ends after [60]
  PARLOR_CALL_LOST_SECONDS     a participant whose feed is gone for so long has left [15]
  PARLOR_CALL_PARTICIPANTS     people in one call at once [8]
  PARLOR_CALL_RING_MEMBERS     members of the largest chat in which a call rings for all [32]
  PARLOR_STUN_URLS             STUN servers for calls, with commas between: stun:HOST:PORT
  PARLOR_TURN_URLS             TURN servers for calls, with commas between:
                               turn:HOST:PORT?transport=udp, turns:HOST:PORT?transport=tcp
  PARLOR_TURN_SECRET           the secret shared with them (coturn's static-auth-secret)
  PARLOR_TURN_SECONDS          how long credentials for them hold [43200]
  PARLOR_CALLS_PER_MINUTE      calls that a person may start or join [60]
  PARLOR_CALL_SIGNALS_PER_MINUTE signals and reports of a person in calls [1200]
  PARLOR_SEND_QUEUE            sends that wait before more are refused [4096]
  PARLOR_SOCKET_INIT_SECONDS   time in which a WebSocket must say connection_init [5]
  PARLOR_SOCKET_PING_SECONDS   time between pings; silent for twice as long is closed [20]
  PARLOR_SOCKET_WRITE_SECONDS  a socket that takes nothing for so long is closed [30]
  PARLOR_SOCKET_OPERATIONS     operations at once on one WebSocket [100]
  PARLOR_DRAIN_SECONDS         time over which sockets are closed at a stop [3]
  PARLOR_SHUTDOWN_SECONDS      time after that in which requests under way get to end [10]
  PARLOR_LOG                   what is logged, as in parlor=debug,info [info]
  PARLOR_LOG_FORMAT            text or json [text]";

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config, String> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_vars(vars).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_a_development_server_on_loopback() {
        let config = config(&[]).unwrap();
        assert!(config.is_development());
        assert!(config.http.addr.ip().is_loopback());
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let secret = "0123456789abcdef0123456789abcdef";
        for (vars, named) in [
            (vec![("PARLOR_ADDR", "here")], "PARLOR_ADDR=here"),
            (vec![("PARLOR_ADDR", "0.0.0.0:8080")], "PARLOR_ADDR"),
            (vec![("PARLOR_JWT_SECRET", "short")], "PARLOR_JWT_SECRET"),
            (vec![("PARLOR_JWT_SECRET", secret), ("PARLOR_JWKS", "keys.json")], "PARLOR_JWKS"),
            (vec![("PARLOR_JWT_SECRET", secret), ("PARLOR_JWT_ALGORITHM", "RS256")], "PARLOR_JWT_ALGORITHM"),
            (vec![("PARLOR_JWKS", "keys.json"), ("PARLOR_JWT_ALGORITHM", "HS256")], "PARLOR_JWT_ALGORITHM"),
            (vec![("PARLOR_DEFAULT_PERMISSIONS", "chat.fly")], "chat.fly"),
            (vec![("PARLOR_MAX_DEPTH", "two")], "PARLOR_MAX_DEPTH=two: must be a whole number from 3 to 24"),
            (vec![("PARLOR_LOG_FORMAT", "xml")], "PARLOR_LOG_FORMAT"),
            (vec![("PARLOR_PORT", "80")], "PARLOR_PORT: there is no such setting"),
            (vec![("DATABASE_URL", "mysql://u:secret@db/chat")], "DATABASE_URL: must begin with"),
            (vec![("DATABASE_URL", "sqlite://:memory:")], "DATABASE_URL: must name a file"),
            (vec![("PARLOR_CORS_ORIGINS", "https://app.example/chat")], "PARLOR_CORS_ORIGINS"),
            (vec![("PARLOR_STUN_URLS", "turn:a.example")], "PARLOR_STUN_URLS"),
            (vec![("PARLOR_TURN_URLS", "turn:a.example")], "PARLOR_TURN_SECRET: goes with PARLOR_TURN_URLS"),
            (vec![("PARLOR_TURN_SECRET", "hidden")], "PARLOR_TURN_SECRET: goes with PARLOR_TURN_URLS"),
        ] {
            let error = config(&vars).unwrap_err();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("secret@"), "{error}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let error = config(&[("PARLOR_ADDR", "x"), ("PARLOR_MAX_DEPTH", "0")]).unwrap_err();
        assert_eq!(error.lines().count(), 2);
    }
}
