//! A transaction on one chat: its changes take versions under the lock of the chat, and are published after the commit.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::ChatAccess;
use crate::domain::calls::Call;
use crate::domain::chat_events::{CallHint, Change, MessageChange, NotificationBatch, UnversionedChange};
use crate::domain::chats::{Chat, ChatKind};
use crate::domain::clock::Clock;
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Message, SystemMessage, SystemMessageKind};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::rights::{ChatRights, require_permission};
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::commit_outcome::CommitOutcome;
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages, notifications};

/// A chat under its row lock, with the changes that the transaction makes to it.
///
/// The row lock makes the order of commits equal to the order of versions: a transaction that took a later version
/// cannot commit before one that took an earlier version.
pub struct ChatTransaction {
    pub access: ChatAccess,
    /// The time of the transaction. It was read under the lock, so it is later than every earlier change of the chat.
    pub now: DateTime<Utc>,
    changes: Vec<Change>,
    system_messages: Vec<Arc<Message>>,
    notifications: Vec<Notification>,
    notification_batches: Vec<NotificationBatch>,
    unversioned: Vec<(MemberId, UnversionedChange)>,
    call_hints: Vec<CallHint>,
}

impl ChatTransaction {
    /// Locks a chat that exists for the viewer until the database transaction ends.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::NotFound`] if
    /// the chat does not exist for the viewer.
    pub async fn lock(conn: &mut Conn, viewer: &Viewer, chat: ChatId, clock: &Clock) -> Result<Self> {
        let transaction = Self::lock_any(conn, viewer, chat, clock).await?;
        if transaction.access.is_visible() { Ok(transaction) } else { Err(Error::NotFound("chat")) }
    }

    /// Locks a chat to remove or ban users.
    ///
    /// The host's service may do so in the chats of its resources without seeing them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`lock`](Self::lock).
    pub async fn lock_to_remove_members(conn: &mut Conn, viewer: &Viewer, chat: ChatId, clock: &Clock) -> Result<Self> {
        let transaction = Self::lock_any(conn, viewer, chat, clock).await?;
        let may_reach = transaction.access.is_visible() || transaction.rights(viewer).is_host();
        if may_reach { Ok(transaction) } else { Err(Error::NotFound("chat")) }
    }

    /// Locks a chat of the viewer's organisation, visible or not.
    async fn lock_any(conn: &mut Conn, viewer: &Viewer, chat: ChatId, clock: &Clock) -> Result<Self> {
        require_permission(&viewer.permissions, Permission::ChatView)?;
        let locked = chats::lock_one(conn, chat).await?;
        let chat = locked.filter(|chat| chat.organization == *viewer.organization()).ok_or(Error::NotFound("chat"))?;
        let id = MemberId { chat: chat.id, user: viewer.id().clone() };
        let membership = members::by_ids(conn, &[id]).await?.pop();
        Ok(Self::new(ChatAccess { chat, membership }, clock.now()))
    }

    /// Locks a chat to reach something in it, and returns the viewer's membership too.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::NotFound`] for
    /// `subject` if the viewer is not a member: the content of a chat does not exist for others.
    pub async fn lock_for_member(
        conn: &mut Conn,
        viewer: &Viewer,
        chat: ChatId,
        subject: &'static str,
        clock: &Clock,
    ) -> Result<(Self, Member)> {
        let transaction = match Self::lock(conn, viewer, chat, clock).await {
            Err(Error::NotFound(_)) => Err(Error::NotFound(subject)),
            result => result,
        }?;
        let member = transaction.access.active_membership().cloned().ok_or(Error::NotFound(subject))?;
        Ok((transaction, member))
    }

    /// Locks the chat of a message that the viewer may read, and returns the message too.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and [`Error::NotFound`] if
    /// the viewer is not a member of the chat or the message does not exist.
    pub async fn lock_message(
        conn: &mut Conn,
        viewer: &Viewer,
        id: MessageId,
        clock: &Clock,
    ) -> Result<(Self, Message)> {
        let (transaction, member) = Self::lock_for_member(conn, viewer, id.chat, "message", clock).await?;
        let found = messages::by_ids(conn, &[id]).await?.pop();
        let message = found.filter(|_| member.may_read(id.seq)).ok_or(Error::NotFound("message"))?;
        Ok((transaction, message))
    }

