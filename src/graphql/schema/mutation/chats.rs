//! Mutations of chats.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use crate::domain::chats::{ChatDetails, Policy, Resource};
use crate::domain::ids::Nonce;
use crate::domain::members::MemberList;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_id, parse_user_ids};
use crate::graphql::schema::scalars::{Unchecked, Url};
use crate::graphql::schema::types::chat::{ChatKind, ChatRuleInput, GroupCategory, HistoryForNewMembers};
use crate::graphql::schema::types::member::ChatRole;
use crate::graphql::schema::types::objects::Chat;
use crate::service;
use crate::service::chats::ChatDraft;

/// The input of `openDirectChat`.
#[derive(InputObject)]
struct OpenDirectChatInput {
    /// The id of the other user, or that of the viewer to open the viewer's own notes.
    user_id: ID,
}

/// The input of `createChat`.
#[derive(InputObject)]
struct CreateChatInput {
    /// The kind of the chat: `GROUP` or `CHANNEL`.
    kind: ChatKind,
    /// The title: 1 to 200 characters on one line.
    title: String,
    /// The description, at most 2,000 characters.
    description: Option<String>,
    /// The URL of the chat's picture.
    avatar_url: Option<Unchecked<Url>>,
    /// The category of a group.
    /// Not allowed for a channel.
    category: Option<GroupCategory>,
    /// The ids of the first members, at most 100.
    /// The viewer need not be listed and becomes the owner.
    member_ids: Vec<ID>,
    /// The minimum roles that differ from the defaults, each for another action.
    policy: Option<Vec<ChatRuleInput>>,
    /// The messages that later members may read.
    /// Defaults to `ALL`.
    history_for_new_members: Option<HistoryForNewMembers>,
    /// An idempotency key chosen by the client, at most 128 characters on one line.
    /// A repeated creation with the same key and content returns the first chat.
    nonce: Option<String>,
}

/// The input of `updateChat`.
/// A field that is not set keeps its value, and null clears a value that is optional.
#[derive(InputObject)]
struct UpdateChatInput {
    /// The id of the chat.
    chat_id: ID,
    /// The title: 1 to 200 characters on one line.
    /// Cannot be null.
    title: MaybeUndefined<String>,
    /// The description, at most 2,000 characters.
    description: MaybeUndefined<String>,
    /// The URL of the chat's picture.
    avatar_url: MaybeUndefined<Unchecked<Url>>,
    /// The category of a group.
    /// Not allowed for a channel.
    category: MaybeUndefined<GroupCategory>,
    /// The minimum roles to change, each for another action, which requires the right to `CHANGE_ROLES`.
    /// Actions that are not listed keep their minimum role. Null restores all defaults.
    policy: MaybeUndefined<Vec<ChatRuleInput>>,
    /// The number of seconds that a member must wait between two messages or edits, 0 to 21,600.
    /// Zero or null turns slow mode off.
    slow_mode_seconds: MaybeUndefined<i32>,
    /// The messages that later members may read, which requires the right to `CHANGE_ROLES`.
    /// Present members keep what they may read. Null restores `ALL`.
    history_for_new_members: MaybeUndefined<HistoryForNewMembers>,
}

/// The input of `ensureResourceChat`.
#[derive(InputObject)]
struct EnsureResourceChatInput {
    /// The resource that the chat belongs to.
    resource: ChatResourceInput,
    /// The title of a new chat: 1 to 200 characters on one line.
    /// An existing chat keeps its title.
    title: String,
    /// The ids of the members, at most 1,000.
    /// Members that are not listed are removed, owners included. The viewer is a member only if listed, and becomes the
    /// owner of a new chat.
    member_ids: Vec<ID>,
    /// The roles to set, each for a different user of `memberIds`.
    /// All other members keep their role, and new ones become `MEMBER`.
    roles: Option<Vec<MemberRoleInput>>,
}

/// A role to set for a member.
#[derive(InputObject)]
struct MemberRoleInput {
    /// The id of the user.
    user_id: ID,
    /// The role.
    role: ChatRole,
}

/// A reference to an object of the host application.
#[derive(InputObject)]
struct ChatResourceInput {
    /// The type of the object in the host application: 1 to 255 characters on one line.
    #[graphql(name = "type")]
    kind: String,
    /// The id of the object in the host application: 1 to 255 characters on one line.
    id: String,
}

/// The input of `archiveChat`.
#[derive(InputObject)]
struct ArchiveChatInput {
    /// The id of the chat.
    chat_id: ID,
    /// True archives the chat, false restores it.
    archived: bool,
}

/// The input of `deleteChat`.
#[derive(InputObject)]
struct DeleteChatInput {
    /// The id of the chat.
    chat_id: ID,
}

/// The result of `deleteChat`.
#[derive(SimpleObject)]
struct DeleteChatPayload {
    /// The id of the deleted chat.
    /// It is never used again.
    deleted_chat_id: ID,
}

/// The chat after a mutation.
#[derive(SimpleObject)]
pub struct ChatPayload {
    /// The chat.
    pub chat: Chat,
}

/// The mutations of this module.
#[derive(Default)]
pub struct ChatMutation;

