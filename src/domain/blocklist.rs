//! Words that an organisation blocks in messages.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use strum::{EnumString, IntoStaticStr};
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::characters::is_blank;
use crate::domain::markdown::plain_text;
use crate::domain::search::tokens::{Token, merge_overlapping, tokens};
use crate::domain::text;
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

/// The number of times that a text may show another blocked word after one was masked.
const MAX_MASKINGS: usize = 4;

/// The characters of Markdown that can be inside a word without being shown.
const MARKUP_IN_WORDS: [char; 7] = ['*', '_', '~', '`', '[', ']', '\\'];

/// The blocked words of one organisation, in the form in which searches compare words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blocklist(pub BTreeMap<String, BlockAction>);

/// Returns a word for a list in the form in which searches compare words.
///
/// In scripts without spaces, several letters are a word of a list, and so are letters of different scripts in a row.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not one word of at most [`MAX_WORD_CHARS`] characters, or has
/// characters that would be ignored.
pub fn normalize_word(text: &str) -> Result<String> {
    // Counted in the original text, because long words are cut off for the comparison.
    let text = text::validate_line("words", text, MAX_WORD_CHARS)?;
    let tokens = tokens(&text);
    let is_one_word = tokens.iter().skip(1).all(|token| token.follows);
    let covered = tokens.first().zip(tokens.last()).map(|(first, last)| first.range.start..last.range.end);
    match is_one_word && covered == Some(0..text.len()) {
        true => Ok(tokens.into_iter().map(|token| token.word).collect()),
        false => Err(Error::bad_input(
            "words",
            format!(
                "must each be a single word of letters, digits and emoji with at most {MAX_WORD_CHARS} characters, \
                 unlike \"{text}\""
            ),
        )),
    }
}

/// Returns a word of a stored list in the form in which searches compare words now.
pub fn normalize_stored(word: &str) -> String {
    tokens(word).into_iter().map(|token| token.word).collect()
}

/// A blocked word in a text.
struct Found {
    range: Range<usize>,
    action: BlockAction,
}

impl Blocklist {
    /// Adds a stored word; of two actions for one word, the stricter counts.
    pub fn insert_stored(&mut self, word: &str, action: BlockAction) {
        let word = normalize_stored(word);
        if word.is_empty() {
            return;
        }
        let action = if self.0.get(&word) == Some(&BlockAction::Reject) { BlockAction::Reject } else { action };
        self.0.insert(word, action);
    }

    /// Returns a text that is shown as it is, with its blocked words masked.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the text has a word that rejects the message.
    pub fn apply_to_line(&self, field: &'static str, text: String) -> Result<String> {
        let found = self.find(&text);
        reject(field, &text, &found)?;
        Ok(mask(text, found))
    }

    /// Returns a text in Markdown with its blocked words masked.
    ///
    /// It checks the text as it is shown too. A text whose markup hides a word that is to be masked loses its markup.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the text has or shows a word that rejects the message.
    pub fn apply_to_markdown(&self, field: &'static str, text: String) -> Result<String> {
        if self.0.is_empty() {
            return Ok(text);
        }
        let mut text = self.apply_to_line(field, text)?;
        for _ in 0..MAX_MASKINGS {
            if !text.contains(MARKUP_IN_WORDS) {
                return Ok(text);
            }
            let shown = plain_text(&text);
            let found = self.find(&shown);
            if found.is_empty() {
                return Ok(text);
            }
            reject(field, &shown, &found)?;
            text = mask(shown, found);
        }
        Err(Error::bad_input(field, "must not hide words that the organisation blocks in markup"))
    }

    /// Returns the blocked words of a text, in the order of their beginnings.
    fn find(&self, text: &str) -> Vec<Found> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let tokens = tokens(text);
        (0..tokens.len()).flat_map(|start| self.find_at(&tokens[start..])).collect()
    }

    /// Returns the blocked words that begin with the first of some tokens.
    fn find_at(&self, tokens: &[Token]) -> Vec<Found> {
        let (mut found, mut word) = (Vec::new(), String::new());
        for (index, token) in tokens.iter().enumerate() {
            if index > 0 && !token.follows {
                break;
            }
            word += &token.word;
            // Most words begin no word of the list, so that few tokens are looked at more than once.
            match self.0.range::<str, _>((Bound::Included(&*word), Bound::Unbounded)).next() {
                Some((blocked, action)) if *blocked == word => {
                    found.push(Found { range: tokens[0].range.start..token.range.end, action: *action });
                }
                Some((blocked, _)) if blocked.starts_with(&word) => {}
                _ => break,
            }
        }
        found
    }
}

/// Returns an error if one of the words that were found in a text rejects it.
fn reject(field: &'static str, text: &str, found: &[Found]) -> Result<()> {
    match found.iter().find(|found| found.action == BlockAction::Reject) {
        Some(Found { range, .. }) => {
            let word = &text[range.clone()];
            Err(Error::bad_input(field, format!("must not contain \"{word}\", a word that the organisation blocks")))
        }
        None => Ok(()),
    }
}

