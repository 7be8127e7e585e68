//! The server's clients: over HTTP, over a WebSocket, and a crowd of them.

pub mod api;
pub mod audience;
pub mod community;
pub mod follower;
pub mod parlor;
pub mod past;
pub mod publisher;
pub mod rig;
pub mod sender;
pub mod socket;
pub mod turns;
