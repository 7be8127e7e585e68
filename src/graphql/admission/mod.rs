//!

pub mod document_limits;
pub mod lexer;
pub mod omitted_variables;
pub mod operation;
pub mod persisted_queries;
pub mod variables;
