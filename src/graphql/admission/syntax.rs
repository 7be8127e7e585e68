//! The first syntax error of a document, in the words of graphql-js.
//!
//! async-graphql's parser describes an error by a drawing of several lines with the names of its grammar rules. This
//! module reads a document that was found malformed once more, in the order in which graphql-js 16 does, and reports
//! what that parser reports. It recurses as deep as the document's brackets nest, which
//! [`document_limits`](crate::graphql::admission::document_limits) has bounded.

use crate::graphql::admission::lexer::{Lexer, SyntaxError, Token};

/// The keywords of definitions that belong to a schema.
const SCHEMA_KEYWORDS: [&str; 9] =
    ["schema", "scalar", "type", "interface", "union", "enum", "input", "directive", "extend"];

type Parsed = Result<(), SyntaxError>;

/// Returns the first syntax error of a document, or `None` if graphql-js would parse it.
pub fn first_error(document: &str) -> Option<SyntaxError> {
    let mut parser = Parser { lexer: Lexer::new(document), token: None };
    parser.parse_document().err()
}

/// A parser that builds no tree.
struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next token; `None` at the end of the document.
    token: Option<Token<'a>>,
}

impl<'a> Parser<'a> {
    fn parse_document(&mut self) -> Parsed {
        self.advance()?;
        loop {
            self.parse_definition()?;
            if self.token.is_none() {
                return Ok(());
            }
        }
    }

    fn parse_definition(&mut self) -> Parsed {
        match self.token {
            Some(Token::Punctuator('{')) => self.parse_selection_set(),
            Some(Token::Name("query" | "mutation" | "subscription")) => self.parse_operation(),
            Some(Token::Name("fragment")) => self.parse_fragment_definition(),
            Some(Token::Name(keyword)) if SCHEMA_KEYWORDS.contains(&keyword) => self.reject_schema_definition(),
            _ => self.unexpected(),
        }
    }

    fn parse_operation(&mut self) -> Parsed {
        self.advance()?;
        if let Some(Token::Name(_)) = self.token {
            self.advance()?;
        }
        self.parse_optional_group('(', ')', Self::parse_variable_definition)?;
        self.parse_directives(false)?;
        self.parse_selection_set()
    }

    fn parse_fragment_definition(&mut self) -> Parsed {
        self.advance()?;
        self.parse_fragment_name()?;
        self.expect_keyword("on")?;
        self.expect_name()?;
        self.parse_directives(false)?;
        self.parse_selection_set()
    }

    /// Reports a definition of a schema, as the validation of graphql-js does.
    fn reject_schema_definition(&mut self) -> Parsed {
        let pos = self.lexer.position(self.lexer.token_start());
        let mut name = "schema".to_owned();
        while let Some(Token::Name(_) | Token::Punctuator('@')) = self.token {
            if let Some(Token::Name(part)) = self.token
                && !SCHEMA_KEYWORDS.contains(&part)
            {
                name = format!("\"{}\"", shorten(part));
                break;
            }
            self.advance()?;
        }
        Err(SyntaxError { message: format!("The {name} definition is not executable."), pos })
    }

    fn parse_variable_definition(&mut self) -> Parsed {
        self.parse_variable()?;
        self.expect(':')?;
        self.parse_type()?;
        if self.skip('=')? {
            self.parse_value(true)?;
        }
        self.parse_directives(true)
    }

    fn parse_variable(&mut self) -> Parsed {
        self.expect('$')?;
        self.expect_name()
    }

    fn parse_type(&mut self) -> Parsed {
        if self.skip('[')? {
            self.parse_type()?;
            self.expect(']')?;
        } else {
            self.expect_name()?;
        }
        self.skip('!').map(drop)
    }

    fn parse_selection_set(&mut self) -> Parsed {
        self.expect('{')?;
        self.parse_until('}', Self::parse_selection)
    }

    fn parse_selection(&mut self) -> Parsed {
        if self.token == Some(Token::Spread) { self.parse_fragment() } else { self.parse_field() }
    }

    fn parse_field(&mut self) -> Parsed {
        self.expect_name()?;
        if self.skip(':')? {
            self.expect_name()?;
        }
        self.parse_optional_group('(', ')', |parser| parser.parse_argument(false))?;
        self.parse_directives(false)?;
        self.parse_optional_group('{', '}', Self::parse_selection)
    }

    /// Parses the spread of a fragment, or an inline fragment.
    fn parse_fragment(&mut self) -> Parsed {
        self.advance()?;
        match self.token {
            Some(Token::Name("on")) => {
                self.advance()?;
                self.expect_name()?;
            }
            Some(Token::Name(_)) => {
                self.advance()?;
                return self.parse_directives(false);
            }
            _ => {}
        }
        self.parse_directives(false)?;
        self.parse_selection_set()
    }

