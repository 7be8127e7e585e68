//! Servers, databases, keys and clients for tests and the load generator.
//!
//! Functions panic on failure, because a test or a measurement cannot continue after one. Synchronous functions that
//! assert have `#[track_caller]`, so that the panic names the line of the test.

mod acceptor;
mod actions;
mod app;
pub mod calls;
pub mod citus;
mod client;
pub mod database;
mod database_dump;
mod feed;
mod held_lock;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod pgbouncer;
pub mod postgres;
pub mod presence;
pub mod process;
pub mod redis;
mod redis_relay;
pub mod schema;
pub mod statement_log;
mod tcp_relay;
mod typing;
mod wait;
mod websocket;

use std::time::Duration;

pub use tokio_tungstenite::tungstenite;

pub use actions::pluck;
pub use app::{TestApp, config, with_app};
pub use client::{Reply, User, http_client, provide_tls};
pub use database::{Database, Engine, postgres_is_available};
pub use database_dump::DatabaseDump;
pub use feed::{Feed, position};
pub use held_lock::{HeldLock, LOCK_MIGRATIONS};
pub use process::ServerProcess;
pub use redis::RedisServer;
pub use redis_relay::{Disturbance, RedisRelay};
pub use tcp_relay::TcpRelay;
pub use testkit_macros::{engine_test, postgres_test};
pub use wait::wait_until;
pub use websocket::{Socket, connect_with_small_buffer};

/// The secret that signs the tokens of tests.
pub const SECRET: &str = "a secret for tests, of more than 32 bytes";

/// The time limit of a single step, generous enough for a slow machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);
