//! Listening, and stopping in order.

use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{State, router};
use crate::app::App;
use crate::graphql::Api;

/// Serves on a listener until `stop` says so; then no connection is taken, sockets are told to come
/// back elsewhere, and what is under way gets its time to end.
pub async fn run(listener: TcpListener, app: Arc<App>, stop: CancellationToken) -> std::io::Result<()> {
    if app.config.is_development() && !super::graphiql::is_built() {
        tracing::warn!("GraphiQL was not built into this binary: its page loads from a CDN");
    }
    let state = State {
        api: Arc::new(Api::new(app.clone())),
        app: app.clone(),
        stop: stop.clone(),
        sockets: TaskTracker::new(),
    };
    let sockets = state.sockets.clone();
    let patience = app.config.http.shutdown;
    // Small frames go out at once: an answer must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
    });
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(stop.clone().cancelled_owned());
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
    app.presence.close(&app.store).await;
    app.store.close();
    Ok(())
}
