//! The endpoints for supervisors and operators.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use crate::http::descriptors;
use crate::http::state::HttpState;
use crate::metrics::METRICS;
use crate::storage::readiness;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest time in which the database has to answer a readiness check.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// The step of the start that runs, as `/readyz` reports it.
#[derive(Debug, Clone, Default)]
pub struct StartProgress(Arc<Mutex<Option<&'static str>>>);

impl StartProgress {
    /// Begins a step, such as "migrating the database".
    pub fn begin(&self, step: &'static str) {
        *self.0.lock() = Some(step);
    }
}

/// Reports that the process is alive.
pub async fn liveness() -> &'static str {
    "alive\n"
}

/// Serves the metrics of this node in the OpenMetrics text format.
pub async fn metrics() -> Response {
    METRICS.set_descriptors(descriptors::open_count(), descriptors::limit());
    match METRICS.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "encoding the metrics failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Reports which step of the start runs.
pub async fn starting(Extract(StartProgress(step)): Extract<StartProgress>) -> (StatusCode, String) {
    let step = step.lock().unwrap_or("opening the database");
    (StatusCode::SERVICE_UNAVAILABLE, format!("starting: {step}\n"))
}

/// Reports whether requests can be served.
///
/// They can if the server is not stopping, tokens can be verified, and the database answers and accepts changes.
pub async fn readiness(Extract(state): Extract<Arc<HttpState>>) -> (StatusCode, String) {
    if state.leaving.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".into());
    }
    if !state.app.authenticator.readiness().has_keys {
        return (StatusCode::SERVICE_UNAVAILABLE, "the token keys have not been read yet\n".into());
    }
    let check = readiness::unready_reason(&state.app.database);
    match tokio::time::timeout(DATABASE_TIMEOUT, check).await {
        Ok(None) => (StatusCode::OK, "ready\n".into()),
        Ok(Some(reason)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database doesn't answer\n".into()),
    }
}
