//! Polls: votes, closing and results.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MessageId, OptionId, UserId};
use crate::domain::message_queries::VotersQuery;
use crate::domain::messages::Message;
use crate::domain::polls::{Poll, PollResults};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::polls;

/// Replaces the viewer's votes in a poll; no option withdraws them.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the message, [`Error::BadUserInput`] if the options are not
/// those of the poll or too many, [`Error::Forbidden`] if the poll is closed or the viewer may not react in the chat,
/// and [`Error::RateLimited`] after too many reactions and votes.
pub async fn vote(app: &AppContext, viewer: &Viewer, id: MessageId, options: &[OptionId]) -> Result<Arc<Message>> {
    app.rate_limits.check_reaction(viewer)?;
    if options.iter().any(|option| option.message != id) {
        return Err(Error::bad_input("optionIds", "must be options of this poll"));
    }
    let mut chosen: Vec<u8> = options.iter().map(|option| option.index).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_react(&message)?;
            let poll = require_poll(&message)?;
            if poll.is_closed(transaction.now) {
                return Err(Error::Forbidden("the poll is closed".into()));
            }
            if chosen.iter().any(|index| usize::from(*index) >= poll.options.len()) {
                return Err(Error::bad_input("optionIds", "must be options of this poll"));
            }
            if chosen.len() > 1 && !poll.multiple_choice {
                return Err(Error::bad_input("optionIds", "must have at most one option: the poll is single choice"));
            }
            if polls::options_chosen_by(conn, id, viewer.id()).await? == chosen {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            polls::replace_votes(conn, id, viewer.id(), &chosen, transaction.now).await?;
            let message = transaction.write_message(conn, message, MessageChange::Poll).await?;
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}

/// Closes a poll; a poll that is closed already stays as it is.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the viewer may not read the message, [`Error::BadUserInput`] if it has no poll, and
/// [`Error::Forbidden`] if the viewer may not close it.
pub async fn close(app: &AppContext, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, message) = conn
        .transaction(async move |conn| {
            let (mut transaction, mut message) = ChatTransaction::lock_message(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can_close_poll(&message)?;
            if require_poll(&message)?.is_closed(transaction.now) {
                return Ok((transaction.commit_changes(conn).await?, Arc::new(message)));
            }
            if let Some(poll) = &mut message.content.poll {
                poll.closed_at = Some(transaction.now);
            }
            let message = transaction.write_message(conn, message, MessageChange::Poll).await?;
            Ok((transaction.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(message)
}

fn require_poll(message: &Message) -> Result<&Poll> {
    message.content.poll.as_ref().ok_or_else(|| Error::bad_input("messageId", "must be a message with a poll"))
}

/// Returns the results of polls that were shown to the viewer, by message.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn results(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, PollResults>> {
    let mut conn = app.database.read().await?;
    polls::results(&mut conn, ids).await
}

/// Returns the indexes of the options that the viewer voted for, by message.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn viewer_votes(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, HashSet<u8>>> {
    let mut conn = app.database.read().await?;
    let mut votes: HashMap<MessageId, HashSet<u8>> = HashMap::new();
    for option in polls::votes_by_user(&mut conn, ids, viewer.id()).await? {
        votes.entry(option.message).or_default().insert(option.index);
    }
    Ok(votes)
}

/// Returns the voters of options, of polls that were shown to the viewer and are not anonymous.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn voters(app: &AppContext, queries: &[VotersQuery]) -> Result<HashMap<VotersQuery, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let voters = polls::voters(&mut conn, queries).await?;
    Ok(queries.iter().cloned().zip(voters).collect())
}
