//! What a supervisor and an operator ask.

use std::time::Duration;

use axum::extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::http::HttpState;
use crate::metrics::METRICS;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The process is alive.
pub async fn liveness() -> &'static str {
    "alive\n"
}

/// What the node does, in figures.
pub async fn metrics() -> Response {
    match METRICS.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Requests can be served: the database answers, and the server is not stopping.
pub async fn readiness(extract::State(state): extract::State<HttpState>) -> (StatusCode, &'static str) {
    if state.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let answers = async {
        let mut conn = state.app.database.read().await.ok()?;
        conn.check_alive().await.ok()
    };
    match tokio::time::timeout(Duration::from_secs(5), answers).await {
        Ok(Some(())) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database can't be reached\n"),
    }
}
