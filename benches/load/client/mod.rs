//! The server's clients: over HTTP, over a WebSocket, and a crowd of them.

pub mod api;
pub mod audience;
pub mod community;
pub mod parlor;
pub mod past;
pub mod sender;
pub mod socket;
pub mod turns;
