//! Tests of the server through its public API, each on both database engines.
//!
//! `tests/run` sets up what they need. They are one binary, so that they are linked once.

mod api;
mod architecture;
mod consistency;
mod documents;
mod language;
mod source_tree;
mod transport;
