//! Listening, and stopping in order.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::http::tcp_stream::{SharedTcpWriter, TunedListener};
use crate::http::{HttpState, health, router};
use crate::service::context::AppContext;

/// Serves on a listener until `stop` says so; then no connection is taken, sockets are told to come
/// back elsewhere, and what is under way gets its time to end.
pub async fn run(listener: TcpListener, app: Arc<AppContext>, stop: CancellationToken) -> std::io::Result<()> {
    if app.config.is_development() && !crate::http::graphiql::is_built() {
        tracing::warn!("GraphiQL was not built into this binary: its page loads from a CDN");
    }
    let state = HttpState::new(app.clone(), stop.clone());
    let sockets = state.sockets.clone();
    let patience = app.config.http.drain_period + app.config.http.shutdown_timeout;
    let wires = TunedListener { listener, write_timeout: app.config.http.socket_write_timeout };
    let service = router(state).into_make_service_with_connect_info::<SharedTcpWriter>();
    let serving = axum::serve(wires, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let metrics = serve_metrics(&app, stop.clone()).await?;
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
    app.presence.shutdown(&app.database).await;
    app.publisher.announce_shutdown().await;
    app.database.close();
    Ok(())
}

/// Serves `/metrics` on an address of its own, where one is set: it is nobody's but the operator's.
async fn serve_metrics(app: &AppContext, stop: CancellationToken) -> std::io::Result<Option<AbortHandle>> {
    let Some(addr) = app.config.http.metrics_addr else {
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
