//! Parlor, a chat server beside the application you have.
//!
//! A layer uses those above it in this list, never those below:
//!
//! - [`domain`]: pure types and rules; no I/O, no async, no SQL, no GraphQL
//! - [`storage`]: the only layer that knows diesel; [`auth`]: the only one that knows jsonwebtoken
//! - [`live`]: the bus, who listens, and the feeds that listeners read
//! - [`service`]: the use cases: authorise, transact, publish after the commit
//! - [`graphql`]: the layer that knows async-graphql: parse, one service call, wrap
//! - [`http`]: the only layer that knows axum
//!
//! Beside them stand [`config`], every setting; [`error`], the one error with its codes; [`app`],
//! what a request needs, built once; and [`cli`], the command line.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod access;
pub mod auth;
pub mod cli;
pub mod config;
pub mod crypto_provider;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod http;
pub mod metrics;
pub mod realtime;
pub mod service;
pub mod storage;
pub mod tasks;
pub mod telemetry;
