//! Joining calls: who starts or answers a call, by which device, and how a call moves to another device.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::calls::{Call, CallKind, CallRefusal, Media};
use crate::domain::chats::ChatAction;
use crate::domain::ids::{CallId, ChatId};
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::calls::transaction::{CallTransaction, create};
use crate::service::calls::{leave_or_hang_up, update_call};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{calls, users};

/// The device by which a user joins a call, with the media that it sends.
#[derive(Clone)]
pub struct CallDevice {
    id: String,
    media: Media,
    /// True if the device takes the user's place in the call from another device, and leaves other calls.
    takes_over: bool,
}

impl CallDevice {
    /// Returns a device with the id that the client gave it.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the id is empty or too long.
    pub fn new(id: &str, media: Media) -> Result<Self> {
        Ok(Self { id: text::validate_line("deviceId", id, Call::MAX_DEVICE_CHARS)?, media, takes_over: false })
    }

    /// Lets the device take the user's place from another device, and leave other calls.
    #[must_use]
    pub fn taking_over(self, takes_over: bool) -> Self {
        Self { takes_over, ..self }
    }

    fn join(self, call: &mut Call, app: &AppContext, viewer: &Viewer, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        call.join(viewer.id(), self.id, self.media, self.takes_over, &app.settings.calls.timeouts(), now)
    }
}

/// Starts a call in a chat, or joins the active call.
///
/// So two users who call each other at the same time are in one call.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they may not start
/// calls in it, [`Error::CallConflict`] if the active call cannot be joined or the device is in another call, and
/// [`Error::RateLimited`] after too many calls.
pub async fn start(
    app: &AppContext,
    viewer: &Viewer,
    chat: ChatId,
    kind: CallKind,
    device: CallDevice,
) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, call) = conn
        .transaction(async move |conn| {
            let chat_transaction = ChatTransaction::lock(conn, viewer, chat, &app.clock).await?;
            chat_transaction.rights(viewer).can(ChatAction::StartCall)?;
            let active = calls::active(conn, &[chat]).await?.pop();
            require_in_no_other_call(conn, viewer, &device, active.as_ref().map(|call| call.id)).await?;
            let Some(active) = active else {
                let CallDevice { id, media, .. } = device;
                return create(conn, app, viewer, chat_transaction, kind, id, media).await;
            };
            let mut transaction = CallTransaction::load_advanced(conn, app, chat_transaction, active.id).await?;
            if !transaction.call.has_ended() {
                let now = transaction.chat_transaction.now;
                device.join(&mut transaction.call, app, viewer, now)?;
                return transaction.commit_changes(conn, app).await;
            }
            // The call was due to end and no scheduler had processed it yet.
            let chat_transaction = transaction.record_changes(conn, app).await?;
            let CallDevice { id, media, .. } = device;
            create(conn, app, viewer, chat_transaction, kind, id, media).await
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(call)
}

/// Joins a call by a device.
///
/// A silenced member joins without media, as a listener.
///
/// A device that takes over leaves its other calls afterwards, so that it loses none if it cannot join this one.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, [`Error::Forbidden`] if the chat is
/// archived, [`Error::CallConflict`] if the call has ended or is full, or if the device does not take over and the
/// viewer is in the call on another device or the device in another call, and [`Error::RateLimited`] after too many
/// calls.
pub async fn join(app: &AppContext, viewer: &Viewer, id: CallId, device: CallDevice) -> Result<Arc<Call>> {
    app.rate_limits.check_call(viewer)?;
    let mut conn = app.database.write().await?;
    let mut joining = device.clone();
    let (outcome, call) = conn
        .transaction(async move |conn| {
            let mut transaction = CallTransaction::lock(conn, app, viewer, id).await?;
            transaction.chat_transaction.rights(viewer).can_join_call()?;
            transaction.call.require_ongoing()?;
            require_in_no_other_call(conn, viewer, &joining, Some(id)).await?;
            if transaction.chat_transaction.rights(viewer).can_send_media().is_err() {
                joining.media = Media::default();
            }
            let now = transaction.chat_transaction.now;
            joining.join(&mut transaction.call, app, viewer, now)?;
            transaction.commit_changes(conn, app).await
        })
        .await?;
    drop(conn);
    app.publish_outcome(outcome);
    if device.takes_over {
        leave_other_calls(app, viewer, &device, id).await?;
    }
    Ok(call)
}

/// Checks that a device that does not take over is in no other call than `call`.
///
/// It locks the user until the transaction ends, so that their joins take place one after the other. The chat and the
/// call are locked before.
async fn require_in_no_other_call(
    conn: &mut Conn,
    viewer: &Viewer,
    device: &CallDevice,
    call: Option<CallId>,
) -> Result<()> {
    users::lock(conn, viewer.organization(), viewer.id()).await?;
    if device.takes_over {
        return Ok(());
    }
    let connections = calls::connections_of_device(conn, viewer.organization(), viewer.id(), &device.id).await?;
    let is_other = connections.iter().any(|connection| Some(connection.participant.call) != call);
    if is_other { Err(CallRefusal::InAnotherCall.into()) } else { Ok(()) }
}

/// Lets a device leave all calls except one.
async fn leave_other_calls(app: &AppContext, viewer: &Viewer, device: &CallDevice, call: CallId) -> Result<()> {
    let mut conn = app.database.read().await?;
    let connections = calls::connections_of_device(&mut conn, viewer.organization(), viewer.id(), &device.id).await?;
    drop(conn);
    for connection in connections.into_iter().filter(|connection| connection.participant.call != call) {
        let leave = |call: &mut Call, chat: &ChatTransaction| {
            call.require_connection(viewer.id(), Some(connection.join))?;
            Ok(leave_or_hang_up(call, chat, viewer)?)
        };
        match update_call(app, viewer, connection.participant.call, leave).await {
            // The user has left meanwhile, by the device or with the membership of the chat.
            Ok(_) | Err(Error::CallConflict { .. } | Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
