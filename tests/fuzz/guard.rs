//! Fuzzes the guard and async-graphql's parser together: whatever the guard admits, the parser reads
//! without a panic, an overflow of the stack or a long wait.

#![no_main]

use async_graphql::parser::parse_query;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/graphql"]
mod graphql {
    pub mod guard;
}

use graphql::guard::{Limits, admit};

fuzz_target!(|document: &str| {
    if let Ok(admitted) = admit(document, &Limits::default()) {
        let _ = parse_query(admitted);
    }
});
