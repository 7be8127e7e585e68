use async_graphql::{Context, Enum, Object, SimpleObject};

use crate::domain::messages;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::call::Call;
use crate::graphql::schema::types::user::User;

/// A place on the earth.
#[derive(SimpleObject)]
pub struct Location {
    /// Degrees north of the equator, by WGS 84: -90 to 90.
    latitude: f64,
    /// Degrees east of the prime meridian, by WGS 84: -180 to 180.
    longitude: f64,
    /// What the place is called.
    name: Option<String>,
    /// Where it is, for people to read.
    address: Option<String>,
}

impl From<messages::Location> for Location {
    fn from(location: messages::Location) -> Self {
        let messages::Location { latitude, longitude, name, address } = location;
        Self { latitude, longitude, name, address }
    }
}

/// What a message of the server's own tells of.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "messages::SystemMessageKind")]
pub enum SystemNoticeKind {
    /// The actor made the chat; `detail` is its title.
    ChatCreated,
    /// The actor brought the subject in; one who came by themselves is both.
    MemberAdded,
    /// The actor took the subject out.
    MemberRemoved,
    /// The subject left.
    MemberLeft,
    /// The subject has another role, which `detail` names.
    RoleChanged,
    /// Details of the chat changed; `detail` names their fields, with commas between.
    DetailsChanged,
    /// A message was pinned; `detail` is its id.
    MessagePinned,
    /// The chat welcomes its members; `detail` is its title.
    Welcome,
    /// The actor started `call`.
    CallStarted,
    /// The actor's `call` ended: it was answered, or everyone declined.
    CallEnded,
    /// Nobody answered the actor's `call`.
    CallMissed,
}

pub struct SystemNotice(pub messages::SystemMessage);

/// What happened to a chat.
#[Object]
impl SystemNotice {
    /// What it was.
    async fn kind(&self) -> SystemNoticeKind {
        self.0.kind.into()
    }

    /// Who did it.
    async fn actor(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.actor.as_ref()?).await)
    }

    /// To whom.
    async fn subject(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.subject.as_ref()?).await)
    }

    /// The call, where it is about one that is still there.
    async fn call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        Call::participant_index(ctx, self.0.call?).await.transpose()
    }

    /// More of it, as the kind says.
    async fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
}

pub struct ForwardedFrom(pub messages::Forwarded);

/// Where a message was first said, as it was when it was forwarded.
#[Object]
impl ForwardedFrom {
    /// Who said it, where they are still of the organisation.
    async fn sender(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        match &self.0.sender {
            Some(sender) => Ok(ctx.loaders().load_one(sender.clone()).await?.map(User)),
            None => Ok(None),
        }
    }

    /// The title that its chat had; null where it had none.
    async fn chat_title(&self) -> Option<&str> {
        self.0.chat_title.as_deref()
    }

    /// When it was said.
    async fn sent_at(&self) -> DateTime {
        DateTime(self.0.sent_at)
    }
}
