//! The interface `Node`, and the look-up of objects by id.

use async_graphql::{Context, ID, Interface};

use crate::domain::ids::NodeId;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::call::CallParticipant;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::objects::{Call, Chat, ChatMember, Message, User};
use crate::graphql::schema::types::report::Report;
use crate::graphql::schema::types::user::Organization;

/// An object with a globally unique id.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The id of the object: an opaque string that never changes."))]
pub enum Node {
    /// A chat.
    Chat(Chat),
    /// A message.
    Message(Message),
    /// A membership.
    ChatMember(ChatMember),
    /// A call.
    Call(Call),
    /// A participant of a call.
    CallParticipant(CallParticipant),
    /// A notification of the viewer.
    Notification(Notification),
    /// A report of a message.
    Report(Report),
    /// A user.
    User(User),
    /// An organisation.
    Organization(Organization),
}

/// Returns the object with the given id if it exists for the viewer.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`](crate::error::Error::Unauthenticated) without a viewer, and the errors of the
/// loaders.
pub async fn node(ctx: &Context<'_>, id: &str) -> Result<Option<Node>> {
    let viewer = ctx.viewer()?;
    for candidate in NodeId::candidates(id) {
        let found = match candidate {
            NodeId::Chat(id) => Chat::find(ctx, id).await?.map(Node::Chat),
            NodeId::Message(id) => Message::load(ctx, id).await?.map(Node::Message),
            NodeId::Member(id) => ctx.loaders().load_one(id).await?.map(ChatMember).map(Node::ChatMember),
            NodeId::Call(id) => Call::find(ctx, id).await?.map(Node::Call),
            NodeId::Participant(id) => CallParticipant::find(ctx, &id).await?.map(Node::CallParticipant),
            NodeId::Notification(id) => ctx.loaders().load_one(id).await?.map(Notification).map(Node::Notification),
            NodeId::Report(id) => ctx.loaders().load_one(id).await?.map(Report).map(Node::Report),
            NodeId::Organization(id) => {
                (id == *viewer.organization()).then_some(id).map(Organization).map(Node::Organization)
            }
            NodeId::User(id) => ctx.loaders().load_one(id).await?.map(User).map(Node::User),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
