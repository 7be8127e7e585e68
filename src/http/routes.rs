//! The routes of a listener, which change once: when the server has started.

use std::sync::OnceLock;

use axum::Router;

/// The routes that are served during the start, and those that replace them after it.
pub struct Routes {
    starting: Router,
    started: OnceLock<Router>,
}

impl Routes {
    /// Creates routes that are served until [`Self::replace`] is called.
    pub fn new(starting: Router) -> Self {
        Self { starting, started: OnceLock::new() }
    }

    /// Serves other routes from now on, on open connections too. Only the first call has an effect.
    pub fn replace(&self, routes: Router) {
        // The routes are set already if there was a call before.
        let _ = self.started.set(routes);
    }

    /// Returns the routes of the next request.
    pub fn current(&self) -> Router {
        self.started.get().unwrap_or(&self.starting).clone()
    }
}
