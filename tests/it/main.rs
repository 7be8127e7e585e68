//! The stories of the server, told through its public API, each on both engines.
//!
//! `tests/run` sets up what they need.

mod support;

mod chats;
mod members;
mod messages;
mod concurrency;
mod crash;
mod feeds;
mod layering;
mod model;
mod schema;
mod statements;
mod strangers;
