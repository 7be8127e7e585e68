//! The filter and the results of `searchMessages`.

use std::sync::Arc;

use async_graphql::connection::PageInfo;
use async_graphql::{ID, InputObject, SimpleObject};

use crate::domain::ids::{ChatId, UserId};
use crate::domain::message_queries::{MessageSearch, created_at_key};
use crate::domain::messages;
use crate::domain::pagination::{Cursor, Page, RootList};
use crate::domain::search::SearchQuery;
use crate::domain::search::message_texts::snippet_source;
use crate::domain::text;
use crate::error::{Error, Result};
use crate::graphql::schema::scalars::{DateTime, Text, Unchecked};
use crate::graphql::schema::types::message::MessageKind;
use crate::graphql::schema::types::objects::Message;

/// The conditions that found messages must meet.
/// All conditions that are set apply.
#[derive(InputObject, Default)]
pub struct MessageSearchFilter {
    /// Finds only messages of this chat.
    chat_id: Option<ID>,
    /// Finds only messages that this user sent.
    sender_id: Option<ID>,
    /// Finds only messages of these kinds.
    kinds: Option<Vec<MessageKind>>,
    /// True finds only messages with attachments, false only messages without.
    /// No message has attachments yet.
    has_attachment: Option<bool>,
    /// True finds only messages that mention the viewer or everyone.
    /// Defaults to false.
    mentions_me: Option<bool>,
    /// Finds only messages that were sent at or after this time.
    since: Option<Unchecked<DateTime>>,
    /// Finds only messages that were sent before this time.
    until: Option<Unchecked<DateTime>>,
}

impl MessageSearchFilter {
    /// Returns whether the filter leaves out any message.
    fn has_condition(&self) -> bool {
        let is_limited_in_time = self.since.is_some() || self.until.is_some();
        let has_property = self.kinds.is_some() || self.has_attachment.is_some() || self.mentions_me == Some(true);
        self.chat_id.is_some() || self.sender_id.is_some() || has_property || is_limited_in_time
    }

    /// Returns the search for `query` with this filter.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if the query has too many characters or words, or none and the filter has no
    /// condition that makes up for them, or a time is wrong, and
    /// [`Error::NotFound`] if an id is no id of a chat or user.
    pub fn validate(self, query: &str) -> Result<MessageSearch> {
        let query = match query.trim().is_empty() && self.has_condition() {
            true => SearchQuery::default(),
            false => SearchQuery::parse(&text::strip_line(query))?,
        };
        let chat = self.chat_id.map(|id| id.parse::<ChatId>().map_err(|_| Error::NotFound("chat"))).transpose()?;
        let sender = self.sender_id.map(|id| id.parse::<UserId>().map_err(|_| Error::NotFound("user"))).transpose()?;
        Ok(MessageSearch {
            query,
            chat,
            sender,
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            has_attachment: self.has_attachment,
            mentions_viewer: self.mentions_me.unwrap_or_default(),
            since: self.since.map(|since| since.check("filter.since")).transpose()?,
            until: self.until.map(|until| until.check("filter.until")).transpose()?,
        })
    }
}

/// A page of found messages, newest first.
#[derive(SimpleObject)]
pub struct MessageSearchConnection {
    /// The found messages with their cursors and snippets.
    edges: Vec<MessageSearchEdge>,
    /// The found messages.
    nodes: Vec<Message>,
    /// Information to aid in pagination.
    page_info: PageInfo,
}

/// A found message.
#[derive(SimpleObject)]
struct MessageSearchEdge {
    /// The cursor of the message in the list of found messages.
    cursor: String,
    /// The message.
    node: Message,
    /// An excerpt of about 200 characters around the first match, as safe HTML.
    /// Matches are in `<mark>` elements. It is taken from the text, the poll and the location of the message.
    snippet: Text<String>,
}

impl MessageSearchConnection {
    /// Returns the connection of a page of messages that match `query`.
    pub fn from_page(page: Page<messages::Message>, query: &SearchQuery) -> Self {
        let messages: Vec<Arc<messages::Message>> = page.items.into_iter().map(Arc::new).collect();
        let edge = |message: &Arc<messages::Message>| MessageSearchEdge {
            cursor: (RootList::FoundMessages, created_at_key(message)).encode(),
            snippet: Text(query.snippet(&snippet_source(message))),
            node: Message(message.clone()),
        };
        let edges: Vec<_> = messages.iter().map(edge).collect();
        let page_info = PageInfo {
            has_previous_page: page.has_previous,
            has_next_page: page.has_next,
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        };
        Self { edges, nodes: messages.into_iter().map(Message).collect(), page_info }
    }
}
