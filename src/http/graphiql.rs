//! GraphiQL, in development mode only: the page contains a token of the demo user Alice.

use axum::extract::{Path, Request, State as Extract};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, StatusCode, Version};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

use crate::auth::authenticator::TokenSpec;
use crate::graphql::graphiql_page;
use crate::http::settings::is_loopback_host;
use crate::http::state::HttpState;

/// The files that Vite builds from `src/http/graphiql`; empty in a build without Node.
#[derive(RustEmbed)]
#[folder = "src/http/graphiql/dist"]
#[allow_missing = true]
struct Assets;

/// The headers of proxies, beside those that begin with `x-forwarded-`.
const PROXY_HEADERS: &[&str] = &[
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

/// Forbids everything from other origins; the editor's workers are files or blobs.
const PAGE_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Returns whether GraphiQL is part of the binary, so that its page needs no other server.
pub fn is_built() -> bool {
    Assets::get("index.html").is_some()
}

/// Serves the page with a token that can use the API.
pub async fn page(Extract(state): Extract<HttpState>, request: Request) -> Response {
    // By DNS rebinding, another site's name could resolve to this machine; its page must not read the token. A proxy
    // on this machine could forward the requests of anybody.
    if !names_this_machine(&request) || came_through_proxy(&request) {
        return (StatusCode::MISDIRECTED_REQUEST, "a development server is at localhost only\n").into_response();
    }
    let Ok(token) = state.app.authenticator.issue(&TokenSpec::demo("alice", "Alice")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match Assets::get("index.html") {
        Some(index) => {
            let page =
                String::from_utf8_lossy(&index.data).replace(r#"{"token":null}"#, &format!(r#"{{"token":"{token}"}}"#));
            let headers = [(CONTENT_SECURITY_POLICY, PAGE_SECURITY_POLICY.to_owned()), no_store()];
            (headers, Html(page)).into_response()
        }
        None => {
            let page = graphiql_page::render("/graphql", &format!("Bearer {token}"));
            ([(CONTENT_SECURITY_POLICY, cdn_page_security_policy(&page)), no_store()], Html(page)).into_response()
        }
    }
}

fn no_store() -> (HeaderName, String) {
    (CACHE_CONTROL, "no-store".to_owned())
}

/// Serves a file of the page. The page itself is served at `/` only.
pub async fn asset(Path(file): Path<String>) -> Response {
    let content_type = content_type(&file);
    let Some(EmbeddedFile { data, .. }) = Assets::get(&file).filter(|_| !content_type.starts_with("text/html")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (CONTENT_TYPE, content_type),
        // Vite puts a hash of the content into each file's name, so a file never changes.
        (CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        // A worker has the policy of its own file.
        (CONTENT_SECURITY_POLICY, PAGE_SECURITY_POLICY.to_owned()),
    ];
    (headers, data.into_owned()).into_response()
}

/// Returns the policy of the page that loads GraphiQL from a CDN.
///
/// It allows exactly the scripts that the page contains now, by their hashes; other scripts come from the CDN, and its
/// import map contains an empty module as a `data:` address.
fn cdn_page_security_policy(page: &str) -> String {
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

/// Returns the media type of a file by its extension; texts are in UTF-8.
fn content_type(file: &str) -> String {
    let media_type = mime_guess::from_path(file).first_or_octet_stream();
    let charset = if media_type.type_() == mime::TEXT { "; charset=utf-8" } else { "" };
    format!("{media_type}{charset}")
}

/// Returns whether a request is addressed to a name of this machine.
fn names_this_machine(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = request.uri().authority();
    is_loopback_host(host) && hosts.next().is_none() && target.is_none_or(|target| is_loopback_host(target.as_str()))
}

/// Returns whether a request shows signs of a proxy. Every browser speaks HTTP/1.1, but not every proxy does.
fn came_through_proxy(request: &Request) -> bool {
    let is_proxy_header = |name: &str| name.starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name);
    request.version() < Version::HTTP_11 || request.headers().keys().any(|name| is_proxy_header(name.as_str()))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use sha2::{Digest, Sha256};

    use super::{BASE64, cdn_page_security_policy, content_type, inline_scripts};
    use crate::graphql::graphiql_page;
    use crate::http::settings::is_loopback_host;

    #[test]
    fn cdn_page_policy_allows_the_scripts_of_the_page_and_no_other_ones() {
        let page = graphiql_page::render("/graphql", "Bearer a.b.c");
        let policy = cdn_page_security_policy(&page);
        let scripts: Vec<_> = inline_scripts(&page).collect();
        assert_eq!(scripts.len(), page.matches("<script").count(), "each script of the page is in the page itself");
        assert!(scripts.iter().any(|script| script.contains("Bearer a.b.c")));
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
    fn loopback_host_is_recognised_with_and_without_port() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn content_type_follows_the_extension_of_a_built_file() {
        for (file, expected) in [
            ("assets/index-B1.js", "text/javascript; charset=utf-8"),
            ("assets/index-B1.css", "text/css; charset=utf-8"),
            ("index.html", "text/html; charset=utf-8"),
            ("favicon.svg", "image/svg+xml"),
            ("codicon.ttf", "font/ttf"),
            ("inter.woff2", "font/woff2"),
            ("LICENSE", "application/octet-stream"),
        ] {
            assert_eq!(content_type(file), expected);
        }
    }
}
