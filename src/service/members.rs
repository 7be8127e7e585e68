//! Who is in a chat: coming, going, roles, silence, and what members set for themselves.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chats::{Chat, ChatAction, ChatKind};
use crate::domain::ids::{ChatId, MemberId, UserId};
use crate::domain::member_queries::MembersQuery;
use crate::domain::members::{Member, MemberPreferences, ReadMarkers, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::notifications::NotificationKind;
use crate::domain::pagination::Page;
use crate::domain::rights::DenialReason;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::calls;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::context::AppContext;
use crate::storage::connection::Conn;
use crate::storage::{members, users};

/// People that one mutation may bring in.
pub const MAX_ADDED_MEMBERS: usize = 100;

/// Refuses people whom the organisation has not seen.
pub async fn require_known_users(conn: &mut Conn, viewer: &Viewer, ids: &[UserId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let known = users::by_ids(conn, viewer.organization(), ids).await?;
    if known.len() == ids.len() { Ok(()) } else { Err(Error::NotFound("user")) }
}

/// Memberships as the viewer may see them: of people who are in, in chats that the viewer is in.
pub async fn by_ids(app: &AppContext, reader: ReadScope<'_>, ids: &[MemberId]) -> Result<HashMap<MemberId, Member>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, ids, |id| id.chat).await?;
    let members = members::by_ids(&mut conn, &open).await?;
    Ok(members.into_iter().filter(Member::is_active).map(|member| (member.id(), member)).collect())
}

/// Pages of members of chats that the viewer is in; of others, none.
pub async fn pages(
    app: &AppContext,
    reader: ReadScope<'_>,
    queries: &[MembersQuery],
) -> Result<HashMap<MembersQuery, Page<Member>>> {
    let mut conn = app.database.read().await?;
    let open = ChatAccess::retain_readable(&mut conn, reader, queries, |query| query.chat).await?;
    let fetched = members::pages(&mut conn, &open).await?;
    let pages: Vec<_> = open.iter().zip(fetched).map(|(query, rows)| query.window.to_page(rows)).collect();
    Ok(open.into_iter().zip(pages).collect())
}

/// Brings people in. Those who are in already stay as they are.
pub async fn add(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    mut people: Vec<UserId>,
    role: Role,
) -> Result<(Chat, Vec<Member>)> {
    role.require_below_owner()?;
    people.sort();
    people.dedup();
    if people.is_empty() || people.len() > MAX_ADDED_MEMBERS {
        return Err(Error::bad_input("userIds", format!("must be 1 to {MAX_ADDED_MEMBERS} people")));
    }
    let mut conn = app.database.write().await?;
    let (told, members) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            let rights = writing.rights(viewer);
            rights.can(ChatAction::AddMembers)?;
            if role > Role::Member {
                rights.can_change_role(Role::Member, role)?;
            }
            require_known_users(conn, viewer, &people).await?;
            let members = insert_members(conn, &mut writing, people, role, viewer.id()).await?;
            Ok((writing.commit_changes(conn).await?, members))
        })
        .await?;
    Ok((app.publish_outcome(told), members))
}

/// Comes into a channel; one who is in already stays as they are.
pub async fn join(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<Member> {
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            if writing.chat().kind != ChatKind::Channel {
                return Err(Error::Forbidden("only a channel can be joined".into()));
            }
            if writing.access.active_membership().is_none() {
                writing.rights(viewer).require_not_archived()?;
            }
            let people = vec![viewer.id().clone()];
            let member = insert_members(conn, &mut writing, people, Role::Member, viewer.id()).await?.pop();
            Ok((writing.commit_changes(conn).await?, member.ok_or(Error::NotFound("member"))?))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}

/// A new member starts at the newest message; one who comes back goes on in their row, silence and
/// all.
pub async fn insert_members(
    conn: &mut Conn,
    writing: &mut ChatTransaction,
    people: Vec<UserId>,
    role: Role,
    by: &UserId,
) -> Result<Vec<Member>> {
    let (chat, now, newest) = (writing.chat().id, writing.now, writing.chat().last_seq);
    let ids: Vec<MemberId> = people.iter().map(|user| MemberId { chat, user: user.clone() }).collect();
    let rows = members::by_ids(conn, &ids).await?;
    let mut rows: HashMap<UserId, Member> = rows.into_iter().map(|row| (row.user.clone(), row)).collect();
    let (mut members, mut new, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
    for user in people {
        let row = rows.remove(&user);
        if let Some(member) = row.as_ref().filter(|row| row.is_active()) {
            members.push(member.clone());
            continue;
        }
        let added_by = (user != *by).then(|| by.clone());
        let fresh = Member { added_by, ..Member::new_member(chat, user, role, newest, now) };
        writing.access.chat.member_count += 1;
        let member = match row {
            Some(row) => {
                let read = ReadMarkers { last_read_seq: newest, last_read_at: None, ..row.read_markers };
                let (silenced_until, last_posted_at) = (row.silenced_until, row.last_posted_at);
                writing
                    .write_member(
                        conn,
                        Member {
                            silenced_until,
                            last_posted_at,
                            read_markers: read,
                            preferences: row.preferences,
                            ..fresh
                        },
                    )
                    .await?
            }
            None => {
                let member = Member { version: writing.next_version(), ..fresh };
                writing.record_member_change(&member);
                new.push(member.clone());
                member
            }
        };
        arrived.push(member.clone());
        members.push(member);
    }
    if !new.is_empty() {
        members::insert(conn, &writing.chat().organization, &new).await?;
    }
    for member in &arrived {
        writing.system_message(SystemMessageKind::MemberAdded, by, Some(&member.user), None);
        writing.notify(member, NotificationKind::AddedToChat, None, by);
    }
    Ok(members)
}

/// Takes somebody out.
pub async fn remove(app: &AppContext, viewer: &Viewer, id: ChatId, user: UserId) -> Result<Chat> {
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            if user == *viewer.id() {
                return Err(Error::bad_input("userId", "is yourself; leaveChat leaves a chat"));
            }
            writing.rights(viewer).can(ChatAction::RemoveMembers)?;
            let target = writing.require_member(conn, user).await?;
            writing.rights(viewer).outranks(target.role)?;
            end_membership(conn, app, &mut writing, target, SystemMessageKind::MemberRemoved, viewer.id()).await?;
            writing.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(told))
}

/// Leaves a chat. A last owner's place goes to the highest of the others, the longest there first.
pub async fn leave(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<()> {
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            if writing.chat().kind == ChatKind::Direct {
                return Err(DenialReason::DirectChat.into());
            }
            let own = writing.rights(viewer).require_membership()?.clone();
            let was_owner = own.role == Role::Owner;
            end_membership(conn, app, &mut writing, own, SystemMessageKind::MemberLeft, viewer.id()).await?;
            if was_owner
                && let Some(heir) = members::next_owner(conn, id, viewer.id()).await?
                && heir.role != Role::Owner
            {
                set_role(conn, &mut writing, heir, Role::Owner, viewer.id()).await?;
            }
            writing.commit_changes(conn).await
        })
        .await?;
    app.publish_outcome(told);
    Ok(())
}

