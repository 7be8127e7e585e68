//! The database, SQLite or PostgreSQL by the scheme of `DATABASE_URL`: the only layer that uses diesel.
//!
//! Functions in this layer take a [`Conn`](connection::Conn), open no transaction, read no clock and publish
//! nothing; the services do that. Their errors are those that [`errors`] makes of a failed statement.

pub mod bans;
pub mod blocklist;
pub mod call_schedule;
pub mod call_signaling;
pub mod call_statistics;
pub mod calls;
pub mod chat_removals;
pub mod chats;
pub mod checkout;
pub mod cluster_state;
pub mod column_types;
pub mod condition_log;
pub mod connection;
pub mod connection_pool;
pub mod connector;
pub mod database_epoch;
pub mod engine;
pub mod erased_sql;
pub mod errors;
pub mod lease;
pub mod members;
pub mod messages;
pub mod migrations;
pub mod notifications;
pub mod polls;
pub mod pool;
pub mod pooler;
pub mod postgres_endpoint;
pub mod postgres_session;
pub mod postgres_tls;
pub mod postgres_transport;
pub mod reactions;
pub mod read_budget;
pub mod read_permits;
pub mod read_queue;
pub mod readiness;
pub mod receipts;
pub mod reports;
pub mod revisions;
pub mod schema;
pub mod search;
pub mod search_index;
pub mod search_names;
pub mod session;
pub mod settings;
pub mod shared_snapshot;
pub mod sql;
pub mod sqlite_blocking;
pub mod sqlite_file;
pub mod sqlstate;
pub mod threads;
pub mod unread;
pub mod users;
