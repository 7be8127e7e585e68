//! The files of the project, for tests of its text.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the project's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files below a folder of the project that have an extension, sorted.
///
/// Files of dependencies are left out.
pub fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if !path.is_dir() {
                found.extend(path.extension().is_some_and(|ending| ending == extension).then_some(path));
            } else if !["node_modules", "target"].iter().any(|name| path.ends_with(name)) {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}
