//! The structure of a text: paragraphs, headings, code, quotes and lists.
//!
//! Every line that is not marked as one of the others belongs to a paragraph, and is shown as it was written.

use crate::domain::characters::is_blank;

/// The maximum nesting depth of quotes and lists.
///
/// The markers of deeper ones are text, so that recursion over the tree, here or in a browser, can't overflow the
/// stack.
pub const MAX_DEPTH: usize = 16;

/// The indentation from which a line is text, as in pasted code.
const TEXT_INDENTATION: usize = 4;
/// The columns of a tab.
const TAB_COLUMNS: usize = 4;
/// The indentation that makes a list part of the item before it.
const NESTED_LIST_INDENTATION: usize = 2;

const MAX_HEADING_LEVEL: usize = 6;
/// The maximum number of digits of an item's number. Browsers count with 32 bits.
const MAX_NUMBER_DIGITS: usize = 9;
const MIN_FENCE_LEN: usize = 3;
const MAX_LANGUAGE_BYTES: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub enum Block<'a> {
    Paragraph(Vec<&'a str>),
    Heading(&'a str),
    Code { language: Option<&'a str>, lines: Vec<&'a str> },
    Quote(Vec<Block<'a>>),
    List(List<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct List<'a> {
    pub is_numbered: bool,
    /// True if empty lines separate the items or their paragraphs.
    pub is_loose: bool,
    pub items: Vec<Item<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The number as it was written; 0 in a list without numbers.
    pub number: u32,
    pub blocks: Vec<Block<'a>>,
}

/// Returns the blocks of a text.
pub fn parse_blocks(text: &str) -> Vec<Block<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    parse_lines(&lines, 0)
}

/// Returns the blocks of lines within a number of quotes and lists.
fn parse_lines<'a>(lines: &[&'a str], depth: usize) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let (block, len) = match Start::of(first, depth) {
            Some(Start::Heading(text)) => (Block::Heading(text), 1),
            Some(Start::Fence(fence)) => fence.parse(rest).unwrap_or_else(|| parse_paragraph(rest, depth)),
            Some(Start::Quote) => parse_quote(rest, depth),
            Some(Start::Item(marker)) => parse_list(rest, marker, depth),
            None if is_empty(first) => {
                rest = &rest[1..];
                continue;
            }
            None => parse_paragraph(rest, depth),
        };
        blocks.push(block);
        rest = &rest[len..];
    }
    blocks
}

/// The beginning of a block that is not a paragraph.
enum Start<'a> {
    Heading(&'a str),
    Fence(Fence<'a>),
    Quote,
    Item(Marker),
}

impl<'a> Start<'a> {
    fn of(line: &'a str, depth: usize) -> Option<Self> {
        let (indentation, content) = split_indentation(line);
        if indentation >= TEXT_INDENTATION {
            return None;
        }
        let is_container_allowed = depth < MAX_DEPTH;
        heading(content)
            .map(Self::Heading)
            .or_else(|| Fence::of(line).map(Self::Fence))
            .or_else(|| quoted(line).filter(|text| is_container_allowed && has_content(text)).map(|_| Self::Quote))
            .or_else(|| Marker::of(line).filter(|_| is_container_allowed).map(Self::Item))
    }

    fn interrupts_paragraph(&self) -> bool {
        !matches!(self, Self::Item(marker) if marker.is_numbered() && marker.number != 1)
    }
}

fn is_empty(line: &str) -> bool {
    line.trim_matches([' ', '\t']).is_empty()
}

/// Returns the columns of blanks at the beginning of a line, and the rest.
fn split_indentation(line: &str) -> (usize, &str) {
    let content = line.trim_start_matches([' ', '\t']);
    (columns(&line[..line.len() - content.len()]), content)
}

fn columns(blanks: &str) -> usize {
    blanks.bytes().map(|blank| if blank == b'\t' { TAB_COLUMNS } else { 1 }).sum()
}

/// Returns a line without this many columns of blanks at its beginning.
fn without_indentation(line: &str, columns: usize) -> &str {
    let mut remaining = columns;
    let is_removed = |character: char| {
        let is_blank = matches!(character, ' ' | '\t') && remaining > 0;
        remaining = remaining.saturating_sub(if character == '\t' { TAB_COLUMNS } else { 1 });
        is_blank
    };
    line.trim_start_matches(is_removed)
}

/// Returns a text without the marker of a heading before it.
fn heading(content: &str) -> Option<&str> {
    let text = content.trim_start_matches('#');
    let level = content.len() - text.len();
    let is_heading = (1..=MAX_HEADING_LEVEL).contains(&level) && text.starts_with([' ', '\t']) && !is_blank(text);
    is_heading.then(|| text.trim_matches([' ', '\t']))
}

/// Returns a line without the marker of a quote, which a blank or another such marker follows.
fn quoted(line: &str) -> Option<&str> {
    let quoted = split_indentation(line).1.strip_prefix('>')?;
    let after_markers = quoted.trim_start_matches('>');
    let is_quote = after_markers.is_empty() || after_markers.starts_with(char::is_whitespace);
    is_quote.then(|| quoted.strip_prefix(char::is_whitespace).unwrap_or(quoted))
}

/// Returns whether a quoted text has more than markers of quotes.
fn has_content(quoted: &str) -> bool {
    !is_blank(quoted.trim_start_matches(['>', ' ', '\t']))
}

fn parse_quote<'a>(lines: &[&'a str], depth: usize) -> (Block<'a>, usize) {
    let quoted: Vec<&str> = lines.iter().map_while(|line| quoted(line)).collect();
    let mut len = quoted.len();
    let mut blocks = parse_lines(&quoted, depth + 1);
    // As in CommonMark, a paragraph at the end of a quote continues without the marker.
    if let Some(paragraph) = last_paragraph(&mut blocks).filter(|_| quoted.last().is_some_and(|line| has_content(line)))
    {
        let continuation = continuation(&lines[len..], depth);
        paragraph.extend(continuation);
        len += continuation.len();
    }
    (Block::Quote(blocks), len)
}

