//! Statistics of the calls of an organisation.

use diesel::dsl::{count, count_star, sql};
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double};

use crate::domain::calls::{CallEndReason, CallStatistics, TimeRange};
use crate::domain::ids::OrganizationId;
use crate::error::Result;
use crate::storage::column_types::{TextValue, TimestampValue};
use crate::storage::connection::Conn;
use crate::storage::schema::calls;
use crate::storage::sql::union_all::{load_union, union_all};

/// Returns statistics of the calls of an organisation that started in each of several ranges of time.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn by_range(
    conn: &mut Conn,
    organization: &OrganizationId,
    ranges: &[TimeRange],
) -> Result<Vec<CallStatistics>> {
    let parts = ranges.iter().zip(0_i64..).map(|((from, until), number)| {
        calls::table
            .filter(calls::bucket.eq(organization.bucket().number()))
            .filter(calls::organization_id.eq(organization.as_str()))
            .filter(calls::started_at.ge(TimestampValue(*from)))
            .filter(calls::started_at.lt(TimestampValue(*until)))
            .filter(calls::end_reason.is_not_null())
            .group_by(calls::end_reason)
            .select((
                number.into_sql::<BigInt>(),
                (calls::end_reason.assume_not_null(), count_star(), count(calls::answered_at), talk_seconds()),
            ))
    });
    let rows_by_range: Vec<Vec<EndReasonRow>> = load_union(conn, ranges.len(), union_all(parts)).await?;
    Ok(rows_by_range.into_iter().map(sum_statistics).collect())
}

/// An end reason, its number of calls, its number of answered calls, and their talk seconds.
type EndReasonRow = (TextValue<CallEndReason>, i64, i64, f64);

fn sum_statistics(rows: Vec<EndReasonRow>) -> CallStatistics {
    let mut totals = CallStatistics::default();
    for (reason, calls, answered, talk_seconds) in rows {
        totals.calls += calls;
        totals.answered += answered;
        totals.talk_seconds += talk_seconds;
        match reason.0 {
            CallEndReason::Missed | CallEndReason::Failed | CallEndReason::Cancelled => totals.missed += calls,
            CallEndReason::Declined | CallEndReason::Busy => totals.declined += calls,
            CallEndReason::Completed | CallEndReason::ChatGone => {}
        }
    }
    totals
}

/// Returns the SQL for a sum of talk times in seconds.
///
/// The cast is needed because the engines give a sum of integers different types.
fn talk_seconds() -> SqlLiteral<Double> {
    sql("CAST(sum(calls.talked) AS DOUBLE PRECISION) / 1000")
}
