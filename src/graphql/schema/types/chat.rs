use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use strum::IntoEnumIterator;

use crate::access::ChatAccess;
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::member_queries::{MembersQuery, UserIdKey};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedAtKey, PinnedQuery};
use crate::domain::pagination::{Cursor, Page, PageArgs, PageEnd};
use crate::domain::{chats, messages};
use crate::error::{Error, Result};
use crate::graphql::schema::connection::{Connection, connection, connection_with, cost};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::ActiveCallKey;
use crate::graphql::schema::scalars::{DateTime, Url};
use crate::graphql::schema::types::call::Call;
use crate::graphql::schema::types::member::{ChatMember, ChatRole};
use crate::graphql::schema::types::message::{Message, MessageTotals};
use crate::graphql::schema::types::user::User;
use crate::service;

/// What a chat is for.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::ChatKind")]
pub enum ChatKind {
    /// Two people, with one chat for each pair.
    Direct,
    /// People who were invited.
    Group,
    /// Open to the organisation: anyone may join, and roles post.
    Channel,
}

/// What a group is for in the host application.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::GroupCategory")]
pub enum GroupCategory {
    /// A part of the organisation.
    Department,
    /// Work at hand.
    Operational,
    /// Anything else.
    Custom,
}

/// What a role in a chat may allow.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::ChatAction")]
pub enum ChatAction {
    /// Send messages.
    Post,
    /// Mention everyone in a message.
    MentionEveryone,
    /// Change title, description, picture, category and slow mode, and archive the chat.
    EditDetails,
    /// Bring people in.
    AddMembers,
    /// Take people out whom one outranks.
    RemoveMembers,
    /// Silence people whom one outranks.
    SilenceMembers,
    /// Give roles, and set the least role for each action.
    ChangeRoles,
    /// Delete what others sent.
    DeleteOthersMessages,
    /// Pin messages.
    Pin,
    /// Start a call.
    StartCall,
    /// Delete the chat.
    DeleteChat,
}

/// The least role that may do an action in this chat.
#[derive(SimpleObject)]
pub struct ChatRule {
    /// The action.
    action: ChatAction,
    /// The least role that may do it.
    role: ChatRole,
}

/// The least role that is to do an action.
#[derive(InputObject)]
pub struct ChatRuleInput {
    /// The action.
    pub action: ChatAction,
    /// The least role that may do it.
    pub role: ChatRole,
}

/// An object of the host application.
#[derive(SimpleObject)]
struct ChatResource {
    /// What kind of object it is, in the host's words.
    #[graphql(name = "type")]
    kind: String,
    /// Its id at the host; of its own type alone.
    id: String,
}

/// Whether the viewer may do an action in a chat, as the mutation would answer now.
#[derive(SimpleObject)]
struct Capability {
    /// The action.
    action: ChatAction,
    /// Whether the viewer may.
    allowed: bool,
    /// Why not, for people to read.
    reason: Option<String>,
    /// When they may, where time alone mends it: from this very moment on.
    until: Option<DateTime>,
}

/// Which chats to list.
#[derive(InputObject, Default)]
pub struct ChatFilter {
    /// Only chats of these kinds.
    kinds: Option<Vec<ChatKind>>,
    /// True lists archived chats, in place of the others.
    archived: Option<bool>,
    /// True lists only chats that the viewer pinned, false only the others.
    pinned: Option<bool>,
    /// Only chats with unread messages, or marked unread.
    unread_only: Option<bool>,
    /// Only chats whose title, or whose other person in a direct chat, has these words in its name.
    search: Option<String>,
    /// True lists the organisation's channels that the viewer may join, in place of their own chats.
    joinable: Option<bool>,
}

