//! The GraphQL layer: the only one that uses async-graphql.
//!
//! A request passes through the folders in this order:
//!
//! 1. [`admission`] checks the request before anything runs.
//! 2. [`execution`] runs its operation.
//! 3. [`schema`] has the resolvers: each parses its arguments, calls one service function and wraps the result.
//! 4. [`subscriptions`] runs the selections of a subscription on each event.
//!
//! Transports use [`api`], and [`operation_stream`] for an operation that may have several responses.

pub mod admission;
pub mod api;
pub mod execution;
pub mod operation_guards;
pub mod operation_stream;
pub mod schema;
pub mod settings;
pub mod subscriptions;
