//! What happens now: the bus, who listens, the feeds that listeners read, who is there and who types.

pub mod call_presence;
pub mod cluster;
pub mod dispatch;
pub mod feeds;
pub mod presence;
pub mod receipt_coalescer;
pub mod sessions;
pub mod typing;
