//! Chats: their details, lists, policy, and the viewer's capabilities in them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use strum::IntoEnumIterator;

use crate::access::ChatAccess;
use crate::domain::bans::{Ban, BanKey, BansQuery, ban_key};
use crate::domain::cursors::FeedCursor;
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::member_queries::{MembersQuery, UserIdKey};
use crate::domain::message_queries::{CountKey, MessageList, MessagesQuery, PinnedAtKey, PinnedQuery, pinned_at_key};
use crate::domain::pagination::{Cursor, Page, PageArgs, PageEnd};
use crate::domain::{chats, text};
use crate::error::{Error, Result};
use crate::graphql::schema::connection::{Connection, connection, connection_with};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::{ActiveCallKey, TypingKey};
use crate::graphql::schema::scalars::{CountedUrl, DateTime, Text};
use crate::graphql::schema::types::ban::ChatBan;
use crate::graphql::schema::types::member::ChatRole;
use crate::graphql::schema::types::message::MessageTotals;
use crate::graphql::schema::types::objects::{Call, Chat, ChatMember, Message, User};
use crate::service;

/// The kind of a chat.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::ChatKind")]
pub enum ChatKind {
    /// A conversation of two users, or the notes of one user.
    /// There is one for each pair of users, and one for the notes of each user.
    Direct,
    /// A conversation of users who were added to it.
    Group,
    /// A conversation that every user of the organisation may see and join.
    /// By default, only moderators may post.
    Channel,
}

/// The purpose of a group in the host application.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::GroupCategory")]
pub enum GroupCategory {
    /// A department of the organisation.
    Department,
    /// Current work, such as a project or a shift.
    Operational,
    /// Any other purpose.
    Custom,
}

/// The messages that a user who becomes a member of a chat may read.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::HistoryForNewMembers")]
pub enum HistoryForNewMembers {
    /// All messages of the chat.
    All,
    /// The messages since the user became a member; for a user who returns, since their return.
    SinceJoined,
}

/// An action in a chat that requires a minimum role.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "chats::ChatAction")]
pub enum ChatAction {
    /// Send messages.
    Post,
    /// Mention everyone in a message.
    /// Also requires the right to `POST`.
    MentionEveryone,
    /// Change title, description, picture, category and slow mode, and archive the chat.
    EditDetails,
    /// Add members.
    AddMembers,
    /// Remove members of a lower role.
    RemoveMembers,
    /// Silence members of a lower role.
    SilenceMembers,
    /// Change the roles of members and the policy of the chat.
    ChangeRoles,
    /// Delete messages of other users, and close their polls.
    DeleteOthersMessages,
    /// Pin and unpin messages.
    Pin,
    /// Start calls.
    StartCall,
    /// Delete the chat.
    DeleteChat,
}

/// The minimum role for an action in a chat.
#[derive(SimpleObject)]
pub struct ChatRule {
    /// The action.
    action: ChatAction,
    /// The lowest role that may do the action.
    role: ChatRole,
}

/// A minimum role to set for an action.
#[derive(InputObject)]
pub struct ChatRuleInput {
    /// The action.
    pub action: ChatAction,
    /// The lowest role that may do the action.
    pub role: ChatRole,
}

/// A reference to an object of the host application.
#[derive(SimpleObject)]
struct ChatResource {
    /// The type of the object in the host application.
    #[graphql(name = "type")]
    kind: Text<String>,
    /// The id of the object in the host application, unique among the objects of its type.
    id: Text<String>,
}

/// The viewer's permission to do an action in a chat now.
/// Mutations apply the same rules.
#[derive(SimpleObject)]
struct Capability {
    /// The action.
    action: ChatAction,
    /// True if the viewer may do the action.
    allowed: bool,
    /// The reason why the viewer may not do the action, in English.
    /// Null if the action is allowed.
    reason: Option<String>,
    /// The time from which on the action is allowed.
    /// Null unless only silencing or slow mode prevents it.
    until: Option<DateTime>,
}

