//! Mutations of memberships.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, SimpleObject};

use crate::domain::bans;
use crate::domain::members::{MemberPreferences, Role};
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::{parse_id, parse_user_ids};
use crate::graphql::schema::scalars::{DateTime, Unchecked};
use crate::graphql::schema::types::member::{ChatRole, NotificationLevel};
use crate::graphql::schema::types::objects::{Chat, ChatMember};
use crate::service;
use crate::service::members::NewBan;

/// The input of `addMembers`.
#[derive(InputObject)]
struct AddMembersInput {
    /// The id of the chat.
    chat_id: ID,
    /// The ids of the users to add, 1 to 100.
    /// Users who are already members keep their role.
    user_ids: Vec<ID>,
    /// The role of the new members, at most the viewer's own and below `OWNER`.
    /// Defaults to `MEMBER`. A role above `MEMBER` requires the right to `CHANGE_ROLES`.
    role: Option<ChatRole>,
}

/// The input of `removeMember`.
#[derive(InputObject)]
struct RemoveMemberInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of another member, who must have a lower role than the viewer unless the viewer is an owner.
    user_id: ID,
    /// True also bans the user.
    /// Until `unbanMember`, they cannot join the chat, and only users who may ban can add them. A user who is not a
    /// member can be banned too. Defaults to false.
    ban: Option<bool>,
    /// The reason of a ban, for users who may ban: at most 500 characters on one line.
    /// Not allowed without `ban`.
    reason: Option<String>,
}

/// The input of `leaveChat`.
#[derive(InputObject)]
struct LeaveChatInput {
    /// The id of the chat.
    chat_id: ID,
}

/// The input of `joinChannel`.
#[derive(InputObject)]
struct JoinChannelInput {
    /// The id of the channel.
    chat_id: ID,
}

/// The input of `changeMemberRole`.
#[derive(InputObject)]
struct ChangeMemberRoleInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of a member with a lower role than the viewer, or of the viewer to step down.
    user_id: ID,
    /// The new role, at most the viewer's own.
    role: ChatRole,
}

/// The input of `silenceMember`.
#[derive(InputObject)]
struct SilenceMemberInput {
    /// The id of the chat.
    chat_id: ID,
    /// The id of another member, who must have a lower role than the viewer unless the viewer is an owner.
    user_id: ID,
    /// The time at which the silence ends, in the future.
    /// Null, or not set, ends it now.
    until: Option<Unchecked<DateTime>>,
}

/// The input of `updateMyMembership`.
/// A field that is not set keeps its value, and null restores the default.
#[derive(InputObject)]
struct UpdateMyMembershipInput {
    /// The id of the chat.
    chat_id: ID,
    /// The events of the chat that notify the viewer.
    /// The default is `ALL`.
    notification_level: MaybeUndefined<NotificationLevel>,
    /// The time until which the chat is muted.
    /// Null unmutes it.
    muted_until: MaybeUndefined<Unchecked<DateTime>>,
    /// True pins the chat in the viewer's chat list.
    /// The default is false.
    pinned: MaybeUndefined<bool>,
    /// The text that the viewer has begun to write, at most 10,000 characters.
    /// Null or a blank text removes the draft.
    draft: MaybeUndefined<String>,
}

/// The result of `addMembers`.
#[derive(SimpleObject)]
struct MembersPayload {
    /// The chat.
    chat: Chat,
    /// The memberships of the requested users, ordered by user id.
    members: Vec<ChatMember>,
}

/// The membership after a mutation.
#[derive(SimpleObject)]
pub struct MemberPayload {
    /// The membership.
    pub member: ChatMember,
}

/// The result of `removeMember` and `leaveChat`.
#[derive(SimpleObject)]
struct RemoveMemberPayload {
    /// The chat.
    /// Null for `leaveChat`.
    chat: Option<Chat>,
    /// The id of the user who is no longer a member.
    removed_user_id: ID,
}

