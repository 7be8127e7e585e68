use std::sync::Arc;

use async_graphql::connection::PageInfo;
use async_graphql::{ID, InputObject, SimpleObject};

use crate::domain::ids::{ChatId, UserId};
use crate::domain::message_queries::{MessageSearch, created_at_key};
use crate::domain::messages;
use crate::domain::pagination::{Cursor, Page};
use crate::domain::search::SearchQuery;
use crate::error::{Error, Result};
use crate::graphql::schema::scalars::DateTime;
use crate::graphql::schema::types::message::{Message, MessageKind};

/// Which messages to search.
#[derive(InputObject, Default)]
pub struct MessageSearchFilter {
    /// Only those of this chat.
    chat_id: Option<ID>,
    /// Only those that this person sent.
    sender_id: Option<ID>,
    /// Only those of these kinds.
    kinds: Option<Vec<MessageKind>>,
    /// True finds only those with files, false only those without.
    has_attachment: Option<bool>,
    /// True finds only those that mention the viewer, or everyone.
    mentions_me: Option<bool>,
    /// Only those sent at this moment or later.
    since: Option<DateTime>,
    /// Only those sent before this moment.
    until: Option<DateTime>,
}

impl MessageSearchFilter {
    /// The search for words; none where the filter names what can't exist.
    pub fn validate(self, query: &str) -> Result<MessageSearch> {
        let chat = self.chat_id.map(|id| id.parse::<ChatId>().map_err(|_| Error::NotFound("chat"))).transpose()?;
        let sender = self.sender_id.map(|id| id.parse::<UserId>().map_err(|_| Error::NotFound("user"))).transpose()?;
        Ok(MessageSearch {
            query: SearchQuery::parse(query)?,
            chat,
            sender,
            kinds: self.kinds.map(|kinds| kinds.into_iter().map(Into::into).collect()),
            has_attachment: self.has_attachment,
            mentions_viewer: self.mentions_me.unwrap_or_default(),
            since: self.since.map(|since| since.0),
            until: self.until.map(|until| until.0),
        })
    }
}

/// A page of found messages, newest first.
#[derive(SimpleObject)]
pub struct MessageSearchConnection {
    /// What was found, each with its snippet.
    edges: Vec<MessageSearchEdge>,
    /// What was found.
    nodes: Vec<Message>,
    /// What lies beyond the page.
    page_info: PageInfo,
}

/// A found message.
#[derive(SimpleObject)]
struct MessageSearchEdge {
    /// Its place in what was found.
    cursor: String,
    /// The message.
    node: Message,
    /// The part of the text that was found, as safe HTML: what matched is in `<mark>`, and nothing
    /// else is markup.
    snippet: String,
}

impl MessageSearchConnection {
    pub fn from_page(page: Page<messages::Message>, words: &SearchQuery) -> Self {
        let items: Vec<Arc<messages::Message>> = page.items.into_iter().map(Arc::new).collect();
        let edge = |message: &Arc<messages::Message>| MessageSearchEdge {
            cursor: created_at_key(message).encode(),
            snippet: words.snippet(message.text.as_deref().unwrap_or_default()),
            node: Message(message.clone()),
        };
        let edges: Vec<_> = items.iter().map(edge).collect();
        let page_info = PageInfo {
            has_previous_page: page.has_previous,
            has_next_page: page.has_next,
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        };
        Self { edges, nodes: items.into_iter().map(Message).collect(), page_info }
    }
}
