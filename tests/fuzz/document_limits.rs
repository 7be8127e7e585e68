//! Fuzzes the document limits together with async-graphql's parser.
//!
//! The parser must read every admitted document without a panic, a stack overflow or a timeout.

#![no_main]

use async_graphql::parser::parse_query;
use libfuzzer_sys::fuzz_target;

#[path = "../../src/graphql"]
mod graphql {
    pub mod admission {
        pub mod document_limits;
        pub mod lexer;
        pub mod string_literals;
        pub mod syntax;
    }
}

use graphql::admission::document_limits::{DocumentLimits, check};

fuzz_target!(|document: &str| {
    if let Ok(admitted) = check(document, &DocumentLimits::default()) {
        let _ = parse_query(admitted);
    }
});
