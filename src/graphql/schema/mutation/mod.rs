//! The mutation root, with one file for each kind of object.

pub mod bans;
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
pub mod threads;
pub mod typing;

use async_graphql::{ID, MergedObject};

use crate::domain::ids::UserId;
use crate::error::{Error, Result};

/// The mutation root.
/// Every field requires a token. A mutation that fails is null with an error at its path, and the other mutations of
/// the document keep their results. The code of the error is in `extensions.code`. A mutation fails with `NOT_FOUND` if
/// it names an object that does not exist for the viewer, and with `RATE_LIMITED` if the viewer exceeds a rate limit.
#[derive(MergedObject, Default)]
pub struct Mutation(
    chats::ChatMutation,
    members::MemberMutation,
    bans::BanMutation,
    messages::MessageMutation,
    reactions::ReactionMutation,
    polls::PollMutation,
    receipts::ReceiptMutation,
    threads::ThreadMutation,
    notifications::NotificationMutation,
    reports::ReportMutation,
    blocklist::BlocklistMutation,
    typing::TypingMutation,
    presence::PresenceMutation,
    sessions::SessionMutation,
    calls::CallMutation,
);

/// Parses the id of an object of type `noun`; a text that is no such id belongs to no object.
fn parse_id<T: std::str::FromStr>(id: &ID, noun: &'static str) -> Result<T> {
    id.parse().map_err(|_| Error::NotFound(noun))
}

/// Parses the ids of users that an argument names; a text that is no such id belongs to no user.
fn parse_user_ids(field: &'static str, ids: &[ID]) -> Result<Vec<UserId>> {
    let (mut users, mut malformed) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match id.parse() {
            Ok(user) => users.push(user),
            Err(_) => malformed.push(id.as_str()),
        }
    }
    if malformed.is_empty() { Ok(users) } else { Err(Error::unknown_users(field, malformed)) }
}

/// Parses the id of a user that an argument names.
fn parse_user_id(field: &'static str, id: &ID) -> Result<UserId> {
    id.parse().map_err(|_| Error::unknown_users(field, [id.as_str()]))
}