    /// Returns a transaction on a chat that the caller has just created or locked.
    pub fn new(access: ChatAccess, now: DateTime<Utc>) -> Self {
        Self {
            access,
            now,
            changes: Vec::new(),
            system_messages: Vec::new(),
            notifications: Vec::new(),
            notification_batches: Vec::new(),
            unversioned: Vec::new(),
            call_hints: Vec::new(),
        }
    }

    /// Returns the chat with the changes made so far.
    pub fn chat(&self) -> &Chat {
        &self.access.chat
    }

    /// Returns the viewer's rights in the chat at the time of the transaction.
    pub fn rights<'a>(&'a self, viewer: &'a Viewer) -> ChatRights<'a> {
        self.access.rights(viewer, self.now)
    }

    /// Returns the active membership of a user in the chat.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the user is not a member.
    pub async fn require_member(&self, conn: &mut Conn, user: UserId) -> Result<Member> {
        let id = MemberId { chat: self.access.chat.id, user };
        let member = members::by_ids(conn, &[id]).await?.pop();
        member.filter(Member::is_active).ok_or(Error::NotFound("member"))
    }

    /// Takes the next version of the chat.
    pub fn next_version(&mut self) -> i64 {
        self.access.chat.next_version(self.now)
    }

    /// Records that the chat's own row changed, under the next version.
    pub fn record_chat_change(&mut self) {
        self.access.chat.details_version = self.next_version();
        self.changes.push(Change::Chat(Arc::new(self.access.chat.clone())));
    }

    /// Records a member whose row took the newest version.
    pub fn record_member_change(&mut self, member: &Member) {
        self.changes.push(Change::Member(Arc::new(member.clone())));
    }

