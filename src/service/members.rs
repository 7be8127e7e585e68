//! The members of a chat: adding and removing them, roles, silence and their own preferences.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chats::{Chat, ChatAction, ChatKind};
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::member_queries::MembersQuery;
use crate::domain::members::{Member, MemberPreferences, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::notifications::NotificationKind;
use crate::domain::pagination::Page;
use crate::domain::rights::DenialReason;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::bans;
use crate::service::calls::transaction::{remove_participant, stop_media};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::service::membership_notices::announce;
use crate::storage::connection::Conn;
use crate::storage::{members, notifications, users};

/// The maximum number of users that one mutation adds to a chat.
pub const MAX_ADDED_MEMBERS: usize = 100;

/// Checks that the organisation has seen all of the users that the argument `field` names.
///
/// # Errors
///
/// Returns [`Error::UnknownUsers`] with the unknown ids, if there are any.
pub async fn require_known_users(conn: &mut Conn, viewer: &Viewer, field: &'static str, ids: &[UserId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let known: HashSet<UserId> =
        users::by_ids(conn, viewer.organization(), ids).await?.into_iter().map(|user| user.id).collect();
    let mut unknown = ids.iter().filter(|id| !known.contains(*id)).map(UserId::as_str).peekable();
    if unknown.peek().is_none() { Ok(()) } else { Err(Error::unknown_users(field, unknown)) }
}

/// Returns the active memberships with the given ids whose chat the scope may read, by id.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(app: &AppContext, scope: ReadScope<'_>, ids: &[MemberId]) -> Result<HashMap<MemberId, Member>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, scope, ids, |id| id.chat).await?;
    let members = members::by_ids(&mut conn, &readable).await?;
    Ok(members.into_iter().filter(Member::is_active).map(|member| (member.id(), member)).collect())
}

/// Returns pages of members of those queries whose chat the scope may read.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn pages(
    app: &AppContext,
    scope: ReadScope<'_>,
    queries: &[MembersQuery],
) -> Result<HashMap<MembersQuery, Page<Member>>> {
    let mut conn = app.database.read().await?;
    let readable = ChatAccess::retain_readable(&mut conn, scope, queries, |query| query.chat).await?;
    let fetched = members::pages(&mut conn, &readable).await?;
    let pages: Vec<_> = readable.iter().zip(fetched).map(|(query, rows)| query.window.to_page(rows)).collect();
    Ok(readable.into_iter().zip(pages).collect())
}

/// Adds users to a chat in a role; users who are members already stay as they are.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if there are no or too many users or the role is owner, [`Error::NotFound`] if the
/// chat does not exist for the viewer, [`Error::UnknownUsers`] if a user is unknown, and [`Error::Forbidden`] if the
/// viewer may not add members in that role.
pub async fn add(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    mut users: Vec<UserId>,
    role: Role,
) -> Result<(Chat, Vec<Member>)> {
    role.require_below_owner()?;
    users.sort();
    users.dedup();
    if users.is_empty() || users.len() > MAX_ADDED_MEMBERS {
        return Err(Error::bad_input("userIds", format!("must have 1 to {MAX_ADDED_MEMBERS} users")));
    }
    app.rate_limits.check_writes(viewer, users.len())?;
    let mut conn = app.database.write().await?;
    let (outcome, members) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            let rights = transaction.rights(viewer);
            rights.can(ChatAction::AddMembers)?;
            if role > Role::Member {
                rights.can_change_role(Role::Member, role)?;
            }
            require_known_users(conn, viewer, "userIds", &users).await?;
            bans::lift_to_add(conn, &mut transaction, viewer, &users).await?;
            let users = users.into_iter().map(|user| (user, role)).collect();
            let members = insert_members(conn, &mut transaction, users, viewer.id()).await?;
            Ok((transaction.commit_changes(conn).await?, members))
        })
        .await?;
    Ok((app.publish_outcome(outcome), members))
}

/// Joins a channel; a viewer who is a member already stays as they are.
///
/// The first user who joins a channel without an owner becomes its owner, even if it is archived: otherwise nobody
/// could manage it ever again.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, and [`Error::Forbidden`] if it is not a
/// channel or is archived, or if the viewer is banned from it.
pub async fn join(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<Member> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            if transaction.chat().kind != ChatKind::Channel {
                return Err(Error::Forbidden("only a channel can be joined".into()));
            }
            let has_owner = members::count_role(conn, id, Role::Owner).await? > 0;
            if transaction.access.active_membership().is_none() {
                if has_owner {
                    transaction.rights(viewer).require_not_archived()?;
                }
                bans::require_not_banned(conn, &transaction, viewer).await?;
            }
            let role = if has_owner { Role::Member } else { Role::Owner };
            let users = vec![(viewer.id().clone(), role)];
            let member = insert_members(conn, &mut transaction, users, viewer.id()).await?.pop();
            Ok((transaction.commit_changes(conn).await?, member.ok_or(Error::NotFound("member"))?))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}

