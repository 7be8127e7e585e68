//! Presence of users on all nodes of the server.
//!
//! [`tracker`] is the entry point: connections, manual statuses and messages of other nodes change the [`registry`] of
//! users, each a [`user_state`]. Changes that others may see become a [`snapshot`], which [`subscribers`] receive.
//!
//! Nodes send each change to each other, and all their users when a node joins or has missed something. Changes are
//! numbered, so that an update that arrives late replaces no newer one. [`connected_users`] compares nodes regularly.

pub mod connected_users;
pub mod registry;
pub mod snapshot;
pub mod subscribers;
pub mod tracker;
pub mod user_state;
