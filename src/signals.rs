//! The signals that a supervisor sends to the process.
//!
//! | signal | effect |
//! |---|---|
//! | SIGTERM, SIGINT | stops the server after `PARLOR_STOP_DELAY_SECONDS`; a second one stops it at once |
//! | SIGHUP | reads the token keys again |
//! | SIGXFSZ | none: a write beyond the limit of file size fails like any other one |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal as SignalName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::http::shutdown::Shutdown;

/// The handlers of the signals, which are in effect from their installation to the end of the process.
///
/// Without a handler, the first process of a container ignores SIGTERM, and the other signals end any process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    file_size_limit: Signal,
}

impl Signals {
    /// Installs the handlers. Signals that arrive before [`Self::handle`] is called are handled then.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            file_size_limit: signal(SignalKind::from_raw(SignalName::XFSZ.as_raw()))?,
        })
    }

    /// Starts the task that handles the signals, which ends with the runtime.
    ///
    /// SIGHUP notifies `reload`. If the task panics, signals have no effect any longer.
    pub fn handle(mut self, shutdown: Shutdown, stop_delay: Duration, reload: Arc<Notify>) {
        tokio::spawn(async move {
            self.wait_for_stop(&reload).await;
            tracing::info!("stopping");
            shutdown.leaving.cancel();
            tokio::select! {
                () = sleep(stop_delay) => {}
                () = self.wait_for_stop(&reload) => tracing::info!("stopping at once"),
            }
            shutdown.stop.cancel();
            // The handlers stay in effect: another signal does not interrupt the drain.
        });
    }

    /// Waits for a signal to stop, and handles the other ones. It is cancel-safe.
    async fn wait_for_stop(&mut self, reload: &Notify) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload.notify_one(),
                _ = self.file_size_limit.recv() => {
                    tracing::error!("a file reached the limit of file size (ulimit -f)");
                }
            }
        }
    }
}
