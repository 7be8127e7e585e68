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
    Some(error.reason.to_string())
}

#[test]
fn ordinary_document_is_admitted_unchanged() {
    let document = r#"
        query Chat($id: ID!, $full: Boolean = true, $filter: Filter = {tags: ["a", "\u0041"]}) {
            chat(id: $id) { ...Chat @include(if: $full) ... on Node { id } }  # {{{ "
            on: messages(first: 10, text: """ { "quoted" ( """) { edges { node { id } } }
        }
        fragment Chat on Chat { title last: message(at: -1.5e3) { fragment query on } ... { id } }
    "#;
    let admitted = check(document, &DocumentLimits::default()).unwrap();
    assert!(matches!(admitted, Cow::Borrowed(_)));
    parse_query(admitted).unwrap();

    let escaped = r#"{ a(b: "\uD83D\uDE00") }"#;
    assert_eq!(check(escaped, &DocumentLimits::default()).unwrap(), "{ a(b: \"\u{1F600}\") }");
    let block = r#"{ a(b: """\""" (""") }"#;
    assert_eq!(check(block, &DocumentLimits::default()).unwrap(), r#"{ a(b: "\"\"\" (") }"#);
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
        assert_eq!(check(&document(limit + 1), &limits).map_err(|error| error.reason), Err(error(limit)));
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
        assert_eq!(error_message(cycle).unwrap(), r#"Cannot spread fragment "F" within itself."#);
    }
    assert_eq!(error_message("{...Unknown}"), None);
}

#[test]
fn error_has_the_position_of_the_token_that_is_wrong_or_too_much() {
    for (document, message, line, column) in [
        ("{", "Syntax Error: Expected Name, found <EOF>.", 1, 2),
        ("{a}}", "Syntax Error: Unexpected \"}\".", 1, 4),
        ("{a(b:[1)}", "Syntax Error: Unexpected \")\".", 1, 8),
        ("{a(b:\"}", "Syntax Error: Unterminated string.", 1, 8),
        ("type A { a: B }", "The \"A\" definition is not executable.", 1, 1),
        ("fragmentF on T{a}", "Syntax Error: Unexpected Name \"fragmentF\".", 1, 1),
        ("fragment on on T{a}", "Syntax Error: Unexpected Name \"on\".", 1, 10),
        ("{\n  ...F } fragment F on T { a ...F }", "Cannot spread fragment \"F\" within itself.", 2, 33),
        (&nested(30), "the document nests more than 24 brackets, with its fragments expanded", 1, 30),
        (&"\n".repeat(17_000), "the document has more than 16384 bytes", 1, 1),
    ] {
        let DocumentError { reason, pos } = check(document, &DocumentLimits::default()).unwrap_err();
        assert_eq!((reason.to_string().as_str(), pos.line, pos.column), (message, line, column), "{document}");
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
