//! A group of sends: decided one by one, in their order, under the locks of their chats; written
//! together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::blocklist::Blocklist;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, LogSlice, MessageChange, NotificationBatch};
use crate::domain::chats::{Chat, ChatAction};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, MessageId, Nonce, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Content, DraftBody, Forwarded, Message, MessageDraft, MessageKind, message_kind};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::rights::{ChatRights, DenialReason, require_user_message};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::notifications::newly_read;
use crate::service::rate_limits::RateLimits;
use crate::service::send::queue::SendResult;
use crate::storage::connection::Conn;
use crate::storage::{blocklist, chats, members, messages, notifications};

type SendRequest = (Arc<Viewer>, MessageDraft);

/// What a group is decided from, and what it makes.
pub struct SendBatch<'a> {
    rate_limits: &'a RateLimits,
    now: DateTime<Utc>,
    chats: HashMap<ChatId, Chat>,
    /// Senders, those mentioned, and authors of what is replied to; in chats that are forwarded from too.
    members: HashMap<MemberId, Member>,
    /// Everyone in the chats in which a send mentions everyone.
    active_members: HashMap<ChatId, Vec<UserId>>,
    /// By chat, sender and nonce: those of the database, then those of this group too.
    sent_by_nonce: HashMap<(ChatId, UserId, Nonce), Arc<Message>>,
    /// What is replied to, or forwarded.
    referenced_messages: HashMap<MessageId, Message>,
    /// The chats that are forwarded from.
    forward_source_chats: HashMap<ChatId, Chat>,
    blocklists: HashMap<OrganizationId, Blocklist>,
    changes: BTreeMap<ChatId, Vec<Change>>,
    new_messages: Vec<Arc<Message>>,
    changed_thread_roots: HashSet<MessageId>,
    mentions: Vec<(MessageId, UserId)>,
    posters: HashSet<MemberId>,
    /// Those among them who have read their chat by it.
    readers: HashSet<MemberId>,
    notifications: Vec<Notification>,
}

/// What a group made, to be told once it is committed.
pub struct BatchResult {
    pub events: Vec<ChatEvent>,
    pub posters: Vec<MemberId>,
}

impl<'a> SendBatch<'a> {
    pub async fn load(conn: &mut Conn, sends: &[SendRequest], limits: &'a RateLimits, clock: &Clock) -> Result<Self> {
        let drafts = || sends.iter().map(|(_, draft)| draft);
        let chats = chats::lock(conn, &unique(drafts().map(|draft| draft.chat))).await?;
        // Under the locks: later than all that was written before.
        let now = clock.now();
        let nonces: Vec<_> = drafts().filter_map(|draft| Some((draft.chat, draft.nonce.clone()?))).collect();
        let sent = if nonces.is_empty() { Vec::new() } else { messages::by_nonces(conn, &nonces).await? };
        let targets = unique(drafts().flat_map(referenced_messages));
        let targets = if targets.is_empty() { Vec::new() } else { messages::by_ids(conn, &targets).await? };
        let sources = unique(drafts().filter_map(forward_source).map(|source| source.chat));
        let sources =
            if sources.is_empty() { Vec::new() } else { chats::by_ids_any_organization(conn, &sources).await? };
        let authors = targets.iter().filter_map(|target| {
            let user = target.sender.clone()?;
            Some(MemberId { chat: target.id.chat, user })
        });
        let concerned = sends.iter().flat_map(|(viewer, draft)| involved_members(viewer, draft)).chain(authors);
        let mut members = members::by_ids(conn, &unique(concerned)).await?;
        let mut everyone = HashMap::new();
        for chat in unique(drafts().filter(|draft| draft.mentions_everyone).map(|draft| draft.chat)) {
            let active = members::active_members(conn, chat).await?;
            everyone.insert(chat, active.iter().map(|member| member.user.clone()).collect());
            members.extend(active);
        }
        let organizations: HashSet<&OrganizationId> = sends.iter().map(|(viewer, _)| viewer.organization()).collect();
        let blocklists = blocklist::by_organizations(conn, &organizations.into_iter().collect::<Vec<_>>()).await?;
        let by_nonce = |message: Message| {
            let key = (message.id.chat, message.sender.clone()?, message.nonce.clone()?);
            Some((key, Arc::new(message)))
        };
        Ok(Self {
            rate_limits: limits,
            now,
            chats: chats.into_iter().map(|chat| (chat.id, chat)).collect(),
            members: members.into_iter().map(|member| (member.id(), member)).collect(),
            active_members: everyone,
            sent_by_nonce: sent.into_iter().filter_map(by_nonce).collect(),
            referenced_messages: targets.into_iter().map(|target| (target.id, target)).collect(),
            forward_source_chats: sources.into_iter().map(|chat| (chat.id, chat)).collect(),
            blocklists,
            changes: BTreeMap::new(),
            new_messages: Vec::new(),
            changed_thread_roots: HashSet::new(),
            mentions: Vec::new(),
            posters: HashSet::new(),
            readers: HashSet::new(),
            notifications: Vec::new(),
        })
    }

