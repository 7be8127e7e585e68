//!

pub mod errors;
pub mod load_waves;
