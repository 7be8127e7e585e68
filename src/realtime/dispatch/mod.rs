//!

pub mod fast_path;
pub mod hub;
pub mod queue;
pub mod render_cache;
pub mod shard;
pub mod subscriber;
pub mod topic;
