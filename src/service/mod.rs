//! The use cases: authorise, transact, and publish after the commit. Nothing reaches past them to
//! write.

pub mod blocklist;
pub mod calls;
pub mod chat_transaction;
pub mod chats;
pub mod cluster_events;
pub mod context;
pub mod feeds;
pub mod members;
pub mod messages;
pub mod notifications;
pub mod polls;
pub mod presence;
pub mod rate_limits;
pub mod reactions;
pub mod receipts;
pub mod reports;
pub mod search;
pub mod send;
pub mod sessions;
pub mod typing;
pub mod users;
