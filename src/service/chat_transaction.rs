//! A transaction on one chat: what it changes takes versions under the chat's lock, and is told
//! after the commit.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::ChatAccess;
use crate::domain::calls::Call;
use crate::domain::chat_events::{CallHint, Change, MessageChange, NotificationBatch};
use crate::domain::chats::{Chat, ChatKind};
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Message, SystemMessage, SystemMessageKind};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::rights::{ChatRights, require_permission};
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::service::notifications::newly_read;
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages, notifications};

/// A chat under its lock, and what is being made of it.
pub struct ChatTransaction {
    pub access: ChatAccess,
    pub now: DateTime<Utc>,
    changes: Vec<Change>,
    system_messages: Vec<Arc<Message>>,
    notifications: Vec<Notification>,
    notification_batches: Vec<NotificationBatch>,
    unversioned: Vec<(MemberId, bool)>,
    call_hints: Vec<CallHint>,
}

/// What a transaction did, to be told once it is committed.
#[must_use = "what was committed has to be told: App::tell"]
pub struct CommitOutcome {
    pub chat: Chat,
    pub changes: Vec<Change>,
    /// Each with whether others may see what moved.
    pub unversioned: Vec<(MemberId, bool)>,
    pub notifications: Vec<NotificationBatch>,
    pub call_hints: Vec<CallHint>,
}

impl ChatTransaction {
    /// The chat, locked until the transaction ends, if it exists for the viewer.
    pub async fn lock(conn: &mut Conn, app: &AppContext, viewer: &Viewer, chat: ChatId) -> Result<Self> {
        require_permission(&viewer.permissions, Permission::ChatView)?;
        let locked = chats::lock(conn, &[chat]).await?.pop();
        let chat = locked.filter(|chat| chat.organization == *viewer.organization()).ok_or(Error::NotFound("chat"))?;
        let id = MemberId { chat: chat.id, user: viewer.id().clone() };
        let row = members::by_ids(conn, &[id]).await?.pop();
        let access = ChatAccess { chat, membership: row };
        if !access.is_visible(viewer) {
            return Err(Error::NotFound("chat"));
        }
        Ok(Self::new(access, app.clock.now()))
    }

    /// The same for one who may read the chat, with their membership, so as to reach something in it. What
    /// they may not read is not there, and is told of as what never was.
    pub async fn lock_for_member(
        conn: &mut Conn,
        app: &AppContext,
        viewer: &Viewer,
        chat: ChatId,
        what: &'static str,
    ) -> Result<(Self, Member)> {
        let writing = match Self::lock(conn, app, viewer, chat).await {
            Err(Error::NotFound(_)) => Err(Error::NotFound(what)),
            writing => writing,
        }?;
        let member = writing.access.active_membership().cloned().ok_or(Error::NotFound(what))?;
        Ok((writing, member))
    }

