//! Full-text search with equal results on SQLite (FTS5) and PostgreSQL (`tsvector`).
//!
//! This module splits texts and queries into words, and the engines receive the words as [`terms`].

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::markdown::escape;
use crate::domain::search::terms::TermPrefix;
use crate::error::{Error, Result};

pub mod terms;

/// The maximum length of a query, in characters.
pub const MAX_QUERY_CHARS: usize = 200;

/// The maximum number of words in a query.
pub const MAX_QUERY_WORDS: usize = 16;

/// The number of bytes of a word that are compared.
///
/// The rest of a longer word is ignored.
const MAX_WORD_BYTES: usize = 64;

/// The maximum length of a snippet, in characters.
const SNIPPET_CHARS: usize = 200;
/// The length of the part of a snippet before the first match, in characters.
const SNIPPET_LEAD_CHARS: usize = 60;

/// Returns the words of a text in the form in which they are compared.
///
/// Case, accents and compatibility forms are removed.
pub fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().map(|token| token.word).collect()
}

/// Returns the words of a text with their ranges in it, in bytes.
pub fn word_ranges(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    tokens(text).into_iter().map(|token| (token.range, token.word))
}

/// A search query: phrases that a text must all contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    phrases: Vec<Phrase>,
}

/// Consecutive words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    words: Vec<String>,
    /// Whether the last word is a prefix, because the user may still be typing it.
    is_prefix: bool,
}

impl SearchQuery {
    /// Parses a query.
    ///
    /// Text between double quotes is an exact phrase; a missing closing quote is at the end. Other text is split at
    /// whitespace into prefixes. One with several words, such as `wi-f`, is a phrase whose last word is a prefix.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the query has no word, more than [`MAX_QUERY_WORDS`] words, or more than
    /// [`MAX_QUERY_CHARS`] characters.
    pub fn parse(query: &str) -> Result<Self> {
        if query.chars().nth(MAX_QUERY_CHARS).is_some() {
            return Err(Error::bad_input("query", format!("must have at most {MAX_QUERY_CHARS} characters")));
        }
        let mut phrases = Vec::new();
        for (index, part) in query.split(is_quote).enumerate() {
            if index % 2 == 1 {
                phrases.push(Phrase { words: words(part), is_prefix: false });
            } else {
                let chunks = part.split(|character: char| character.is_whitespace() || character.is_control());
                phrases.extend(chunks.map(|chunk| Phrase { words: words(chunk), is_prefix: true }));
            }
        }
        phrases.retain(|phrase| !phrase.words.is_empty());
        match phrases.iter().map(|phrase| phrase.words.len()).sum() {
            0 => Err(Error::bad_input("query", "must contain a word of letters or digits")),
            1..=MAX_QUERY_WORDS => Ok(Self { phrases }),
            _ => Err(Error::bad_input("query", format!("must have at most {MAX_QUERY_WORDS} words"))),
        }
    }

    /// Returns the expression for FTS5's `MATCH`, such as `"hello" + "wor" * AND "x" *`.
    ///
    /// Each word has the prefix.
    pub fn fts5(&self, prefix: &TermPrefix) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| prefix.fts5_string(word)).collect();
            words.join(" + ") + if phrase.is_prefix { " *" } else { "" }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" AND ")
    }

    /// Returns PostgreSQL's `tsquery`, such as `('hello' <-> 'wor':*) & 'x':*`.
    ///
    /// Each word has the prefix.
    pub fn tsquery(&self, prefix: &TermPrefix) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| prefix.lexeme(word)).collect();
            let phrase = words.join(" <-> ") + if phrase.is_prefix { ":*" } else { "" };
            if words.len() > 1 { format!("({phrase})") } else { phrase }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" & ")
    }

    /// Returns a line of safe HTML that shows a text with a `<mark>` around each match.
    ///
    /// A long text is cut to the surroundings of the first match, with `…` where it continues.
    pub fn snippet(&self, text: &str) -> String {
        let text = text.trim();
        let matches = self.match_ranges(&tokens(text));
        let shown = snippet_range(text, matches.first().map_or(0, |range| range.start));
        let mut html = String::new();
        let mut written_to = shown.start;
        if shown.start > 0 {
            html.push('…');
        }
        for range in matches.iter().filter(|range| range.start < shown.end && range.end > shown.start) {
            let range = range.start.max(shown.start)..range.end.min(shown.end);
            escape_line(&mut html, &text[written_to..range.start]);
            html.push_str("<mark>");
            escape_line(&mut html, &text[range.clone()]);
            html.push_str("</mark>");
            written_to = range.end;
        }
        escape_line(&mut html, &text[written_to..shown.end]);
        if shown.end < text.len() {
            html.push('…');
        }
        html
    }

    /// Returns the ranges of the words that match, in ascending order and without overlap.
    fn match_ranges(&self, tokens: &[Token]) -> Vec<Range<usize>> {
        let mut is_match = vec![false; tokens.len()];
        for phrase in &self.phrases {
            let length = phrase.words.len();
            for (start, window) in tokens.windows(length).enumerate() {
                if phrase.matches(window) {
                    is_match[start..start + length].fill(true);
                }
            }
        }
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (token, _) in tokens.iter().zip(is_match).filter(|(_, is_match)| *is_match) {
            match ranges.last_mut() {
                // Two words can come from one character (½), and then have the same range.
                Some(last) if token.range.start < last.end => last.end = last.end.max(token.range.end),
                _ => ranges.push(token.range.clone()),
            }
        }
        ranges
    }
}

