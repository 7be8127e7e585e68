//! The structure of the source: the order of layers, no cycle between files, one layer for each library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Attribute, File, Item, ItemMod, ItemUse, Macro, UseTree, Visibility};

use crate::source_tree::{files, root};

/// The modules of the crate from the bottom to the top.
///
/// A module uses those of lower rows and of its own entry.
///
/// Modules of one row are independent of each other.
const LAYERS: &[&[&str]] = &[
    &["error", "metrics", "crypto_provider", "rate_limited_log"],
    &["tasks", "domain"],
    &["storage", "auth"],
    &["access"],
    &["realtime"],
    &["service"],
    &["graphql"],
    &["http"],
    &["config"],
    &["telemetry", "signals"],
    &["bootstrap"],
    &["cli"],
];

/// The libraries that only some modules may name.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("diesel", &["storage"]),
    ("diesel_async", &["storage"]),
    ("diesel_migrations", &["storage"]),
    ("tokio_postgres", &["storage"]),
    ("jsonwebtoken", &["auth"]),
    ("redis", &["realtime::cluster"]),
    ("async_graphql", &["graphql"]),
    ("async_graphql_value", &["graphql"]),
    ("axum", &["http"]),
    ("tower_http", &["http"]),
    ("tungstenite", &["http"]),
    ("clap", &["cli", "config"]),
    ("prometheus_client", &["metrics"]),
];

/// A source file: its path below `src`, and its text.
type Source = (String, String);

/// A path of a file as it is written, with the modules that enclose it within that file.
struct WrittenPath {
    segments: Vec<String>,
    enclosing: usize,
}

/// Collects the paths that a file names outside its unit tests.
#[derive(Default)]
struct Paths {
    found: Vec<WrittenPath>,
    enclosing: usize,
}

impl Paths {
    fn add(&mut self, segments: Vec<String>) {
        self.found.push(WrittenPath { segments, enclosing: self.enclosing });
    }

