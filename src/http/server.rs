//! Listening, and stopping in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{State, health, router};
use crate::app::App;

/// Bytes that the kernel takes for one connection (`SO_SNDBUF`; it doubles them for its own use).
const SEND_BUFFER: usize = 32 * 1024;
/// How much longer than `PARLOR_SOCKET_WRITE_SECONDS` what was sent may stay without an acknowledgement
/// (`TCP_USER_TIMEOUT`, RFC 5482): one who takes nothing is there yet, and is told why first.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Serves on a listener until `stop` says so; then no connection is taken, sockets are told to come
/// back elsewhere, and what is under way gets its time to end.
pub async fn run(listener: TcpListener, app: Arc<App>, stop: CancellationToken) -> std::io::Result<()> {
    if app.config.is_development() && !super::graphiql::is_built() {
        tracing::warn!("GraphiQL was not built into this binary: its page loads from a CDN");
    }
    let state = State::new(app.clone(), stop.clone());
    let sockets = state.sockets.clone();
    let patience = app.config.http.drain + app.config.http.shutdown;
    let write_patience = app.config.http.socket_write;
    let listener = listener.tap_io(move |stream| {
        if let Err(error) = tune(stream, write_patience) {
            tracing::debug!(%error, "a connection's options can't be set");
        }
    });
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let metrics = metrics(&app, stop.clone()).await?;
    let served = async {
        serving.await?;
        sockets.close();
        sockets.wait().await;
        Ok::<_, std::io::Error>(())
    };
    let ended = async {
        stop.cancelled().await;
        tokio::time::sleep(patience.max(Duration::from_millis(100))).await;
    };
    tokio::select! {
        served = served => served?,
        () = ended => tracing::warn!("requests or sockets were still open at the end of the time to stop"),
    }
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    app.presence.close(&app.store).await;
    app.bus.leave().await;
    app.store.close();
    Ok(())
}

/// Serves `/metrics` on an address of its own, where one is set: it is nobody's but the operator's.
async fn metrics(app: &App, stop: CancellationToken) -> std::io::Result<Option<AbortHandle>> {
    let Some(addr) = app.config.http.metrics else {
        return Ok(None);
    };
    let listener = TcpListener::bind(addr).await?;
    println!("Metrics are at http://{}/metrics", listener.local_addr()?);
    let router = Router::new().route("/metrics", get(health::metrics));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "metrics can be read no more");
        }
    });
    Ok(Some(task.abort_handle()))
}

/// Small frames go out at once: an answer must not wait for the acknowledgement of the one before. What
/// the kernel buffers for one who takes nothing is bounded, so that it is felt; and one who has gone
/// without a word is noticed.
fn tune(stream: &TcpStream, write_patience: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(write_patience + UNACKNOWLEDGED))?;
    #[cfg(not(target_os = "linux"))]
    let _ = write_patience;
    Ok(())
}
