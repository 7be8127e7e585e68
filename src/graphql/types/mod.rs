//! The types of the schema: thin wrappers over what services give.

mod blocklist;
mod call;
mod chat;
mod content;
mod feed;
mod member;
mod message;
mod node;
mod notification;
mod poll;
mod presence;
mod reaction;
mod report;
mod search;
mod typing;
mod user;
mod viewer;

pub use blocklist::{BlockAction, BlockedWord, blocked_words};
pub use call::{
    Call, CallFilter, CallKind, CallParticipant, CallStatistics, IceServer, MediaStateInput, Negotiation, Signal,
    SignalKind, StatisticsPeriod,
};
pub use chat::{Chat, ChatAction, ChatFilter, ChatKind, ChatRule, ChatRuleInput, GroupCategory};
pub use feed::{CallFeedEvent, ChatFeedEvent, FeedEvent, InboxFeedEvent};
pub use member::{ChatMember, ChatRole, NotificationLevel};
pub use message::{Message, MessageTotals};
pub use node::{Node, node};
pub use notification::Notification;
pub use presence::{Presence, PresenceStatus};
pub use report::{Report, ReportResolution};
pub use search::{MessageSearchConnection, MessageSearchFilter};
pub use typing::TypingUpdate;
pub use user::{Organization, User};
pub use viewer::{UnreadTotals, Viewer};
