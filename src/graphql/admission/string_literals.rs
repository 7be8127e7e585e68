//! The forms of strings in a document: their escapes, and block strings.
//!
//! async-graphql reads some of them wrongly or not at all, so the [`lexer`](crate::graphql::admission::lexer) replaces
//! these by an equal form.

use std::fmt::Write;
use std::iter;

/// Writes a character of a string in a form that async-graphql reads.
pub fn write_escaped(text: &mut String, character: char) {
    match character {
        '"' | '\\' => text.extend(['\\', character]),
        // All control characters are below U+00A0, so four digits suffice.
        _ if character.is_control() => {
            write!(text, "\\u{:04X}", u32::from(character)).expect("a write to a string cannot fail");
        }
        _ => text.push(character),
    }
}

/// Writes a block string as a string of the same value.
///
/// It takes as many lines, so that the rest of the document keeps its position.
pub fn write_block_string(text: &mut String, content: &str) {
    text.push('"');
    block_string_value(content).chars().for_each(|character| write_escaped(text, character));
    text.push('"');
    let lines = content.replace("\r\n", "\n").matches(['\n', '\r']).count();
    text.extend(iter::repeat_n('\n', lines));
    if lines > 0 {
        let last_line = content.rsplit(['\n', '\r']).next().unwrap_or_default();
        text.extend(iter::repeat_n(' ', last_line.chars().count() + "\"\"\"".len()));
    }
}

/// Returns the value of a block string: `BlockStringValue` of the specification (section 2.9.4).
fn block_string_value(content: &str) -> String {
    let content = content.replace("\\\"\"\"", "\"\"\"").replace("\r\n", "\n").replace('\r', "\n");
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let is_blank = |line: &&str| indent(line) == line.len();
    let mut lines: Vec<&str> = content.split('\n').collect();
    let common_indent = lines.iter().skip(1).filter(|line| !is_blank(line)).map(|line| indent(line)).min();
    for line in lines.iter_mut().skip(1) {
        *line = line.get(common_indent.unwrap_or_default()..).unwrap_or_default();
    }
    let first = lines.iter().position(|line| !is_blank(line)).unwrap_or(lines.len());
    let end = lines.iter().rposition(|line| !is_blank(line)).map_or(first, |last| last + 1);
    lines[first..end].join("\n")
}

/// Returns the part of a malformed `\u` escape up to the character that makes it so.
pub fn malformed_unicode_escape(text: &str) -> &str {
    /// The length of `\u` and four digits.
    const FIXED_CHARS: usize = 6;
    /// The greatest length of a braced escape that is read.
    const MAX_BRACED_CHARS: usize = 12;
    let chars = match text.strip_prefix("\\u{") {
        Some(braced) => {
            let digits = braced.bytes().take_while(u8::is_ascii_hexdigit).count();
            ("\\u{".len() + digits + 1).min(MAX_BRACED_CHARS)
        }
        None => FIXED_CHARS,
    };
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

/// Decodes the `\u` escape at the start of a text to its character and the escape's length in bytes.
///
/// Returns `None` for a malformed escape and for an unpaired surrogate.
pub fn decode_unicode_escape(text: &str) -> Option<(char, usize)> {
    if let Some(braced) = text.strip_prefix("\\u{") {
        let (digits, _) = braced.split_once('}')?;
        return Some((char::from_u32(parse_hex(digits)?)?, digits.len() + "\\u{}".len()));
    }
    let unit = |text: &str| {
        let unit = parse_hex(text.strip_prefix("\\u")?.get(..4)?)?;
        u16::try_from(unit).ok()
    };
    let units = iter::once(unit(text)?).chain(text.get(6..).and_then(unit));
    let character = char::decode_utf16(units).next()?.ok()?;
    Some((character, character.len_utf16() * "\\u0000".len()))
}

/// Parses hexadecimal digits; unlike `from_str_radix`, it accepts no sign.
fn parse_hex(digits: &str) -> Option<u32> {
    let is_valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_valid { u32::from_str_radix(digits, 16).ok() } else { None }
}
