//! Threads: what of them the viewer has read, and marking them as read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::ids::MessageId;
use crate::domain::members::Member;
use crate::domain::message_queries::MessageList;
use crate::domain::messages::Message;
use crate::domain::threads::{ThreadReader, ThreadState};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{messages, notifications, threads};

/// Returns threads as the viewer sees them, by the ids of their roots, which were shown to the viewer.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn states(app: &AppContext, viewer: &Viewer, roots: &[MessageId]) -> Result<HashMap<MessageId, ThreadState>> {
    let mut conn = app.database.read().await?;
    Ok(threads::states(&mut conn, viewer.id(), roots).await?.into_iter().collect())
}

/// Moves the viewer's read position in a thread forward to a reply or to the newest reply.
///
/// A position that is further on stays there. Returns the message that started the thread, and the viewer's membership.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the root, if it has no replies, or if `up_to` is not one of
/// them, and [`Error::BadUserInput`] if the root is itself a reply in a thread.
pub async fn mark_read(
    app: &AppContext,
    viewer: &Viewer,
    root: MessageId,
    up_to: Option<MessageId>,
) -> Result<(Arc<Message>, Member)> {
    if up_to.is_some_and(|message| message.chat != root.chat) {
        return Err(Error::NotFound("message"));
    }
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, read) = conn
        .transaction(async move |conn| {
            let (mut transaction, message) = ChatTransaction::lock_message(conn, viewer, root, &app.clock).await?;
            let mut member = transaction.rights(viewer).require_membership()?.clone();
            if message.thread_root_seq.is_some() {
                return Err(Error::bad_input("threadRootId", "must not be a reply in a thread"));
            }
            let last_read_seq = reply_seq(conn, root, up_to).await?;
            if last_read_seq > threads::last_read_seq(conn, root, viewer.id()).await? {
                // A user who does not follow the thread has a position too, because mentions of everyone count.
                let reader = ThreadReader { root, user: viewer.id().clone(), follows: false, last_read_seq };
                threads::record_reads(conn, &[reader], Some(transaction.now)).await?;
                member = transaction.record_read_thread(conn, member).await?;
            }
            let count = notifications::mark_read_in_threads(conn, &[member.id()], transaction.now).await?;
            transaction.mark_read_for(conn, viewer.id(), count).await?;
            Ok((transaction.commit_changes(conn).await?, (Arc::new(message), member)))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(read)
}

/// Returns the number of a reply of a thread, of the newest one by default.
async fn reply_seq(conn: &mut Conn, root: MessageId, up_to: Option<MessageId>) -> Result<i64> {
    let Some(up_to) = up_to else {
        let newest = messages::last(conn, MessageList::Thread(root)).await?;
        return newest.map(|reply| reply.id.seq).ok_or(Error::NotFound("thread"));
    };
    let found = messages::by_ids(conn, &[up_to]).await?.pop();
    let reply = found.filter(|message| message.thread_root() == Some(root));
    reply.map(|reply| reply.id.seq).ok_or(Error::NotFound("message"))
}
