//! Documents made to hurt a GraphQL server: each must be refused or answered fast, and leave the
//! process alive. Without the guard, six of them overflow the stack of async-graphql 8.0.0-rc.5,
//! which ends the process, three keep a core busy for more than ten seconds, and one is a panic.

use std::iter;

/// Hostile documents, each with its name. They use only the fields that every schema has, so that
/// one that is admitted goes as far into the server as it can.
pub fn hostile() -> Vec<(&'static str, String)> {
    vec![
        ("nested lists, 4 KB", within("{__typename(a:", &nest("[", "", "]", 2_000), ")}")),
        ("nested lists, 1 MB", within("{__typename(a:", &nest("[", "", "]", 500_000), ")}")),
        ("nested lists, unclosed", within("{__typename(a:", &"[".repeat(8_000), "")),
        ("nested objects", within("{__typename(a:", &nest("{a:", "1", "}", 2_000), ")}")),
        ("nested lists and objects", within("{__typename(a:", &nest("[{a:", "1", "}]", 1_500), ")}")),
        ("nested lists in a directive", within("{__typename@a(a:", &nest("[", "", "]", 2_000), ")}")),
        ("nested lists in a default", within("query($a:A=", &nest("[", "", "]", 2_000), "){__typename}")),
        ("nested objects in a default", within("query($a:A=", &nest("{a:", "1", "}", 2_000), "){__typename}")),
        ("nested lists in a type", within("query($a:", &nest("[", "Int", "]", 4_000), "){__typename}")),
        ("nested lists in a type, unclosed", within("query($a:", &"[".repeat(8_000), "")),
        ("nested selections", nest("{a", "", "}", 4_000)),
        ("nested selections, unclosed", "{a".repeat(8_000)),
        ("nested inline fragments", within("{", &nest("...{", "__typename", "}", 2_000), "}")),
        ("nested introspection", within("{__schema{types{", &nest("fields{type{", "name", "}}", 60), "}}}")),
        ("introspection, 10 lists deep", within("{__schema{types{", &nest("fields{type{", "name", "}}", 9), "}}}")),
        (
            "introspection, wide",
            within("{__schema{types{fields{type{", &"fields{type{fields{name}}}".repeat(150), "}}}}}"),
        ),
        ("introspection, 180 times", within("{", &"__schema{types{fields{name}}}".repeat(180), "}")),
        ("chain of unreachable fragments", within("{__typename}", &chain(5_000, 1), "")),
        ("chain of unreachable fragments, 60", within("{__typename}", &chain(60, 1), "")),
        ("chain of deep unreachable fragments", deep_chain(60, 20)),
        ("chain of fragments", within("{...F0}", &chain(5_000, 1), "")),
        ("chain of fragments, 60", within("{...F0}", &chain(60, 1), "")),
        ("fragments that spread the next twice", within("{...F0}", &chain(26, 2), "")),
        ("fragments that spread the next twice, unreachable", within("{__typename}", &chain(26, 2), "")),
        ("10 levels of 6 spreads", within("{...F0}", &chain(10, 6), "")),
        ("22 levels of 2 spreads in an argument's shadow", within("{__typename{...F0}}", &chain(22, 2), "")),
        ("a fragment that spreads itself", "{...F} fragment F on Query{...F}".into()),
        ("a fragment that spreads itself twice", "{...F} fragment F on Query{...F ...F}".into()),
        ("an unreachable cycle", "{__typename} fragment F on Query{...G} fragment G on Query{...F}".into()),
        ("a cycle under __typename", "{...F} fragment F on Query{__typename{...F}}".into()),
        ("a cycle of 60", within("{...F0}", &chain(60, 1), "").replace("__typename", "...F0")),
        ("fragments glued to their keyword", within("{...F0}", &chain(30, 2), "").replace("fragment ", "fragment")),
        ("a fragment named on", "{...on#\n} fragment on on Query{...on#\n ...on#\n}".into()),
        ("50,000 fragments of one name", within("{__typename}", &"fragment F on Query{a}".repeat(50_000), "")),
        ("50,000 aliases", within("{", &numbered("a", ":__typename ", 50_000), "}")),
        ("1,000 aliases of the schema", within("{", &numbered("a", ":__schema{types{name}}", 1_000), "}")),
        ("50,000 fields", within("{", &"__typename ".repeat(50_000), "}")),
        ("900 conflicting fields", within("{", &"a:b a:c ".repeat(450), "}")),
        ("50,000 directives", within("{__typename", &"@skip(if:false)".repeat(50_000), "}")),
        ("50,000 unknown directives", within("query", &"@a".repeat(50_000), "{__typename}")),
        ("directives with nested arguments", within("{__typename", &nested_directives(100), "}")),
        ("50,000 operations", numbered("query A", "{__typename}", 50_000)),
        ("50,000 anonymous operations", "{__typename}".repeat(50_000)),
        ("16 operations of 120 fields", numbered("query A", &within("{", &"a ".repeat(120), "}"), 16)),
        ("50,000 arguments", within("{__typename(", &numbered("a", ":1 ", 50_000), ")}")),
        ("50,000 variables", within("query(", &numbered("$a", ":Int ", 50_000), "){__typename}")),
        ("900 uses of a variable", within("query($a:[Int]=[1]){__type(name:[", &"$a ".repeat(900), "]){name}}")),
        ("a list of an unknown type with a default", "query($a:[Nope]=[1]){__typename}".into()),
        ("a default of a wrong type", "query($a:[[Int!]!]!=[{a:[null]}]){__typename}".into()),
        ("a huge string", within("{__typename(a:\"", &"a".repeat(1 << 20), "\")}")),
        ("a huge block string", within("{__typename(a:\"\"\"", &" \n".repeat(1 << 19), "\"\"\")}")),
        ("a huge name", within("{", &"a".repeat(1 << 20), "}")),
        ("a name of 16 KB", within("{", &"a".repeat(16_000), "}")),
        ("a huge number", within("{__typename(a:", &"9".repeat(1 << 20), ")}")),
        ("a number out of range", "{__typename(a:1e999999999)}".into()),
        (
            "numbers and booleans glued",
            within("{__typename(a:[", &"0".repeat(8_000), &within("", &"true".repeat(1_900), "])}")),
        ),
        ("a huge comment", within("{__typename}#", &"{".repeat(1 << 20), "")),
        ("comments", within("{__typename}", &"#\r".repeat(8_000), "")),
        ("white space", within("{__typename", &" ".repeat(1 << 20), "}")),
        ("commas", within("{__typename", &",".repeat(16_000), "}")),
        ("an unterminated string", within("{__typename(a:\"", &"\\\"".repeat(8_000), "")),
        ("an unterminated block string", within("{__typename(a:\"\"\"", &"\\\"\"\"".repeat(4_000), "")),
        ("block strings unterminated in turn", within("{__typename(a:[", &"\"\"\" \"".repeat(3_201), "")),
        ("an unterminated object", "{__typename(a:{".into()),
        ("brackets that do not match", "{__typename(a:[{)]})}".into()),
        ("closing brackets alone", "}])".repeat(5_000)),
        ("a lone surrogate", r#"{__typename(a:"\uD800")}"#.into()),
        ("an escape of no character", r#"{__typename(a:"\u{FFFFFFFFFFFFFFFFF}")}"#.into()),
        ("escapes", within("{__typename(a:\"", &r"\u{1F600}".repeat(1_500), "\")}")),
        ("NULs", "\0".repeat(16_000)),
        ("a NUL in a string", "{__typename(a:\"\0\")}".into()),
        ("byte order marks", within("", &"\u{FEFF}".repeat(5_000), "{__typename}")),
        ("characters of four bytes", "\u{1F600}".repeat(4_000)),
        ("nothing", String::new()),
        ("nothing but a comment", "#".into()),
        ("an empty selection", "{}".into()),
        ("dots", ".".repeat(16_000)),
        ("spreads of nothing", within("{", &"...".repeat(1_900), "}")),
        ("a type", "type Query { a: Int } extend type Query { b: Int }".into()),
        ("an unknown operation type", "select{__typename}".into()),
        // As much as the guard admits.
        ("conflicts at every level of fragments", conflicts()),
        ("1,240 fields with comments between", within("{", &"__typename#\r".repeat(1_240), "}")),
        (
            "2,000 selections by a wide fragment",
            within("{", &"...F ".repeat(9), &within("}fragment F on Query{", &"__typename ".repeat(220), "}")),
        ),
        ("22 levels of inline fragments", within("{", &nest("...{", &"__typename ".repeat(900), "}", 22), "}")),
        ("a subscription of everything", within("subscription{", &numbered("a", ":__typename ", 40), "}")),
    ]
}

fn within(before: &str, middle: &str, after: &str) -> String {
    [before, middle, after].concat()
}

/// `middle` in this many pairs of brackets.
fn nest(open: &str, middle: &str, close: &str, depth: usize) -> String {
    within(&open.repeat(depth), middle, &close.repeat(depth))
}

/// This many copies of `before` and `after` with the copy's number between them.
fn numbered(before: &str, after: &str, copies: usize) -> String {
    (0..copies).map(|copy| format!("{before}{copy}{after}")).collect()
}

/// Fragments F0, F1 and so on that each spread the next so many times; the last has one field.
fn chain(length: usize, spreads: usize) -> String {
    let link = |n| format!("fragment F{n} on Query{{{}}}", format!("...F{} ", n + 1).repeat(spreads));
    let end = format!("fragment F{length} on Query{{__typename}}");
    (0..length).map(link).chain(iter::once(end)).collect()
}

/// A chain of unreachable fragments whose spreads nest this deep.
fn deep_chain(length: usize, depth: usize) -> String {
    let link = |n| format!("fragment F{n} on Query{{{}}}", nest("...{", &format!("...F{}", n + 1), "}", depth));
    (0..length).map(link).chain(iter::once("{__typename}".into())).collect()
}

fn nested_directives(count: usize) -> String {
    format!("@include(if:{})", nest("[{if:", "true", "}]", 10)).repeat(count)
}

/// Fragments that select conflicting fields at each of their levels: async-graphql tells every
/// conflict once for each level above it.
fn conflicts() -> String {
    let fields = "__type(name:1){name}__type(name:2){name}".repeat(75);
    let fragment = |n| format!("fragment G{n} on Query{{{}}}", nest("...{", "...F", "}", 18));
    format!("{{__typename}} fragment F on Query{{{fields}}} {}", (0..8).map(fragment).collect::<String>())
}
