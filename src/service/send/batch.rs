//! Many sends to chats of one bucket, committed together in three steps.
//!
//! 1. [`SendBatch::load`] locks the chats, or those that are free, and reads everything that the decisions need.
//! 2. [`SendBatch::accept`] decides each send in its order. It uses no database: the loaded rows have the effects of
//!    the sends accepted before.
//! 3. [`SendBatch::write`] writes all accepted sends together.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};

use crate::domain::buckets::Bucket;
use crate::domain::chat_events::{Change, ChatEvent, ChatEventKind, LogSlice, MessageChange, NotificationBatch};
use crate::domain::chats::ChatAction;
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Content, Message, MessageDraft, message_kind};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::service::rate_limits::RateLimits;
use crate::service::send::state::{BatchState, unique};
use crate::service::send::thread_writes::ThreadWrites;
use crate::storage::connection::Conn;
use crate::storage::{chats, members, mentions, messages, notifications, search_index};

/// A message that a viewer wants to send.
#[derive(Debug)]
pub struct SendRequest {
    pub viewer: Arc<Viewer>,
    pub draft: MessageDraft,
    /// True if the rate limit has counted the send, which may be tried several times.
    is_counted: AtomicBool,
}

impl SendRequest {
    /// Returns a send that has not been tried yet.
    pub fn new(viewer: Arc<Viewer>, draft: MessageDraft) -> Self {
        Self { viewer, draft, is_counted: AtomicBool::new(false) }
    }

    /// Returns the bucket of the chat, whose rows the send writes.
    pub fn bucket(&self) -> Bucket {
        self.draft.chat.bucket()
    }
}

/// The treatment of chats that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatLocking {
    /// Leaves their sends undecided.
    SkipLocked,
    /// Waits for the lock.
    Wait,
}

/// A message that was committed.
#[derive(Debug, Clone)]
pub struct SendResult {
    pub message: Arc<Message>,
    /// True if the nonce was used before, by the send that created the message.
    pub replayed: bool,
}

/// A batch of sends inside its transaction.
pub struct SendBatch<'a> {
    /// The bucket of all chats of the sends.
    bucket: Bucket,
    rate_limits: &'a RateLimits,
    /// The time of the transaction. It was read under the locks, so it is later than every earlier change of the chats.
    now: DateTime<Utc>,
    state: BatchState,
    /// The chats that another transaction has locked.
    held: Vec<ChatId>,
    writes: PendingWrites,
}

/// The rows that the accepted sends create and change, besides those of [`BatchState`].
#[derive(Default)]
struct PendingWrites {
    changes: BTreeMap<ChatId, Vec<Change>>,
    messages: Vec<Arc<Message>>,
    changed_thread_roots: HashSet<MessageId>,
    mentions: Vec<(Arc<Message>, UserId)>,
    posters: HashSet<MemberId>,
    /// The posters whose read marker moves to their own message.
    readers: HashSet<MemberId>,
    /// The users who begin to follow a thread, and those who read it by posting there.
    threads: ThreadWrites,
    notifications: Vec<Notification>,
}

/// The outcome of a batch, which is published after the commit.
#[derive(Default)]
pub struct BatchOutcome {
    pub events: Vec<ChatEvent>,
    pub posters: Vec<MemberId>,
}

impl BatchOutcome {
    /// Adds the outcome of a later batch in the same transaction.
    pub fn append(&mut self, mut later: Self) {
        self.events.append(&mut later.events);
        self.posters.append(&mut later.posters);
    }
}

