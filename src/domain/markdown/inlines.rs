//! The markup within paragraphs: code, marks, links and addresses.
//!
//! Everything that is not markup is text, so that nothing gets lost: `[a](javascript:b)`, which no link may be, is
//! shown as it was written.

use std::borrow::Cow;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::domain::characters::is_blank;
use crate::domain::markdown::addresses::{Address, find_addresses, is_safe_url, names_other_address};
use crate::domain::markdown::code_spans::CodeSpans;
use crate::domain::markdown::emphasis::{Mark, Run, pair};

/// The maximum nesting depth of parentheses in the target of a link.
const MAX_TARGET_DEPTH: usize = 32;

/// The maximum number of bytes in a line before a backslash that escapes the marker of a block.
const MAX_BLOCK_MARKER_BYTES: usize = 64;

/// The characters that lose their meaning as markup after a backslash, wherever they are.
const ESCAPABLE: [u8; 7] = [b'*', b'_', b'~', b'`', b'[', b']', b'<'];

/// A part of a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inline<'a> {
    Text(Cow<'a, str>),
    Code(&'a str),
    LineBreak,
    Open(Mark),
    Close(Mark),
    /// The beginning of a link to a URL.
    OpenLink(String),
    CloseLink,
}

/// Returns the parts of a paragraph, whose lines are separated by line feeds.
pub fn parse_inlines(text: &str) -> Vec<Inline<'_>> {
    let mut parser = Parser {
        text,
        position: 0,
        text_start: 0,
        line_start: 0,
        pieces: Vec::new(),
        runs: Vec::new(),
        brackets: Vec::new(),
        addresses: find_addresses(text).into_iter().peekable(),
        code_spans: CodeSpans::new(text),
    };
    parser.parse();
    parser.into_inlines()
}

enum Piece<'a> {
    Inline(Inline<'a>),
    /// A run of delimiters, by its index.
    Run(usize),
}

/// A bracket that may begin a link.
struct Bracket {
    /// The index of the piece with its text.
    piece: usize,
    /// The number of runs before it.
    first_run: usize,
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    /// The beginning of the text before the position that no piece has yet.
    text_start: usize,
    line_start: usize,
    pieces: Vec<Piece<'a>>,
    runs: Vec<Run>,
    brackets: Vec<Bracket>,
    addresses: Peekable<IntoIter<Address>>,
    code_spans: CodeSpans,
}

impl<'a> Parser<'a> {
    fn parse(&mut self) {
        const SYNTAX: [char; 9] = ['\\', '`', '*', '_', '~', '[', ']', '!', '\n'];
        loop {
            let address_start = self.next_address_start().unwrap_or(self.text.len());
            let plain = &self.text[self.position..address_start];
            let Some(found) = plain.find(SYNTAX) else {
                self.position = address_start;
                match self.addresses.next() {
                    Some(address) => self.push_address(&address),
                    None => break,
                }
                continue;
            };
            self.position += found;
            match self.text.as_bytes()[self.position] {
                b'\\' => self.escape(),
                b'`' => self.code(),
                b'[' => self.open_bracket(1),
                b'!' if self.text[self.position..].starts_with("![") => self.open_bracket(2),
                b'!' => self.position += 1,
                b']' => self.close_bracket(),
                b'\n' => self.break_line(),
                _ => self.run(),
            }
        }
        self.flush();
        pair(&mut self.runs);
    }

    /// Returns where the next address begins that is not in code or in the target of a link.
    fn next_address_start(&mut self) -> Option<usize> {
        while self.addresses.next_if(|address| address.range.start < self.position).is_some() {}
        self.addresses.peek().map(|address| address.range.start)
    }

    /// Makes the text before the position a piece.
    fn flush(&mut self) {
        let text = &self.text[self.text_start..self.position];
        if !text.is_empty() {
            self.pieces.push(Piece::Inline(Inline::Text(text.into())));
        }
        self.text_start = self.position;
    }

    /// Adds a piece that stands for the next bytes.
    fn push(&mut self, len: usize, inline: Inline<'a>) {
        self.flush();
        self.pieces.push(Piece::Inline(inline));
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        self.position += len;
        self.text_start = self.position;
    }

    fn push_address(&mut self, address: &Address) {
        let before = &self.text[self.text_start..address.range.start];
        let is_enclosed = before.ends_with('<') && self.text[address.range.end..].starts_with('>');
        self.position -= usize::from(is_enclosed);
        self.flush();
        let link =
            [Inline::OpenLink(address.url(self.text)), Inline::Text(address.shown(self.text)), Inline::CloseLink];
        self.pieces.extend(link.map(Piece::Inline));
        self.position = address.range.end + usize::from(is_enclosed);
        self.text_start = self.position;
    }

    fn break_line(&mut self) {
        self.push(1, Inline::LineBreak);
        self.line_start = self.position;
    }

    fn escape(&mut self) {
        let escaped = self.text.as_bytes().get(self.position + 1).copied();
        let is_escape = escaped.is_some_and(|escaped| {
            ESCAPABLE.contains(&escaped) || escapes_block(&self.text[self.line_start..self.position], escaped)
        });
        if !is_escape {
            self.position += 1;
            return;
        }
        self.flush();
        self.text_start += 1;
        let escaped = &self.text[self.text_start..];
        // A run of backticks is escaped as a whole.
        let backticks = escaped.len() - escaped.trim_start_matches('`').len();
        self.position = self.text_start + backticks.max(1);
        self.flush();
    }

