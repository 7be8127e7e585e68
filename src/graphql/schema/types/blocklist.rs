use async_graphql::{Enum, SimpleObject};

use crate::domain::blocklist;

/// What becomes of a message with a blocked word.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "blocklist::BlockAction")]
pub enum BlockAction {
    /// It is refused.
    Reject,
    /// The word's letters are shown as asterisks.
    Mask,
}

/// A word that the organisation blocks.
#[derive(SimpleObject)]
pub struct BlockedWord {
    /// The word, in the form in which words are compared: without case and accents.
    word: String,
    /// What becomes of a message with it.
    action: BlockAction,
}

/// A list by its words.
pub fn blocked_words(list: blocklist::Blocklist) -> Vec<BlockedWord> {
    let mut words: Vec<_> = list.0.into_iter().collect();
    words.sort_by(|one, other| one.0.cmp(&other.0));
    words.into_iter().map(|(word, action)| BlockedWord { word, action: action.into() }).collect()
}
