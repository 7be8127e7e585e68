//! The terms of the full-text index: words that belong to one organization, as each engine spells them.
//!
//! All organizations share one index. The words of each begin with its own prefix there, so a search reads the entries
//! of its organization only: neither its cost nor its duration depends on the messages of others.
//!
//! FTS5 receives terms with spaces between them and uses its tokenizer `ascii`. That tokenizer splits at ASCII
//! characters other than letters and digits, which no term has, and folds ASCII capitals, which no term has either.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::domain::ids::OrganizationId;

/// The number of characters of a prefix, each of which is five bits of the organization's hash.
///
/// Every stored term has them, so there are not many. Two organizations with the same prefix find their own messages
/// only, like all others, but read each other's entries: of a million organizations, one in a thousand shares its
/// prefix.
const PREFIX_CHARS: usize = 6;
/// The characters of prefixes.
const PREFIX_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The last position of a lexeme in PostgreSQL's `tsvector`.
const MAX_TSVECTOR_POSITION: usize = 16_383;
/// The maximum number of positions of one lexeme in PostgreSQL's `tsvector`.
const MAX_POSITIONS_PER_LEXEME: usize = 255;
/// The maximum size of lexemes and positions in a `tsvector`.
///
/// PostgreSQL allows a mebibyte, overhead included.
const MAX_TSVECTOR_BYTES: usize = 1_000_000;

/// The prefix of an organization's terms: lower-case letters and digits, always the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermPrefix(String);

impl TermPrefix {
    /// Returns the prefix of an organization.
    pub fn new(organization: &OrganizationId) -> Self {
        let hash = Sha256::digest(organization.as_str());
        let characters = hash.iter().take(PREFIX_CHARS).map(|byte| PREFIX_ALPHABET[usize::from(byte >> 3)]);
        Self(characters.map(char::from).collect())
    }

    /// Returns the text that FTS5 indexes for the words.
    pub fn fts5_text(&self, words: &[String]) -> String {
        words.iter().map(|word| format!("{}{word}", self.0)).collect::<Vec<_>>().join(" ")
    }

    /// Returns the text of PostgreSQL's `tsvector` for the words, such as `'…hello':1 '…world':2`.
    ///
    /// Beyond PostgreSQL's limits a word keeps its first positions, a position is at most the last one, and further
    /// words are left out. There, a search for a phrase finds nothing, and a search for one of its words still does.
    pub fn tsvector(&self, words: &[String]) -> String {
        let mut lexemes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut size = 0;
        for (index, word) in words.iter().enumerate() {
            let position = (index + 1).min(MAX_TSVECTOR_POSITION);
            // A lexeme takes its bytes rounded up to an even number, two bytes for the number of positions, and two for
            // each.
            let is_known = lexemes.contains_key(word.as_str());
            let added_bytes = if is_known { 2 } else { self.0.len() + word.len() + 1 + 2 + 2 };
            if size + added_bytes > MAX_TSVECTOR_BYTES {
                break;
            }
            let positions = lexemes.entry(word).or_default();
            if positions.len() < MAX_POSITIONS_PER_LEXEME && positions.last() != Some(&position) {
                positions.push(position);
                size += added_bytes;
            }
        }
        let mut vector = String::new();
        for (word, positions) in lexemes {
            let positions: Vec<_> = positions.iter().map(usize::to_string).collect();
            let separator = if vector.is_empty() { "" } else { " " };
            let _ = write!(vector, "{separator}{}:{}", self.lexeme(word), positions.join(","));
        }
        vector
    }

    /// Returns the term of a word as a string of FTS5's query syntax.
    pub fn fts5_string(&self, word: &str) -> String {
        format!("\"{}{}\"", self.0, word.replace('"', "\"\""))
    }

    /// Returns the term of a word as a quoted lexeme of PostgreSQL's `tsvector` and `tsquery`.
    pub fn lexeme(&self, word: &str) -> String {
        format!("'{}{}'", self.0, word.replace('\\', r"\\").replace('\'', "''"))
    }
}

#[cfg(test)]
impl TermPrefix {
    /// Returns a prefix without characters, for tests of the spelling of terms.
    pub fn empty() -> Self {
        Self(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn each_organization_has_a_prefix_of_its_own_and_of_equal_length() {
        let prefix = |organization: &str| TermPrefix::new(&organization.parse().unwrap()).0;
        assert_eq!(prefix("demo"), prefix("demo"));
        assert_ne!(prefix("demo"), prefix("Demo"));
        for organization in ["demo", "a", "naïve organization", &"x".repeat(255)] {
            let prefix = prefix(organization);
            assert_eq!(prefix.len(), PREFIX_CHARS, "{organization}");
            assert!(prefix.bytes().all(|byte| matches!(byte, b'2'..=b'7' | b'a'..=b'z')), "{prefix}");
        }
    }

    #[test]
    fn terms_begin_with_the_prefix() {
        let prefix = TermPrefix("0f".into());
        assert_eq!(prefix.fts5_text(&words("hello world")), "0fhello 0fworld");
        assert_eq!(prefix.tsvector(&words("hello world")), "'0fhello':1 '0fworld':2");
    }

    #[test]
    fn tsvector_has_each_word_with_its_positions() {
        let prefix = TermPrefix::empty();
        assert_eq!(prefix.tsvector(&words("hello world")), "'hello':1 'world':2");
        assert_eq!(prefix.tsvector(&words("b a b c a")), "'a':2,5 'b':1,3 'c':4");
        assert_eq!(prefix.tsvector(&[]), "");
        assert_eq!(prefix.tsvector(&[r"a'b\c".to_owned()]), r"'a''b\\c':1");
    }

    #[test]
    fn tsvector_stays_within_limits() {
        let tsvector = |words: &[String]| TermPrefix::empty().tsvector(words);
        let repeated = tsvector(&vec!["a".to_owned(); 20_000]);
        assert_eq!(repeated.split(',').count(), 255);
        assert!(repeated.starts_with("'a':1,2,3,") && repeated.ends_with(",255"), "{repeated}");
        let distinct: Vec<_> = (0..20_000).map(|number| number.to_string()).collect();
        let vector = tsvector(&distinct);
        assert!(vector.contains("'16381':16382 ") && vector.contains("'16382':16383 "));
        assert!(vector.contains("'19999':16383 "));
        let mut late = vec!["a".to_owned(); 17_000];
        late[16_390..].fill("b".to_owned());
        assert!(tsvector(&late).ends_with("'b':16383"));
        let long: Vec<_> = (0..20_000).map(|number| format!("{number:064}")).collect();
        assert!(tsvector(&long).len() < 1_500_000);
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        let prefix = TermPrefix("0f".into());
        assert_eq!(prefix.fts5_string("a\"b"), r#""0fa""b""#);
        assert_eq!(prefix.lexeme(r"a'b\c"), r"'0fa''b\\c'");
    }
}
