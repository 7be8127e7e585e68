//! The id of an HTTP request, which ties a response to the log.

use axum::http::{HeaderName, Request};
use tower_http::request_id::RequestId;

/// The header that carries the id in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the id that the client sent, or that the router gave the request.
pub fn request_id<B>(request: &Request<B>) -> &str {
    let id = request.extensions().get::<RequestId>();
    id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default()
}
