//! Chats: finding, creating, changing and deleting them.

use std::collections::HashMap;
use std::time::Duration;

use crate::access::{ChatAccess, ReadScope};
use crate::domain::chats::{
    ActivityKey, Chat, ChatAction, ChatDetails, ChatFilter, ChatKind, REMOVALS_RETAINED, Resource, direct_chat_id,
    nonce_chat_id,
};
use crate::domain::ids::{ChatId, Nonce, UserId, fingerprint};
use crate::domain::members::{Member, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::notifications::NotificationKind;
use crate::domain::pagination::{Page, PageArgs, PageEnd, RootList};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::chat_transaction::ChatTransaction;
use crate::service::commit_outcome::CommitOutcome;
use crate::service::context::AppContext;
use crate::service::members::{MAX_ADDED_MEMBERS, require_known_users};
use crate::storage::connection::Conn;
use crate::storage::session::TransactionLimits;
use crate::storage::{chat_removals, chats, deleted_chats, members};
use crate::tasks::warn_of_failure;

/// The time limit of the statement that deletes a chat, which may have a million messages.
const DELETE_TIMEOUT: Duration = Duration::from_secs(25);

/// A group or channel to be created, whose details are validated.
#[derive(Debug, Clone)]
pub struct ChatDraft {
    pub kind: ChatKind,
    pub details: ChatDetails,
    pub members: Vec<UserId>,
    pub nonce: Option<Nonce>,
}

/// The result of a request for a chat that may exist already.
enum CreateResult {
    Existing(Chat),
    Created(CommitOutcome),
}

/// A chat to be inserted, with its members and their roles.
pub struct NewChat {
    pub kind: ChatKind,
    pub details: ChatDetails,
    pub members: Vec<(UserId, Role)>,
    pub resource: Option<Resource>,
    /// The id, if it follows from what the chat is for; the chat may then exist already.
    pub derived_id: Option<ChatId>,
    /// A hash of the request, if it had a nonce.
    pub fingerprint: Option<Vec<u8>>,
}

impl CreateResult {
    fn publish(self, app: &AppContext) -> Chat {
        match self {
            Self::Existing(chat) => chat,
            Self::Created(outcome) => app.publish_outcome(outcome),
        }
    }
}

impl NewChat {
    /// Returns a chat of the viewer, in a role, and of other members.
    fn new(kind: ChatKind, details: ChatDetails, viewer: &Viewer, role: Role, others: Vec<UserId>) -> Self {
        let creator = std::iter::once((viewer.id().clone(), role));
        let members = creator.chain(others.into_iter().map(|user| (user, Role::Member))).collect();
        Self { kind, details, members, resource: None, derived_id: None, fingerprint: None }
    }
}

/// Returns the chats with the given ids that exist for the scope, by id.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(app: &AppContext, scope: ReadScope<'_>, ids: &[ChatId]) -> Result<HashMap<ChatId, ChatAccess>> {
    let mut conn = app.database.read().await?;
    ChatAccess::find_in_scope(&mut conn, scope, ids).await
}

/// Returns a page of the viewer's chats, or of channels to join, the latest activity first.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::BadUserInput`] if
/// an argument of the page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, filter: &ChatFilter, args: &PageArgs) -> Result<Page<Chat>> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    let window = args.window::<RootList, ActivityKey>(&RootList::Chats, PageEnd::First)?;
    let mut conn = app.database.read().await?;
    let fetched = chats::page(&mut conn, viewer.organization(), viewer.id(), filter, &window).await?;
    Ok(window.to_page(fetched))
}

/// Returns the direct chat of the viewer and another user.
///
/// With the viewer as the other user, it is the chat for their own notes.
///
/// The first request of either user creates the chat.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, [`Error::UnknownUsers`] if the
/// user is unknown, and [`Error::RateLimited`] after too many new chats.
pub async fn open_direct(app: &AppContext, viewer: &Viewer, other: UserId) -> Result<Chat> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    app.rate_limits.check_write(viewer)?;
    let id = direct_chat_id(viewer.organization(), viewer.id(), &other);
    let mut conn = app.database.write().await?;
    let result = conn
        .transaction(async move |conn| {
            require_known_users(conn, viewer, "userId", std::slice::from_ref(&other)).await?;
            if let Some(chat) = existing(conn, viewer, id).await? {
                return Ok(CreateResult::Existing(chat));
            }
            let others = if other == *viewer.id() { Vec::new() } else { vec![other] };
            let new = NewChat::new(ChatKind::Direct, ChatDetails::default(), viewer, Role::Member, others);
            if let Some(outcome) = insert(conn, app, viewer, NewChat { derived_id: Some(id), ..new }).await? {
                return Ok(CreateResult::Created(outcome));
            }
            // Another request has created it meanwhile.
            existing(conn, viewer, id).await?.map(CreateResult::Existing).ok_or(Error::NotFound("chat"))
        })
        .await?;
    Ok(result.publish(app))
}