/// The conditions that listed chats must meet.
/// All conditions that are set apply.
#[derive(InputObject, Default)]
pub struct ChatFilter {
    /// Returns only chats of these kinds.
    kinds: Option<Vec<ChatKind>>,
    /// True returns only archived chats, false only others.
    /// Defaults to false.
    archived: Option<bool>,
    /// True returns only chats that the viewer pinned, false only others.
    /// Defaults to both.
    pinned: Option<bool>,
    /// True returns only chats with unread messages, or marked as unread.
    /// Defaults to false.
    unread_only: Option<bool>,
    /// Returns only chats whose title contains this text, ignoring case and accents.
    /// At most 200 characters. In a direct chat, the name of the other user counts as the title, and the
    /// viewer's own name in their notes.
    search: Option<String>,
    /// True returns channels of the organisation that the viewer has not joined, instead of their chats.
    /// Defaults to false.
    joinable: Option<bool>,
}

impl ChatFilter {
    /// Returns the filter of the domain layer.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the search text is not one line of at most 200 characters.
    pub fn validate(self) -> Result<chats::ChatFilter> {
        let search = text::validate_optional_line("filter.search", self.search.as_deref(), 200)?;
        Ok(chats::ChatFilter {
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            unread_only: self.unread_only.unwrap_or_default(),
            archived: self.archived.unwrap_or_default(),
            pinned: self.pinned,
            search,
            joinable: self.joinable.unwrap_or_default(),
        })
    }
}

/// Returns a page of a chat's bans.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer may not ban users from the chat, and [`Error::BadUserInput`] if an
/// argument of the page is not valid.
async fn bans_page(ctx: &Context<'_>, chat: ChatId, args: &PageArgs) -> Result<Page<Ban>> {
    let query = BansQuery { chat, window: args.window::<ChatId, BanKey>(&chat, PageEnd::First)? };
    let page = ctx.loaders().load_one(query).await?;
    page.ok_or_else(|| Error::Forbidden("only users with the right to REMOVE_MEMBERS can list bans".into()))
}

impl Chat {
    /// Returns a chat that must exist for the viewer.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if it does not exist, and the errors of the loader.
    pub async fn load(ctx: &Context<'_>, id: ChatId) -> Result<Self> {
        Self::find(ctx, id).await?.ok_or(Error::NotFound("chat"))
    }

    /// Returns the chat with the given id if it exists for the viewer.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn find(ctx: &Context<'_>, id: ChatId) -> Result<Option<Self>> {
        Ok(ctx.loaders().load_one(id).await?.map(|access| Self(access.chat.clone())))
    }

    /// Returns the message with a number, 0 for none, if the viewer may read it.
    async fn message(&self, ctx: &Context<'_>, seq: i64) -> Option<Result<Message>> {
        if seq == 0 {
            return None;
        }
        Message::load(ctx, MessageId { chat: self.0.id, seq }).await.transpose()
    }
}

/// A conversation of users of one organisation.
#[Object]
impl Chat {
    /// The id of the chat.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The kind of the chat.
    async fn kind(&self) -> ChatKind {
        self.0.kind.into()
    }

    /// The category of a group.
    /// Null if it has none, and for all other kinds.
    async fn category(&self) -> Option<GroupCategory> {
        self.0.details.category.map(Into::into)
    }

    /// The title.
    /// Null for a direct chat: show the name of the other user instead, or that of the viewer for their notes.
    async fn title(&self) -> Option<Text<&str>> {
        self.0.details.title.as_deref().map(Text)
    }

    /// The description.
    /// Null if there is none.
    async fn description(&self) -> Option<Text<&str>> {
        self.0.details.description.as_deref().map(Text)
    }

    /// The URL of the chat's picture.
    /// Null if there is none.
    async fn avatar_url(&self) -> Option<CountedUrl<&str>> {
        self.0.details.avatar_url.as_deref().map(CountedUrl)
    }

