//! Chats: finding, making, changing and deleting them.

use std::collections::{HashMap, HashSet};

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chats::ActivityKey;
use crate::domain::chats::{
    Chat, ChatAction, ChatDetails, ChatFilter, ChatKind, REMOVALS_RETAINED, Resource, direct_key,
};
use crate::domain::ids::{ChatId, Nonce, UserId, fingerprint};
use crate::domain::members::{Member, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::notifications::NotificationKind;
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::chat_transaction::{ChatTransaction, CommitOutcome};
use crate::service::context::AppContext;
use crate::service::members::{MAX_ADDED_MEMBERS, end_membership, insert_members, require_known_users};
use crate::storage::chats::ChatIdempotencyKey;
use crate::storage::connection::Conn;
use crate::storage::{chat_removals, chats, members};

/// The chats among these that exist for the viewer.
pub async fn by_ids(app: &AppContext, reader: ReadScope<'_>, ids: &[ChatId]) -> Result<HashMap<ChatId, ChatAccess>> {
    let mut conn = app.database.read().await?;
    match reader {
        ReadScope::Viewer(viewer) => ChatAccess::find_visible(&mut conn, viewer, ids).await,
        ReadScope::ChatMembers(organization, chat) => {
            let ids: Vec<ChatId> = ids.iter().copied().filter(|id| *id == chat).collect();
            let chats = chats::by_ids(&mut conn, organization, &ids).await?;
            Ok(chats.into_iter().map(|chat| (chat.id, ChatAccess { chat, membership: None })).collect())
        }
    }
}

/// The viewer's chats, newest activity first, or the channels that they may join.
pub async fn page(app: &AppContext, viewer: &Viewer, filter: &ChatFilter, args: &PageArgs) -> Result<Page<Chat>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<ActivityKey>(PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = chats::page(&mut conn, viewer.organization(), viewer.id(), filter, &window).await?;
    Ok(window.to_page(fetched))
}

/// The one direct chat of two people, whoever opens it, and when both do at once.
pub async fn open_direct(app: &AppContext, viewer: &Viewer, other: UserId) -> Result<Chat> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    if other == *viewer.id() {
        return Err(Error::bad_input("userId", "must be another person"));
    }
    let direct_key = direct_key(viewer.id(), &other);
    let mut conn = app.database.write().await?;
    let made = conn
        .transaction(async move |conn| {
            require_known_users(conn, viewer, std::slice::from_ref(&other)).await?;
            if let Some(chat) = chats::by_direct_key(conn, viewer.organization(), &direct_key).await? {
                return Ok(CreateResult::Existing(chat));
            }
            let key = ChatIdempotencyKey { direct_key: Some(direct_key), ..ChatIdempotencyKey::default() };
            let new = NewChat::new(ChatKind::Direct, ChatDetails::default(), vec![other], Role::Member);
            if let Some(told) = insert(app, conn, viewer, new, &key).await? {
                return Ok(CreateResult::Created(told));
            }
            let key = key.direct_key.as_deref().unwrap_or_default();
            let chat = chats::by_direct_key(conn, viewer.organization(), key).await?;
            chat.map(CreateResult::Existing).ok_or(Error::NotFound("chat"))
        })
        .await?;
    Ok(made.publish(app))
}

/// A chat that was asked for: there already, or made now and to be told.
enum CreateResult {
    Existing(Chat),
    Created(CommitOutcome),
}

impl CreateResult {
    fn publish(self, app: &AppContext) -> Chat {
        match self {
            Self::Existing(chat) => chat,
            Self::Created(told) => app.publish_outcome(told),
        }
    }
}

/// A chat to be made, checked.
#[derive(Debug, Clone)]
pub struct ChatDraft {
    pub kind: ChatKind,
    pub details: ChatDetails,
    pub members: Vec<UserId>,
    pub nonce: Option<Nonce>,
}

/// Makes a group or a channel. A creation repeated with its nonce gives the first chat back.
pub async fn create(app: &AppContext, viewer: &Viewer, mut draft: ChatDraft) -> Result<Chat> {
    if draft.kind == ChatKind::Direct {
        return Err(Error::bad_input("kind", "must be GROUP or CHANNEL; openDirectChat opens a direct chat"));
    }
    if draft.kind == ChatKind::Channel && draft.details.category.is_some() {
        return Err(Error::bad_input("category", "is for groups"));
    }
    draft.members.retain(|user| user != viewer.id());
    draft.members.sort();
    draft.members.dedup();
    if draft.members.len() > MAX_ADDED_MEMBERS {
        return Err(Error::bad_input(
            "memberIds",
            format!("must be at most {MAX_ADDED_MEMBERS}; addMembers adds more"),
        ));
    }
    let content = (draft.kind, &draft.details, &draft.members);
    let key = ChatIdempotencyKey {
        direct_key: None,
        fingerprint: draft.nonce.is_some().then(|| fingerprint(&content)),
        nonce: draft.nonce.clone(),
    };
    let mut conn = app.database.write().await?;
    let made = conn
        .transaction(async move |conn| {
            // A creation that succeeded before is given back before anything that may fail now.
            if let Some(chat) = find_by_nonce(conn, viewer, &key).await? {
                return Ok(CreateResult::Existing(chat));
            }
            require_permission(&viewer.permissions, Permission::ChatView)?;
            require_permission(&viewer.permissions, Permission::ChatCreateGroup)?;
            require_known_users(conn, viewer, &draft.members).await?;
            let new = NewChat::new(draft.kind, draft.details, draft.members, Role::Owner);
            match insert(app, conn, viewer, new, &key).await? {
                Some(told) => Ok(CreateResult::Created(told)),
                // Another request with this nonce was first.
                None => {
                    find_by_nonce(conn, viewer, &key).await?.map(CreateResult::Existing).ok_or(Error::NotFound("chat"))
                }
            }
        })
        .await?;
    Ok(made.publish(app))
}

