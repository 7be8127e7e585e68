//! Reactions: a set of pairs of user and emoji on a message.

use crate::error::{Error, Result};

/// The maximum number of different emoji on one message.
pub const MAX_EMOJI_PER_MESSAGE: usize = 20;

/// The number of reactions with one emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionCount {
    pub emoji: String,
    pub count: i64,
}

/// Returns the fully qualified form of an emoji, so that both forms of a heart are the same reaction.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not one emoji of the Unicode standard.
pub fn normalize_emoji(text: &str) -> Result<&'static str> {
    let emoji =
        emojis::get(text).ok_or_else(|| Error::bad_input("emoji", "must be one emoji of the Unicode standard"))?;
    Ok(emoji.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_is_normalized_to_its_fully_qualified_form() {
        assert_eq!(normalize_emoji("\u{2764}").unwrap(), "\u{2764}\u{fe0f}");
        assert_eq!(normalize_emoji("👍🏽").unwrap(), "👍🏽");
        for bad in ["", "a", "👍👍", "👍 ", ":+1:", "\0"] {
            assert!(normalize_emoji(bad).is_err(), "{bad:?}");
        }
    }
}
