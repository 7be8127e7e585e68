//! Memberships of chats.

use async_graphql::{Context, Enum, ID, Object};

use crate::domain::ids::MessageId;
use crate::domain::members;
use crate::domain::members::UNREAD_CAP;
use crate::domain::message_queries::{MessageList, MessagesQuery};
use crate::domain::pagination::{PageEnd, PageWindow};
use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::loaders::UnreadKey;
use crate::graphql::schema::scalars::{DateTime, Text};
use crate::graphql::schema::types::objects::{Chat, ChatMember, Message, User};

/// The role of a member in a chat, from lowest to highest.
/// The chat's policy decides which actions a role allows.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "members::Role")]
pub enum ChatRole {
    /// Takes part in the conversation.
    Member,
    /// Moderates the conversation.
    /// By default, may delete messages of others, pin, and silence members.
    Moderator,
    /// Manages the chat.
    /// By default, may also change its details and its members.
    Admin,
    /// Owns the chat.
    /// By default, may also change roles and delete the chat.
    Owner,
}

/// The events of a chat that notify a member.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "members::NotificationLevel")]
pub enum NotificationLevel {
    /// All events that cause notifications: see `NotificationKind`.
    All,
    /// Mentions only.
    Mentions,
    /// No events.
    None,
}

/// The membership of a user in a chat.
#[Object]
impl ChatMember {
    /// The id of the membership.
    /// A user who leaves and returns keeps it.
    pub async fn id(&self) -> ID {
        self.0.id().to_string().into()
    }

    /// The chat.
    async fn chat(&self, ctx: &Context<'_>) -> Result<Chat> {
        Chat::load(ctx, self.0.chat).await
    }

    /// The user.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        User::load(ctx, &self.0.user).await
    }

    /// The version of the chat at the last stored change of the membership.
    /// Read and delivered positions and the member's own settings take no version.
    async fn version(&self) -> i64 {
        self.0.version
    }

    /// The role of the member.
    async fn role(&self) -> ChatRole {
        self.0.role.into()
    }

    /// The time at which the user last joined.
    async fn joined_at(&self) -> DateTime {
        DateTime(self.0.joined_at)
    }

    /// The user who added the member.
    /// Null if the member joined by themselves.
    async fn added_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        Some(User::load(ctx, self.0.added_by.as_ref()?).await)
    }

    /// The read position: the last message that the member has read.
    /// Null if the member has read none, and for other users if the member reads privately.
    async fn last_read_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        match self.may_see_read_position(ctx) {
            Ok(true) => Message::load(ctx, self.0.last_read()?).await.transpose(),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The delivered position: the last message of the chat that arrived at one of the member's devices.
    /// Null if none arrived. A message that was read has also arrived, unless the member reads privately.
    async fn last_delivered_message(&self, ctx: &Context<'_>) -> Option<Result<Message>> {
        last_in_timeline(ctx, self.0.last_delivered()?).await.transpose()
    }

    /// The time at which the read position last moved.
    /// Null if it never moved, and for other users if the member reads privately.
    async fn last_read_at(&self, ctx: &Context<'_>) -> Option<Result<DateTime>> {
        match self.may_see_read_position(ctx) {
            Ok(true) => self.0.read_markers.last_read_at.map(DateTime).map(Ok),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The time until which the chat is muted.
    /// Null if the chat is not muted, and for other users. A muted chat causes no notifications except those of
    /// mentions, which are kept for later, and its unread messages are not part of `Viewer.unread`.
    async fn muted_until(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let muted_until = self.preferences_of_viewer(ctx)?.and_then(|preferences| preferences.muted_until);
        let now = ctx.app().clock.now();
        Ok(muted_until.filter(|until| now < *until).map(DateTime))
    }

    /// The time until which the member is silenced.
    /// Null if no such time is set. From that time on, the member may send, edit, react and vote again.
    async fn silenced_until(&self) -> Option<DateTime> {
        self.0.silenced_until.map(DateTime::ceil_to_millis)
    }

    /// The events of the chat that notify the member.
    /// `ALL` for other users.
    async fn notification_level(&self, ctx: &Context<'_>) -> Result<NotificationLevel> {
        let preferences = self.preferences_of_viewer(ctx)?;
        Ok(preferences.map(|preferences| preferences.notification_level).unwrap_or_default().into())
    }

    /// True if the member pinned the chat in their chat list.
    /// False for other users.
    async fn pinned(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.preferences_of_viewer(ctx)?.is_some_and(|preferences| preferences.pinned))
    }

    /// True if the member marked the chat as unread and has not read it since.
    /// False for other users.
    async fn marked_unread(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.preferences_of_viewer(ctx)?.is_some_and(|preferences| preferences.marked_unread))
    }

    /// The number of unread messages after the read position. 0 for other users.
    /// Counts messages from other users that are not deleted, without system messages and without replies that are only
    /// in threads. Exact below 1,000, which means that many or more.
    async fn unread_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(self.unread(ctx).await?.messages)
    }

    /// The number of unread messages that mention the member or everyone. 0 for other users.
    /// Counts mentions in replies that are only in threads too, until the thread is read. Exact below 1,000, which
    /// means that many or more.
    async fn unread_mention_count(&self, ctx: &Context<'_>) -> Result<i64> {
        Ok(self.unread(ctx).await?.mentions)
    }

    /// The text that the member has begun to write.
    /// Null if there is none, and for other users.
    async fn draft(&self, ctx: &Context<'_>) -> Result<Option<Text<&str>>> {
        Ok(self.preferences_of_viewer(ctx)?.and_then(|preferences| preferences.draft.as_deref()).map(Text))
    }
}

/// Returns a message if it is in the timeline, and the last message of the timeline before it otherwise.
async fn last_in_timeline(ctx: &Context<'_>, id: MessageId) -> Result<Option<Message>> {
    match Message::load(ctx, id).await? {
        Some(message) if !message.0.in_timeline => {
            let window = PageWindow { after: None, before: Some(id.seq), end: PageEnd::Last, limit: 1 };
            let query = MessagesQuery { list: MessageList::Timeline(id.chat), window };
            let page = ctx.loaders().load_one(query).await?;
            Ok(page.and_then(|mut page| page.items.pop()).map(Message))
        }
        found => Ok(found),
    }
}

impl ChatMember {
    /// Returns the member's preferences if the viewer is the member.
    fn preferences_of_viewer(&self, ctx: &Context<'_>) -> Result<Option<&members::MemberPreferences>> {
        Ok((*ctx.viewer()?.id() == self.0.user).then_some(&self.0.preferences))
    }

    /// Returns the member's unread counts, capped, if the viewer is the member, and zeros otherwise.
    async fn unread(&self, ctx: &Context<'_>) -> Result<members::UnreadCounts> {
        if self.preferences_of_viewer(ctx)?.is_none() {
            return Ok(members::UnreadCounts::default());
        }
        let counts = ctx.loaders().load_one(UnreadKey(self.0.id())).await?.unwrap_or_default();
        Ok(members::UnreadCounts {
            messages: counts.messages.min(UNREAD_CAP),
            mentions: counts.mentions.min(UNREAD_CAP),
        })
    }

    /// Returns whether the viewer may see the member's read position.
    ///
    /// Asks for the viewer only if the member reads privately, so that the result can be shared otherwise.
    fn may_see_read_position(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(!self.0.read_markers.is_private || self.preferences_of_viewer(ctx)?.is_some())
    }
}
