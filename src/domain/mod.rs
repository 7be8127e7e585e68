//! Types and rules as pure functions: no I/O, no async, no SQL, no GraphQL.

pub mod blocklist;
pub mod call_signaling;
pub mod calls;
pub mod chat_events;
pub mod chats;
pub mod clock;
pub mod cursors;
pub mod ids;
pub mod markdown;
pub mod member_queries;
pub mod members;
pub mod message_queries;
pub mod messages;
pub mod notifications;
pub mod pagination;
pub mod polls;
pub mod presence;
pub mod reactions;
pub mod reports;
pub mod rights;
pub mod search;
pub mod text;
pub mod users;
