//! The state that every handler shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::graphql::api::GraphqlService;
use crate::http::settings::HttpSettings;
use crate::http::shutdown::Shutdown;
use crate::service::context::AppContext;

/// The components that handlers use.
pub struct HttpState {
    pub app: Arc<AppContext>,
    pub api: Arc<GraphqlService>,
    pub settings: HttpSettings,
    /// Cancelled when the server is about to stop, and still serves everything.
    pub leaving: CancellationToken,
    /// Cancelled when the server begins to stop.
    pub stop: CancellationToken,
    /// The tasks of open WebSockets, which a stop waits for.
    pub sockets: TaskTracker,
    drain_slots: AtomicU64,
}

impl HttpState {
    /// Creates the state of a server without connections.
    pub fn new(
        app: Arc<AppContext>,
        api: Arc<GraphqlService>,
        settings: HttpSettings,
        Shutdown { leaving, stop }: Shutdown,
    ) -> Self {
        Self { app, api, settings, leaving, stop, sockets: TaskTracker::new(), drain_slots: AtomicU64::new(0) }
    }

    /// Returns the fraction of the drain period, 0 to 1, after which one connection closes.
    ///
    /// Connections must not close all at once, so that their clients do not reconnect all at once. The multiples
    /// of the golden ratio are evenly distributed, whatever the number of connections is.
    pub fn next_drain_fraction(&self) -> f64 {
        const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
        let number = self.drain_slots.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        (number as f64 * GOLDEN_RATIO).fract()
    }
}
