//! Words that an organisation doesn't want to read.

use std::collections::HashMap;

use strum::{EnumString, IntoStaticStr};

use crate::domain::search;
use crate::error::{Error, Result};

/// What becomes of a message with a blocked word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BlockAction {
    /// It is refused.
    Reject,
    /// The word's letters are shown as asterisks.
    Mask,
}

/// Words of one list.
pub const MAX_WORDS: usize = 1_000;
/// Longest word, in characters.
pub const MAX_WORD_CHARS: usize = 64;

/// The blocked words of one organisation, in the form in which words are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocklist(pub HashMap<String, BlockAction>);

/// One word for a list, in the form in which words are compared.
pub fn normalize_word(text: &str) -> Result<String> {
    // Counted before it is compared, for which a long word is cut.
    let is_short = text.trim().chars().count() <= MAX_WORD_CHARS;
    let mut words = search::words(text).into_iter();
    match (words.next(), words.next()) {
        (Some(word), None) if is_short => Ok(word),
        _ => Err(Error::bad_input("words", format!("must each be one word of at most {MAX_WORD_CHARS} characters"))),
    }
}

impl Blocklist {
    /// The text as it may be sent: refused, or its blocked words masked.
    pub fn apply(&self, field: &'static str, text: String) -> Result<String> {
        if self.0.is_empty() {
            return Ok(text);
        }
        let found: Vec<_> =
            search::word_ranges(&text).filter_map(|(span, word)| Some((span, *self.0.get(&word)?))).collect();
        if found.iter().any(|(_, action)| *action == BlockAction::Reject) {
            return Err(Error::bad_input(field, "has a word that this organisation blocks"));
        }
        let mut passed = text;
        // From the end, so that what is before keeps its place.
        for (span, _) in found.into_iter().rev() {
            let stars = "*".repeat(passed[span.clone()].chars().count());
            passed.replace_range(span, &stars);
        }
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_words_are_masked_or_refuse_the_text() {
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
