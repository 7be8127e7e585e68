//! General tools: time limits, resource limits, latencies and tables.

pub mod latency;
pub mod limits;
pub mod machine;
pub mod report;

use std::future::Future;
use std::time::Duration;

/// Any error: a benchmark only prints it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of a fallible step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The default time limit of one step.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a step with a time limit; errors contain its name.
pub async fn within<T>(limit: Duration, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{name}: {error}").into()),
        Err(_) => Err(format!("{name}: not complete after {limit:?}").into()),
    }
}
