//! Changing, a file for each noun.

pub mod blocklist;
pub mod calls;
pub mod chats;
pub mod members;
pub mod messages;
pub mod notifications;
pub mod polls;
pub mod presence;
pub mod reactions;
pub mod receipts;
pub mod reports;
pub mod sessions;
pub mod typing;

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
fn parse_id<T: std::str::FromStr>(id: &ID, what: &'static str) -> Result<T> {
    id.parse().map_err(|_| Error::NotFound(what))
}

fn parse_user_ids(ids: &[ID]) -> Result<Vec<UserId>> {
    ids.iter().map(|id| parse_id(id, "user")).collect()
}
