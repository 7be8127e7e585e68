use async_graphql::{Enum, ID, Interface, Object, SimpleObject, Union};
use std::sync::Arc;

use crate::domain::chat_events::Change;
use crate::domain::{chat_events, chats, members, messages, notifications};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::call::{Call, CallParticipant, Negotiation, Signal};
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::member::ChatMember;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::notification::Notification;
use crate::realtime::feeds;
use crate::realtime::feeds::call::CallEventKind;
use crate::realtime::feeds::inbox::InboxEventKind;

/// What happened to a message.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chat_events::MessageChange")]
pub enum MessageChange {
    /// It was sent.
    Added,
    /// Its text was edited.
    Edited,
    /// It was deleted.
    Deleted,
    /// A reaction was given or taken back.
    Reactions,
    /// It was pinned, or taken off.
    Pin,
    /// Somebody voted in its poll, or the poll was closed.
    Poll,
    /// A reply came into its thread, or was deleted there.
    Thread,
    /// Caught up after a gap: one or several of the others.
    Synced,
}

/// Why a feed can't go on from where the client is.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "feeds::chat::ResetReason")]
pub enum FeedResetReason {
    /// The cursor is none of this feed.
    CursorInvalid,
    /// More changed since than is told one by one.
    TooFarBehind,
    /// A fresh token allows other things than the one before.
    AccessChanged,
}

/// An event of a feed.
#[derive(Interface)]
#[graphql(field(name = "cursor", ty = "&String", desc = "To go on after this event: the feed's `after`."))]
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
    SessionExpiring(SessionExpiring),
    FeedCaughtUp(FeedCaughtUp),
    FeedReset(FeedReset),
}

pub struct ChatUpserted {
    cursor: String,
    chat: Arc<chats::Chat>,
}

/// The chat itself is new or changed; here is its state.
#[Object]
impl ChatUpserted {
    /// To go on after this event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The chat as it is now.
    async fn chat(&self) -> Chat {
        Chat((*self.chat).clone())
    }
}

pub struct MessageUpserted {
    cursor: String,
    message: Arc<messages::Message>,
    change: chat_events::MessageChange,
}

/// A message is new or changed; here is its state.
#[Object]
impl MessageUpserted {
    /// To go on after this event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The message as it is now.
    async fn message(&self) -> Message {
        Message(self.message.clone())
    }

    /// What happened to it.
    async fn change(&self) -> MessageChange {
        self.change.into()
    }
}

pub struct MemberUpserted {
    cursor: String,
    member: members::Member,
}

/// A member is new or changed; here is their state.
#[Object]
impl MemberUpserted {
    /// To go on after this event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The membership as it is now.
    async fn member(&self) -> ChatMember {
        ChatMember(self.member.clone())
    }
}

/// Somebody is no longer in.
#[derive(SimpleObject)]
pub struct MemberRemoved {
    /// To go on after this event.
    cursor: String,
    /// The chat that they were in.
    chat_id: ID,
    /// Who is no longer in.
    user_id: ID,
}

/// The viewer is no longer in a chat, or it was deleted.
#[derive(SimpleObject)]
pub struct ChatRemoved {
    /// To go on after this event.
    cursor: String,
    /// The chat.
    chat_id: ID,
}

pub struct NotificationUpserted {
    cursor: String,
    notification: notifications::Notification,
}

/// A notification is new, or was read; here is its state.
#[Object]
impl NotificationUpserted {
    /// To go on after this event.
    async fn cursor(&self) -> &String {
        &self.cursor
    }

    /// The notification as it is now.
    async fn notification(&self) -> Notification {
        Notification(self.notification.clone())
    }
}

/// A call is new or changed; here is its state.
#[derive(SimpleObject)]
pub struct CallUpserted {
    /// To go on after this event.
    cursor: String,
    /// The call as it is now.
    call: Call,
}

/// Somebody in the call is new or changed; here is their state.
#[derive(SimpleObject)]
pub struct ParticipantUpserted {
    /// To go on after this event.
    cursor: String,
    /// The participant as they are now.
    participant: CallParticipant,
    /// How the feed's own participant negotiates with this one; null for the own participant, for one who is
    /// not in, and in a feed without a participant.
    negotiation: Option<Negotiation>,
}

