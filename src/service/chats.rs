//! Chats: finding, making and changing them.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::access::Access;
use super::members::{MAX_AT_ONCE, known_people};
use crate::app::App;
use crate::domain::changes::Change;
use crate::domain::chats::{Chat, ChatFilter, ChatKind, Details, direct_key};
use crate::domain::ids::{ChatId, Nonce, UserId};
use crate::domain::members::{Member, Role};
use crate::domain::pages::{End, Page, PageArgs};
use crate::domain::rights::require;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::storage::chats::{ByActivity, ChatKey};
use crate::storage::{Conn, chats, members};

/// The chats among these that exist for the viewer.
pub async fn by_ids(app: &App, viewer: &Viewer, ids: &[ChatId]) -> Result<HashMap<ChatId, Access>> {
    let mut conn = app.store.read().await?;
    Access::find(&mut conn, viewer, ids).await
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
    let key = direct_key(viewer.id(), &other);
    let mut conn = app.store.write().await?;
    let (chat, changes) = conn
        .transaction(async move |conn| {
            known_people(conn, viewer, std::slice::from_ref(&other)).await?;
            let key = ChatKey { direct_key: Some(key), ..ChatKey::default() };
            let new = NewChat {
                kind: ChatKind::Direct,
                details: Details::default(),
                others: vec![other],
                role: Role::Member,
            };
            if let Some(made) = make(app, conn, viewer, new, &key).await? {
                return Ok(made);
            }
            let key = key.direct_key.as_deref().unwrap_or_default();
            let chat = chats::by_direct_key(conn, viewer.organization(), key).await?;
            Ok((chat.ok_or(Error::NotFound("chat"))?, Vec::new()))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(chat)
}

/// A chat to be made, checked.
#[derive(Debug, Clone)]
pub struct ChatDraft {
    pub kind: ChatKind,
    pub details: Details,
    pub members: Vec<UserId>,
    pub nonce: Option<Nonce>,
}

impl ChatDraft {
    /// Equal for equal content, and for no other.
    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?} {:?}", self.kind, self.details, self.members));
        hash.finalize()[..16].to_vec()
    }
}

/// Makes a group or a channel. A creation repeated with its nonce gives the first chat back.
pub async fn create(app: &App, viewer: &Viewer, mut draft: ChatDraft) -> Result<Chat> {
    if draft.kind == ChatKind::Direct {
        return Err(Error::bad_input("kind", "must be GROUP or CHANNEL; openDirectChat opens a direct chat"));
    }
    draft.members.retain(|user| user != viewer.id());
    draft.members.sort();
    draft.members.dedup();
    if draft.members.len() > MAX_AT_ONCE {
        return Err(Error::bad_input("memberIds", format!("must be at most {MAX_AT_ONCE}; addMembers adds more")));
    }
    let fingerprint = draft.fingerprint();
    let key = ChatKey {
        direct_key: None,
        nonce: draft.nonce.clone(),
        fingerprint: draft.nonce.is_some().then_some(fingerprint),
    };
    let mut conn = app.store.write().await?;
    let (chat, changes) = conn
        .transaction(async move |conn| {
            // A creation that succeeded before is given back before anything that may fail now.
            if let Some(chat) = made_before(conn, viewer, &key).await? {
                return Ok((chat, Vec::new()));
            }
            require(&viewer.permissions, Permission::ChatView)?;
            require(&viewer.permissions, Permission::ChatCreateGroup)?;
            known_people(conn, viewer, &draft.members).await?;
            let new = NewChat { kind: draft.kind, details: draft.details, others: draft.members, role: Role::Owner };
            match make(app, conn, viewer, new, &key).await? {
                Some(made) => Ok(made),
                // Another request with this nonce was first.
                None => {
                    let chat = made_before(conn, viewer, &key).await?;
                    Ok((chat.ok_or(Error::NotFound("chat"))?, Vec::new()))
                }
            }
        })
        .await?;
    app.publish(&chat, changes);
    Ok(chat)
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

/// A chat as it begins: the viewer in a role, the others as members.
struct NewChat {
    kind: ChatKind,
    details: Details,
    others: Vec<UserId>,
    role: Role,
}

/// Inserts a chat and its members; none where one with this key is there already.
async fn make(
    app: &App,
    conn: &mut Conn,
    viewer: &Viewer,
    new: NewChat,
    key: &ChatKey,
) -> Result<Option<(Chat, Vec<Change>)>> {
    let now = app.clock.now();
    let people = std::iter::once((viewer.id().clone(), new.role));
    let people: Vec<_> = people.chain(new.others.into_iter().map(|user| (user, Role::Member))).collect();
    // Its own row takes the first version, and each member's the next.
    let chat = Chat {
        id: ChatId::new(),
        organization: viewer.organization().clone(),
        kind: new.kind,
        details: new.details,
        created_by: Some(viewer.id().clone()),
        created_at: now,
        last_activity_at: now,
        version: 1 + people.len() as i64,
        details_version: 1,
        last_seq: 0,
        member_count: people.len() as i32,
    };
    if !chats::insert(conn, &chat, key).await? {
        return Ok(None);
    }
    let new: Vec<Member> = people
        .into_iter()
        .zip(2..)
        .map(|((user, role), version)| Member {
            chat: chat.id,
            added_by: (user != *viewer.id()).then(|| viewer.id().clone()),
            user,
            role,
            joined_at: now,
            left_at: None,
            version,
            last_read_seq: 0,
            last_read_at: None,
            last_posted_at: None,
        })
        .collect();
    members::insert(conn, &chat.organization, &new).await?;
    let own = Change::Chat(Arc::new(chat.clone()));
    let changes = std::iter::once(own).chain(new.into_iter().map(|member| Change::Member(Arc::new(member))));
    Ok(Some((chat, changes.collect())))
}

/// Changes a chat's details; `change` gets the present ones. No change takes no version.
pub async fn update(
    app: &App,
    viewer: &Viewer,
    id: ChatId,
    change: impl FnOnce(&mut Details) -> Result<()> + Send,
) -> Result<Chat> {
    use crate::domain::chats::ChatAction;
    let mut conn = app.store.write().await?;
    let (chat, changes) = conn
        .transaction(async move |conn| {
            let mut access = Access::lock(conn, viewer, id).await?;
            access.rights(viewer, app.clock.now()).can(ChatAction::EditDetails)?;
            let mut details = access.chat.details.clone();
            change(&mut details)?;
            if details.policy != access.chat.details.policy {
                // Who sets the least roles could give themselves any right.
                access.rights(viewer, app.clock.now()).can(ChatAction::ChangeRoles)?;
            }
            if details == access.chat.details {
                return Ok((access.chat, Vec::new()));
            }
            access.chat.details = details;
            access.chat.details_version = access.next_version();
            chats::update(conn, &access.chat).await?;
            let changed = Change::Chat(Arc::new(access.chat.clone()));
            Ok((access.chat, vec![changed]))
        })
        .await?;
    app.publish(&chat, changes);
    Ok(chat)
}