async fn find_by_nonce(conn: &mut Conn, viewer: &Viewer, key: &ChatIdempotencyKey) -> Result<Option<Chat>> {
    let Some(nonce) = &key.nonce else { return Ok(None) };
    match chats::by_nonce(conn, viewer.organization(), viewer.id(), nonce).await? {
        Some((_, fingerprint)) if fingerprint != key.fingerprint => {
            Err(Error::Conflict("this nonce made a chat of other content".into()))
        }
        Some((chat, _)) => {
            let visible = ChatAccess::find_visible(conn, viewer, &[chat.id]).await?.contains_key(&chat.id);
            if visible { Ok(Some(chat)) } else { Err(Error::NotFound("chat")) }
        }
        None => Ok(None),
    }
}

/// The one chat of an object of the host application, with just these people in, and the viewer
/// where they make it. Who isn't named is taken out, but for owners.
pub async fn ensure_resource_chat(
    app: &AppContext,
    viewer: &Viewer,
    resource: Resource,
    title: String,
    people: Vec<UserId>,
) -> Result<Chat> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let people: HashSet<UserId> = people.into_iter().collect();
    if people.len() > MAX_SYNCED_MEMBERS {
        return Err(Error::bad_input("memberIds", format!("must be at most {MAX_SYNCED_MEMBERS}")));
    }
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut others: Vec<UserId> = people.iter().filter(|user| *user != viewer.id()).cloned().collect();
            others.sort();
            let organization = viewer.organization();
            let mut chat = chats::by_resource(conn, organization, &resource).await?;
            if chat.is_none() {
                require_permission(&viewer.permissions, Permission::ChatCreateGroup)?;
                require_known_users(conn, viewer, &others).await?;
                let details = ChatDetails { title: Some(title), ..ChatDetails::default() };
                let new = NewChat {
                    resource: Some(resource.clone()),
                    ..NewChat::new(ChatKind::Group, details, others, Role::Owner)
                };
                if let Some(told) = insert(app, conn, viewer, new, &ChatIdempotencyKey::default()).await? {
                    return Ok(told);
                }
                // Another request made it meanwhile.
                chat = chats::by_resource(conn, organization, &resource).await?;
            }
            let id = chat.ok_or(Error::NotFound("chat"))?.id;
            let chat = chats::lock(conn, &[id]).await?.pop().ok_or(Error::NotFound("chat"))?;
            let access = ChatAccess::find_visible(conn, viewer, &[id]).await?.remove(&id);
            let row = access.and_then(|access| access.membership);
            let mut writing = ChatTransaction::new(ChatAccess { chat, membership: row }, app.clock.now());
            sync_members(conn, app, &mut writing, viewer, &people).await?;
            writing.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(told))
}

/// People of a chat that belongs to an object of the host application.
const MAX_SYNCED_MEMBERS: usize = 1_000;

/// Makes the members those of a list.
async fn sync_members(
    conn: &mut Conn,
    app: &AppContext,
    writing: &mut ChatTransaction,
    viewer: &Viewer,
    people: &HashSet<UserId>,
) -> Result<()> {
    let present = members::active_members(conn, writing.chat().id).await?;
    let here: HashSet<&UserId> = present.iter().map(|member| &member.user).collect();
    let mut missing: Vec<UserId> = people.iter().filter(|user| !here.contains(user)).cloned().collect();
    missing.sort();
    let surplus: Vec<Member> =
        present.iter().filter(|member| member.role != Role::Owner && !people.contains(&member.user)).cloned().collect();
    // The host's own service need not be in the chat.
    if !viewer.permissions.contains(&Permission::OrganizationAdmin) {
        let rights = writing.rights(viewer);
        rights.require_membership()?;
        if !missing.is_empty() {
            rights.can(ChatAction::AddMembers)?;
        }
        for member in &surplus {
            rights.can(ChatAction::RemoveMembers)?;
            rights.outranks(member.role)?;
        }
    }
    if !missing.is_empty() {
        require_known_users(conn, viewer, &missing).await?;
        insert_members(conn, writing, missing, Role::Member, viewer.id()).await?;
    }
    for member in surplus {
        end_membership(conn, app, writing, member, SystemMessageKind::MemberRemoved, viewer.id()).await?;
    }
    Ok(())
}

