//! Polls: voting, closing, and how they stand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::chat_events::MessageChange;
use crate::domain::ids::{MessageId, OptionId, UserId};
use crate::domain::messages::Message;
use crate::domain::polls::{Poll, Tally};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::chat_transaction::Writing;
use crate::service::context::App;
use crate::storage::polls;
use crate::storage::polls::VotersQuery;

/// Puts the viewer's choice in place of what they chose before; no option takes it back.
pub async fn vote(app: &App, viewer: &Viewer, id: MessageId, options: &[OptionId]) -> Result<Arc<Message>> {
    app.limits.react(viewer)?;
    if options.iter().any(|option| option.message != id) {
        return Err(Error::bad_input("optionIds", "must be options of this poll"));
    }
    let mut chosen: Vec<u8> = options.iter().map(|option| option.place).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let mut conn = app.store.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, message) = Writing::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_react(&message)?;
            let poll = of(&message)?;
            if poll.is_closed(writing.now) {
                return Err(Error::Forbidden("the poll is closed".into()));
            }
            if chosen.iter().any(|place| usize::from(*place) >= poll.options.len()) {
                return Err(Error::bad_input("optionIds", "must be options of this poll"));
            }
            if chosen.len() > 1 && !poll.multiple_choice {
                return Err(Error::bad_input("optionIds", "must be one: this poll is of a single choice"));
            }
            if polls::of_user(conn, id, viewer.id()).await? == chosen {
                return Ok((writing.finish(conn).await?, Arc::new(message)));
            }
            polls::vote(conn, id, viewer.id(), &chosen, writing.now).await?;
            let message = writing.write_message(conn, message, MessageChange::Poll).await?;
            Ok((writing.finish(conn).await?, message))
        })
        .await?;
    app.tell(told);
    Ok(message)
}

/// Closes a poll by hand. Closed once stays closed.
pub async fn close(app: &App, viewer: &Viewer, id: MessageId) -> Result<Arc<Message>> {
    let mut conn = app.store.write().await?;
    let (told, message) = conn
        .transaction(async move |conn| {
            let (mut writing, mut message) = Writing::lock_message(conn, app, viewer, id).await?;
            writing.rights(viewer).can_close(&message)?;
            if of(&message)?.is_closed(writing.now) {
                return Ok((writing.finish(conn).await?, Arc::new(message)));
            }
            if let Some(poll) = &mut message.content.poll {
                poll.closed_at = Some(writing.now);
            }
            let message = writing.write_message(conn, message, MessageChange::Poll).await?;
            Ok((writing.finish(conn).await?, message))
        })
        .await?;
    app.tell(told);
    Ok(message)
}

fn of(message: &Message) -> Result<&Poll> {
    message.content.poll.as_ref().ok_or_else(|| Error::bad_input("messageId", "is no message with a poll"))
}

/// How polls stand that were shown to the viewer.
pub async fn tallies(app: &App, ids: &[MessageId]) -> Result<HashMap<MessageId, Tally>> {
    let mut conn = app.store.read().await?;
    polls::tallies(&mut conn, ids).await
}

/// What the viewer chose of each of these polls.
pub async fn choices(app: &App, viewer: &Viewer, ids: &[MessageId]) -> Result<HashMap<MessageId, HashSet<u8>>> {
    let mut conn = app.store.read().await?;
    let mut choices: HashMap<MessageId, HashSet<u8>> = HashMap::new();
    for option in polls::choices(&mut conn, ids, viewer.id()).await? {
        choices.entry(option.message).or_default().insert(option.place);
    }
    Ok(choices)
}

/// Who chose options of polls that were shown to the viewer, and that are not anonymous.
pub async fn voters(app: &App, queries: &[VotersQuery]) -> Result<HashMap<VotersQuery, Vec<UserId>>> {
    let mut conn = app.store.read().await?;
    let voters = polls::voters(&mut conn, queries).await?;
    Ok(queries.iter().cloned().zip(voters).collect())
}
