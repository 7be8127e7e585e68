//! The stories of the server, told through its public API, each on both engines.
//!
//! `tests/run` sets up what they need.

mod support;

mod chats;
mod concurrency;
mod crash;
mod engines;
mod feeds;
mod layering;
mod members;
mod messages;
mod model;
mod schema;
mod statements;
mod strangers;
