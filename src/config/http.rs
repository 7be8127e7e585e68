//! The settings of the HTTP server.

use crate::config::reader::Reader;
use crate::http::settings::{HttpSettings, WebOrigin};

const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8080";

pub(super) fn read(reader: &mut Reader, serves_graphiql: bool) -> HttpSettings {
    reader.section("HTTP");
    HttpSettings {
        addr: reader.value(
            "PARLOR_ADDR",
            "Address and port of the API; port 0 picks a free one",
            ADDRESS,
            "127.0.0.1:8080",
        ),
        metrics_addr: reader.optional("PARLOR_METRICS_ADDR", "Address and port of /metrics", ADDRESS, "not served"),
        cors_origins: reader.list(
            "PARLOR_CORS_ORIGINS",
            "Web origins that may call the API",
            "an origin such as https://app.example, or *",
            "",
            str::parse::<WebOrigin>,
        ),
        max_body_bytes: reader.number(
            "PARLOR_MAX_BODY_BYTES",
            "Maximum size of a request body or WebSocket message",
            "bytes",
            128 * 1024,
            1024..=64 * 1024 * 1024,
        ),
        socket_init_timeout: reader.seconds(
            "PARLOR_SOCKET_INIT_SECONDS",
            "Seconds in which a WebSocket must send connection_init",
            5,
            1..=60,
        ),
        socket_ping_interval: reader.seconds(
            "PARLOR_SOCKET_PING_SECONDS",
            "Seconds between pings; a WebSocket silent for twice as long is closed",
            20,
            1..=3600,
        ),
        socket_write_timeout: reader.seconds(
            "PARLOR_SOCKET_WRITE_SECONDS",
            "Seconds before a WebSocket that accepts no data is closed",
            30,
            1..=3600,
        ),
        max_socket_operations: reader.number(
            "PARLOR_SOCKET_OPERATIONS",
            "Maximum operations that run at once on a WebSocket",
            "operations",
            100,
            1..=10_000,
        ),
        drain_period: reader.seconds(
            "PARLOR_DRAIN_SECONDS",
            "Seconds over which WebSockets are closed at shutdown",
            3,
            0..=3600,
        ),
        shutdown_timeout: reader.seconds(
            "PARLOR_SHUTDOWN_SECONDS",
            "Seconds that running requests get after the drain",
            10,
            0..=3600,
        ),
        serves_graphiql,
    }
}
