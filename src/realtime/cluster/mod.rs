//! Communication between the nodes of one server, through Redis pub/sub.
//!
//! ```text
//! EventPublisher ── outbox ──► RedisTransport ══ Redis ══► RedisTransport ──► ClusterMessageHandler ──► Hub,
//!   (this node)                                             (other nodes)                              trackers, …
//! ```
//!
//! A node receives the messages about chats and users for which it has listeners ([`channels`], [`routing`],
//! [`interest`]). Messages between nodes are hints, and may be lost, duplicated or late. [`gap_repair`] and [`call_repair`] find in
//! the database what a lost message would have announced. Each message is authenticated by a key that the nodes share
//! through their database ([`shared_state`]), and numbered, so that a node notices what it missed and drops what it
//! had ([`sequence`]).

pub mod authentication;
pub mod call_repair;
pub mod channels;
pub mod codec;
pub mod exchange;
pub mod gap_repair;
pub mod handler;
pub mod interest;
pub mod message;
pub mod outbox;
pub mod presence_announcer;
pub mod publisher;
pub mod received;
pub mod redis;
pub mod routing;
pub mod sent;
pub mod sequence;
pub mod shared_state;