/// The mutations of this module.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Adds users to a chat.
    /// Fails with `FORBIDDEN` if the viewer may not do `ADD_MEMBERS` or may not give the role, or if a user is banned
    /// and the viewer may not do `REMOVE_MEMBERS`; otherwise, adding a banned user ends the ban.
    async fn add_members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `addMembers`.")] input: AddMembersInput,
    ) -> Option<Result<MembersPayload>> {
        Some(add(ctx, input).await)
    }

    /// Removes a member from a chat, and bans them if asked to.
    /// Their feeds of the chat end. Fails with `FORBIDDEN` if the viewer may not do `REMOVE_MEMBERS` or does not
    /// outrank the member. A token with `organization.admin` may remove every member of a resource's chat.
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `removeMember`.")] input: RemoveMemberInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(remove(ctx, input).await)
    }

    /// Ends the viewer's membership of a chat.
    /// If the viewer was the last owner, the member with the highest role becomes the owner. Fails with `FORBIDDEN` in
    /// a direct chat.
    async fn leave_chat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `leaveChat`.")] input: LeaveChatInput,
    ) -> Option<Result<RemoveMemberPayload>> {
        Some(leave(ctx, input).await)
    }

    /// Makes the viewer a member of a channel.
    /// Joining again changes nothing. Fails with `FORBIDDEN` if the chat is not a channel or is archived, or if the
    /// viewer is banned from it.
    async fn join_channel(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `joinChannel`.")] input: JoinChannelInput,
    ) -> Option<Result<MemberPayload>> {
        Some(join(ctx, input).await)
    }

    /// Changes the role of a member.
    /// Fails with `FORBIDDEN` if the viewer may not do `CHANGE_ROLES`, does not outrank the member, gives a role above
    /// their own, or would leave the chat without an owner.
    async fn change_member_role(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `changeMemberRole`.")] input: ChangeMemberRoleInput,
    ) -> Option<Result<MemberPayload>> {
        Some(change_role(ctx, input).await)
    }

    /// Prevents a member from sending, editing, reacting and voting until a given time, or allows it again.
    /// Fails with `FORBIDDEN` if the viewer may not do `SILENCE_MEMBERS` or does not outrank the member.
    async fn silence_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `silenceMember`.")] input: SilenceMemberInput,
    ) -> Option<Result<MemberPayload>> {
        Some(silence(ctx, input).await)
    }

    /// Changes the viewer's private settings for a chat.
    /// Other users never see them. Fails with `FORBIDDEN` if the viewer is not a member.
    async fn update_my_membership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `updateMyMembership`.")] input: UpdateMyMembershipInput,
    ) -> Option<Result<MemberPayload>> {
        Some(update_preferences(ctx, input).await)
    }
}

async fn add(ctx: &Context<'_>, input: AddMembersInput) -> Result<MembersPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let users = parse_user_ids("userIds", &input.user_ids)?;
    let role = input.role.map_or(Role::Member, Into::into);
    let (chat, members) = service::members::add(ctx.app(), viewer, chat, users, role).await?;
    Ok(MembersPayload { chat: Chat(chat), members: members.into_iter().map(ChatMember).collect() })
}

async fn remove(ctx: &Context<'_>, input: RemoveMemberInput) -> Result<RemoveMemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let user = parse_id(&input.user_id, "member")?;
    let ban = match (input.ban.unwrap_or_default(), &input.reason) {
        (true, reason) => Some(NewBan { reason: bans::checked_reason(reason.as_deref())? }),
        (false, Some(_)) => return Err(Error::bad_input("reason", "is only allowed with ban")),
        (false, None) => None,
    };
    let chat = service::members::remove(ctx.app(), viewer, chat, user, ban).await?;
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
    let until = input.until.map(|until| until.check("until")).transpose()?;
    let member = service::members::silence(ctx.app(), viewer, chat, user, until).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}

async fn update_preferences(ctx: &Context<'_>, input: UpdateMyMembershipInput) -> Result<MemberPayload> {
    let viewer = ctx.viewer()?;
    let chat = parse_id(&input.chat_id, "chat")?;
    let change = move |preferences: &mut MemberPreferences| {
        if !input.notification_level.is_undefined() {
            preferences.notification_level = input.notification_level.take().map(Into::into).unwrap_or_default();
        }
        if !input.muted_until.is_undefined() {
            preferences.muted_until = input.muted_until.take().map(|until| until.check("mutedUntil")).transpose()?;
        }
        if !input.pinned.is_undefined() {
            preferences.pinned = input.pinned.take().unwrap_or_default();
        }
        if !input.draft.is_undefined() {
            preferences.set_draft(input.draft.take())?;
        }
        Ok(())
    };
    let member = service::members::update_preferences(ctx.app(), viewer, chat, change).await?;
    Ok(MemberPayload { member: ChatMember(member) })
}
