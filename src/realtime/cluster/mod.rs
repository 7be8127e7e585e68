//! Communication between the nodes of one server, through Redis pub/sub.
//!
//! ```text
//! EventPublisher ── outbox ──► RedisTransport ══ Redis ══► RedisTransport ──► ClusterMessageHandler ──► Hub,
//!   (this node)                                             (other nodes)                              trackers, …
//! ```
//!
//! Messages between nodes are hints, and may be lost, duplicated or late. [`gap_repair`] finds in the database what a
//! lost message would have announced.

pub mod codec;
pub mod gap_repair;
pub mod handler;
pub mod message;
pub mod outbox;
pub mod publisher;
pub mod redis;
