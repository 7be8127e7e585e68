//! Tokens of the host application: the only layer that knows jsonwebtoken.

pub mod jwks;
pub mod keys;
pub mod tokens;

pub use tokens::{Authenticator, Grant};