impl ChatFilter {
    pub fn validate(self) -> Result<chats::ChatFilter> {
        let search = self.search.as_deref().map(str::trim).filter(|words| !words.is_empty());
        let search = search.map(|words| crate::domain::text::validate_line("filter.search", words, 200)).transpose()?;
        Ok(chats::ChatFilter {
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            unread_only: self.unread_only.unwrap_or_default(),
            archived: self.archived.unwrap_or_default(),
            pinned: self.pinned,
            search: search.as_deref().map(crate::domain::text::fold_case),
            joinable: self.joinable.unwrap_or_default(),
        })
    }
}

pub struct Chat(pub chats::Chat);

impl Chat {
    /// A chat that the viewer may see.
    pub async fn load(ctx: &Context<'_>, id: ChatId) -> Result<Self> {
        Self::find(ctx, id).await?.ok_or(Error::NotFound("chat"))
    }

    pub async fn find(ctx: &Context<'_>, id: ChatId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(|access| Self(access.chat.clone())))
    }
}

/// A conversation.
#[Object]
impl Chat {
    /// Opaque; the chat's for ever.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What the chat is for.
    async fn kind(&self) -> ChatKind {
        self.0.kind.into()
    }

    /// What a group is for, where it says.
    async fn category(&self) -> Option<GroupCategory> {
        self.0.details.category.map(Into::into)
    }

    /// Its name; null for a direct chat, which is called by the other person.
    async fn title(&self) -> Option<&str> {
        self.0.details.title.as_deref()
    }

    /// What it is about.
    async fn description(&self) -> Option<&str> {
        self.0.details.description.as_deref()
    }

