//! Words that an organisation blocks in messages.

use std::collections::HashMap;

use strum::{EnumString, IntoStaticStr};

use crate::domain::{search, text};
use crate::error::{Error, Result};

/// The effect of a blocked word on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BlockAction {
    /// The message is rejected.
    Reject,
    /// Each character of the word is replaced by an asterisk.
    Mask,
}

/// The maximum number of words in one list.
pub const MAX_WORDS: usize = 1_000;
/// The maximum length of a word, in characters.
pub const MAX_WORD_CHARS: usize = 64;

/// The blocked words of one organisation, in the form in which [`search`] compares words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocklist(pub HashMap<String, BlockAction>);

/// Returns a word for a list in the form in which [`search`] compares words.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not one word of at most [`MAX_WORD_CHARS`] characters.
pub fn normalize_word(text: &str) -> Result<String> {
    // Counted in the original text, because `search` truncates long words.
    let text = text::validate_line("words", text, MAX_WORD_CHARS)?;
    let mut words = search::words(&text).into_iter();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        _ => {
            Err(Error::bad_input("words", format!("must each be a single word of at most {MAX_WORD_CHARS} characters")))
        }
    }
}

impl Blocklist {
    /// Returns the text with its blocked words masked.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the text has a word that rejects the message.
    pub fn apply(&self, field: &'static str, text: String) -> Result<String> {
        if self.0.is_empty() {
            return Ok(text);
        }
        let found: Vec<_> =
            search::word_ranges(&text).filter_map(|(range, word)| Some((range, *self.0.get(&word)?))).collect();
        if found.iter().any(|(_, action)| *action == BlockAction::Reject) {
            return Err(Error::bad_input(field, "contains a word that this organisation blocks"));
        }
        let mut masked = text;
        // From the end, so that the earlier ranges stay valid.
        for (range, _) in found.into_iter().rev() {
            let asterisks = "*".repeat(masked[range.clone()].chars().count());
            masked.replace_range(range, &asterisks);
        }
        Ok(masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_word_is_masked_or_rejects_the_text() {
        let list = Blocklist([("damn".into(), BlockAction::Mask), ("spam".into(), BlockAction::Reject)].into());
        assert_eq!(list.apply("text", "Damn! dämn, undamned".into()).unwrap(), "****! ****, undamned");
        assert_eq!(list.apply("text", "buy SPAM".into()).unwrap_err().code(), "BAD_USER_INPUT");
        assert_eq!(normalize_word(" Dämn ").unwrap(), "damn");
        assert!(normalize_word("two words").is_err());
        assert!(normalize_word("…").is_err());
        assert!(normalize_word(&"ü".repeat(64)).is_ok());
        assert!(normalize_word(&"ü".repeat(65)).is_err());
    }
}