    fn parse_fragment_name(&mut self) -> Parsed {
        if self.token == Some(Token::Name("on")) { self.unexpected() } else { self.expect_name() }
    }

    fn parse_argument(&mut self, is_constant: bool) -> Parsed {
        self.expect_name()?;
        self.expect(':')?;
        self.parse_value(is_constant)
    }

    fn parse_directives(&mut self, is_constant: bool) -> Parsed {
        while self.skip('@')? {
            self.expect_name()?;
            self.parse_optional_group('(', ')', |parser| parser.parse_argument(is_constant))?;
        }
        Ok(())
    }

    fn parse_value(&mut self, is_constant: bool) -> Parsed {
        match self.token {
            Some(Token::Punctuator('[')) => {
                self.advance()?;
                while !self.skip(']')? {
                    self.parse_value(is_constant)?;
                }
                Ok(())
            }
            Some(Token::Punctuator('{')) => {
                self.advance()?;
                while !self.skip('}')? {
                    self.parse_argument(is_constant)?;
                }
                Ok(())
            }
            Some(Token::Punctuator('$')) if is_constant => self.reject_variable(),
            Some(Token::Punctuator('$')) => self.parse_variable(),
            None | Some(Token::Punctuator(_) | Token::Spread) => self.unexpected(),
            Some(_) => self.advance(),
        }
    }

    /// Reports a variable in the default value of another one.
    fn reject_variable(&mut self) -> Parsed {
        let start = self.lexer.token_start();
        self.advance()?;
        let message = match self.token {
            Some(Token::Name(name)) => format!("Unexpected variable \"${}\" in constant value.", shorten(name)),
            _ => "Unexpected \"$\".".to_owned(),
        };
        Err(self.lexer.error_at(start, message))
    }

    /// Parses one or more items in brackets, if there is an opening one.
    fn parse_optional_group(&mut self, open: char, close: char, parse_item: impl Fn(&mut Self) -> Parsed) -> Parsed {
        if self.skip(open)? { self.parse_until(close, parse_item) } else { Ok(()) }
    }

    /// Parses one or more items and the closing bracket.
    fn parse_until(&mut self, close: char, parse_item: impl Fn(&mut Self) -> Parsed) -> Parsed {
        loop {
            parse_item(self)?;
            if self.skip(close)? {
                return Ok(());
            }
        }
    }

    fn advance(&mut self) -> Parsed {
        self.token = self.lexer.next_token()?;
        Ok(())
    }

    /// Reads a punctuator if it is the next token, and returns whether it was.
    fn skip(&mut self, punctuator: char) -> Result<bool, SyntaxError> {
        let is_next = self.token == Some(Token::Punctuator(punctuator));
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, punctuator: char) -> Parsed {
        match self.skip(punctuator)? {
            true => Ok(()),
            false => self.expected(&format!("\"{punctuator}\"")),
        }
    }

    fn expect_name(&mut self) -> Parsed {
        match self.token {
            Some(Token::Name(_)) => self.advance(),
            _ => self.expected("Name"),
        }
    }

    fn expect_keyword(&mut self, keyword: &str) -> Parsed {
        match self.token {
            Some(Token::Name(name)) if name == keyword => self.advance(),
            _ => self.expected(&format!("\"{keyword}\"")),
        }
    }

    fn expected(&self, kind: &str) -> Parsed {
        self.error(format!("Expected {kind}, found {}.", describe(self.token)))
    }

    fn unexpected(&self) -> Parsed {
        self.error(format!("Unexpected {}.", describe(self.token)))
    }

    /// Fails at the next token.
    fn error(&self, message: String) -> Parsed {
        Err(self.lexer.error_at(self.lexer.token_start(), message))
    }
}

/// Describes a token by its kind and its value.
fn describe(token: Option<Token<'_>>) -> String {
    let valued = |kind: &str, value: &str| format!("{kind} \"{}\"", shorten(value));
    match token {
        None => "<EOF>".to_owned(),
        Some(Token::Spread) => "\"...\"".to_owned(),
        Some(Token::Punctuator(punctuator)) => format!("\"{punctuator}\""),
        Some(Token::Name(name)) => valued("Name", name),
        Some(Token::Int(number)) => valued("Int", number),
        Some(Token::Float(number)) => valued("Float", number),
        Some(Token::String(text)) => valued("String", text),
        Some(Token::BlockString(text)) => valued("BlockString", text),
    }
}