    /// Its picture.
    async fn avatar_url(&self) -> Option<Url> {
        self.0.details.avatar_url.clone().map(Url)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Who made it.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.created_by.as_ref()?).await)
    }

    /// When its newest message was sent, or when it was made.
    async fn last_activity_at(&self) -> DateTime {
        DateTime(self.0.last_activity_at)
    }

    /// When it was archived: an archived chat is read, not written.
    async fn archived_at(&self) -> Option<DateTime> {
        self.0.archived_at.map(DateTime)
    }

    /// Rises by one with each durable change of the chat.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// How many people are in.
    async fn member_count(&self) -> i32 {
        self.0.member_count
    }

    /// Who is in, by the id of the person; empty for one who is not in.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
        #[graphql(desc = "Only those of these roles.")] roles: Option<Vec<ChatRole>>,
    ) -> Result<Connection<ChatMember>> {
        let window = PageArgs { first, after, ..PageArgs::default() }.window::<UserIdKey>(PageEnd::First)?;
        let roles = roles.map(|roles| roles.into_iter().map(Into::into).collect());
        let query = MembersQuery { chat: self.0.id, roles, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        Ok(connection(page, |member| member.user.to_string().encode(), ChatMember))
    }

    /// Its messages in their order, the newest page where no argument says otherwise; empty for one
    /// who is not in. Replies of a thread stand in the thread, see `Message.replies`.
    #[graphql(complexity = "cost(first, last, child_complexity)")]
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The oldest so many, 0 to 100.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
        #[graphql(desc = "The newest so many, 0 to 100; 30 where both are left out.")] last: Option<i32>,
        #[graphql(desc = "Those before this cursor.")] before: Option<String>,
        #[graphql(desc = "This message and its neighbours, `first` or `last` in all; not with a cursor.")]
        around: Option<ID>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let args = PageArgs { first, after, last, before };
        let window = args.window::<i64>(PageEnd::Last)?;
        let page = match around {
            Some(_) if window.after.is_some() || window.before.is_some() => {
                return Err(Error::bad_input("around", "can't be combined with after or before"));
            }
            Some(id) => {
                let id: Option<MessageId> = id.parse().ok().filter(|id: &MessageId| id.chat == self.0.id);
                let id = id.ok_or(Error::NotFound("message"))?;
                service::messages::around(ctx.app(), ctx.viewer()?, id, window.limit.max(1)).await?
            }
            None => {
                let query = MessagesQuery { list: MessageList::Timeline(self.0.id), window };
                ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty)
            }
        };
        let totals = MessageTotals(CountKey::List(MessageList::Timeline(self.0.id)));
        Ok(connection_with(page, totals, |message| message.id.seq.encode(), Message))
    }

    /// Its pinned messages, the newest pin first; empty for one who is not in.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn pinned_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let window = PageArgs { first, after, ..PageArgs::default() }.window::<PinnedAtKey>(PageEnd::First)?;
        let query = PinnedQuery { chat: self.0.id, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        let by_pin = |message: &Arc<messages::Message>| {
            let at = message.pinned.as_ref().map_or(0, |pinned| pinned.pinned_at.timestamp_micros());
            (at, message.id.seq).encode()
        };
        Ok(connection_with(page, MessageTotals(CountKey::Pinned(self.0.id)), by_pin, Message))
    }

    /// The newest message; null before the first, and for one who is not in.
    async fn last_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        let id = MessageId { chat: self.0.id, seq: self.0.last_seq };
        if id.seq == 0 {
            return None;
        }
        Message::load(ctx, id).await.transpose()
    }

    /// Who is typing now, the viewer too, by when they began; empty for one who is not in, and in a chat
    /// of too many members.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn typing(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        let users = service::typing::typing_users(ctx.app(), self.0.id);
        if users.is_empty() {
            return Ok(Vec::new());
        }
        ctx.viewer()?;
        let access = ctx.loaders().load_one(self.0.id).await?;
        if access.is_none_or(|access| access.active_membership().is_none()) {
            return Ok(Vec::new());
        }
        User::load_all(ctx, users).await
    }

    /// The call that is on here; null where there is none, and for one who is not in.
    async fn active_call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        ctx.loaders().load_one(ActiveCallKey(self.0.id)).await.map(|call| call.map(Call)).transpose()
    }

    /// The least role for each action.
    async fn policy(&self) -> Vec<ChatRule> {
        let rule = |action| ChatRule {
            action: ChatAction::from(action),
            role: self.0.details.policy.min_role(self.0.kind, action).into(),
        };
        chats::ChatAction::iter().map(rule).collect()
    }

    /// Seconds that a member waits between two messages; 0 is off. Moderators need not wait.
    async fn slow_mode_seconds(&self) -> i32 {
        self.0.details.slow_mode_seconds
    }

    /// The host application's object that the chat belongs to, if any.
    async fn resource(&self) -> Option<ChatResource> {
        let resource = self.0.resource.clone()?;
        Some(ChatResource { kind: resource.kind, id: resource.id })
    }

    /// The viewer's own membership; null for one who may see the chat but has not joined.
    async fn viewer_membership(&self, ctx: &Context<'_>) -> Option<Result<ChatMember>> {
        let access = match ctx.viewer() {
            Ok(_) => ctx.loaders().load_one(self.0.id).await,
            Err(error) => Err(error),
        };
        let member = access.map(|access| access.and_then(|access| access.active_membership().cloned()));
        member.map(|member| member.map(ChatMember)).transpose()
    }

    /// What the viewer may do here, each as the mutation would answer now.
    #[graphql(complexity = "1 + 11 * child_complexity")]
    async fn viewer_can(&self, ctx: &Context<'_>) -> Result<Vec<Capability>> {
        let viewer = ctx.viewer()?;
        let access = ctx.loaders().load_one(self.0.id).await?;
        // One who is taken out meanwhile may do nothing; the list that this stands in is there all the same.
        let access = access.unwrap_or_else(|| Arc::new(ChatAccess { chat: self.0.clone(), membership: None }));
        let rights = access.rights(viewer, ctx.app().clock.now());
        let capability = |action| {
            let refusal = rights.can(action).err();
            Capability {
                action: ChatAction::from(action),
                allowed: refusal.is_none(),
                reason: refusal.map(|refusal| refusal.to_string()),
                until: refusal.and_then(|refusal| refusal.retry_at()).map(DateTime::ceil_to_millis),
            }
        };
        Ok(chats::ChatAction::iter().map(capability).collect())
    }
}
