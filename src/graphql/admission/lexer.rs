//! The lexer of the guard: divides a GraphQL document into tokens, from left to right.
//!
//! Its tokens are those of the specification (September 2025, section 2.1). Where async-graphql's
//! grammar departs from them (it reads `007` as three numbers), the lexer is the stricter, so that
//! nothing can hide from the guard in the difference.

use std::{borrow::Cow, fmt::Write, iter};

use async_graphql::Pos;

/// What cannot be read in a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Syntax Error: {message} at {pos}")]
pub struct SyntaxError {
    pub message: &'static str,
    pub pos: Pos,
}

/// A token, as far as the guard must know it.
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
    /// What is not read yet.
    remaining: &'a str,
    /// The length of `rest` before the last token: tells where that token is.
    remaining_at_token: usize,
    /// The document with its strings' escapes replaced, as far as that has gone.
    rewritten: String,
    /// How many bytes of the document `rewritten` stands for.
    copied_bytes: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(document: &'a str) -> Self {
        let (rest, before) = (document, document.len());
        Self { document, remaining: rest, remaining_at_token: before, rewritten: String::new(), copied_bytes: 0 }
    }

    /// The next token; none at the end of the document.
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
        let (taken, rest) = self.remaining.split_at(length);
        self.remaining = rest;
        taken
    }

    fn consume_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        self.consume(self.remaining.find(|c| !belongs(c)).unwrap_or(self.remaining.len()))
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

    /// Reads `\u0041`, which the parser understands, or one that it does not, which is replaced.
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
                // All of them are below U+00A0.
                _ if character.is_control() => {
                    write!(self.rewritten, "\\u{:04X}", u32::from(character))
                        .expect("a String takes all that is written");
                }
                _ => self.rewritten.push(character),
            }
        }
        Ok(())
    }

    /// The document, with the escapes replaced that async-graphql refuses.
    pub fn into_text(mut self) -> Cow<'a, str> {
        if self.copied_bytes == 0 {
            return Cow::Borrowed(self.document);
        }
        self.rewritten.push_str(&self.document[self.copied_bytes..]);
        Cow::Owned(self.rewritten)
    }

    /// What is wrong with the last token.
    pub fn error(&self, what: &'static str) -> SyntaxError {
        let before = self.document[..self.document.len() - self.remaining_at_token].replace("\r\n", "\n");
        let mut lines = before.split(['\n', '\r']);
        let column = 1 + lines.next_back().map_or(0, |line| line.chars().count());
        let pos = Pos { line: 1 + lines.count(), column };
        SyntaxError { message: what, pos }
    }
}

/// The character that the `\u` escape at the front of a text stands for, and the escape's length in
/// bytes. A lone surrogate stands for none.
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

/// The number that hexadecimal digits alone stand for: `from_str_radix` would take a sign too.
fn parse_hex(digits: &str) -> Option<u32> {
    let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if valid { u32::from_str_radix(digits, 16).ok() } else { None }
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
        iter::from_fn(|| lexer.next_token().transpose()).collect::<Result<_, _>>().map_err(|fault| fault.to_string())
    }

    #[test]
    fn tokens_are_those_of_the_specification() {
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
    fn what_cannot_be_read_is_told_with_its_place() {
        for (document, what) in [
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
            assert_eq!(tokens(document), Err(format!("Syntax Error: {what}")));
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
            let fault = tokens(&format!("\"{escape}\"")).unwrap_err();
            assert!(fault.contains("invalid escape sequence"), "{escape}");
        }
    }

    #[test]
    fn escapes_that_the_parser_refuses_are_replaced() {
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
                panic!("a field was written");
            };
            let arguments = field.node.arguments.iter().map(|(_, value)| value.node.clone().into_const());
            let expected = [expected, r"\u{41}"].map(|text| Some(Value::from(text)));
            assert!(arguments.eq(expected));
        }
    }
}
