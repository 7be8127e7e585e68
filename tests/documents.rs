//! The documents name files and items that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::source_tree::{files, root};

/// Returns the documents for people, each with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    paths.extend(files("docs", "md"));
    paths.push(root().join("tests/clients/README.md"));
    paths.push(root().join("examples/call/README.md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a document");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// Returns the inline code of a document, outside its blocks of code.
fn inline_code(document: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_block = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Returns the names of the types, traits and constants that the workspace defines.
fn defined_names() -> BTreeSet<String> {
    let sources = ["src", "tests", "testkit", "loadtest"].into_iter().flat_map(|folder| files(folder, "rs"));
    let mut names = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(&source).expect("a source file");
        let tokens: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|token| !token.is_empty()).collect();
        for pair in tokens.windows(2) {
            if ["struct", "enum", "trait", "type", "fn", "const", "static", "union"].contains(&pair[0]) {
                names.insert(pair[1].to_owned());
            }
        }
    }
    names
}

/// Returns the paths that a text of inline code stands for: `a/{b,c}.rs` stands for two.
fn expand(text: &str) -> Vec<String> {
    match text
        .split_once('{')
        .and_then(|(before, rest)| rest.split_once('}').map(|(inner, after)| (before, inner, after)))
    {
        Some((before, inner, after)) => {
            inner.split(',').flat_map(|part| expand(&format!("{before}{}{after}", part.trim()))).collect()
        }
        None => vec![text.to_owned()],
    }
}

fn is_path(text: &str) -> bool {
    const FOLDERS: &[&str] = &[
        "src/",
        "tests/",
        "docs/",
        "benches/",
        "migrations/",
        "testkit/",
        "loadtest/",
        "examples/",
        "clients/",
        ".ci/",
        "domain/",
        "storage/",
        "realtime/",
        "service/",
        "graphql/",
        "http/",
        "config/",
        "auth/",
    ];
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-{},".contains(c));
    let is_file = [".rs", ".md", ".sql", ".ts", ".js", ".toml"].iter().any(|ending| text.ends_with(ending));
    plain && (is_file && !text.starts_with('.') || FOLDERS.iter().any(|folder| text.starts_with(folder)))
}

/// Returns whether a block of code in the document is a file of this name.
///
/// The first line of the block names the file.
fn shows_file(document: &str, name: &str) -> bool {
    let is_block = |(start, line): (&str, &str)| {
        start.starts_with("```") && (line == format!("// {name}") || line == format!("# {name}"))
    };
    document.lines().zip(document.lines().skip(1)).any(is_block)
}

#[test]
fn files_named_in_documents_exist() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (document, text) in documents() {
        let folder = document.parent().expect("a folder");
        for path in inline_code(&text).into_iter().filter(|code| is_path(code)).flat_map(expand) {
            count += 1;
            let exists = [folder, root(), &root().join("src")].iter().any(|base| base.join(&path).exists());
            if !exists && !shows_file(&text, &path) {
                wrong.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(count > 50, "found {count} paths");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn links_in_documents_lead_to_files() {
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        let folder = document.parent().expect("a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_local = !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:");
            if is_local && !folder.join(file).exists() {
                wrong.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn items_named_in_documents_exist() {
    let defined = defined_names();
    let schema = include_str!("../schema.graphql");
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        for code in inline_code(&text) {
            let path = code.trim_end_matches("()");
            let segments: Vec<&str> = path.split("::").collect();
            let is_identifier = |text: &&str| {
                text.chars().next().is_some_and(char::is_alphabetic)
                    && text.chars().all(|c| c.is_alphanumeric() || c == '_')
            };
            let is_item =
                segments.len() > 1 && segments.iter().all(is_identifier) && segments[0].starts_with(char::is_uppercase);
            let known = |name: &&&str| defined.contains(**name) || schema.contains(**name);
            if is_item && segments.iter().filter(|name| !known(name)).count() > 0 {
                wrong.push(format!("{}: {code}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn inline_code_is_read_outside_blocks() {
    assert_eq!(inline_code("a `b` c `d/e.rs`\n```\n`no`\n```\n`f`"), ["b", "d/e.rs", "f"]);
    assert_eq!(expand("src/{a,b}.rs"), ["src/a.rs", "src/b.rs"]);
    assert!(shows_file("a\n```ts\n// b.ts\n```", "b.ts") && !shows_file("// b.ts\n```ts\n// c.ts\n```", "b.ts"));
}
