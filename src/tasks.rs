//! Background work, and its rule of starting and ending.
//!
//! Every background task of the server belongs to one of two kinds:
//!
//! - **Detached work** ([`spawn_detached`]) has a result that somebody waits for. It runs to its end even when nobody
//!   waits any longer. A panic inside it reaches the waiter as an internal error.
//! - **Loops** have an owner: the component whose state they maintain. The owner's `start` function starts the loop,
//!   and the loop holds the owner by a [`Weak`] reference only, so it never keeps the owner alive. When the last
//!   strong reference to the owner is dropped, the loop ends at its next wake-up. A loop that empties a queue ends
//!   when all senders of the queue are dropped. No handle is kept and no loop is aborted. [`TickLoop`] and
//!   [`tick_while_alive`] implement that rule.
//!
//! A panic inside a loop is printed by the panic hook and ends that loop only: the process and the owner live on,
//! without the work of the loop, until the node restarts. A loop therefore handles each expected failure itself, by a
//! log message and a new attempt, and holds no lock at an await point.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::FutureExt;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};

/// Runs `work` on a task of its own, and returns a future of its result.
///
/// Feeds read the database through this function. A subscriber whose socket accepts no data is not polled for a long
/// time; work that its own task would drive could hold a database connection, or a permit, during all of that time.
///
/// The work starts at once and goes on when the returned future is dropped, so the future is cancel-safe for the work
/// but loses the result.
///
/// # Errors
///
/// The returned future fails with the error of `work`, and with an internal error when `work` panics.
pub fn spawn_detached<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> + Send + 'static {
    let task = tokio::spawn(work.boxed());
    async { task.await.map_err(Error::internal)? }
}

/// Logs a failure of background work as a warning with fields, unless the database is unavailable.
///
/// The log has that condition already, once for all work.
macro_rules! warn_of_failure {
    ($error:expr, $($event:tt)+) => {
        if !$error.is_unavailable() {
            tracing::warn!(error = %$error, $($event)+);
        }
    };
}
pub(crate) use warn_of_failure;

/// Calls `tick` every `period` on a task of its own, until the owner has been dropped.
///
/// The task starts with a pause of one period and ends by itself: see the module documentation.
pub fn tick_while_alive<T: Send + Sync + 'static>(
    owner: &Arc<T>,
    period: Duration,
    tick: impl Fn(&T) + Send + Sync + 'static,
) {
    let ticks = TickLoop::new(owner, Arc::default());
    tokio::spawn(async move {
        while let Some(next) = ticks.next(Wait::For(period)).await {
            tick(&next.owner);
        }
    });
}

/// The pause before the next tick of a [`TickLoop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A pause of this length, which a wake-up doesn't shorten.
    For(Duration),
    /// A pause that ends by a wake-up only.
    UntilWoken,
    /// A pause that ends by a wake-up, at the latest after this time.
    AtMost(Duration),
}

/// One tick of a [`TickLoop`].
#[derive(Debug)]
pub struct Tick<T> {
    /// The owner of the loop. Drop it before the next pause, because the loop must not keep the owner alive.
    pub owner: Arc<T>,
    /// True if a wake-up ended the pause.
    pub was_woken: bool,
}

/// The schedule of a background loop that ends with its owner.
///
/// ```text
/// let mut wait = Wait::UntilWoken;
/// while let Some(tick) = ticks.next(wait).await {
///     wait = if tick.owner.expire() { Wait::For(TICK_INTERVAL) } else { Wait::UntilWoken };
/// }
/// ```
///
/// An owner whose loop uses [`Wait::UntilWoken`] has to notify `wake` when it is dropped, so that the loop ends too.
#[derive(Debug)]
pub struct TickLoop<T> {
    owner: Weak<T>,
    wake: Arc<Notify>,
}

impl<T> TickLoop<T> {
    /// Creates the schedule of a loop that `wake` wakes and that ends with `owner`.
    pub fn new(owner: &Arc<T>, wake: Arc<Notify>) -> Self {
        Self { owner: Arc::downgrade(owner), wake }
    }

    /// Waits for the next tick, and returns `None` when the owner has been dropped.
    ///
    /// # Cancel safety
    ///
    /// This method is not cancel-safe: a dropped call may have consumed a wake-up.
    pub async fn next(&self, wait: Wait) -> Option<Tick<T>> {
        let was_woken = match wait {
            Wait::For(pause) => {
                sleep(pause).await;
                false
            }
            Wait::UntilWoken => {
                self.wake.notified().await;
                true
            }
            Wait::AtMost(pause) => timeout(pause, self.wake.notified()).await.is_ok(),
        };
        Some(Tick { owner: self.owner.upgrade()?, was_woken })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn tick_while_alive_ticks_without_keeping_its_owner_alive() {
        let owner = Arc::new(AtomicUsize::new(0));
        tick_while_alive(&owner, PERIOD, |count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        while owner.load(Ordering::Relaxed) < 3 {
            sleep(PERIOD).await;
        }
        let released = Arc::downgrade(&owner);
        drop(owner);
        assert!(released.upgrade().is_none());
    }

    #[tokio::test]
    async fn tick_loop_reports_why_a_pause_ended() {
        let (owner, wake) = (Arc::new(()), Arc::new(Notify::new()));
        let ticks = TickLoop::new(&owner, wake.clone());
        assert!(!ticks.next(Wait::AtMost(PERIOD)).await.expect("the owner is alive").was_woken);
        wake.notify_one();
        assert!(ticks.next(Wait::AtMost(PERIOD)).await.expect("the owner is alive").was_woken);
    }

    #[tokio::test]
    async fn tick_loop_ends_when_its_owner_is_dropped() {
        let (owner, wake) = (Arc::new(()), Arc::new(Notify::new()));
        let ticks = TickLoop::new(&owner, wake.clone());
        drop(owner);
        wake.notify_one();
        assert!(ticks.next(Wait::UntilWoken).await.is_none());
    }

    #[tokio::test]
    async fn spawn_detached_returns_internal_error_when_work_panics() {
        let result = spawn_detached::<()>(async { panic!("this panic belongs to the test") }).await;
        assert!(matches!(result, Err(Error::Internal(_))));
    }
}
