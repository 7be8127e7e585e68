//! The lexer for the document limits: divides a GraphQL document into tokens, from left to right.
//!
//! Its tokens are those of the specification (September 2025, section 2.1). Where async-graphql's
//! grammar departs from them (it reads `007` as three numbers), the lexer is the stricter one, so that
//! no document can evade the limits by the difference.

use std::{borrow::Cow, fmt::Write, iter};

use async_graphql::Pos;

/// A malformed part of a document, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {message} at {pos}")]
pub struct SyntaxError {
    pub message: &'static str,
    pub pos: Pos,
}

/// A token, with as much of its value as the limits depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    Name(&'a str),
    /// `...`
    Spread,
    /// Any other punctuator.
    Punctuator(char),
    /// A number or a string.
    Value,
}

/// Divides a document into tokens.
pub struct Lexer<'a> {
    document: &'a str,
    /// The part that is not read yet.
    remaining: &'a str,
    /// The length of `remaining` before the last token, from which the token's position follows.
    remaining_at_token: usize,
    /// The document up to the last replaced escape, with that escape and earlier ones replaced.
    rewritten: String,
    /// The number of bytes of the document that `rewritten` covers.
    copied_bytes: usize,
}

impl<'a> Lexer<'a> {
    /// Creates a lexer at the beginning of a document.
    pub fn new(document: &'a str) -> Self {
        let remaining_at_token = document.len();
        Self { document, remaining: document, remaining_at_token, rewritten: String::new(), copied_bytes: 0 }
    }

    /// Reads the next token; `None` at the end of the document.
    ///
    /// # Errors
    ///
    /// Returns the position of a number, a string or a character that the specification does not allow.
    pub fn next_token(&mut self) -> Result<Option<Token<'a>>, SyntaxError> {
        self.skip_ignored();
        self.remaining_at_token = self.remaining.len();
        let Some(first) = self.remaining.chars().next() else { return Ok(None) };
        let token = match first {
            'A'..='Z' | 'a'..='z' | '_' => Token::Name(self.consume_while(|c| c.is_ascii_alphanumeric() || c == '_')),
            '-' | '0'..='9' => {
                let number = self.consume_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'));
                // GraphQL writes numbers exactly as JSON does.
                if number.parse::<serde_json::Number>().is_err() {
                    return Err(self.error("invalid number"));
                }
                Token::Value
            }
            '"' => {
                if self.remaining.starts_with("\"\"\"") {
                    self.read_block_string()?;
                } else {
                    self.read_string()?;
                }
                Token::Value
            }
            '.' if self.remaining.starts_with("...") => {
                self.consume(3);
                Token::Spread
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                self.consume(1);
                Token::Punctuator(first)
            }
            _ => return Err(self.error("unexpected character")),
        };
        Ok(Some(token))
    }

    /// Skips white space, commas, byte order marks and comments.
    fn skip_ignored(&mut self) {
        loop {
            self.remaining = self.remaining.trim_start_matches([' ', '\t', '\n', '\r', ',', '\u{FEFF}']);
            let Some(comment) = self.remaining.strip_prefix('#') else { return };
            self.remaining = comment.trim_start_matches(|c| !matches!(c, '\n' | '\r'));
        }
    }

    fn consume(&mut self, length: usize) -> &'a str {
        let (consumed, remaining) = self.remaining.split_at(length);
        self.remaining = remaining;
        consumed
    }

    fn consume_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        self.consume(self.remaining.find(|c| !is_part(c)).unwrap_or(self.remaining.len()))
    }

    fn read_block_string(&mut self) -> Result<(), SyntaxError> {
        self.consume(3);
        loop {
            let Some(length) = self.remaining.find("\"\"\"") else {
                return Err(self.error("unterminated string"));
            };
            let escaped = self.consume(length).ends_with('\\');
            self.consume(3);
            if !escaped {
                return Ok(());
            }
        }
    }

    fn read_string(&mut self) -> Result<(), SyntaxError> {
        self.consume(1);
        loop {
            self.consume_while(|c| !matches!(c, '"' | '\\' | '\n' | '\r'));
            match self.remaining.as_bytes() {
                [b'"', ..] => {
                    self.consume(1);
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                    self.consume(2);
                }
                [b'\\', ..] => self.read_unicode_escape()?,
                _ => return Err(self.error("unterminated string")),
            }
        }
    }

    /// Reads an escape such as `\u0041`, and replaces it if async-graphql does not support its form.
    fn read_unicode_escape(&mut self) -> Result<(), SyntaxError> {
        let Some((character, length)) = decode_unicode_escape(self.remaining) else {
            return Err(self.error("invalid escape sequence in the string"));
        };
        let start = self.document.len() - self.remaining.len();
        let escape = self.consume(length);
        if escape.starts_with("\\u{") || character.len_utf16() == 2 {
            self.rewritten.push_str(&self.document[self.copied_bytes..start]);
            self.copied_bytes = start + length;
            match character {
                '"' | '\\' => self.rewritten.extend(['\\', character]),
                // All control characters are below U+00A0, so four digits suffice.
                _ if character.is_control() => {
                    write!(self.rewritten, "\\u{:04X}", u32::from(character)).expect("a write to a string cannot fail");
                }
                _ => self.rewritten.push(character),
            }
        }
        Ok(())
    }

    /// Returns the document, with the escapes replaced that async-graphql rejects.
    pub fn into_text(mut self) -> Cow<'a, str> {
        if self.copied_bytes == 0 {
            return Cow::Borrowed(self.document);
        }
        self.rewritten.push_str(&self.document[self.copied_bytes..]);
        Cow::Owned(self.rewritten)
    }

    /// Creates an error at the position of the last token.
    pub fn error(&self, message: &'static str) -> SyntaxError {
        let before = self.document[..self.document.len() - self.remaining_at_token].replace("\r\n", "\n");
        let mut lines = before.split(['\n', '\r']);
        let column = 1 + lines.next_back().map_or(0, |line| line.chars().count());
        let pos = Pos { line: 1 + lines.count(), column };
        SyntaxError { message, pos }
    }
}