/// A signal to the feed's participant.
#[derive(SimpleObject)]
pub struct SignalReceived {
    /// To go on after this event.
    cursor: String,
    /// The signal.
    signal: Signal,
}

/// The token of this connection ends within a minute, and the connection with it.
#[derive(SimpleObject)]
pub struct SessionExpiring {
    /// To go on after this event.
    cursor: String,
    /// When it ends.
    expires_at: DateTime,
}

/// All that happened before is told; what follows happens now.
#[derive(SimpleObject)]
pub struct FeedCaughtUp {
    /// To go on after this event.
    cursor: String,
}

/// What the client holds can't be brought up to date: refetch, and go on from this cursor.
#[derive(SimpleObject)]
pub struct FeedReset {
    /// To go on after this event.
    cursor: String,
    /// Why.
    reason: FeedResetReason,
}

/// An event of a chat's feed.
#[derive(Union)]
pub enum ChatFeedEvent {
    /// The chat itself.
    ChatUpserted(ChatUpserted),
    /// A message.
    MessageUpserted(MessageUpserted),
    /// A member who is in.
    MemberUpserted(MemberUpserted),
    /// A member who is no longer in.
    MemberRemoved(MemberRemoved),
    /// All that happened before is told.
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

/// An event of all that concerns the viewer across chats.
#[derive(Union)]
pub enum InboxFeedEvent {
    /// A chat that the viewer is in.
    ChatUpserted(ChatUpserted),
    /// A chat that the viewer is no longer in.
    ChatRemoved(ChatRemoved),
    /// A call that rings for the viewer, or in which they have or had a part.
    CallUpserted(CallUpserted),
    /// One of the viewer's notifications.
    NotificationUpserted(NotificationUpserted),
    /// The connection's token ends soon.
    SessionExpiring(SessionExpiring),
    /// All that happened before is told.
    FeedCaughtUp(FeedCaughtUp),
    /// The client has to refetch.
    FeedReset(FeedReset),
}

impl From<feeds::inbox::InboxEvent> for InboxFeedEvent {
    fn from(feeds::inbox::InboxEvent { cursor, kind: news }: feeds::inbox::InboxEvent) -> Self {
        let cursor = cursor.encode();
        match news {
            InboxEventKind::Chat(chat) => Self::ChatUpserted(ChatUpserted { cursor, chat }),
            InboxEventKind::ChatRemoved(chat) => {
                Self::ChatRemoved(ChatRemoved { cursor, chat_id: chat.to_string().into() })
            }
            InboxEventKind::Notification(notification) => {
                Self::NotificationUpserted(NotificationUpserted { cursor, notification })
            }
            InboxEventKind::Call(call) => Self::CallUpserted(CallUpserted { cursor, call: Call(call) }),
            InboxEventKind::SessionExpiring(at) => {
                Self::SessionExpiring(SessionExpiring { cursor, expires_at: DateTime(at) })
            }
            InboxEventKind::CaughtUp => Self::FeedCaughtUp(FeedCaughtUp { cursor }),
            InboxEventKind::Reset(reason) => Self::FeedReset(FeedReset { cursor, reason: reason.into() }),
        }
    }
}

/// An event of a call.
#[derive(Union)]
pub enum CallFeedEvent {
    /// The call itself.
    CallUpserted(CallUpserted),
    /// Somebody in it.
    ParticipantUpserted(ParticipantUpserted),
    /// A signal to the feed's participant.
    SignalReceived(SignalReceived),
    /// All that happened before is told.
    FeedCaughtUp(FeedCaughtUp),
    /// The client has to begin anew.
    FeedReset(FeedReset),
}

impl From<feeds::call::CallEvent> for CallFeedEvent {
    fn from(feeds::call::CallEvent { cursor, kind: news }: feeds::call::CallEvent) -> Self {
        let cursor = cursor.encode();
        match news {
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
        }
    }
}
