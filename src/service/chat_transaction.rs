//! A transaction on one chat: what it changes takes versions under the chat's lock, and is told
//! after the commit.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::Access;
use crate::domain::calls::Call;
use crate::domain::chat_events::{Called, Change, MessageChange, Notified};
use crate::domain::chats::{Chat, ChatKind};
use crate::domain::ids::{ChatId, MemberId, MessageId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Message, Notice, NoticeKind};
use crate::domain::notifications::{Notification, NotificationKind};
use crate::domain::rights::{Rights, require};
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::App;
use crate::service::notifications::just_read;
use crate::storage::connection::Conn;
use crate::storage::{chats, members, messages, notifications};

/// A chat under its lock, and what is being made of it.
pub struct Writing {
    pub access: Access,
    pub now: DateTime<Utc>,
    changes: Vec<Change>,
    notices: Vec<Arc<Message>>,
    notifications: Vec<Notification>,
    notified: Vec<Notified>,
    moved: Vec<(MemberId, bool)>,
    called: Vec<Called>,
}

/// What a transaction did, to be told once it is committed.
#[must_use = "what was committed has to be told: App::tell"]
pub struct Told {
    pub chat: Chat,
    pub changes: Vec<Change>,
    /// Each with whether others may see what moved.
    pub moved: Vec<(MemberId, bool)>,
    pub notified: Vec<Notified>,
    pub called: Vec<Called>,
}

impl Writing {
    /// The chat, locked until the transaction ends, if it exists for the viewer.
    pub async fn lock(conn: &mut Conn, app: &App, viewer: &Viewer, chat: ChatId) -> Result<Self> {
        require(&viewer.permissions, Permission::ChatView)?;
        let locked = chats::lock(conn, &[chat]).await?.pop();
        let chat = locked.filter(|chat| chat.organization == *viewer.organization()).ok_or(Error::NotFound("chat"))?;
        let id = MemberId { chat: chat.id, user: viewer.id().clone() };
        let row = members::by_ids(conn, &[id]).await?.pop();
        let access = Access { chat, row };
        if !access.is_visible(viewer) {
            return Err(Error::NotFound("chat"));
        }
        Ok(Self::new(access, app.clock.now()))
    }

    /// The same for one who may read the chat, with their membership, so as to reach something in it. What
    /// they may not read is not there, and is told of as what never was.
    pub async fn lock_to_read(
        conn: &mut Conn,
        app: &App,
        viewer: &Viewer,
        chat: ChatId,
        what: &'static str,
    ) -> Result<(Self, Member)> {
        let writing = match Self::lock(conn, app, viewer, chat).await {
            Err(Error::NotFound(_)) => Err(Error::NotFound(what)),
            writing => writing,
        }?;
        let member = writing.access.member().cloned().ok_or(Error::NotFound(what))?;
        Ok((writing, member))
    }

    /// The same with one of these messages.
    pub async fn lock_message(conn: &mut Conn, app: &App, viewer: &Viewer, id: MessageId) -> Result<(Self, Message)> {
        let (writing, _) = Self::lock_to_read(conn, app, viewer, id.chat, "message").await?;
        let message = messages::by_ids(conn, &[id]).await?.pop().ok_or(Error::NotFound("message"))?;
        Ok((writing, message))
    }

    /// For a chat that this transaction makes, or locked by itself.
    pub fn new(access: Access, now: DateTime<Utc>) -> Self {
        let (changes, notices, moved) = (Vec::new(), Vec::new(), Vec::new());
        let (notifications, notified, called) = (Vec::new(), Vec::new(), Vec::new());
        Self { access, now, changes, notices, notifications, notified, moved, called }
    }

    pub fn chat(&self) -> &Chat {
        &self.access.chat
    }

    pub fn rights<'a>(&'a self, viewer: &'a Viewer) -> Rights<'a> {
        self.access.rights(viewer, self.now)
    }

    /// Somebody else who is in.
    pub async fn member(&self, conn: &mut Conn, user: UserId) -> Result<Member> {
        let id = MemberId { chat: self.access.chat.id, user };
        let member = members::by_ids(conn, &[id]).await?.pop();
        member.filter(Member::is_active).ok_or(Error::NotFound("member"))
    }

