//! Polls: voting, closing, and how they stand.

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

/// Puts the viewer's choice in place of what they chose before; no option takes it back.
pub async fn vote(app: &AppContext, viewer: &Viewer, id: MessageId, options: &[OptionId]) -> Result<Arc<Message>> {
    app.rate_limits.check_reaction(viewer)?;
    if options.iter().any(|option| option.message != id) {
        return Err(Error::bad_input("optionIds", "must be options of this poll"));
    }
    let mut chosen: Vec<u8> = options.iter().map(|option| option.index).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_react(&message)?;
            let poll = require_poll(&message)?;
            if poll.is_closed(writing.now) {
                return Err(Error::Forbidden("the poll is closed".into()));
            }
            if chosen.iter().any(|place| usize::from(*place) >= poll.options.len()) {
                return Err(Error::bad_input("optionIds", "must be options of this poll"));
            }
            if chosen.len() > 1 && !poll.multiple_choice {
                return Err(Error::bad_input("optionIds", "must be one: this poll is of a single choice"));
            }
            if polls::options_chosen_by(conn, id, viewer.id()).await? == chosen {
                return Ok((writing.commit_changes(conn).await?, Arc::new(message)));
            }
            polls::replace_votes(conn, id, viewer.id(), &chosen, writing.now).await?;
            let message = writing.write_message(conn, message, MessageChange::Poll).await?;
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}

/// Closes a poll by hand. Closed once stays closed.
pub async fn close(app: &AppContext, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    let mut conn = app.database.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = ChatTransaction::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_close_poll(&message)?;
            if require_poll(&message)?.is_closed(writing.now) {
                return Ok((writing.commit_changes(conn).await?, Arc::new(message)));
            }
            if let Some(poll) = &mut message.content.poll {
                poll.closed_at = Some(writing.now);
            }
            let message = writing.write_message(conn, message, MessageChange::Poll).await?;
            Ok((writing.commit_changes(conn).await?, message))
        })
        .await?;
    app.publish_outcome(told);
    Ok(message)
}

fn require_poll(message: &Message) -> Result<&Poll> {
    message.content.poll.as_ref().ok_or_else(|| Error::bad_input("messageId", "is no message with a poll"))
}

/// How polls stand that were shown to the viewer.
pub async fn results(app: &AppContext, ids: &[MessageId]) -> Result<HashMap<MessageId, PollResults>> {
    let mut conn = app.database.read().await?;
    polls::results(&mut conn, ids).await
}

/// What the viewer chose of each of these polls.
pub async fn viewer_votes(
    app: &AppContext,
    viewer: &Viewer,
    ids: &[MessageId],
) -> Result<HashMap<MessageId, HashSet<u8>>> {
    let mut conn = app.database.read().await?;
    let mut choices: HashMap<MessageId, HashSet<u8>> = HashMap::new();
    for option in polls::votes_by_user(&mut conn, ids, viewer.id()).await? {
        choices.entry(option.message).or_default().insert(option.index);
    }
    Ok(choices)
}

/// Who chose options of polls that were shown to the viewer, and that are not anonymous.
pub async fn voters(app: &AppContext, queries: &[VotersQuery]) -> Result<HashMap<VotersQuery, Vec<UserId>>> {
    let mut conn = app.database.read().await?;
    let voters = polls::voters(&mut conn, queries).await?;
    Ok(queries.iter().cloned().zip(voters).collect())
}
