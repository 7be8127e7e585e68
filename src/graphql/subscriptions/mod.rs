//!

pub mod shared_operation;
pub mod source;
pub mod stream;