/// Decodes the `\u` escape at the start of a text to its character and the escape's length in bytes.
///
/// Returns `None` for a malformed escape and for an unpaired surrogate.
fn decode_unicode_escape(text: &str) -> Option<(char, usize)> {
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

#[cfg(test)]
mod tests {
    use async_graphql::{
        Value,
        parser::{parse_query, types::Selection},
    };

    use super::*;

    fn tokens(document: &str) -> Result<Vec<Token<'_>>, String> {
        let mut lexer = Lexer::new(document);
        iter::from_fn(|| lexer.next_token().transpose()).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn documents_are_divided_into_the_tokens_of_the_specification() {
        use Token::{Name, Punctuator, Spread, Value};
        for (document, expected) in [
            ("", &[][..]),
            ("\u{FEFF} ,\t\r\n# { \" é", &[]),
            ("a#\rb#\nc", &[Name("a"), Name("b"), Name("c")]),
            ("on...on", &[Name("on"), Spread, Name("on")]),
            ("[-0.5e+3,0,9]", &[Punctuator('['), Value, Value, Value, Punctuator(']')]),
            (r#""" a "\"" "\\""#, &[Value, Name("a"), Value, Value]),
            (r#""""a\""" "" \""" b""" b"#, &[Value, Name("b")]),
            (r#""""\"""" """"#, &[Value]),
            ("!$&():=@[]{|}", &"!$&():=@[]{|}".chars().map(Punctuator).collect::<Vec<_>>()),
        ] {
            assert_eq!(tokens(document).as_deref(), Ok(expected), "{document}");
        }
    }

    #[test]
    fn malformed_token_is_reported_with_its_position() {
        for (document, message) in [
            ("a\n b\r\n c\r\"x}", "unterminated string at 4:1"),
            ("é\"\"\"c\\\"\"\"", "unexpected character at 1:1"),
            ("{a(b:\"\"\"c\\\"\"\"", "unterminated string at 1:6"),
            ("\"é\" \"\\x\"", "invalid escape sequence in the string at 1:5"),
            ("\0", "unexpected character at 1:1"),
            ("..a", "unexpected character at 1:1"),
            ("[007", "invalid number at 1:2"),
            ("-", "invalid number at 1:1"),
            ("1...F", "invalid number at 1:1"),
            ("1e999", "invalid number at 1:1"),
        ] {
            assert_eq!(tokens(document), Err(format!("Syntax Error: {message}")));
        }
        for escape in [
            r"\uD83D",
            r"\uDE00\uD83D",
            r"\uD83D\u0041",
            r"\uD83D\uD",
            r"\u{D83D}",
            r"\u{110000}",
            r"\u{}",
            r"\u{41",
            r"\u{+41}",
            r"\u+041",
            r"\u41",
            r"\u00é",
            r"\x",
        ] {
            let error = tokens(&format!("\"{escape}\"")).unwrap_err();
            assert!(error.contains("invalid escape sequence"), "{escape}");
        }
    }

    #[test]
    fn escapes_that_the_parser_rejects_are_replaced() {
        for (escaped, expected) in [
            (r"\u{1F600}", "\u{1F600}"),
            (r"\uD83D\uDE00", "\u{1F600}"),
            (r"a\ud83d\ude00b\u{62}\n\u0041", "a\u{1F600}bb\nA"),
            (r"\u{22}\u{5C}\u{0000A}\u{85}\\u{41}", "\"\\\n\u{85}\\u{41}"),
        ] {
            let document = format!("{{a(b:\"{escaped}\" c:\"\"\"\\u{{41}}\"\"\")}}");
            let mut lexer = Lexer::new(&document);
            while lexer.next_token().unwrap().is_some() {}
            let parsed = parse_query(lexer.into_text()).unwrap();
            let (_, operation) = parsed.operations.iter().next().unwrap();
            let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
                panic!("the selection must be a field");
            };
            let arguments = field.node.arguments.iter().map(|(_, value)| value.node.clone().into_const());
            let expected = [expected, r"\u{41}"].map(|text| Some(Value::from(text)));
            assert!(arguments.eq(expected));
        }
    }
}
