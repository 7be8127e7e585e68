//! Attacks by connections that send no request.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Target, require};
use crate::tools::Result;

/// The time within which the server must end a connection without a request.
const MAX_SILENCE: Duration = Duration::from_secs(40);

/// Connections that never send a byte.
pub async fn silent_connections(target: &Target) -> Result<String> {
    hold_connections(target, 2_000, b"").await
}

/// Requests whose heads are large and never end.
pub async fn unfinished_heads(target: &Target) -> Result<String> {
    let head = format!("GET /graphql HTTP/1.1\r\nHost: parlor\r\nX-Padding: {}", "x".repeat(390_000));
    hold_connections(target, 500, head.as_bytes()).await
}

/// Opens connections, sends the same bytes on each, and waits until the server has ended all of them.
async fn hold_connections(target: &Target, count: usize, bytes: &[u8]) -> Result<String> {
    let mut connections = Vec::new();
    for _ in 0..target.scaled(count) {
        let mut stream = TcpStream::connect(target.address).await?;
        // The server may end the connection while the head is still being sent.
        drop(timeout(Duration::from_millis(100), stream.write_all(bytes)).await);
        connections.push(stream);
    }
    let start = Instant::now();
    for mut stream in connections {
        let end = async {
            let mut buffer = [0; 1_024];
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        };
        let is_ended = timeout(MAX_SILENCE.saturating_sub(start.elapsed()), end).await.is_ok();
        require(is_ended, || format!("a connection is open after {MAX_SILENCE:?}"))?;
    }
    Ok(format!("all ended within {:.0} s", start.elapsed().as_secs_f64()))
}
