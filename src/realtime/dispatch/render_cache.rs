//! What was made of an event for all who asked the same.

use parking_lot::Mutex;

use bytestring::ByteString;
use futures_util::future::{BoxFuture, FutureExt, Shared};

/// What all who asked the same are told.
#[derive(Debug, Clone)]
pub struct RenderedPayload {
    pub body: ByteString,
    /// The server could not tell: those who are told so have to ask again.
    pub should_resubscribe: bool,
}

/// Made once; none where it can't be shared and each has to be asked for themselves. Whoever waits for
/// it drives it, so that nobody waits for another who is slow.
pub type RenderFuture = Shared<BoxFuture<'static, Option<RenderedPayload>>>;

/// An event as all its listeners hold it, with what was made of it so far.
#[derive(Debug)]
pub struct CachedUpdate<T> {
    pub event: T,
    pub render_cache: RenderCache,
}

impl<T> CachedUpdate<T> {
    pub fn new(event: T) -> Self {
        Self { event, render_cache: RenderCache::default() }
    }
}

/// Who asks the same, and from which position in the log.
pub type RenderKey = (u64, i64);

/// Lives and dies with its event. Few ask for different things, so it is a list.
#[derive(Debug, Default)]
pub struct RenderCache(Mutex<Vec<(RenderKey, RenderFuture)>>);

impl RenderCache {
    /// What was made for these, where that has ended.
    pub fn get_completed(&self, key: RenderKey) -> Option<Option<RenderedPayload>> {
        let made = self.0.lock();
        made.iter().find(|(known, _)| *known == key).and_then(|(_, making)| making.peek().cloned())
    }

    /// What was made for these, or is being made; the first to ask begins it.
    pub fn get_or_render(
        &self,
        key: RenderKey,
        make: impl FnOnce() -> BoxFuture<'static, Option<RenderedPayload>>,
    ) -> RenderFuture {
        let mut made = self.0.lock();
        if let Some((_, making)) = made.iter().find(|(known, _)| *known == key) {
            return making.clone();
        }
        let making = make().shared();
        made.push((key, making.clone()));
        making
    }
}