#[Object]
impl ChatMutation {
    /// Returns the direct chat of the viewer and another user, and creates it if it does not exist.
    /// For the viewer's own id, it is a chat for personal notes, whose only member is the viewer. Fails with
    /// `NOT_FOUND` if the user is unknown to the organisation; `extensions.ids` has the unknown id.
    async fn open_direct_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `openDirectChat`.")] input: OpenDirectChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(open_direct(ctx, input).await)
    }

    /// Creates a group or a channel.
    /// Fails with `FORBIDDEN` if the token lacks `chat.create_group`, with `NOT_FOUND` if a member is unknown to the
    /// organisation (`extensions.ids` has the unknown ids), and with `CONFLICT` if the nonce was used for other content.
    async fn create_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `createChat`.")] input: CreateChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(create(ctx, input).await)
    }

    /// Returns the group of a resource with exactly the given members, and creates it if it does not exist.
    /// Ends the bans of given members. Fails with `FORBIDDEN` if the token lacks `organization.admin`, and with
    /// `NOT_FOUND` if a member is unknown to the organisation.
    async fn ensure_resource_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `ensureResourceChat`.")] input: EnsureResourceChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(ensure_resource(ctx, input).await)
    }

    /// Archives a chat for all members, or restores it.
    /// An archived chat is read-only. Fails with `FORBIDDEN` if the viewer may not do `EDIT_DETAILS` in the chat.
    async fn archive_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `archiveChat`.")] input: ArchiveChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(archive(ctx, input).await)
    }

    /// Deletes a chat with all of its messages permanently.
    /// Its feeds end. Fails with `FORBIDDEN` if the viewer may not do `DELETE_CHAT` in the chat.
    async fn delete_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `deleteChat`.")] input: DeleteChatInput,
    ) -> Option<Result<DeleteChatPayload>> {
        Some(delete(ctx, input).await)
    }

    /// Changes the details of a chat.
    /// Fails with `FORBIDDEN` if the viewer may not do `EDIT_DETAILS` or, for a new policy or another history for new
    /// members, `CHANGE_ROLES`.
    async fn update_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `updateChat`.")] input: UpdateChatInput,
    ) -> Option<Result<ChatPayload>> {
        Some(update(ctx, input).await)
    }
}

async fn open_direct(ctx: &Context<'_>, input: OpenDirectChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let other = parse_user_id("userId", &input.user_id)?;
    let chat = service::chats::open_direct(ctx.app(), viewer, other).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn create(ctx: &Context<'_>, input: CreateChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let title = ChatDetails::checked_title(&input.title)?;
    let description = input.description.as_deref().map(ChatDetails::checked_description).transpose()?;
    let draft = ChatDraft {
        kind: input.kind.into(),
        details: ChatDetails {
            title: Some(title),
            description: description.flatten(),
            avatar_url: input.avatar_url.map(|url| url.check("avatarUrl")).transpose()?,
            category: input.category.map(Into::into),
            policy: checked_policy(input.policy.unwrap_or_default())?,
            slow_mode_seconds: 0,
            history_for_new_members: input.history_for_new_members.map(Into::into).unwrap_or_default(),
        },
        members: parse_user_ids("memberIds", &input.member_ids)?,
        nonce: input.nonce.as_deref().map(Nonce::parse).transpose()?,
    };
    let chat = service::chats::create(ctx.app(), viewer, draft).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn ensure_resource(ctx: &Context<'_>, input: EnsureResourceChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let resource = Resource::checked(&input.resource.kind, &input.resource.id)?;
    let title = ChatDetails::checked_title(&input.title)?;
    let roles = input.roles.unwrap_or_default().into_iter();
    let roles = roles.map(|input| Ok((parse_user_id("roles", &input.user_id)?, input.role.into())));
    let list = MemberList::checked(parse_user_ids("memberIds", &input.member_ids)?, roles.collect::<Result<_>>()?)?;
    let chat = service::resource_chats::ensure(ctx.app(), viewer, resource, title, list).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn archive(ctx: &Context<'_>, input: ArchiveChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let chat = service::chats::set_archived(ctx.app(), viewer, chat, input.archived).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

async fn delete(ctx: &Context<'_>, input: DeleteChatInput) -> Result<DeleteChatPayload> {
    let viewer = ctx.viewer()?;
    service::chats::delete(ctx.app(), viewer, parse_id(&input.chat_id, "chat")?).await?;
    Ok(DeleteChatPayload { deleted_chat_id: input.chat_id })
}

async fn update(ctx: &Context<'_>, input: UpdateChatInput) -> Result<ChatPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let change = move |details: &mut ChatDetails| {
        match input.title {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => return Err(Error::bad_input("title", "must not be null")),
            MaybeUndefined::Value(title) => details.title = Some(ChatDetails::checked_title(&title)?),
        }
        match input.description {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => details.description = None,
            MaybeUndefined::Value(description) => {
                details.description = ChatDetails::checked_description(&description)?;
            }
        }
        if !input.avatar_url.is_undefined() {
            details.avatar_url = input.avatar_url.take().map(|url| url.check("avatarUrl")).transpose()?;
        }
        if !input.category.is_undefined() {
            details.category = input.category.take().map(Into::into);
        }
        match input.policy {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => details.policy = Policy::default(),
            MaybeUndefined::Value(rules) => details.policy.0.extend(checked_policy(rules)?.0),
        }
        if !input.slow_mode_seconds.is_undefined() {
            details.set_slow_mode(input.slow_mode_seconds.take().unwrap_or_default())?;
        }
        if !input.history_for_new_members.is_undefined() {
            details.history_for_new_members = input.history_for_new_members.take().map(Into::into).unwrap_or_default();
        }
        Ok(())
    };
    let chat = service::chats::update(ctx.app(), viewer, chat, change).await?;
    Ok(ChatPayload { chat: Chat(chat) })
}

fn checked_policy(rules: Vec<ChatRuleInput>) -> Result<Policy> {
    Policy::checked(rules.into_iter().map(|rule| (rule.action.into(), rule.role.into())))
}
