//! The server's error type. Each variant has one stable `extensions.code` in the API.
//!
//! Every layer returns this type. Only `graphql::execution::errors` converts it to a response, so one file decides
//! which parts of an error a client can read.

use std::sync::Arc;
use std::time::Duration;

/// The maximum number of ids that an error lists.
const MAX_LISTED_IDS: usize = 100;
/// The maximum length of an id that an error lists, in characters.
const MAX_LISTED_ID_CHARS: usize = 255;

/// A result whose error is [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request has no valid token.
    #[error("{message}")]
    Unauthenticated {
        message: String,
        /// Whether to connect again, with a new token of the user or once the token's key is known.
        retryable: bool,
    },
    /// The viewer is known but lacks the right.
    #[error("{0}")]
    Forbidden(String),
    /// The message that the request is about was deleted.
    #[error("the message was deleted")]
    MessageDeleted,
    /// The object does not exist, or the viewer can't see it.
    ///
    /// Clients can't tell the two cases apart.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The organisation does not know users that an argument names.
    #[error("{field} must only have users who are known to the organisation")]
    UnknownUsers {
        /// The argument's path within the input.
        field: &'static str,
        /// The ids that belong to no user.
        ids: Vec<String>,
    },
    /// An argument breaks a rule, and repeating the request won't help.
    #[error("{field} {message}")]
    BadUserInput {
        /// The argument's path within the input.
        field: &'static str,
        /// The rule, as a predicate of the field: "must have 1 to 200 characters".
        message: String,
    },
    /// The document, the variables or the envelope of the request are invalid.
    #[error("{0}")]
    BadRequest(String),
    /// The operation needs more of a resource than one operation may use.
    #[error("{message}")]
    OverLimit { message: String, limit: usize },
    /// The request contradicts the current state, for example a nonce that was used for other content.
    #[error("{0}")]
    Conflict(String),
    /// The state of a call does not allow the request.
    #[error("{message}")]
    CallConflict {
        message: String,
        /// The value of `extensions.reason`.
        reason: &'static str,
        /// The reason of the call's end, in the form in which it is stored, if the end is the reason.
        end_reason: Option<&'static str>,
    },
    /// The request came too early.
    ///
    /// The same request is allowed after `retry_after`.
    #[error("{message}")]
    RateLimited { message: String, retry_after: Duration },
    /// The request, or a part of it, is too large.
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The server can't process the request now.
    ///
    /// It has changed nothing, and the client should retry.
    #[error("{message}")]
    Unavailable { message: &'static str, retry_after: Duration },
    /// Another server has the organisation.
    #[error("the organization has moved to {url}")]
    Moved {
        /// The address of that server.
        url: String,
    },
    /// The operation was not finished in time.
    ///
    /// A mutation may have been carried out.
    #[error("{message}")]
    TimedOut { message: String, retry_after: Duration },
    /// A fault of the server.
    ///
    /// The request may have been carried out. The cause is logged and never sent to a client.
    #[error("{0}")]
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Returns the error for an argument that breaks a rule.
    ///
    /// The message is a predicate of the field.
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadUserInput { field, message: message.into() }
    }

    /// Returns the error for ids that belong to no user.
    ///
    /// It lists the first ids, each cut to the length of the longest valid id.
    pub fn unknown_users<'a>(field: &'static str, ids: impl IntoIterator<Item = &'a str>) -> Self {
        let ids = ids.into_iter().take(MAX_LISTED_IDS).map(|id| id.chars().take(MAX_LISTED_ID_CHARS).collect());
        Self::UnknownUsers { field, ids: ids.collect() }
    }

    /// Returns the error for a token that will not become valid.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::Unauthenticated { message: message.into(), retryable: false }
    }

    /// Returns the error for a fault of the server.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(cause.into()))
    }

    /// Returns the error for a request to retry after a second.
    pub fn unavailable(message: &'static str) -> Self {
        Self::Unavailable { message, retry_after: Duration::from_secs(1) }
    }

    /// Returns true if the server cannot process the request now.
    ///
    /// The log has the condition of the database that is the cause, once for all requests.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns the value of `extensions.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::Forbidden(_) | Self::MessageDeleted => "FORBIDDEN",
            Self::NotFound(_) | Self::UnknownUsers { .. } => "NOT_FOUND",
            Self::BadUserInput { .. } | Self::BadRequest(_) | Self::OverLimit { .. } => "BAD_USER_INPUT",
            Self::Conflict(_) | Self::CallConflict { .. } => "CONFLICT",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::PayloadTooLarge(_) => "PAYLOAD_TOO_LARGE",
            Self::Moved { .. } => "MOVED",
            Self::Unavailable { .. } | Self::TimedOut { .. } => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

/// Returns the message of an error followed by those of its sources.
///
/// Libraries name the cause, such as a refused connection, in a source only.
pub fn message_with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |message, source| format!("{message}: {source}"))
}
