//! What any load generator needs: processes, limits, latencies, tables.

pub mod latency;
pub mod limits;
pub mod machine;
pub mod report;

use std::future::Future;
use std::time::Duration;

/// Nobody handles a benchmark's errors but its reader.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest that one step may take, unless a caller says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Ends work that takes too long, with an error that names it.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}").into()),
        Err(_) => Err(format!("{what}: not done after {limit:?}").into()),
    }
}
