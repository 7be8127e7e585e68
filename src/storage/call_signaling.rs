//! Signals between the devices in a call, which are stored until the call has ended.

use diesel::dsl::max;
use diesel::prelude::*;
use serde_json::Value;

use crate::domain::call_signaling::{Signal, SignalDraft, SignalKind};
use crate::domain::ids::{CallId, Nonce, UserId};
use crate::error::Result;
use crate::storage::column_types::{TextValue, UuidValue, call_key};
use crate::storage::connection::{Conn, RunQueryDsl};
use crate::storage::schema::{call_participants, call_signals, calls};
use crate::storage::sql::columns::columns;
use crate::storage::sql::keys::{OfKey, of_key};

/// The maximum number of signals in a page.
const PAGE_SIZE: i64 = 16;
/// The size of the payloads in a page, which only a single larger signal exceeds.
const PAGE_BYTES: i64 = 512 * 1024;

/// The columns of a signal.
#[derive(Queryable, Selectable)]
#[diesel(table_name = call_signals, check_for_backend(diesel::pg::Pg, diesel::sqlite::Sqlite))]
struct SignalRow {
    version: i64,
    from_id: TextValue<UserId>,
    to_id: TextValue<UserId>,
    kind: TextValue<SignalKind>,
    payload: Value,
}

impl From<SignalRow> for Signal {
    fn from(row: SignalRow) -> Self {
        Self { version: row.version, from: row.from_id.0, to: row.to_id.0, kind: row.kind.0, payload: row.payload }
    }
}

/// Returns the condition that a signal is one of a call.
fn of_call(call: CallId) -> OfKey<call_signals::bucket, call_signals::call_id> {
    of_key((call_signals::bucket, call_signals::call_id), call_key(call))
}

/// Inserts a signal with the next version of its call, and counts its size.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn insert(conn: &mut Conn, call: CallId, version: i64, bytes: usize, draft: &SignalDraft) -> Result<()> {
    let bytes = bytes as i64;
    let fingerprint = draft.nonce.as_ref().map(|_| draft.fingerprint());
    diesel::insert_into(call_signals::table)
        .values((
            call_signals::bucket.eq(call.bucket().number()),
            call_signals::call_id.eq(UuidValue(call.call)),
            call_signals::version.eq(version),
            call_signals::from_id.eq(draft.from.participant.user.as_str()),
            call_signals::to_id.eq(draft.to.participant.user.as_str()),
            call_signals::kind.eq(<&str>::from(draft.kind)),
            call_signals::payload.eq(&draft.payload),
            call_signals::bytes.eq(bytes),
            call_signals::nonce.eq(draft.nonce.as_ref().map(Nonce::as_str)),
            call_signals::fingerprint.eq(fingerprint),
        ))
        .execute(conn)
        .await?;
    diesel::update(calls::table.find(call_key(call)))
        .set((calls::version.eq(version), calls::signal_bytes.eq(calls::signal_bytes + bytes)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns the fingerprint of the signal that a user sent with a nonce after a version, if any.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn fingerprint_of(
    conn: &mut Conn,
    call: CallId,
    from: &UserId,
    nonce: &Nonce,
    after_version: i64,
) -> Result<Option<Vec<u8>>> {
    let found: Vec<Option<Vec<u8>>> = call_signals::table
        .filter(of_call(call))
        .filter(call_signals::from_id.eq(from.as_str()))
        .filter(call_signals::nonce.eq(nonce.as_str()))
        .filter(call_signals::version.gt(after_version))
        .limit(1)
        .select(call_signals::fingerprint)
        .load(conn)
        .await?;
    Ok(found.into_iter().flatten().next())
}

/// The next signals of a recipient.
#[derive(Default)]
pub struct SignalPage {
    pub signals: Vec<Signal>,
    pub has_more: bool,
}

/// Returns the first signals to a user after a version, in their order.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn page_after(conn: &mut Conn, call: CallId, to: &UserId, version: i64) -> Result<SignalPage> {
    let to_user = || of_call(call).and(call_signals::to_id.eq(to.as_str().to_owned()));
    let sizes: Vec<(i64, i64)> = call_signals::table
        .filter(to_user())
        .filter(call_signals::version.gt(version))
        .order(call_signals::version)
        .limit(PAGE_SIZE + 1)
        .select((call_signals::version, call_signals::bytes))
        .load(conn)
        .await?;
    let mut bytes = 0;
    let fitting = sizes.iter().take(PAGE_SIZE as usize).take_while(|(_, size)| {
        let is_first = bytes == 0;
        bytes += size;
        is_first || bytes <= PAGE_BYTES
    });
    let versions: Vec<i64> = fitting.map(|(version, _)| *version).collect();
    let Some(last) = versions.last() else { return Ok(SignalPage::default()) };
    let rows: Vec<SignalRow> = call_signals::table
        .filter(to_user())
        .filter(call_signals::version.gt(version))
        .filter(call_signals::version.le(last))
        .order(call_signals::version)
        .select(columns::<SignalRow>())
        .load(conn)
        .await?;
    Ok(SignalPage { signals: rows.into_iter().map(Signal::from).collect(), has_more: versions.len() < sizes.len() })
}

/// Returns the size of the signals of a call that are kept.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn kept_bytes(conn: &mut Conn, call: CallId) -> Result<usize> {
    let bytes: Vec<i64> = calls::table.find(call_key(call)).select(calls::signal_bytes).load(conn).await?;
    Ok(bytes.first().map_or(0, |bytes| usize::try_from(*bytes).unwrap_or_default()))
}

/// Returns the version of the newest signal that does not fit into a size together with all newer ones.
///
/// # Errors
///
/// Returns an error if the statement fails.
pub async fn newest_version_beyond(conn: &mut Conn, call: CallId, max_bytes: usize) -> Result<Option<i64>> {
    let sizes: Vec<(i64, i64)> = call_signals::table
        .filter(of_call(call))
        .order(call_signals::version.desc())
        .select((call_signals::version, call_signals::bytes))
        .load(conn)
        .await?;
    let mut total = 0;
    let beyond = sizes.into_iter().find(|(_, bytes)| {
        total += bytes;
        total > max_bytes as i64
    });
    Ok(beyond.map(|(version, _)| version))
}

/// Deletes the signals of a call up to a version.
///
/// It records the version with the recipients of these signals, so that their feeds notice the gap.
///
/// # Errors
///
/// Returns an error if a statement fails.
pub async fn prune(conn: &mut Conn, call: CallId, up_to: i64) -> Result<()> {
    let pruned = || of_call(call).and(call_signals::version.le(up_to));
    let recipients: Vec<(String, Option<i64>)> = call_signals::table
        .filter(pruned())
        .group_by(call_signals::to_id)
        .select((call_signals::to_id, max(call_signals::version)))
        .load(conn)
        .await?;
    for (user, version) in recipients {
        diesel::update(call_participants::table.find((call.bucket().number(), UuidValue(call.call), user)))
            .set(call_participants::forgotten.eq(version.unwrap_or_default()))
            .execute(conn)
            .await?;
    }
    diesel::delete(call_signals::table.filter(pruned())).execute(conn).await?;
    let kept: Vec<i64> = call_signals::table.filter(of_call(call)).select(call_signals::bytes).load(conn).await?;
    diesel::update(calls::table.find(call_key(call)))
        .set((calls::forgotten.eq(up_to), calls::signal_bytes.eq(kept.iter().sum::<i64>())))
        .execute(conn)
        .await?;
    Ok(())
}
