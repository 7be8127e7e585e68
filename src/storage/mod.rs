//! The database, SQLite or PostgreSQL by the scheme of `DATABASE_URL`: the only layer that uses diesel.
//!
//! Functions in this layer take a [`Conn`](connection::Conn), open no transaction, read no clock and publish
//! nothing; the services do that. Their errors are those that [`errors`] makes of a failed statement.

pub mod blocklist;
pub mod call_signaling;
pub mod calls;
pub mod chat_removals;
pub mod chats;
pub mod column_types;
pub mod connection;
pub mod erased_sql;
pub mod errors;
pub mod members;
pub mod messages;
pub mod migrations;
pub mod notifications;
pub mod polls;
pub mod pool;
pub mod postgres_tls;
pub mod reactions;
pub mod reports;
pub mod schema;
pub mod search;
pub mod search_index;
pub mod settings;
pub mod sql;
pub mod sqlite_blocking;
pub mod users;
