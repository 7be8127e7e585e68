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

use crate::graphql::admission::lexer::{Lexer, SyntaxError, Token};

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
    #[error("Cannot spread fragment \"{0}\" within itself")]
    Cycle(String),
    /// The document cannot be divided into tokens, matching brackets and definitions.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

/// Checks a document against the limits, and returns the text for the parser.
///
/// The text is the document itself, except that the escapes `\u{1F600}` and `\uD83D\uDE00`, which the
/// specification allows in a string and async-graphql rejects, are replaced by their character.
///
/// # Errors
///
/// Returns the first limit that the document exceeds, or the position at which its tokens, brackets or
/// definitions are malformed.
pub fn check<'a>(document: &'a str, limits: &DocumentLimits) -> Result<Cow<'a, str>, LimitError> {
    check_limit(document.len(), limits.bytes, LimitError::Bytes)?;
    let mut scan = DocumentScan::new(document, limits);
    scan.run()?;
    expand_spreads(&mut scan.definitions, limits)?;
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
    /// The names of the fragments that it spreads, each with the number of brackets around the spread.
    spreads: Vec<(&'a str, usize)>,
    /// The number of spreads that are expanded.
    expanded_spreads: usize,
}

/// Expands every spread into `selections` and `nesting`, each fragment once and before its users.
///
/// The validator reports spreads of unknown fragments, which are ignored here.
fn expand_spreads(definitions: &mut [Definition<'_>], limits: &DocumentLimits) -> Result<(), LimitError> {
    let fragments: HashMap<_, _> = definitions
        .iter()
        .enumerate()
        .filter_map(|(index, definition)| Some((definition.fragment_name?, index)))
        .collect();
    for root in 0..definitions.len() {
        let mut path = vec![root];
        while let Some(&index) = path.last() {
            let definition = &definitions[index];
            let Some(&(name, depth)) = definition.spreads.get(definition.expanded_spreads) else {
                path.pop();
                continue;
            };
            let (mut selections, mut nesting) = (0, 0);
            if let Some(&spread) = fragments.get(name) {
                let fragment = &definitions[spread];
                if fragment.expanded_spreads < fragment.spreads.len() {
                    if path.contains(&spread) {
                        return Err(LimitError::Cycle(name.to_owned()));
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
            check_limit(definition.selections, limits.expanded_selections, LimitError::ExpandedSelections)?;
            check_limit(definition.nesting, limits.nesting, LimitError::Nesting)?;
        }
    }
    let operations = definitions.iter().filter(|definition| definition.fragment_name.is_none());
    let selections = operations.map(|operation| operation.selections).sum();
    check_limit(selections, limits.expanded_selections, LimitError::ExpandedSelections)
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
        let mut previous = [Token::Value; 2];
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
                Token::Name(_) | Token::Spread | Token::Value => {}
            }
            previous = [previous[1], token];
        }
        if self.open_brackets.is_empty() { Ok(()) } else { Err(self.lexer.error("unclosed bracket").into()) }
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
                return Err(self.lexer.error("expected an operation or fragment").into());
            }
            (ScanState::FragmentKeyword, Token::Name(name)) if name != "on" => self.add_definition(Some(name)),
            (ScanState::FragmentKeyword, _) => return Err(self.lexer.error("expected a fragment's name").into()),
            (ScanState::InDefinition, _) => {}
        }
        Ok(())
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
                definition.spreads.push((fragment, self.open_brackets.len()));
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
            return Err(self.lexer.error("unmatched bracket").into());
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
mod tests {
    use async_graphql::{
        Positioned,
        parser::{
            parse_query,
            types::{ExecutableDocument, Selection, SelectionSet},
        },
    };
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn error_message(document: &str) -> Option<String> {
        let error = check(document, &DocumentLimits::default()).err()?;
        Some(error.to_string())
    }

    #[test]
    fn ordinary_document_is_admitted_unchanged() {
        let document = r#"
            query Chat($id: ID!, $full: Boolean = true, $filter: Filter = {tags: ["a", "\u0041"]}) {
                chat(id: $id) { ...Chat @include(if: $full) ... on Node { id } }  # {{{ "
                on: messages(first: 10, text: """ { "quoted" \""" ( """) { edges { node { id } } }
            }
            fragment Chat on Chat { title last: message(at: -1.5e3) { fragment query on } ... { id } }
        "#;
        let admitted = check(document, &DocumentLimits::default()).unwrap();
        assert!(matches!(admitted, Cow::Borrowed(_)));
        parse_query(admitted).unwrap();

        let escaped = r#"{ a(b: "\uD83D\uDE00") }"#;
        assert_eq!(check(escaped, &DocumentLimits::default()).unwrap(), "{ a(b: \"\u{1F600}\") }");
    }

    #[test]
    fn every_limit_is_the_greatest_admitted_number() {
        let limits = DocumentLimits::default();
        type Build = fn(usize) -> String;
        type Exceeded = fn(usize) -> LimitError;
        let table: [(Build, usize, Exceeded); 10] = [
            (|n| format!("{{a{}}}", " ".repeat(n - 3)), limits.bytes, LimitError::Bytes),
            (|n| format!("{{a(b:[{}])}}", "1 ".repeat(n - 9)), limits.tokens, LimitError::Tokens),
            (nested, limits.nesting, LimitError::Nesting),
            (chain, limits.nesting, LimitError::Nesting),
            (|n| "fragment F on T{a}".repeat(n) + "{a}", limits.fragments, LimitError::Fragments),
            (|n| "query{a}".repeat(n), limits.operations, LimitError::Operations),
            (|n| format!("{{{}}}", "a:b ".repeat(n)), limits.aliases, LimitError::Aliases),
            (|n| format!("{{a{}}}", "@b".repeat(n)), limits.directives, LimitError::Directives),
            (|n| format!("{{a(b:[{}])}}", "$b".repeat(n)), limits.variables, LimitError::Variables),
            (wide, limits.expanded_selections, LimitError::ExpandedSelections),
        ];
        for (document, limit, error) in table {
            assert_eq!(check(&document(limit), &limits).err(), None);
            assert_eq!(check(&document(limit + 1), &limits).err(), Some(error(limit)));
        }
        assert_eq!(LimitError::Tokens(2_000).to_string(), "the document has more than 2000 tokens");
    }

    /// Builds a document that nests this many brackets, of each kind.
    fn nested(depth: usize) -> String {
        let (open, close) = ("[".repeat(depth - 3), "]".repeat(depth - 3));
        format!("{{a(b:{{c:{open}{close}}})}}")
    }

    /// Builds a document of unused fragments that nest this deep.
    fn chain(depth: usize) -> String {
        let links = (1..depth).map(|n| format!("fragment F{n} on T{{...F{}}}", n + 1));
        format!("{} fragment F{depth} on T{{a}} {{a}}", links.collect::<String>())
    }

    /// Builds a document with this many expanded selections, most of them in a fragment of ten.
    fn wide(selections: usize) -> String {
        let (fields, spreads) = ("a ".repeat(selections % 11), "...F ".repeat(selections / 11));
        format!("{{{fields}{spreads}}} fragment F on T{{{}}}", "a ".repeat(10))
    }

    #[test]
    fn fragments_are_expanded_once_each() {
        let doubling = |levels| {
            let fragment = |n| format!("fragment F{n} on T{{...F{m} ...F{m}}}", m = n + 1);
            (0..levels).map(fragment).collect::<String>() + "{a}"
        };
        assert_eq!(error_message(&doubling(9)), None);
        let error = "the document has more than 2000 selections, with its fragments expanded";
        assert_eq!(error_message(&doubling(11)).unwrap(), error);
        for cycle in [
            "{...F} fragment F on T{...F}",
            "{a} fragment F on T{a{...G}} fragment G on T{a ...F}",
            "{...H} fragment H on T{...F} fragment F on T{__typename{...G}} fragment G on T{...F}",
        ] {
            assert_eq!(error_message(cycle).unwrap(), r#"Cannot spread fragment "F" within itself"#);
        }
        assert_eq!(error_message("{...Unknown}"), None);
    }

    #[test]
    fn malformed_document_is_rejected_with_its_position() {
        for (document, message) in [
            ("{", "unclosed bracket at 1:2"),
            ("{a}}", "expected an operation or fragment at 1:4"),
            ("{a(b:[1)}", "unmatched bracket at 1:8"),
            ("{a(b:\"}", "unterminated string at 1:6"),
            ("type A { a: B }", "expected an operation or fragment at 1:1"),
            ("fragmentF on T{a}", "expected an operation or fragment at 1:1"),
            ("fragment on on T{a}", "expected a fragment's name at 1:10"),
        ] {
            assert_eq!(error_message(document).unwrap(), format!("Syntax Error: {message}"));
        }
    }

    /// Returns limits that random documents reach.
    fn low_limits() -> DocumentLimits {
        DocumentLimits {
            nesting: 7,
            fragments: 2,
            aliases: 3,
            directives: 3,
            expanded_selections: 30,
            ..DocumentLimits::default()
        }
    }

    /// Asserts that async-graphql's parse of an admitted document is within the limits too.
    fn assert_within_limits(document: &str) {
        let limits = low_limits();
        let Ok(admitted) = check(document, &limits) else { return };
        let Ok(parsed) = parse_query(&admitted) else { return };
        let selections = |set: &Positioned<SelectionSet>| selections(&parsed, &set.node, limits.nesting);
        let operations = parsed.operations.iter().map(|(_, operation)| &operation.node.selection_set);
        assert!(operations.map(selections).sum::<usize>() <= limits.expanded_selections);
        let mut fragments = parsed.fragments.values().map(|fragment| &fragment.node.selection_set);
        assert!(fragments.all(|set| selections(set) <= limits.expanded_selections));
        assert!(parsed.fragments.len() <= limits.fragments);
        assert!(parsed.operations.iter().len() <= limits.operations);
    }

    /// Counts the selections of a set by plain recursion.
    fn selections(document: &ExecutableDocument, set: &SelectionSet, nesting: usize) -> usize {
        assert!(nesting > 0 || set.items.is_empty());
        let below = |set: &Positioned<SelectionSet>| selections(document, &set.node, nesting - 1);
        let count = |selection: &Selection| match selection {
            Selection::Field(field) => below(&field.node.selection_set),
            Selection::InlineFragment(inline) => below(&inline.node.selection_set),
            Selection::FragmentSpread(spread) => {
                let fragment = document.fragments.get(&spread.node.fragment_name.node);
                fragment.map_or(0, |fragment| below(&fragment.node.selection_set))
            }
        };
        set.items.iter().map(|selection| 1 + count(&selection.node)).sum()
    }

    /// Fragments of documents in any order, concatenated.
    const TOKEN_SEQUENCE: &str = concat!(
        r#"([{}()\[\]:=!#,0a"\\\x00\n\ré\x{FEFF}]|\.\.\.|\.\.\.on T|on ?|fragment ?|query | F |G on T\{a\}|"#,
        r#"a:|b\(c:|\$v|@d|"""|\\"""|\\u\{41\}|\\uD83D\\uDE00|-1\.5e3|true|null){0,40}"#,
    );

    /// Generates documents by the grammar; they parse unless an enum value begins with `true`.
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

    // Tests run on threads with a stack of 2 MiB, like those of the server's runtime.
    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

        #[test]
        fn admitted_document_is_within_limits_after_parsing(
            text: String,
            tokens in TOKEN_SEQUENCE,
            plausible in plausible(),
        ) {
            for document in [text, tokens, plausible] {
                assert_within_limits(&document);
            }
        }
    }
}
