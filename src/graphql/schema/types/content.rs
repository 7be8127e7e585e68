//! Content of messages other than text: locations, system notices, and the origin of forwarded messages.

use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::domain::messages;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::objects::{Call, User};

/// A geographic location.
#[derive(SimpleObject)]
pub struct Location {
    /// The latitude in degrees (WGS 84), from -90 to 90.
    /// Positive values are north.
    latitude: f64,
    /// The longitude in degrees (WGS 84), from -180 to 180.
    /// Positive values are east.
    longitude: f64,
    /// The name of the place.
    /// Null if the sender gave none.
    name: Option<Text<String>>,
    /// The postal address of the place.
    /// Null if the sender gave none.
    address: Option<Text<String>>,
}

impl From<messages::Location> for Location {
    fn from(location: messages::Location) -> Self {
        let messages::Location { latitude, longitude, name, address } = location;
        Self { latitude, longitude, name: name.map(Text), address: address.map(Text) }
    }
}

/// The event that a system message describes.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "messages::SystemMessageKind")]
pub enum SystemNoticeKind {
    /// The actor created the chat.
    /// `detail` is its title.
    ChatCreated,
    /// The actor added the subject.
    /// Both are the same user if the subject joined by themselves. If the subject left and joined within ten minutes,
    /// this event replaces that of the departure.
    MemberAdded,
    /// The actor removed the subject.
    MemberRemoved,
    /// The subject left.
    MemberLeft,
    /// The actor changed the role of the subject.
    /// `detail` is the new role.
    RoleChanged,
    /// The actor changed details of the chat.
    /// `changedFields` are the names of the fields, and `detail` is the new title if the title is one of them, otherwise
    /// their names, separated by commas.
    DetailsChanged,
    /// The actor pinned a message.
    /// `detail` is the id of the message.
    MessagePinned,
    /// The chat welcomes its members.
    /// `detail` is its title.
    Welcome,
    /// The actor started `call`.
    CallStarted,
    /// The `call` that the actor started ended after it was answered, or after everyone declined.
    CallEnded,
    /// The `call` that the actor started ended without an answer.
    CallMissed,
}

/// The type `SystemNotice`.
pub struct SystemNotice(pub messages::SystemMessage);

/// The content of a system message: an event in the chat.
#[Object]
impl SystemNotice {
    /// The kind of the event.
    async fn kind(&self) -> SystemNoticeKind {
        self.0.kind.into()
    }

    /// The user who caused the event.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.actor.as_ref()?).await)
    }

    /// The user whom the event affects.
    /// Null if the event affects no single user.
    async fn subject(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.subject.as_ref()?).await)
    }

    /// The call of an event about a call.
    /// Null for all other events.
    async fn call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        Call::find(ctx, self.0.call?).await.transpose()
    }

    /// Additional data, as documented for each kind.
    /// Null if the kind has none.
    async fn detail(&self) -> Option<Text<&str>> {
        self.0.detail.as_deref().map(Text)
    }

    /// The names of the fields of `Chat` that the event changed.
    /// Empty unless the kind is `DETAILS_CHANGED`.
    async fn changed_fields(&self) -> &[String] {
        &self.0.changed_fields
    }
}

/// The type `ForwardedFrom`.
pub struct ForwardedFrom(pub messages::Forwarded);

/// The origin of a forwarded message, as it was when the message was forwarded.
/// If a forwarded message is forwarded again, this is its first origin.
#[Object]
impl ForwardedFrom {
    /// The user who sent the original message.
    /// Null if the user is unknown.
    async fn sender(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match &self.0.sender {
            Some(sender) => Ok(ctx.loaders().load_one(sender.clone()).await?.map(User)),
            None => Ok(None),
        }
    }

    /// The title of the original chat.
    /// Null if the chat had no title.
    async fn chat_title(&self) -> Option<Text<&str>> {
        self.0.chat_title.as_deref().map(Text)
    }

    /// The time at which the original message was sent.
    async fn sent_at(&self) -> DateTime {
        DateTime(self.0.sent_at)
    }
}