/// Returns a text with an asterisk for each visible character of the words that were found in it.
fn mask(mut text: String, found: Vec<Found>) -> String {
    let ranges = merge_overlapping(found.into_iter().map(|found| found.range));
    // From the end, so that the earlier ranges stay valid.
    for range in ranges.into_iter().rev() {
        let visible = text[range.clone()].graphemes(true).filter(|grapheme| !is_blank(grapheme)).count();
        text.replace_range(range, &"*".repeat(visible));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[(&str, BlockAction)]) -> Blocklist {
        Blocklist(words.iter().map(|(word, action)| (normalize_word(word).unwrap(), *action)).collect())
    }

    #[test]
    fn blocked_word_is_masked_or_rejects_the_text() {
        let list = list(&[("damn", BlockAction::Mask), ("spam", BlockAction::Reject)]);
        let apply = |text: &str| list.apply_to_line("text", text.into());
        assert_eq!(apply("Damn! dämn, undamned").unwrap(), "****! ****, undamned");
        let error = apply("buy SPÄM").unwrap_err();
        assert_eq!(error.code(), "BAD_USER_INPUT");
        assert_eq!(error.to_string(), "text must not contain \"SPÄM\", a word that the organisation blocks");
    }

    #[test]
    fn shown_text_is_checked_without_invisible_characters_and_markup() {
        let rejecting = list(&[("damn", BlockAction::Reject)]);
        for text in [
            "da\u{200b}mn",
            "da\u{ad}mn",
            "d\u{2060}a\u{200d}m\u{feff}n",
            "DA\u{301}MN",
            "da**m**n",
            "**da**mn",
            "d*a*`mn`",
            "[da](https://a.example/)mn",
            "~~da~~mn",
            "ｄａｍｎ",
            "𝐝𝐚𝐦𝐧",
        ] {
            assert!(rejecting.apply_to_markdown("text", text.into()).is_err(), "{text:?}");
        }
        for text in ["da mn", "da\\mn", "da&#109;n", "damned", "da*mn", "da-mn", "d_a_m_n", "da\nmn"] {
            assert_eq!(rejecting.apply_to_markdown("text", text.into()).unwrap(), text);
        }
        let masking = list(&[("damn", BlockAction::Mask)]);
        let mask = |text: &str| masking.apply_to_markdown("text", text.into()).unwrap();
        assert_eq!(mask("da\u{200b}mn it"), "**** it");
        assert_eq!(mask("**very** damn"), "**very** ****");
        let hidden = mask("**very** da**m**n");
        assert!(hidden.contains("very ****") && !plain_text(&hidden).contains("damn"), "{hidden}");
        assert_eq!(masking.apply_to_line("poll.options", "da**m**n".into()).unwrap(), "da**m**n");
    }

    #[test]
    fn words_of_scripts_without_spaces_are_blocked_inside_text() {
        let list = list(&[
            ("傻逼", BlockAction::Mask),
            ("바보", BlockAction::Mask),
            ("バカ", BlockAction::Mask),
            ("傻b", BlockAction::Mask),
            ("🖕", BlockAction::Mask),
            ("逼人", BlockAction::Mask),
        ]);
        for (text, masked) in [
            ("你傻逼吗", "你**吗"),
            ("傻\u{200b}逼", "**"),
            ("傻逼人", "***"),
            ("傻。逼", "傻。逼"),
            ("傻", "傻"),
            ("이바보야 바보", "이**야 **"),
            ("このﾊﾞｶめ ばか", "この**め **"),
            ("傻B 傻big", "** 傻big"),
            ("🖕🏽!", "*!"),
        ] {
            assert_eq!(list.apply_to_line("text", text.into()).unwrap(), masked, "{text:?}");
        }
    }

    #[test]
    fn word_of_a_list_has_no_other_characters_than_letters_digits_and_emoji() {
        for (word, normalized) in
            [(" Dämn ", "damn"), ("傻逼", "傻逼"), ("Straße", "strasse"), ("傻B", "傻b"), ("50", "50"), ("🖕", "🖕")]
        {
            assert_eq!(normalize_word(word).unwrap(), normalized);
        }
        for word in ["two words", "…", "a$$", "$a", "a.b", "wi-fi", "傻 逼", "*", ""] {
            assert!(normalize_word(word).is_err(), "{word:?}");
        }
        assert_eq!(
            normalize_word("a$$").unwrap_err().to_string(),
            "words must each be a single word of letters, digits and emoji with at most 64 characters, unlike \"a$$\""
        );
        assert!(normalize_word(&"ü".repeat(64)).is_ok());
        assert!(normalize_word(&"ü".repeat(65)).is_err());
    }

    #[test]
    fn stored_word_of_an_earlier_form_is_still_blocked() {
        let mut list = Blocklist::default();
        list.insert_stored("straße", BlockAction::Reject);
        list.insert_stored("strasse", BlockAction::Mask);
        assert_eq!(list.0, [("strasse".to_owned(), BlockAction::Reject)].into());
    }
}
