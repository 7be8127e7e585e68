//! Full-text search that finds the same on SQLite (FTS5) and PostgreSQL (`tsvector`): what a word is, is decided here,
//! and the engines are given words.
//!
//! For FTS5 a text is its words with a space between, under the tokenizer `ascii`: it splits at what is ASCII and no
//! letter or digit, which no word contains, and folds nothing that isn't folded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::markdown::escape;
use crate::error::{Error, Result};

/// Characters of a query.
pub const MAX_QUERY_CHARS: usize = 200;

/// Words of a query.
pub const MAX_QUERY_WORDS: usize = 16;

/// Bytes of a word; what a longer one has after them isn't looked at.
const MAX_WORD_BYTES: usize = 64;

/// Characters of a snippet, and how many of them are before the first match.
const SNIPPET_CHARS: usize = 200;
const SNIPPET_LEAD_CHARS: usize = 60;

/// PostgreSQL's limits: the last position that a word can have, how many positions one word can have, and how many
/// bytes words and positions are together (a mebibyte, less what it may need besides).
const MAX_TSVECTOR_POSITION: usize = 16_383;
const MAX_POSITIONS_PER_LEXEME: usize = 255;
const MAX_TSVECTOR_BYTES: usize = 1_000_000;

/// The words of a text, in their order, as they are compared: without case, accents or compatibility forms.
pub fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().map(|token| token.word).collect()
}

/// The words of a text with their places in it, in bytes.
pub fn word_ranges(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    tokens(text).into_iter().map(|token| (token.range, token.word))
}

/// What is searched for. All of it must be in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    phrases: Vec<Phrase>,
}

/// Words that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    words: Vec<String>,
    /// The last word may go on: it is still being typed.
    is_prefix: bool,
}

impl SearchQuery {
    /// What is between double quotes is a phrase; without the closing one it goes to the end. What is between spaces
    /// else is a word that may go on, or a phrase whose last word may (`wi-f`).
    pub fn parse(query: &str) -> Result<Self> {
        if query.chars().nth(MAX_QUERY_CHARS).is_some() {
            return Err(Error::bad_input("query", format!("must be at most {MAX_QUERY_CHARS} characters")));
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
            0 => Err(Error::bad_input("query", "must contain a word")),
            1..=MAX_QUERY_WORDS => Ok(Self { phrases }),
            _ => Err(Error::bad_input("query", format!("must be at most {MAX_QUERY_WORDS} words"))),
        }
    }

    /// The expression that FTS5 is to `MATCH`: `"hello" + "wor" * AND "x" *`.
    pub fn fts5(&self) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| escape_fts5_string(word)).collect();
            words.join(" + ") + if phrase.is_prefix { " *" } else { "" }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" AND ")
    }

    /// The same as the text of a `tsquery`: `('hello' <-> 'wor':*) & 'x':*`.
    pub fn tsquery(&self) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| escape_lexeme(word)).collect();
            let phrase = words.join(" <-> ") + if phrase.is_prefix { ":*" } else { "" };
            if words.len() > 1 { format!("({phrase})") } else { phrase }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" & ")
    }

    /// A text as safe HTML of one line, with a `<mark>` around each match; of a long one the surroundings of the first
    /// match, with `…` where it goes on.
    pub fn snippet(&self, text: &str) -> String {
        let text = text.trim();
        let marks = self.match_ranges(&tokens(text));
        let window = snippet_range(text, marks.first().map_or(0, |mark| mark.start));
        let mut html = String::new();
        let mut at = window.start;
        if window.start > 0 {
            html.push('…');
        }
        for mark in marks.iter().filter(|mark| mark.start < window.end && mark.end > window.start) {
            let mark = mark.start.max(window.start)..mark.end.min(window.end);
            escape_line(&mut html, &text[at..mark.start]);
            html.push_str("<mark>");
            escape_line(&mut html, &text[mark.clone()]);
            html.push_str("</mark>");
            at = mark.end;
        }
        escape_line(&mut html, &text[at..window.end]);
        if window.end < text.len() {
            html.push('…');
        }
        html
    }

    /// Where words match, from the start to the end; none overlaps the next.
    fn match_ranges(&self, tokens: &[Token]) -> Vec<Range<usize>> {
        let mut matched = vec![false; tokens.len()];
        for phrase in &self.phrases {
            let length = phrase.words.len();
            for (start, run) in tokens.windows(length).enumerate() {
                if phrase.matches(run) {
                    matched[start..start + length].fill(true);
                }
            }
        }
        let mut marks: Vec<Range<usize>> = Vec::new();
        for (token, _) in tokens.iter().zip(matched).filter(|(_, matched)| *matched) {
            match marks.last_mut() {
                // Two words of one character (½) are one place.
                Some(last) if token.range.start < last.end => last.end = last.end.max(token.range.end),
                _ => marks.push(token.range.clone()),
            }
        }
        marks
    }
}

