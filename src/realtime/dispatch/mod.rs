//! Publish and subscribe within this node: from the events of commits to the queues and sockets of subscribers.
//!
//! The files build on each other in this order: [`render_cache`], [`shared_event`], [`ports`] (where the path of an
//! event is drawn), `fast_path`, [`queue`], `shard`, `topic`, [`hub`], [`subscriber`].

pub mod hub;
pub mod ports;
pub mod queue;
pub mod render_cache;
pub mod shared_event;
pub mod subscriber;

mod fast_path;
mod shard;
mod topic;

#[cfg(test)]
mod tests;
