use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use crate::domain::chats::{ChatDetails, Policy, Resource};
use crate::domain::ids::Nonce;
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_ids};
use crate::graphql::schema::scalars::Url;
use crate::graphql::schema::types::chat::{Chat, ChatKind, ChatRuleInput, GroupCategory};
use crate::service;
use crate::service::chats::ChatDraft;

/// Whom to talk with.
#[derive(InputObject)]
struct OpenDirectChatInput {
    /// The other person's id.
    user_id: ID,
}

/// A group or channel to make.
#[derive(InputObject)]
struct CreateChatInput {
    /// GROUP or CHANNEL.
    kind: ChatKind,
    /// Its name: 1 to 200 characters on one line.
    title: String,
    /// What it is about: at most 2,000 characters.
    description: Option<String>,
    /// Its picture.
    avatar_url: Option<Url>,
    /// What a group is for.
    category: Option<GroupCategory>,
    /// Who is in from the start, at most 100, beside the viewer, who becomes its owner.
    member_ids: Vec<ID>,
    /// The least role for actions, where it differs from the default.
    policy: Option<Vec<ChatRuleInput>>,
    /// A word of the client's, at most 128 characters: a creation repeated with it gives the first
    /// chat back.
    nonce: Option<String>,
}

/// What to change of a chat. A field left out stays, and null empties what may be empty.
#[derive(InputObject)]
struct UpdateChatInput {
    /// The chat.
    chat_id: ID,
    /// Its name: 1 to 200 characters on one line. Can't be emptied.
    title: MaybeUndefined<String>,
    /// What it is about: at most 2,000 characters.
    description: MaybeUndefined<String>,
    /// Its picture.
    avatar_url: MaybeUndefined<Url>,
    /// What a group is for.
    category: MaybeUndefined<GroupCategory>,
    /// The least role for these actions; needs the right to change roles. Others stay; null is all
    /// defaults.
    policy: MaybeUndefined<Vec<ChatRuleInput>>,
    /// Seconds that a member waits between two messages, 0 (off) to 21,600.
    slow_mode_seconds: MaybeUndefined<i32>,
}

/// An object of the host application whose chat is wanted.
#[derive(InputObject)]
struct EnsureResourceChatInput {
    /// The object.
    resource: ChatResourceInput,
    /// The chat's name where it is made: 1 to 200 characters on one line. A chat that is there keeps
    /// its own.
    title: String,
    /// Who is to be in, at most 1,000 people. The viewer who makes the chat is its owner; who isn't
    /// named is taken out, but for owners.
    member_ids: Vec<ID>,
}

/// An object of the host application.
#[derive(InputObject)]
struct ChatResourceInput {
    /// What kind of object it is, in the host's words: 1 to 255 characters.
    #[graphql(name = "type")]
    kind: String,
    /// Its id at the host: 1 to 255 characters.
    id: String,
}

/// A chat to put away, or to take back.
#[derive(InputObject)]
struct ArchiveChatInput {
    /// The chat.
    chat_id: ID,
    /// True puts it away, false takes it back.
    archived: bool,
}

/// A chat to delete.
#[derive(InputObject)]
struct DeleteChatInput {
    /// The chat.
    chat_id: ID,
}

/// What was deleted.
#[derive(SimpleObject)]
struct DeleteChatPayload {
    /// The chat's id, which is nothing's any more.
    deleted_chat_id: ID,
}

/// The chat after a change.
#[derive(SimpleObject)]
pub struct ChatPayload {
    /// The chat.
    pub chat: Chat,
}

#[derive(Default)]
pub struct ChatMutation;

#[Object]
impl ChatMutation {
    /// The one direct chat with another person, made where there is none yet.
    async fn open_direct_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to talk with.")] input: OpenDirectChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(open_direct(ctx, input).await)
    }

    /// Makes a group or a channel.
    async fn create_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to make.")] input: CreateChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(create(ctx, input).await)
    }

    /// The one chat of an object of the host application, made where there is none, with just these
    /// people in. Bringing people in and taking them out of a chat that is there needs the rights to
    /// it, or the permission ORGANIZATION_ADMIN.
    async fn ensure_resource_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose chat.")] input: EnsureResourceChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(ensure_resource(ctx, input).await)
    }

    /// Puts a chat away for all, or takes it back; needs the right to edit details. An archived chat is
    /// read, not written.
    async fn archive_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which chat.")] input: ArchiveChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(archive(ctx, input).await)
    }

    /// Deletes a chat with all that was said in it, for ever. Its feeds end.
    async fn delete_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which chat.")] input: DeleteChatInput,
    ) -> Option<Result<DeleteChatPayload>> {
        Some(delete(ctx, input).await)
    }

    /// Changes a chat's details.
    async fn update_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: UpdateChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(update(ctx, input).await)
    }
}

