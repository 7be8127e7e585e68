//!

pub mod batch;
pub mod queue;
