//! Limits on the number of rows in one statement.

use diesel::backend::Backend;
use diesel::query_builder::AstPass;

/// The maximum number of rows or keys in one statement whose number has no limit of its own.
///
/// SQLite binds at most 32,766 values in one statement.
pub const MAX_ROWS: usize = 2_000;

/// The largest number of rows for which a statement stays prepared.
///
/// Most statements have no more rows, and each number of rows is a statement of its own. Keeping larger ones would
/// fill each connection's memory with statements that hardly ever run again.
const MAX_CACHED_ROWS: usize = 4;

/// Excludes a statement from the cache of prepared statements if it has too many rows.
pub fn disable_cache_above<DB: Backend>(out: &mut AstPass<'_, '_, DB>, rows: usize) {
    if rows > MAX_CACHED_ROWS {
        out.unsafe_to_cache_prepared();
    }
}