/// Adds members inside a transaction, and returns them with those who were members already.
///
/// The caller has checked that none of them is banned from the chat, or has ended their bans.
///
/// A new member has read up to the newest message, and may read what the chat allows new members. A member who returns
/// is a new member in all but one respect: leaving a chat ends neither a silence nor the wait of slow mode.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn insert_members(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    users: Vec<(UserId, Role)>,
    actor: &UserId,
) -> Result<Vec<Member>> {
    let (chat, now, newest) = (transaction.chat().id, transaction.now, transaction.chat().last_seq);
    let history_after_seq = transaction.chat().history_after_seq();
    let ids: Vec<MemberId> = users.iter().map(|(user, _)| MemberId { chat, user: user.clone() }).collect();
    let rows = members::by_ids(conn, &ids).await?;
    let mut rows: HashMap<UserId, Member> = rows.into_iter().map(|row| (row.user.clone(), row)).collect();
    let (mut members, mut to_insert) = (Vec::new(), Vec::new());
    for (user, role) in users {
        let row = rows.remove(&user);
        if let Some(member) = row.as_ref().filter(|row| row.is_active()) {
            members.push(member.clone());
            continue;
        }
        let added_by = (user != *actor).then(|| actor.clone());
        let new_member = Member { added_by, history_after_seq, ..Member::new_member(chat, user, role, newest, now) };
        transaction.access.chat.member_count += 1;
        let member = match &row {
            Some(former) => {
                let (silenced_until, last_posted_at) = (former.silenced_until, former.last_posted_at);
                transaction.write_member(conn, Member { silenced_until, last_posted_at, ..new_member }).await?
            }
            None => {
                let member = Member { version: transaction.next_version(), ..new_member };
                transaction.record_member_change(&member);
                to_insert.push(member.clone());
                member
            }
        };
        let kind = SystemMessageKind::MemberAdded;
        let is_announced = announce(conn, transaction, row.as_ref(), kind, &member.user, None, actor).await?;
        let kind = NotificationKind::AddedToChat;
        if is_announced || !notifications::exists_about_chat(conn, &member.id(), kind).await? {
            transaction.notify(&member, kind, None, actor);
        }
        members.push(member);
    }
    if !to_insert.is_empty() {
        members::insert(conn, &transaction.chat().organization, &to_insert).await?;
    }
    Ok(members)
}

/// The ban of a user who is removed from a chat.
pub struct NewBan {
    pub reason: Option<String>,
}

/// Removes a member from a chat, and bans them if `ban` is given.
///
/// A user who is not a member, or no longer, can be banned too. A second ban changes nothing.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, if the user is not a member, or for a ban if
/// the user is unknown, [`Error::BadUserInput`] if the user is the viewer, and [`Error::Forbidden`] if the viewer may
/// not remove the member.
pub async fn remove(app: &AppContext, viewer: &Viewer, id: ChatId, user: UserId, ban: Option<NewBan>) -> Result<Chat> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock_to_remove_members(conn, viewer, id, &app.clock).await?;
            if user == *viewer.id() {
                return Err(Error::bad_input("userId", "must be another user; leaveChat leaves a chat"));
            }
            transaction.rights(viewer).can_ban()?;
            match transaction.require_member(conn, user.clone()).await {
                Ok(member) => {
                    transaction.rights(viewer).can_remove(member.role)?;
                    let kind = SystemMessageKind::MemberRemoved;
                    let detail = ban.is_some().then(|| "BANNED".to_owned());
                    end_membership(conn, app, &mut transaction, member, kind, detail, viewer.id()).await?;
                }
                // A user who left can be banned, so that nobody escapes a ban by leaving.
                Err(Error::NotFound(_)) if ban.is_some() => {
                    require_known_users(conn, viewer, "userId", std::slice::from_ref(&user)).await?;
                }
                Err(error) => return Err(error),
            }
            if let Some(NewBan { reason }) = ban {
                bans::insert(conn, &mut transaction, user, reason, viewer.id()).await?;
            }
            transaction.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(outcome))
}

