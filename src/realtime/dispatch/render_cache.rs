//! A single-flight cache of the renderings of one event.

use bytestring::ByteString;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;

/// A rendered response, the same for all subscribers of an operation.
#[derive(Debug, Clone)]
pub struct RenderedPayload {
    pub body: ByteString,
    /// The server failed to render the event: the subscription ends, and the client subscribes again.
    pub should_resubscribe: bool,
}

/// A rendering in progress; `None` if it cannot be shared, so that each subscriber renders separately.
///
/// Every subscriber that waits for the future drives it, so that none depends on a slow one.
pub type RenderFuture = Shared<BoxFuture<'static, Option<RenderedPayload>>>;

/// An update that is not part of a chat's log, with the cache of its renderings.
#[derive(Debug)]
pub struct CachedUpdate<T> {
    pub event: T,
    pub render_cache: RenderCache,
}

impl<T> CachedUpdate<T> {
    /// Wraps an update, nothing of which is rendered yet.
    pub fn new(event: T) -> Self {
        Self { event, render_cache: RenderCache::default() }
    }
}

/// The id of the rendered operation, and the version of the log at which subscribers see the event.
pub type RenderKey = (u64, i64);

/// The renderings of one event or update, which live as long as it does.
///
/// The lock protects the list and is held for look-ups only, never while something is rendered. A list suffices, as
/// few different operations subscribe to the same event.
#[derive(Debug, Default)]
pub struct RenderCache(Mutex<Vec<(RenderKey, RenderFuture)>>);

impl RenderCache {
    /// Returns the result for `key` if it is rendered already.
    pub fn get_completed(&self, key: RenderKey) -> Option<Option<RenderedPayload>> {
        let renderings = self.0.lock();
        renderings.iter().find(|(known, _)| *known == key).and_then(|(_, future)| future.peek().cloned())
    }

    /// Returns the rendering for `key`, and calls `render` to start it if this is the first request.
    pub fn get_or_render(
        &self,
        key: RenderKey,
        render: impl FnOnce() -> BoxFuture<'static, Option<RenderedPayload>>,
    ) -> RenderFuture {
        let mut renderings = self.0.lock();
        if let Some((_, future)) = renderings.iter().find(|(known, _)| *known == key) {
            return future.clone();
        }
        let future = render().shared();
        renderings.push((key, future.clone()));
        future
    }
}
