//! Everything that happens to a request before it is executed.
//!
//! [`pipeline`] runs the checks in this order; a request that fails one of them is never executed:
//!
//! 1. [`persisted_queries`] finds the document of a request that names it by its hash.
//! 2. [`document_limits`] bounds the document before it is parsed, with the help of [`lexer`] and [`string_literals`].
//!    If it is malformed, [`syntax`] says how.
//! 3. [`schema_independence`] restricts the documents of a client that must not see the schema.
//! 4. [`operation`] selects the operation and checks its depth, its introspection and its root field.
//! 5. [`variables`] coerces the variables to the types that the operation defines.
//! 6. [`cost`] bounds the fields that the operation resolves.
//! 7. [`omitted_variables`] prepares the document for variables that the request leaves out, and [`other_operations`]
//!    for those of operations that do not run.
//!
//! [`request`] has the types of a request before and after admission, and [`operation_kind`] the kind of its operation.

pub mod cost;
pub mod document_limits;
pub mod lexer;
pub mod omitted_variables;
pub mod operation;
pub mod operation_kind;
pub mod other_operations;
pub mod persisted_queries;
pub mod pipeline;
pub mod request;
pub mod schema_independence;
pub mod string_literals;
pub mod syntax;
pub mod variables;