    /// Writes a changed message, under the next version.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn write_message(
        &mut self,
        conn: &mut Conn,
        mut message: Message,
        change: MessageChange,
    ) -> Result<Arc<Message>> {
        message.version = self.next_version();
        messages::update(conn, &message).await?;
        let message = Arc::new(message);
        self.changes.push(Change::Message(message.clone(), change));
        Ok(message)
    }

    /// Writes a changed member, under the next version.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn write_member(&mut self, conn: &mut Conn, mut member: Member) -> Result<Member> {
        member.version = self.next_version();
        members::update(conn, &member).await?;
        self.record_member_change(&member);
        Ok(member)
    }

    /// Writes changes of a member that take no version: read markers and the member's own preferences.
    ///
    /// Nothing is written if `member` equals `previous`.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn write_unversioned(
        &mut self,
        conn: &mut Conn,
        previous: &Member,
        mut member: Member,
    ) -> Result<Member> {
        if member == *previous {
            return Ok(member);
        }
        member.private_state_updated_at = Some(self.now);
        let visible_to_others = member.visible_read_state() != previous.visible_read_state();
        if visible_to_others {
            member.visible_state_updated_at = Some(self.now);
        }
        members::update(conn, &member).await?;
        self.unversioned.push((member.id(), UnversionedChange { visible_to_others, read_threads: false }));
        Ok(member)
    }

    /// Records that a member marked a thread as read.
    ///
    /// Only the member may see the change, which is not in their row.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn record_read_thread(&mut self, conn: &mut Conn, mut member: Member) -> Result<Member> {
        member.private_state_updated_at = Some(self.now);
        members::update(conn, &member).await?;
        self.unversioned.push((member.id(), UnversionedChange { visible_to_others: false, read_threads: true }));
        Ok(member)
    }

    /// Adds a system message that every member can read; a direct chat gets none.
    pub fn system_message(
        &mut self,
        kind: SystemMessageKind,
        actor: &UserId,
        subject: Option<&UserId>,
        detail: Option<String>,
    ) {
        if self.access.chat.kind == ChatKind::Direct {
            return;
        }
        self.insert_system_message(SystemMessage {
            actor: Some(actor.clone()),
            subject: subject.cloned(),
            detail,
            ..SystemMessage::new(kind)
        });
    }

    /// Adds the system message about changed details.
    ///
    /// It has the API's names of the fields, and the new title if the title is one of them.
    pub fn details_changed(&mut self, actor: &UserId, fields: Vec<&'static str>, new_title: Option<String>) {
        let changed_fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
        self.insert_system_message(SystemMessage {
            actor: Some(actor.clone()),
            detail: Some(new_title.unwrap_or_else(|| changed_fields.join(","))),
            changed_fields,
            ..SystemMessage::new(SystemMessageKind::DetailsChanged)
        });
    }

    /// Adds a system message about a call, in direct chats too, and returns its `seq`.
    pub fn call_system_message(&mut self, kind: SystemMessageKind, call: &Call) -> i64 {
        let actor = Some(call.started_by.clone());
        self.insert_system_message(SystemMessage { actor, call: Some(call.id), ..SystemMessage::new(kind) })
    }

    fn insert_system_message(&mut self, content: SystemMessage) -> i64 {
        let id = MessageId { chat: self.access.chat.id, seq: self.next_version() };
        self.access.chat.last_seq = id.seq;
        let message = Arc::new(Message::system(id, content, self.now));
        self.system_messages.push(message.clone());
        self.changes.push(Change::Message(message, MessageChange::Added));
        id.seq
    }

    /// Notifies a member that they missed a call, unless their settings forbid it.
    pub fn notify_missed_call(&mut self, member: &Member, call: &Call, seq: Option<i64>) {
        let (organization, kind) = (&self.access.chat.organization, NotificationKind::MissedCall);
        let missed = Notification::for_user(member, organization, kind, seq, &call.started_by, self.now);
        self.notifications.extend(missed.map(|missed| Notification { call: Some(call.id), ..missed }));
    }

    /// Records a change of a call of this chat.
    pub fn record_call(&mut self, hint: CallHint) {
        self.call_hints.push(hint);
    }

    /// Notifies a member of an event, unless they caused it or their settings forbid it.
    pub fn notify(&mut self, member: &Member, kind: NotificationKind, seq: Option<i64>, actor: &UserId) {
        let organization = &self.access.chat.organization;
        self.notifications.extend(Notification::for_user(member, organization, kind, seq, actor, self.now));
    }

    /// Records that this transaction marked `count` notifications of a user as read.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn mark_read_for(&mut self, conn: &mut Conn, user: &UserId, count: usize) -> Result<()> {
        let user_key = (self.access.chat.organization.clone(), user.clone());
        let read = notifications::newly_read(conn, &[user_key], self.now, count).await?;
        if !read.is_empty() {
            self.notification_batches.push(NotificationBatch::new(vec![user.clone()], &read));
        }
        Ok(())
    }

    /// Records notifications that this transaction marked as read.
    pub fn record_read_notifications(&mut self, notifications: &[Notification]) {
        self.notification_batches.extend(NotificationBatch::chunked(notifications));
    }

    /// Writes the chat's row, the system messages and the notifications; the caller commits and publishes.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn commit_changes(self, conn: &mut Conn) -> Result<CommitOutcome> {
        let Self {
            access,
            changes,
            system_messages,
            notifications,
            mut notification_batches,
            unversioned,
            call_hints,
            now: _,
        } = self;
        if !system_messages.is_empty() {
            let organization = &access.chat.organization;
            messages::insert(conn, system_messages.iter().map(|message| (organization, &**message))).await?;
        }
        if !changes.is_empty() {
            chats::update(conn, &access.chat).await?;
        }
        notifications::insert(conn, &notifications).await?;
        notification_batches.extend(NotificationBatch::chunked(&notifications));
        Ok(CommitOutcome { chat: access.chat, changes, unversioned, notifications: notification_batches, call_hints })
    }
}
