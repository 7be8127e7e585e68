//! Changing, a file for each noun.

mod blocklist;
mod calls;
mod chats;
mod members;
mod messages;
mod notifications;
mod polls;
mod presence;
mod reactions;
mod receipts;
mod reports;
mod sessions;
mod typing;

use async_graphql::{ID, MergedObject};

use crate::domain::ids::UserId;
use crate::error::{Error, Result};

/// Changing. A mutation that fails is null with an error, so that those beside it in one document
/// keep their results.
#[derive(MergedObject, Default)]
pub struct Mutation(
    chats::ChatMutation,
    members::MemberMutation,
    messages::MessageMutation,
    reactions::ReactionMutation,
    polls::PollMutation,
    receipts::ReceiptMutation,
    notifications::NotificationMutation,
    reports::ReportMutation,
    blocklist::BlocklistMutation,
    typing::TypingMutation,
    presence::PresenceMutation,
    sessions::SessionMutation,
    calls::CallMutation,
);

/// An id that can only be of a thing that exists.
fn existing<T: std::str::FromStr>(id: &ID, what: &'static str) -> Result<T> {
    id.parse().map_err(|_| Error::NotFound(what))
}

fn people(ids: &[ID]) -> Result<Vec<UserId>> {
    ids.iter().map(|id| existing(id, "user")).collect()
}
