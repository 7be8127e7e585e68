//! Everything that a node keeps in memory and pushes to its clients.
//!
//! The path of an event through this folder:
//!
//! 1. A use case commits and publishes the change by [`cluster::publisher`], on this node and to the others.
//! 2. [`dispatch::hub`] finds the subscribers of this node. The topic of a chat puts events in order and has them
//!    rendered once for all subscribers with the same operation.
//! 3. A subscriber that is caught up is written to at once (the fast path). For another one the event waits in its
//!    queue.
//! 4. A feed ([`feeds`]) takes events from the queue, and reads the database when events are missing.
//! 5. [`cluster::gap_repair`] reads what no event brought, once for all subscribers of a chat.
//!
//! Trackers keep short-lived state: [`presence`], [`typing`], [`call_presence`] and [`sessions`].

pub mod call_presence;
pub mod cluster;
pub mod dispatch;
pub mod feeds;
pub mod presence;
pub mod receipt_coalescer;
pub mod sessions;
pub mod settings;
pub mod typing;
