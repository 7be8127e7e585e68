//! Edits of messages: their texts, and the users whom they mention.

use std::sync::Arc;

use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MemberId, MessageId, UserId};
use crate::domain::messages::{Message, checked_mentions, message_kind};
use crate::domain::rights::DenialReason;
use crate::domain::text;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::blocklist;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::service::revisions::drop_surplus;
use crate::storage::connection::Conn;
use crate::storage::{members, mentions, messages, notifications, revisions, search_index};

/// A change of a message.
#[derive(Debug)]
pub struct MessageEdit {
    pub text: String,
    /// The users whom the message mentions from now on.
    ///
    /// `None` leaves the mentions as they are.
    pub mentions: Option<Vec<UserId>>,
    /// True if the message mentions everyone from now on.
    ///
    /// `None` leaves that as it is.
    pub mentions_everyone: Option<bool>,
}

/// The mentions of a message before and after an edit.
struct MentionChange {
    before: Vec<UserId>,
    after: Vec<UserId>,
    everyone_before: bool,
    everyone_after: bool,
}

/// Replaces the text of the viewer's own message and keeps the previous text as a revision.
///
/// An edit counts as a message, by the rate limit and in slow mode, except for the first correction of the viewer's
/// last message. The same text and mentions again change nothing. An edit notifies nobody, and withdraws the unread
/// notifications of users whom the message no longer mentions.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the text is not valid or has a blocked word, or if a user to mention is not a
/// member, [`Error::NotFound`] if the viewer may not read the message, [`Error::Forbidden`] if they may not edit it or
/// mention everyone, [`Error::MessageDeleted`] if it was deleted, and [`Error::RateLimited`] after too many messages
/// and edits or in slow mode.
pub async fn edit(app: &AppContext, viewer: &Viewer, id: MessageId, edit: MessageEdit) -> Result<Arc<Message>> {
    let MessageEdit { text, mentions, mentions_everyone } = edit;
    let text = text::validate_block("text", &text, app.settings.limits.max_message_characters)?;
    let mentions = mentions.map(checked_mentions).transpose()?;
    app.rate_limits.check_send(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, mut message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_edit(&message)?;
            let previous = message.text.take().ok_or(DenialReason::NoText)?;
            let text = blocklist::load_for_viewer(conn, viewer).await?.apply_to_markdown("text", text)?;
            let has_new_text = previous != text;
            message.text = Some(text);
            let change = MentionChange::load(conn, &message, mentions, mentions_everyone).await?;
            change.authorize(conn, &transaction, viewer).await?;
            if !has_new_text && change.is_empty() {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            if has_new_text {
                replace_text(conn, viewer, &message, &previous, &transaction).await?;
            }
            if !transaction.rights(viewer).is_first_correction(&message) {
                members::record_edit(conn, &MemberId { chat: id.chat, user: viewer.id().clone() }, transaction.now)
                    .await?;
            }
            change.write(conn, &message).await?;
            message.kind = message_kind(message.text.as_deref(), &message.content);
            message.edited_at = Some(transaction.now);
            message.mentions_everyone = change.everyone_after;
            let message = transaction.write_message(conn, message, MessageChange::Edited).await?;
            if !change.is_empty() {
                publish_thread(conn, &mut transaction, &message).await?;
            }
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}

/// Keeps the previous text of a message as a revision and indexes the new one.
async fn replace_text(
    conn: &mut Conn,
    viewer: &Viewer,
    message: &Message,
    previous: &str,
    transaction: &ChatTransaction,
) -> Result<()> {
    revisions::insert(conn, message, previous, transaction.now).await?;
    drop_surplus(conn, message.id).await?;
    search_index::delete(conn, message.id).await?;
    search_index::insert(conn, std::iter::once((viewer.organization(), message))).await
}

/// Publishes the root of a message's thread, in which the changed mentions count.
async fn publish_thread(conn: &mut Conn, transaction: &mut ChatTransaction, message: &Message) -> Result<()> {
    let Some(root) = message.thread_root() else { return Ok(()) };
    if let Some(root) = messages::by_ids(conn, &[root]).await?.pop() {
        transaction.write_message(conn, root, MessageChange::Thread).await?;
    }
    Ok(())
}

impl MentionChange {
    async fn load(
        conn: &mut Conn,
        message: &Message,
        mentions: Option<Vec<UserId>>,
        mentions_everyone: Option<bool>,
    ) -> Result<Self> {
        let before: Vec<UserId> =
            mentions::users(conn, &[message.id]).await?.into_iter().map(|(_, user)| user).collect();
        let everyone_before = message.mentions_everyone;
        Ok(Self {
            after: mentions.unwrap_or_else(|| before.clone()),
            before,
            everyone_before,
            everyone_after: mentions_everyone.unwrap_or(everyone_before),
        })
    }

    fn is_empty(&self) -> bool {
        self.before == self.after && self.everyone_before == self.everyone_after
    }

    /// Returns the users whom the message did not mention before.
    fn added(&self) -> impl Iterator<Item = &UserId> {
        self.after.iter().filter(|user| !self.before.contains(user))
    }

    /// Checks that the viewer may mention those whom the message did not mention before.
    async fn authorize(&self, conn: &mut Conn, transaction: &ChatTransaction, viewer: &Viewer) -> Result<()> {
        let chat = transaction.chat().id;
        if self.everyone_after && !self.everyone_before {
            transaction.rights(viewer).can_mention_everyone()?;
        }
        let added: Vec<MemberId> = self.added().map(|user| MemberId { chat, user: user.clone() }).collect();
        let members = members::by_ids(conn, &added).await?;
        match members.iter().filter(|member| member.is_active()).count() == added.len() {
            true => Ok(()),
            false => Err(Error::bad_input("mentionIds", "must be members of the chat")),
        }
    }

    async fn write(&self, conn: &mut Conn, message: &Message) -> Result<()> {
        if self.before != self.after {
            mentions::delete_all(conn, message.id).await?;
            let mentioned: Vec<_> = self.after.iter().map(|user| (message, user)).collect();
            mentions::insert(conn, &mentioned).await?;
        }
        match self.is_empty() || self.everyone_after {
            true => Ok(()),
            false => notifications::withdraw_mentions(conn, message.id, &self.after).await,
        }
    }
}
