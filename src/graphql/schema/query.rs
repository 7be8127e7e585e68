//! The query root: look-ups by id, lists, and search.

use std::str::FromStr;
use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use crate::domain::chats::activity_key;
use crate::domain::ids::UserId;
use crate::domain::pagination::{Cursor, MAX_PAGE_SIZE, Page, PageArgs, RootList};
use crate::domain::users::name_key;
use crate::error::{Error, Result};
use crate::graphql::schema::connection::{Connection, connection};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::blocklist::{BlockedWord, blocked_words};
use crate::graphql::schema::types::call::CallFilter;
use crate::graphql::schema::types::chat::ChatFilter;
use crate::graphql::schema::types::node::{Node, node};
use crate::graphql::schema::types::objects::{Call, Chat, Message, User};
use crate::graphql::schema::types::report::Report;
use crate::graphql::schema::types::search::{MessageSearchConnection, MessageSearchFilter};
use crate::graphql::schema::types::viewer::Viewer;
use crate::service;

/// The type `Query`.
pub struct Query;

/// The query root.
/// Every field requires a token. Objects that the viewer may not see do not exist for them: a look-up by id returns
/// null.
#[Object]
impl Query {
    /// The authenticated user.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        Ok(Viewer(Arc::clone(ctx.viewer()?)))
    }

    /// Looks up an object by its id.
    /// Null if the object does not exist for the viewer.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "The id of the object.")] id: ID) -> Option<Result<Node>> {
        node(ctx, &id).await.transpose()
    }

    /// Looks up objects by their ids, in the order of the ids.
    /// An element is null if its object does not exist for the viewer.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ids of the objects, at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_PAGE_SIZE {
            return Err(Error::bad_input("ids", format!("must have at most {MAX_PAGE_SIZE} ids")));
        }
        futures_util::future::try_join_all(ids.iter().map(|id| node(ctx, id))).await
    }

    /// Looks up a chat by its id.
    /// Null if the chat does not exist for the viewer.
    async fn chat(&self, ctx: &Context<'_>, #[graphql(desc = "The id of the chat.")] id: ID) -> Option<Result<Chat>> {
        find_by_id(ctx, &id, async |id| Chat::find(ctx, id).await).await
    }

    /// The viewer's chats, most recent activity first.
    /// Omits archived chats unless the filter selects them. Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn chats(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Returns the first n chats, 0 to 100. Defaults to 30. Cannot be combined with `last`.")]
        first: Option<i32>,
        #[graphql(desc = "Returns the chats after this cursor.")] after: Option<String>,
        #[graphql(desc = "Returns the last n chats, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Returns the chats before this cursor.")] before: Option<String>,
        #[graphql(desc = "The conditions that the chats must meet.")] filter: Option<ChatFilter>,
    ) -> Result<Connection<Chat>> {
        let args = PageArgs { first, after, last, before };
        let filter = filter.unwrap_or_default().validate()?;
        let page = service::chats::page(ctx.app(), ctx.viewer()?, &filter, &args).await?;
        Ok(connection(page, |chat| (RootList::Chats, activity_key(chat)).encode(), Chat))
    }

    /// Looks up a message by its id.
    /// Null if the viewer is not a member of its chat.
    async fn message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the message.")] id: ID,
    ) -> Option<Result<Message>> {
        find_by_id(ctx, &id, async |id| Message::load(ctx, id).await).await
    }

    /// Looks up a user of the viewer's organisation by their id.
    /// Null if the user is unknown.
    async fn user(&self, ctx: &Context<'_>, #[graphql(desc = "The id of the user.")] id: ID) -> Option<Result<User>> {
        find_by_id(ctx, &id, async |id: UserId| Ok(ctx.loaders().load_one(id).await?.map(User))).await
    }

    /// The users of the viewer's organisation, ordered by name.
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Returns only users whose name contains this text, ignoring case and accents. At most 200 characters."
        )]
        search: Option<String>,
        #[graphql(desc = "Returns the first n users, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the users after this cursor.")] after: Option<String>,
    ) -> Result<Connection<User>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let page = service::users::page(ctx.app(), ctx.viewer()?, search.as_deref(), &args).await?;
        Ok(connection(page, |user| (RootList::Users, name_key(user)).encode(), User))
    }

    /// Looks up a call by its id.
    /// Null if the viewer is not a member of its chat.
    async fn call(&self, ctx: &Context<'_>, #[graphql(desc = "The id of the call.")] id: ID) -> Option<Result<Call>> {
        find_by_id(ctx, &id, async |id| Call::find(ctx, id).await).await
    }

    /// The calls that the viewer started or joined, or that rang for them, newest first.
    /// Contains only calls of chats of which the viewer is a member. Fails with `FORBIDDEN` if the token lacks
    /// `chat.view`.
    async fn calls(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The conditions that the calls must meet.")] filter: Option<CallFilter>,
        #[graphql(desc = "Returns the first n calls, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the calls after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Call>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let viewer = ctx.viewer()?;
        let page = match filter.unwrap_or_default().validate()? {
            Some(filter) => service::calls::history::page(ctx.app(), viewer, &filter, &args).await?,
            None => Page::empty(),
        };
        Ok(connection(page, |call| (RootList::Calls, call.id.call).encode(), |call| Call(Arc::new(call))))
    }

    /// The messages of the viewer's chats that contain all words of the query, newest first.
    /// Searches texts, the questions and options of polls, and the names and addresses of locations. A word matches
    /// words that begin with it, ignoring case and accents. Words in double quotes match as a phrase. Text of a script
    /// without spaces matches inside longer text, and an emoji is a word.
    async fn search_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The words to search for: at most 200 characters and 16 words. May be empty with a filter that has a condition."
        )]
        query: String,
        #[graphql(desc = "The conditions that the messages must meet.")] filter: Option<MessageSearchFilter>,
        #[graphql(desc = "Returns the first n messages, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the messages after this cursor.")] after: Option<String>,
    ) -> Result<MessageSearchConnection> {
        let viewer = ctx.viewer()?;
        let args = PageArgs { first, after, ..PageArgs::default() };
        let search = filter.unwrap_or_default().validate(&query)?;
        let page = service::search::messages(ctx.app(), viewer, &search, &args).await?;
        Ok(MessageSearchConnection::from_page(page, &search.query))
    }

    /// The reports of messages in the viewer's organisation, oldest first.
    /// Fails with `FORBIDDEN` if the token lacks `chat.moderate`.
    async fn reports(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "True returns only resolved reports, false only open ones. Defaults to both.")]
        resolved: Option<bool>,
        #[graphql(desc = "Returns the first n reports, 0 to 100. Defaults to 30.")] first: Option<i32>,
        #[graphql(desc = "Returns the reports after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Report>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let page = service::reports::page(ctx.app(), ctx.viewer()?, resolved, &args).await?;
        Ok(connection(page, |report| (RootList::Reports, report.id.0).encode(), Report))
    }

    /// The blocklist of the viewer's organisation, ordered by word.
    /// Fails with `FORBIDDEN` if the token lacks `chat.moderate`.
    async fn blocked_words(&self, ctx: &Context<'_>) -> Result<Vec<BlockedWord>> {
        service::blocklist::list(ctx.app(), ctx.viewer()?).await.map(blocked_words)
    }
}

/// Parses an id and looks up its object.
/// A text that is no id of the type belongs to no object.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] without a viewer, and the errors of `find`.
async fn find_by_id<Id: FromStr, T>(
    ctx: &Context<'_>,
    id: &str,
    find: impl AsyncFnOnce(Id) -> Result<Option<T>>,
) -> Option<Result<T>> {
    if let Err(error) = ctx.viewer() {
        return Some(Err(error));
    }
    find(id.parse().ok()?).await.transpose()
}
