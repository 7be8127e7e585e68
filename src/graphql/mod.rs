//!

pub mod admission;
pub mod api;
pub mod execution;
pub mod operation_stream;
pub mod schema;
pub mod subscriptions;
