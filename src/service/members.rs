//! Who is in a chat: coming, going, and what they have read.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::Access;
use crate::app::App;
use crate::domain::changes::Change;
use crate::domain::chats::{Chat, ChatAction, ChatKind};
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::members::{Member, Role, UNREAD_CAP};
use crate::domain::pages::Page;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::members::MembersQuery;
use crate::storage::{Conn, chats, members, messages, users};

/// People that one mutation may bring in.
pub const MAX_AT_ONCE: usize = 100;

/// Refuses people whom the organisation has not seen.
pub async fn known_people(conn: &mut Conn, viewer: &Viewer, ids: &[UserId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let known = users::by_ids(conn, viewer.organization(), ids).await?;
    if known.len() == ids.len() { Ok(()) } else { Err(Error::NotFound("user")) }
}

/// Memberships as the viewer may see them: of people who are in, in chats that the viewer is in.
pub async fn by_ids(app: &App, viewer: &Viewer, ids: &[MemberId]) -> Result<HashMap<MemberId, Member>> {
    let mut conn = app.store.read().await?;
    let chats: Vec<ChatId> = ids.iter().map(|id| id.chat).collect();
    let access = Access::find(&mut conn, viewer, &chats).await?;
    let open: Vec<MemberId> =
        ids.iter().filter(|id| access.get(&id.chat).is_some_and(|access| access.member().is_some())).cloned().collect();
    let members = members::by_ids(&mut conn, &open).await?;
    Ok(members.into_iter().filter(Member::is_active).map(|member| (member.id(), member)).collect())
}

/// Pages of members of chats that the viewer is in; of others, none.
pub async fn pages(
    app: &App,
    viewer: &Viewer,
    queries: &[MembersQuery],
) -> Result<HashMap<MembersQuery, Page<Member>>> {
    let mut conn = app.store.read().await?;
    let chats: Vec<ChatId> = queries.iter().map(|query| query.chat).collect();
    let access = Access::find(&mut conn, viewer, &chats).await?;
    let is_open = |query: &&MembersQuery| access.get(&query.chat).is_some_and(|access| access.member().is_some());
    let open: Vec<MembersQuery> = queries.iter().filter(is_open).cloned().collect();
    let mut pages: HashMap<MembersQuery, Page<Member>> =
        queries.iter().map(|query| (query.clone(), Page::empty())).collect();
    for same in by_shape(open) {
        let mut fetched: HashMap<ChatId, Vec<Member>> = HashMap::new();
        for member in members::pages(&mut conn, &same).await? {
            fetched.entry(member.chat).or_default().push(member);
        }
        for query in same {
            let page = query.window.page(fetched.remove(&query.chat).unwrap_or_default());
            pages.insert(query, page);
        }
    }
    Ok(pages)
}

/// Queries of one chat each, so that what is fetched can be told apart by its chat.
fn by_shape(queries: Vec<MembersQuery>) -> Vec<Vec<MembersQuery>> {
    let mut shapes: HashMap<_, Vec<MembersQuery>> = HashMap::new();
    for query in queries {
        shapes.entry((query.roles.clone(), query.window.clone())).or_default().push(query);
    }
    shapes.into_values().collect()
}

/// Unread messages of the viewer in these chats.
pub async fn unread(app: &App, ids: &[MemberId]) -> Result<HashMap<MemberId, i64>> {
    let mut conn = app.store.read().await?;
    Ok(members::unread(&mut conn, ids).await?.into_iter().collect())
}

/// What a person has not read, over all their chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadTotals {
    pub chats: i64,
    pub messages: i64,
}

pub async fn unread_totals(app: &App, viewer: &Viewer) -> Result<UnreadTotals> {
    let mut conn = app.store.read().await?;
    let counts = members::unread_by_chat(&mut conn, viewer.organization(), viewer.id()).await?;
    Ok(UnreadTotals { chats: counts.len() as i64, messages: counts.iter().map(|count| count.min(&UNREAD_CAP)).sum() })
}

/// Brings people in. Those who are in already stay as they are.
pub async fn add(
    app: &App,
    viewer: &Viewer,
    id: ChatId,
    people: Vec<UserId>,
    role: Role,
) -> Result<(Chat, Vec<Member>)> {
    let mut people = people;
    people.sort();
    people.dedup();
    if people.is_empty() || people.len() > MAX_AT_ONCE {
        return Err(Error::bad_input("userIds", format!("must be 1 to {MAX_AT_ONCE} people")));
    }
    let mut conn = app.store.write().await?;
    let (chat, members, changes) = conn
        .transaction(async move |conn| {
            let mut access = Access::lock(conn, viewer, id).await?;
            let rights = access.rights(viewer, app.clock.now());
            rights.can(ChatAction::AddMembers)?;
            if role > Role::Member {
                rights.can(ChatAction::ChangeRoles)?;
            }
            known_people(conn, viewer, &people).await?;
            let (members, changes) = bring_in(app, conn, &mut access, people, role, Some(viewer.id())).await?;
            Ok((access.chat, members, changes))
        })
        .await?;
    app.publish(&chat, changes);
    Ok((chat, members))
}