impl Phrase {
    /// `run` is as long as the phrase.
    fn matches(&self, run: &[Token]) -> bool {
        let last = self.words.len() - 1;
        self.words.iter().zip(run).enumerate().all(|(index, (word, token))| {
            token.word == *word || (self.is_prefix && index == last && token.word.starts_with(word))
        })
    }
}

/// The text of a `tsvector` of the words: `'hello':1 'world':2`. Beyond PostgreSQL's limits a word keeps its first
/// positions, one far down the last position that there is, and what no longer fits is left out. A phrase there isn't
/// found, its words are.
pub fn tsvector(words: &[String]) -> String {
    let mut lexemes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut size = 0;
    for (index, word) in words.iter().enumerate() {
        let position = (index + 1).min(MAX_TSVECTOR_POSITION);
        // A word takes its bytes, an even number of them, two for the number of its positions, and two for each.
        let added = if lexemes.contains_key(word.as_str()) { 2 } else { word.len() + 1 + 2 + 2 };
        if size + added > MAX_TSVECTOR_BYTES {
            break;
        }
        let positions = lexemes.entry(word).or_default();
        if positions.len() < MAX_POSITIONS_PER_LEXEME && positions.last() != Some(&position) {
            positions.push(position);
            size += added;
        }
    }
    let mut vector = String::new();
    for (word, positions) in lexemes {
        let positions: Vec<_> = positions.iter().map(usize::to_string).collect();
        let space = if vector.is_empty() { "" } else { " " };
        let _ = write!(vector, "{space}{}:{}", escape_lexeme(word), positions.join(","));
    }
    vector
}

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// Where it is in the text, its accents with it.
    range: Range<usize>,
    /// As it is compared.
    word: String,
}

fn tokens(text: &str) -> Vec<Token> {
    if text.is_ascii() { ascii_tokens(text) } else { unicode_tokens(text) }
}

/// The same as [`unicode_tokens`], for most of what is written in English, in a tenth of the time.
fn ascii_tokens(text: &str) -> Vec<Token> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let token = |word: &str| {
        let start = byte_offset(text, word);
        Token { range: start..start + word.len(), word: truncate(word).to_ascii_lowercase() }
    };
    words.map(token).collect()
}

fn unicode_tokens(text: &str) -> Vec<Token> {
    let folded = NormalizedText::new(text);
    let mut tokens = Vec::new();
    for (start, segment) in folded.text.unicode_word_indices() {
        for piece in segment.split(|character| !is_word_char(character)) {
            // A mark without a letter before it is no word, and none begins with it.
            let word = piece.trim_start_matches(is_combining_mark);
            if !word.is_empty() {
                let start = start + byte_offset(segment, word);
                tokens.push(Token {
                    range: folded.original_range(start..start + word.len()),
                    word: truncate(word).to_owned(),
                });
            }
        }
    }
    tokens
}

