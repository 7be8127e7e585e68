//! The task that checks whether the replica of the database can serve reads.

use std::sync::Arc;
use std::time::Duration;

use crate::service::context::AppContext;
use crate::tasks::{TickLoop, Wait, warn_of_failure};

/// The pause between two checks of the replica.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Starts the task that checks the replica, if there is one.
///
/// The task ends when the context is dropped: see [`tasks`](crate::tasks). After a panic in it, a replica that fails is
/// not used again until the server starts.
pub fn start_checks(app: &Arc<AppContext>) {
    if !app.database.has_replica() {
        return;
    }
    let ticks = TickLoop::new(app, Arc::default());
    tokio::spawn(async move {
        let mut wait = Wait::For(Duration::ZERO);
        while let Some(tick) = ticks.next(wait).await {
            if let Err(error) = tick.owner.database.check_replica().await {
                warn_of_failure!(error, "could not compare the replica with the database; will try again");
            }
            wait = Wait::For(CHECK_INTERVAL);
        }
    });
}
