//! The use cases: authorise, transact, and publish after the commit. Nothing reaches past them to
//! write.

pub mod access;
pub mod blocklist;
pub mod call_keeper;
pub mod call_signals;
pub mod calls;
pub mod chats;
pub mod committer;
pub mod elsewhere;
pub mod feeds;
mod group;
pub mod ice;
pub mod limits;
pub mod members;
pub mod messages;
pub mod notifications;
pub mod polls;
pub mod presence;
pub mod reactions;
pub mod receipts;
pub mod reports;
pub mod search;
pub mod sessions;
pub mod typing;
pub mod users;
mod writing;

pub use writing::Told;