    /// Decides one send, after those before it in the group.
    pub fn accept(&mut self, viewer: &Viewer, draft: &MessageDraft) -> Result<SendResult> {
        let id = MemberId { chat: draft.chat, user: viewer.id().clone() };
        let rights = self.rights(viewer, draft.chat)?;
        let key = draft.nonce.clone().map(|nonce| (draft.chat, viewer.id().clone(), nonce));
        if let Some(message) = key.as_ref().and_then(|key| self.sent_by_nonce.get(key)) {
            // What was sent is given back before any check that may fail by now, to who may read it.
            rights.require_membership()?;
            return match message.fingerprint == Some(draft.fingerprint()) {
                true => Ok(SendResult { message: message.clone(), replayed: true }),
                false => Err(Error::Conflict("this nonce was sent before with other content".into())),
            };
        }
        rights.can(if draft.mentions_everyone { ChatAction::MentionEveryone } else { ChatAction::Post })?;
        self.check_reply_target(draft)?;
        self.check_mentions(draft)?;
        let (text, content) = self.resolve_content(viewer, draft)?;
        self.rate_limits.check_send(viewer)?;

        let chat = self.chats.get_mut(&draft.chat).ok_or(Error::NotFound("chat"))?;
        chat.next_version(self.now);
        let in_timeline = draft.is_in_timeline();
        if in_timeline {
            chat.last_seq = chat.version;
            chat.last_activity_at = self.now;
        }
        let message = Arc::new(Message {
            id: MessageId { chat: chat.id, seq: chat.version },
            version: chat.version,
            kind: message_kind(text.as_deref(), &content),
            sender: Some(viewer.id().clone()),
            nonce: draft.nonce.clone(),
            text,
            content,
            reply_to_seq: draft.reply_to_seq,
            thread_root_seq: draft.thread_root_seq,
            in_timeline,
            reply_count: 0,
            mentions_everyone: draft.mentions_everyone,
            pinned: None,
            created_at: self.now,
            edited_at: None,
            deleted_at: None,
            fingerprint: draft.nonce.is_some().then(|| draft.fingerprint()),
        });
        let changes = self.changes.entry(draft.chat).or_default();
        changes.push(Change::Message(message.clone(), MessageChange::Added));
        if let Some(root) = message.thread_root().and_then(|root| self.referenced_messages.get_mut(&root)) {
            root.version = chat.next_version(self.now);
            root.reply_count += 1;
            self.changed_thread_roots.insert(root.id);
            changes.push(Change::Message(Arc::new(root.clone()), MessageChange::Thread));
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.last_posted_at = Some(self.now);
            // Who sends has read up to there; a thread is a place of its own.
            if in_timeline {
                member.read_markers.last_read_seq = message.id.seq;
                member.read_markers.last_read_at = Some(self.now);
                member.preferences.marked_unread = false;
                let own = |told: &&mut Notification| told.chat == id.chat && told.user == id.user;
                self.notifications.iter_mut().filter(own).for_each(|told| told.read_at = Some(self.now));
                self.readers.insert(id.clone());
            }
            self.posters.insert(id);
        }
        self.notify(viewer, &message, &draft.mentions);
        self.mentions.extend(draft.mentions.iter().map(|user| (message.id, user.clone())));
        if let Some(key) = key {
            self.sent_by_nonce.insert(key, message.clone());
        }
        self.new_messages.push(message.clone());
        Ok(SendResult { message, replayed: false })
    }

    fn rights<'b>(&'b self, viewer: &'b Viewer, chat: ChatId) -> Result<ChatRights<'b>> {
        let id = MemberId { chat, user: viewer.id().clone() };
        let chat = self.chats.get(&chat).filter(|chat| chat.organization == *viewer.organization());
        let rights = ChatRights {
            permissions: &viewer.permissions,
            chat: chat.ok_or(Error::NotFound("chat"))?,
            member: self.members.get(&id).filter(|member| member.is_active()),
            now: self.now,
        };
        if rights.can_see() { Ok(rights) } else { Err(Error::NotFound("chat")) }
    }

