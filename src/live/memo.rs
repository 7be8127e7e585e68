//! What was made of an event for all who asked the same.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

/// Made once; none where it can't be shared and each has to be asked for themselves.
pub type Shared = Arc<OnceCell<Option<Bytes>>>;

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

/// Lives and dies with its event. Few ask for different things, so it is a list.
#[derive(Debug, Default)]
pub struct Memo(Mutex<Vec<(Key, Shared)>>);

/// Who asks the same, and from which position in the log.
pub type Key = (u64, i64);

impl Memo {
    pub fn of(&self, key: Key) -> Shared {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shared)) = made.iter().find(|(known, _)| *known == key) {
            return shared.clone();
        }
        let shared = Shared::default();
        made.push((key, shared.clone()));
        shared
    }
}
