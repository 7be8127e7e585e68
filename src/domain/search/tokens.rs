//! The words of a text.
//!
//! A word is a sequence of letters and digits between other characters. In scripts that write no spaces between words,
//! each letter is a word, and the index has pairs of them: so a search finds every part of a sentence, and reads few
//! entries. An emoji is a word too.

use std::ops::Range;

use icu_properties::props::{ExtendedPictographic, RegionalIndicator, Script};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::char::is_combining_mark;

use crate::domain::characters::ENCLOSING_KEYCAP;
use crate::domain::search::folding::FoldedText;

/// The number of bytes of a word that are compared.
///
/// The rest of a longer word is ignored.
const MAX_WORD_BYTES: usize = 64;
/// The number of bytes that are compared of a letter of a script without spaces.
const MAX_LETTER_BYTES: usize = MAX_WORD_BYTES / 2;

/// The mark of long vowels in Kana, which belongs to no script.
const LONG_VOWEL_MARK: char = 'ー';

/// The scripts that write sentences, or compounds of words, without spaces.
const UNSPACED_SCRIPTS: [Script; 17] = [
    Script::Han,
    Script::Hiragana,
    Script::Katakana,
    Script::Bopomofo,
    Script::Hangul,
    Script::Yi,
    Script::Nushu,
    Script::Thai,
    Script::Lao,
    Script::Khmer,
    Script::Myanmar,
    Script::TaiLe,
    Script::NewTaiLue,
    Script::TaiTham,
    Script::TaiViet,
    Script::Javanese,
    Script::Balinese,
];

/// A word of a text, or a letter of a script without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The range of the word in the text, in bytes.
    pub range: Range<usize>,
    /// The word in the form in which it is compared.
    pub word: String,
    /// True if nothing that is shown separates the word from the one before it.
    pub follows: bool,
    /// True if the word is a letter of a script without spaces.
    pub is_letter: bool,
}

impl Token {
    /// Returns whether the index has this letter together with the next one.
    fn pairs_with(&self, next: &Self) -> bool {
        self.is_letter && next.is_letter && next.follows
    }
}

/// Returns the words of a text.
pub fn tokens(text: &str) -> Vec<Token> {
    if text.is_ascii() { ascii_tokens(text) } else { unicode_tokens(text) }
}

/// A word as the index has it: a word of the text, or two letters of a script without spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedWord<'a> {
    first: &'a Token,
    second: Option<&'a Token>,
}

impl IndexedWord<'_> {
    /// Returns the word in the form in which it is compared.
    pub fn text(&self) -> String {
        self.first.word.clone() + self.second.map_or("", |second| &second.word)
    }

    /// Returns the range of the text that a word of this beginning matches, if it matches.
    pub fn matched_range(&self, word: &str, is_prefix: bool) -> Option<Range<usize>> {
        let second = self.second.map_or("", |second| &second.word);
        let is_match = match word.strip_prefix(&*self.first.word) {
            Some(rest) if is_prefix => second.starts_with(rest),
            Some(rest) => second == rest,
            None => is_prefix && self.first.word.starts_with(word),
        };
        let second = self.second.filter(|_| word.len() > self.first.word.len());
        is_match.then(|| self.first.range.start..second.unwrap_or(self.first).range.end)
    }
}

/// Returns the words of the index for the words of a text, one for each.
///
/// A letter of a script without spaces is there with the letter after it, and the last one of its sentence alone.
pub fn indexed_words(tokens: &[Token]) -> impl Iterator<Item = IndexedWord<'_>> {
    tokens.iter().enumerate().map(|(position, first)| {
        let second = tokens.get(position + 1).filter(|next| first.pairs_with(next));
        IndexedWord { first, second }
    })
}

/// Returns the words of the index that make up a phrase, and whether the last one is a beginning.
///
/// The last letter of a phrase is a part of the pair before it. Without one it is the beginning of a pair.
pub fn phrase_words(tokens: &[Token]) -> (Vec<String>, bool) {
    let mut words: Vec<_> = indexed_words(tokens).map(|word| word.text()).collect();
    let [.., last] = tokens else { return (words, false) };
    let is_second = tokens.len() > 1 && tokens[tokens.len() - 2].pairs_with(last);
    if is_second {
        words.pop();
    }
    (words, last.is_letter && !is_second)
}

/// Returns the ranges in which words were found, with those that overlap as one.
///
/// The ranges have to be in the order of their beginnings.
pub fn merge_overlapping(found: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for range in found {
        match ranges.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => ranges.push(range),
        }
    }
    ranges
}

/// Returns the same as [`unicode_tokens`] for an ASCII text, in a tenth of the time.
fn ascii_tokens(text: &str) -> Vec<Token> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let token = |word: &str| {
        let start = byte_offset(text, word);
        Token {
            range: start..start + word.len(),
            word: truncate(word, MAX_WORD_BYTES).to_ascii_lowercase(),
            follows: false,
            is_letter: false,
        }
    };
    words.map(token).collect()
}

fn unicode_tokens(text: &str) -> Vec<Token> {
    let folded = FoldedText::new(text);
    let mut words = Words::default();
    for (position, character) in folded.text.char_indices() {
        words.push(position, character);
    }
    let mut end_of_last = None;
    let token = |Word { range, kind }| {
        let is_letter = kind == Kind::Letter;
        let max_bytes = if is_letter { MAX_LETTER_BYTES } else { MAX_WORD_BYTES };
        let follows = end_of_last.replace(range.end) == Some(range.start);
        let word = truncate(&folded.text[range.clone()], max_bytes).to_owned();
        Token { range: folded.original_range(range), word, follows, is_letter }
    };
    words.finished.into_iter().map(token).collect()
}

