//! The limits that every GraphQL document must keep before async-graphql parses it.
//!
//! async-graphql's parser and validator recurse over value literals and chains of fragments, and
//! walk a fragment again for each of its spreads: a few hundred bytes can overflow the stack, which
//! kills the process, or occupy a core for minutes. [`check`] reads a document once, from left to
//! right and without recursion, and admits it only if everything that could grow is within
//! [`DocumentLimits`]. It knows tokens, brackets and fragments; the parser checks the rest of the
//! grammar.
//!
//! Where async-graphql's grammar departs from the specification (it reads `fragmentF on T` as a
//! fragment named F), this check is the stricter one, so that no document can evade it by the difference.

use std::{borrow::Cow, collections::HashMap};

use async_graphql::Pos;

use crate::graphql::admission::lexer::{Lexer, SyntaxError, Token};
use crate::graphql::admission::syntax;

/// The limits of a document; each is the greatest number that is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentLimits {
    /// The document's length in bytes, including white space and comments.
    ///
    /// GraphiQL's introspection query, which is longer than most queries, has 2 KiB.
    pub bytes: usize,
    /// The number of tokens (names, punctuators, numbers and strings), which bounds the work of parsing.
    pub tokens: usize,
    /// The nesting depth of `{`, `[` and `(` together.
    ///
    /// The selections of a fragment nest where the fragment is spread. The limit bounds every recursion over the
    /// document. GraphiQL's introspection query nests 18 deep.
    pub nesting: usize,
    /// The number of fragment definitions, used or not; async-graphql recurses along a chain of them.
    pub fragments: usize,
    /// The number of operations.
    ///
    /// Only one is executed, but all are validated. GraphiQL sends every operation in its editor.
    pub operations: usize,
    /// The number of fields with an alias, each of which runs a resolver again.
    pub aliases: usize,
    /// The number of directives, such as `@include(if: $full)`.
    pub directives: usize,
    /// The number of definitions and uses of variables; async-graphql copies the value for each use.
    pub variables: usize,
    /// The number of selections (fields, spreads and inline fragments) with every spread expanded.
    ///
    /// The limit applies to all operations together, and to each fragment separately, used or not. async-graphql
    /// walks the expanded selections several times before it applies limits of its own.
    pub expanded_selections: usize,
}

impl Default for DocumentLimits {
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
            expanded_selections: 2_000,
        }
    }
}

/// The reason for which a document is not admitted, as a message for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("the document has more than {0} bytes")]
    Bytes(usize),
    #[error("the document has more than {0} tokens")]
    Tokens(usize),
    #[error("the document nests more than {0} brackets, with its fragments expanded")]
    Nesting(usize),
    #[error("the document has more than {0} fragments")]
    Fragments(usize),
    #[error("the document has more than {0} operations")]
    Operations(usize),
    #[error("the document has more than {0} aliases")]
    Aliases(usize),
    #[error("the document has more than {0} directives")]
    Directives(usize),
    #[error("the document defines or uses variables more than {0} times")]
    Variables(usize),
    #[error("the document has more than {0} selections, with its fragments expanded")]
    ExpandedSelections(usize),
    /// A fragment, by its name, spreads itself directly or through other fragments.
    #[error("Cannot spread fragment \"{0}\" within itself.")]
    Cycle(String),
    /// The document cannot be divided into tokens, matching brackets and definitions.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// A document that is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    pub reason: LimitError,
    /// The position of the token that is too much or wrong; the beginning if the whole document is.
    pub pos: Pos,
}

/// Checks a document against the limits, and returns the text for the parser.
///
/// The text is the document itself, except for strings that the specification allows and async-graphql reads wrongly:
/// the escapes `\u{1F600}` and `\uD83D\uDE00` are replaced by their character, and a block string with the escape
/// `\"""` by a string.
///
/// # Errors
///
/// Returns the first limit that the document exceeds, or how and where its tokens, brackets or definitions are
/// malformed.
pub fn check<'a>(document: &'a str, limits: &DocumentLimits) -> Result<Cow<'a, str>, DocumentError> {
    let beginning = Pos { line: 1, column: 1 };
    check_limit(document.len(), limits.bytes, LimitError::Bytes)
        .map_err(|reason| DocumentError { reason, pos: beginning })?;
    let mut scan = DocumentScan::new(document, limits);
    scan.run().map_err(|reason| match reason {
        LimitError::Syntax(error) => {
            let error = syntax::first_error(document).unwrap_or(error);
            DocumentError { pos: error.pos, reason: LimitError::Syntax(error) }
        }
        reason => DocumentError { reason, pos: scan.lexer.position(scan.lexer.token_start()) },
    })?;
    expand_spreads(&mut scan.definitions, limits).map_err(|(reason, spread)| {
        let pos = spread.map_or(beginning, |start| scan.lexer.position(start));
        DocumentError { reason, pos }
    })?;
    Ok(scan.lexer.into_text())
}

