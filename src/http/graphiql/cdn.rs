//! The page of GraphiQL that loads the editor from a CDN, for a build without Node.
//!
//! It contains the same scripts as the built page, as one module.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("cdn.html");
const STYLE: &str = include_str!("style.css");
/// The scripts of the page, each after those that it imports.
const SCRIPTS: [&str; 4] =
    [include_str!("fetcher.js"), include_str!("storage.js"), include_str!("tabs.js"), include_str!("render.js")];

/// Returns the page without a token.
pub fn page() -> String {
    PAGE.replace("/*style.css*/", STYLE).replace("/*scripts*/", &SCRIPTS.map(without_module_syntax).concat())
}

/// Returns a script that can stand in one module with the scripts that it imports from files.
fn without_module_syntax(script: &str) -> String {
    let is_file_import = |line: &str| line.starts_with("import ") && line.contains(" './");
    let lines = script.lines().filter(|line| !is_file_import(line));
    lines.map(|line| line.strip_prefix("export ").unwrap_or(line).to_owned() + "\n").collect()
}

/// Returns the policy of a page that loads GraphiQL from the CDN.
///
/// It allows exactly the scripts that the page contains now, by their hashes; other scripts come from the CDN, and its
/// import map contains an empty module as a `data:` address.
pub fn security_policy(page: &str) -> String {
    let scripts = inline_scripts(page).map(|script| format!("'sha256-{}'", BASE64.encode(Sha256::digest(script))));
    let scripts = scripts.collect::<Vec<_>>().join(" ");
    format!(
        "default-src 'none'; script-src {scripts} https://esm.sh blob: data:; worker-src blob:; \
         style-src https://esm.sh 'unsafe-inline'; img-src 'self' data:; font-src https://esm.sh data:; \
         connect-src 'self' ws: wss: https://esm.sh; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the content of the scripts in a page that are not loaded from an address.
fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|script| {
        let (attributes, rest) = script.split_once('>')?;
        (!attributes.contains("src=")).then(|| rest.split("</script>").next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn policy_allows_the_scripts_of_the_page_and_no_other_ones() {
        let page = page();
        let policy = security_policy(&page);
        let scripts: Vec<_> = inline_scripts(&page).collect();
        assert_eq!(scripts.len(), page.matches("<script").count(), "each script of the page is in the page itself");
        assert_eq!(scripts.len(), 3, "the import map, the token and the module");
        let sources = policy.split("; ").find_map(|directive| directive.strip_prefix("script-src ")).unwrap();
        for script in scripts {
            let hash = format!("'sha256-{}'", BASE64.encode(Sha256::digest(script)));
            assert!(sources.split(' ').any(|source| source == hash), "{script}");
        }
        assert!(!sources.contains("unsafe-inline") && policy.contains("frame-ancestors 'none'"), "{policy}");
        let hosts = page.split('"').filter_map(|part| part.strip_prefix("https://")?.split('/').next());
        assert!(hosts.into_iter().all(|host| host == "esm.sh"), "the policy allows the page's only other host");
    }

    #[test]
    fn module_of_the_page_has_all_scripts_and_imports_no_files() {
        let page = page();
        let module = inline_scripts(&page).last().unwrap();
        for part in
            ["query FirstQuery", "mutation OpenChat", "subscription FirstFeed", "createGraphiQLFetcher", "parlor/"]
        {
            assert!(module.contains(part), "{part}");
        }
        let module_syntax = module
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with("export ") || (line.starts_with("import ") && line.contains(" './")));
        assert_eq!(module_syntax.count(), 0, "{module}");
        assert!(!page.contains("/*style") && !page.contains("/*scripts"), "{page}");
    }

    /// The import map names the versions with which the built page is tested.
    #[test]
    fn import_map_has_the_versions_of_the_locked_packages() {
        let lock: serde_json::Value = serde_json::from_str(include_str!("package-lock.json")).unwrap();
        let page = page();
        let map: serde_json::Value = serde_json::from_str(inline_scripts(&page).next().unwrap()).unwrap();
        let imports: HashMap<String, String> = serde_json::from_value(map["imports"].clone()).unwrap();
        for (name, address) in imports.iter().filter(|(_, address)| address.starts_with("https://")) {
            let package = name.trim_end_matches('/');
            let version = lock["packages"][format!("node_modules/{package}")]["version"].as_str().unwrap();
            let expected = format!("https://esm.sh/{package}@{version}");
            let rest = address.strip_prefix(&expected).unwrap_or_else(|| panic!("{address} is not {expected}"));
            assert!(rest.is_empty() || rest.starts_with(['/', '?']), "{address}");
        }
        let style = format!("{}dist/style.css\"", imports["graphiql/"]);
        assert!(page.contains(&style), "{style}");
    }
}
