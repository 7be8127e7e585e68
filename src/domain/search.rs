//! Full-text search with equal results on SQLite (FTS5) and PostgreSQL (`tsvector`).
//!
//! [`folding`] gives texts and queries the form in which they are compared, and [`mod@tokens`] splits them into words.
//! The engines receive the words as [`terms`].

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::markdown::html::escape;
use crate::domain::search::terms::TermPrefix;
use crate::domain::search::tokens::{Token, indexed_words, merge_overlapping, phrase_words, tokens};
use crate::error::{Error, Result};

pub mod folding;
pub mod letters;
pub mod message_texts;
pub mod terms;
pub mod tokens;

/// The maximum length of a query, in characters.
pub const MAX_QUERY_CHARS: usize = 200;

/// The maximum number of words in a query.
pub const MAX_QUERY_WORDS: usize = 16;

/// The maximum length of a snippet, in characters.
const SNIPPET_CHARS: usize = 200;
/// The length of the part of a snippet before the first match, in characters.
const SNIPPET_LEAD_CHARS: usize = 60;

/// A search query: phrases that a text must all contain.
///
/// The default has none, and every text contains all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchQuery {
    phrases: Vec<Phrase>,
}

/// Consecutive words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    words: Vec<String>,
    /// True if the last word is a prefix, because the user may still be typing it.
    is_prefix: bool,
}

/// The phrases of a query while it is parsed.
#[derive(Default)]
struct Phrases {
    phrases: Vec<Phrase>,
    /// The number of words as users count them: text of a script without spaces is one.
    word_count: usize,
}

impl Phrases {
    fn push(&mut self, text: &str, is_prefix: bool) {
        let tokens = tokens(text);
        let (words, ends_with_prefix) = phrase_words(&tokens);
        if !words.is_empty() {
            self.word_count += tokens.iter().filter(|token| !(token.is_letter && token.follows)).count();
            self.phrases.push(Phrase { words, is_prefix: is_prefix || ends_with_prefix });
        }
    }
}

impl SearchQuery {
    /// Parses a query.
    ///
    /// Text between double quotes is an exact phrase; a missing closing quote is at the end. Other text is split at
    /// whitespace into prefixes. One with several words, such as `wi-f`, is a phrase whose last word is a prefix. Text
    /// of a script without spaces is found inside longer text.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the query has no word, more than [`MAX_QUERY_WORDS`] words, or more than
    /// [`MAX_QUERY_CHARS`] characters.
    pub fn parse(query: &str) -> Result<Self> {
        if query.chars().nth(MAX_QUERY_CHARS).is_some() {
            return Err(Error::bad_input("query", format!("must have at most {MAX_QUERY_CHARS} characters")));
        }
        let mut phrases = Phrases::default();
        for (index, part) in query.split(is_quote).enumerate() {
            if index % 2 == 1 {
                phrases.push(part, false);
            } else {
                let chunks = part.split(|character: char| character.is_whitespace() || character.is_control());
                chunks.for_each(|chunk| phrases.push(chunk, true));
            }
        }
        match phrases.word_count {
            0 => Err(Error::bad_input("query", "must contain a letter, a digit or an emoji")),
            1..=MAX_QUERY_WORDS => Ok(Self { phrases: phrases.phrases }),
            _ => Err(Error::bad_input("query", format!("must have at most {MAX_QUERY_WORDS} words"))),
        }
    }

    /// Returns whether every text contains the query.
    pub fn is_empty(&self) -> bool {
        self.phrases.is_empty()
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
        let words: Vec<_> = indexed_words(tokens).collect();
        let mut found: Vec<Range<usize>> = Vec::new();
        for phrase in &self.phrases {
            let last = phrase.words.len() - 1;
            for window in words.windows(phrase.words.len()) {
                let pairs = window.iter().zip(&phrase.words).enumerate();
                let matches = pairs
                    .map(|(index, (indexed, word))| indexed.matched_range(word, phrase.is_prefix && index == last));
                found.extend(matches.collect::<Option<Vec<_>>>().into_iter().flatten());
            }
        }
        found.sort_by_key(|range| range.start);
        // Pairs of letters overlap, and so do two words of one character (½).
        merge_overlapping(found)
    }
}

/// Returns whether a character is a double quote, typographic ones included, which phones insert.
fn is_quote(character: char) -> bool {
    matches!(character, '"' | '“' | '”' | '„')
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
