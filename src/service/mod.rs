//! The use cases: each authorises, runs one transaction, and publishes its outcome after the commit.
//!
//! Nothing reaches past this layer to write. A use case is a function of the [`context::AppContext`], the viewer and
//! typed arguments. Reads that a GraphQL resolver or a loader needs are here too, although some of them only forward
//! to storage: the layers above never call storage themselves.
//!
//! From the bottom up:
//!
//! - [`commit_outcome`], [`rate_limits`], [`known_users`], [`message_html`], [`token_revocation`] and
//!   [`cluster_events`] are state and data that use cases share.
//! - [`send`] commits messages in batches.
//! - [`context`] holds what a use case needs and publishes the outcome of a commit.
//! - [`chat_transaction`] locks a chat, numbers its versions and collects the changes.
//! - All other modules are use cases, one module per noun.
//!
//! # Errors
//!
//! Every function that uses the database can fail with `UNAVAILABLE` if no connection is free, and with `INTERNAL` if a
//! statement fails. Every function that changes something can fail with `RATE_LIMITED` if the viewer changes too much.
//! The sections on errors name the other failures.

pub mod bans;
pub mod blocklist;
pub mod calls;
pub mod chat_transaction;
pub mod chats;
pub mod cluster_events;
pub mod commit_outcome;
pub mod context;
pub mod feeds;
pub mod known_users;
pub mod members;
pub mod membership_notices;
pub mod message_edits;
pub mod message_html;
pub mod messages;
pub mod notifications;
pub mod organization_moves;
pub mod polls;
pub mod presence;
pub mod quotas;
pub mod rate_limits;
pub mod reactions;
pub mod receipts;
pub mod replica;
pub mod reports;
pub mod resource_chats;
pub mod revisions;
pub mod search;
pub mod send;
pub mod sessions;
pub mod settings;
pub mod threads;
pub mod token_revocation;
pub mod typing;
pub mod unread;
pub mod users;