/// The range of a word in a folded text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    range: Range<usize>,
    kind: Kind,
}

/// The words of a folded text up to a position.
#[derive(Debug, Default)]
struct Words {
    finished: Vec<Word>,
    last: Option<char>,
}

impl Words {
    fn push(&mut self, position: usize, character: char) {
        let kind = Kind::new(character);
        let last = self.finished.last_mut().filter(|word| word.range.end == position);
        let end = position + character.len_utf8();
        match last {
            Some(word) if kind == Kind::Mark || self.last.is_some_and(|last| word.goes_on(last, kind, character)) => {
                word.range.end = end;
            }
            // A mark without a letter before it is no word.
            _ if matches!(kind, Kind::Mark | Kind::Separator) => {}
            _ => self.finished.push(Word { range: position..end, kind }),
        }
        self.last = Some(character);
    }
}

impl Word {
    /// Returns whether a character belongs to the word, whose last character is `last`.
    fn goes_on(&self, last: char, kind: Kind, character: char) -> bool {
        self.kind == kind
            && match kind {
                Kind::Word => true,
                Kind::Letter => is_jamo(last) && is_inner_jamo(character),
                // A flag consists of two characters.
                Kind::Symbol => is_regional(last) && is_regional(character) && self.range.len() == character.len_utf8(),
                Kind::Mark | Kind::Separator => false,
            }
    }
}

/// Returns whether a character is a part of a Hangul syllable.
fn is_jamo(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97c}' | '\u{d7b0}'..='\u{d7fb}')
}

/// Returns whether a character is a vowel or the final consonant of a Hangul syllable.
fn is_inner_jamo(character: char) -> bool {
    matches!(character, '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7fb}')
}

/// The kind of a character, as far as words depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is a part of a word.
    Word,
    /// It is a letter of a script without spaces.
    Letter,
    /// It is a word by itself.
    Symbol,
    /// It belongs to the character before it.
    Mark,
    /// It separates words.
    Separator,
}

impl Kind {
    fn new(character: char) -> Self {
        // Most characters need no look-up in the tables.
        match character {
            '\0'..='\u{7f}' if character.is_ascii_alphanumeric() => return Self::Word,
            '\0'..='\u{7f}' => return Self::Separator,
            '\u{1100}'..='\u{11ff}' | 'ぁ'..='ゖ' | '一'..='\u{9fff}' | LONG_VOWEL_MARK => return Self::Letter,
            _ => {}
        }
        if character == ENCLOSING_KEYCAP || is_symbol(character) {
            Self::Symbol
        } else if is_combining_mark(character) {
            Self::Mark
        } else if !character.is_alphanumeric() {
            Self::Separator
        } else if is_unspaced(character) {
            Self::Letter
        } else {
            Self::Word
        }
    }
}

fn is_symbol(character: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(character) || is_regional(character)
}

fn is_unspaced(character: char) -> bool {
    UNSPACED_SCRIPTS.contains(&CodePointMapData::<Script>::new().get(character))
}

fn is_regional(character: char) -> bool {
    CodePointSetData::new::<RegionalIndicator>().contains(character)
}

fn truncate(word: &str, max_bytes: usize) -> &str {
    &word[..word.floor_char_boundary(max_bytes)]
}

/// Returns the offset of a slice in the text that it is a part of.
fn byte_offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_tokens_equal_unicode_tokens() {
        let long = format!("{}-{}", "a".repeat(70), "B".repeat(64));
        for text in [
            "",
            " ",
            "Hello, World!",
            "don't 3.14 a_b __x__ e.g. U.S.A. 1,000.5 a:b x@y.example C++ -- 'q' \"q\"",
            "tab\tnew\r\nline\u{0}nul\u{7f}del",
            "CamelCase123abc 0x1F a.b.c a..b .a. _",
            &long,
        ] {
            assert_eq!(ascii_tokens(text), unicode_tokens(text), "{text:?}");
        }
        // Every pair of ASCII characters between letters and digits.
        for first in 0..128_u8 {
            for second in 0..128_u8 {
                let text = format!("a{}{}b1{}2", char::from(first), char::from(second), char::from(first));
                assert_eq!(ascii_tokens(&text), unicode_tokens(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn index_has_pairs_of_letters_of_scripts_without_spaces() {
        let indexed = |text: &str| -> Vec<String> { indexed_words(&tokens(text)).map(|word| word.text()).collect() };
        assert_eq!(indexed("東京都 a京b, 都"), ["東京", "京都", "都", "a", "京", "b", "都"]);
        assert_eq!(indexed("東。京"), ["東", "京"]);
        assert_eq!(indexed("東\u{200b}京"), ["東京", "京"]);
    }

    #[test]
    fn phrase_ends_with_pair_or_beginning_of_pair() {
        let words = |text: &str| phrase_words(&tokens(text));
        let expected = |words: &[&str], is_prefix| (words.iter().map(|word| (*word).to_owned()).collect(), is_prefix);
        assert_eq!(words("東京都"), expected(&["東京", "京都"], false));
        assert_eq!(words("東"), expected(&["東"], true));
        assert_eq!(words("東京 a"), expected(&["東京", "京", "a"], false));
        assert_eq!(words("a東"), expected(&["a", "東"], true));
        assert_eq!(words(""), expected(&[], false));
    }

    #[test]
    fn follows_is_true_without_separator_before_the_word() {
        let follows = |text: &str| -> Vec<bool> { tokens(text).iter().map(|token| token.follows).collect() };
        assert_eq!(follows("傻b 傻-b"), [false, true, false, false]);
        assert_eq!(follows("傻\u{200b}逼"), [false, true]);
    }
}