async fn open_direct(ctx: &Context<'_>, input: OpenDirectChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let other = parse_id(&input.user_id, "user")?;
    let chat = service::chats::open_direct(ctx.app(), viewer, other).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn create(ctx: &Context<'_>, input: CreateChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let draft = ChatDraft {
        kind: input.kind.into(),
        details: ChatDetails {
            title: Some(validate_title(&input.title)?),
            description: input.description.as_deref().map(validate_description).transpose()?.flatten(),
            avatar_url: input.avatar_url.map(|url| url.0),
            category: input.category.map(Into::into),
            policy: Policy(policy_rules(input.policy.unwrap_or_default()).collect()),
            slow_mode_seconds: 0,
        },
        members: parse_user_ids(&input.member_ids)?,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
    };
    let chat = service::chats::create(ctx.app(), viewer, draft).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn ensure_resource(ctx: &Context<'_>, input: EnsureResourceChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let resource = Resource {
        kind: text::validate_line("resource.type", &input.resource.kind, Resource::MAX_CHARS)?,
        id: text::validate_line("resource.id", &input.resource.id, Resource::MAX_CHARS)?,
    };
    let members = parse_user_ids(&input.member_ids)?;
    let chat =
        service::chats::ensure_resource_chat(ctx.app(), viewer, resource, validate_title(&input.title)?, members)
            .await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn archive(ctx: &Context<'_>, input: ArchiveChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let id = parse_id(&input.chat_id, "chat")?;
    let chat = service::chats::set_archived(ctx.app(), viewer, id, input.archived).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn delete(ctx: &Context<'_>, input: DeleteChatInput) -> Result<DeleteChatPayload> {
    let viewer = ctx.viewer()?;
    service::chats::delete(ctx.app(), viewer, parse_id(&input.chat_id, "chat")?).await?;
    Ok(DeleteChatPayload { deleted_chat_id: input.chat_id })
}

async fn update(ctx: &Context<'_>, input: UpdateChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let id = parse_id(&input.chat_id, "chat")?;
    let change = move |details: &mut ChatDetails| {
        match input.title {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => return Err(Error::bad_input("title", "can't be emptied")),
            MaybeUndefined::Value(text) => details.title = Some(validate_title(&text)?),
        }
        match input.description {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => details.description = None,
            MaybeUndefined::Value(text) => details.description = validate_description(&text)?,
        }
        match input.avatar_url {
            MaybeUndefined::Undefined => {}
            other => details.avatar_url = other.take().map(|url| url.0),
        }
        match input.category {
            MaybeUndefined::Undefined => {}
            other => details.category = other.take().map(Into::into),
        }
        match input.policy {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => details.policy = Policy::default(),
            MaybeUndefined::Value(changed) => details.policy.0.extend(policy_rules(changed)),
        }
        match input.slow_mode_seconds {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => details.slow_mode_seconds = 0,
            MaybeUndefined::Value(seconds) if (0..=ChatDetails::MAX_SLOW_MODE_SECONDS).contains(&seconds) => {
                details.slow_mode_seconds = seconds;
            }
            MaybeUndefined::Value(_) => {
                let range = format!("must be from 0 to {}", ChatDetails::MAX_SLOW_MODE_SECONDS);
                return Err(Error::bad_input("slowModeSeconds", range));
            }
        }
        Ok(())
    };
    let chat = service::chats::update(ctx.app(), viewer, id, change).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

fn validate_title(text: &str) -> Result<String> {
    text::validate_line("title", text, ChatDetails::MAX_TITLE_CHARS)
}

/// An empty description is none.
fn validate_description(text: &str) -> Result<Option<String>> {
    match text.trim() {
        "" => Ok(None),
        text => text::validate_block("description", text, ChatDetails::MAX_DESCRIPTION_CHARS).map(Some),
    }
}

fn policy_rules(
    rules: Vec<ChatRuleInput>,
) -> impl Iterator<Item = (crate::domain::chats::ChatAction, crate::domain::members::Role)> {
    rules.into_iter().map(|rule| (rule.action.into(), rule.role.into()))
}
