//! The use cases: authorise, transact, and publish after the commit. Nothing reaches past them to
//! write.

pub mod access;
pub mod chats;
pub mod committer;
pub mod feeds;
pub mod members;
pub mod messages;
pub mod reactions;
pub mod users;