    /// The same with one of these messages.
    pub async fn lock_message(
        conn: &mut Conn,
        app: &AppContext,
        viewer: &Viewer,
        id: MessageId,
    ) -> Result<(Self, Message)> {
        let (writing, _) = Self::lock_for_member(conn, app, viewer, id.chat, "message").await?;
        let message = messages::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("message"))?;
        Ok((writing, message))
    }

    /// For a chat that this transaction makes, or locked by itself.
    pub fn new(access: ChatAccess, now: DateTime<Utc>) -> Self {
        let (changes, notices, moved) = (Vec::new(), Vec::new(), Vec::new());
        let (notifications, notified, called) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            access,
            now,
            changes,
            system_messages: notices,
            notifications,
            notification_batches: notified,
            unversioned: moved,
            call_hints: called,
        }
    }

    pub fn chat(&self) -> &Chat {
        &self.access.chat
    }

    pub fn rights<'a>(&'a self, viewer: &'a Viewer) -> ChatRights<'a> {
        self.access.rights(viewer, self.now)
    }

    /// Somebody else who is in.
    pub async fn require_member(&self, conn: &mut Conn, user: UserId) -> Result<Member> {
        let id = MemberId { chat: self.access.chat.id, user };
        let member = members::by_ids(conn, &[id]).await?.pop();
        member.filter(Member::is_active).ok_or(Error::NotFound("member"))
    }

    /// Takes the chat's next version.
    pub fn next_version(&mut self) -> i64 {
        self.access.chat.next_version(self.now)
    }

    /// The chat's own row changed.
    pub fn record_chat_change(&mut self) {
        self.access.chat.details_version = self.next_version();
        self.changes.push(Change::Chat(Arc::new(self.access.chat.clone())));
    }

    /// A member's row changed that took the newest version.
    pub fn record_member_change(&mut self, member: &Member) {
        self.changes.push(Change::Member(Arc::new(member.clone())));
    }

    /// Writes a message back that changed, under the next version.
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

    /// Writes a member back that changed, under the next version.
    pub async fn write_member(&mut self, conn: &mut Conn, mut member: Member) -> Result<Member> {
        member.version = self.next_version();
        members::update(conn, &member).await?;
        self.record_member_change(&member);
        Ok(member)
    }

    /// Writes back what moved in a member's row and takes no version; nothing where nothing did.
    pub async fn write_unversioned(&mut self, conn: &mut Conn, former: &Member, mut member: Member) -> Result<Member> {
        if member == *former {
            return Ok(member);
        }
        member.private_state_updated_at = Some(self.now);
        let shown = member.visible_read_state() != former.visible_read_state();
        if shown {
            member.visible_state_updated_at = Some(self.now);
        }
        members::update(conn, &member).await?;
        self.unversioned.push((member.id(), shown));
        Ok(member)
    }

    /// A message of the server's own, for all to read. Two people among themselves need none.
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
            kind,
            actor: Some(actor.clone()),
            subject: subject.cloned(),
            detail,
            call: None,
        });
    }

    /// What became of a call, for all to read, two people among themselves too; gives its place.
    pub fn call_system_message(&mut self, kind: SystemMessageKind, call: &Call) -> i64 {
        let actor = Some(call.started_by.clone());
        self.insert_system_message(SystemMessage { kind, actor, subject: None, detail: None, call: Some(call.id) })
    }

    fn insert_system_message(&mut self, notice: SystemMessage) -> i64 {
        let id = MessageId { chat: self.access.chat.id, seq: self.next_version() };
        self.access.chat.last_seq = id.seq;
        self.access.chat.last_activity_at = self.now;
        let message = Arc::new(Message::system(id, notice, self.now));
        self.system_messages.push(message.clone());
        self.changes.push(Change::Message(message, MessageChange::Added));
        id.seq
    }

    /// Tells a member that they missed a call, if they want to be told.
    pub fn notify_missed_call(&mut self, member: &Member, call: &Call, seq: Option<i64>) {
        let (organization, kind) = (&self.access.chat.organization, NotificationKind::MissedCall);
        let missed = Notification::for_user(member, organization, kind, seq, &call.started_by, self.now);
        self.notifications.extend(missed.map(|missed| Notification { call: Some(call.id), ..missed }));
    }

    /// Something happened to a call of this chat.
    pub fn record_call(&mut self, called: CallHint) {
        self.call_hints.push(called);
    }

    /// Tells a member of something, if they want to be told and did not do it themselves.
    pub fn notify(&mut self, member: &Member, kind: NotificationKind, seq: Option<i64>, actor: &UserId) {
        let organization = &self.access.chat.organization;
        self.notifications.extend(Notification::for_user(member, organization, kind, seq, actor, self.now));
    }

    /// So many notifications of a person were read by it.
    pub async fn mark_read_for(&mut self, conn: &mut Conn, user: &UserId, number: usize) -> Result<()> {
        let person = (self.access.chat.organization.clone(), user.clone());
        let read = newly_read(conn, &[person], self.now, number).await?;
        if !read.is_empty() {
            self.notification_batches.push(NotificationBatch::new(vec![user.clone()], read));
        }
        Ok(())
    }

    /// These notifications were read by it.
    pub fn record_read_notifications(&mut self, notifications: &[Notification]) {
        self.notification_batches.extend(NotificationBatch::chunked(notifications));
    }

    /// Writes what is left to write: the chat's row, notices and notifications.
    pub async fn commit_changes(self, conn: &mut Conn) -> Result<CommitOutcome> {
        let Self {
            access,
            changes,
            system_messages: notices,
            notifications,
            notification_batches: mut notified,
            unversioned: moved,
            call_hints: called,
            ..
        } = self;
        if !notices.is_empty() {
            messages::insert(conn, &notices).await?;
        }
        if !changes.is_empty() {
            chats::update(conn, &access.chat).await?;
        }
        notifications::insert(conn, &notifications).await?;
        notified.extend(NotificationBatch::chunked(&notifications));
        Ok(CommitOutcome {
            chat: access.chat,
            changes,
            unversioned: moved,
            notifications: notified,
            call_hints: called,
        })
    }
}
