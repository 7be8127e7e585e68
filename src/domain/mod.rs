//! Pure types and rules: no I/O, no async, no SQL, no GraphQL.

pub mod changes;
pub mod chats;
pub mod clock;
pub mod cursors;
pub mod ids;
pub mod members;
pub mod messages;
pub mod pages;
pub mod reactions;
pub mod rights;
pub mod text;
pub mod users;
