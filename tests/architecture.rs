//! The layers hold: each uses those above it, and only one knows its library.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top; a layer may use itself and those before it.
const LAYERS: [&str; 7] = ["domain", "storage", "auth", "live", "service", "graphql", "http"];

/// Libraries, and the layers that may know them.
const LIBRARIES: [(&str, &[&str]); 5] = [
    ("diesel::", &["storage"]),
    ("diesel_async::", &["storage"]),
    ("jsonwebtoken::", &["auth"]),
    ("async_graphql::", &["graphql", "http"]),
    ("axum::", &["http"]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.ends_with("node_modules") {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

#[test]
fn a_layer_uses_those_above_it_and_only_one_knows_its_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for (place, layer) in LAYERS.iter().enumerate() {
        let mut files = Vec::new();
        sources(&root.join(layer), &mut files);
        assert!(!files.is_empty(), "{layer}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                let below = LAYERS[place + 1..].iter().find(|below| line.contains(&format!("crate::{below}::")));
                let foreign =
                    LIBRARIES.iter().find(|(library, layers)| line.contains(library) && !layers.contains(layer));
                if below.is_some() || foreign.is_some() {
                    broken.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn migrations_are_paired_by_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = |engine: &str| {
        let mut names: Vec<_> = fs::read_dir(root.join(engine))
            .expect("migrations")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}