    fn code(&mut self) {
        let run_len = self.text[self.position..].len() - self.text[self.position..].trim_start_matches('`').len();
        let content_start = self.position + run_len;
        let content = self.code_spans.end(self.position).map(|end| &self.text[content_start..end]);
        match content.filter(|content| !is_blank(content)) {
            Some(content) => self.push(content.len() + 2 * run_len, Inline::Code(trim_code(content))),
            None => self.position = content_start,
        }
    }

    fn run(&mut self) {
        let run = Run::at(self.text, self.position);
        self.flush();
        self.skip(run.len());
        self.pieces.push(Piece::Run(self.runs.len()));
        self.runs.push(run);
    }

    fn open_bracket(&mut self, len: usize) {
        self.flush();
        self.brackets.push(Bracket { piece: self.pieces.len(), first_run: self.runs.len() });
        self.position += len;
        self.flush();
    }

    fn close_bracket(&mut self) {
        let rest = &self.text[self.position + 1..];
        let target = self.brackets.pop().and_then(|bracket| Some((bracket, link_target(rest)?)));
        let Some((bracket, (url, target_len))) = target.filter(|(_, (url, _))| is_safe_url(url)) else {
            self.position += 1;
            return;
        };
        // No link has a link in it.
        self.brackets.clear();
        self.flush();
        let shown = self.shown_since(bracket.piece + 1);
        if names_other_address(&shown, &url) {
            self.position += 1;
            return;
        }
        pair(&mut self.runs[bracket.first_run..]);
        if is_blank(&shown) {
            self.pieces.push(Piece::Inline(Inline::Text(url.clone().into())));
        }
        self.pieces[bracket.piece] = Piece::Inline(Inline::OpenLink(url));
        self.push(1 + target_len, Inline::CloseLink);
    }

    /// Returns the text of the pieces since an index, as it is shown if all runs are markup.
    fn shown_since(&self, piece: usize) -> String {
        let shown = self.pieces[piece..].iter().filter_map(|piece| match piece {
            Piece::Inline(Inline::Text(text)) => Some(text.as_ref()),
            Piece::Inline(Inline::Code(code)) => Some(*code),
            Piece::Inline(Inline::LineBreak) => Some("\n"),
            _ => None,
        });
        shown.collect()
    }

    fn into_inlines(self) -> Vec<Inline<'a>> {
        let mut inlines = Vec::with_capacity(self.pieces.len());
        for piece in self.pieces {
            match piece {
                Piece::Inline(inline) => inlines.push(inline),
                Piece::Run(index) => {
                    let run = &self.runs[index];
                    inlines.extend(run.closed.iter().copied().map(Inline::Close));
                    if run.unused > 0 {
                        inlines.push(Inline::Text(run.character().to_string().repeat(run.unused).into()));
                    }
                    inlines.extend(run.opened.iter().rev().copied().map(Inline::Open));
                }
            }
        }
        inlines
    }
}

/// Returns whether a backslash after the beginning of a line keeps a block from starting there.
fn escapes_block(line_start: &str, escaped: u8) -> bool {
    if line_start.len() > MAX_BLOCK_MARKER_BYTES {
        return false;
    }
    let line_start = line_start.trim_start_matches([' ', '\t']);
    match escaped {
        b'>' | b'#' | b'-' | b'+' => line_start.is_empty(),
        b'.' | b')' => !line_start.is_empty() && line_start.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

/// Returns the code of a span without the space that separates it from backticks.
fn trim_code(code: &str) -> &str {
    code.strip_prefix(' ').and_then(|code| code.strip_suffix(' ')).unwrap_or(code)
}

/// Returns the URL of a link whose text ends before this text, and the length of its part.
fn link_target(text: &str) -> Option<(String, usize)> {
    let blanks = [' ', '\t'];
    let target = text.strip_prefix('(')?.trim_start_matches(blanks);
    let (url, rest) = match target.strip_prefix('<') {
        Some(target) => {
            let end = target.find(['<', '>', '\n']).filter(|end| target[*end..].starts_with('>'))?;
            (&target[..end], &target[end + 1..])
        }
        None => target.split_at(target_len(target)?),
    };
    let rest = rest.trim_start_matches(blanks).strip_prefix(')')?;
    Some((unescape(url), text.len() - rest.len()))
}

/// Returns the length of a target, which ends before a blank or a closing parenthesis.
fn target_len(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' => is_escaped = true,
            '(' if depth == MAX_TARGET_DEPTH => return None,
            '(' => depth += 1,
            ')' if depth == 0 => return Some(position),
            ')' => depth -= 1,
            _ if character.is_whitespace() || character.is_control() => return Some(position).filter(|_| depth == 0),
            _ => {}
        }
    }
    None
}

/// Returns a target without the backslashes before punctuation.
fn unescape(target: &str) -> String {
    let mut rest = target.chars().peekable();
    std::iter::from_fn(|| match rest.next()? {
        '\\' => Some(rest.next_if(char::is_ascii_punctuation).unwrap_or('\\')),
        character => Some(character),
    })
    .collect()
}