/// Creates a group or a channel; a repeated request with the same nonce returns the chat of the first.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`] if the draft is not valid, [`Error::Forbidden`] if the viewer may not create groups,
/// [`Error::UnknownUsers`] if a user is unknown, [`Error::Conflict`] if the nonce was used for other content, and
/// [`Error::RateLimited`] after too many new chats.
pub async fn create(app: &AppContext, viewer: &Viewer, mut draft: ChatDraft) -> Result<Chat> {
    if draft.kind == ChatKind::Direct {
        return Err(Error::bad_input("kind", "must be GROUP or CHANNEL; openDirectChat opens a direct chat"));
    }
    if draft.kind == ChatKind::Channel && draft.details.category.is_some() {
        return Err(Error::bad_input("category", "must be null unless the chat is a group"));
    }
    draft.members.retain(|user| user != viewer.id());
    draft.members.sort();
    draft.members.dedup();
    if draft.members.len() > MAX_ADDED_MEMBERS {
        return Err(Error::bad_input(
            "memberIds",
            format!("must have at most {MAX_ADDED_MEMBERS} users; addMembers adds more"),
        ));
    }
    app.rate_limits.check_writes(viewer, 1 + draft.members.len())?;
    let content = (draft.kind, &draft.details, &draft.members);
    let replayed = draft.nonce.as_ref().map(|nonce| NonceKey {
        chat: nonce_chat_id(viewer.organization(), viewer.id(), nonce),
        fingerprint: fingerprint(&content),
    });
    let mut conn = app.database.write().await?;
    let result = conn
        .transaction(async move |conn| {
            // A repeated request succeeds even if a check that it passed at first fails now.
            if let Some(chat) = find_replayed(conn, viewer, replayed.as_ref()).await? {
                return Ok(CreateResult::Existing(chat));
            }
            require_permission(&viewer.permissions, Permission::ChatView)?;
            require_permission(&viewer.permissions, Permission::ChatCreateGroup)?;
            require_known_users(conn, viewer, "memberIds", &draft.members).await?;
            let new = NewChat {
                derived_id: replayed.as_ref().map(|key| key.chat),
                fingerprint: replayed.as_ref().map(|key| key.fingerprint.clone()),
                ..NewChat::new(draft.kind, draft.details, viewer, Role::Owner, draft.members)
            };
            if let Some(outcome) = insert(conn, app, viewer, new).await? {
                return Ok(CreateResult::Created(outcome));
            }
            // Another request with the same nonce has created it meanwhile.
            let chat = find_replayed(conn, viewer, replayed.as_ref()).await?;
            chat.map(CreateResult::Existing).ok_or(Error::NotFound("chat"))
        })
        .await?;
    Ok(result.publish(app))
}

/// The chat that a request with a nonce creates, and the content of the request.
struct NonceKey {
    chat: ChatId,
    fingerprint: Vec<u8>,
}

/// Returns the chat that an earlier request with the same nonce created.
async fn find_replayed(conn: &mut Conn, viewer: &Viewer, key: Option<&NonceKey>) -> Result<Option<Chat>> {
    let Some(key) = key else { return Ok(None) };
    // Under its lock the chat is not deleted before the answer is decided.
    let Some((chat, fingerprint)) = chats::lock_with_fingerprint(conn, key.chat).await? else { return Ok(None) };
    if fingerprint.as_ref() != Some(&key.fingerprint) {
        return Err(Error::Conflict("the nonce was already used for a chat with other content".into()));
    }
    let is_visible = ChatAccess::find_visible(conn, viewer, &[chat.id]).await?.contains_key(&chat.id);
    if is_visible { Ok(Some(chat)) } else { Err(Error::NotFound("chat")) }
}

/// Returns the chat of the viewer's organisation with an id, visible or not.
async fn existing(conn: &mut Conn, viewer: &Viewer, id: ChatId) -> Result<Option<Chat>> {
    Ok(chats::by_ids(conn, viewer.organization(), &[id]).await?.pop())
}

