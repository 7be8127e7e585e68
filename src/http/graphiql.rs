//! GraphiQL, on a development server only: Alice's token is in the page.

use axum::extract::{Path, State as Extract};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::auth::authenticator::TokenSpec;
use crate::http::HttpState;

/// What Vite builds of `src/http/graphiql`; empty in a build without Node.
#[derive(RustEmbed)]
#[folder = "src/http/graphiql/dist"]
#[allow_missing = true]
struct Assets;

/// Nothing from elsewhere; the editor's workers come as files and as blobs.
const PAGE_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'";

/// Whether the page works without a network.
pub fn is_built() -> bool {
    Assets::get("index.html").is_some()
}

pub async fn page(Extract(state): Extract<HttpState>, headers: HeaderMap) -> Response {
    // A page elsewhere whose name is made to resolve to this machine must not read the token.
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
            let bearer = format!("Bearer {token}");
            let page = async_graphql::http::GraphiQLSource::build()
                .endpoint("/graphql")
                .subscription_endpoint("/graphql")
                .title("Parlor")
                .header("Authorization", &bearer)
                .ws_connection_param("Authorization", &bearer)
                .finish();
            ([(CACHE_CONTROL, "no-store")], Html(page)).into_response()
        }
    }
}

pub async fn asset(Path(file): Path<String>) -> Response {
    let Some(EmbeddedFile { data, .. }) = Assets::get(&file) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let media = match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("ttf") => "font/ttf",
        Some("woff2") => "font/woff2",
        Some("html") => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    };
    // Vite names files by their content.
    let headers = [(CONTENT_TYPE, media), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, data.into_owned()).into_response()
}

fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback_host;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", ""] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
