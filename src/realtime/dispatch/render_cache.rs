//! What was made of an event for all who asked the same.

use std::sync::Mutex;

use bytestring::ByteString;
use futures_util::future::{BoxFuture, FutureExt, Shared};

use crate::lock::lock;

/// What all who asked the same are told.
#[derive(Debug, Clone)]
pub struct Made {
    pub body: ByteString,
    /// The server could not tell: those who are told so have to ask again.
    pub failed: bool,
}

/// Made once; none where it can't be shared and each has to be asked for themselves. Whoever waits for
/// it drives it, so that nobody waits for another who is slow.
pub type Making = Shared<BoxFuture<'static, Option<Made>>>;

/// An event as all its listeners hold it, with what was made of it so far.
#[derive(Debug)]
pub struct Told<T> {
    pub event: T,
    pub memo: Memo,
}

impl<T> Told<T> {
    pub fn new(event: T) -> Self {
        Self { event, memo: Memo::default() }
    }
}

/// Who asks the same, and from which position in the log.
pub type Key = (u64, i64);

/// Lives and dies with its event. Few ask for different things, so it is a list.
#[derive(Debug, Default)]
pub struct Memo(Mutex<Vec<(Key, Making)>>);

impl Memo {
    /// What was made for these, where that has ended.
    pub fn made(&self, key: Key) -> Option<Option<Made>> {
        let made = lock(&self.0);
        made.iter().find(|(known, _)| *known == key).and_then(|(_, making)| making.peek().cloned())
    }

    /// What was made for these, or is being made; the first to ask begins it.
    pub fn of(&self, key: Key, make: impl FnOnce() -> BoxFuture<'static, Option<Made>>) -> Making {
        let mut made = lock(&self.0);
        if let Some((_, making)) = made.iter().find(|(known, _)| *known == key) {
            return making.clone();
        }
        let making = make().shared();
        made.push((key, making.clone()));
        making
    }
}
