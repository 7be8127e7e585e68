//! The events of feeds.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Interface, Object, SimpleObject, Union};

use crate::domain::chat_events::Change;
use crate::domain::{chat_events, chats, members, messages, notifications};
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::call::CallParticipant;
use crate::graphql::schema::types::call_signaling::{CallFeedEnd, Negotiation, Signal};
use crate::graphql::schema::types::message::MessageEdge;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::objects::{Call, Chat, ChatMember, Message};
use crate::realtime::feeds;
use crate::realtime::feeds::call::CallEventKind;
use crate::realtime::feeds::catch_up;
use crate::realtime::feeds::inbox::InboxEventKind;
use crate::service;

/// A change of a message.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chat_events::MessageChange")]
pub enum MessageChange {
    /// The message was sent.
    Added,
    /// The text was edited, or the event of a system message was replaced: a user left and joined repeatedly.
    Edited,
    /// The message was deleted.
    Deleted,
    /// A reaction was added or removed.
    Reactions,
    /// The message was pinned or unpinned.
    Pin,
    /// A user voted in the poll, or the poll was closed.
    Poll,
    /// A reply was added to the thread of the message, or deleted from it.
    Thread,
    /// The message is part of the initial messages, or has one or several changes since the cursor.
    Synced,
}

/// The reason for a reset of a feed.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "catch_up::ResetReason")]
pub enum FeedResetReason {
    /// The cursor does not belong to this feed.
    CursorInvalid,
    /// More objects changed since the cursor than the feed sends one by one.
    TooFarBehind,
    /// The session continues with a token that grants other permissions, or the viewer became a member of the chat
    /// again after the membership had ended.
    AccessChanged,
}

/// An event of a feed.
#[derive(Interface)]
#[graphql(field(
    name = "cursor",
    ty = "&String",
    desc = "The cursor of the event. Pass it as `after` to resume the feed after the event."
))]
pub enum FeedEvent {
    ChatUpserted(ChatUpserted),
    MessageUpserted(MessageUpserted),
    MemberUpserted(MemberUpserted),
    MemberRemoved(MemberRemoved),
    ChatRemoved(ChatRemoved),
    NotificationUpserted(NotificationUpserted),
    CallUpserted(CallUpserted),
    ParticipantUpserted(ParticipantUpserted),
    SignalReceived(SignalReceived),
    CallFeedEnded(CallFeedEnded),
    SessionExpiring(SessionExpiring),
    FeedCaughtUp(FeedCaughtUp),
    FeedReset(FeedReset),
}

/// The type `ChatUpserted`.
pub struct ChatUpserted {
    cursor: String,
    chat: Arc<chats::Chat>,
}

/// A chat was added or changed.
#[Object]
impl ChatUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The current state of the chat.
    async fn chat(&self) -> Chat {
        Chat((*self.chat).clone())
    }
}

/// The type `MessageUpserted`.
pub struct MessageUpserted {
    cursor: String,
    message: Arc<messages::Message>,
    change: chat_events::MessageChange,
}

/// A message was added or changed.
#[Object]
impl MessageUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The current state of the message.
    async fn message(&self) -> Message {
        Message(self.message.clone())
    }

    /// The current state of the message, with its cursor in `Chat.messages`, or in `Message.replies` of its thread.
    /// A list stays complete by the edges of events alone, also when more messages are added than a page has.
    async fn message_edge(&self) -> MessageEdge {
        Message::edge(self.message.clone())
    }

    /// The change of the message.
    async fn change(&self) -> MessageChange {
        self.change.into()
    }
}

/// The type `MemberUpserted`.
pub struct MemberUpserted {
    cursor: String,
    member: members::Member,
}

/// A member was added or changed.
#[Object]
impl MemberUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The current state of the membership.
    async fn member(&self) -> ChatMember {
        ChatMember(self.member.clone())
    }
}

/// A user is no longer a member of the chat.
#[derive(SimpleObject)]
pub struct MemberRemoved {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The id of the chat.
    chat_id: ID,
    /// The id of the former member.
    user_id: ID,
    /// The id of the former membership.
    member_id: ID,
}