    fn add_use(&mut self, prefix: &[String], tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[path.ident.to_string()]].concat();
                self.add_use(&prefix, &path.tree);
            }
            UseTree::Name(name) if name.ident == "self" => self.add(prefix.to_vec()),
            UseTree::Name(name) => self.add([prefix, &[name.ident.to_string()]].concat()),
            UseTree::Rename(rename) => self.add([prefix, &[rename.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.add(prefix.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(prefix, tree)),
        }
    }

    /// Collects the paths among the arguments of a macro, which are no syntax tree.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.add(std::mem::replace(&mut path, vec![name.to_string()]));
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.add(std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.add(path);
    }
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(module) => &module.attrs,
            Item::Use(import) => &import.attrs,
            Item::Fn(function) => &function.attrs,
            Item::Impl(block) => &block.attrs,
            _ => &[],
        };
        if !is_test_only(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.enclosing += 1;
        syn::visit::visit_item_mod(self, module);
        self.enclosing -= 1;
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(super)` names a module, but imports nothing.
    }

    fn visit_item_use(&mut self, import: &'ast ItemUse) {
        self.add_use(&[], &import.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        syn::visit::visit_macro(self, call);
        self.add_tokens(call.tokens.clone());
    }
}

/// Returns the path of the module that a file is.
fn module_of(file: &str) -> Vec<String> {
    let mut segments: Vec<String> = file.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
    if segments.last().is_some_and(|last| last == "mod") || matches!(file, "lib.rs" | "main.rs") {
        segments.pop();
    }
    segments
}

/// Resolves a path to segments from the root of the crate; `None` for a path of another crate.
fn resolve(module: &[String], path: &WrittenPath) -> Option<Vec<String>> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    match path.segments.first()?.as_str() {
        "crate" => Some(path.segments[1..].to_vec()),
        "self" if path.enclosing == 0 => Some([module, &path.segments[1..]].concat()),
        "super" if supers > path.enclosing => {
            let above = module.len().checked_sub(supers - path.enclosing)?;
            Some([&module[..above], &path.segments[supers..]].concat())
        }
        _ => None,
    }
}

/// Returns what is wrong with the structure of these files.
fn violations(sources: &[Source]) -> Vec<String> {
    let modules: BTreeMap<Vec<String>, &str> = sources
        .iter()
        .map(|(file, _)| (module_of(file), file.as_str()))
        .filter(|(module, _)| !module.is_empty())
        .collect();
    let rank = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut wrong = Vec::new();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, text) in sources {
        let module = module_of(file);
        let Some(layer) = module.first() else { continue };
        if file.ends_with("/tests.rs") {
            continue;
        }
        let Some(own_rank) = rank(layer) else {
            wrong.push(format!("{file}: the module {layer} is in no layer"));
            continue;
        };
        let syntax: File = syn::parse_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut paths = Paths::default();
        paths.visit_file(&syntax);
        for path in &paths.found {
            if let Some(target) = resolve(&module, path) {
                let known = (1..=target.len()).rev().find_map(|length| modules.get_key_value(&target[..length]));
                let Some((target, target_file)) = known else { continue };
                if *target_file != file {
                    edges.entry(file).or_default().insert(target_file);
                }
                let target_layer = &target[0];
                if target_layer != layer && rank(target_layer).is_some_and(|rank| rank >= own_rank) {
                    wrong.push(format!("{file}: {layer} may not use {}", target.join("::")));
                }
            } else if let Some(library) = path.segments.first().filter(|_| path.segments.len() > 1) {
                let allowed = LIBRARIES.iter().find(|(name, _)| name == library);
                let own = module.join("::");
                let permits = |place: &&str| own == **place || own.starts_with(&format!("{place}::"));
                if allowed.is_some_and(|(_, places)| !places.iter().any(permits)) {
                    wrong.push(format!("{file}: {own} may not use the library {library}"));
                }
            }
        }
    }
    wrong.extend(cycles(&edges).into_iter().map(|cycle| format!("a cycle: {}", cycle.join(", "))));
    wrong.sort();
    wrong.dedup();
    wrong
}

/// Returns the groups of files that reach each other.
fn cycles<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<Vec<&'a str>> {
    let reached_from = |start: &'a str| {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(file) = waiting.pop() {
            for next in edges.get(file).into_iter().flatten() {
                if reached.insert(*next) {
                    waiting.push(next);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|file| (*file, reached_from(file))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|files| files.contains(to));
    let groups = edges.keys().filter(|file| reaches(file, file));
    groups
        .map(|file| edges.keys().filter(|other| reaches(file, other) && reaches(other, file)).copied().collect())
        .collect()
}

fn read_sources() -> Vec<Source> {
    let read = |path: PathBuf| {
        let file = path.strip_prefix(root().join("src")).expect("a path below src").to_string_lossy().into_owned();
        (file, fs::read_to_string(&path).expect("a source file"))
    };
    files("src", "rs").into_iter().map(read).collect()
}

#[test]
fn sources_follow_the_layers_without_a_cycle() {
    let sources = read_sources();
    assert!(sources.len() > 100, "found {} source files", sources.len());
    let wrong = violations(&sources);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn source(file: &str, text: &str) -> Source {
    (file.to_owned(), text.to_owned())
}

#[test]
fn cycle_between_two_files_is_a_violation() {
    let sources = [
        source("domain/chats.rs", "use crate::domain::members::Member; pub struct Chat(Member);"),
        source("domain/members.rs", "pub struct Member; fn chat() -> super::chats::Chat { todo!() }"),
    ];
    assert_eq!(violations(&sources), ["a cycle: domain/chats.rs, domain/members.rs"]);
}

#[test]
fn cycle_through_the_file_of_a_folder_is_a_violation() {
    let sources = [
        source("storage/mod.rs", "pub use self::pool::Pool; pub struct Conn;"),
        source("storage/pool.rs", "use super::Conn; pub struct Pool(Conn);"),
    ];
    assert_eq!(violations(&sources), ["a cycle: storage/mod.rs, storage/pool.rs"]);
}

#[test]
fn import_of_a_higher_layer_is_a_violation_in_every_notation() {
    for text in [
        "use crate::service::chats;",
        "use crate::{domain, service};",
        "use super::super::service::chats;",
        "fn f() { crate::service::chats::find(); }",
        "fn f() { println!(\"{}\", crate::service::chats::find()); }",
        "type T = Vec<crate::service::chats::Found>;",
        "mod inner { use crate::service::chats::Found as Other; }",
    ] {
        let sources = [
            source("realtime/hub.rs", text),
            source("service/mod.rs", ""),
            source("service/chats.rs", ""),
            source("domain/mod.rs", ""),
        ];
        let wrong = violations(&sources);
        assert!(
            wrong.iter().all(|wrong| wrong.starts_with("realtime/hub.rs: realtime may not use service")),
            "{wrong:?}"
        );
        assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
    }
}

#[test]
fn layer_may_not_use_its_neighbour_of_the_same_row() {
    let sources = [source("auth/keys.rs", "use crate::storage::pool;"), source("storage/pool.rs", "")];
    assert_eq!(violations(&sources), ["auth/keys.rs: auth may not use storage::pool"]);
}

#[test]
fn library_outside_its_layer_is_a_violation_for_each_library() {
    for (library, _) in LIBRARIES {
        let texts = [
            format!("use {library}::Thing;"),
            format!("fn f() {{ {library}::call(); }}"),
            format!("m!({library}::x);"),
        ];
        for text in texts {
            let wrong = violations(&[source("domain/chats.rs", &text)]);
            assert_eq!(wrong, [format!("domain/chats.rs: domain::chats may not use the library {library}")], "{text}");
        }
    }
}

#[test]
fn restricted_visibility_is_no_import() {
    let sources = [
        source("config/mod.rs", "use self::log::LogSettings;"),
        source("config/log.rs", "pub struct LogSettings { pub(super) level: String }"),
    ];
    assert_eq!(violations(&sources), [""; 0]);
}

#[test]
fn unit_tests_are_exempt_from_layers() {
    let text = "#[cfg(test)] mod tests { use crate::service::chats; use axum::Router; }";
    let sources = [source("domain/chats.rs", text), source("service/chats.rs", "use crate::domain::chats;")];
    assert_eq!(violations(&sources), [""; 0]);
}

#[test]
fn migrations_are_paired_by_name() {
    let root = root().join("migrations");
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