/// Comes into a channel; one who is in already stays as they are.
pub async fn join(app: &App, viewer: &Viewer, id: ChatId) -> Result<Member> {
    let mut conn = app.store.write().await?;
    let (chat, member, changes) = conn
        .transaction(async move |conn| {
            let mut access = Access::lock(conn, viewer, id).await?;
            if access.chat.kind != ChatKind::Channel {
                return Err(Error::Forbidden("only a channel can be joined".into()));
            }
            let people = vec![viewer.id().clone()];
            let (mut members, changes) = bring_in(app, conn, &mut access, people, Role::Member, None).await?;
            let member = members.pop().ok_or(Error::NotFound("member"))?;
            Ok((access.chat, member, changes))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(member)
}

/// A new member starts at the newest message; one who comes back goes on in their row.
async fn bring_in(
    app: &App,
    conn: &mut Conn,
    access: &mut Access,
    people: Vec<UserId>,
    role: Role,
    by: Option<&UserId>,
) -> Result<(Vec<Member>, Vec<Change>)> {
    let now = app.clock.now();
    let ids: Vec<MemberId> = people.iter().map(|user| MemberId { chat: access.chat.id, user: user.clone() }).collect();
    let rows = members::by_ids(conn, &ids).await?;
    let mut rows: HashMap<UserId, Member> = rows.into_iter().map(|row| (row.user.clone(), row)).collect();
    let (mut members, mut changes, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for user in people {
        let row = rows.remove(&user);
        if let Some(member) = row.as_ref().filter(|row| row.is_active()) {
            members.push(member.clone());
            continue;
        }
        let member = Member {
            chat: access.chat.id,
            user,
            role,
            joined_at: now,
            added_by: by.cloned(),
            left_at: None,
            version: access.next_version(),
            last_read_seq: access.chat.last_seq,
            last_read_at: None,
            last_posted_at: row.as_ref().and_then(|row| row.last_posted_at),
        };
        if row.is_some() {
            members::update(conn, &member).await?;
        } else {
            new.push(member.clone());
        }
        access.chat.member_count += 1;
        changes.push(Change::Member(Arc::new(member.clone())));
        members.push(member);
    }
    if !new.is_empty() {
        members::insert(conn, &access.chat.organization, &new).await?;
    }
    if !changes.is_empty() {
        chats::update(conn, &access.chat).await?;
    }
    Ok((members, changes))
}

/// Takes somebody out.
pub async fn remove(app: &App, viewer: &Viewer, id: ChatId, user: UserId) -> Result<Chat> {
    let mut conn = app.store.write().await?;
    let (chat, changes) = conn
        .transaction(async move |conn| {
            let mut access = Access::lock(conn, viewer, id).await?;
            if user == *viewer.id() {
                return Err(Error::bad_input("userId", "is yourself; leaveChat leaves a chat"));
            }
            access.rights(viewer, app.clock.now()).can(ChatAction::RemoveMembers)?;
            let target = members::by_ids(conn, &[MemberId { chat: id, user }]).await?.pop();
            let target = target.filter(Member::is_active).ok_or(Error::NotFound("member"))?;
            access.rights(viewer, app.clock.now()).outranks(target.role)?;
            let changes = take_out(app, conn, &mut access, target).await?;
            Ok((access.chat, changes))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(chat)
}

/// Leaves a chat. A last owner's place goes to the highest of the others, the longest there first.
pub async fn leave(app: &App, viewer: &Viewer, id: ChatId) -> Result<()> {
    let mut conn = app.store.write().await?;
    let (chat, changes) = conn
        .transaction(async move |conn| {
            let mut access = Access::lock(conn, viewer, id).await?;
            if access.chat.kind == ChatKind::Direct {
                return Err(Error::Forbidden("a direct chat can't be left".into()));
            }
            let own = access.rights(viewer, app.clock.now()).membership()?.clone();
            let was_owner = own.role == Role::Owner;
            let mut changes = take_out(app, conn, &mut access, own).await?;
            if was_owner
                && let Some(heir) = members::heir(conn, id, viewer.id()).await?
                && heir.role != Role::Owner
            {
                let heir = Member { role: Role::Owner, version: access.next_version(), ..heir };
                members::update(conn, &heir).await?;
                chats::update(conn, &access.chat).await?;
                changes.push(Change::Member(Arc::new(heir)));
            }
            Ok((access.chat, changes))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(())
}

async fn take_out(app: &App, conn: &mut Conn, access: &mut Access, member: Member) -> Result<Vec<Change>> {
    let member =
        Member { left_at: Some(app.clock.now()), version: access.next_version(), role: Role::Member, ..member };
    access.chat.member_count -= 1;
    members::update(conn, &member).await?;
    chats::update(conn, &access.chat).await?;
    Ok(vec![Change::Member(Arc::new(member))])
}

/// Moves the viewer's read position forward, to a message or to the newest.
pub async fn mark_read(app: &App, viewer: &Viewer, id: ChatId, up_to: Option<MessageId>) -> Result<Member> {
    if up_to.is_some_and(|message| message.chat != id) {
        return Err(Error::NotFound("message"));
    }
    let mut conn = app.store.write().await?;
    conn.transaction(async move |conn| {
        let access = Access::lock(conn, viewer, id).await?;
        let member = access.rights(viewer, app.clock.now()).membership()?.id();
        let seq = match up_to {
            Some(message) if messages::by_ids(conn, &[message]).await?.is_empty() => {
                return Err(Error::NotFound("message"));
            }
            Some(message) => message.seq,
            None => access.chat.last_seq,
        };
        members::mark_read(conn, &member, seq, app.clock.now()).await?;
        members::by_ids(conn, &[member]).await?.pop().ok_or(Error::NotFound("member"))
    })
    .await
}