impl Phrase {
    /// Returns whether the phrase matches the same number of tokens.
    fn matches(&self, tokens: &[Token]) -> bool {
        let last = self.words.len() - 1;
        self.words.iter().zip(tokens).enumerate().all(|(index, (word, token))| {
            token.word == *word || (self.is_prefix && index == last && token.word.starts_with(word))
        })
    }
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// The range of the word in the text, with its accents.
    range: Range<usize>,
    /// The word in the form in which it is compared.
    word: String,
}

fn tokens(text: &str) -> Vec<Token> {
    if text.is_ascii() { ascii_tokens(text) } else { unicode_tokens(text) }
}

/// Returns the same as [`unicode_tokens`] for an ASCII text, in a tenth of the time.
fn ascii_tokens(text: &str) -> Vec<Token> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let token = |word: &str| {
        let start = byte_offset(text, word);
        Token { range: start..start + word.len(), word: truncate(word).to_ascii_lowercase() }
    };
    words.map(token).collect()
}

fn unicode_tokens(text: &str) -> Vec<Token> {
    let normalized = NormalizedText::new(text);
    let mut tokens = Vec::new();
    for (start, segment) in normalized.text.unicode_word_indices() {
        for piece in segment.split(|character| !is_word_char(character)) {
            // A combining mark belongs to the letter before it, so a word does not begin with one.
            let word = piece.trim_start_matches(is_combining_mark);
            if !word.is_empty() {
                let start = start + byte_offset(segment, word);
                tokens.push(Token {
                    range: normalized.original_range(start..start + word.len()),
                    word: truncate(word).to_owned(),
                });
            }
        }
    }
    tokens
}

/// A text without case, accents and compatibility forms, and the origin of its characters.
struct NormalizedText {
    text: String,
    /// For each character with its marks: the start in the normalized text, and the range in the original.
    original_ranges: Vec<(usize, Range<usize>)>,
}

impl NormalizedText {
    fn new(text: &str) -> Self {
        let mut normalized = Self { text: String::with_capacity(text.len()), original_ranges: Vec::new() };
        let mut characters = text.char_indices().peekable();
        while let Some((start, character)) = characters.next() {
            let mut end = start + character.len_utf8();
            while let Some((at, mark)) = characters.next_if(|(_, next)| is_mark(*next)) {
                end = at + mark.len_utf8();
            }
            normalized.original_ranges.push((normalized.text.len(), start..end));
            let kept = text[start..end].nfkd().filter(|character| !is_ignored(*character));
            normalized.text.extend(kept.flat_map(char::to_lowercase).map(|character| match character {
                // The lower case of Σ depends on whether the word ends there, which typing on changes.
                'ς' => 'σ',
                _ => character,
            }));
        }
        normalized
    }

    /// Returns the range in the original text from which a range of the normalized text comes.
    fn original_range(&self, range: Range<usize>) -> Range<usize> {
        let origin = |position: usize| {
            let count = self.original_ranges.partition_point(|(start, _)| *start <= position);
            self.original_ranges[..count].last().map_or(0..0, |(_, origin)| origin.clone())
        };
        origin(range.start).start..origin(range.end - 1).end
    }
}

/// Returns whether a character is an accent or a variation selector.
///
/// Other marks are letters of their scripts.
fn is_ignored(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Returns whether a character belongs to the one before it.
///
/// Besides combining marks, the half-width voicing marks of Katakana do.
fn is_mark(character: char) -> bool {
    is_combining_mark(character) || matches!(character, '\u{ff9e}' | '\u{ff9f}')
}

fn is_word_char(character: char) -> bool {
    character.is_alphanumeric() || is_combining_mark(character)
}

/// Returns whether a character is a double quote, typographic ones included, which phones insert.
fn is_quote(character: char) -> bool {
    matches!(character, '"' | '“' | '”' | '„')
}

fn truncate(word: &str) -> &str {
    &word[..word.floor_char_boundary(MAX_WORD_BYTES)]
}

/// Returns the offset of a slice in the text that it is a part of.
fn byte_offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// Returns the range of a text that a snippet shows, which includes the byte position `first_match`.
fn snippet_range(text: &str, first_match: usize) -> Range<usize> {
    let length = text.chars().count();
    if length <= SNIPPET_CHARS {
        return 0..text.len();
    }
    let byte_position = |character| text.char_indices().nth(character).map_or(text.len(), |(position, _)| position);
    let chars_before = text[..first_match].chars().count();
    let start = chars_before.saturating_sub(SNIPPET_LEAD_CHARS).min(length - SNIPPET_CHARS);
    let (start, end) = (byte_position(start), byte_position(start + SNIPPET_CHARS));
    let start = cut_points(text, start..first_match + 1).next().unwrap_or(start);
    let end = cut_points(text, first_match + 1..end + 1).next_back().unwrap_or(end);
    let shown = &text[start..end];
    let leading_spaces = shown.len() - shown.trim_start().len();
    start + leading_spaces..start + shown.trim_end().len()
}

/// Returns the positions in a range at which a text can be cut.
///
/// They are between words, or between grapheme clusters if the range is within one word.
fn cut_points(text: &str, range: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
    let word_bounds = text.split_word_bound_indices().map(|(position, _)| position).chain([text.len()]);
    let mut bounds: Vec<_> = word_bounds.filter(|position| range.contains(position)).collect();
    if bounds.is_empty() {
        let grapheme_bounds = text.grapheme_indices(true).map(|(position, _)| position);
        bounds = grapheme_bounds.filter(|position| range.contains(position)).collect();
    }
    bounds.into_iter()
}

/// Appends a text to HTML, with line breaks and control characters as spaces.
fn escape_line(html: &mut String, text: &str) {
    let spaced = |character: char| if character.is_whitespace() || character.is_control() { ' ' } else { character };
    escape(html, &text.chars().map(spaced).collect::<String>());
}

#[cfg(test)]
mod tests;