/// A chat as it begins: the viewer in a role, the others as members.
struct NewChat {
    kind: ChatKind,
    details: ChatDetails,
    other_members: Vec<UserId>,
    creator_role: Role,
    resource: Option<Resource>,
}

impl NewChat {
    fn new(kind: ChatKind, details: ChatDetails, others: Vec<UserId>, role: Role) -> Self {
        Self { kind, details, other_members: others, creator_role: role, resource: None }
    }
}

/// Inserts a chat and its members; none where one with this key is there already.
async fn insert(
    app: &AppContext,
    conn: &mut Conn,
    viewer: &Viewer,
    new: NewChat,
    key: &ChatIdempotencyKey,
) -> Result<Option<CommitOutcome>> {
    app.rate_limits.check_chat_creation(viewer)?;
    let now = app.clock.now();
    let people = std::iter::once((viewer.id().clone(), new.creator_role));
    let people: Vec<_> = people.chain(new.other_members.into_iter().map(|user| (user, Role::Member))).collect();
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
    let mut writing = ChatTransaction::new(ChatAccess { chat, membership: None }, now);
    // Its own row takes the first version, each member's the next, and what it begins with the last.
    let newest = if kind == ChatKind::Direct { 0 } else { 1 + people.len() as i64 + 2 };
    writing.record_chat_change();
    let members: Vec<Member> = people
        .into_iter()
        .map(|(user, role)| {
            let added_by = (user != *viewer.id()).then(|| viewer.id().clone());
            let version = writing.next_version();
            Member { added_by, version, ..Member::new_member(id, user, role, newest, now) }
        })
        .collect();
    members.iter().for_each(|member| writing.record_member_change(member));
    if kind != ChatKind::Direct {
        writing.system_message(SystemMessageKind::ChatCreated, viewer.id(), None, title.clone());
        writing.system_message(SystemMessageKind::Welcome, viewer.id(), None, title);
        for member in &members {
            writing.notify(member, NotificationKind::AddedToChat, None, viewer.id());
        }
    }
    members::insert(conn, &writing.chat().organization, &members).await?;
    writing.commit_changes(conn).await.map(Some)
}

/// Changes a chat's details; `change` gets the present ones. No change takes no version.
pub async fn update(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut ChatDetails) -> Result<()> + Send,
) -> Result<Chat> {
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::EditDetails)?;
            let mut details = writing.chat().details.clone();
            change(&mut details)?;
            let former = std::mem::replace(&mut writing.access.chat.details, details);
            let details = &writing.access.chat.details;
            if details.category.is_some() && writing.access.chat.kind != ChatKind::Group {
                return Err(Error::bad_input("category", "is for groups"));
            }
            let differences = details.changed_fields(&former);
            if details.policy != former.policy {
                // Who sets the least roles could give themselves any right: by the roles of before.
                let chat = Chat { details: former, ..writing.access.chat.clone() };
                let before = ChatAccess { chat, membership: writing.access.membership.clone() };
                before.rights(viewer, writing.now).can(ChatAction::ChangeRoles)?;
            }
            if !differences.is_empty() {
                writing.record_chat_change();
                writing.system_message(
                    SystemMessageKind::DetailsChanged,
                    viewer.id(),
                    None,
                    Some(differences.join(",")),
                );
            }
            writing.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(told))
}

/// Puts a chat away, to be read only, or takes it back.
pub async fn set_archived(app: &AppContext, viewer: &Viewer, id: ChatId, archived: bool) -> Result<Chat> {
    let mut conn = app.database.write().await?;
    let told = conn
        .transaction(async move |conn| {
            let mut writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::EditDetails)?;
            if writing.chat().archived_at.is_some() != archived {
                writing.access.chat.archived_at = archived.then_some(writing.now);
                writing.record_chat_change();
                writing.system_message(SystemMessageKind::DetailsChanged, viewer.id(), None, Some("archivedAt".into()));
            }
            writing.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(told))
}

/// Deletes a chat with all that was said in it. Its feeds end.
pub async fn delete(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<()> {
    let mut conn = app.database.write().await?;
    let chat = conn
        .transaction(async move |conn| {
            let writing = ChatTransaction::lock(conn, app, viewer, id).await?;
            writing.rights(viewer).can(ChatAction::DeleteChat)?;
            chat_removals::insert(conn, id, writing.now).await?;
            chat_removals::delete_before(conn, writing.now - REMOVALS_RETAINED).await?;
            chats::delete(conn, id).await?;
            Ok(writing.access.chat)
        })
        .await?;
    app.publish_deleted(chat);
    Ok(())
}