/// The viewer is no longer a member of a chat, or the chat was deleted.
/// Its unread notifications no longer exist.
#[derive(SimpleObject)]
pub struct ChatRemoved {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The id of the chat.
    chat_id: ID,
}

/// The type `NotificationUpserted`.
pub struct NotificationUpserted {
    cursor: String,
    notification: notifications::Notification,
}

/// A notification was added or read.
#[Object]
impl NotificationUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The current state of the notification.
    async fn notification(&self) -> Notification {
        Notification(self.notification.clone())
    }
}

/// A call was started or changed.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct CallUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The current state of the call.
    call: Call,
}

#[ComplexObject]
impl CallUpserted {
    /// True if the viewer's devices are to ring for the call now.
    /// False if the call does not ring for the viewer, if their presence is `BUSY`, if they are in another call, and if
    /// the notification level of the chat is `NONE`. The viewer can answer such a call all the same.
    async fn ringing(&self, ctx: &Context<'_>) -> Result<bool> {
        service::calls::ringing::rings_for(ctx.app(), ctx.viewer()?, &self.call.0).await
    }
}

/// A participant of a call was added or changed.
#[derive(SimpleObject)]
pub struct ParticipantUpserted {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The current state of the participant.
    participant: CallParticipant,
    /// The roles of the feed's own participant in the negotiation with this participant.
    /// Null for the own participant, for a participant who is not in the call, and in a feed without a participant.
    negotiation: Option<Negotiation>,
}

/// A signal was sent to the feed's own participant.
#[derive(SimpleObject)]
pub struct SignalReceived {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The signal.
    signal: Signal,
}

/// The feed of a call is complete: this is its last event.
#[derive(SimpleObject)]
pub struct CallFeedEnded {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The reason why the feed ended.
    reason: CallFeedEnd,
}

/// The session ends in less than a minute unless `renewSession` extends it.
/// Sent once per token.
#[derive(SimpleObject)]
pub struct SessionExpiring {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The time at which the session ends.
    expires_at: DateTime,
}

/// All earlier changes were sent.
/// The following events are live.
#[derive(SimpleObject)]
pub struct FeedCaughtUp {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
}

/// The feed cannot bring the client's state up to date.
/// Refetch the visible data. Live events follow.
#[derive(SimpleObject)]
pub struct FeedReset {
    /// The cursor of the event.
    /// Pass it as `after` to resume the feed after the event.
    cursor: String,
    /// The reason for the reset.
    reason: FeedResetReason,
}

/// An event of a chat's feed.
#[derive(Union)]
pub enum ChatFeedEvent {
    /// The chat changed.
    ChatUpserted(ChatUpserted),
    /// A message was added or changed.
    MessageUpserted(MessageUpserted),
    /// A member was added or changed.
    MemberUpserted(MemberUpserted),
    /// A user is no longer a member.
    MemberRemoved(MemberRemoved),
    /// All earlier changes were sent.
    FeedCaughtUp(FeedCaughtUp),
    /// The client has to refetch.
    FeedReset(FeedReset),
}

impl From<feeds::chat::FeedEvent> for ChatFeedEvent {
    fn from(event: feeds::chat::FeedEvent) -> Self {
        match event {
            feeds::chat::FeedEvent::Change { cursor, change, .. } => {
                let cursor = cursor.encode();
                match change {
                    Change::Chat(chat) => Self::ChatUpserted(ChatUpserted { cursor, chat }),
                    Change::Message(message, change) => {
                        Self::MessageUpserted(MessageUpserted { cursor, message, change })
                    }
                    Change::Member(member) if member.is_active() => {
                        Self::MemberUpserted(MemberUpserted { cursor, member: (*member).clone() })
                    }
                    Change::Member(member) => Self::MemberRemoved(MemberRemoved {
                        cursor,
                        chat_id: member.chat.to_string().into(),
                        user_id: member.user.to_string().into(),
                        member_id: member.id().to_string().into(),
                    }),
                }
            }
            feeds::chat::FeedEvent::CaughtUp { cursor } => Self::FeedCaughtUp(FeedCaughtUp { cursor: cursor.encode() }),
            feeds::chat::FeedEvent::Reset { cursor, reason } => {
                Self::FeedReset(FeedReset { cursor: cursor.encode(), reason: reason.into() })
            }
        }
    }
}

