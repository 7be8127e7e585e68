//! The one error of the server. Each variant is one stable `extensions.code` of the API.
//!
//! Every layer returns it; only `graphql::errors` turns it into a response, so what a client can
//! read of a failure is decided in one place.

use std::sync::Arc;
use std::time::Duration;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No token, or one that isn't valid (any more).
    #[error("{message}")]
    Unauthenticated {
        message: String,
        /// Coming back may do: with a fresh token of the same person, or when its key is known.
        retryable: bool,
    },
    /// The caller is known and may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// What doesn't exist and what the caller may not see are the same.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// An argument that no retry will mend; `field` is its path within the input.
    #[error("{field}: {message}")]
    BadUserInput { field: &'static str, message: String },
    /// A request that can't be executed as it stands: its document, its variables or its envelope.
    #[error("{0}")]
    BadRequest(String),
    /// The same nonce was used before, for something else.
    #[error("{0}")]
    Conflict(String),
    /// Too early; the same request is legal after the time given.
    #[error("{message}")]
    RateLimited { message: String, retry_after: Duration },
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The server can't do it now; nothing was done, and a retry is right.
    #[error("{message}")]
    Unavailable { message: &'static str, retry_after: Duration },
    /// A fault of the server: what was asked may be done or not. The cause is for the log, never for
    /// the client.
    #[error("{0}")]
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub fn bad_input(field: &'static str, message: impl Into<String>) -> Self {
        Self::BadUserInput { field, message: message.into() }
    }

    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::Unauthenticated { message: message.into(), retryable: false }
    }

    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(cause.into()))
    }

    pub fn unavailable(message: &'static str) -> Self {
        Self::Unavailable { message, retry_after: Duration::from_secs(1) }
    }

    /// The value of `extensions.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::Forbidden(_) => "FORBIDDEN",
            Self::NotFound(_) => "NOT_FOUND",
            Self::BadUserInput { .. } | Self::BadRequest(_) => "BAD_USER_INPUT",
            Self::Conflict(_) => "CONFLICT",
            Self::RateLimited { .. } => "RATE_LIMITED",
            Self::PayloadTooLarge(_) => "PAYLOAD_TOO_LARGE",
            Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }
}
