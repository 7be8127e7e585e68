//! The endpoints for supervisors and operators.

use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::http::state::HttpState;
use crate::metrics::METRICS;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest time in which the database has to answer a readiness check.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reports that the process is alive.
pub async fn liveness() -> &'static str {
    "alive\n"
}

/// Serves the metrics of this node in the OpenMetrics text format.
pub async fn metrics() -> Response {
    match METRICS.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "encoding the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reports whether requests can be served: the server is not stopping, and the database answers.
pub async fn readiness(Extract(state): Extract<HttpState>) -> (StatusCode, &'static str) {
    if state.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let check = async {
        let mut conn = state.app.database.read().await.ok()?;
        conn.check_alive().await.ok()
    };
    match tokio::time::timeout(DATABASE_TIMEOUT, check).await {
        Ok(Some(())) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database can't be reached\n"),
    }
}
