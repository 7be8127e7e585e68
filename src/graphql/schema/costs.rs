//! The costs of fields, from which admission computes the cost of an operation.
//!
//! A field costs one and as many times the cost of its selections as it can return objects. A field with page
//! arguments returns as many as the client asks for. This module lists the rest: how long a list without page arguments
//! can be, and which fields cost more than one themselves. A test fails for a list that is missing here.

use strum::IntoEnumIterator;

use crate::domain::pagination::MAX_PAGE_SIZE;
use crate::domain::users::Permission;
use crate::domain::{blocklist, chats, messages, polls, reactions};
use crate::service::calls::history::MAX_STATISTICS_RANGES;

/// The maximum number of users who are typing in a chat, by the default of `PARLOR_TYPING_MEMBERS`.
const MAX_TYPING_USERS: usize = 256;
/// The number of participants at which the cost of a call's list is computed.
const MAX_CALL_PARTICIPANTS: usize = 100;
/// The number of servers for calls, and of the URLs of each.
const MAX_ICE_ENTRIES: usize = 10;

/// Returns the maximum lengths of the lists without page arguments, by type and field.
pub fn list_lengths() -> Vec<(&'static str, usize)> {
    vec![
        ("BlockedWordsPayload.blockedWords", blocklist::MAX_WORDS),
        ("Call.participants", MAX_CALL_PARTICIPANTS),
        ("Chat.policy", chats::ChatAction::iter().count()),
        ("Chat.typing", MAX_TYPING_USERS),
        ("Chat.viewerCan", chats::ChatAction::iter().count()),
        ("IceServer.urls", MAX_ICE_ENTRIES),
        ("JoinCallPayload.iceServers", MAX_ICE_ENTRIES),
        ("MarkDeliveredPayload.members", MAX_PAGE_SIZE),
        ("MembersPayload.members", MAX_PAGE_SIZE),
        ("Message.mentions", messages::MAX_MENTIONS),
        ("Message.reactions", reactions::MAX_EMOJI_PER_MESSAGE),
        ("Organization.callStatistics", MAX_STATISTICS_RANGES),
        ("Poll.options", polls::Poll::MAX_OPTIONS),
        ("Query.blockedWords", blocklist::MAX_WORDS),
        ("SystemNotice.changedFields", messages::SystemMessage::MAX_CHANGED_FIELDS),
        ("TypingUpdate.users", MAX_TYPING_USERS),
        ("Viewer.iceServers", MAX_ICE_ENTRIES),
        ("Viewer.permissions", Permission::iter().count()),
    ]
}

/// The fields that return one object for each item of an argument, with the argument.
pub const LISTS_BY_ARGUMENT: [(&str, &str); 1] = [("Query.nodes", "ids")];

/// The costs of fields that are not one, because their values are long or their reads are expensive.
pub const FIELD_COSTS: [(&str, usize); 16] = [
    ("Chat.avatarUrl", 2),
    ("Chat.description", 4),
    ("ChatMember.draft", 4),
    ("ChatMember.unreadCount", 2),
    ("ChatMember.unreadMentionCount", 2),
    ("ForwardedFrom.chatTitle", 2),
    ("Message.html", 8),
    ("Message.text", 4),
    ("Message.thread", 4),
    ("MessageRevision.text", 4),
    ("MessageSearchEdge.snippet", 2),
    ("Organization.callStatistics", 500),
    ("Query.searchMessages", 5_000),
    ("Report.text", 4),
    ("User.avatarUrl", 2),
    ("Viewer.unread", 100),
];
