//! The only place where an error becomes the text and the code that a client receives.

use async_graphql::{ErrorExtensionValues, ServerError, Value};

use crate::error::Error;
use crate::graphql::admission::cost::Cost;

/// Gives each error of a response its code, and removes the parts that are for the log only.
pub fn finalize_errors(errors: &mut [ServerError], request_id: &str) {
    for error in errors {
        let extensions = error.extensions.get_or_insert_default();
        match error.source.as_ref().and_then(|source| source.downcast_ref::<Error>()) {
            Some(source) => {
                error.message = log_and_redact(source, extensions, request_id);
            }
            // async-graphql's own errors are faults of the document or of its variables.
            None if extensions.get("code").is_none() => extensions.set("code", "BAD_USER_INPUT"),
            None => {}
        }
        error.source = None;
    }
}

/// Converts an error that occurs before any field is resolved.
pub fn request_error(error: &Error, request_id: &str) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    let message = log_and_redact(error, &mut extensions, request_id);
    let mut error = ServerError::new(message, None);
    error.extensions = Some(extensions);
    error
}

/// Creates the error of a request that breaks a rule of its document or its variables.
pub fn bad_request(message: String) -> ServerError {
    request_error(&Error::BadRequest(message), "")
}

/// Creates the error of an operation whose cost is beyond the limit.
pub fn too_complex(cost: Cost) -> ServerError {
    let Cost { requested, limit } = cost;
    let mut error =
        bad_request(format!("the operation is too complex: its cost is {requested}, and at most {limit} is allowed"));
    error.extensions.get_or_insert_default().set("cost", Value::from(cost));
    error
}

/// Returns whether an error means that the server is temporarily unable to serve the request.
pub fn is_unavailable(error: &ServerError) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    code == Some(&"UNAVAILABLE".into())
}

/// Fills the extensions of an error, logs an internal cause, and returns the message for the client.
fn log_and_redact(error: &Error, extensions: &mut ErrorExtensionValues, request_id: &str) -> String {
    extensions.set("code", error.code());
    match error {
        Error::BadUserInput { field, .. } => extensions.set("field", *field),
        Error::MessageDeleted => extensions.set("reason", "DELETED"),
        Error::UnknownUsers { field, ids } => {
            extensions.set("field", *field);
            extensions.set("ids", ids.clone());
        }
        Error::CallConflict { reason, end_reason, .. } => {
            extensions.set("reason", *reason);
            if let Some(end_reason) = end_reason {
                extensions.set("endReason", end_reason.to_uppercase());
            }
        }
        Error::Moved { url } => extensions.set("url", url.as_str()),
        Error::OverLimit { limit, .. } => extensions.set("limit", *limit as u64),
        Error::RateLimited { retry_after, .. }
        | Error::Unavailable { retry_after, .. }
        | Error::TimedOut { retry_after, .. } => {
            // Rounded up, so that the same request is allowed after this time.
            let millis = retry_after.as_micros().div_ceil(1_000);
            extensions.set("retryAfterMs", u64::try_from(millis).unwrap_or(u64::MAX));
        }
        Error::Internal(cause) => {
            tracing::error!(%cause, request_id, "a request failed with an internal error");
            extensions.set("requestId", request_id);
            return "internal error".into();
        }
        _ => {}
    }
    error.to_string()
}
