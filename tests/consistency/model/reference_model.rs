//! The reference model of one chat, whose messages are ordered by their versions in the chat's log.

use std::collections::{BTreeMap, BTreeSet};

/// The roles from the lowest to the highest, by their numbers.
pub const ROLES: [&str; 4] = ["MEMBER", "MODERATOR", "ADMIN", "OWNER"];
pub const MEMBER: usize = 0;
const MODERATOR: usize = 1;
const ADMIN: usize = 2;
const OWNER: usize = 3;

/// The code of the error with which an action is rejected.
pub type ErrorCode = &'static str;
const NOT_FOUND: ErrorCode = "NOT_FOUND";
const FORBIDDEN: ErrorCode = "FORBIDDEN";
const BAD_USER_INPUT: ErrorCode = "BAD_USER_INPUT";

/// A message of a user, or a system message.
#[derive(Debug, Clone, Default)]
pub struct ModelMessage {
    /// The id; `None` for a system message that no user has queried yet.
    pub id: Option<String>,
    pub sender: Option<usize>,
    pub text: Option<String>,
    /// The kind of a system message.
    pub system_kind: Option<&'static str>,
    pub thread_root: Option<i64>,
    pub in_timeline: bool,
    pub reply_count: i64,
    pub mentions: BTreeSet<usize>,
    pub mentions_everyone: bool,
    pub reactions: BTreeSet<usize>,
    pub is_deleted: bool,
    /// The clock's advance in seconds when the message was created.
    created_at: u64,
    /// True if a later change of the same membership has replaced a system message.
    is_replaced: bool,
}

/// A current or former member.
#[derive(Debug, Clone)]
pub struct ModelMember {
    pub is_active: bool,
    pub role: usize,
    /// The version at which the user last joined.
    joined_version: i64,
    pub read_seq: i64,
    pub reads_privately: bool,
    pub is_marked_unread: bool,
    /// The system message about the last change of the membership, unless the role has changed since.
    notice: Option<i64>,
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Draft {
    pub text: String,
    pub thread_root: Option<i64>,
    pub also_in_chat: bool,
    pub mentions: BTreeSet<usize>,
    pub mentions_everyone: bool,
}

pub struct ModelChat {
    pub is_channel: bool,
    pub version: i64,
    /// The clock's advance in seconds.
    pub now: u64,
    pub messages: BTreeMap<i64, ModelMessage>,
    pub members: BTreeMap<usize, ModelMember>,
    /// The number up to which a user has read a thread, by the user and the root of the thread.
    thread_reads: BTreeMap<(usize, i64), i64>,
}

impl ModelChat {
    /// Creates a chat of these users, whose owner is the first one.
    pub fn new(is_channel: bool, users: &[usize]) -> Self {
        let (messages, members) = (BTreeMap::new(), BTreeMap::new());
        let mut chat = Self { is_channel, version: 1, now: 0, messages, members, thread_reads: BTreeMap::new() };
        for (number, user) in users.iter().enumerate() {
            let role = if number == 0 { OWNER } else { MEMBER };
            chat.version += 1;
            let member = ModelMember {
                is_active: true,
                role,
                joined_version: 0,
                read_seq: 0,
                reads_privately: false,
                is_marked_unread: false,
                notice: None,
            };
            chat.members.insert(*user, member);
        }
        chat.add_system_message("CHAT_CREATED");
        chat.add_system_message("WELCOME");
        // All initial members have read up to the newest message.
        let newest = chat.newest_seq();
        chat.members.values_mut().for_each(|member| member.read_seq = newest);
        chat
    }

    pub fn member(&self, user: usize) -> Option<&ModelMember> {
        self.members.get(&user).filter(|member| member.is_active)
    }

