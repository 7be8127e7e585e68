//! The lexer for the document limits: divides a GraphQL document into tokens, from left to right.
//!
//! Its tokens are those of the specification (September 2025, section 2.1). Where async-graphql's
//! grammar departs from them (it reads `007` as three numbers), the lexer is the stricter one, so that
//! no document can evade the limits by the difference.

use std::borrow::Cow;

use async_graphql::Pos;

use crate::graphql::admission::string_literals::{
    decode_unicode_escape, malformed_unicode_escape, write_block_string, write_escaped,
};

/// A malformed part of a document, with its position.
///
/// The messages about tokens are those of graphql-js 16.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    pub message: String,
    pub pos: Pos,
}

/// A token, with its text in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    Name(&'a str),
    /// `...`
    Spread,
    /// Any other punctuator.
    Punctuator(char),
    Int(&'a str),
    Float(&'a str),
    /// A string, without its quotation marks.
    String(&'a str),
    /// A block string, without its quotation marks.
    BlockString(&'a str),
}

/// Divides a document into tokens.
pub struct Lexer<'a> {
    document: &'a str,
    /// The part that is not read yet.
    remaining: &'a str,
    /// The length of `remaining` before the last token, from which the token's position follows.
    remaining_at_token: usize,
    /// The document up to the last replaced escape or string, with that one and earlier ones replaced.
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
            '-' | '0'..='9' => self.read_number()?,
            '"' if self.remaining.starts_with("\"\"\"") => Token::BlockString(self.read_block_string()?),
            '"' => Token::String(self.read_string()?),
            '.' if self.remaining.starts_with("...") => {
                self.consume(3);
                Token::Spread
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                self.consume(1);
                Token::Punctuator(first)
            }
            '\'' => {
                let hint = "Unexpected single quote character ('), did you mean to use a double quote (\")?";
                return Err(self.error(hint.to_owned()));
            }
            _ => return Err(self.error(format!("Unexpected character: {}.", self.print_next_character()))),
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

    fn read_number(&mut self) -> Result<Token<'a>, SyntaxError> {
        let number = self.remaining;
        self.skip(&['-']);
        if self.skip(&['0']) {
            if self.remaining.starts_with(|c: char| c.is_ascii_digit()) {
                let digit = self.print_next_character();
                return Err(self.error(format!("Invalid number, unexpected digit after 0: {digit}.")));
            }
        } else {
            self.read_digits()?;
        }
        let has_fraction = self.skip(&['.']);
        if has_fraction {
            self.read_digits()?;
        }
        let has_exponent = self.skip(&['e', 'E']);
        if has_exponent {
            self.skip(&['+', '-']);
            self.read_digits()?;
        }
        // The specification lets no name and no further fraction follow directly (section 2.9.1).
        if self.remaining.starts_with(|c: char| c == '.' || c == '_' || c.is_ascii_alphabetic()) {
            return Err(self.missing_digit());
        }
        let number = &number[..number.len() - self.remaining.len()];
        if number.parse::<serde_json::Number>().is_err() {
            return Err(self.error_at(self.token_start(), "Invalid number, the value is out of range.".to_owned()));
        }
        Ok(if has_fraction || has_exponent { Token::Float(number) } else { Token::Int(number) })
    }

    fn read_digits(&mut self) -> Result<(), SyntaxError> {
        if self.consume_while(|c| c.is_ascii_digit()).is_empty() { Err(self.missing_digit()) } else { Ok(()) }
    }

    fn missing_digit(&self) -> SyntaxError {
        self.error(format!("Invalid number, expected digit but got: {}.", self.print_next_character()))
    }

    /// Consumes the next character if it is one of these, and returns whether it was.
    fn skip(&mut self, characters: &[char]) -> bool {
        let is_next = self.remaining.starts_with(characters);
        if is_next {
            self.consume(1);
        }
        is_next
    }

    /// Reads a block string, and replaces one that async-graphql reads wrongly.
    ///
    /// async-graphql keeps the backslash of `\"""`.
    fn read_block_string(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.offset();
        self.consume(3);
        let content = self.remaining;
        loop {
            let Some(length) = self.remaining.find("\"\"\"") else {
                self.consume(self.remaining.len());
                return Err(self.error("Unterminated string.".to_owned()));
            };
            let is_escaped = self.consume(length).ends_with('\\');
            self.consume(3);
            if !is_escaped {
                break;
            }
        }
        let content = &content[..content.len() - self.remaining.len() - 3];
        if content.contains("\\\"\"\"") {
            self.replace_from(start);
            write_block_string(&mut self.rewritten, content);
        }
        Ok(content)
    }

    fn read_string(&mut self) -> Result<&'a str, SyntaxError> {
        self.consume(1);
        let content = self.remaining;
        loop {
            self.consume_while(|c| !matches!(c, '"' | '\\' | '\n' | '\r'));
            match self.remaining.as_bytes() {
                [b'"', ..] => {
                    let content = &content[..content.len() - self.remaining.len()];
                    self.consume(1);
                    return Ok(content);
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                    self.consume(2);
                }
                [b'\\', b'u', ..] => self.read_unicode_escape()?,
                [b'\\', ..] => {
                    let escape: String = self.remaining.chars().take(2).filter(|c| !c.is_control()).collect();
                    return Err(self.error(format!("Invalid character escape sequence: \"{escape}\".")));
                }
                _ => return Err(self.error("Unterminated string.".to_owned())),
            }
        }
    }

    /// Reads an escape such as `\u0041`, and replaces it if async-graphql does not support its form.
    fn read_unicode_escape(&mut self) -> Result<(), SyntaxError> {
        let Some((character, length)) = decode_unicode_escape(self.remaining) else {
            let escape: String = malformed_unicode_escape(self.remaining).chars().filter(|c| !c.is_control()).collect();
            return Err(self.error(format!("Invalid Unicode escape sequence: \"{escape}\".")));
        };
        let start = self.offset();
        let escape = self.consume(length);
        if escape.starts_with("\\u{") || character.len_utf16() == 2 {
            self.replace_from(start);
            write_escaped(&mut self.rewritten, character);
        }
        Ok(())
    }

    /// Copies the document up to a position; the caller replaces what was read since then.
    fn replace_from(&mut self, start: usize) {
        self.rewritten.push_str(&self.document[self.copied_bytes..start]);
        self.copied_bytes = self.offset();
    }

    /// Returns the position of the next character in bytes.
    fn offset(&self) -> usize {
        self.document.len() - self.remaining.len()
    }

    /// Returns the position of the last token in bytes.
    pub fn token_start(&self) -> usize {
        self.document.len() - self.remaining_at_token
    }

    /// Describes the next character, in quotation marks if it is one of ASCII that can be printed.
    fn print_next_character(&self) -> String {
        match self.remaining.chars().next() {
            None => "<EOF>".to_owned(),
            Some('"') => "'\"'".to_owned(),
            Some(character @ ' '..='~') => format!("\"{character}\""),
            Some(character) => format!("U+{:04X}", u32::from(character)),
        }
    }

    /// Returns the document, with the escapes replaced that async-graphql rejects.
    pub fn into_text(mut self) -> Cow<'a, str> {
        if self.copied_bytes == 0 {
            return Cow::Borrowed(self.document);
        }
        self.rewritten.push_str(&self.document[self.copied_bytes..]);
        Cow::Owned(self.rewritten)
    }

    /// Creates an error at the next character.
    fn error(&self, message: String) -> SyntaxError {
        self.error_at(self.offset(), message)
    }

    /// Creates an error at a position in bytes.
    pub fn error_at(&self, offset: usize, message: String) -> SyntaxError {
        SyntaxError { message: format!("Syntax Error: {message}"), pos: self.position(offset) }
    }

    /// Returns the line and the column of a position in bytes.
    pub fn position(&self, offset: usize) -> Pos {
        let before = self.document[..offset].replace("\r\n", "\n");
        let mut lines = before.split(['\n', '\r']);
        let column = 1 + lines.next_back().map_or(0, |line| line.chars().count());
        Pos { line: 1 + lines.count(), column }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{
        Value,
        parser::{parse_query, types::Selection},
    };

    use std::iter;

    use super::*;

    fn tokens(document: &str) -> Result<Vec<Token<'_>>, String> {
        let mut lexer = Lexer::new(document);
        iter::from_fn(|| lexer.next_token().transpose()).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn documents_are_divided_into_the_tokens_of_the_specification() {
        use Token::{BlockString, Float, Int, Name, Punctuator, Spread, String};
        for (document, expected) in [
            ("", &[][..]),
            ("\u{FEFF} ,\t\r\n# { \" é", &[]),
            ("a#\rb#\nc", &[Name("a"), Name("b"), Name("c")]),
            ("on...on", &[Name("on"), Spread, Name("on")]),
            ("[-0.5e+3,0,9]", &[Punctuator('['), Float("-0.5e+3"), Int("0"), Int("9"), Punctuator(']')]),
            (r#""" a "\"" "\\""#, &[String(""), Name("a"), String(r#"\""#), String(r"\\")]),
            (r#""""a\""" "" \""" b""" b"#, &[BlockString(r#"a\""" "" \""" b"#), Name("b")]),
            (r#""""\"""" """"#, &[BlockString(r#"\"""" "#)]),
            ("!$&():=@[]{|}", &"!$&():=@[]{|}".chars().map(Punctuator).collect::<Vec<_>>()),
        ] {
            assert_eq!(tokens(document).as_deref(), Ok(expected), "{document}");
        }
    }

    /// The expected errors are those of graphql-js 16.15, except for the number out of range.
    #[test]
    fn malformed_token_is_reported_as_by_graphql_js() {
        let escape = |escape: &str| format!("Invalid Unicode escape sequence: \"{escape}\".");
        let digit = |found: &str| format!("Invalid number, expected digit but got: {found}.");
        let unterminated = || "Unterminated string.".to_owned();
        let single_quote = "Unexpected single quote character ('), did you mean to use a double quote (\")?";
        for (document, message, line, column) in [
            ("a\n b\r\n c\r\"x}", unterminated(), 4, 4),
            ("{a(b:\"x\ny\")}", unterminated(), 1, 8),
            ("{a(b:\"\"\"c\\\"\"\"", unterminated(), 1, 14),
            ("{ a(b: \"\"\"x\ny", unterminated(), 2, 2),
            ("é\"\"\"c\\\"\"\"", "Unexpected character: U+00E9.".into(), 1, 1),
            ("{ ? }", "Unexpected character: \"?\".".into(), 1, 3),
            ("{ 'a' }", single_quote.into(), 1, 3),
            ("{ a } \u{1F600}", "Unexpected character: U+1F600.".into(), 1, 7),
            ("\0", "Unexpected character: U+0000.".into(), 1, 1),
            ("..a", "Unexpected character: \".\".".into(), 1, 1),
            ("[007", "Invalid number, unexpected digit after 0: \"0\".".into(), 1, 3),
            ("-", digit("<EOF>"), 1, 2),
            ("-)", digit("\")\""), 1, 2),
            ("1.e", digit("\"e\""), 1, 3),
            ("1e\"", digit("'\"'"), 1, 3),
            ("1a", digit("\"a\""), 1, 2),
            ("1_000", digit("\"_\""), 1, 2),
            ("1.5.2", digit("\".\""), 1, 4),
            ("1...F", digit("\".\""), 1, 3),
            (" 1e999", "Invalid number, the value is out of range.".into(), 1, 2),
            ("\"é\" \"\\x\"", "Invalid character escape sequence: \"\\x\".".into(), 1, 6),
            (r#""\"#, "Invalid character escape sequence: \"\\\".".into(), 1, 2),
            (r#""\u12") }"#, escape(r#"\u12")"#), 1, 2),
            (r#""\u00é" "#, escape(r#"\u00é""#), 1, 2),
            (r#""\u"#, escape(r"\u"), 1, 2),
            (r#""\uD83D\u0041""#, escape(r"\uD83D"), 1, 2),
            (r#""\u{}""#, escape(r"\u{}"), 1, 2),
            (r#""\u{41""#, escape(r#"\u{41""#), 1, 2),
            (r#""\u{110000}""#, escape(r"\u{110000}"), 1, 2),
            (r#""\u{12345678901234}""#, escape(r"\u{123456789"), 1, 2),
        ] {
            let mut lexer = Lexer::new(document);
            let error = iter::from_fn(|| lexer.next_token().transpose()).find_map(Result::err).expect(document);
            let expected = (format!("Syntax Error: {message}"), line, column);
            assert_eq!((error.message, error.pos.line, error.pos.column), expected, "{document}");
        }
        for escape in [r"\uD83D", r"\uDE00\uD83D", r"\uD83D\uD", r"\u{D83D}", r"\u{+41}", r"\u+041", r"\u41"] {
            let error = tokens(&format!("\"{escape}\"")).unwrap_err();
            assert!(error.contains("Invalid Unicode escape sequence"), "{escape}");
        }
    }

    /// Parses a document that was read by a lexer, and returns the arguments of its first field.
    fn arguments(document: &str) -> Vec<Value> {
        let mut lexer = Lexer::new(document);
        while lexer.next_token().unwrap().is_some() {}
        let parsed = parse_query(lexer.into_text()).unwrap();
        let (_, operation) = parsed.operations.iter().next().unwrap();
        let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
            panic!("the selection must be a field");
        };
        field.node.arguments.iter().map(|(_, value)| value.node.clone().into_const().unwrap()).collect()
    }

    #[test]
    fn escaped_quotation_marks_of_a_block_string_have_no_backslash() {
        for (content, expected) in [
            ("\\\"\"\"", "\"\"\""),
            ("a \\\"\"\" b \\\"\"\" c", "a \"\"\" b \"\"\" c"),
            ("\\\\\"\"\" \\n \\u0041 \"\" é", "\\\"\"\" \\n \\u0041 \"\" é"),
            ("\n    a \\\"\"\"\n      b\r\n\n    c\r  ", "a \"\"\"\n  b\n\nc"),
            (" first\n  \\\"\"\"\n\tsecond\t", " first\n \"\"\"\nsecond\t"),
            ("\u{1}\\\"\"\"\u{7F}", "\u{1}\"\"\"\u{7F}"),
            ("plain", "plain"),
        ] {
            let document = format!("{{a(b:\"\"\"{content}\"\"\" c:1)}}");
            assert_eq!(arguments(&document), [Value::from(expected), Value::from(1)], "{document}");
        }
    }

    #[test]
    fn text_after_a_replaced_block_string_keeps_its_position() {
        let document = "{\n a(b: \"\"\"x\r\n \\\"\"\" é\n y\"\"\" c: 1) }";
        let mut lexer = Lexer::new(document);
        while lexer.next_token().unwrap().is_some() {}
        let text = lexer.into_text();
        let line_of = |text: &str| text.replace("\r\n", "\n").lines().nth(3).map(|line| line.find("c: 1"));
        assert_eq!(line_of(&text), line_of(document));
        assert_eq!(line_of(document), Some(Some(6)));
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
            assert_eq!(arguments(&document), [expected, r"\u{41}"].map(Value::from));
        }
    }
}
