//! Presence of users on all nodes of the server.
//!
//! [`tracker`] is the entry point: connections, manual statuses and messages of other nodes change the [`registry`] of
//! users, each a [`user_state`]. Changes that others may see become a [`snapshot`], which [`subscribers`] receive.

pub mod registry;
pub mod snapshot;
pub mod subscribers;
pub mod tracker;
pub mod user_state;
