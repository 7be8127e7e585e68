//! The two steps in which a server stops.

use tokio_util::sync::CancellationToken;

/// The tokens of the steps. Cancelling the second one cancels the first one too.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// The server is about to stop: `/readyz` says so, and everything is still served.
    pub leaving: CancellationToken,
    /// The server stops: it accepts no connections, and the open ones are drained.
    pub stop: CancellationToken,
}

impl Default for Shutdown {
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self { leaving: stop.child_token(), stop }
    }
}