/// Leaves a chat.
///
/// If the last owner leaves, the member with the highest role becomes an owner, of those the one who joined first.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, and [`Error::Forbidden`] if it is a direct
/// chat or the viewer is not a member.
pub async fn leave(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<()> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            if transaction.chat().kind == ChatKind::Direct {
                return Err(DenialReason::DirectChat.into());
            }
            let member = transaction.rights(viewer).require_membership()?.clone();
            let was_owner = member.role == Role::Owner;
            let kind = SystemMessageKind::MemberLeft;
            end_membership(conn, app, &mut transaction, member, kind, None, viewer.id()).await?;
            if was_owner
                && let Some(successor) = members::next_owner(conn, id, viewer.id()).await?
                && successor.role != Role::Owner
            {
                set_role(conn, &mut transaction, successor, Role::Owner, viewer.id()).await?;
            }
            transaction.commit_changes(conn).await
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(())
}

/// Ends a membership inside a transaction; the row stays, because feeds read the change from it.
///
/// The unread notifications of the chat are withdrawn: they lead to messages that the user may no longer read.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn end_membership(
    conn: &mut Conn,
    app: &AppContext,
    transaction: &mut ChatTransaction,
    member: Member,
    kind: SystemMessageKind,
    detail: Option<String>,
    actor: &UserId,
) -> Result<()> {
    transaction.access.chat.member_count -= 1;
    let left_at = Some(transaction.now);
    let former = member.clone();
    let member = transaction.write_member(conn, Member { left_at, role: Role::Member, ..member }).await?;
    notifications::withdraw_from_member(conn, &member.id()).await?;
    announce(conn, transaction, Some(&former), kind, &member.user, detail, actor).await?;
    remove_participant(conn, app, transaction, &member.user).await
}

/// Changes the role of a member.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer or the user is not a member, and
/// [`Error::Forbidden`] if the viewer may not change the role or the member is the last owner.
pub async fn change_role(app: &AppContext, viewer: &Viewer, id: ChatId, user: UserId, role: Role) -> Result<Member> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            let rights = transaction.rights(viewer);
            rights.can(ChatAction::ChangeRoles)?;
            let member = transaction.require_member(conn, user).await?;
            // Members may always give up a role of their own.
            if member.user != *viewer.id() || role > member.role {
                rights.can_change_role(member.role, role)?;
            }
            if member.role == role {
                return Ok((transaction.commit_changes(conn).await?, member));
            }
            if member.role == Role::Owner && members::count_role(conn, id, Role::Owner).await? == 1 {
                return Err(DenialReason::LastOwner.into());
            }
            let member = set_role(conn, &mut transaction, member, role, viewer.id()).await?;
            Ok((transaction.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}

/// Sets the role of a member inside a transaction.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn set_role(
    conn: &mut Conn,
    transaction: &mut ChatTransaction,
    member: Member,
    role: Role,
    actor: &UserId,
) -> Result<Member> {
    let member = transaction.write_member(conn, Member { role, ..member }).await?;
    let name = <&str>::from(role).to_uppercase();
    transaction.system_message(SystemMessageKind::RoleChanged, actor, Some(&member.user), Some(name));
    Ok(member)
}

/// Silences a member until a time, or ends their silence.
///
/// A silenced member who is in a call of the chat only listens to it.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the time has passed or the user is the viewer, [`Error::NotFound`] if the chat
/// does not exist for the viewer or the user is not a member, and [`Error::Forbidden`] if the viewer may not silence
/// the member.
pub async fn silence(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    user: UserId,
    until: Option<DateTime<Utc>>,
) -> Result<Member> {
    if until.is_some_and(|until| until <= app.clock.now()) {
        return Err(Error::bad_input("until", "must be in the future, or null to end the silence"));
    }
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can(ChatAction::SilenceMembers)?;
            let member = transaction.require_member(conn, user).await?;
            transaction.rights(viewer).outranks(member.role)?;
            if member.user == *viewer.id() {
                return Err(Error::bad_input("userId", "must be another user"));
            }
            let member = match member.silenced_until == until {
                true => member,
                false => transaction.write_member(conn, Member { silenced_until: until, ..member }).await?,
            };
            if until.is_some() {
                stop_media(conn, app, &mut transaction, &member.user).await?;
            }
            Ok((transaction.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}

/// Changes the viewer's own preferences in a chat; `change` receives the current ones.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they are not a
/// member, and the error of `change`.
pub async fn update_preferences(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut MemberPreferences) -> Result<()> + Send,
) -> Result<Member> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let (outcome, member) = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            let previous = transaction.rights(viewer).require_membership()?.clone();
            let mut member = previous.clone();
            change(&mut member.preferences)?;
            let member = transaction.write_unversioned(conn, &previous, member).await?;
            Ok((transaction.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(outcome);
    Ok(member)
}
