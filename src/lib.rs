//! Parlor, a chat server beside an existing application.
//!
//! The crate is a stack of layers. A module uses the modules above it in this list, never those below, and no file
//! depends on itself by way of others. A test over the parsed source checks both.
//!
//! | module | content |
//! |---|---|
//! | [`error`], [`metrics`], [`crypto_provider`] | the error type with its codes, the metrics, the provider of TLS |
//! | [`rate_limited_log`] | the limit of log lines about frequent conditions |
//! | [`tasks`] | how background tasks start and end |
//! | [`domain`] | pure types and rules: no I/O, no async, no SQL, no GraphQL |
//! | [`storage`] | the database; the only layer that uses diesel |
//! | [`auth`] | the verification of tokens; the only layer that uses jsonwebtoken |
//! | [`access`] | the chats and messages that a viewer may see |
//! | [`realtime`] | everything that a node keeps in memory and delivers: subscribers, feeds, presence, cluster |
//! | [`service`] | the use cases: authorise, run a transaction, publish after the commit |
//! | [`graphql`] | requests, schema and subscriptions; the only layer that uses async-graphql |
//! | [`http`] | routes and transports; the only layer that uses axum |
//! | [`config`] | the settings, read from the environment |
//! | [`telemetry`] | the log and the traces |
//! | [`signals`] | the signals that a supervisor sends |
//! | [`bootstrap`] | the composition root: builds all components and starts the background tasks |
//! | [`cli`] | the command line |
//!
//! `docs/ARCHITECTURE.md` describes the layers and the path of a request and of an event through them.

#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod access;
pub mod auth;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod crypto_provider;
pub mod domain;
pub mod error;
pub mod graphql;
pub mod http;
pub mod metrics;
pub mod rate_limited_log;
pub mod realtime;
pub mod service;
pub mod signals;
pub mod storage;
pub mod tasks;
pub mod telemetry;
