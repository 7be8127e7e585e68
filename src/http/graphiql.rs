//! GraphiQL, in development mode only: the page contains a token of the demo user Alice.

use axum::extract::{Path, State as Extract};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::auth::authenticator::TokenSpec;
use crate::graphql::graphiql_page;
use crate::http::state::HttpState;

/// The files that Vite builds from `src/http/graphiql`; empty in a build without Node.
#[derive(RustEmbed)]
#[folder = "src/http/graphiql/dist"]
#[allow_missing = true]
struct Assets;

/// Forbids everything from other origins; the editor's workers are files or blobs.
const PAGE_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'";

/// Returns whether GraphiQL is part of the binary, so that its page needs no other server.
pub fn is_built() -> bool {
    Assets::get("index.html").is_some()
}

/// Serves the page with a token that can use the API.
pub async fn page(Extract(state): Extract<HttpState>, headers: HeaderMap) -> Response {
    // By DNS rebinding, another site's name could resolve to this machine; its page must not read the token.
    if !is_loopback_host(headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()) {
        return (StatusCode::MISDIRECTED_REQUEST, "a development server is at localhost only\n").into_response();
    }
    let Ok(token) = state.app.authenticator.issue(&TokenSpec::demo("alice", "Alice")) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match Assets::get("index.html") {
        Some(index) => {
            let page =
                String::from_utf8_lossy(&index.data).replace(r#"{"token":null}"#, &format!(r#"{{"token":"{token}"}}"#));
            ([(CONTENT_SECURITY_POLICY, PAGE_SECURITY_POLICY), (CACHE_CONTROL, "no-store")], Html(page)).into_response()
        }
        None => {
            let page = graphiql_page::render("/graphql", &format!("Bearer {token}"));
            ([(CACHE_CONTROL, "no-store")], Html(page)).into_response()
        }
    }
}

/// Serves a file of the page.
pub async fn asset(Path(file): Path<String>) -> Response {
    let Some(EmbeddedFile { data, .. }) = Assets::get(&file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Vite puts a hash of the content into each file's name, so a file never changes.
    let headers =
        [(CONTENT_TYPE, content_type(&file)), (CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned())];
    (headers, data.into_owned()).into_response()
}

/// Returns the media type of a file by its extension; texts are in UTF-8.
fn content_type(file: &str) -> String {
    let media_type = mime_guess::from_path(file).first_or_octet_stream();
    let charset = if media_type.type_() == mime::TEXT { "; charset=utf-8" } else { "" };
    format!("{media_type}{charset}")
}

/// Returns whether a `Host` header names this machine.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{content_type, is_loopback_host};

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
