//! SQL that diesel cannot write for both engines: one small query node per file.
//!
//! Each node implements `QueryFragment` for PostgreSQL and SQLite, so that the queries that use it stay
//! written once.

pub mod assembled;
pub mod columns;
pub mod conditions;
pub mod database_time;
pub mod debug_sql;
pub mod for_update;
pub mod full_text;
pub mod in_bucket;
pub mod in_list;
pub mod insert_many;
pub mod keys;
pub mod order;
pub mod row_after;
pub mod statement_cache;
pub mod union_all;
pub mod values_statement;
