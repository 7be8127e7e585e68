//! Chats: finding, making, changing and deleting them.

use std::collections::{HashMap, HashSet};

use crate::access::{Access, Reader};
use crate::domain::chats::{Chat, ChatAction, ChatFilter, ChatKind, Details, REMOVALS_KEPT, Resource, direct_key};
use crate::domain::ids::{ChatId, Nonce, UserId, fingerprint};
use crate::domain::members::{Member, Role};
use crate::domain::messages::NoticeKind;
use crate::domain::notifications::NotificationKind;
use crate::domain::pagination::{End, Page, PageArgs};
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::chat_transaction::{Told, Writing};
use crate::service::context::App;
use crate::service::members::{MAX_AT_ONCE, bring_in, known_people, take_out};
use crate::storage::chats::{ByActivity, ChatKey};
use crate::storage::connection::Conn;
use crate::storage::{chat_removals, chats, members};

/// The chats among these that exist for the viewer.
pub async fn by_ids(app: &App, reader: Reader<'_>, ids: &[ChatId]) -> Result<HashMap<ChatId, Access>> {
    let mut conn = app.store.read().await?;
    match reader {
        Reader::One(viewer) => Access::find(&mut conn, viewer, ids).await,
        Reader::Members(organization, chat) => {
            let ids: Vec<ChatId> = ids.iter().copied().filter(|id| *id == chat).collect();
            let chats = chats::by_ids(&mut conn, organization, &ids).await?;
            Ok(chats.into_iter().map(|chat| (chat.id, Access { chat, row: None })).collect())
        }
    }
}