/// Inserts a chat with its members; returns `None` if a chat with its derived id exists already.
///
/// # Errors
///
/// Returns [`Error::RateLimited`] after too many new chats.
pub async fn insert(conn: &mut Conn, app: &AppContext, viewer: &Viewer, new: NewChat) -> Result<Option<CommitOutcome>> {
    app.rate_limits.check_chat_creation(viewer)?;
    let now = app.clock.now();
    let users = new.members;
    let mut chat = Chat {
        id: new.derived_id.unwrap_or_else(|| ChatId::new(viewer.organization().bucket())),
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
        last_message_seq: 0,
        member_count: users.len() as i32,
        archived_at: None,
        resource: new.resource,
    };
    if !chats::insert(conn, &chat, new.fingerprint.as_deref()).await? {
        return Ok(None);
    }
    if new.derived_id.is_some() {
        // A deleted chat that is made again continues its versions, so that none means another change.
        chat.version = deleted_chats::take_version(conn, chat.id).await?.unwrap_or(0);
    }
    let version_before = chat.version;
    let (id, kind, title) = (chat.id, chat.kind, chat.details.title.clone());
    let mut transaction = ChatTransaction::new(ChatAccess { chat, membership: None }, now);
    // The chat's row takes the next version, each member one more, and the two system messages the last. All members
    // have read those messages.
    let newest = if kind == ChatKind::Direct { 0 } else { version_before + 1 + users.len() as i64 + 2 };
    transaction.record_chat_change();
    let members: Vec<Member> = users
        .into_iter()
        .map(|(user, role)| {
            let added_by = (user != *viewer.id()).then(|| viewer.id().clone());
            let version = transaction.next_version();
            Member { added_by, version, ..Member::new_member(id, user, role, newest, now) }
        })
        .collect();
    members.iter().for_each(|member| transaction.record_member_change(member));
    if kind != ChatKind::Direct {
        transaction.system_message(SystemMessageKind::ChatCreated, viewer.id(), None, title.clone());
        transaction.system_message(SystemMessageKind::Welcome, viewer.id(), None, title);
        for member in &members {
            transaction.notify(member, NotificationKind::AddedToChat, None, viewer.id());
        }
    }
    // The chat of a resource may have no members yet.
    if !members.is_empty() {
        members::insert(conn, &transaction.chat().organization, &members).await?;
    }
    transaction.commit_changes(conn).await.map(Some)
}

/// Changes a chat's details; `change` receives the current ones.
///
/// Details that stay the same take no version.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, [`Error::Forbidden`] if they may not change
/// the details, [`Error::BadUserInput`] if the details are not valid, and the error of `change`.
pub async fn update(
    app: &AppContext,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut ChatDetails) -> Result<()> + Send,
) -> Result<Chat> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can(ChatAction::EditDetails)?;
            let mut details = transaction.chat().details.clone();
            change(&mut details)?;
            if details.category.is_some() && transaction.chat().kind != ChatKind::Group {
                return Err(Error::bad_input("category", "must be null unless the chat is a group"));
            }
            let previous = &transaction.chat().details;
            let changed_fields = details.changed_fields(previous);
            if details.policy != previous.policy || details.history_for_new_members != previous.history_for_new_members
            {
                // By the policy before the change: otherwise members could give themselves any right by it. The
                // history decides what a member may read who leaves and returns.
                transaction.rights(viewer).can(ChatAction::ChangeRoles)?;
            }
            if !changed_fields.is_empty() {
                let new_title = details.title.clone().filter(|_| details.title != previous.title);
                transaction.access.chat.details = details;
                transaction.record_chat_change();
                transaction.details_changed(viewer.id(), changed_fields, new_title);
            }
            transaction.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(outcome))
}

/// Archives a chat, which makes it read-only, or restores it.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, and [`Error::Forbidden`] if they may not
/// change its details.
pub async fn set_archived(app: &AppContext, viewer: &Viewer, id: ChatId, archived: bool) -> Result<Chat> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let mut transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can(ChatAction::EditDetails)?;
            if transaction.chat().archived_at.is_some() != archived {
                transaction.access.chat.archived_at = archived.then_some(transaction.now);
                transaction.record_chat_change();
                transaction.details_changed(viewer.id(), vec!["archivedAt"], None);
            }
            transaction.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(outcome))
}

/// Deletes a chat with all its messages, and ends its feeds.
///
/// # Errors
///
/// Returns [`Error::NotFound`] if the chat does not exist for the viewer, and [`Error::Forbidden`] if they may not
/// delete it.
pub async fn delete(app: &AppContext, viewer: &Viewer, id: ChatId) -> Result<()> {
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let limits = TransactionLimits { statement: Some(DELETE_TIMEOUT), ..TransactionLimits::default() };
    let chat = conn
        .transaction_within(limits, async move |conn| {
            let transaction = ChatTransaction::lock(conn, viewer, id, &app.clock).await?;
            transaction.rights(viewer).can(ChatAction::DeleteChat)?;
            chat_removals::insert(conn, id, transaction.now).await?;
            deleted_chats::insert(conn, id, transaction.now).await?;
            chats::delete(conn, id).await?;
            Ok(transaction.access.chat)
        })
        .await?;
    app.publish_deleted(chat);
    // The chat is deleted whether or not this works; the next deletion tries it again.
    if let Err(error) = chat_removals::delete_before(&mut conn, app.clock.now() - REMOVALS_RETAINED).await {
        warn_of_failure!(error, "could not delete old records of deleted chats");
    }
    Ok(())
}
