//! Authentication: verifies the tokens of the host application. Only this layer uses jsonwebtoken.

pub mod authenticator;
pub mod claims;
pub mod jwks;
pub mod keys;
pub mod settings;
