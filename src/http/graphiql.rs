//! GraphiQL, in development mode only: the page contains a token of the demo user Alice.

mod cdn;

use std::sync::Arc;

use axum::extract::{Path, Request, State as Extract};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{StatusCode, Version};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::auth::authenticator::TokenSpec;
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

/// Serves the page: the built one, or in a build without Node the one that loads the editor from a CDN.
pub async fn page(state: Extract<Arc<HttpState>>, request: Request) -> Response {
    match Assets::get("index.html") {
        Some(index) => {
            respond(&state, &request, &String::from_utf8_lossy(&index.data), |_| PAGE_SECURITY_POLICY.to_owned())
        }
        None => cdn_page(state, request).await,
    }
}

/// Serves the page that loads the editor from a CDN, whether the built one exists or not.
pub async fn cdn_page(Extract(state): Extract<Arc<HttpState>>, request: Request) -> Response {
    respond(&state, &request, &cdn::page(), cdn::security_policy)
}

/// Responds with a page, a token in it that can use the API, and the policy of the page with the token.
fn respond(state: &HttpState, request: &Request, page: &str, security_policy: impl Fn(&str) -> String) -> Response {
    // By DNS rebinding, another site's name could resolve to this machine; its page must not read the token. A proxy
    // on this machine could forward the requests of anybody.
    if !names_this_machine(request) || came_through_proxy(request) {
        return (StatusCode::MISDIRECTED_REQUEST, "a development server is at localhost only\n").into_response();
    }
    let Ok(token) = state.app.authenticator.issue(&TokenSpec::demo("alice", "Alice")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let page = page.replace(r#"{"token":null}"#, &format!(r#"{{"token":"{token}"}}"#));
    ([(CONTENT_SECURITY_POLICY, security_policy(&page))], Html(page)).into_response()
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
    use super::content_type;
    use crate::http::settings::is_loopback_host;

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
