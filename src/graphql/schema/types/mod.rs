//! The object types, enums and filters of the schema, which wrap the values that services return.

pub mod ban;
pub mod blocklist;
pub mod call;
pub mod call_signaling;
pub mod chat;
pub mod content;
pub mod feed;
pub mod member;
pub mod message;
pub mod node;
pub mod notification;
pub mod objects;
pub mod poll;
pub mod presence;
pub mod reaction;
pub mod report;
pub mod search;
pub mod thread;
pub mod typing;
pub mod user;
pub mod viewer;
