//! Reactions: a set of (person, emoji) on a message.

use crate::error::{Error, Result};

/// Different emoji on one message.
pub const MAX_EMOJI_PER_MESSAGE: usize = 20;

/// How often one emoji was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: i64,
}

/// One emoji of the Unicode standard, in its fully qualified spelling, so that the two spellings of
/// a heart are one reaction.
pub fn normalize_emoji(text: &str) -> Result<&'static str> {
    let emoji =
        emojis::get(text).ok_or_else(|| Error::bad_input("emoji", "must be one emoji of the Unicode standard"))?;
    Ok(emoji.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_emoji_has_one_spelling() {
        assert_eq!(normalize_emoji("\u{2764}").unwrap(), "\u{2764}\u{fe0f}");
        assert_eq!(normalize_emoji("👍🏽").unwrap(), "👍🏽");
        for bad in ["", "a", "👍👍", "👍 ", ":+1:", "\0"] {
            assert!(normalize_emoji(bad).is_err(), "{bad:?}");
        }
    }
}
