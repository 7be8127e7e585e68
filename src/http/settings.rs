//! The settings of the HTTP layer. `config` reads them from the environment.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::http::connections::ConnectionLimits;

/// The addresses, limits and timeouts of the HTTP server.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address and port on which the API listens. Port 0 picks a free port.
    pub addr: SocketAddr,
    /// The address and port of `/metrics`, which is not served without one.
    pub metrics_addr: Option<SocketAddr>,
    /// The web origins that may call the API.
    ///
    /// If the list is not empty, WebSockets of browsers are limited to it too. If it is empty, browsers prevent HTTP
    /// calls of other origins, and WebSockets are accepted from all origins.
    pub cors_origins: Vec<WebOrigin>,
    /// The maximum size of a request body or WebSocket message.
    pub max_body_bytes: usize,
    /// The time in which a WebSocket must send `connection_init`.
    pub socket_init_timeout: Duration,
    /// The time between two pings. A WebSocket that is silent for twice as long is closed.
    pub socket_ping_interval: Duration,
    /// The maximum number of operations that run at the same time on a WebSocket.
    pub max_socket_operations: usize,
    /// The maximum number of bytes of the messages and documents of the operations that run on a WebSocket.
    pub max_socket_operation_bytes: usize,
    /// The time after which a WebSocket that accepts no data is closed.
    pub socket_write_timeout: Duration,
    /// The time over which WebSockets are closed at shutdown. Their clients then do not reconnect all at once.
    pub drain_period: Duration,
    /// The time that running requests get after the drain period.
    pub shutdown_timeout: Duration,
    /// The bounds of connections.
    pub connections: ConnectionLimits,
    /// The time in which the body of a request has to arrive.
    pub body_timeout: Duration,
    /// The time for which a stopping server is not ready and still serves everything.
    pub stop_delay: Duration,
    /// True if GraphiQL is served. Its page contains a token, so only a development server serves it.
    pub serves_graphiql: bool,
}

/// A web origin as browsers send it (RFC 6454, section 6.2), or `*` for any.
///
/// An example is `https://app.example:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Returns the origin in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if the origin is a server on the browser's own machine.
    pub fn is_loopback(&self) -> bool {
        self.0.split_once("://").is_some_and(|(_, host)| is_loopback_host(host))
    }

    /// Returns true if this allows any origin.
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

/// Returns whether a host with an optional port, as in a `Host` header, is the machine itself.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The error for a text that is not a web origin.
#[derive(Debug, thiserror::Error)]
#[error("must be an origin such as https://app.example, or *")]
pub struct ParseOriginError;

impl FromStr for WebOrigin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, ParseOriginError> {
        let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@']));
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        match (is_origin || text == "*") && is_printable {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(ParseOriginError),
        }
    }
}