    /// Returns the numbers of a user's unread messages and of the mentions in them.
    pub fn unread_counts(&self, user: usize) -> (usize, usize) {
        let Some(member) = self.member(user) else { return (0, 0) };
        let from_others = self
            .messages
            .iter()
            .filter(|(_, message)| !message.is_deleted && message.sender.is_some_and(|sender| sender != user));
        let mentions_user = |message: &ModelMessage| message.mentions_everyone || message.mentions.contains(&user);
        let (mut unread, mut mentions) = (0, 0);
        for (seq, message) in from_others {
            let thread = message.thread_root.filter(|_| !message.in_timeline);
            let is_unread = match thread {
                None => *seq > member.read_seq,
                Some(root) => *seq > member.joined_version.max(self.thread_read_seq(user, root)),
            };
            unread += usize::from(is_unread && thread.is_none());
            mentions += usize::from(is_unread && mentions_user(message));
        }
        (unread, mentions)
    }

    fn thread_read_seq(&self, user: usize, root: i64) -> i64 {
        self.thread_reads.get(&(user, root)).copied().unwrap_or_default()
    }

    /// Returns the active members.
    pub fn active_members(&self) -> impl Iterator<Item = usize> + Clone {
        self.members.iter().filter(|(_, member)| member.is_active).map(|(user, _)| *user)
    }

    /// Returns the first owner of the chat.
    pub fn owner(&self) -> Option<usize> {
        self.active_members().find(|user| self.members[user].role == OWNER)
    }

    fn next_version(&mut self) -> i64 {
        self.version += 1;
        self.version
    }

    fn add_system_message(&mut self, kind: &'static str) -> i64 {
        let (seq, created_at) = (self.next_version(), self.now);
        let message =
            ModelMessage { system_kind: Some(kind), in_timeline: true, created_at, ..ModelMessage::default() };
        self.messages.insert(seq, message);
        seq
    }

    /// Adds the system message about a membership, or replaces that of a departure a moment ago.
    fn announce_membership(&mut self, user: usize, kind: &'static str) {
        let now = self.now;
        let last = self.members[&user].notice.and_then(|seq| self.messages.get_mut(&seq)).filter(|last| {
            now - last.created_at < 600 && (last.system_kind != Some("MEMBER_ADDED") || last.is_replaced)
        });
        if let Some(last) = last {
            (last.system_kind, last.is_replaced) = (Some(kind), true);
            self.version += 1;
            return;
        }
        let notice = Some(self.add_system_message(kind));
        self.members.entry(user).and_modify(|member| member.notice = notice);
    }

    /// Returns the last sequence number before `seq` in the chat's timeline.
    fn last_seq_before(&self, seq: i64) -> i64 {
        self.messages.range(..seq).rev().find(|(_, message)| message.in_timeline).map_or(0, |(seq, _)| *seq)
    }

    fn newest_seq(&self) -> i64 {
        self.last_seq_before(i64::MAX)
    }

    /// Returns an active member. A user who is not a member can see a channel, and no group.
    fn require_member(&mut self, user: usize) -> Result<&mut ModelMember, ErrorCode> {
        let code = if self.is_channel { FORBIDDEN } else { NOT_FOUND };
        self.members.get_mut(&user).filter(|member| member.is_active).ok_or(code)
    }

