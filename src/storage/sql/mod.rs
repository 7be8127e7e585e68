//!

pub mod fragments;
pub mod full_text;