impl<'a> SendBatch<'a> {
    /// Locks the chats of the sends, at least one, and reads everything that the decisions need.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn load(
        conn: &mut Conn,
        requests: &[&SendRequest],
        locking: ChatLocking,
        rate_limits: &'a RateLimits,
        clock: &Clock,
    ) -> Result<Self> {
        let bucket = requests[0].bucket();
        let ids = unique(requests.iter().map(|request| request.draft.chat));
        let (locked, held) = match locking {
            ChatLocking::SkipLocked => chats::lock_free(conn, bucket, &ids).await?,
            ChatLocking::Wait => (chats::lock(conn, bucket, &ids).await?, Vec::new()),
        };
        let now = clock.now();
        let decided = requests.iter().filter(|request| !held.contains(&request.draft.chat));
        let sends: Vec<_> = decided.map(|request| (&*request.viewer, &request.draft)).collect();
        let state = BatchState::load(conn, locked, &sends).await?;
        Ok(Self { bucket, rate_limits, now, state, held, writes: PendingWrites::default() })
    }

    /// Decides one send, after those before it in the batch.
    ///
    /// Returns `None` if another transaction has locked its chat.
    pub fn decide(&mut self, request: &SendRequest) -> Option<Result<SendResult>> {
        if self.held.contains(&request.draft.chat) { None } else { Some(self.accept(request)) }
    }

    /// Decides one send whose chat this transaction has locked.
    ///
    /// # Errors
    ///
    /// Returns the reason why the send is refused: its chat does not exist for the viewer ([`Error::NotFound`]), the
    /// nonce was used for other content ([`Error::Conflict`]), the viewer may not post ([`Error::Forbidden`] or, in
    /// slow mode, [`Error::RateLimited`]), or the draft is not valid ([`Error::BadUserInput`]).
    pub fn accept(&mut self, request: &SendRequest) -> Result<SendResult> {
        let SendRequest { viewer, draft, is_counted } = request;
        let rights = self.state.rights(viewer, draft.chat, self.now)?;
        let key = draft.nonce.clone().map(|nonce| (draft.chat, viewer.id().clone(), nonce));
        if let Some(message) = key.as_ref().and_then(|key| self.state.sent_by_nonce.get(key)) {
            // A repeated send succeeds even if a check that it passed at first fails now, but only for a reader.
            rights.require_membership()?;
            return match message.fingerprint == Some(draft.fingerprint()) {
                true => Ok(SendResult { message: message.clone(), replayed: true }),
                false => Err(Error::Conflict("the nonce was already used for a message with other content".into())),
            };
        }
        rights.can(if draft.mentions_everyone { ChatAction::MentionEveryone } else { ChatAction::Post })?;
        self.state.check_reply_target(viewer, draft)?;
        self.state.check_mentions(draft)?;
        let (text, content) = self.state.resolve_content(viewer, draft)?;
        if !is_counted.swap(true, Ordering::Relaxed) {
            self.rate_limits.check_send(viewer)?;
        }

        let message = self.add_message(viewer, draft, text, content)?;
        self.count_reply(&message);
        self.update_poster(viewer, &message, draft);
        self.notify(viewer, &message, &draft.mentions);
        self.writes.threads.record_reply(&mut self.state, &message, &draft.mentions);
        self.writes.mentions.extend(draft.mentions.iter().map(|user| (message.clone(), user.clone())));
        if let Some(key) = key {
            self.state.sent_by_nonce.insert(key, message.clone());
        }
        Ok(SendResult { message, replayed: false })
    }

    /// Creates the message, under the next version of its chat.
    fn add_message(
        &mut self,
        viewer: &Viewer,
        draft: &MessageDraft,
        text: Option<String>,
        content: Content,
    ) -> Result<Arc<Message>> {
        let chat = self.state.chats.get_mut(&draft.chat).ok_or(Error::NotFound("chat"))?;
        let version = chat.next_version(self.now);
        let in_timeline = draft.is_in_timeline();
        if in_timeline {
            chat.record_message(version, self.now);
        }
        let message = Arc::new(Message {
            id: MessageId { chat: chat.id, seq: version },
            version,
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
        self.writes.record(Change::Message(message.clone(), MessageChange::Added), draft.chat);
        self.writes.messages.push(message.clone());
        Ok(message)
    }

    /// Counts a reply in the root of its thread, which takes the next version.
    fn count_reply(&mut self, reply: &Message) {
        let Some(id) = reply.thread_root() else { return };
        let (Some(root), Some(chat)) =
            (self.state.referenced_messages.get_mut(&id), self.state.chats.get_mut(&id.chat))
        else {
            return;
        };
        root.version = chat.next_version(self.now);
        root.reply_count += 1;
        self.writes.changed_thread_roots.insert(id);
        self.writes.record(Change::Message(Arc::new(root.clone()), MessageChange::Thread), id.chat);
    }

    /// Updates the sender's membership: time of the post, draft, and read marker of the timeline.
    fn update_poster(&mut self, viewer: &Viewer, message: &Message, draft: &MessageDraft) {
        let id = MemberId { chat: message.id.chat, user: viewer.id().clone() };
        let Some(member) = self.state.members.get_mut(&id) else { return };
        member.last_posted_at = Some(self.now);
        if let Some(text) = draft.typed_text() {
            member.preferences.clear_sent_draft(text);
        }
        // Sending reads up to one's own message. A reply in a thread is not a part of the timeline.
        if message.in_timeline {
            member.read_markers.last_read_seq = message.id.seq;
            member.read_markers.last_read_at = Some(self.now);
            member.preferences.marked_unread = false;
            self.writes.readers.insert(id.clone());
        }
        let messages = &self.writes.messages;
        let is_read = |notification: &Notification| {
            let is_own = notification.chat == id.chat && notification.user == id.user;
            let about = || messages.iter().find(|earlier| notification.message() == Some(earlier.id));
            is_own && about().is_some_and(|earlier| message.shares_list_with(earlier))
        };
        for notification in self.writes.notifications.iter_mut().filter(|notification| is_read(notification)) {
            notification.read_at = Some(self.now);
        }
        self.writes.posters.insert(id);
    }

    /// Notifies the users whom a message mentions or answers, and the followers of its thread, once each.
    fn notify(&mut self, viewer: &Viewer, message: &Message, mentions: &[UserId]) {
        let chat = message.id.chat;
        let state = &self.state;
        let answered = [message.reply_to(), message.thread_root()].into_iter().flatten();
        let authors = answered.filter_map(|id| state.referenced_messages.get(&id)?.sender.clone());
        let followers = message.thread_root().and_then(|root| state.followers.get(&root)).into_iter().flatten();
        let answered_users = authors.chain(followers.cloned());
        let everyone = if message.mentions_everyone { state.active_members.get(&chat) } else { None };
        let mentioned = mentions.iter().chain(everyone.into_iter().flatten()).cloned();
        let mentioned = mentioned.map(|user| (user, NotificationKind::Mention));
        let mut notified = HashSet::new();
        for (user, kind) in mentioned.chain(answered_users.map(|user| (user, NotificationKind::Reply))) {
            let Some(member) = state.members.get(&MemberId { chat, user }) else { continue };
            let seq = Some(message.id.seq);
            let notification = Notification::for_user(member, viewer.organization(), kind, seq, viewer.id(), self.now);
            let first = notification.filter(|notification| notified.insert(notification.user.clone()));
            self.writes.notifications.extend(first);
        }
    }

    /// Writes the accepted sends and returns the events to publish after the commit.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn write(self, conn: &mut Conn) -> Result<BatchOutcome> {
        let Self { bucket, state, writes, now, .. } = self;
        if writes.messages.is_empty() {
            return Ok(BatchOutcome::default());
        }
        // The chats were locked before their messages were accepted, so each is known.
        let new_messages = || {
            let organization = |chat| state.chats.get(chat).map(|chat| &chat.organization);
            writes.messages.iter().filter_map(move |message| Some((organization(&message.id.chat)?, message.as_ref())))
        };
        messages::insert(conn, new_messages()).await?;
        search_index::insert_new(conn, new_messages()).await?;
        chats::update_counters(conn, bucket, writes.changes.keys().filter_map(|id| state.chats.get(id))).await?;
        let posters: Vec<&Member> = writes.posters.iter().filter_map(|id| state.members.get(id)).collect();
        members::record_posts(conn, bucket, &posters).await?;
        let roots: Vec<&Message> =
            writes.changed_thread_roots.iter().filter_map(|id| state.referenced_messages.get(id)).collect();
        if !roots.is_empty() {
            messages::update_thread_counts(conn, &roots).await?;
        }
        let mentioned: Vec<_> = writes.mentions.iter().map(|(message, user)| (&**message, user)).collect();
        mentions::insert(conn, &mentioned).await?;
        let thread_readers = writes.threads.write(conn).await?;
        let organization = |chat: &ChatId| state.chats.get(chat).map(|chat| chat.organization.clone());
        let mut readers: Vec<MemberId> = writes.readers.into_iter().collect();
        let mut count = 0;
        if !readers.is_empty() {
            count += notifications::mark_read_by_post(conn, &readers, now).await?;
        }
        if !thread_readers.is_empty() {
            count += notifications::mark_read_in_threads(conn, &thread_readers, now).await?;
            readers.extend(thread_readers);
        }
        let users = readers.iter().filter_map(|id| Some((organization(&id.chat)?, id.user.clone())));
        let read = notifications::newly_read(conn, &users.collect::<Vec<_>>(), now, count).await?;
        notifications::insert(conn, &writes.notifications).await?;
        let changed = writes
            .changes
            .into_iter()
            .map(|(chat, changes)| (chat, ChatEventKind::LogChanges(LogSlice::from_commit(changes))));
        let notified = notification_batches(writes.notifications, read, &readers)
            .into_iter()
            .map(|(chat, batch)| (chat, ChatEventKind::NotificationsChanged(batch)));
        let events = changed
            .chain(notified)
            .filter_map(|(chat, kind)| Some(ChatEvent::new(organization(&chat)?, chat, now, kind)))
            .collect();
        Ok(BatchOutcome { events, posters: writes.posters.into_iter().collect() })
    }
}

impl PendingWrites {
    fn record(&mut self, change: Change, chat: ChatId) {
        self.changes.entry(chat).or_default().push(change);
    }
}

/// Returns the notifications that were created or were read by posting, in batches by chat.
///
/// If too many were read to publish them one by one, each reader gets an empty batch, after which the feed reads the
/// database.
fn notification_batches(
    created: Vec<Notification>,
    read: Vec<Notification>,
    readers: &[MemberId],
) -> Vec<(ChatId, NotificationBatch)> {
    let (read, unlisted_readers) =
        if read.len() > NotificationBatch::MAX_PER_EVENT { (Vec::new(), readers) } else { (read, &[][..]) };
    let mut by_chat: BTreeMap<ChatId, Vec<Notification>> = BTreeMap::new();
    for notification in created.into_iter().chain(read) {
        by_chat.entry(notification.chat).or_default().push(notification);
    }
    let listed = by_chat
        .iter()
        .flat_map(|(chat, notifications)| NotificationBatch::chunked(notifications).map(|batch| (*chat, batch)));
    let unlisted =
        unlisted_readers.iter().map(|reader| (reader.chat, NotificationBatch::new(vec![reader.user.clone()], &[])));
    listed.chain(unlisted).collect()
}