    /// What is replied to has to be there, and a thread begins among the chat's messages.
    fn check_reply_target(&self, draft: &MessageDraft) -> Result<()> {
        let target = |seq: i64| {
            let target = self.referenced_messages.get(&MessageId { chat: draft.chat, seq });
            target.filter(|target| !target.is_deleted()).ok_or(Error::NotFound("message"))
        };
        draft.reply_to_seq.map(target).transpose()?;
        if let Some(root) = draft.thread_root_seq.map(target).transpose()? {
            if root.thread_root_seq.is_some() {
                return Err(Error::bad_input("threadRootId", "is itself a reply of a thread"));
            }
            if root.kind == MessageKind::System {
                return Err(DenialReason::SystemMessage.into());
            }
        }
        Ok(())
    }

    fn check_mentions(&self, draft: &MessageDraft) -> Result<()> {
        let is_in = |user: &UserId| {
            let id = MemberId { chat: draft.chat, user: user.clone() };
            self.members.get(&id).is_some_and(Member::is_active)
        };
        match draft.mentions.iter().all(is_in) {
            true => Ok(()),
            false => Err(Error::bad_input("mentionIds", "must be members of the chat")),
        }
    }

    /// What the message says, without words that the organisation blocks.
    fn resolve_content(&self, viewer: &Viewer, draft: &MessageDraft) -> Result<(Option<String>, Content)> {
        let (text, content, of_forward) = match &draft.body {
            DraftBody::New { text, content } => (text.clone(), (**content).clone(), None),
            DraftBody::Forward(source) => {
                let (text, content) = self.resolve_forward(viewer, *source)?;
                (text, content, Some("messageId"))
            }
        };
        match self.blocklists.get(viewer.organization()) {
            Some(list) => apply_blocklist(list, of_forward, text, content),
            None => Ok((text, content)),
        }
    }

    /// What another message says that the viewer may read.
    fn resolve_forward(&self, viewer: &Viewer, source: MessageId) -> Result<(Option<String>, Content)> {
        let reader = MemberId { chat: source.chat, user: viewer.id().clone() };
        let chat =
            self.forward_source_chats.get(&source.chat).filter(|chat| chat.organization == *viewer.organization());
        let may_read = self.members.get(&reader).is_some_and(Member::is_active);
        let (Some(chat), true, Some(source)) = (chat, may_read, self.referenced_messages.get(&source)) else {
            return Err(Error::NotFound("message"));
        };
        require_user_message(source)?;
        let mut content = source.content.clone();
        if let Some(poll) = &mut content.poll {
            // Asked anew, of others.
            poll.closes_at = None;
            poll.closed_at = None;
        }
        // What was forwarded before keeps its first origin.
        content.forwarded.get_or_insert_with(|| Forwarded {
            sender: source.sender.clone(),
            chat_title: chat.details.title.clone(),
            sent_at: source.created_at,
        });
        Ok((source.text.clone(), content))
    }

    /// Tells those whom a message concerns, each of one thing.
    fn notify(&mut self, viewer: &Viewer, message: &Message, mentions: &[UserId]) {
        let chat = message.id.chat;
        let answered = [message.reply_to(), message.thread_root()].into_iter().flatten();
        let authors = answered.filter_map(|id| self.referenced_messages.get(&id)?.sender.clone());
        let everyone = if message.mentions_everyone { self.active_members.get(&chat) } else { None };
        let mentioned = mentions.iter().chain(everyone.into_iter().flatten()).cloned();
        let concerned = mentioned.map(|user| (user, NotificationKind::Mention));
        let concerned: Vec<_> = concerned.chain(authors.map(|user| (user, NotificationKind::Reply))).collect();
        let mut told = HashSet::new();
        for (user, kind) in concerned {
            let Some(member) = self.members.get(&MemberId { chat, user }) else { continue };
            let seq = Some(message.id.seq);
            let notification = Notification::for_user(member, viewer.organization(), kind, seq, viewer.id(), self.now);
            self.notifications.extend(notification.filter(|notification| told.insert(notification.user.clone())));
        }
    }

