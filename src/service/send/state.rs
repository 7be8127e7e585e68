//! The rows from which a batch of sends is decided.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::domain::blocklist::Blocklist;
use crate::domain::chats::Chat;
use crate::domain::ids::{ChatId, MemberId, MessageId, Nonce, OrganizationId, UserId};
use crate::domain::members::Member;
use crate::domain::messages::{Content, DraftBody, Forwarded, Message, MessageDraft};
use crate::domain::rights::{ChatRights, DenialReason, can_see, require_user_message};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::storage::connection::Conn;
use crate::storage::{blocklist, chats, members, messages, threads};

/// The key by which a repeated send is recognised.
pub type SendKey = (ChatId, UserId, Nonce);

/// The rows that the decisions read, with the effects of the sends accepted so far.
pub struct BatchState {
    /// The chats that are sent to, locked.
    pub chats: HashMap<ChatId, Chat>,
    /// The members who may be notified, and the senders, in forward sources too.
    pub members: HashMap<MemberId, Member>,
    /// The members of the chats in which a send mentions everyone.
    pub active_members: HashMap<ChatId, Vec<UserId>>,
    /// The messages that have the nonce of a send, from the database and from this batch.
    pub sent_by_nonce: HashMap<SendKey, Arc<Message>>,
    /// The messages that sends reply to or forward.
    pub referenced_messages: HashMap<MessageId, Message>,
    /// The users who follow the threads in which a send replies, by the thread's root.
    pub followers: HashMap<MessageId, HashSet<UserId>>,
    forward_source_chats: HashMap<ChatId, Chat>,
    blocklists: HashMap<OrganizationId, Blocklist>,
}

