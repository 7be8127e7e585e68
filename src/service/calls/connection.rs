//! The connections of participants: which of them have a feed of the call open.
//!
//! The chat is not locked, so that messages do not wait for feeds that open and close: these changes concern nothing
//! but the call.

use chrono::{DateTime, Utc};

use crate::domain::calls::Call;
use crate::domain::chat_events::{CallHint, ChatEvent, ChatEventKind};
use crate::domain::ids::{CallFeedId, CallId, ConnectionId};
use crate::error::Result;
use crate::realtime::call_presence::ClosedFeed;
use crate::service::context::AppContext;
use crate::storage::calls;

/// Records that the device of a connection has opened a feed, which keeps it in the call.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn open_feed(app: &AppContext, connection: &ConnectionId, feed: CallFeedId) -> Result<()> {
    update_call(app, connection.participant.call, |call, lease_expires_at, now| {
        call.open_feed(connection, feed, lease_expires_at, now);
    })
    .await
}

/// Records that a feed was closed, so that its participant is reconnecting.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn close_feed(app: &AppContext, closed: &ClosedFeed) -> Result<()> {
    update_call(app, closed.connection.participant.call, |call, lease_expires_at, now| {
        call.close_feed(&closed.connection, closed.id, lease_expires_at, now);
    })
    .await
}

/// Changes a call under its lock and publishes it; a lease that begins now has an end.
async fn update_call(
    app: &AppContext,
    id: CallId,
    change: impl FnOnce(&mut Call, DateTime<Utc>, DateTime<Utc>) + Send,
) -> Result<()> {
    let timeouts = app.settings.calls.timeouts();
    let mut conn = app.database.write().await?;
    let changed = conn
        .transaction(async move |conn| {
            let Some(previous) = calls::lock(conn, id).await? else { return Ok(None) };
            let mut call = previous.clone();
            let now = app.clock.now();
            change(&mut call, now + timeouts.disconnect_timeout, now);
            if call == previous {
                return Ok(None);
            }
            calls::update(conn, &previous, &call, call.due_at(&timeouts)).await?;
            Ok((call.version != previous.version).then_some(call))
        })
        .await?;
    if let Some(call) = changed {
        let hint = CallHint { user_ids: Vec::new(), ..CallHint::from(&call) };
        app.publisher.publish(ChatEvent::new(
            call.organization,
            id.chat,
            app.clock.now(),
            ChatEventKind::CallChanged(hint),
        ));
    }
    Ok(())
}
