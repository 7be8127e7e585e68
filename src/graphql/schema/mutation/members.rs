use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use crate::domain::members::{MAX_DRAFT_CHARS, MemberPreferences, Role};
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_ids};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::member::{ChatMember, ChatRole, NotificationLevel};
use crate::service;

/// Whom to bring in.
#[derive(InputObject)]
struct AddMembersInput {
    /// The chat.
    chat_id: ID,
    /// Who, 1 to 100 people; those who are in already stay as they are.
    user_ids: Vec<ID>,
    /// In which role; MEMBER where left out. More needs the right to change roles; OWNER is given by
    /// `changeMemberRole`.
    role: Option<ChatRole>,
}

/// Whom to take out.
#[derive(InputObject)]
struct RemoveMemberInput {
    /// The chat.
    chat_id: ID,
    /// Who; somebody whom the viewer outranks.
    user_id: ID,
}

/// Which chat to leave.
#[derive(InputObject)]
struct LeaveChatInput {
    /// The chat. A last owner's place goes to the highest of the others.
    chat_id: ID,
}

/// Which channel to join.
#[derive(InputObject)]
struct JoinChannelInput {
    /// The channel.
    chat_id: ID,
}

/// A role to give.
#[derive(InputObject)]
struct ChangeMemberRoleInput {
    /// The chat.
    chat_id: ID,
    /// To whom; somebody whom the viewer outranks, or themselves to step down.
    user_id: ID,
    /// The role: at most the viewer's own. A chat keeps an owner.
    role: ChatRole,
}

/// Whom to silence.
#[derive(InputObject)]
struct SilenceMemberInput {
    /// The chat.
    chat_id: ID,
    /// Who; somebody whom the viewer outranks.
    user_id: ID,
    /// Until when, in the future. Null or left out lets them speak again.
    until: Option<DateTime>,
}

/// What the viewer sets for themselves in a chat. A field left out stays, and null is the default.
#[derive(InputObject)]
struct UpdateMyMembershipInput {
    /// The chat.
    chat_id: ID,
    /// Of what the chat notifies.
    notification_level: MaybeUndefined<NotificationLevel>,
    /// Until when the chat is muted; null ends it.
    muted_until: MaybeUndefined<DateTime>,
    /// Whether the chat is to stand above others in a list.
    pinned: MaybeUndefined<bool>,
    /// What the viewer began to write: at most 10,000 characters; null or nothing forgets it.
    draft: MaybeUndefined<String>,
}

/// The chat, and those who were to be in.
#[derive(SimpleObject)]
struct MembersPayload {
    /// The chat.
    chat: Chat,
    /// Their memberships, by the id of the person.
    members: Vec<ChatMember>,
}

/// A membership after a change.
#[derive(SimpleObject)]
pub struct MemberPayload {
    /// The membership.
    pub member: ChatMember,
}

/// Who is no longer in.
#[derive(SimpleObject)]
struct RemoveMemberPayload {
    /// The chat; null for one who has left it.
    chat: Option<Chat>,
    /// Who is no longer in.
    removed_user_id: ID,
}

#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Brings people into a chat.
    async fn add_members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to bring in.")] input: AddMembersInput,
    ) -> Option<Result<MembersPayload>> {
        Some(add(ctx, input).await)
    }

    /// Takes somebody out of a chat. Their feeds of it end.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to take out.")] input: RemoveMemberInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(remove(ctx, input).await)
    }

    /// Leaves a chat. A direct chat can't be left.
    async fn leave_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which chat.")] input: LeaveChatInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(leave(ctx, input).await)
    }

    /// Comes into a channel of the organisation.
    async fn join_channel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which channel.")] input: JoinChannelInput,
    ) -> Option<Result<MemberPayload>> {
        Some(join(ctx, input).await)
    }

    /// Gives somebody another role in a chat.
    async fn change_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which role, to whom.")] input: ChangeMemberRoleInput,
    ) -> Option<Result<MemberPayload>> {
        Some(change_role(ctx, input).await)
    }

    /// Lets somebody say nothing in a chat until a moment: no messages, edits, reactions or votes.
    async fn silence_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom, and until when.")] input: SilenceMemberInput,
    ) -> Option<Result<MemberPayload>> {
        Some(silence(ctx, input).await)
    }

    /// Changes what the viewer set for themselves in a chat, which nobody else sees.
    async fn update_my_membership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to set.")] input: UpdateMyMembershipInput,
    ) -> Option<Result<MemberPayload>> {
        Some(update_membership(ctx, input).await)
    }
}

async fn add(ctx: &Context<'_>, input: AddMembersInput) -> Result<MembersPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let role: Role = input.role.map_or(Role::Member, Into::into);
    if role == Role::Owner {
        return Err(Error::bad_input("role", "must be less than OWNER"));
    }
    let (chat, members) =
        service::members::add(ctx.app(), viewer, chat, parse_user_ids(&input.user_ids)?, role).await?;
    Ok(MembersPayload { chat: Chat(chat), members: members.into_iter().map(ChatMember).collect() })
}

async fn remove(ctx: &Context<'_>, input: RemoveMemberInput) -> Result<RemoveMemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let user = parse_id(&input.user_id, "member")?;
    let chat = service::members::remove(ctx.app(), viewer, chat, user).await?;
    Ok(RemoveMemberPayload { chat: Some(Chat(chat)), removed_user_id: input.user_id })
}

async fn leave(ctx: &Context<'_>, input: LeaveChatInput) -> Result<RemoveMemberPayload> {
    let viewer = ctx.viewer()?;
    service::members::leave(ctx.app(), viewer, parse_id(&input.chat_id, "chat")?).await?;
    Ok(RemoveMemberPayload { chat: None, removed_user_id: viewer.id().to_string().into() })
}

async fn join(ctx: &Context<'_>, input: JoinChannelInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let member = service::members::join(ctx.app(), viewer, parse_id(&input.chat_id, "chat")?).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn change_role(ctx: &Context<'_>, input: ChangeMemberRoleInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let (chat, user) = (parse_id(&input.chat_id, "chat")?, parse_id(&input.user_id, "member")?);
    let member = service::members::change_role(ctx.app(), viewer, chat, user, input.role.into()).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn silence(ctx: &Context<'_>, input: SilenceMemberInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let (chat, user) = (parse_id(&input.chat_id, "chat")?, parse_id(&input.user_id, "member")?);
    let until = input.until.map(|until| until.0);
    let member = service::members::silence(ctx.app(), viewer, chat, user, until).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn update_membership(ctx: &Context<'_>, input: UpdateMyMembershipInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let change = move |own: &mut MemberPreferences| {
        if !input.notification_level.is_undefined() {
            own.notification_level = input.notification_level.take().map(Into::into).unwrap_or_default();
        }
        if !input.muted_until.is_undefined() {
            own.muted_until = input.muted_until.take().map(|until| until.0);
        }
        if !input.pinned.is_undefined() {
            own.pinned = input.pinned.take().unwrap_or_default();
        }
        if !input.draft.is_undefined() {
            let draft = input.draft.take().filter(|draft| !draft.trim().is_empty());
            own.draft = draft.map(|draft| text::validate_block("draft", &draft, MAX_DRAFT_CHARS)).transpose()?;
        }
        Ok(())
    };
    let member = service::members::update_preferences(ctx.app(), viewer, chat, change).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}
