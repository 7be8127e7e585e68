//! The former texts of messages.

use chrono::{DateTime, Utc};

/// The maximum number of former texts that a message keeps.
pub const MAX_REVISIONS: usize = 50;
/// The size beyond which a message drops former texts, in bytes.
pub const MAX_REVISION_BYTES: usize = 256 * 1024;

/// A text that an edit replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The chat's version at which the message got the text.
    pub version: i64,
    pub text: String,
    /// The time at which the text was replaced.
    pub edited_at: DateTime<Utc>,
}

/// The size of a former text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevisionSize {
    pub version: i64,
    pub bytes: usize,
}

/// Returns the former texts that a message drops, so that the rest keeps both limits.
///
/// They are the oldest ones after the original. The original and the newest former text are always kept.
pub fn surplus(oldest_first: &[RevisionSize]) -> &[RevisionSize] {
    let [_, droppable @ .., _] = oldest_first else { return &[] };
    let (mut count, mut bytes) =
        (oldest_first.len(), oldest_first.iter().map(|revision| revision.bytes).sum::<usize>());
    let dropped = droppable.iter().take_while(|revision| {
        let is_surplus = count > MAX_REVISIONS || bytes > MAX_REVISION_BYTES;
        (count, bytes) = (count - 1, bytes - revision.bytes);
        is_surplus
    });
    &droppable[..dropped.count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surplus_of(sizes: &[usize]) -> Vec<i64> {
        let sizes: Vec<_> = (1..).zip(sizes).map(|(version, &bytes)| RevisionSize { version, bytes }).collect();
        surplus(&sizes).iter().map(|revision| revision.version).collect()
    }

    #[test]
    fn oldest_texts_after_the_original_are_surplus() {
        assert!(surplus_of(&[]).is_empty());
        assert!(surplus_of(&[1; MAX_REVISIONS]).is_empty());
        assert_eq!(surplus_of(&[1; MAX_REVISIONS + 1]), [2]);
        assert_eq!(surplus_of(&[1; MAX_REVISIONS + 3]), [2, 3, 4]);
        let third = MAX_REVISION_BYTES / 3;
        assert!(surplus_of(&[third; 3]).is_empty());
        assert_eq!(surplus_of(&[third; 4]), [2]);
        assert_eq!(surplus_of(&[third, 1, 2, third, third]), [2, 3]);
    }

    #[test]
    fn original_and_newest_text_are_kept_whatever_their_size() {
        assert!(surplus_of(&[MAX_REVISION_BYTES * 2]).is_empty());
        assert!(surplus_of(&[MAX_REVISION_BYTES, MAX_REVISION_BYTES]).is_empty());
        assert_eq!(surplus_of(&[MAX_REVISION_BYTES, 1, MAX_REVISION_BYTES]), [2]);
    }
}
