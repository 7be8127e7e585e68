//! The guard that reads every GraphQL document before async-graphql does.
//!
//! async-graphql's parser and validator recurse over value literals and chains of fragments, and
//! walk a fragment again for each of its spreads: a few hundred bytes can overflow the stack, which
//! kills the process, or burn a core for minutes. The guard reads a document once, from left to
//! right and without recursion, and admits it only if all that could grow is within [`Limits`].
//! It knows tokens, brackets and fragments; the rest of the grammar is left to the parser.
//!
//! Its tokens are those of the specification (September 2025, section 2.1). Where async-graphql's
//! grammar departs from them (it takes `fragmentF on T` for a fragment named F), the guard is the
//! stricter, so that nothing can hide from it in the difference.

use std::{borrow::Cow, collections::HashMap, fmt::Write, iter};

use async_graphql::Pos;

/// What a document may hold. Every number is the greatest that is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The document's length in bytes, white space and comments included. GraphiQL's introspection,
    /// the longest query of common tools, has under 2 KiB.
    pub bytes: usize,
    /// Tokens: names, punctuators, numbers and strings. They bound the work of parsing.
    pub tokens: usize,
    /// How deep `{`, `[` and `(` may nest, together and through fragments: a fragment's selections
    /// nest in the place where it is spread. This bounds every recursion over the document.
    /// GraphiQL's introspection nests 18 deep.
    pub nesting: usize,
    /// Fragment definitions, whether used or not. async-graphql recurses along a chain of them.
    pub fragments: usize,
    /// Operations. Only one is executed, but all are validated; GraphiQL sends all that it shows.
    pub operations: usize,
    /// Fields with an alias. Each runs a resolver once more.
    pub aliases: usize,
    /// Directives, such as `@include(if: $full)`.
    pub directives: usize,
    /// Variables, counted wherever one is defined or used: async-graphql copies its value each time.
    pub variables: usize,
    /// Selections (fields, spreads and inline fragments) of all operations together once each spread
    /// is written out, and likewise of each fragment by itself, used or not. async-graphql walks
    /// them so several times before its own limits are applied.
    pub expanded: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 16 * 1024,
            tokens: 2_000,
            nesting: 24,
            fragments: 64,
            operations: 16,
            aliases: 50,
            directives: 20,
            variables: 200,
            expanded: 2_000,
        }
    }
}

/// Why a document is not admitted, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the document has more than {0} bytes")]
    Bytes(usize),
    #[error("the document has more than {0} tokens")]
    Tokens(usize),
    #[error("the document nests more than {0} brackets, its fragments written out")]
    Nesting(usize),
    #[error("the document has more than {0} fragments")]
    Fragments(usize),
    #[error("the document has more than {0} operations")]
    Operations(usize),
    #[error("the document has more than {0} aliases")]
    Aliases(usize),
    #[error("the document has more than {0} directives")]
    Directives(usize),
    #[error("the document mentions variables more than {0} times")]
    Variables(usize),
    #[error("the document has more than {0} selections, its fragments written out")]
    Expanded(usize),
    /// The name of a fragment that spreads itself, at once or through others.
    #[error("Cannot spread fragment \"{0}\" within itself")]
    Cycle(String),
    /// The document cannot be divided into tokens, matching brackets and definitions.
    #[error("Syntax Error: {what} at {pos}")]
    Syntax { what: &'static str, pos: Pos },
}

/// Admits a document that is within the limits, as the text to give to the parser.
///
/// That is the document itself, except that the escapes `\u{1F600}` and `\uD83D\uDE00`, which the
/// specification allows in a string and async-graphql refuses, are replaced by their character.
pub fn admit<'a>(document: &'a str, limits: &Limits) -> Result<Cow<'a, str>, Refusal> {
    within(document.len(), limits.bytes, Refusal::Bytes)?;
    let mut outline = Outline::new(document, limits);
    outline.read()?;
    expand(&mut outline.definitions, limits)?;
    Ok(outline.lexer.into_text())
}

