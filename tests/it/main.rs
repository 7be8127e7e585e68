//! The stories of the server, told through its public API, each on both engines.
//!
//! `tests/run` sets up what they need.

mod support;

mod chats;
