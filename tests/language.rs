//! The language of comments, of the schema's descriptions and of test names.

use std::fs;
use std::path::PathBuf;

use crate::source_tree::{files, root};

/// Openings that leave a sentence without a subject that the reader knows.
const OPENINGS: &[&str] = &[
    "what",
    "who",
    "whom",
    "whose",
    "how far",
    "how many",
    "those",
    "until when",
    "of whom",
    "which",
    "so many",
    "so long",
    "but",
    "nobody who",
    "the same with",
];

/// A sentence, or the end of one block of comment lines, with the line on which its block starts.
struct Block {
    line: usize,
    text: String,
}

/// Returns the blocks of comment lines in a Rust source, without code examples and lists.
fn comment_blocks(source: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    let mut is_example = false;
    for (number, line) in source.lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix("//") else {
            (is_open, is_example) = (false, false);
            continue;
        };
        let text = rest.trim_start_matches(['/', '!']).trim();
        if text.starts_with("```") {
            is_example = !is_example;
            is_open = false;
        } else if is_example || text.is_empty() || text.starts_with('#') || text.starts_with('|') {
            is_open = false;
        } else if is_open && !text.starts_with("- ") {
            let block = blocks.last_mut().expect("an open block");
            block.text = format!("{} {text}", block.text);
        } else {
            blocks.push(Block { line: number + 1, text: text.trim_start_matches("- ").to_owned() });
            is_open = true;
        }
    }
    blocks
}

/// Returns the descriptions of a schema.
fn descriptions(schema: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in schema.lines().enumerate() {
        let text = line.trim();
        match (&mut open, text.strip_prefix("\"\"\"")) {
            (None, Some(rest)) if rest.len() > 3 && rest.ends_with("\"\"\"") => {
                blocks.push(Block { line: number + 1, text: rest.trim_end_matches('"').to_owned() });
            }
            (None, Some(rest)) => open = Some(Block { line: number + 1, text: rest.to_owned() }),
            (Some(block), None) => block.text = format!("{} {text}", block.text),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, None) => {}
        }
    }
    blocks
}

/// Returns the opening of the first sentence that has a forbidden one.
fn forbidden_opening(text: &str) -> Option<&'static str> {
    text.trim().split_inclusive(". ").find_map(|sentence| {
        let sentence = sentence.trim().to_lowercase();
        let opens =
            |opening: &&&str| sentence.strip_prefix(**opening).is_some_and(|rest| rest.starts_with([' ', ',', '\'']));
        // A question is a complete sentence.
        OPENINGS.iter().find(opens).copied().filter(|_| !sentence.ends_with('?'))
    })
}

fn read_rust_files(folders: &[&str]) -> Vec<(String, String)> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        (path.strip_prefix(root()).expect("a path below the root").to_string_lossy().into_owned(), text)
    };
    folders.iter().flat_map(|folder| files(folder, "rs")).map(read).collect()
}

#[test]
fn comments_open_with_a_subject_or_a_verb() {
    let mut wrong = Vec::new();
    for (file, text) in read_rust_files(&["src", "tests", "testkit", "loadtest"]) {
        for block in comment_blocks(&text) {
            if let Some(opening) = forbidden_opening(&block.text) {
                wrong.push(format!("{file}:{}: a sentence opens with \"{opening}\": {}", block.line, block.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} sentences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn descriptions_of_the_schema_open_with_a_subject_or_a_verb() {
    let schema = include_str!("../schema.graphql");
    let descriptions = descriptions(schema);
    assert!(descriptions.len() > 300, "found {} descriptions", descriptions.len());
    let wrong = descriptions.iter().filter_map(|block| {
        let opening = forbidden_opening(&block.text)?;
        Some(format!("schema.graphql:{}: a sentence opens with \"{opening}\": {}", block.line, block.text))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn first_sentence_of_documentation_has_at_most_100_characters() {
    let mut wrong = Vec::new();
    for (file, text) in read_rust_files(&["src"]) {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (number, line) in lines.iter().enumerate() {
            let is_first =
                line.starts_with("/// ") && !number.checked_sub(1).is_some_and(|n| lines[n].starts_with("///"));
            if is_first {
                let block: Vec<&str> = lines[number..].iter().map_while(|line| line.strip_prefix("/// ")).collect();
                let text = block.join(" ");
                let first = text.split_inclusive(". ").next().unwrap_or_default().trim();
                // Descriptions of the schema are for readers of the API: they may be longer.
                if first.chars().count() > 100 && !file.starts_with("src/graphql/schema") {
                    wrong.push(format!("{file}:{}: {first}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} sentences\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn tests_are_named_by_subject_and_behaviour() {
    const VAGUE: &[&str] =
        &["what", "who", "whom", "whose", "how", "those", "nobody", "nothing", "until", "whether", "which"];
    let mut wrong = Vec::new();
    for (file, text) in read_rust_files(&["src", "tests", "testkit", "loadtest"]) {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test]")
                || line.starts_with("#[tokio::test")
                || line.starts_with("#[engine_test")
                || line.starts_with("#[postgres_test");
            let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| std::mem::take(&mut is_test)) {
                let opening = name.split('_').next().unwrap_or_default();
                if VAGUE.contains(&opening) || name.matches('_').count() < 2 {
                    wrong.push(format!("{file}: {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} names\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn forbidden_opening_is_found_in_any_sentence() {
    for text in [
        "What nodes tell each other.",
        "A chat. Whom it concerns is told.",
        "Those who left.",
        "Until when it rings, for anybody.",
        "The first is read. How far it is.",
    ] {
        assert!(forbidden_opening(text).is_some(), "{text}");
    }
    for text in ["Whoever calls.", "Returns what was read.", "What is a cursor?", "Butter."] {
        assert_eq!(forbidden_opening(text), None, "{text}");
    }
}

#[test]
fn comment_blocks_are_read_without_examples() {
    let source =
        "//! One\n//! two.\n//!\n//! - three\n//! - four\n//! ```\n//! What is code\n//! ```\nfn f() {} // five\n";
    let texts: Vec<String> = comment_blocks(source).into_iter().map(|block| block.text).collect();
    assert_eq!(texts, ["One two.", "three", "four"]);
}
