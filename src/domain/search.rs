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

use super::markdown::escape;
use crate::error::{Error, Result};

/// Characters of a query.
pub const MAX_QUERY: usize = 200;

/// Words of a query.
pub const MAX_QUERY_WORDS: usize = 16;

/// Bytes of a word; what a longer one has after them isn't looked at.
const MAX_WORD: usize = 64;

/// Characters of a snippet, and how many of them are before the first match.
const SNIPPET: usize = 200;
const SNIPPET_LEAD: usize = 60;

/// PostgreSQL's limits: the last position that a word can have, how many positions one word can have, and how many
/// bytes words and positions are together (a mebibyte, less what it may need besides).
const LAST_POSITION: usize = 16_383;
const MAX_POSITIONS: usize = 255;
const MAX_VECTOR: usize = 1_000_000;

/// The words of a text, in their order, as they are compared: without case, accents or compatibility forms.
pub fn words(text: &str) -> Vec<String> {
    tokens(text).into_iter().map(|token| token.word).collect()
}

/// The words of a text with their places in it, in bytes.
pub fn spans(text: &str) -> impl Iterator<Item = (Range<usize>, String)> {
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
    prefix: bool,
}

impl SearchQuery {
    /// What is between double quotes is a phrase; without the closing one it goes to the end. What is between spaces
    /// else is a word that may go on, or a phrase whose last word may (`wi-f`).
    pub fn parse(query: &str) -> Result<Self> {
        if query.chars().nth(MAX_QUERY).is_some() {
            return Err(Error::bad_input("query", format!("must be at most {MAX_QUERY} characters")));
        }
        let mut phrases = Vec::new();
        for (index, part) in query.split(is_quote).enumerate() {
            if index % 2 == 1 {
                phrases.push(Phrase { words: words(part), prefix: false });
            } else {
                let chunks = part.split(|character: char| character.is_whitespace() || character.is_control());
                phrases.extend(chunks.map(|chunk| Phrase { words: words(chunk), prefix: true }));
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
            let words: Vec<_> = phrase.words.iter().map(|word| string(word)).collect();
            words.join(" + ") + if phrase.prefix { " *" } else { "" }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" AND ")
    }

    /// The same as the text of a `tsquery`: `('hello' <-> 'wor':*) & 'x':*`.
    pub fn tsquery(&self) -> String {
        let phrase = |phrase: &Phrase| {
            let words: Vec<_> = phrase.words.iter().map(|word| lexeme(word)).collect();
            let phrase = words.join(" <-> ") + if phrase.prefix { ":*" } else { "" };
            if words.len() > 1 { format!("({phrase})") } else { phrase }
        };
        self.phrases.iter().map(phrase).collect::<Vec<_>>().join(" & ")
    }

    /// A text as safe HTML of one line, with a `<mark>` around each match; of a long one the surroundings of the first
    /// match, with `…` where it goes on.
    pub fn snippet(&self, text: &str) -> String {
        let text = text.trim();
        let marks = self.marks(&tokens(text));
        let window = window(text, marks.first().map_or(0, |mark| mark.start));
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
    fn marks(&self, tokens: &[Token]) -> Vec<Range<usize>> {
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
            token.word == *word || (self.prefix && index == last && token.word.starts_with(word))
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
        let position = (index + 1).min(LAST_POSITION);
        // A word takes its bytes, an even number of them, two for the number of its positions, and two for each.
        let added = if lexemes.contains_key(word.as_str()) { 2 } else { word.len() + 1 + 2 + 2 };
        if size + added > MAX_VECTOR {
            break;
        }
        let positions = lexemes.entry(word).or_default();
        if positions.len() < MAX_POSITIONS && positions.last() != Some(&position) {
            positions.push(position);
            size += added;
        }
    }
    let mut vector = String::new();
    for (word, positions) in lexemes {
        let positions: Vec<_> = positions.iter().map(usize::to_string).collect();
        let space = if vector.is_empty() { "" } else { " " };
        let _ = write!(vector, "{space}{}:{}", lexeme(word), positions.join(","));
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
    let folded = Folded::new(text);
    let mut tokens = Vec::new();
    for (start, segment) in folded.text.unicode_word_indices() {
        for piece in segment.split(|character| !is_of_word(character)) {
            // A mark without a letter before it is no word, and none begins with it.
            let word = piece.trim_start_matches(is_combining_mark);
            if !word.is_empty() {
                let start = start + offset(segment, word);
                tokens.push(Token { range: folded.origin(start..start + word.len()), word: cut(word).to_owned() });
            }
        }
    }
    tokens
}

/// A text without what isn't compared, and where in the text each part of it is from.
struct Folded {
    text: String,
    /// For each character with its marks: where it begins in the folded text, and where it is in the text.
    origins: Vec<(usize, Range<usize>)>,
}

impl Folded {
    fn new(text: &str) -> Self {
        let mut folded = Self { text: String::with_capacity(text.len()), origins: Vec::new() };
        let mut characters = text.char_indices().peekable();
        while let Some((start, character)) = characters.next() {
            let mut end = start + character.len_utf8();
            while let Some((at, mark)) = characters.next_if(|(_, next)| is_mark(*next)) {
                end = at + mark.len_utf8();
            }
            folded.origins.push((folded.text.len(), start..end));
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
    fn origin(&self, range: Range<usize>) -> Range<usize> {
        let of = |at: usize| {
            let after = self.origins.partition_point(|(start, _)| *start <= at);
            self.origins[..after].last().map_or(0..0, |(_, origin)| origin.clone())
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

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || is_combining_mark(character)
}

/// Keyboards of telephones write the quotes of books.
fn is_quote(character: char) -> bool {
    matches!(character, '"' | '“' | '”' | '„')
}

fn cut(word: &str) -> &str {
    &word[..word.floor_char_boundary(MAX_WORD)]
}

/// Where a part is within the whole that it was taken from.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// The part of a text that a snippet shows; it has the beginning of what is at `first`.
fn window(text: &str, first: usize) -> Range<usize> {
    let length = text.chars().count();
    if length <= SNIPPET {
        return 0..text.len();
    }
    let byte = |character| text.char_indices().nth(character).map_or(text.len(), |(byte, _)| byte);
    let before = text[..first].chars().count();
    let start = before.saturating_sub(SNIPPET_LEAD).min(length - SNIPPET);
    let (start, end) = (byte(start), byte(start + SNIPPET));
    let start = bounds(text, start..first + 1).next().unwrap_or(start);
    let end = bounds(text, first + 1..end + 1).next_back().unwrap_or(end);
    let shown = &text[start..end];
    let spaces = shown.len() - shown.trim_start().len();
    start + spaces..start + shown.trim_end().len()
}

/// Where a text may be cut: between words, or between characters within a word that fills the place.
fn bounds(text: &str, place: Range<usize>) -> impl DoubleEndedIterator<Item = usize> {
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
fn string(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

/// A word as PostgreSQL reads it in a `tsvector` and in a `tsquery`.
fn lexeme(word: &str) -> String {
    format!("'{}'", word.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(query: &str) -> SearchQuery {
        SearchQuery::parse(query).unwrap()
    }

    #[track_caller]
    fn has_words(text: &str, expected: &[&str]) {
        assert_eq!(words(text), expected, "{text:?}");
    }

    /// The text that a snippet is of, if it was short and of one line.
    fn unmarked(snippet: &str) -> String {
        let text = snippet.replace("<mark>", "").replace("</mark>", "");
        assert!(!text.contains(['<', '>', '"', '\'']), "{snippet}");
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
        assert!(text.matches('&').count() == text.matches("&amp;").count(), "{snippet}");
        text.replace("&amp;", "&")
    }

    #[test]
    fn words_have_neither_case_nor_accents() {
        has_words("Hello, WORLD!", &["hello", "world"]);
        has_words("Ärger A\u{308}RGER arger", &["arger", "arger", "arger"]);
        has_words("Łódź crème brûlée Ñandú İstanbul", &["łodz", "creme", "brulee", "nandu", "istanbul"]);
        has_words("ΟΔΟΣ οδός", &["οδοσ", "οδοσ"]);
        has_words("Ёлка", &["елка"]);
    }

    #[test]
    fn words_have_one_spelling() {
        has_words("ﬁne Ｗｉｄｅ ２０２４ ℌ ①", &["fine", "wide", "2024", "h", "1"]);
        assert_eq!(words(&"한국어".nfd().collect::<String>()), words(&"한국어".nfc().collect::<String>()));
        assert_eq!(words("ｶﾞｷﾞ"), words("ガギ"));
        has_words("❤\u{fe0f}a\u{fe0f}b 葛\u{e0100}", &["ab", "葛"]);
    }

    #[test]
    fn spans_are_where_the_words_are() {
        let found: Vec<_> = spans("Ein A\u{308}rger-½").collect();
        let (one, two) = (12..14, 12..14);
        let expected = [(0..3, "ein"), (4..11, "arger"), (one, "1"), (two, "2")];
        assert_eq!(found, expected.map(|(range, word)| (range, word.to_owned())));
    }

    #[test]
    fn other_marks_stay_with_their_letters() {
        has_words("हिन्दी", &["हिन्दी"]);
        has_words("שָׁלוֹם", &["שָׁלוֹם"]);
        assert_ne!(words("か"), words("が"));
    }

    #[test]
    fn words_end_where_letters_and_digits_do() {
        has_words(
            "well-known can't O’Neill 3.14 snake_case a.b.c",
            &["well", "known", "can", "t", "o", "neill", "3", "14", "snake", "case", "a", "b", "c"],
        );
        has_words(
            "https://example.com/a?b=1#c me@example.com",
            &["https", "example", "com", "a", "b", "1", "c", "me", "example", "com"],
        );
        has_words("a\0b\u{1}c\td\ne\u{200b}f\u{ad}g", &["a", "b", "c", "d", "e", "f", "g"]);
        has_words("½", &["1", "2"]);
    }

    #[test]
    fn each_ideograph_is_a_word() {
        has_words("東京タワーへ go", &["東", "京", "タワー", "へ", "go"]);
    }

    #[test]
    fn what_has_no_letter_has_no_words() {
        for text in ["", " ", "👍🏽 👩‍👩‍👧 🎉", "!?…", "\u{301}\u{20dd}", "\0\u{7f}", "\u{93e}", "\"", "__"]
        {
            has_words(text, &[]);
        }
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        assert_eq!(words(&"a".repeat(1_000)), ["a".repeat(64)]);
        assert_eq!(words(&"ж".repeat(1_000)), ["ж".repeat(32)]);
        assert_eq!(words(&"ᎠᎠ".repeat(100)), ["ꭰ".repeat(21)]);
        assert_eq!(query(&"a".repeat(200)).fts5(), format!("\"{}\" *", "a".repeat(64)));
    }

    #[test]
    fn what_was_folded_is_not_folded_again() {
        for character in (char::MIN..=char::MAX).filter(|character| character.is_alphanumeric() || is_mark(*character))
        {
            let once = Folded::new(&character.to_string()).text;
            assert_eq!(Folded::new(&once).text, once, "{character:?} {:x}", character as u32);
        }
    }

    #[test]
    fn a_query_is_prefixes_and_exact_phrases() {
        assert_eq!(query("hello wor").fts5(), r#""hello" * AND "wor" *"#);
        assert_eq!(query("hello wor").tsquery(), "'hello':* & 'wor':*");
        assert_eq!(query(r#""Hello World" wi-f x"#).fts5(), r#""hello" + "world" AND "wi" + "f" * AND "x" *"#);
        assert_eq!(query(r#""Hello World" wi-f x"#).tsquery(), "('hello' <-> 'world') & ('wi' <-> 'f':*) & 'x':*");
        assert_eq!(query(r#""x""#).fts5(), r#""x""#);
        assert_eq!(query(r#""x""#).tsquery(), "'x'");
    }

    #[test]
    fn quotes_need_no_spaces_and_no_end() {
        assert_eq!(query(r#"a"b c"d"#).tsquery(), "'a':* & ('b' <-> 'c') & 'd':*");
        assert_eq!(query(r#"a "b c"#).tsquery(), "'a':* & ('b' <-> 'c')");
        assert_eq!(query(r#""" a """#).tsquery(), "'a':*");
        assert_eq!(query("“a b” „c d“").tsquery(), "('a' <-> 'b') & ('c' <-> 'd')");
    }

    #[test]
    fn control_characters_separate() {
        assert_eq!(query("a\0b\u{7f}c\nd").tsquery(), "'a':* & 'b':* & 'c':* & 'd':*");
        assert_eq!(query("\"a\0b\"").tsquery(), "('a' <-> 'b')");
    }

    #[test]
    fn nothing_in_a_query_is_syntax() {
        assert_eq!(
            query("NOT a* OR (b) NEAR/2 ^c -d col:e {f}").fts5(),
            concat!(
                r#""not" * AND "a" * AND "or" * AND "b" * AND "near" + "2" * AND "#,
                r#""c" * AND "d" * AND "col" + "e" * AND "f" *"#
            )
        );
        assert_eq!(query(r"a' \b !c & d | e <-> f:*").tsquery(), "'a':* & 'b':* & 'c':* & 'd':* & 'e':* & 'f':*");
        assert_eq!(string("a\"b"), r#""a""b""#);
        assert_eq!(lexeme(r"a'b\c"), r"'a''b\\c'");
    }

    #[test]
    fn a_query_has_words_and_not_too_many() {
        for empty in ["", "  ", "\"\"", "👍", "\"", "-- '' ()", "\0"] {
            assert!(SearchQuery::parse(empty).is_err(), "{empty:?}");
        }
        assert!(SearchQuery::parse(&"é".repeat(200)).is_ok());
        assert!(SearchQuery::parse(&"é".repeat(201)).is_err());
        assert!(SearchQuery::parse(&"a ".repeat(16)).is_ok());
        assert!(SearchQuery::parse(&"a ".repeat(17)).is_err());
        assert!(SearchQuery::parse(&format!("\"{}\"", "日".repeat(17))).is_err());
    }

    #[test]
    fn a_vector_has_each_word_with_its_positions() {
        assert_eq!(tsvector(&words("hello world")), "'hello':1 'world':2");
        assert_eq!(tsvector(&words("b a B, c a")), "'a':2,5 'b':1,3 'c':4");
        assert_eq!(tsvector(&[]), "");
        assert_eq!(tsvector(&[r"a'b\c".to_owned()]), r"'a''b\\c':1");
    }

    #[test]
    fn a_vector_keeps_to_the_limits() {
        let many = tsvector(&vec!["a".to_owned(); 20_000]);
        assert_eq!(many.split(',').count(), 255);
        assert!(many.starts_with("'a':1,2,3,") && many.ends_with(",255"), "{many}");
        let distinct: Vec<_> = (0..20_000).map(|number| number.to_string()).collect();
        let vector = tsvector(&distinct);
        assert!(vector.contains("'16381':16382 ") && vector.contains("'16382':16383 "));
        assert!(vector.contains("'19999':16383 "));
        let mut far = vec!["a".to_owned(); 17_000];
        far[16_390..].fill("b".to_owned());
        assert!(tsvector(&far).ends_with("'b':16383"));
        let long: Vec<_> = (0..20_000).map(|number| format!("{number:064}")).collect();
        assert!(tsvector(&long).len() < 1_500_000);
    }

    #[test]
    fn a_snippet_marks_what_matches() {
        assert_eq!(query("wor").snippet("Hello World, word!"), "Hello <mark>World</mark>, <mark>word</mark>!");
        assert_eq!(query("\"wor\"").snippet("Hello World"), "Hello World");
        assert_eq!(query("arger").snippet("Kein Ärger!"), "Kein <mark>Ärger</mark>!");
        assert_eq!(query("arger").snippet("A\u{308}rger"), "<mark>A\u{308}rger</mark>");
        assert_eq!(query("Ärg").snippet("arger"), "<mark>arger</mark>");
        assert_eq!(query("caf").snippet("cafe\u{301}s"), "<mark>cafe\u{301}s</mark>");
        assert_eq!(query("京").snippet("東京タワー"), "東<mark>京</mark>タワー");
        assert_eq!(query("1 2").snippet("½ l"), "<mark>½</mark> l");
    }

    #[test]
    fn a_phrase_marks_each_of_its_words_and_only_in_a_row() {
        let phrase = query("\"b c\"");
        assert_eq!(phrase.snippet("c b, b c b"), "c b, <mark>b</mark> <mark>c</mark> b");
        assert_eq!(phrase.snippet("B-C"), "<mark>B</mark>-<mark>C</mark>");
        assert_eq!(query("wi-f").snippet("wi-fi, fi, wi"), "<mark>wi</mark>-<mark>fi</mark>, fi, wi");
        assert_eq!(query("can't").snippet("Can't"), "<mark>Can</mark>&#39;<mark>t</mark>");
        assert_eq!(query("\"a a\"").snippet("a a a"), "<mark>a</mark> <mark>a</mark> <mark>a</mark>");
        assert_eq!(query("\"a b c d\"").snippet("a b"), "a b");
    }

    #[test]
    fn a_snippet_is_text_of_one_line() {
        assert_eq!(
            query("mark").snippet("<mark>a</mark> & \"b\" 'c'"),
            "&lt;<mark>mark</mark>&gt;a&lt;/<mark>mark</mark>&gt; &amp; &quot;b&quot; &#39;c&#39;"
        );
        assert_eq!(query("amp").snippet("&amp; & amp"), "&amp;<mark>amp</mark>; &amp; <mark>amp</mark>");
        assert_eq!(query("b").snippet(" a\nb\r\n\tc\0d\u{2028} "), "a <mark>b</mark>   c d");
        assert_eq!(query("b").snippet(""), "");
        assert_eq!(query("b").snippet("👍"), "👍");
    }

    #[test]
    fn a_snippet_of_a_long_text_is_around_the_first_match() {
        let before = "before ".repeat(100);
        let after = "after ".repeat(100);
        let both = query("needle").snippet(&format!("{before}needle {after}needle"));
        assert!(both.starts_with("…before before "), "{both}");
        assert!(both.contains(" before <mark>needle</mark> after "), "{both}");
        assert!(both.ends_with(" after…"), "{both}");
        assert!((180..=202).contains(&unmarked(&both).chars().count()), "{both}");

        let at_start = query("needle").snippet(&format!("needle {after}"));
        assert!(at_start.starts_with("<mark>needle</mark> after ") && at_start.ends_with(" after…"), "{at_start}");
        let at_end = query("needle").snippet(&format!("{before}needle"));
        assert!(at_end.starts_with("…before ") && at_end.ends_with(" before <mark>needle</mark>"), "{at_end}");
        assert!(unmarked(&at_end).chars().count() > 180, "{at_end}");
        let nowhere = query("other").snippet(&after);
        assert!(nowhere.starts_with("after ") && nowhere.ends_with(" after…"), "{nowhere}");
    }

    #[test]
    fn a_window_cuts_neither_words_nor_characters() {
        let word = query("a").snippet(&"a".repeat(1_000));
        assert_eq!(word, format!("<mark>{}</mark>…", "a".repeat(200)));
        let accents = query("e").snippet(&"e\u{301}".repeat(1_001));
        assert_eq!(accents, format!("<mark>{}</mark>…", "e\u{301}".repeat(100)));
        let escapes = query("z").snippet(&format!("{}z{}", "&".repeat(300), "<".repeat(300)));
        assert_eq!(escapes, format!("…{}<mark>z</mark>{}…", "&amp;".repeat(60), "&lt;".repeat(139)));
        let families = query("z").snippet(&format!("{}z", "👩‍👩‍👧".repeat(100)));
        assert_eq!(families.replace("👩‍👩‍👧", ""), "…<mark>z</mark>");
        let exactly = format!("{} b", "a".repeat(198));
        assert_eq!(query("b").snippet(&exactly), exactly.replace('b', "<mark>b</mark>"));
        let unbroken = format!("{}é{}", "é".repeat(500), " x".repeat(200));
        assert_eq!(unmarked(&query("x").snippet(&unbroken)).matches('x').count(), 70);
    }

    /// What is printed, and more of what is folded.
    const ANY_SCRIPT: &str = "(\\PC|[a-z'. \u{300}-\u{36f}\u{64b}-\u{652}\u{900}-\u{97f}ｱ-ﾟが-ん가-힣]){0,40}";

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn words_are_words_of_themselves(text in ANY_SCRIPT) {
            let words = words(&text);
            prop_assert_eq!(super::words(&words.join(" ")), words.clone());
            for word in &words {
                prop_assert!(!word.is_empty() && word.len() <= 64);
                prop_assert!(word.chars().all(|character| is_of_word(character) && !character.is_ascii_uppercase()));
            }
        }

        #[test]
        fn each_word_of_a_text_is_found_in_it(text in "(\\PC|[a-c \n&<>\"']){0,40}") {
            for word in words(&text) {
                let snippet = query(&format!("\"{word}\"")).snippet(&text);
                prop_assert!(snippet.contains("<mark>"), "{word} in {snippet}");
            }
        }

        #[test]
        fn a_snippet_is_the_text(text in "(\\PC|[a-c &<>\"']){0,100}") {
            let spaced = text.trim().replace(char::is_whitespace, " ");
            prop_assert_eq!(unmarked(&query("a b").snippet(&text)), spaced);
        }

        #[test]
        fn a_window_has_the_first_match(before in "(\\PC|[a-c &]){0,400}", after in "(\\PC|[a-c &]){0,400}") {
            let snippet = query("\"zyxwv\"").snippet(&format!("{before} zyxwv {after}"));
            prop_assert!(snippet.contains("<mark>zyxwv</mark>"), "{}", snippet);
            prop_assert!(unmarked(&snippet).chars().count() <= 202);
        }
    }
}
