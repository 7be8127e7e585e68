//! The server: listens, and stops in an orderly way.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::http::state::HttpState;
use crate::http::tcp_stream::{SharedTcpWriter, TunedListener};
use crate::http::{graphiql, health, router};

/// The shortest time that open requests get when the configured times are zero.
const MIN_SHUTDOWN_TIME: Duration = Duration::from_millis(100);

/// Serves the connections of a listener until `stop` is cancelled, then drains them.
///
/// A stop has these steps: no connection is accepted; WebSockets and event streams close over the drain
/// period, so that their clients reconnect to other nodes; running requests get the shutdown timeout to end; and
/// the presence of this node's users, its departure and the database are flushed.
///
/// # Errors
///
/// Returns the I/O error if the metrics address cannot be bound or the listener fails.
pub async fn run(listener: TcpListener, state: HttpState) -> std::io::Result<()> {
    let HttpState { app, settings, stop, .. } = state.clone();
    if settings.serves_graphiql && !graphiql::is_built() {
        tracing::warn!("GraphiQL was not built into this binary: its page loads from a CDN");
    }
    let sockets = state.sockets.clone();
    let shutdown_time = settings.drain_period + settings.shutdown_timeout;
    let listener = TunedListener { listener, write_timeout: settings.socket_write_timeout };
    let service = router::router(state).into_make_service_with_connect_info::<SharedTcpWriter>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let metrics = serve_metrics(settings.metrics_addr, stop.clone()).await?;
    let served = async {
        serving.await?;
        sockets.close();
        sockets.wait().await;
        Ok::<_, std::io::Error>(())
    };
    let timed_out = async {
        stop.cancelled().await;
        tokio::time::sleep(shutdown_time.max(MIN_SHUTDOWN_TIME)).await;
    };
    tokio::select! {
        served = served => served?,
        () = timed_out => tracing::warn!("the shutdown timed out with requests or sockets still open"),
    }
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    app.presence.shutdown(&app.database).await;
    app.publisher.announce_shutdown().await;
    app.database.close();
    Ok(())
}

/// Serves `/metrics` on the address that is configured for it, if any.
///
/// The address is separate from the API's, because only the operator may read the metrics.
///
/// The task ends with `stop`, and [`run`] aborts it at the latest. If it panics, metrics are unavailable and
/// nothing else is affected.
async fn serve_metrics(addr: Option<SocketAddr>, stop: CancellationToken) -> std::io::Result<Option<AbortHandle>> {
    let Some(addr) = addr else {
        return Ok(None);
    };
    let listener = TcpListener::bind(addr).await?;
    println!("Metrics are at http://{}/metrics", listener.local_addr()?);
    let router = Router::new().route("/metrics", get(health::metrics));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the metrics endpoint failed");
        }
    });
    Ok(Some(task.abort_handle()))
}