fn within(count: usize, limit: usize, refusal: fn(usize) -> Refusal) -> Result<(), Refusal> {
    if count <= limit { Ok(()) } else { Err(refusal(limit)) }
}

fn count(counter: &mut usize, limit: usize, refusal: fn(usize) -> Refusal) -> Result<(), Refusal> {
    *counter += 1;
    within(*counter, limit, refusal)
}

/// An operation or a fragment.
struct Definition<'a> {
    /// The name of a fragment; none for an operation.
    fragment: Option<&'a str>,
    /// Selections: its own at first, and those of its spreads once they are written out.
    selections: usize,
    /// How deep its brackets nest, likewise.
    nesting: usize,
    /// The fragments that it spreads, each with the number of brackets around the spread.
    spreads: Vec<(&'a str, usize)>,
    /// How many of the spreads are written out.
    written_out: usize,
}

/// Writes out every spread in `selections` and `nesting`, fragments first, each fragment once.
/// A spread of an unknown fragment is left to the validator.
fn expand(definitions: &mut [Definition<'_>], limits: &Limits) -> Result<(), Refusal> {
    let fragments: HashMap<_, _> =
        definitions.iter().enumerate().filter_map(|(index, definition)| Some((definition.fragment?, index))).collect();
    for root in 0..definitions.len() {
        let mut path = vec![root];
        while let Some(&index) = path.last() {
            let definition = &definitions[index];
            let Some(&(name, depth)) = definition.spreads.get(definition.written_out) else {
                path.pop();
                continue;
            };
            let (mut selections, mut nesting) = (0, 0);
            if let Some(&spread) = fragments.get(name) {
                let fragment = &definitions[spread];
                if fragment.written_out < fragment.spreads.len() {
                    if path.contains(&spread) {
                        return Err(Refusal::Cycle(name.to_owned()));
                    }
                    path.push(spread);
                    continue;
                }
                (selections, nesting) = (fragment.selections, depth + fragment.nesting);
            }
            let definition = &mut definitions[index];
            definition.written_out += 1;
            definition.selections += selections;
            definition.nesting = definition.nesting.max(nesting);
            within(definition.selections, limits.expanded, Refusal::Expanded)?;
            within(definition.nesting, limits.nesting, Refusal::Nesting)?;
        }
    }
    let operations = definitions.iter().filter(|definition| definition.fragment.is_none());
    let selections = operations.map(|operation| operation.selections).sum();
    within(selections, limits.expanded, Refusal::Expanded)
}

/// What the tokens outside all brackets are part of.
enum Header {
    /// Nothing: the next token begins a definition.
    None,
    /// A fragment of which only the keyword is read.
    Fragment,
    /// A definition whose selection set is to come.
    Definition,
}

/// The pass over a document's tokens.
struct Outline<'a, 'l> {
    lexer: Lexer<'a>,
    limits: &'l Limits,
    /// The closing brackets that are due, the next one last.
    brackets: Vec<char>,
    /// The number of brackets around the arguments or variable definitions that are being read:
    /// braces in there are object literals, not selection sets.
    arguments: Option<usize>,
    header: Header,
    definitions: Vec<Definition<'a>>,
    tokens: usize,
    fragments: usize,
    operations: usize,
    aliases: usize,
    directives: usize,
    variables: usize,
}

impl<'a, 'l> Outline<'a, 'l> {
    fn new(document: &'a str, limits: &'l Limits) -> Self {
        Self {
            lexer: Lexer::new(document),
            limits,
            brackets: Vec::new(),
            arguments: None,
            header: Header::None,
            definitions: Vec::new(),
            tokens: 0,
            fragments: 0,
            operations: 0,
            aliases: 0,
            directives: 0,
            variables: 0,
        }
    }

    fn read(&mut self) -> Result<(), Refusal> {
        let limits = self.limits;
        let mut last = [Token::Value; 2];
        while let Some(token) = self.lexer.next()? {
            count(&mut self.tokens, limits.tokens, Refusal::Tokens)?;
            if self.brackets.is_empty() {
                self.read_header(token)?;
            } else if self.arguments.is_none() {
                self.read_selection(last, token)?;
            }
            match token {
                Token::Punctuator('@') => {
                    count(&mut self.directives, limits.directives, Refusal::Directives)?;
                }
                Token::Punctuator('$') => {
                    count(&mut self.variables, limits.variables, Refusal::Variables)?;
                }
                Token::Punctuator(bracket) => self.read_bracket(bracket)?,
                Token::Name(_) | Token::Spread | Token::Value => {}
            }
            last = [last[1], token];
        }
        if self.brackets.is_empty() { Ok(()) } else { Err(self.lexer.fault("unclosed bracket")) }
    }

    /// Reads a token outside all brackets.
    fn read_header(&mut self, token: Token<'a>) -> Result<(), Refusal> {
        match (&self.header, token) {
            (Header::None, Token::Name("fragment")) => {
                count(&mut self.fragments, self.limits.fragments, Refusal::Fragments)?;
                self.header = Header::Fragment;
            }
            (Header::None, Token::Name("query" | "mutation" | "subscription") | Token::Punctuator('{')) => {
                count(&mut self.operations, self.limits.operations, Refusal::Operations)?;
                self.define(None);
            }
            (Header::None, _) => return Err(self.lexer.fault("expected an operation or fragment")),
            (Header::Fragment, Token::Name(name)) if name != "on" => self.define(Some(name)),
            (Header::Fragment, _) => return Err(self.lexer.fault("expected a fragment's name")),
            (Header::Definition, _) => {}
        }
        Ok(())
    }

    fn define(&mut self, fragment: Option<&'a str>) {
        self.header = Header::Definition;
        self.definitions.push(Definition { fragment, selections: 0, nesting: 0, spreads: Vec::new(), written_out: 0 });
    }

    /// Reads a token of a selection set, given the two before it.
    fn read_selection(&mut self, last: [Token<'a>; 2], token: Token<'a>) -> Result<(), Refusal> {
        let Some(definition) = self.definitions.last_mut() else { return Ok(()) };
        match (last, token) {
            ([_, Token::Spread], Token::Name("on")) => {}
            ([_, Token::Spread], Token::Name(fragment)) => {
                definition.spreads.push((fragment, self.brackets.len()));
            }
            // The name of a type, of a field after its alias, and of a directive.
            ([Token::Spread, Token::Name("on")], Token::Name(_)) => {}
            ([_, Token::Punctuator(':' | '@')], Token::Name(_)) => {}
            (_, Token::Punctuator(':')) => {
                count(&mut self.aliases, self.limits.aliases, Refusal::Aliases)?;
            }
            (_, Token::Name(_) | Token::Spread) => {
                count(&mut definition.selections, self.limits.expanded, Refusal::Expanded)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a punctuator, if it is a bracket.
    fn read_bracket(&mut self, bracket: char) -> Result<(), Refusal> {
        let closing = match bracket {
            '{' => '}',
            '(' => ')',
            '[' => ']',
            '}' | ')' | ']' => return self.read_closing(bracket),
            _ => return Ok(()),
        };
        if closing != '}' {
            self.arguments.get_or_insert(self.brackets.len());
        }
        self.brackets.push(closing);
        within(self.brackets.len(), self.limits.nesting, Refusal::Nesting)?;
        if let Some(definition) = self.definitions.last_mut() {
            definition.nesting = definition.nesting.max(self.brackets.len());
        }
        Ok(())
    }

    fn read_closing(&mut self, bracket: char) -> Result<(), Refusal> {
        if self.brackets.pop() != Some(bracket) {
            return Err(self.lexer.fault("unmatched bracket"));
        }
        if self.arguments == Some(self.brackets.len()) {
            self.arguments = None;
        } else if self.brackets.is_empty() {
            self.header = Header::None;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Name(&'a str),
    /// `...`
    Spread,
    /// Any other punctuator.
    Punctuator(char),
    /// A number or a string.
    Value,
}

/// Divides a document into tokens.
struct Lexer<'a> {
    document: &'a str,
    /// What is not read yet.
    rest: &'a str,
    /// The length of `rest` before the last token: tells where that token is.
    before: usize,
    /// The document with its strings' escapes replaced, as far as that has gone.
    rewritten: String,
    /// How many bytes of the document `rewritten` stands for.
    copied: usize,
}

impl<'a> Lexer<'a> {
    fn new(document: &'a str) -> Self {
        let (rest, before) = (document, document.len());
        Self { document, rest, before, rewritten: String::new(), copied: 0 }
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, Refusal> {
        self.skip_ignored();
        self.before = self.rest.len();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            'A'..='Z' | 'a'..='z' | '_' => Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')),
            '-' | '0'..='9' => {
                let number = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'));
                // GraphQL writes numbers exactly as JSON does.
                if number.parse::<serde_json::Number>().is_err() {
                    return Err(self.fault("invalid number"));
                }
                Token::Value
            }
            '"' => {
                if self.rest.starts_with("\"\"\"") {
                    self.block_string()?
                } else {
                    self.string()?
                }
                Token::Value
            }
            '.' if self.rest.starts_with("...") => {
                self.take(3);
                Token::Spread
            }
            '!' | '$' | '&' | '(' | ')' | ':' | '=' | '@' | '[' | ']' | '{' | '|' | '}' => {
                self.take(1);
                Token::Punctuator(first)
            }
            _ => return Err(self.fault("unexpected character")),
        };
        Ok(Some(token))
    }

    /// Skips white space, commas, byte order marks and comments.
    fn skip_ignored(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', ',', '\u{FEFF}']);
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            self.rest = comment.trim_start_matches(|c| !matches!(c, '\n' | '\r'));
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        self.take(self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len()))
    }

    fn block_string(&mut self) -> Result<(), Refusal> {
        self.take(3);
        loop {
            let Some(length) = self.rest.find("\"\"\"") else {
                return Err(self.fault("unterminated string"));
            };
            let escaped = self.take(length).ends_with('\\');
            self.take(3);
            if !escaped {
                return Ok(());
            }
        }
    }

    fn string(&mut self) -> Result<(), Refusal> {
        self.take(1);
        loop {
            self.take_while(|c| !matches!(c, '"' | '\\' | '\n' | '\r'));
            match self.rest.as_bytes() {
                [b'"', ..] => {
                    self.take(1);
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                    self.take(2);
                }
                [b'\\', ..] => self.unicode_escape()?,
                _ => return Err(self.fault("unterminated string")),
            }
        }
    }

    /// Reads `\u0041`, which the parser understands, or one that it does not, which is replaced.
    fn unicode_escape(&mut self) -> Result<(), Refusal> {
        let Some((character, length)) = unescape(self.rest) else {
            return Err(self.fault("invalid escape sequence in the string"));
        };
        let start = self.document.len() - self.rest.len();
        let escape = self.take(length);
        if escape.starts_with("\\u{") || character.len_utf16() == 2 {
            self.rewritten.push_str(&self.document[self.copied..start]);
            self.copied = start + length;
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

    /// The document with what was replaced.
    fn into_text(mut self) -> Cow<'a, str> {
        if self.copied == 0 {
            return Cow::Borrowed(self.document);
        }
        self.rewritten.push_str(&self.document[self.copied..]);
        Cow::Owned(self.rewritten)
    }

    /// What is wrong with the last token.
    #[cold]
    fn fault(&self, what: &'static str) -> Refusal {
        let before = self.document[..self.document.len() - self.before].replace("\r\n", "\n");
        let lines = before.split(['\n', '\r']);
        let pos = Pos { line: lines.clone().count(), column: 1 + lines.last().map_or(0, |line| line.chars().count()) };
        Refusal::Syntax { what, pos }
    }
}

/// The character that the `\u` escape at the front of a text stands for, and the escape's length in
/// bytes. A lone surrogate stands for none.
fn unescape(text: &str) -> Option<(char, usize)> {
    if let Some(braced) = text.strip_prefix("\\u{") {
        let (digits, _) = braced.split_once('}')?;
        return Some((char::from_u32(hexadecimal(digits)?)?, digits.len() + "\\u{}".len()));
    }
    let unit = |text: &str| {
        let unit = hexadecimal(text.strip_prefix("\\u")?.get(..4)?)?;
        u16::try_from(unit).ok()
    };
    let units = iter::once(unit(text)?).chain(text.get(6..).and_then(unit));
    let character = char::decode_utf16(units).next()?.ok()?;
    Some((character, character.len_utf16() * "\\u0000".len()))
}

/// The number that hexadecimal digits alone stand for: `from_str_radix` would take a sign too.
fn hexadecimal(digits: &str) -> Option<u32> {
    let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if valid { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use async_graphql::{
        Value,
        parser::{
            parse_query,
            types::{ExecutableDocument, Selection, SelectionSet},
        },
    };
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn refusal(document: &str) -> Option<String> {
        let refusal = admit(document, &Limits::default()).err()?;
        Some(refusal.to_string())
    }

    #[test]
    fn an_ordinary_document_is_admitted_as_it_is() {
        let document = r#"
            query Chat($id: ID!, $full: Boolean = true, $filter: Filter = {tags: ["a", "\u0041"]}) {
                chat(id: $id) { ...Chat @include(if: $full) ... on Node { id } }  # {{{ "
                on: messages(first: 10, text: """ { "quoted" \""" ( """) { edges { node { id } } }
            }
            fragment Chat on Chat { title last: message(at: -1.5e3) { fragment query on } ... { id } }
        "#;
        let admitted = admit(document, &Limits::default()).unwrap();
        assert!(matches!(admitted, Cow::Borrowed(_)));
        parse_query(admitted).unwrap();
    }

    #[test]
    fn every_limit_is_the_greatest_number_admitted() {
        let limits = Limits::default();
        type Make = fn(usize) -> String;
        let table: [(Make, usize, fn(usize) -> Refusal); 10] = [
            (|n| format!("{{a{}}}", " ".repeat(n - 3)), limits.bytes, Refusal::Bytes),
            (|n| format!("{{a(b:[{}])}}", "1 ".repeat(n - 9)), limits.tokens, Refusal::Tokens),
            (nested, limits.nesting, Refusal::Nesting),
            (chain, limits.nesting, Refusal::Nesting),
            (|n| "fragment F on T{a}".repeat(n) + "{a}", limits.fragments, Refusal::Fragments),
            (|n| "query{a}".repeat(n), limits.operations, Refusal::Operations),
            (|n| format!("{{{}}}", "a:b ".repeat(n)), limits.aliases, Refusal::Aliases),
            (|n| format!("{{a{}}}", "@b".repeat(n)), limits.directives, Refusal::Directives),
            (|n| format!("{{a(b:[{}])}}", "$b".repeat(n)), limits.variables, Refusal::Variables),
            (wide, limits.expanded, Refusal::Expanded),
        ];
        for (document, limit, refused) in table {
            assert_eq!(admit(&document(limit), &limits).err(), None);
            assert_eq!(admit(&document(limit + 1), &limits).err(), Some(refused(limit)));
        }
        assert_eq!(Refusal::Tokens(2_000).to_string(), "the document has more than 2000 tokens");
    }

    /// A document of this many brackets, of each kind.
    fn nested(depth: usize) -> String {
        let (open, close) = ("[".repeat(depth - 3), "]".repeat(depth - 3));
        format!("{{a(b:{{c:{open}{close}}})}}")
    }

    /// Fragments, used by no operation, that nest this deep.
    fn chain(depth: usize) -> String {
        let links = (1..depth).map(|n| format!("fragment F{n} on T{{...F{}}}", n + 1));
        format!("{} fragment F{depth} on T{{a}} {{a}}", links.collect::<String>())
    }

    /// Selections, this many when written out: an operation spreads a fragment of ten twice.
    fn wide(selections: usize) -> String {
        let (fields, spreads) = ("a ".repeat(selections % 11), "...F ".repeat(selections / 11));
        format!("{{{fields}{spreads}}} fragment F on T{{{}}}", "a ".repeat(10))
    }

    #[test]
    fn fragments_are_written_out_once_each() {
        let doubling = |levels| {
            let fragment = |n| format!("fragment F{n} on T{{...F{m} ...F{m}}}", m = n + 1);
            (0..levels).map(fragment).collect::<String>() + "{a}"
        };
        assert_eq!(refusal(&doubling(9)), None);
        let refused = "the document has more than 2000 selections, its fragments written out";
        assert_eq!(refusal(&doubling(11)).unwrap(), refused);
        for cycle in [
            "{...F} fragment F on T{...F}",
            "{a} fragment F on T{a{...G}} fragment G on T{a ...F}",
            "{...H} fragment H on T{...F} fragment F on T{__typename{...G}} fragment G on T{...F}",
        ] {
            assert_eq!(refusal(cycle).unwrap(), r#"Cannot spread fragment "F" within itself"#);
        }
        assert_eq!(refusal("{...Unknown}"), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        for (document, what) in [
            ("{", "unclosed bracket at 1:2"),
            ("{a}}", "expected an operation or fragment at 1:4"),
            ("{a(b:[1)}", "unmatched bracket at 1:8"),
            ("{a\n b\r\n c\r\"x}", "unterminated string at 4:1"),
            ("{a(b:\"\"\"c\\\"\"\")}", "unterminated string at 1:6"),
            ("{a(b:\"\\x\")}", "invalid escape sequence in the string at 1:6"),
            ("{é}", "unexpected character at 1:2"),
            ("{a\0}", "unexpected character at 1:3"),
            ("{..a}", "unexpected character at 1:2"),
            ("{a(b:[007])}", "invalid number at 1:7"),
            ("{a(b:[1...F])}", "invalid number at 1:7"),
            ("type A { a: B }", "expected an operation or fragment at 1:1"),
            ("fragmentF on T{a}", "expected an operation or fragment at 1:1"),
            ("fragment on on T{a}", "expected a fragment's name at 1:10"),
        ] {
            assert_eq!(refusal(document).unwrap(), format!("Syntax Error: {what}"));
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
            let admitted = admit(&document, &Limits::default()).unwrap();
            let parsed = parse_query(admitted).unwrap();
            let (_, operation) = parsed.operations.iter().next().unwrap();
            let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
                panic!("a field was written");
            };
            let [escaped, block] = &field.node.arguments[..] else { panic!("two arguments were written") };
            assert_eq!(escaped.1.node.to_string(), Value::from(expected).to_string());
            assert_eq!(block.1.node.to_string(), Value::from(r"\u{41}").to_string());
        }
        for lone in [r"\uD83D", r"\uDE00\uD83D", r"\uD83D\u0041", r"\u{D83D}", r"\u{110000}"] {
            let refused = refusal(&format!("{{a(b:\"{lone}\")}}"));
            assert!(refused.unwrap().contains("invalid escape"), "{lone}");
        }
        for malformed in [r"\u+041", r"\u{+41}", r"\u{}", r"\u{41", r"\u41", r"\uD83D\uD", r"\u00é"] {
            assert!(refusal(&format!("{{a(b:\"{malformed}\")}}")).is_some(), "{malformed}");
        }
    }

    /// Limits that random documents reach.
    fn tight() -> Limits {
        Limits { nesting: 7, fragments: 2, aliases: 3, directives: 3, expanded: 30, ..Limits::default() }
    }

    /// What async-graphql's parser makes of an admitted document is within the limits too.
    fn check(document: &str) {
        let limits = tight();
        let Ok(admitted) = admit(document, &limits) else { return };
        let Ok(parsed) = parse_query(&admitted) else { return };
        let sets = parsed.operations.iter().map(|(_, operation)| &operation.node.selection_set);
        let selections = sets.map(|set| selections(&parsed, &set.node, limits.nesting)).sum();
        assert!((1..=limits.expanded).contains(&selections));
        for fragment in parsed.fragments.values() {
            let set = &fragment.node.selection_set.node;
            assert!(self::selections(&parsed, set, limits.nesting) <= limits.expanded);
        }
        assert!(parsed.fragments.len() <= limits.fragments);
        assert!(parsed.operations.iter().count() <= limits.operations);
    }

    /// The number of selections in a set, by plain recursion, of at most `depth` levels.
    fn selections(document: &ExecutableDocument, set: &SelectionSet, depth: usize) -> usize {
        let depth = depth.checked_sub(1).expect("the nesting is within its limit");
        let below = |set: &SelectionSet| match set.items.len() {
            0 => 0,
            _ => selections(document, set, depth),
        };
        let count = |selection: &Selection| match selection {
            Selection::Field(field) => below(&field.node.selection_set.node),
            Selection::InlineFragment(inline) => below(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .map_or(0, |fragment| below(&fragment.node.selection_set.node)),
        };
        set.items.iter().map(|selection| 1 + count(&selection.node)).sum()
    }

    /// Pieces of documents, in any order and glued together.
    fn soup() -> impl Strategy<Value = String> {
        let pieces = select(vec![
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            "...",
            "...on T",
            "on ",
            "on",
            "fragment ",
            "fragment",
            "query ",
            "F",
            " F ",
            "G on T{a}",
            "a",
            "a:",
            "b(c:",
            "$v",
            "@d",
            ":",
            "=",
            "!",
            "\"",
            "\"\"\"",
            "\\\"\"\"",
            "\\",
            "\\u{41}",
            "\\uD83D\\uDE00",
            "#",
            "\n",
            "\r",
            ",",
            "\u{FEFF}",
            "\0",
            "é",
            "0",
            "-1.5e3",
            "true",
            "null",
        ]);
        vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// Documents by the grammar. They parse unless an enum value begins with `true`.
    fn plausible() -> impl Strategy<Value = String> {
        let name = || select(vec!["F", "G", "H", "on", "fragment", "query", "a"]);
        let values = ["1", "-0.5e9", "$v", "null", "E", "trueish", "\"}\"", "\"\"\"{\"\"\""];
        let value = select(values.to_vec()).prop_map(str::to_owned).prop_recursive(4, 12, 3, |value| {
            let list = vec(value.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(" ")));
            prop_oneof![list, value.prop_map(|value| format!("{{a:{value}}}"))]
        });
        let leaf = prop_oneof![
            name().prop_map(str::to_owned),
            name().prop_map(|name| format!("...{name}")),
            (name(), name()).prop_map(|(alias, name)| format!("{alias}:{name}@{name}")),
            (name(), value).prop_map(|(name, value)| format!("{name}(b:{value})")),
        ];
        let selection = leaf.prop_recursive(4, 12, 3, move |selection| {
            (select(vec!["a", "F", "...", "...on T"]), vec(selection, 1..4))
                .prop_map(|(head, selections)| format!("{head}{{{}}}", selections.join(" ")))
        });
        let definition = vec(selection, 1..4).prop_map(|selections| format!("{{{}}}", selections.join(",")));
        let heads = ["fragment F on T", "fragment G on T", "query B", "fragment H on T", "query A($v:[T!]=[{a:1}])"];
        vec(definition, 1..=heads.len()).prop_map(move |definitions| {
            let tail = &heads[heads.len() - definitions.len()..];
            tail.iter().zip(definitions).map(|(head, selections)| format!("{head}{selections}")).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn nothing_hides_from_the_guard(text: String, soup in soup(), plausible in plausible()) {
            for document in [text, soup, plausible] {
                check(&document);
            }
        }
    }
}
