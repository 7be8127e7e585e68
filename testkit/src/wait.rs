//! Waiting for what a background task of the server brings about.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::TIMEOUT;

/// The pause between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until a condition holds.
///
/// `description` completes the failure message "timed out before …".
pub async fn wait_until(description: &str, condition: impl AsyncFn() -> bool) {
    let started_at = Instant::now();
    while !condition().await {
        assert!(started_at.elapsed() < TIMEOUT, "timed out before {description}");
        sleep(CHECK_INTERVAL).await;
    }
}