    fn require_role(&mut self, user: usize, role: usize) -> Result<(), ErrorCode> {
        if self.require_member(user)?.role >= role { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// Returns a message that a user may read.
    fn require_message(&mut self, user: usize, seq: i64) -> Result<&mut ModelMessage, ErrorCode> {
        self.member(user).ok_or(NOT_FOUND)?;
        self.messages.get_mut(&seq).ok_or(NOT_FOUND)
    }

    pub fn send(&mut self, user: usize, draft: &Draft) -> Result<i64, ErrorCode> {
        self.require_role(user, if draft.mentions_everyone { MODERATOR } else { MEMBER })?;
        if let Some(root) = draft.thread_root {
            match self.messages.get(&root) {
                Some(root) if root.thread_root.is_some() => return Err(BAD_USER_INPUT),
                Some(root) if root.is_deleted && root.reply_count == 0 => return Err(FORBIDDEN),
                Some(root) if root.system_kind.is_some() => return Err(FORBIDDEN),
                Some(_) => {}
                None => return Err(NOT_FOUND),
            }
        }
        if draft.mentions.iter().any(|mentioned| self.member(*mentioned).is_none()) {
            return Err(BAD_USER_INPUT);
        }
        let (seq, in_timeline) = (self.next_version(), draft.thread_root.is_none() || draft.also_in_chat);
        let message = ModelMessage {
            sender: Some(user),
            text: Some(draft.text.clone()),
            thread_root: draft.thread_root,
            in_timeline,
            mentions: draft.mentions.clone(),
            mentions_everyone: draft.mentions_everyone,
            ..ModelMessage::default()
        };
        self.messages.insert(seq, message);
        self.change_reply_count(draft.thread_root, 1);
        if let Some(root) = draft.thread_root {
            self.thread_reads.insert((user, root), seq);
        }
        if in_timeline {
            let member = self.require_member(user)?;
            (member.read_seq, member.is_marked_unread) = (seq, false);
        }
        Ok(seq)
    }

    fn change_reply_count(&mut self, root: Option<i64>, difference: i64) {
        if let Some(root) = root.and_then(|root| self.messages.get_mut(&root)) {
            root.reply_count += difference;
            self.version += 1;
        }
    }

    pub fn edit(&mut self, user: usize, seq: i64, text: &str) -> Result<(), ErrorCode> {
        let message = self.require_message(user, seq)?;
        if message.sender != Some(user) || message.is_deleted {
            return Err(FORBIDDEN);
        }
        message.text = Some(text.to_owned());
        self.version += 1;
        Ok(())
    }

    pub fn delete_message(&mut self, user: usize, seq: i64) -> Result<(), ErrorCode> {
        let role = self.member(user).ok_or(NOT_FOUND)?.role;
        let message = self.require_message(user, seq)?;
        if message.system_kind.is_some() || message.sender != Some(user) && role < MODERATOR {
            return Err(FORBIDDEN);
        }
        if message.is_deleted {
            return Ok(());
        }
        message.is_deleted = true;
        (message.text, message.mentions_everyone) = (None, false);
        message.mentions.clear();
        message.reactions.clear();
        let root = message.thread_root;
        self.version += 1;
        self.change_reply_count(root, -1);
        Ok(())
    }

    /// Adds the user's reaction, or removes it if it exists.
    pub fn react(&mut self, user: usize, seq: i64) -> Result<(), ErrorCode> {
        let message = self.require_message(user, seq)?;
        if message.is_deleted || message.system_kind.is_some() {
            return Err(FORBIDDEN);
        }
        if !message.reactions.remove(&user) {
            message.reactions.insert(user);
        }
        self.version += 1;
        Ok(())
    }

    pub fn mark_read(&mut self, user: usize, up_to: Option<i64>, privately: bool) -> Result<(), ErrorCode> {
        // A reply that is only in a thread stands for the last message of the timeline before it.
        let seq = up_to.map_or_else(|| self.newest_seq(), |up_to| self.last_seq_before(up_to + 1));
        let member = self.require_member(user)?;
        if seq >= member.read_seq {
            (member.read_seq, member.reads_privately) = (seq, privately);
        }
        member.is_marked_unread = false;
        Ok(())
    }

    pub fn mark_thread_read(&mut self, user: usize, root: i64) -> Result<(), ErrorCode> {
        if self.require_message(user, root)?.thread_root.is_some() {
            return Err(BAD_USER_INPUT);
        }
        let replies = self.messages.iter().rev().filter(|(_, message)| message.thread_root == Some(root));
        let newest = replies.map(|(seq, _)| *seq).next().ok_or(NOT_FOUND)?;
        self.thread_reads.insert((user, root), newest);
        Ok(())
    }

    pub fn mark_unread(&mut self, user: usize, from: Option<i64>) -> Result<(), ErrorCode> {
        let last_read = from.map(|from| self.last_seq_before(from));
        let member = self.require_member(user)?;
        member.read_seq = last_read.map_or(member.read_seq, |last_read| last_read.min(member.read_seq));
        member.is_marked_unread = true;
        Ok(())
    }

    pub fn add_member(&mut self, user: usize, target: usize, role: usize) -> Result<(), ErrorCode> {
        self.require_role(user, if role > MEMBER { OWNER } else { ADMIN })?;
        self.insert_member(target, role);
        Ok(())
    }

    pub fn join(&mut self, user: usize) -> Result<(), ErrorCode> {
        if !self.is_channel {
            self.require_member(user)?;
            return Err(FORBIDDEN);
        }
        // The first user who joins a channel that all have left becomes its owner.
        let role = if self.owner().is_some() { MEMBER } else { OWNER };
        self.insert_member(user, role);
        Ok(())
    }

    /// Inserts a member, who has read up to the newest message. A returning member has fresh settings.
    fn insert_member(&mut self, user: usize, role: usize) {
        if self.member(user).is_some() {
            return;
        }
        let (read_seq, joined_version) = (self.newest_seq(), self.next_version());
        let notice = self.members.get(&user).and_then(|former| former.notice);
        let member = ModelMember {
            is_active: true,
            role,
            joined_version,
            read_seq,
            reads_privately: false,
            is_marked_unread: false,
            notice,
        };
        self.members.insert(user, member);
        self.announce_membership(user, "MEMBER_ADDED");
    }

    pub fn remove_member(&mut self, user: usize, target: usize) -> Result<(), ErrorCode> {
        if user == target {
            let sees_chat = self.is_channel || self.member(user).is_some();
            return Err(if sees_chat { BAD_USER_INPUT } else { NOT_FOUND });
        }
        self.require_role(user, ADMIN)?;
        let own_role = self.require_member(user)?.role;
        let target_role = self.member(target).ok_or(NOT_FOUND)?.role;
        if own_role <= target_role && own_role < OWNER {
            return Err(FORBIDDEN);
        }
        self.end_membership(target, "MEMBER_REMOVED");
        Ok(())
    }

    pub fn leave(&mut self, user: usize) -> Result<(), ErrorCode> {
        let role = self.require_member(user)?.role;
        self.end_membership(user, "MEMBER_LEFT");
        // An owner's successor is the member of the highest role and, among equal ones, of the longest membership.
        let remaining = self.members.iter().filter(|(_, member)| member.is_active);
        let successor = remaining
            .min_by_key(|(user, member)| (OWNER - member.role, member.joined_version, **user))
            .map(|(user, _)| *user);
        if let Some(successor) = successor.filter(|user| role == OWNER && self.members[user].role < OWNER) {
            self.set_role(successor, OWNER);
        }
        Ok(())
    }

    fn end_membership(&mut self, user: usize, system_kind: &'static str) {
        if let Some(member) = self.members.get_mut(&user) {
            (member.is_active, member.role) = (false, MEMBER);
            self.version += 1;
            self.announce_membership(user, system_kind);
        }
    }

    pub fn change_role(&mut self, user: usize, target: usize, role: usize) -> Result<(), ErrorCode> {
        self.require_role(user, OWNER)?;
        let former = self.member(target).ok_or(NOT_FOUND)?.role;
        if former == role {
            return Ok(());
        }
        let owners = self.members.values().filter(|member| member.is_active && member.role == OWNER).count();
        if former == OWNER && owners == 1 {
            return Err(FORBIDDEN);
        }
        self.set_role(target, role);
        Ok(())
    }

    fn set_role(&mut self, user: usize, role: usize) {
        if let Some(member) = self.members.get_mut(&user) {
            (member.role, member.notice) = (role, None);
            self.version += 1;
            self.add_system_message("ROLE_CHANGED");
        }
    }
}
