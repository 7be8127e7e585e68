//! Adversarial documents: the server must reject or answer each of them fast, and keep running.
//!
//! Without the document limits, six of them overflow the stack of async-graphql 8.0.0-rc.5, which ends the process,
//! three occupy a core for more than ten seconds, and one causes a panic.

use std::iter;

/// Returns adversarial documents, each with its name.
///
/// They use only fields that every schema has, so that an admitted document is executed.
pub fn adversarial_documents() -> Vec<(&'static str, String)> {
    vec![
        ("nested lists, 4 KB", surround("{__typename(a:", &nest("[", "", "]", 2_000), ")}")),
        ("nested lists, 1 MB", surround("{__typename(a:", &nest("[", "", "]", 500_000), ")}")),
        ("nested lists, unclosed", surround("{__typename(a:", &"[".repeat(8_000), "")),
        ("nested objects", surround("{__typename(a:", &nest("{a:", "1", "}", 2_000), ")}")),
        ("nested lists and objects", surround("{__typename(a:", &nest("[{a:", "1", "}]", 1_500), ")}")),
        ("nested lists in a directive", surround("{__typename@a(a:", &nest("[", "", "]", 2_000), ")}")),
        ("nested lists in a default", surround("query($a:A=", &nest("[", "", "]", 2_000), "){__typename}")),
        ("nested objects in a default", surround("query($a:A=", &nest("{a:", "1", "}", 2_000), "){__typename}")),
        ("nested lists in a type", surround("query($a:", &nest("[", "Int", "]", 4_000), "){__typename}")),
        ("nested lists in a type, unclosed", surround("query($a:", &"[".repeat(8_000), "")),
        ("nested selections", nest("{a", "", "}", 4_000)),
        ("nested selections, unclosed", "{a".repeat(8_000)),
        ("nested inline fragments", surround("{", &nest("...{", "__typename", "}", 2_000), "}")),
        ("nested introspection", surround("{__schema{types{", &nest("fields{type{", "name", "}}", 60), "}}}")),
        ("introspection, 10 lists deep", surround("{__schema{types{", &nest("fields{type{", "name", "}}", 9), "}}}")),
        (
            "introspection, wide",
            surround("{__schema{types{fields{type{", &"fields{type{fields{name}}}".repeat(150), "}}}}}"),
        ),
        ("introspection, 180 times", surround("{", &"__schema{types{fields{name}}}".repeat(180), "}")),
        ("chain of unreachable fragments", surround("{__typename}", &chain(5_000, 1), "")),
        ("chain of unreachable fragments, 60", surround("{__typename}", &chain(60, 1), "")),
        ("chain of deep unreachable fragments", deep_chain(60, 20)),
        ("chain of fragments", surround("{...F0}", &chain(5_000, 1), "")),
        ("chain of fragments, 60", surround("{...F0}", &chain(60, 1), "")),
        ("fragments that spread the next twice", surround("{...F0}", &chain(26, 2), "")),
        ("fragments that spread the next twice, unreachable", surround("{__typename}", &chain(26, 2), "")),
        ("10 levels of 6 spreads", surround("{...F0}", &chain(10, 6), "")),
        ("22 levels of 2 spreads below a scalar", surround("{__typename{...F0}}", &chain(22, 2), "")),
        ("a fragment that spreads itself", "{...F} fragment F on Query{...F}".into()),
        ("a fragment that spreads itself twice", "{...F} fragment F on Query{...F ...F}".into()),
        ("an unreachable cycle", "{__typename} fragment F on Query{...G} fragment G on Query{...F}".into()),
        ("a cycle under __typename", "{...F} fragment F on Query{__typename{...F}}".into()),
        ("a cycle of 60", surround("{...F0}", &chain(60, 1), "").replace("__typename", "...F0")),
        ("fragments glued to their keyword", surround("{...F0}", &chain(30, 2), "").replace("fragment ", "fragment")),
        ("a fragment named on", "{...on#\n} fragment on on Query{...on#\n ...on#\n}".into()),
        ("50,000 fragments of one name", surround("{__typename}", &"fragment F on Query{a}".repeat(50_000), "")),
        ("50,000 aliases", surround("{", &numbered("a", ":__typename ", 50_000), "}")),
        ("1,000 aliases of the schema", surround("{", &numbered("a", ":__schema{types{name}}", 1_000), "}")),
        ("50,000 fields", surround("{", &"__typename ".repeat(50_000), "}")),
        ("900 conflicting fields", surround("{", &"a:b a:c ".repeat(450), "}")),
        ("50,000 directives", surround("{__typename", &"@skip(if:false)".repeat(50_000), "}")),
        ("50,000 unknown directives", surround("query", &"@a".repeat(50_000), "{__typename}")),
        ("directives with nested arguments", surround("{__typename", &nested_directives(100), "}")),
        ("50,000 operations", numbered("query A", "{__typename}", 50_000)),
        ("50,000 anonymous operations", "{__typename}".repeat(50_000)),
        ("16 operations of 120 fields", numbered("query A", &surround("{", &"a ".repeat(120), "}"), 16)),
        ("50,000 arguments", surround("{__typename(", &numbered("a", ":1 ", 50_000), ")}")),
        ("50,000 variables", surround("query(", &numbered("$a", ":Int ", 50_000), "){__typename}")),
        ("900 uses of a variable", surround("query($a:[Int]=[1]){__type(name:[", &"$a ".repeat(900), "]){name}}")),
        ("a list of an unknown type with a default", "query($a:[Nope]=[1]){__typename}".into()),
        ("a default of a wrong type", "query($a:[[Int!]!]!=[{a:[null]}]){__typename}".into()),
        ("a huge string", surround("{__typename(a:\"", &"a".repeat(1 << 20), "\")}")),
        ("a huge block string", surround("{__typename(a:\"\"\"", &" \n".repeat(1 << 19), "\"\"\")}")),
        ("a huge name", surround("{", &"a".repeat(1 << 20), "}")),
        ("a name of 16 KB", surround("{", &"a".repeat(16_000), "}")),
        ("a huge number", surround("{__typename(a:", &"9".repeat(1 << 20), ")}")),
        ("a number out of range", "{__typename(a:1e999999999)}".into()),
        (
            "numbers and booleans glued",
            surround("{__typename(a:[", &"0".repeat(8_000), &surround("", &"true".repeat(1_900), "])}")),
        ),
        ("a huge comment", surround("{__typename}#", &"{".repeat(1 << 20), "")),
        ("comments", surround("{__typename}", &"#\r".repeat(8_000), "")),
        ("white space", surround("{__typename", &" ".repeat(1 << 20), "}")),
        ("commas", surround("{__typename", &",".repeat(16_000), "}")),
        ("an unterminated string", surround("{__typename(a:\"", &"\\\"".repeat(8_000), "")),
        ("an unterminated block string", surround("{__typename(a:\"\"\"", &"\\\"\"\"".repeat(4_000), "")),
        ("block strings unterminated in turn", surround("{__typename(a:[", &"\"\"\" \"".repeat(3_201), "")),
        ("an unterminated object", "{__typename(a:{".into()),
        ("brackets that do not match", "{__typename(a:[{)]})}".into()),
        ("closing brackets alone", "}])".repeat(5_000)),
        ("a lone surrogate", r#"{__typename(a:"\uD800")}"#.into()),
        ("an escape of no character", r#"{__typename(a:"\u{FFFFFFFFFFFFFFFFF}")}"#.into()),
        ("escapes", surround("{__typename(a:\"", &r"\u{1F600}".repeat(1_500), "\")}")),
        ("NULs", "\0".repeat(16_000)),
        ("a NUL in a string", "{__typename(a:\"\0\")}".into()),
        ("byte order marks", surround("", &"\u{FEFF}".repeat(5_000), "{__typename}")),
        ("characters of four bytes", "\u{1F600}".repeat(4_000)),
        ("nothing", String::new()),
        ("nothing but a comment", "#".into()),
        ("an empty selection", "{}".into()),
        ("dots", ".".repeat(16_000)),
        ("spreads of nothing", surround("{", &"...".repeat(1_900), "}")),
        ("a type", "type Query { a: Int } extend type Query { b: Int }".into()),
        ("an unknown operation type", "select{__typename}".into()),
        // The largest documents that the limits admit.
        ("conflicts at every depth of fragments", conflicts()),
        ("1,240 fields with comments between", surround("{", &"__typename#\r".repeat(1_240), "}")),
        (
            "2,000 selections by a wide fragment",
            surround("{", &"...F ".repeat(9), &surround("}fragment F on Query{", &"__typename ".repeat(220), "}")),
        ),
        ("22 levels of inline fragments", surround("{", &nest("...{", &"__typename ".repeat(900), "}", 22), "}")),
        ("a subscription of everything", surround("subscription{", &numbered("a", ":__typename ", 40), "}")),
    ]
}

/// Returns `middle` between `before` and `after`.
fn surround(before: &str, middle: &str, after: &str) -> String {
    [before, middle, after].concat()
}

/// Returns `middle` within this many pairs of brackets.
fn nest(open: &str, middle: &str, close: &str, depth: usize) -> String {
    surround(&open.repeat(depth), middle, &close.repeat(depth))
}

/// Returns this many copies of `before` and `after`, with the number of the copy between them.
fn numbered(before: &str, after: &str, copies: usize) -> String {
    (0..copies).map(|copy| format!("{before}{copy}{after}")).collect()
}

/// Returns fragments F0, F1 and so on, each of which spreads the next one this many times.
fn chain(length: usize, spreads: usize) -> String {
    let link = |n| format!("fragment F{n} on Query{{{}}}", format!("...F{} ", n + 1).repeat(spreads));
    let end = format!("fragment F{length} on Query{{__typename}}");
    (0..length).map(link).chain(iter::once(end)).collect()
}

/// Returns a chain of unreachable fragments whose spreads are nested this deep.
fn deep_chain(length: usize, depth: usize) -> String {
    let link = |n| format!("fragment F{n} on Query{{{}}}", nest("...{", &format!("...F{}", n + 1), "}", depth));
    (0..length).map(link).chain(iter::once("{__typename}".into())).collect()
}

fn nested_directives(count: usize) -> String {
    format!("@include(if:{})", nest("[{if:", "true", "}]", 10)).repeat(count)
}

/// Returns fragments that select conflicting fields at each of their depths.
///
/// async-graphql reports each conflict once for each enclosing selection.
fn conflicts() -> String {
    let fields = "__type(name:1){name}__type(name:2){name}".repeat(75);
    let fragment = |n| format!("fragment G{n} on Query{{{}}}", nest("...{", "...F", "}", 18));
    format!("{{__typename}} fragment F on Query{{{fields}}} {}", (0..8).map(fragment).collect::<String>())
}
