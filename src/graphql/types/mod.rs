//! The types of the schema: thin wrappers over what services give.

mod chat;
mod feed;
mod member;
mod message;
mod node;
mod reaction;
mod user;
mod viewer;

pub use chat::{Chat, ChatAction, ChatFilter, ChatKind, ChatRule, ChatRuleInput, GroupCategory};
pub use feed::{ChatFeedEvent, FeedEvent};
pub use member::{ChatMember, ChatRole};
pub use message::{Message, MessageTotals};
pub use node::{Node, node};
pub use user::{Organization, User};
pub use viewer::Viewer;
