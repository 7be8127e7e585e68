//! The system messages about users who join and leave a chat, which repetitions do not multiply.

use crate::domain::chat_events::MessageChange;
use crate::domain::ids::UserId;
use crate::domain::members::Member;
use crate::domain::messages::{MEMBERSHIP_NOTICE_PERIOD, SystemMessage, SystemMessageKind};
use crate::error::Result;
use crate::service::chat_transaction::ChatTransaction;
use crate::storage::connection::Conn;
use crate::storage::messages;

/// Adds the system message about a membership that began or ended.
///
/// Returns whether it is a new message. If the user left and joined a moment ago, the last message about it is changed
/// instead: see
/// [`Message::is_replaced_by_change_of`](crate::domain::messages::Message::is_replaced_by_change_of). `previous` is the
/// member's row before this change. The row must have taken the newest version of the chat: the system message takes
/// the next one, by which the next change finds it.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn announce(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    previous: Option<&Member>,
    kind: SystemMessageKind,
    subject: &UserId,
    detail: Option<String>,
    actor: &UserId,
) -> Result<bool> {
    let earliest = transaction.now - MEMBERSHIP_NOTICE_PERIOD;
    if let Some(previous) = previous.filter(|previous| previous.left_at.unwrap_or(previous.joined_at) > earliest)
        && let Some(mut message) = messages::changed_since(conn, previous.chat, previous.version, 1).await?.pop()
        && message.version == previous.version + 1
        && message.is_replaced_by_change_of(subject, transaction.now)
    {
        let (actor, subject) = (Some(actor.clone()), Some(subject.clone()));
        message.content.system_message = Some(SystemMessage { actor, subject, detail, ..SystemMessage::new(kind) });
        transaction.write_message(conn, message, MessageChange::Edited).await?;
        return Ok(false);
    }
    transaction.system_message(kind, actor, Some(subject), detail);
    Ok(true)
}
