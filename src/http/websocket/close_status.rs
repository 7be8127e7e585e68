//! The close codes of the server, and the contents of a close frame.

use std::borrow::Cow;

/// The longest reason that a close frame can hold (RFC 6455, section 5.5).
const MAX_REASON_BYTES: usize = 123;

/// A close code of RFC 6455, of its registry, or of graphql-transport-ws (4400 and above).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    InvalidPayload = 1007,
    MessageTooBig = 1009,
    /// Clients reconnect after this code.
    ServiceRestart = 1012,
    /// Clients reconnect after this code.
    TryAgainLater = 1013,
    BadRequest = 4400,
    Unauthorized = 4401,
    /// Clients of graphql-ws reconnect with a new token after this code, but not after [`Unauthorized`].
    ///
    /// [`Unauthorized`]: CloseCode::Unauthorized
    Forbidden = 4403,
    SubprotocolNotAcceptable = 4406,
    InitialisationTimeout = 4408,
    SubscriberAlreadyExists = 4409,
    /// Another server has the user's organisation; the reason is `MOVED` and its address.
    Moved = 4421,
    TooManyInitialisations = 4429,
    InternalServerError = 4500,
}

/// The code and the reason of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseStatus {
    pub code: CloseCode,
    pub reason: Cow<'static, str>,
}

impl CloseCode {
    /// Returns the number on the wire.
    pub fn as_u16(self) -> u16 {
        self as u16
    }
}

impl CloseStatus {
    pub const INITIALISATION_TIMEOUT: Self =
        Self::new(CloseCode::InitialisationTimeout, "Connection initialisation timeout");
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(CloseCode::InternalServerError, "Internal server error");
    pub const INVALID_UTF8: Self = Self::new(CloseCode::InvalidPayload, "text must be UTF-8");
    pub const MESSAGE_TOO_BIG: Self = Self::new(CloseCode::MessageTooBig, "Message too big");
    pub const SERVICE_RESTART: Self = Self::new(CloseCode::ServiceRestart, "Service restart");
    pub const SUBPROTOCOL_NOT_ACCEPTABLE: Self =
        Self::new(CloseCode::SubprotocolNotAcceptable, "Subprotocol not acceptable");
    pub const TOKEN_EXPIRED: Self = Self::new(CloseCode::Forbidden, "The token has expired");
    pub const TOKEN_REVOKED: Self = Self::new(CloseCode::Forbidden, "The token was revoked");
    pub const TOO_MANY_INITIALISATIONS: Self =
        Self::new(CloseCode::TooManyInitialisations, "Too many initialisation requests");
    pub const TRY_AGAIN_LATER: Self = Self::new(CloseCode::TryAgainLater, "Try again later");
    pub const UNAUTHORIZED: Self = Self::new(CloseCode::Unauthorized, "Unauthorized");

    const fn new(code: CloseCode, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Creates a status whose reason is cut to the length that a frame can hold.
    pub fn with_reason(code: CloseCode, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        Self { code, reason: reason.into() }
    }

    /// Creates the status for a user whose organisation is at another address.
    ///
    /// An address that is too long for a frame is left out: a part of it would lead elsewhere.
    pub fn moved(url: &str) -> Self {
        let reason = format!("MOVED {url}");
        match reason.len() <= MAX_REASON_BYTES {
            true => Self::with_reason(CloseCode::Moved, reason),
            false => Self::with_reason(CloseCode::Moved, "MOVED"),
        }
    }

    /// Creates the status for a message that breaks the subprotocol.
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::with_reason(CloseCode::BadRequest, reason)
    }
}
