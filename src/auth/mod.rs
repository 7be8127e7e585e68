//! Tokens of the host application: the only layer that knows jsonwebtoken.

pub mod authenticator;
pub mod jwks;
pub mod keys;