impl BatchState {
    /// Reads the rows for a batch whose chats the caller has locked.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn load(conn: &mut Conn, locked: Vec<Chat>, sends: &[(&Viewer, &MessageDraft)]) -> Result<Self> {
        let drafts = || sends.iter().map(|(_, draft)| *draft);
        let nonces: Vec<_> = drafts().filter_map(|draft| Some((draft.chat, draft.nonce.clone()?))).collect();
        let sent = if nonces.is_empty() { Vec::new() } else { messages::by_nonces(conn, &nonces).await? };
        let referenced_ids = unique(drafts().flat_map(referenced_messages));
        let referenced =
            if referenced_ids.is_empty() { Vec::new() } else { messages::by_ids(conn, &referenced_ids).await? };
        let source_ids = unique(drafts().filter_map(forward_source).map(|source| source.chat));
        let source_chats =
            if source_ids.is_empty() { Vec::new() } else { chats::by_ids_any_organization(conn, &source_ids).await? };
        let authors = referenced.iter().filter_map(|message| {
            let user = message.sender.clone()?;
            Some(MemberId { chat: message.id.chat, user })
        });
        let roots = unique(drafts().filter_map(MessageDraft::thread_root));
        let following = if roots.is_empty() { Vec::new() } else { threads::followers(conn, &roots).await? };
        let following_members = following.iter().map(|(root, user)| MemberId { chat: root.chat, user: user.clone() });
        let involved = sends.iter().flat_map(|(viewer, draft)| involved_members(viewer, draft));
        let involved = involved.chain(authors).chain(following_members);
        let mut members = members::by_ids(conn, &unique(involved)).await?;
        let mut active_members = HashMap::new();
        for chat in unique(drafts().filter(|draft| draft.mentions_everyone).map(|draft| draft.chat)) {
            let active = members::active_members(conn, chat).await?;
            active_members.insert(chat, active.iter().map(|member| member.user.clone()).collect());
            members.extend(active);
        }
        let organizations = unique(sends.iter().map(|(viewer, _)| viewer.organization()));
        let blocklists = blocklist::by_organizations(conn, &organizations).await?;
        let mut followers: HashMap<MessageId, HashSet<UserId>> = HashMap::new();
        for (root, user) in following {
            followers.entry(root).or_default().insert(user);
        }
        let by_nonce = |message: Message| {
            let key = (message.id.chat, message.sender.clone()?, message.nonce.clone()?);
            Some((key, Arc::new(message)))
        };
        Ok(Self {
            chats: locked.into_iter().map(|chat| (chat.id, chat)).collect(),
            members: members.into_iter().map(|member| (member.id(), member)).collect(),
            active_members,
            sent_by_nonce: sent.into_iter().filter_map(by_nonce).collect(),
            referenced_messages: referenced.into_iter().map(|message| (message.id, message)).collect(),
            followers,
            forward_source_chats: source_chats.into_iter().map(|chat| (chat.id, chat)).collect(),
            blocklists,
        })
    }

    /// Returns the viewer's rights in a chat that exists for them.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the chat does not exist for the viewer.
    pub fn rights<'a>(&'a self, viewer: &'a Viewer, chat: ChatId, now: DateTime<Utc>) -> Result<ChatRights<'a>> {
        let id = MemberId { chat, user: viewer.id().clone() };
        let chat = self.chats.get(&chat).filter(|chat| chat.organization == *viewer.organization());
        let chat = chat.ok_or(Error::NotFound("chat"))?;
        let member = self.members.get(&id).filter(|member| member.is_active());
        match can_see(chat, member) {
            true => Ok(ChatRights { permissions: &viewer.permissions, chat, member, now }),
            false => Err(Error::NotFound("chat")),
        }
    }

    /// Checks that the messages that a draft replies to exist, and that its thread can have replies.
    ///
    /// A thread outlives its root: if that is deleted, the thread can have more replies as long as it has some.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the viewer may not read a message, [`Error::MessageDeleted`] if it was deleted,
    /// [`Error::BadUserInput`] if the thread's root is a reply in a thread, and [`Error::Forbidden`] if it is a system
    /// message.
    pub fn check_reply_target(&self, viewer: &Viewer, draft: &MessageDraft) -> Result<()> {
        let member = self.members.get(&MemberId { chat: draft.chat, user: viewer.id().clone() });
        let target = |seq: i64| {
            let target = self.referenced_messages.get(&MessageId { chat: draft.chat, seq });
            target.filter(|_| member.is_some_and(|member| member.may_read(seq))).ok_or(Error::NotFound("message"))
        };
        if let Some(replied_to) = draft.reply_to_seq.map(target).transpose()?
            && replied_to.is_deleted()
        {
            return Err(DenialReason::Deleted.into());
        }
        if let Some(root) = draft.thread_root_seq.map(target).transpose()? {
            if root.thread_root_seq.is_some() {
                return Err(Error::bad_input("threadRootId", "must not be a reply in a thread"));
            }
            match require_user_message(root) {
                Err(DenialReason::Deleted) if root.reply_count > 0 => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Checks that a draft mentions members of its chat only.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if a mentioned user is not a member.
    pub fn check_mentions(&self, draft: &MessageDraft) -> Result<()> {
        let is_member = |user: &UserId| {
            let id = MemberId { chat: draft.chat, user: user.clone() };
            self.members.get(&id).is_some_and(Member::is_active)
        };
        match draft.mentions.iter().all(is_member) {
            true => Ok(()),
            false => Err(Error::bad_input("mentionIds", "must be members of the chat")),
        }
    }

    /// Returns the text and the content of a draft after the blocklist was applied.
    ///
    /// A forward has the text and the content of its source.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the viewer may not read the forwarded message, [`Error::Forbidden`] if that is a
    /// system message or was deleted, and [`Error::BadUserInput`] if the text has a word that the blocklist rejects.
    pub fn resolve_content(&self, viewer: &Viewer, draft: &MessageDraft) -> Result<(Option<String>, Content)> {
        let (text, content, forward_field) = match &draft.body {
            DraftBody::New { text, content } => (text.clone(), (**content).clone(), None),
            DraftBody::Forward(source) => {
                let (text, content) = self.resolve_forward(viewer, *source)?;
                (text, content, Some("messageId"))
            }
        };
        match self.blocklists.get(viewer.organization()) {
            Some(list) => apply_blocklist(list, forward_field, text, content),
            None => Ok((text, content)),
        }
    }

    fn resolve_forward(&self, viewer: &Viewer, source: MessageId) -> Result<(Option<String>, Content)> {
        let reader = MemberId { chat: source.chat, user: viewer.id().clone() };
        let chat =
            self.forward_source_chats.get(&source.chat).filter(|chat| chat.organization == *viewer.organization());
        let may_read =
            self.members.get(&reader).is_some_and(|member| member.is_active() && member.may_read(source.seq));
        let (Some(chat), true, Some(source)) = (chat, may_read, self.referenced_messages.get(&source)) else {
            return Err(Error::NotFound("message"));
        };
        require_user_message(source)?;
        let mut content = source.content.clone();
        if let Some(poll) = &mut content.poll {
            // A forwarded poll is a new poll in another chat.
            poll.closes_at = None;
            poll.closed_at = None;
        }
        // A message that is itself a forward keeps its first origin.
        content.forwarded.get_or_insert_with(|| Forwarded {
            sender: source.sender.clone(),
            chat_title: chat.details.title.clone(),
            sent_at: source.created_at,
        });
        Ok((source.text.clone(), content))
    }
}

/// Applies a blocklist to everything in a message that its sender wrote.
///
/// A rejection names the field of the text. In a forward it names `forward_field`, which has no fields inside.
fn apply_blocklist(
    list: &Blocklist,
    forward_field: Option<&'static str>,
    mut text: Option<String>,
    mut content: Content,
) -> Result<(Option<String>, Content)> {
    text = text.map(|text| list.apply_to_markdown(forward_field.unwrap_or("text"), text)).transpose()?;
    let apply = |field, text: &mut String| {
        *text = list.apply_to_line(forward_field.unwrap_or(field), std::mem::take(text))?;
        Ok::<_, Error>(())
    };
    if let Some(poll) = &mut content.poll {
        apply("poll.question", &mut poll.question)?;
        poll.options.iter_mut().try_for_each(|option| apply("poll.options", option))?;
    }
    if let Some(location) = &mut content.location {
        location.name.as_mut().map_or(Ok(()), |name| apply("location.name", name))?;
        location.address.as_mut().map_or(Ok(()), |address| apply("location.address", address))?;
    }
    Ok((text, content))
}

/// Returns the messages that a draft replies to or forwards.
fn referenced_messages(draft: &MessageDraft) -> impl Iterator<Item = MessageId> {
    let replied_to = [draft.reply_to_seq, draft.thread_root_seq].into_iter().flatten();
    let chat = draft.chat;
    replied_to.map(move |seq| MessageId { chat, seq }).chain(forward_source(draft))
}

fn forward_source(draft: &MessageDraft) -> Option<MessageId> {
    match draft.body {
        DraftBody::Forward(source) => Some(source),
        DraftBody::New { .. } => None,
    }
}

/// Returns the sender, in the forward's source too, and the users that a draft mentions.
fn involved_members(viewer: &Viewer, draft: &MessageDraft) -> impl Iterator<Item = MemberId> {
    let chat = draft.chat;
    let sender_chats = std::iter::once(chat).chain(forward_source(draft).map(|source| source.chat));
    let sender = viewer.id().clone();
    let senders = sender_chats.map(move |chat| MemberId { chat, user: sender.clone() });
    senders.chain(draft.mentions.iter().map(move |user| MemberId { chat, user: user.clone() }))
}

/// Returns the distinct items, in any order.
pub fn unique<T: Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<HashSet<_>>().into_iter().collect()
}
