//! The settings of the HTTP layer. `config` reads them from the environment.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderValue;
use url::Url;

use crate::http::connections::ConnectionLimits;

/// The time between two pings of a client that takes part in a call.
///
/// One that is silent for twice as long is closed, so that the other participants learn of it.
pub const CALL_PING_INTERVAL: Duration = Duration::from_secs(5);

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
    /// calls of other origins, and WebSockets are accepted from all origins. Pages of the same machine may always call
    /// a development server.
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
    /// True for a development server, which only this machine can reach.
    ///
    /// It serves GraphiQL, whose page contains a token, and all pages that this machine serves may call it.
    pub is_development: bool,
}

impl HttpSettings {
    /// Returns whether pages of an origin may call the API, given the header `Origin`.
    pub fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let is_listed = |listed: &WebOrigin| listed.is_any() || listed.as_str().as_bytes() == origin.as_bytes();
        let is_own = || self.is_development && origin.to_str().is_ok_and(is_loopback_origin);
        self.cors_origins.iter().any(is_listed) || is_own()
    }
}

/// Returns whether an origin, as a browser writes it, is a web server on the browser's own machine.
fn is_loopback_origin(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| {
        let is_loopback = url.host_str().is_some_and(is_loopback_host);
        is_loopback && matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == origin
    })
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

#[cfg(test)]
mod tests {
    use super::is_loopback_origin;

    #[test]
    fn loopback_origin_is_a_web_server_on_this_machine() {
        for origin in [
            "http://localhost:5173",
            "http://localhost",
            "https://localhost:8443",
            "http://127.0.0.1:3000",
            "http://127.8.9.10:1",
            "http://[::1]:5173",
        ] {
            assert!(is_loopback_origin(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "*",
            "localhost:5173",
            "http://localhost:5173/",
            "http://localhost:80",
            "http://localhost.evil.example",
            "http://localhost:5173.evil.example",
            "http://localhost@evil.example",
            "http://evil.example#localhost",
            "http://evil.example",
            "http://127.0.0.1.evil.example",
            "http://2130706433:5173",
            "http://10.0.0.1",
            "http://192.168.0.2:5173",
            "http://0.0.0.0:5173",
            "http://[::1]evil.example",
            "file://localhost",
            "chrome-extension://localhost",
        ] {
            assert!(!is_loopback_origin(origin), "{origin}");
        }
    }
}