    /// Takes the chat's next version.
    pub fn next_version(&mut self) -> i64 {
        self.access.chat.next_version(self.now)
    }

    /// The chat's own row changed.
    pub fn chat_changed(&mut self) {
        self.access.chat.details_version = self.next_version();
        self.changes.push(Change::Chat(Arc::new(self.access.chat.clone())));
    }

    /// A member's row changed that took the newest version.
    pub fn member_changed(&mut self, member: &Member) {
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
        self.member_changed(&member);
        Ok(member)
    }

    /// Writes back what moved in a member's row and takes no version; nothing where nothing did.
    pub async fn write_moved(&mut self, conn: &mut Conn, former: &Member, mut member: Member) -> Result<Member> {
        if member == *former {
            return Ok(member);
        }
        member.moved_at = Some(self.now);
        let shown = member.shown() != former.shown();
        if shown {
            member.shown_at = Some(self.now);
        }
        members::update(conn, &member).await?;
        self.moved.push((member.id(), shown));
        Ok(member)
    }

    /// A message of the server's own, for all to read. Two people among themselves need none.
    pub fn notice(&mut self, kind: NoticeKind, actor: &UserId, subject: Option<&UserId>, detail: Option<String>) {
        if self.access.chat.kind == ChatKind::Direct {
            return;
        }
        self.put_notice(Notice { kind, actor: Some(actor.clone()), subject: subject.cloned(), detail, call: None });
    }

    /// What became of a call, for all to read, two people among themselves too; gives its place.
    pub fn notice_of_call(&mut self, kind: NoticeKind, call: &Call) -> i64 {
        let actor = Some(call.started_by.clone());
        self.put_notice(Notice { kind, actor, subject: None, detail: None, call: Some(call.id) })
    }

    fn put_notice(&mut self, notice: Notice) -> i64 {
        let id = MessageId { chat: self.access.chat.id, seq: self.next_version() };
        self.access.chat.last_seq = id.seq;
        self.access.chat.last_activity_at = self.now;
        let message = Arc::new(Message::notice(id, notice, self.now));
        self.notices.push(message.clone());
        self.changes.push(Change::Message(message, MessageChange::Added));
        id.seq
    }

    /// Tells a member that they missed a call, if they want to be told.
    pub fn notify_missed(&mut self, member: &Member, call: &Call, seq: Option<i64>) {
        let (organization, kind) = (&self.access.chat.organization, NotificationKind::MissedCall);
        let missed = Notification::to(member, organization, kind, seq, &call.started_by, self.now);
        self.notifications.extend(missed.map(|missed| Notification { call: Some(call.id), ..missed }));
    }

    /// Something happened to a call of this chat.
    pub fn called(&mut self, called: Called) {
        self.called.push(called);
    }

    /// Tells a member of something, if they want to be told and did not do it themselves.
    pub fn notify(&mut self, member: &Member, kind: NotificationKind, seq: Option<i64>, actor: &UserId) {
        let organization = &self.access.chat.organization;
        self.notifications.extend(Notification::to(member, organization, kind, seq, actor, self.now));
    }

    /// So many notifications of a person were read by it.
    pub async fn read_of_person(&mut self, conn: &mut Conn, user: &UserId, number: usize) -> Result<()> {
        let person = (self.access.chat.organization.clone(), user.clone());
        let read = just_read(conn, &[person], self.now, number).await?;
        if !read.is_empty() {
            self.notified.push(Notified::of(vec![user.clone()], read));
        }
        Ok(())
    }

    /// These notifications were read by it.
    pub fn read(&mut self, notifications: &[Notification]) {
        self.notified.extend(Notified::in_parts(notifications));
    }

    /// Writes what is left to write: the chat's row, notices and notifications.
    pub async fn finish(self, conn: &mut Conn) -> Result<Told> {
        let Self { access, changes, notices, notifications, mut notified, moved, called, .. } = self;
        if !notices.is_empty() {
            messages::insert(conn, &notices).await?;
        }
        if !changes.is_empty() {
            chats::update(conn, &access.chat).await?;
        }
        notifications::insert(conn, &notifications).await?;
        notified.extend(Notified::in_parts(&notifications));
        Ok(Told { chat: access.chat, changes, moved, notified, called })
    }
}