/// Returns a text of the document on one line, cut to a limited length.
fn shorten(text: &str) -> String {
    /// The greatest number of bytes of the document in an error message.
    const MAX_BYTES: usize = 200;
    let line = text.replace(['\n', '\r'], " ");
    if line.len() <= MAX_BYTES { line } else { format!("{}…", &line[..line.floor_char_boundary(MAX_BYTES)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected messages and positions are those of graphql-js 16.15.
    #[test]
    fn syntax_error_is_reported_as_by_graphql_js() {
        for (document, message, line, column) in [
            ("", "Unexpected <EOF>.", 1, 1),
            (" # {\n", "Unexpected <EOF>.", 2, 1),
            ("{}", "Expected Name, found \"}\".", 1, 2),
            ("query", "Expected \"{\", found <EOF>.", 1, 6),
            ("{", "Expected Name, found <EOF>.", 1, 2),
            ("{ a", "Expected Name, found <EOF>.", 1, 4),
            ("{ a }}", "Unexpected \"}\".", 1, 6),
            ("{ a(b: [1) }", "Unexpected \")\".", 1, 10),
            ("{ a() }", "Expected Name, found \")\".", 1, 5),
            ("{ a(b) }", "Expected \":\", found \")\".", 1, 6),
            ("{ a: }", "Expected Name, found \"}\".", 1, 6),
            ("{ a b: c: d }", "Expected Name, found \":\".", 1, 9),
            ("{ ... }", "Expected \"{\", found \"}\".", 1, 7),
            ("{ ...on }", "Expected Name, found \"}\".", 1, 9),
            ("{ ... on { a } }", "Expected Name, found \"{\".", 1, 10),
            ("{ ...F { a } }", "Expected Name, found \"{\".", 1, 8),
            ("{ a @ }", "Expected Name, found \"}\".", 1, 7),
            ("{ 1 }", "Expected Name, found Int \"1\".", 1, 3),
            ("{ -1.5e3 }", "Expected Name, found Float \"-1.5e3\".", 1, 3),
            ("{ \"a b\" }", "Expected Name, found String \"a b\".", 1, 3),
            ("{ \"\"\"a b\"\"\" }", "Expected Name, found BlockString \"a b\".", 1, 3),
            ("select { a }", "Unexpected Name \"select\".", 1, 1),
            ("query Q R { a }", "Expected \"{\", found Name \"R\".", 1, 9),
            ("query () { a }", "Expected \"$\", found \")\".", 1, 8),
            ("query ($a) { a }", "Expected \":\", found \")\".", 1, 10),
            ("query ($a: ) { a }", "Expected Name, found \")\".", 1, 12),
            ("query ($a: [Int) { a }", "Expected \"]\", found \")\".", 1, 16),
            ("query ($a: Int = $b) { a }", "Unexpected variable \"$b\" in constant value.", 1, 18),
            ("query ($a: Int = $) { a }", "Unexpected \"$\".", 1, 18),
            ("query ($a: Int = ) { a }", "Unexpected \")\".", 1, 18),
            ("fragment on on T { a }", "Unexpected Name \"on\".", 1, 10),
            ("fragment F T { a }", "Expected \"on\", found Name \"T\".", 1, 12),
            ("fragment F on { a }", "Expected Name, found \"{\".", 1, 15),
            ("fragmentF on T { a }", "Unexpected Name \"fragmentF\".", 1, 1),
            ("{ a\n\n  b(c: {d: 1 e}) }", "Expected \":\", found \"}\".", 3, 15),
        ] {
            let error = first_error(document).expect(document);
            let expected = (format!("Syntax Error: {message}"), line, column);
            assert_eq!((error.message, error.pos.line, error.pos.column), expected, "{document}");
        }
    }

    /// The specification allows it (September 2025, section 2.3), and async-graphql does not.
    #[test]
    fn description_of_an_operation_is_unexpected() {
        let error = first_error("\"text\" query { a }").unwrap();
        assert_eq!(error.message, "Syntax Error: Unexpected String \"text\".");
    }

    #[test]
    fn definition_of_a_schema_is_not_executable() {
        for (document, name) in [
            ("type A { a: B }", "\"A\""),
            ("extend type A { a: B }", "\"A\""),
            ("directive @a on FIELD", "\"a\""),
            ("schema { query: Q }", "schema"),
        ] {
            let error = first_error(document).unwrap();
            assert_eq!(error.message, format!("The {name} definition is not executable."));
            assert_eq!((error.pos.line, error.pos.column), (1, 1));
        }
    }

    #[test]
    fn valid_document_has_no_syntax_error() {
        let document = r#"
            query Q($a: [Int!]! = [1, 2] @d(e: {f: null}), $b: T) @d { a: b(c: $a, d: [$b, "x", """y"""]) @d { e } ...F }
            subscription { on fragment ... on T @d { a } ... @d { b } ... { query } }
            fragment F on T { type(on: on) }
        "#;
        assert_eq!(first_error(document), None);
    }

    #[test]
    fn text_of_the_document_is_cut_to_one_short_line() {
        let error = first_error(&format!("{{ \"\"\"a\r\n{}\"\"\" }}", "é".repeat(1_000))).unwrap();
        assert!(error.message.len() < 300 && !error.message.contains(['\n', '\r']), "{}", error.message);
    }
}
