//! Properties of the HTML of any text: it is safe, and shows each visible character that is no markup.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};
use proptest::prelude::*;

use crate::domain::characters::is_blank;
use crate::domain::markdown::html::ALLOWED_TAGS;
use crate::domain::markdown::{plain_text, render_html};

/// The characters that can be markup.
const MARKUP: &str = "*_~`[]()<>#+-.!\\";

/// The text and the attributes that a reader of HTML sees.
#[derive(Default)]
struct Shown {
    /// The text content.
    text: String,
    /// The text content with the languages of code, the numbers of items and the targets of links.
    content: String,
    open_tags: Vec<String>,
    link_target: Option<(String, usize)>,
    /// For each open list the number of its next item, if it has any.
    next_numbers: Vec<Option<u32>>,
}

#[derive(Default)]
struct Walker(RefCell<Shown>);

impl TokenSink for Walker {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut shown = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => shown.add(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => shown.open(&tag),
            Token::TagToken(tag) => shown.close(&tag),
            Token::EOFToken => {}
            // Control characters show nothing.
            Token::ParseError(error) if error.starts_with("Bad character") => {}
            token => panic!("{token:?}"),
        }
        TokenSinkResult::Continue
    }
}

impl Shown {
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.content.push_str(text);
    }

    fn open(&mut self, tag: &Tag) {
        let name = tag.name.to_string();
        assert!(ALLOWED_TAGS.contains(&&*name), "{tag:?}");
        for attribute in &tag.attrs {
            let value = attribute.value.to_string();
            match (&*name, &*attribute.name.local) {
                ("a", "href") => {
                    let allowed = ["http://", "https://", "mailto:"];
                    assert!(allowed.iter().any(|scheme| value.to_ascii_lowercase().starts_with(scheme)), "{tag:?}");
                    assert!(self.link_target.is_none(), "{tag:?} in a link");
                    self.link_target = Some((value, self.content.len()));
                }
                ("a", "rel") => assert_eq!(value, "nofollow noopener noreferrer"),
                ("code", "class") => self.content.push_str(value.strip_prefix("language-").unwrap()),
                ("ol", "start") | ("li", "value") => drop(value.parse::<u32>().unwrap()),
                _ => panic!("{tag:?}"),
            }
        }
        let number = tag.attrs.iter().find_map(|attribute| attribute.value.parse::<u32>().ok());
        match &*name {
            "br" => return,
            "ul" => self.next_numbers.push(None),
            "ol" => self.next_numbers.push(Some(number.unwrap_or(1))),
            "li" => {
                if let Some(next) = self.next_numbers.last_mut().unwrap() {
                    let number = number.unwrap_or(*next);
                    *next = number + 1;
                    self.content.push_str(&number.to_string());
                }
            }
            "a" => assert!(self.link_target.is_some(), "{tag:?} without a target"),
            _ => {}
        }
        self.open_tags.push(name);
    }

    fn close(&mut self, tag: &Tag) {
        assert_eq!(self.open_tags.pop().as_deref(), Some(&*tag.name));
        match &*tag.name {
            "ul" | "ol" => drop(self.next_numbers.pop()),
            "a" => {
                let (target, text_start) = self.link_target.take().unwrap();
                let text = &self.content[text_start..];
                let is_text =
                    ["", "https://", "mailto:"].iter().any(|prefix| target.strip_prefix(prefix) == Some(text));
                if !is_text {
                    self.content.push_str(&target);
                }
            }
            _ => {}
        }
    }
}

/// Returns what HTML shows, and asserts that it is safe.
fn shown(html: &str) -> Shown {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    let options = TokenizerOpts { exact_errors: true, ..TokenizerOpts::default() };
    let tokenizer = Tokenizer::new(Walker::default(), options);
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let shown = tokenizer.sink.0.into_inner();
    assert_eq!(shown.open_tags, Vec::<String>::new());
    shown
}

fn visible(text: &str) -> String {
    text.chars().filter(|character| !is_blank(character.encode_utf8(&mut [0; 4]))).collect()
}

fn without_markup(text: &str) -> String {
    visible(text).chars().filter(|character| !MARKUP.contains(*character)).collect()
}

fn assert_preserved(text: &str) {
    let html = render_html(text);
    let shown = shown(&html);
    assert_eq!(without_markup(&shown.content), without_markup(text), "{text:?}: {html}");
    assert_eq!(visible(&shown.text), visible(&plain_text(text)), "{text:?}: {html}");
    let mut rest = text.chars();
    let is_written = |character| rest.any(|written| written == character);
    assert!(visible(&plain_text(text)).chars().all(is_written), "{text:?} shows more than was written: {html}");
}

const WORDS: &[&str] =
    &["a", "B2", "é", "日本。", "“x”", "👍", "ข้อ!", "\u{200b}", "1", "  ", "\t", "\\", "&amp;", "<b>", "|"];
const DELIMITERS: &[&str] =
    &["*", "**", "***", "_", "__", "~", "~~", "`", "``", "[", "]", "![", "](", ")", "<", ">", "\\*"];
const BLOCKS: &[&str] =
    &["\n", "\n\n", "\n- ", "\n* ", "\n> ", "\n>> ", "\n>", "\n1. ", "\n7) ", "\n# ", "\n    ", "\n  - "];
const FENCES: &[&str] =
    &["\n```\n", "\n```rust\n", "\n~~~\n", "\n``` x y\n", "```", "\n---\n", "\n===\n", "\r\n", "\n[a]: b\n"];
const ADDRESSES: &[&str] = &["https://u.com/a_b", "www.u.com", "m_n@u.com", "https://u.com/(c)。", "<https://u.com>"];
const LINKS: &[&str] = &[
    "[t](https://v.com/a_(b))",
    "![t](https://v.com)",
    "[](https://v.com)",
    "[u.com](https://v.com)",
    "[t](javascript:x)",
    "[t](https://v.com \"u\")",
    "[t][u]",
    "[^1]: n",
];

/// A line, or a part of one, that is Markdown or looks like it.
fn snippet() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => prop::sample::select(WORDS),
        4 => prop::sample::select(DELIMITERS),
        2 => prop::sample::select(BLOCKS),
        1 => prop::sample::select(FENCES),
        1 => prop::sample::select(ADDRESSES),
        1 => prop::sample::select(LINKS),
    ]
}

const SYNTAX_AND_TEXT: &str = "([-*_~`<>\\[\\]()!#&:/\"'\\\\.a1 \n\t]|https?://|javascript:|<script>|\\PC){0,80}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_safe_and_loses_no_visible_character(text in "(?s).{0,60}") {
        assert_preserved(&text);
    }

    #[test]
    fn any_syntax_is_safe_and_loses_no_visible_character(text in SYNTAX_AND_TEXT) {
        assert_preserved(&text);
    }

    #[test]
    fn any_markdown_is_safe_and_loses_no_visible_character(parts in prop::collection::vec(snippet(), 0..24)) {
        assert_preserved(&parts.concat());
    }
}
