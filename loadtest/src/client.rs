//! The server's clients: over HTTP, over a WebSocket, and a crowd of them.

pub mod api;
pub mod harness;
pub mod history_seed;
pub mod interleaved;
pub mod parlor;
pub mod population;
pub mod publisher;
pub mod resuming_subscriber;
pub mod sender;
pub mod socket;
pub mod subscriber_pool;
