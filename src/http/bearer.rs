//! Bearer tokens (RFC 6750), and the authentication of a request by one.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service;
use crate::service::context::AppContext;

/// Returns the token of a value such as `Bearer <token>`; the scheme is case-insensitive.
pub fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// Authenticates a request by its `Authorization` header; `None` if it has none.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] if the header is malformed or repeated, or if its token is not valid, and
/// [`Error::Unavailable`] if the token cannot be checked now.
pub async fn authenticate(app: &AppContext, headers: &HeaderMap) -> Result<Option<Arc<Viewer>>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // With two headers it is undefined which one counts.
    let token = value.to_str().ok().and_then(bearer_token).filter(|_| values.next().is_none());
    let token = token.ok_or_else(|| Error::unauthenticated("the Authorization header must be Bearer and a token"))?;
    let viewer = service::users::authenticate(app, token).await?;
    Ok(Some(Arc::new(viewer)))
}