/// An event of the viewer's inbox: their chat list, calls and notifications.
#[derive(Union)]
pub enum InboxFeedEvent {
    /// A chat of the viewer was added or changed.
    ChatUpserted(ChatUpserted),
    /// The viewer is no longer a member of a chat.
    ChatRemoved(ChatRemoved),
    /// A call rings for the viewer, or a call in which the viewer is or was a participant changed.
    CallUpserted(CallUpserted),
    /// A notification of the viewer was added or read.
    NotificationUpserted(NotificationUpserted),
    /// The session ends soon.
    SessionExpiring(SessionExpiring),
    /// All earlier changes were sent.
    FeedCaughtUp(FeedCaughtUp),
    /// The client has to refetch.
    FeedReset(FeedReset),
}

impl From<feeds::inbox::InboxEvent> for InboxFeedEvent {
    fn from(event: feeds::inbox::InboxEvent) -> Self {
        let cursor = event.cursor.encode();
        match event.kind {
            InboxEventKind::Chat(chat) => Self::ChatUpserted(ChatUpserted { cursor, chat }),
            InboxEventKind::ChatRemoved(chat) => {
                Self::ChatRemoved(ChatRemoved { cursor, chat_id: chat.to_string().into() })
            }
            InboxEventKind::Notification(notification) => {
                Self::NotificationUpserted(NotificationUpserted { cursor, notification })
            }
            InboxEventKind::Call(call) => Self::CallUpserted(CallUpserted { cursor, call: Call(call) }),
            InboxEventKind::SessionExpiring(expires_at) => {
                Self::SessionExpiring(SessionExpiring { cursor, expires_at: DateTime(expires_at) })
            }
            InboxEventKind::CaughtUp => Self::FeedCaughtUp(FeedCaughtUp { cursor }),
            InboxEventKind::Reset(reason) => Self::FeedReset(FeedReset { cursor, reason: reason.into() }),
        }
    }
}

/// An event of a call's feed.
#[derive(Union)]
pub enum CallFeedEvent {
    /// The call changed.
    CallUpserted(CallUpserted),
    /// A participant was added or changed.
    ParticipantUpserted(ParticipantUpserted),
    /// A signal was sent to the feed's own participant.
    SignalReceived(SignalReceived),
    /// All earlier changes were sent.
    FeedCaughtUp(FeedCaughtUp),
    /// The client has to join the call again.
    FeedReset(FeedReset),
    /// The feed is complete.
    CallFeedEnded(CallFeedEnded),
}

impl From<feeds::call::CallEvent> for CallFeedEvent {
    fn from(event: feeds::call::CallEvent) -> Self {
        let cursor = event.cursor.encode();
        match event.kind {
            CallEventKind::Call(call) => Self::CallUpserted(CallUpserted { cursor, call: Call(call) }),
            CallEventKind::Participant(call, participant, negotiation) => {
                Self::ParticipantUpserted(ParticipantUpserted {
                    cursor,
                    participant: CallParticipant::from_call(&call, &participant),
                    negotiation: negotiation.map(Into::into),
                })
            }
            CallEventKind::Signal(call, from, signal) => {
                Self::SignalReceived(SignalReceived { cursor, signal: Signal::from_signal(&call, &from, signal) })
            }
            CallEventKind::CaughtUp => Self::FeedCaughtUp(FeedCaughtUp { cursor }),
            CallEventKind::Reset(reason) => Self::FeedReset(FeedReset { cursor, reason: reason.into() }),
            CallEventKind::Ended(reason) => Self::CallFeedEnded(CallFeedEnded { cursor, reason: reason.into() }),
        }
    }
}
