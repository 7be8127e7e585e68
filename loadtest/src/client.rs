//! Clients of the server under test, over HTTP and WebSockets, and the measurements that they share.

pub mod api;
pub mod harness;
pub mod history_seed;
pub mod interleaved;
pub mod parlor;
pub mod population;
pub mod publisher;
pub mod resuming_subscriber;
pub mod sender;
pub mod sending;
pub mod socket;
pub mod subscriber_pool;
