//! The one place where an error becomes what a client may read of it.

use async_graphql::{ErrorExtensionValues, ServerError};

use crate::error::Error;

/// Gives each error of a response its code, and takes from it what is for the log only.
pub fn finalize_errors(errors: &mut [ServerError], request_id: &str) {
    for error in errors {
        let extensions = error.extensions.get_or_insert_default();
        match error.source.as_ref().and_then(|source| source.downcast_ref::<Error>()) {
            Some(ours) => {
                error.message = log_and_redact(ours, extensions, request_id);
            }
            // What async-graphql refuses by itself is wrong with the document or its variables.
            None if extensions.get("code").is_none() => extensions.set("code", "BAD_USER_INPUT"),
            None => {}
        }
        error.source = None;
    }
}

/// An error that comes before any field.
pub fn request_error(error: &Error, request_id: &str) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    let message = log_and_redact(error, &mut extensions, request_id);
    let mut error = ServerError::new(message, None);
    error.extensions = Some(extensions);
    error
}

/// Whether the server could not do what was asked, for a while.
pub fn is_unavailable(error: &ServerError) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    code == Some(&"UNAVAILABLE".into())
}

fn log_and_redact(error: &Error, extensions: &mut ErrorExtensionValues, request_id: &str) -> String {
    extensions.set("code", error.code());
    match error {
        Error::BadUserInput { field, .. } => extensions.set("field", *field),
        Error::RateLimited { retry_after, .. } | Error::Unavailable { retry_after, .. } => {
            // Rounded up: after this time the same request is legal.
            let millis = retry_after.as_micros().div_ceil(1_000);
            extensions.set("retryAfterMs", u64::try_from(millis).unwrap_or(u64::MAX));
        }
        Error::Internal(cause) => {
            tracing::error!(%cause, request_id, "a request failed");
            extensions.set("requestId", request_id);
            return "internal error".into();
        }
        _ => {}
    }
    error.to_string()
}