/// A text without what isn't compared, and where in the text each part of it is from.
struct NormalizedText {
    text: String,
    /// For each character with its marks: where it begins in the folded text, and where it is in the text.
    original_ranges: Vec<(usize, Range<usize>)>,
}

impl NormalizedText {
    fn new(text: &str) -> Self {
        let mut folded = Self { text: String::with_capacity(text.len()), original_ranges: Vec::new() };
        let mut characters = text.char_indices().peekable();
        while let Some((start, character)) = characters.next() {
            let mut end = start + character.len_utf8();
            while let Some((at, mark)) = characters.next_if(|(_, next)| is_mark(*next)) {
                end = at + mark.len_utf8();
            }
            folded.original_ranges.push((folded.text.len(), start..end));
            let kept = text[start..end].nfkd().filter(|character| !is_ignored(*character));
            folded.text.extend(kept.flat_map(char::to_lowercase).map(|character| match character {
                // Where a word ends depends on what is typed next.
                'ς' => 'σ',
                _ => character,
            }));
        }
        folded
    }

    /// Where in the text a range of the folded text is from.
    fn original_range(&self, range: Range<usize>) -> Range<usize> {
        let of = |at: usize| {
            let after = self.original_ranges.partition_point(|(start, _)| *start <= at);
            self.original_ranges[..after].last().map_or(0..0, |(_, origin)| origin.clone())
        };
        of(range.start).start..of(range.end - 1).end
    }
}

/// Accents are ignored, and so are the selectors of a character's variant. Other marks are letters of their scripts.
fn is_ignored(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// A mark belongs to the character before it, also the two that are characters of their own for their width only.
fn is_mark(character: char) -> bool {
    is_combining_mark(character) || matches!(character, '\u{ff9e}' | '\u{ff9f}')
}

fn is_word_char(character: char) -> bool {
    character.is_alphanumeric() || is_combining_mark(character)
}

/// Keyboards of telephones write the quotes of books.
fn is_quote(character: char) -> bool {
    matches!(character, '"' | '“' | '”' | '„')
}

fn truncate(word: &str) -> &str {
    &word[..word.floor_char_boundary(MAX_WORD_BYTES)]
}

/// Where a part is within the whole that it was taken from.
fn byte_offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// The part of a text that a snippet shows; it has the beginning of what is at `first`.
fn snippet_range(text: &str, first: usize) -> Range<usize> {
    let length = text.chars().count();
    if length <= SNIPPET_CHARS {
        return 0..text.len();
    }
    let byte = |character| text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte);
    let before = text[..first].chars().count();
    let start = before.saturating_sub(SNIPPET_LEAD_CHARS).min(length - SNIPPET_CHARS);
    let (start, end) = (byte(start), byte(start + SNIPPET_CHARS));
    let start = cut_points(text, start..first + 1).next().unwrap_or(start);
    let end = cut_points(text, first + 1..end + 1).next_back().unwrap_or(end);
    let shown = &text[start..end];
    let spaces = shown.len() - shown.trim_start().len();
    start + spaces..start + shown.trim_end().len()
}

/// Where a text may be cut: between words, or between characters within a word that fills the place.
fn cut_points(text: &str, place: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
    let of_words = text.split_word_bound_indices().map(|(at, _)| at).chain([text.len()]);
    let mut bounds: Vec<_> = of_words.filter(|at| place.contains(at)).collect();
    if bounds.is_empty() {
        bounds = text.grapheme_indices(true).map(|(at, _)| at).filter(|at| place.contains(at)).collect();
    }
    bounds.into_iter()
}

fn escape_line(html: &mut String, text: &str) {
    let spaced = |character: char| if character.is_whitespace() || character.is_control() { ' ' } else { character };
    escape(html, &text.chars().map(spaced).collect::<String>());
}

/// A word as FTS5 reads it.
fn escape_fts5_string(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

/// A word as PostgreSQL reads it in a `tsvector` and in a `tsquery`.
fn escape_lexeme(word: &str) -> String {
    format!("'{}'", word.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests;
