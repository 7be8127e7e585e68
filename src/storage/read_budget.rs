//! The bytes that one operation may read from the database.
//!
//! The budget belongs to the task that executes the operation, like a tracing span, so the functions of this layer need
//! no parameter for it. Statements whose rows can be large return at most [`MAX_LARGE_ROWS`] rows each, and their bytes
//! are counted before the next statement runs: an operation never holds much more than its budget. Work outside an
//! operation, such as that of feeds, has bounds of its own and no budget.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::futures::TaskLocalFuture;
use tokio::task_local;

use crate::domain::byte_budget::ByteBudget;
use crate::error::{Error, Result};

/// The maximum number of rows with long texts that one statement returns.
///
/// A list of ordinary size needs one statement. With the longest messages by default, a statement returns 12 MiB.
pub const MAX_LARGE_ROWS: usize = 400;

task_local! {
    static READ_BUDGET: Arc<ByteBudget>;
}

/// A row with texts that users choose.
pub trait LargeRow {
    /// Returns the number of bytes in the texts of the row.
    fn text_bytes(&self) -> usize;
}

impl LargeRow for Arc<str> {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

/// Runs an operation whose reads are charged to a budget.
pub fn with_read_budget<F: Future>(budget: Arc<ByteBudget>, operation: F) -> TaskLocalFuture<Arc<ByteBudget>, F> {
    READ_BUDGET.scope(budget, operation)
}

/// Charges rows that were read to the budget of the current operation, if there is one.
///
/// # Errors
///
/// Returns [`Error::OverLimit`] if the operation has read more than its budget.
pub fn charge_rows<R: LargeRow>(rows: &[R]) -> Result<()> {
    let charge = |budget: &Arc<ByteBudget>| {
        let bytes = rows.iter().map(LargeRow::text_bytes).sum();
        if budget.charge(bytes) { Ok(()) } else { Err(budget.limit()) }
    };
    READ_BUDGET.try_with(charge).unwrap_or(Ok(())).map_err(over_read_budget)
}

/// Returns the error of an operation that reads more than its budget.
pub fn over_read_budget(limit: usize) -> Error {
    let message = format!("the operation reads more than {limit} bytes: request fewer or smaller pages");
    Error::OverLimit { message, limit }
}

/// Returns the number of bytes of the texts in a JSON value.
pub fn json_text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(json_text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + json_text_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_are_charged_to_the_budget_of_their_operation() {
        let charge =
            |texts: &[&str]| charge_rows(&texts.iter().map(|text| Arc::from(*text)).collect::<Vec<Arc<str>>>());
        assert!(charge(&["outside every operation"]).is_ok());
        let budget = Arc::new(ByteBudget::new(8));
        with_read_budget(budget.clone(), async {
            assert!(charge(&["four", "row."]).is_ok());
            assert!(matches!(charge(&["5"]), Err(Error::OverLimit { limit: 8, .. })));
        })
        .await;
        assert!(budget.is_exceeded());
    }

    #[test]
    fn json_text_bytes_counts_names_and_texts_at_every_depth() {
        let value = serde_json::json!({ "ab": ["cde", { "f": "g" }], "h": 7, "i": null });
        assert_eq!(json_text_bytes(&value), 9);
    }
}