/// The viewer's chats, newest activity first, or the channels that they may join.
pub async fn page(app: &App, viewer: &Viewer, filter: &ChatFilter, args: &PageArgs) -> Result<Page<Chat>> {
    require(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<ByActivity>(End::First)?;
    let mut conn = app.store.read().await?;
    let fetched = chats::page(&mut conn, viewer.organization(), viewer.id(), filter, &window).await?;
    Ok(window.page(fetched))
}

/// The one direct chat of two people, whoever opens it, and when both do at once.
pub async fn open_direct(app: &App, viewer: &Viewer, other: UserId) -> Result<Chat> {
    require(&viewer.permissions, Permission::ChatView)?;
    if other == *viewer.id() {
        return Err(Error::bad_input("userId", "must be another person"));
    }
    let direct_key = direct_key(viewer.id(), &other);
    let mut conn = app.store.write().await?;
    let made = conn
        .transaction(async move |conn| {
            known_people(conn, viewer, std::slice::from_ref(&other)).await?;
            if let Some(chat) = chats::by_direct_key(conn, viewer.organization(), &direct_key).await? {
                return Ok(Made::Before(chat));
            }
            let key = ChatKey { direct_key: Some(direct_key), ..ChatKey::default() };
            let new = NewChat::of(ChatKind::Direct, Details::default(), vec![other], Role::Member);
            if let Some(told) = make(app, conn, viewer, new, &key).await? {
                return Ok(Made::Now(told));
            }
            let key = key.direct_key.as_deref().unwrap_or_default();
            let chat = chats::by_direct_key(conn, viewer.organization(), key).await?;
            chat.map(Made::Before).ok_or(Error::NotFound("chat"))
        })
        .await?;
    Ok(made.tell(app))
}

/// A chat that was asked for: there already, or made now and to be told.
enum Made {
    Before(Chat),
    Now(Told),
}

impl Made {
    fn tell(self, app: &App) -> Chat {
        match self {
            Self::Before(chat) => chat,
            Self::Now(told) => app.tell(told),
        }
    }
}

/// A chat to be made, checked.
#[derive(Debug, Clone)]
pub struct ChatDraft {
    pub kind: ChatKind,
    pub details: Details,
    pub members: Vec<UserId>,
    pub nonce: Option<Nonce>,
}

/// Makes a group or a channel. A creation repeated with its nonce gives the first chat back.
pub async fn create(app: &App, viewer: &Viewer, mut draft: ChatDraft) -> Result<Chat> {
    if draft.kind == ChatKind::Direct {
        return Err(Error::bad_input("kind", "must be GROUP or CHANNEL; openDirectChat opens a direct chat"));
    }
    if draft.kind == ChatKind::Channel && draft.details.category.is_some() {
        return Err(Error::bad_input("category", "is for groups"));
    }
    draft.members.retain(|user| user != viewer.id());
    draft.members.sort();
    draft.members.dedup();
    if draft.members.len() > MAX_AT_ONCE {
        return Err(Error::bad_input("memberIds", format!("must be at most {MAX_AT_ONCE}; addMembers adds more")));
    }
    let content = (draft.kind, &draft.details, &draft.members);
    let key = ChatKey {
        direct_key: None,
        fingerprint: draft.nonce.is_some().then(|| fingerprint(&content)),
        nonce: draft.nonce.clone(),
    };
    let mut conn = app.store.write().await?;
    let made = conn
        .transaction(async move |conn| {
            // A creation that succeeded before is given back before anything that may fail now.
            if let Some(chat) = made_before(conn, viewer, &key).await? {
                return Ok(Made::Before(chat));
            }
            require(&viewer.permissions, Permission::ChatView)?;
            require(&viewer.permissions, Permission::ChatCreateGroup)?;
            known_people(conn, viewer, &draft.members).await?;
            let new = NewChat::of(draft.kind, draft.details, draft.members, Role::Owner);
            match make(app, conn, viewer, new, &key).await? {
                Some(told) => Ok(Made::Now(told)),
                // Another request with this nonce was first.
                None => made_before(conn, viewer, &key).await?.map(Made::Before).ok_or(Error::NotFound("chat")),
            }
        })
        .await?;
    Ok(made.tell(app))
}

async fn made_before(conn: &mut Conn, viewer: &Viewer, key: &ChatKey) -> Result<Option<Chat>> {
    let Some(nonce) = &key.nonce else { return Ok(None) };
    match chats::by_nonce(conn, viewer.organization(), viewer.id(), nonce).await? {
        Some((_, fingerprint)) if fingerprint != key.fingerprint => {
            Err(Error::Conflict("this nonce made a chat of other content".into()))
        }
        Some((chat, _)) => {
            let visible = Access::find(conn, viewer, &[chat.id]).await?.contains_key(&chat.id);
            if visible { Ok(Some(chat)) } else { Err(Error::NotFound("chat")) }
        }
        None => Ok(None),
    }
}

/// The one chat of an object of the host application, with just these people in, and the viewer
/// where they make it. Who isn't named is taken out, but for owners.
pub async fn ensure_resource(
    app: &App,
    viewer: &Viewer,
    resource: Resource,
    title: String,
    people: Vec<UserId>,
) -> Result<Chat> {
    require(&viewer.permissions, Permission::ChatView)?;
    let people: HashSet<UserId> = people.into_iter().collect();
    if people.len() > MAX_SYNCHRONISED {
        return Err(Error::bad_input("memberIds", format!("must be at most {MAX_SYNCHRONISED}")));
    }
    let mut conn = app.store.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut others: Vec<UserId> = people.iter().filter(|user| *user != viewer.id()).cloned().collect();
            others.sort();
            let organization = viewer.organization();
            let mut chat = chats::by_resource(conn, organization, &resource).await?;
            if chat.is_none() {
                require(&viewer.permissions, Permission::ChatCreateGroup)?;
                known_people(conn, viewer, &others).await?;
                let details = Details { title: Some(title), ..Details::default() };
                let new = NewChat {
                    resource: Some(resource.clone()),
                    ..NewChat::of(ChatKind::Group, details, others, Role::Owner)
                };
                if let Some(told) = make(app, conn, viewer, new, &ChatKey::default()).await? {
                    return Ok(told);
                }
                // Another request made it meanwhile.
                chat = chats::by_resource(conn, organization, &resource).await?;
            }
            let id = chat.ok_or(Error::NotFound("chat"))?.id;
            let chat = chats::lock(conn, &[id]).await?.pop().ok_or(Error::NotFound("chat"))?;
            let access = Access::find(conn, viewer, &[id]).await?.remove(&id);
            let row = access.and_then(|access| access.row);
            let mut writing = Writing::new(Access { chat, row }, app.clock.now());
            synchronise(conn, app, &mut writing, viewer, &people).await?;
            writing.finish(conn).await
        })
        .await?;
    Ok(app.tell(told))
}

/// People of a chat that belongs to an object of the host application.
const MAX_SYNCHRONISED: usize = 1_000;

/// Makes the members those of a list.
async fn synchronise(
    conn: &mut Conn,
    app: &App,
    writing: &mut Writing,
    viewer: &Viewer,
    people: &HashSet<UserId>,
) -> Result<()> {
    let present = members::active(conn, writing.chat().id).await?;
    let here: HashSet<&UserId> = present.iter().map(|member| &member.user).collect();
    let mut missing: Vec<UserId> = people.iter().filter(|user| !here.contains(user)).cloned().collect();
    missing.sort();
    let surplus: Vec<Member> =
        present.iter().filter(|member| member.role != Role::Owner && !people.contains(&member.user)).cloned().collect();
    // The host's own service need not be in the chat.
    if !viewer.permissions.contains(&Permission::OrganizationAdmin) {
        let rights = writing.rights(viewer);
        rights.membership()?;
        if !missing.is_empty() {
            rights.can(ChatAction::AddMembers)?;
        }
        for member in &surplus {
            rights.can(ChatAction::RemoveMembers)?;
            rights.outranks(member.role)?;
        }
    }
    if !missing.is_empty() {
        known_people(conn, viewer, &missing).await?;
        bring_in(conn, writing, missing, Role::Member, viewer.id()).await?;
    }
    for member in surplus {
        take_out(conn, app, writing, member, NoticeKind::MemberRemoved, viewer.id()).await?;
    }
    Ok(())
}

