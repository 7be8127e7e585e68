//!

pub mod registry;
pub mod tracker;
pub mod user_state;
