//! What tests and the load generator share: servers, databases, keys, and clients.
//!
//! Everything here panics when it fails: its only callers are tests and measurements, which end then anyway.

mod actions;
mod app;
pub mod calls;
mod client;
pub mod database;
mod database_dump;
mod feed;
pub mod http;
pub mod keys;
pub mod postgres;
pub mod presence;
pub mod process;
pub mod redis;
pub mod schema;
mod typing;
mod websocket;

use std::time::Duration;

pub use tokio_tungstenite::tungstenite;

pub use actions::pluck;
pub use app::{TestApp, config, with_app};
pub use client::{Reply, User, http_client, provide_tls};
pub use database::{Database, Engine, postgres_is_available};
pub use database_dump::DatabaseDump;
pub use feed::{Feed, position};
pub use process::ServerProcess;
pub use redis::RedisServer;
pub use testkit_macros::{engine_test, postgres_test};
pub use websocket::Socket;

/// The secret that signs the tokens of tests.
pub const SECRET: &str = "a secret for tests, of more than 32 bytes";

/// Longer than any single step takes, on any machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);