/// Ends a membership; the row stays for the log to tell of.
pub async fn end_membership(
    conn: &mut Conn,
    app: &AppContext,
    writing: &mut ChatTransaction,
    member: Member,
    kind: SystemMessageKind,
    by: &UserId,
) -> Result<()> {
    writing.access.chat.member_count -= 1;
    let left_at = Some(writing.now);
    let member = writing.write_member(conn, Member { left_at, role: Role::Member, ..member }).await?;
    writing.system_message(kind, by, Some(&member.user), None);
    calls::remove_participant(conn, app, writing, &member.user).await
}

/// Gives somebody another role. The last owner stays one.
pub async fn change_role(app: &AppContext, viewer: &Viewer, id: ChatId, user: UserId, role: Role) -> Result<Member> {
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            let rights = writing.rights(viewer);
            rights.can(ChatAction::ChangeRoles)?;
            let member = writing.require_member(conn, user).await?;
            // One may always step down.
            if member.user != *viewer.id() || role > member.role {
                rights.can_change_role(member.role, role)?;
            }
            if member.role == role {
                return Ok((writing.commit_changes(conn).await?, member));
            }
            if member.role == Role::Owner && members::count_role(conn, id, Role::Owner).await? == 1 {
                return Err(DenialReason::LastOwner.into());
            }
            let member = set_role(conn, &mut writing, member, role, viewer.id()).await?;
            Ok((writing.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}

async fn set_role(
    conn: &mut Conn,
    writing: &mut ChatTransaction,
    member: Member,
    role: Role,
    by: &UserId,
) -> Result<Member> {
    let member = writing.write_member(conn, Member { role, ..member }).await?;
    let name = <&str>::from(role).to_uppercase();
    writing.system_message(SystemMessageKind::RoleChanged, by, Some(&member.user), Some(name));
    Ok(member)
}

/// Lets somebody say nothing until a moment, or speak again.
pub async fn silence(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    user: UserId,
    until: Option<DateTime<Utc>>,
) -> Result<Member> {
    if until.is_some_and(|until| until <= app.clock.now()) {
        return Err(Error::bad_input("until", "must be in the future; null lets them speak again"));
    }
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::SilenceMembers)?;
            let member = writing.require_member(conn, user).await?;
            writing.rights(viewer).outranks(member.role)?;
            if member.user == *viewer.id() {
                return Err(Error::bad_input("userId", "is yourself"));
            }
            let member = match member.silenced_until == until {
                true => member,
                false => writing.write_member(conn, Member { silenced_until: until, ..member }).await?,
            };
            Ok((writing.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}

/// Changes what the viewer set for themselves in a chat; `change` gets what is set.
pub async fn update_preferences(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut MemberPreferences) -> Result<()> + Send,
) -> Result<Member> {
    let mut conn = app.database.write().await?;
    let (told, member) = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            let former = writing.rights(viewer).require_membership()?.clone();
            let mut member = former.clone();
            change(&mut member.preferences)?;
            let member = writing.write_unversioned(conn, &former, member).await?;
            Ok((writing.commit_changes(conn).await?, member))
        })
        .await?;
    app.publish_outcome(told);
    Ok(member)
}
