//! What a supervisor asks.

use std::time::Duration;

use axum::extract;
use axum::http::StatusCode;

use super::State;

/// The process is alive.
pub async fn alive() -> &'static str {
    "alive\n"
}

/// Requests can be served: the database answers, and the server is not stopping.
pub async fn ready(extract::State(state): extract::State<State>) -> (StatusCode, &'static str) {
    if state.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let answers = async {
        let mut conn = state.app.store.read().await.ok()?;
        conn.ping().await.ok()
    };
    match tokio::time::timeout(Duration::from_secs(5), answers).await {
        Ok(Some(())) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database can't be reached\n"),
    }
}