/// A chat as it begins: the viewer in a role, the others as members.
struct NewChat {
    kind: ChatKind,
    details: Details,
    others: Vec<UserId>,
    role: Role,
    resource: Option<Resource>,
}

impl NewChat {
    fn of(kind: ChatKind, details: Details, others: Vec<UserId>, role: Role) -> Self {
        Self { kind, details, others, role, resource: None }
    }
}

/// Inserts a chat and its members; none where one with this key is there already.
async fn make(app: &App, conn: &mut Conn, viewer: &Viewer, new: NewChat, key: &ChatKey) -> Result<Option<Told>> {
    app.limits.make_chat(viewer)?;
    let now = app.clock.now();
    let people = std::iter::once((viewer.id().clone(), new.role));
    let people: Vec<_> = people.chain(new.others.into_iter().map(|user| (user, Role::Member))).collect();
    let chat = Chat {
        id: ChatId::new(),
        organization: viewer.organization().clone(),
        kind: new.kind,
        details: new.details,
        created_by: Some(viewer.id().clone()),
        created_at: now,
        last_activity_at: now,
        changed_at: now,
        version: 0,
        details_version: 0,
        last_seq: 0,
        member_count: people.len() as i32,
        archived_at: None,
        resource: new.resource,
    };
    if !chats::insert(conn, &chat, key).await? {
        return Ok(None);
    }
    let (id, kind, title) = (chat.id, chat.kind, chat.details.title.clone());
    let mut writing = Writing::new(Access { chat, row: None }, now);
    // Its own row takes the first version, each member's the next, and what it begins with the last.
    let newest = if kind == ChatKind::Direct { 0 } else { 1 + people.len() as i64 + 2 };
    writing.chat_changed();
    let members: Vec<Member> = people
        .into_iter()
        .map(|(user, role)| {
            let added_by = (user != *viewer.id()).then(|| viewer.id().clone());
            let version = writing.next_version();
            Member { added_by, version, ..Member::joining(id, user, role, newest, now) }
        })
        .collect();
    members.iter().for_each(|member| writing.member_changed(member));
    if kind != ChatKind::Direct {
        writing.notice(NoticeKind::ChatCreated, viewer.id(), None, title.clone());
        writing.notice(NoticeKind::Welcome, viewer.id(), None, title);
        for member in &members {
            writing.notify(member, NotificationKind::AddedToChat, None, viewer.id());
        }
    }
    members::insert(conn, &writing.chat().organization, &members).await?;
    writing.finish(conn).await.map(Some)
}

/// Changes a chat's details; `change` gets the present ones. No change takes no version.
pub async fn update(
    app: &App,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut Details) -> Result<()> + Send,
) -> Result<Chat> {
    let mut conn = app.store.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = Writing::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::EditDetails)?;
            let mut details = writing.chat().details.clone();
            change(&mut details)?;
            let former = std::mem::replace(&mut writing.access.chat.details, details);
            let details = &writing.access.chat.details;
            if details.category.is_some() && writing.access.chat.kind != ChatKind::Group {
                return Err(Error::bad_input("category", "is for groups"));
            }
            let differences = details.differences(&former);
            if details.policy != former.policy {
                // Who sets the least roles could give themselves any right: by the roles of before.
                let chat = Chat { details: former, ..writing.access.chat.clone() };
                let before = Access { chat, row: writing.access.row.clone() };
                before.rights(viewer, writing.now).can(ChatAction::ChangeRoles)?;
            }
            if !differences.is_empty() {
                writing.chat_changed();
                writing.notice(NoticeKind::DetailsChanged, viewer.id(), None, Some(differences.join(",")));
            }
            writing.finish(conn).await
        })
        .await?;
    Ok(app.tell(told))
}

/// Puts a chat away, to be read only, or takes it back.
pub async fn archive(app: &App, viewer: &Viewer, id: ChatId, archived: bool) -> Result<Chat> {
    let mut conn = app.store.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = Writing::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::EditDetails)?;
            if writing.chat().archived_at.is_some() != archived {
                writing.access.chat.archived_at = archived.then_some(writing.now);
                writing.chat_changed();
                writing.notice(NoticeKind::DetailsChanged, viewer.id(), None, Some("archivedAt".into()));
            }
            writing.finish(conn).await
        })
        .await?;
    Ok(app.tell(told))
}

/// Deletes a chat with all that was said in it. Its feeds end.
pub async fn delete(app: &App, viewer: &Viewer, id: ChatId) -> Result<()> {
    let mut conn = app.store.write().await?;
    let chat = conn
        .transaction(async move |conn| {
            let writing = Writing::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::DeleteChat)?;
            chat_removals::keep(conn, id, writing.now).await?;
            chat_removals::forget(conn, writing.now - REMOVALS_KEPT).await?;
            chats::delete(conn, id).await?;
            Ok(writing.access.chat)
        })
        .await?;
    app.tell_deleted(chat);
    Ok(())
}
