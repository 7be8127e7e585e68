//! The execution of admitted requests.
//!
//! [`executor`] runs an operation on behalf of a [`requester`]. The lookups of its resolvers run in
//! [`load_waves`], so that each level of a query costs one statement per kind of key. [`errors`] decides which
//! part of an error a client may read, and [`response`] serialises the result. [`budgets`] bound what one execution
//! reads and returns.

pub mod budgets;
pub mod errors;
pub mod executor;
pub mod load_waves;
pub mod requester;
pub mod response;
