//! The rights of a call's host and of moderators: ending a call for all, and removing one participant.

use std::sync::Arc;

use crate::domain::calls::Call;
use crate::domain::chats::ChatKind;
use crate::domain::ids::{CallId, MemberId, ParticipantId};
use crate::domain::members::{Member, Role};
use crate::domain::rights::DenialReason;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::calls::transaction::CallTransaction;
use crate::service::calls::update_call;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::members;

/// Ends a call for all participants.
///
/// In a direct chat both users may end it, in other chats its host and moderators.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat, and [`Error::Forbidden`] if they may
/// not end the call.
pub async fn end(app: &AppContext, viewer: &Viewer, id: CallId) -> Result<Arc<Call>> {
    app.rate_limits.check_call_signal(viewer)?;
    let end = |call: &mut Call, chat: &ChatTransaction| {
        if chat.chat().kind != ChatKind::Direct && call.host != *viewer.id() {
            chat.rights(viewer).require_role(Role::Moderator)?;
        }
        call.end(viewer.id(), chat.now);
        Ok(())
    };
    update_call(app, viewer, id, end).await
}

/// Removes a participant from a call; with `is_barred` they may not join it again.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer is not a member of the call's chat or the participant does not exist,
/// [`Error::BadUserInput`] if the participant is the viewer's own, [`Error::Forbidden`] if the chat is direct or the
/// viewer is not a moderator who outranks the participant, and [`Error::CallConflict`] if the participant is not in the
/// call and the call does not ring for them.
pub async fn remove(app: &AppContext, viewer: &Viewer, id: &ParticipantId, is_barred: bool) -> Result<Arc<Call>> {
    if id.user == *viewer.id() {
        return Err(Error::bad_input("participantId", "must be another participant; use leaveCall to leave"));
    }
    app.rate_limits.check_call_signal(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, call) = conn
        .transaction(async move |conn| {
            let mut transaction = CallTransaction::lock(conn, app, viewer, id.call).await?;
            let chat = &transaction.chat_transaction;
            if chat.chat().kind == ChatKind::Direct {
                return Err(DenialReason::DirectChat.into());
            }
            let rights = chat.rights(viewer);
            rights.require_role(Role::Moderator)?;
            let member_id = MemberId { chat: id.call.chat, user: id.user.clone() };
            let member = members::by_ids(conn, &[member_id]).await?.pop();
            if let Some(member) = member.filter(Member::is_active) {
                rights.outranks(member.role)?;
            }
            transaction.call.participant(&id.user).ok_or(Error::NotFound("participant"))?;
            let now = chat.now;
            transaction.call.remove_by_moderator(&id.user, is_barred, now)?;
            transaction.commit_changes(conn, app).await
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(call)
}
