//! The id of an HTTP request, which ties a response to the log.

use axum::http::{Extensions, HeaderName, HeaderValue, Request};
use tower_http::request_id::RequestId;

/// The header that carries the id in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of an id that a client chooses.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Returns the id that the client or the router gave the request, from the request's extensions.
pub fn request_id(extensions: &Extensions) -> &str {
    let id = extensions.get::<RequestId>();
    id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default()
}

/// Removes an id that is too long, is repeated or has other characters than `A-Za-z0-9._-`.
///
/// The request then gets an id of the server, because the log and the responses contain the id.
pub fn remove_invalid_id<B>(mut request: Request<B>) -> Request<B> {
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    let is_acceptable = ids.next().is_none_or(is_valid_id) && ids.next().is_none();
    if !is_acceptable {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

fn is_valid_id(id: &HeaderValue) -> bool {
    let is_valid_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_valid_byte)
}