    /// Writes what the group made, and says what to tell of it.
    pub async fn write(self, conn: &mut Conn) -> Result<BatchResult> {
        if self.new_messages.is_empty() {
            return Ok(BatchResult { events: Vec::new(), posters: Vec::new() });
        }
        messages::insert(conn, &self.new_messages).await?;
        messages::update_chat_counters(conn, self.changes.keys().filter_map(|id| self.chats.get(id))).await?;
        let posters: Vec<&Member> = self.posters.iter().filter_map(|id| self.members.get(id)).collect();
        members::record_posts(conn, &posters).await?;
        let roots: Vec<&Message> =
            self.changed_thread_roots.iter().filter_map(|id| self.referenced_messages.get(id)).collect();
        if !roots.is_empty() {
            messages::update_thread_counts(conn, &roots).await?;
        }
        messages::insert_mentions(conn, &self.mentions).await?;
        let organization = |chat: &ChatId| self.chats.get(chat).map(|chat| chat.organization.clone());
        let readers: Vec<MemberId> = self.readers.into_iter().collect();
        let mut read = Vec::new();
        if !readers.is_empty() {
            let number = notifications::mark_read_by_post(conn, &readers, self.now).await?;
            let people = readers.iter().filter_map(|id| Some((organization(&id.chat)?, id.user.clone())));
            read = newly_read(conn, &people.collect::<Vec<_>>(), self.now, number).await?;
        }
        notifications::insert(conn, &self.notifications).await?;
        let changed = self
            .changes
            .into_iter()
            .map(|(chat, changes)| (chat, ChatEventKind::LogChanges(LogSlice::from_commit(changes))));
        let notified = notification_batches(self.notifications, read, &readers).into_iter();
        let happened =
            changed.chain(notified.map(|(chat, notified)| (chat, ChatEventKind::NotificationsChanged(notified))));
        let events =
            happened.filter_map(|(chat, what)| Some(ChatEvent::new(organization(&chat)?, chat, self.now, what)));
        Ok(BatchResult { events: events.collect(), posters: self.posters.into_iter().collect() })
    }
}

/// What to tell of notifications that are new, and of those that were read by who posted.
fn notification_batches(
    new: Vec<Notification>,
    read: Vec<Notification>,
    readers: &[MemberId],
) -> Vec<(ChatId, NotificationBatch)> {
    let (read, unknown) =
        if read.len() > NotificationBatch::MAX_PER_EVENT { (Vec::new(), readers) } else { (read, &[][..]) };
    let mut by_chat: BTreeMap<ChatId, Vec<Notification>> = BTreeMap::new();
    for notification in new.into_iter().chain(read) {
        by_chat.entry(notification.chat).or_default().push(notification);
    }
    let known = by_chat
        .iter()
        .flat_map(|(chat, notifications)| NotificationBatch::chunked(notifications).map(|notified| (*chat, notified)));
    let unknown =
        unknown.iter().map(|reader| (reader.chat, NotificationBatch::new(vec![reader.user.clone()], Vec::new())));
    known.chain(unknown).collect()
}

/// What is said by the list of blocked words. What is refused in a forwarded message is no field of its own.
fn apply_blocklist(
    list: &Blocklist,
    of_forward: Option<&'static str>,
    mut text: Option<String>,
    mut content: Content,
) -> Result<(Option<String>, Content)> {
    let pass = |field, text: &mut String| {
        *text = list.apply(of_forward.unwrap_or(field), std::mem::take(text))?;
        Ok::<_, Error>(())
    };
    text.as_mut().map_or(Ok(()), |text| pass("text", text))?;
    if let Some(poll) = &mut content.poll {
        pass("poll.question", &mut poll.question)?;
        poll.options.iter_mut().try_for_each(|option| pass("poll.options", option))?;
    }
    if let Some(location) = &mut content.location {
        location.name.as_mut().map_or(Ok(()), |name| pass("location.name", name))?;
        location.address.as_mut().map_or(Ok(()), |address| pass("location.address", address))?;
    }
    Ok((text, content))
}

/// The messages that a draft points at.
fn referenced_messages(draft: &MessageDraft) -> impl Iterator<Item = MessageId> {
    let here = [draft.reply_to_seq, draft.thread_root_seq].into_iter().flatten();
    let chat = draft.chat;
    here.map(move |seq| MessageId { chat, seq }).chain(forward_source(draft))
}

fn forward_source(draft: &MessageDraft) -> Option<MessageId> {
    match draft.body {
        DraftBody::Forward(source) => Some(source),
        DraftBody::New { .. } => None,
    }
}

/// The members by whom a send is decided.
fn involved_members(viewer: &Viewer, draft: &MessageDraft) -> impl Iterator<Item = MemberId> {
    let chat = draft.chat;
    let chats = std::iter::once(chat).chain(forward_source(draft).map(|source| source.chat));
    let sender = viewer.id().clone();
    let own = chats.map(move |chat| MemberId { chat, user: sender.clone() });
    own.chain(draft.mentions.iter().map(move |user| MemberId { chat, user: user.clone() }))
}

fn unique<T: Eq + std::hash::Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<HashSet<_>>().into_iter().collect()
}