fn last_paragraph<'a, 'b>(blocks: &'b mut [Block<'a>]) -> Option<&'b mut Vec<&'a str>> {
    match blocks.last_mut()? {
        Block::Paragraph(lines) => Some(lines),
        Block::Quote(blocks) => last_paragraph(blocks),
        _ => None,
    }
}

/// The marker of a list item: a bullet, or a number with a delimiter.
#[derive(Debug, Clone, Copy)]
struct Marker {
    symbol: char,
    number: u32,
    indentation: usize,
    /// The length of the number and the symbol.
    len: usize,
    /// The columns before the item's text.
    width: usize,
}

impl Marker {
    /// Returns the marker of a line, if text follows it.
    fn of(line: &str) -> Option<Self> {
        let (indentation, content) = split_indentation(line);
        let after_digits = content.trim_start_matches(|character: char| character.is_ascii_digit());
        let digits = &content[..content.len() - after_digits.len()];
        let symbol = after_digits.chars().next()?;
        let number = match symbol {
            '-' | '*' | '+' if digits.is_empty() => 0,
            '.' | ')' if digits.len() <= MAX_NUMBER_DIGITS => digits.parse().ok()?,
            _ => return None,
        };
        // A list shows no zeros before a number.
        let has_zeros = digits.len() > 1 && digits.starts_with('0');
        let (blanks, text) = split_indentation(&after_digits[1..]);
        if has_zeros || blanks == 0 || is_blank(text) {
            return None;
        }
        let len = digits.len() + 1;
        let blanks = if blanks > TEXT_INDENTATION { 1 } else { blanks };
        Some(Self { symbol, number, indentation, len, width: indentation + len + blanks })
    }

    fn is_numbered(self) -> bool {
        matches!(self.symbol, '.' | ')')
    }

    /// Returns whether a line is the next item of the list that begins with this marker.
    fn next(self, line: &str) -> Option<Self> {
        let is_next = |next: &Self| {
            next.symbol == self.symbol
                && next.indentation < (self.indentation + NESTED_LIST_INDENTATION).min(TEXT_INDENTATION)
        };
        Self::of(line).filter(is_next)
    }

    /// Returns whether a line that is not empty belongs to the item with this marker.
    fn includes(self, line: &str) -> bool {
        let indentation = split_indentation(line).0;
        let required = if Self::of(line).is_some() { NESTED_LIST_INDENTATION } else { 1 };
        indentation >= self.indentation + required
    }
}

