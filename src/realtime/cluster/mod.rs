//!

pub mod gap_repair;
pub mod handler;
pub mod publisher;
pub mod redis;
