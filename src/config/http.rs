//! The settings of the HTTP server.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::reader::Reader;
use crate::http::connections::ConnectionLimits;
use crate::http::settings::{HttpSettings, WebOrigin};

const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:8080";
/// Loopback, private networks (RFC 1918, 4193, 6598) and link-local ones (RFC 3927, 4291).
const PRIVATE_NETWORKS: &str =
    "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,::1/128,fc00::/7,fe80::/10";

pub(super) fn read(reader: &mut Reader, is_development: bool) -> HttpSettings {
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
            320 * 1024,
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
        max_socket_operation_bytes: reader.number(
            "PARLOR_SOCKET_OPERATION_BYTES",
            "Maximum size of the operations that run at once on a WebSocket",
            "bytes",
            1024 * 1024,
            1024..=1024 * 1024 * 1024,
        ),
        connections: read_connections(reader),
        body_timeout: reader.seconds(
            "PARLOR_BODY_SECONDS",
            "Seconds in which the body of a request must arrive",
            30,
            1..=600,
        ),
        stop_delay: reader.seconds(
            "PARLOR_STOP_DELAY_SECONDS",
            "Seconds for which a stopping server is not ready but still serves",
            0,
            0..=3600,
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
        is_development,
    }
}

fn read_connections(reader: &mut Reader) -> ConnectionLimits {
    ConnectionLimits {
        max_connections: reader.number(
            "PARLOR_CONNECTIONS",
            "Maximum open connections, as far as ulimit -n allows",
            "connections",
            50_000,
            16..=10_000_000,
        ),
        max_address_connections: reader.number(
            "PARLOR_ADDRESS_CONNECTIONS",
            "Maximum open connections of an address that is no trusted proxy",
            "connections",
            1_000,
            1..=10_000_000,
        ),
        trusted_proxies: read_trusted_proxies(reader),
        head_timeout: reader.seconds(
            "PARLOR_HEAD_SECONDS",
            "Seconds in which the headers of a request must arrive",
            10,
            1..=600,
        ),
        idle_timeout: reader.seconds(
            "PARLOR_KEEP_ALIVE_SECONDS",
            "Seconds for which a connection stays open between requests",
            75,
            1..=3600,
        ),
    }
}

fn read_trusted_proxies(reader: &mut Reader) -> Vec<IpNet> {
    let networks = reader.list(
        "PARLOR_TRUSTED_PROXIES",
        "Networks whose addresses connect for many clients",
        "an IP address or a network such as 10.0.0.0/8",
        PRIVATE_NETWORKS,
        parse_network,
    );
    reader.describe_default("loopback, private and link-local networks");
    networks
}

fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "must be an IP address or a network such as 10.0.0.0/8")
}
