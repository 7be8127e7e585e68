//! Sending messages: [`queue`] distributes the sends of all users over its [lanes](lane), and [`batch`] commits many of
//! them at once.
//!
//! [`state`] holds the rows from which a batch is decided.

pub mod batch;
pub mod held_chats;
pub mod lane;
pub mod queue;
pub mod queued_send;
pub mod state;
pub mod thread_writes;
pub mod worker;