fn check_limit(count: usize, limit: usize, error: fn(usize) -> LimitError) -> Result<(), LimitError> {
    if count <= limit { Ok(()) } else { Err(error(limit)) }
}

fn increment(counter: &mut usize, limit: usize, error: fn(usize) -> LimitError) -> Result<(), LimitError> {
    *counter += 1;
    check_limit(*counter, limit, error)
}

/// An operation or a fragment.
struct Definition<'a> {
    /// The name of a fragment; `None` for an operation.
    fragment_name: Option<&'a str>,
    /// The number of its own selections, to which those of its spreads are added when they are expanded.
    selections: usize,
    /// The nesting depth of its own brackets, and of its expanded spreads.
    nesting: usize,
    spreads: Vec<Spread<'a>>,
    /// The number of spreads that are expanded.
    expanded_spreads: usize,
}

/// The spread of a fragment.
#[derive(Clone, Copy)]
struct Spread<'a> {
    fragment: &'a str,
    /// The number of brackets around the spread.
    nesting: usize,
    /// The position of the fragment's name in bytes.
    start: usize,
}

/// Expands every spread into `selections` and `nesting`, each fragment once and before its users.
///
/// The validator reports spreads of unknown fragments, which are ignored here. An error has the position of the spread
/// with which the document exceeds the limit.
fn expand_spreads(
    definitions: &mut [Definition<'_>],
    limits: &DocumentLimits,
) -> Result<(), (LimitError, Option<usize>)> {
    let fragments: HashMap<_, _> = definitions
        .iter()
        .enumerate()
        .filter_map(|(index, definition)| Some((definition.fragment_name?, index)))
        .collect();
    for root in 0..definitions.len() {
        let mut path = vec![root];
        while let Some(&index) = path.last() {
            let definition = &definitions[index];
            let Some(&Spread { fragment: name, nesting: depth, start }) =
                definition.spreads.get(definition.expanded_spreads)
            else {
                path.pop();
                continue;
            };
            let (mut selections, mut nesting) = (0, 0);
            if let Some(&spread) = fragments.get(name) {
                let fragment = &definitions[spread];
                if fragment.expanded_spreads < fragment.spreads.len() {
                    if path.contains(&spread) {
                        return Err((LimitError::Cycle(name.to_owned()), Some(start)));
                    }
                    path.push(spread);
                    continue;
                }
                (selections, nesting) = (fragment.selections, depth + fragment.nesting);
            }
            let definition = &mut definitions[index];
            definition.expanded_spreads += 1;
            definition.selections += selections;
            definition.nesting = definition.nesting.max(nesting);
            check_limit(definition.selections, limits.expanded_selections, LimitError::ExpandedSelections)
                .and_then(|()| check_limit(definition.nesting, limits.nesting, LimitError::Nesting))
                .map_err(|error| (error, Some(start)))?;
        }
    }
    let operations = definitions.iter().filter(|definition| definition.fragment_name.is_none());
    let selections = operations.map(|operation| operation.selections).sum();
    check_limit(selections, limits.expanded_selections, LimitError::ExpandedSelections).map_err(|error| (error, None))
}

/// The context of the tokens outside all brackets.
enum ScanState {
    /// The next token begins a definition.
    BetweenDefinitions,
    /// The keyword of a fragment has been read, but not its name.
    FragmentKeyword,
    /// The selection set of a definition is still to come.
    InDefinition,
}

/// One pass over the tokens of a document.
struct DocumentScan<'a, 'l> {
    lexer: Lexer<'a>,
    limits: &'l DocumentLimits,
    /// The closing brackets that are expected, the next one last.
    open_brackets: Vec<char>,
    /// The number of brackets around the arguments or variable definitions that are being read.
    ///
    /// Braces within them are object literals, not selection sets.
    argument_depth: Option<usize>,
    state: ScanState,
    definitions: Vec<Definition<'a>>,
    tokens: usize,
    fragments: usize,
    operations: usize,
    aliases: usize,
    directives: usize,
    variables: usize,
}

impl<'a, 'l> DocumentScan<'a, 'l> {
    fn new(document: &'a str, limits: &'l DocumentLimits) -> Self {
        Self {
            lexer: Lexer::new(document),
            limits,
            open_brackets: Vec::new(),
            argument_depth: None,
            state: ScanState::BetweenDefinitions,
            definitions: Vec::new(),
            tokens: 0,
            fragments: 0,
            operations: 0,
            aliases: 0,
            directives: 0,
            variables: 0,
        }
    }

    fn run(&mut self) -> Result<(), LimitError> {
        let limits = self.limits;
        let mut previous = [Token::Punctuator('}'); 2];
        while let Some(token) = self.lexer.next_token()? {
            increment(&mut self.tokens, limits.tokens, LimitError::Tokens)?;
            if self.open_brackets.is_empty() {
                self.read_header(token)?;
            } else if self.argument_depth.is_none() {
                self.read_selection(previous, token)?;
            }
            match token {
                Token::Punctuator('@') => {
                    increment(&mut self.directives, limits.directives, LimitError::Directives)?;
                }
                Token::Punctuator('$') => {
                    increment(&mut self.variables, limits.variables, LimitError::Variables)?;
                }
                Token::Punctuator(bracket) => self.read_bracket(bracket)?,
                _ => {}
            }
            previous = [previous[1], token];
        }
        if self.open_brackets.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// Reads a token outside all brackets.
    fn read_header(&mut self, token: Token<'a>) -> Result<(), LimitError> {
        match (&self.state, token) {
            (ScanState::BetweenDefinitions, Token::Name("fragment")) => {
                increment(&mut self.fragments, self.limits.fragments, LimitError::Fragments)?;
                self.state = ScanState::FragmentKeyword;
            }
            (
                ScanState::BetweenDefinitions,
                Token::Name("query" | "mutation" | "subscription") | Token::Punctuator('{'),
            ) => {
                increment(&mut self.operations, self.limits.operations, LimitError::Operations)?;
                self.add_definition(None);
            }
            (ScanState::BetweenDefinitions, _) => {
                return Err(self.malformed());
            }
            (ScanState::FragmentKeyword, Token::Name(name)) if name != "on" => self.add_definition(Some(name)),
            (ScanState::FragmentKeyword, _) => return Err(self.malformed()),
            (ScanState::InDefinition, _) => {}
        }
        Ok(())
    }

    /// Returns the error of a token that the grammar does not allow; [`syntax`] describes it better.
    fn malformed(&self) -> LimitError {
        self.lexer.error_at(self.lexer.token_start(), "Unexpected token.".to_owned()).into()
    }

    fn add_definition(&mut self, fragment_name: Option<&'a str>) {
        self.state = ScanState::InDefinition;
        self.definitions.push(Definition {
            fragment_name,
            selections: 0,
            nesting: 0,
            spreads: Vec::new(),
            expanded_spreads: 0,
        });
    }

    /// Reads a token of a selection set, given the two tokens before it.
    fn read_selection(&mut self, previous: [Token<'a>; 2], token: Token<'a>) -> Result<(), LimitError> {
        let Some(definition) = self.definitions.last_mut() else { return Ok(()) };
        match (previous, token) {
            // The keyword and the name of a type condition, and a name after an alias or of a directive.
            ([_, Token::Spread], Token::Name("on"))
            | ([Token::Spread, Token::Name("on")] | [_, Token::Punctuator(':' | '@')], Token::Name(_)) => {}
            ([_, Token::Spread], Token::Name(fragment)) => {
                let (nesting, start) = (self.open_brackets.len(), self.lexer.token_start());
                definition.spreads.push(Spread { fragment, nesting, start });
            }
            (_, Token::Punctuator(':')) => {
                increment(&mut self.aliases, self.limits.aliases, LimitError::Aliases)?;
            }
            (_, Token::Name(_) | Token::Spread) => {
                increment(&mut definition.selections, self.limits.expanded_selections, LimitError::ExpandedSelections)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a punctuator, if it is a bracket.
    fn read_bracket(&mut self, bracket: char) -> Result<(), LimitError> {
        let closing = match bracket {
            '{' => '}',
            '(' => ')',
            '[' => ']',
            '}' | ')' | ']' => return self.read_closing(bracket),
            _ => return Ok(()),
        };
        if closing != '}' {
            self.argument_depth.get_or_insert(self.open_brackets.len());
        }
        self.open_brackets.push(closing);
        check_limit(self.open_brackets.len(), self.limits.nesting, LimitError::Nesting)?;
        if let Some(definition) = self.definitions.last_mut() {
            definition.nesting = definition.nesting.max(self.open_brackets.len());
        }
        Ok(())
    }

    fn read_closing(&mut self, bracket: char) -> Result<(), LimitError> {
        if self.open_brackets.pop() != Some(bracket) {
            return Err(self.malformed());
        }
        if self.argument_depth == Some(self.open_brackets.len()) {
            self.argument_depth = None;
        } else if self.open_brackets.is_empty() {
            self.state = ScanState::BetweenDefinitions;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
