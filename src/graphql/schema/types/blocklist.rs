//! The blocklist of an organisation.

use async_graphql::{Enum, SimpleObject};
use unicode_normalization::UnicodeNormalization;

use crate::domain::blocklist;

/// The action for messages that contain a blocked word.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "blocklist::BlockAction")]
pub enum BlockAction {
    /// Rejects the message with `BAD_USER_INPUT`.
    Reject,
    /// Replaces the letters of the word with asterisks.
    Mask,
}

/// A word that an organisation blocks.
#[derive(SimpleObject)]
pub struct BlockedWord {
    /// The word in the form used for comparison, without case and accents.
    word: String,
    /// The action for messages that contain the word.
    action: BlockAction,
}

/// Returns the words of a blocklist, ordered by word.
pub fn blocked_words(blocklist: blocklist::Blocklist) -> Vec<BlockedWord> {
    let word = |(word, action): (String, blocklist::BlockAction)| BlockedWord {
        word: word.nfc().collect(),
        action: action.into(),
    };
    let mut words: Vec<_> = blocklist.0.into_iter().map(word).collect();
    words.sort_by(|one, other| one.word.cmp(&other.word));
    words
}
