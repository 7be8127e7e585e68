use async_graphql::{Context, ID, Interface};

use crate::domain::ids::NodeId;
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::call::{Call, CallParticipant};
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::member::ChatMember;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::report::Report;
use crate::graphql::schema::types::user::{Organization, User};

/// Anything with an id of its own.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Opaque, and the thing's for ever."))]
pub enum Node {
    /// A conversation.
    Chat(Chat),
    /// A message.
    Message(Message),
    /// A membership.
    ChatMember(ChatMember),
    /// A call.
    Call(Call),
    /// Somebody in a call.
    CallParticipant(CallParticipant),
    /// Something that the viewer is told of.
    Notification(Notification),
    /// A message that somebody reported.
    Report(Report),
    /// A person.
    User(User),
    /// An organisation.
    Organization(Organization),
}

/// What an id stands for, if the viewer may see it.
pub async fn node(ctx: &Context<'_>, id: &str) -> Result<Option<Node>> {
    let viewer = ctx.viewer()?;
    for reading in NodeId::candidates(id) {
        let found = match reading {
            NodeId::Chat(id) => Chat::find(ctx, id).await?.map(Node::Chat),
            NodeId::Message(id) => Message::load(ctx, id).await?.map(Node::Message),
            NodeId::Member(id) => ctx.loaders().load_one(id).await?.map(ChatMember).map(Node::ChatMember),
            NodeId::Call(id) => Call::participant_index(ctx, id).await?.map(Node::Call),
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