    /// The time at which the chat was created.
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The user who created the chat.
    /// Null if unknown.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.created_by.as_ref()?).await)
    }

    /// The time of the newest message of a user, or of the creation if there is none.
    /// Lists of chats are sorted by it. System messages and replies that are only in a thread do not count.
    async fn last_activity_at(&self) -> DateTime {
        DateTime(self.0.last_activity_at)
    }

    /// The time at which the chat was archived.
    /// Null if it is not archived. An archived chat is read-only.
    async fn archived_at(&self) -> Option<DateTime> {
        self.0.archived_at.map(DateTime)
    }

    /// The version of the chat, which increases by one with each stored change.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// The cursor with which `chatFeed` continues after this state of the chat.
    /// In a query, all fields of the response show the state at the cursor: pass it as `after`, and the feed delivers
    /// exactly the changes since then. Read positions of the last seconds may be delivered again. In a mutation and in
    /// an event, the cursor is that of the chat alone.
    async fn feed_cursor(&self, ctx: &Context<'_>) -> String {
        let (chat, version) = (self.0.id, self.0.version);
        let (epoch, as_of) = (ctx.app().epoch, ctx.started_at().unwrap_or(self.0.last_activity_at));
        FeedCursor { epoch, chat, version, snapshot_version: None, as_of }.encode()
    }

    /// The number of members.
    async fn member_count(&self) -> i32 {
        self.0.member_count
    }

    /// The members of the chat, ordered by user id.
    /// Empty if the viewer is not a member.
    async fn members(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n members, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the members after this cursor.")] after: Option<String>,
        #[graphql(desc = "Returns only members with these roles. Defaults to all roles.")] roles: Option<Vec<ChatRole>>,
    ) -> Result<Connection<ChatMember>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let window = args.window::<ChatId, UserIdKey>(&self.0.id, PageEnd::First)?;
        let roles = roles.map(|roles| roles.into_iter().map(Into::into).collect());
        let query = MembersQuery { chat: self.0.id, roles, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        Ok(connection(page, |member| (member.chat, member.user.to_string()).encode(), ChatMember))
    }

    /// The users who are banned from the chat, latest ban first.
    /// Null, with the error `FORBIDDEN`, if the viewer may not do `REMOVE_MEMBERS`.
    async fn bans(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n bans, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the bans after this cursor.")] after: Option<String>,
    ) -> Option<Result<Connection<ChatBan>>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let cursor = |ban: &Ban| (self.0.id, ban_key(ban)).encode();
        Some(bans_page(ctx, self.0.id, &args).await.map(|page| connection(page, cursor, ChatBan)))
    }

    /// The messages of the chat, oldest first.
    /// Defaults to the latest messages. Empty if the viewer is not a member. Replies that are only in a thread are in
    /// `Message.replies`.
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n messages, 0 to 100. Cannot be combined with `last`.")] first: Option<i32>,
        #[graphql(desc = "Returns the messages after this cursor.")] after: Option<String>,
        #[graphql(desc = "Returns the last n messages, 0 to 100. Defaults to 30.")] last: Option<i32>,
        #[graphql(desc = "Returns the messages before this cursor.")] before: Option<String>,
        #[graphql(desc = "The id of a message of this list. Returns it with its neighbours, `first` or `last` \
                          messages in total, and none if the list has no such message. Cannot be combined with a \
                          cursor.")]
        around: Option<ID>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let args = PageArgs { first, after, last, before };
        let window = args.window::<ChatId, i64>(&self.0.id, PageEnd::Last)?;
        let page = match around {
            Some(_) if window.after.is_some() || window.before.is_some() => {
                return Err(Error::bad_input("around", "cannot be combined with after or before"));
            }
            Some(id) => {
                let viewer = ctx.viewer()?;
                match id.parse::<MessageId>().ok().filter(|id| id.chat == self.0.id) {
                    Some(message) => service::messages::around(ctx.app(), viewer, message, window.limit).await?,
                    None => Page::empty(),
                }
            }
            None => {
                let query = MessagesQuery { list: MessageList::Timeline(self.0.id), window };
                ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty)
            }
        };
        let totals = MessageTotals(CountKey::List(MessageList::Timeline(self.0.id)));
        Ok(connection_with(page, totals, |message| Message::cursor(message), Message))
    }

    /// The pinned messages of the chat, latest pin first.
    /// Empty if the viewer is not a member.
    async fn pinned_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n messages, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the messages after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Message, MessageTotals>> {
        let window = PageArgs { first, after, ..PageArgs::default() }
            .window::<ChatId, PinnedAtKey>(&self.0.id, PageEnd::First)?;
        let query = PinnedQuery { chat: self.0.id, window };
        let page = ctx.loaders().load_one(query).await?.unwrap_or_else(Page::empty);
        let totals = MessageTotals(CountKey::Pinned(self.0.id));
        Ok(connection_with(page, totals, |message| (message.id.chat, pinned_at_key(message)).encode(), Message))
    }

    /// The newest message of a user, without system messages and replies that are only in a thread.
    /// Null if there is none, or if the viewer may not read it.
    async fn last_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        self.message(ctx, self.0.last_message_seq).await
    }

    /// The newest message of any kind, system messages included, without replies that are only in a thread.
    /// Null if there is none, or if the viewer may not read it.
    async fn last_entry(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        self.message(ctx, self.0.last_seq).await
    }

    /// The users who are typing now, in the order in which they started.
    /// Includes the viewer. Empty if the viewer is not a member, and in a chat of more than 256 members by default.
    async fn typing(&self, ctx: &Context<'_>) -> Result<Vec<User>> {
        let users = ctx.loaders().load_one(TypingKey(self.0.id)).await?.unwrap_or_default();
        User::load_all(ctx, users).await
    }

    /// The call that is ringing or active.
    /// Null if there is none, or if the viewer is not a member.
    async fn active_call(&self, ctx: &Context<'_>) -> Option<Result<Call>> {
        ctx.loaders().load_one(ActiveCallKey(self.0.id)).await.map(|call| call.map(Call)).transpose()
    }

    /// The minimum role for each action.
    async fn policy(&self) -> Vec<ChatRule> {
        let rule = |action| ChatRule {
            action: ChatAction::from(action),
            role: self.0.details.policy.min_role(self.0.kind, action).into(),
        };
        chats::ChatAction::iter().map(rule).collect()
    }

    /// The number of seconds that a member must wait between two messages or edits. 0 if slow mode is off.
    /// Slow mode does not apply to moderators and higher roles.
    async fn slow_mode_seconds(&self) -> i32 {
        self.0.details.slow_mode_seconds
    }

    /// The messages that later members may read.
    async fn history_for_new_members(&self) -> HistoryForNewMembers {
        self.0.details.history_for_new_members.into()
    }

    /// The object of the host application that the chat belongs to.
    /// Null if there is none.
    async fn resource(&self) -> Option<ChatResource> {
        let resource = self.0.resource.clone()?;
        Some(ChatResource { kind: Text(resource.kind), id: Text(resource.id) })
    }

    /// The viewer's membership.
    /// Null if the viewer is not a member.
    async fn viewer_membership(&self, ctx: &Context<'_>) -> Option<Result<ChatMember>> {
        let access = match ctx.viewer() {
            Ok(_) => ctx.loaders().load_one(self.0.id).await,
            Err(error) => Err(error),
        };
        let member = access.map(|access| access.and_then(|access| access.active_membership().cloned()));
        member.map(|member| member.map(ChatMember)).transpose()
    }

    /// The actions of the chat, and for each of them whether the viewer may do it now.
    async fn viewer_can(&self, ctx: &Context<'_>) -> Result<Vec<Capability>> {
        let viewer = ctx.viewer()?;
        let access = ctx.loaders().load_one(self.0.id).await?;
        // A viewer who was removed since the chat was read has no rights. The list with the chat remains valid.
        let access = access.unwrap_or_else(|| Arc::new(ChatAccess { chat: self.0.clone(), membership: None }));
        let rights = access.rights(viewer, ctx.app().clock.now());
        let capability = |action| {
            let denial = rights.can(action).err();
            Capability {
                action: ChatAction::from(action),
                allowed: denial.is_none(),
                reason: denial.map(|denial| denial.to_string()),
                until: denial.and_then(|denial| denial.retry_at()).map(DateTime::ceil_to_millis),
            }
        };
        Ok(chats::ChatAction::iter().map(capability).collect())
    }
}
