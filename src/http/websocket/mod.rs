//!

pub mod connection;
pub mod message_encoder;
pub mod operations;
pub mod protocol;
pub mod upgrade;