fn parse_list<'a>(lines: &[&'a str], first: Marker, depth: usize) -> (Block<'a>, usize) {
    let mut list = List { is_numbered: first.is_numbered(), is_loose: false, items: Vec::new() };
    let mut marker = first;
    let mut len = 0;
    loop {
        let item_len = item_len(&lines[len..], marker);
        let item = &lines[len..len + item_len];
        let mut content = vec![after_marker(item[0], marker)];
        content.extend(item[1..].iter().map(|line| without_indentation(line, marker.width)));
        list.is_loose |= content.iter().any(|line| is_empty(line));
        list.items.push(Item { number: marker.number, blocks: parse_lines(&content, depth + 1) });
        len += item_len;
        let empty_lines = lines[len..].iter().take_while(|line| is_empty(line)).count();
        let Some(next) = lines.get(len + empty_lines).and_then(|line| first.next(line)) else { break };
        list.is_loose |= empty_lines > 0;
        len += empty_lines;
        marker = next;
    }
    (Block::List(list), len)
}

/// Returns the number of lines of an item, without empty lines at its end.
fn item_len(lines: &[&str], marker: Marker) -> usize {
    let mut len = 1;
    for (index, line) in lines.iter().enumerate().skip(1) {
        if is_empty(line) {
            continue;
        }
        if !marker.includes(line) {
            break;
        }
        len = index + 1;
    }
    len
}

/// Returns the text of an item's first line.
fn after_marker(line: &str, marker: Marker) -> &str {
    split_indentation(&split_indentation(line).1[marker.len..]).1
}

/// The first line of a block of code.
struct Fence<'a> {
    character: char,
    len: usize,
    indentation: usize,
    /// The text after the fence.
    info: &'a str,
}

impl<'a> Fence<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (indentation, content) = split_indentation(line);
        let character = content.chars().next().filter(|character| matches!(character, '`' | '~'))?;
        let info = content.trim_start_matches(character);
        let len = content.len() - info.len();
        let is_fence = len >= MIN_FENCE_LEN && !(character == '`' && info.contains('`'));
        is_fence.then(|| Self { character, len, indentation, info: info.trim_matches([' ', '\t']) })
    }

    /// Returns the code after the fence and the number of its lines, unless there is none.
    ///
    /// Text after the fence that names no language is the first line of the code. Code ends before a fence at the end
    /// of a line too, and at the end of the text.
    fn parse(&self, lines: &[&'a str]) -> Option<(Block<'a>, usize)> {
        let language = Some(self.info).filter(|info| is_language(info));
        let mut code = Vec::new();
        if language.is_none() && !self.info.is_empty() {
            code.push(self.info);
        }
        let mut len = 1;
        for line in &lines[1..] {
            len += 1;
            let (line, is_last) = match self.before_end(line) {
                Some(line) => (line, true),
                None => (*line, false),
            };
            if !is_last || !is_empty(line) {
                code.push(without_indentation(line, self.indentation));
            }
            if is_last {
                break;
            }
        }
        let has_code = code.iter().any(|line| !is_blank(line));
        has_code.then_some((Block::Code { language, lines: code }, len))
    }

    /// Returns the text before the closing fence of a line.
    fn before_end<'b>(&self, line: &'b str) -> Option<&'b str> {
        let line = line.trim_end_matches([' ', '\t']);
        let before = line.trim_end_matches(self.character);
        let is_end = line.len() - before.len() >= self.len && (self.character == '`' || is_empty(before));
        is_end.then_some(before)
    }
}

fn is_language(info: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+#-_.".contains(&byte);
    (1..=MAX_LANGUAGE_BYTES).contains(&info.len()) && info.bytes().all(is_allowed)
}

fn parse_paragraph<'a>(lines: &[&'a str], depth: usize) -> (Block<'a>, usize) {
    let len = 1 + continuation(&lines[1..], depth).len();
    (Block::Paragraph(lines[..len].to_vec()), len)
}

/// Returns the lines that continue a paragraph before them.
fn continuation<'a, 'b>(lines: &'b [&'a str], depth: usize) -> &'b [&'a str] {
    let continues =
        |line: &str| !is_empty(line) && !Start::of(line, depth).is_some_and(|start| start.interrupts_paragraph());
    let len = lines.iter().take_while(|line| continues(line)).count();
    &lines[..len]
}
