//! Reading.

use std::str::FromStr;
use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use crate::domain::chats::activity_key;
use crate::domain::ids::UserId;
use crate::domain::pagination::{Cursor, MAX_PAGE_SIZE, Page, PageArgs};
use crate::domain::users::name_key;
use crate::error::{Error, Result};
use crate::graphql::schema::connection::{Connection, connection, cost};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::types::blocklist::{BlockedWord, blocked_words};
use crate::graphql::schema::types::call::{Call, CallFilter};
use crate::graphql::schema::types::chat::{Chat, ChatFilter};
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::node::{Node, node};
use crate::graphql::schema::types::report::Report;
use crate::graphql::schema::types::search::{MessageSearchConnection, MessageSearchFilter};
use crate::graphql::schema::types::user::User;
use crate::graphql::schema::types::viewer::Viewer;
use crate::service;

pub struct Query;

/// Reading. What the viewer may not see does not exist: a look-up of it is null.
#[Object]
impl Query {
    /// Who is asking.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<Viewer> {
        Ok(Viewer(Arc::clone(ctx.viewer()?)))
    }

    /// Anything by its id.
    async fn node(&self, ctx: &Context<'_>, #[graphql(desc = "The thing's id.")] id: ID) -> Option<Result<Node>> {
        node(ctx, &id).await.transpose()
    }

    /// Things by their ids, in the order asked; null for each that is not there.
    #[graphql(complexity = "1 + 10 * child_complexity")]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "At most 100 ids.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_PAGE_SIZE {
            return Err(Error::bad_input("ids", format!("must be at most {MAX_PAGE_SIZE}")));
        }
        futures_util::future::try_join_all(ids.iter().map(|id| node(ctx, id))).await
    }

    /// A chat by its id.
    async fn chat(&self, ctx: &Context<'_>, #[graphql(desc = "The chat's id.")] id: ID) -> Option<Result<Chat>> {
        find_by_id(ctx, &id, async |id| Chat::find(ctx, id).await).await
    }

    /// The viewer's chats, newest activity first.
    #[graphql(complexity = "cost(first, last, child_complexity)")]
    async fn chats(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The newest so many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
        #[graphql(desc = "The oldest so many, 0 to 100.")] last: Option<i32>,
        #[graphql(desc = "Those before this cursor.")] before: Option<String>,
        #[graphql(desc = "Which chats.")] filter: Option<ChatFilter>,
    ) -> Result<Connection<Chat>> {
        let args = PageArgs { first, after, last, before };
        let filter = filter.unwrap_or_default().validate()?;
        let page = service::chats::page(ctx.app(), ctx.viewer()?, &filter, &args).await?;
        Ok(connection(page, |chat| activity_key(chat).encode(), Chat))
    }

    /// A message by its id.
    async fn message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The message's id.")] id: ID,
    ) -> Option<Result<Message>> {
        find_by_id(ctx, &id, async |id| Message::load(ctx, id).await).await
    }

    /// A person of the viewer's organisation by their id.
    async fn user(&self, ctx: &Context<'_>, #[graphql(desc = "The person's id.")] id: ID) -> Option<Result<User>> {
        find_by_id(ctx, &id, async |id: UserId| Ok(ctx.loaders().load_one(id).await?.map(User))).await
    }

    /// People of the viewer's organisation by name.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only those with these words in their name.")] search: Option<String>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<Connection<User>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let page = service::users::page(ctx.app(), ctx.viewer()?, search.as_deref(), &args).await?;
        Ok(connection(page, |user| name_key(user).encode(), User))
    }

    /// A call by its id.
    async fn call(&self, ctx: &Context<'_>, #[graphql(desc = "The call's id.")] id: ID) -> Option<Result<Call>> {
        find_by_id(ctx, &id, async |id| Call::participant_index(ctx, id).await).await
    }

    /// Calls of the viewer: that they started, that rang for them, and that they joined; of the chats that they
    /// are in, newest first.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn calls(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which calls.")] filter: Option<CallFilter>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Call>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let viewer = ctx.viewer()?;
        let page = match filter.unwrap_or_default().validate() {
            Some(filter) => service::calls::page(ctx.app(), viewer, &filter, &args).await?,
            None => Page::empty(),
        };
        Ok(connection(page, |call| call.id.call.encode(), |call| Call(Arc::new(call))))
    }

    /// Messages in the viewer's chats that have all of these words, newest first. A word is found by
    /// its beginning, without case and accents; words between double quotes are found as they stand.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn search_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to search for: at most 200 characters and 16 words.")] query: String,
        #[graphql(desc = "Which messages.")] filter: Option<MessageSearchFilter>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<MessageSearchConnection> {
        let viewer = ctx.viewer()?;
        let args = PageArgs { first, after, ..PageArgs::default() };
        let search = filter.unwrap_or_default().validate(&query)?;
        let page = service::search::messages(ctx.app(), viewer, &search, &args).await?;
        Ok(MessageSearchConnection::from_page(page, &search.query))
    }

    /// Messages that were reported in the organisation, the oldest first; needs the permission
    /// CHAT_MODERATE.
    #[graphql(complexity = "cost(first, None, child_complexity)")]
    async fn reports(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "False lists those that are open, true those that are resolved; both where left out.")]
        resolved: Option<bool>,
        #[graphql(desc = "How many, 0 to 100; 30 where left out.")] first: Option<i32>,
        #[graphql(desc = "Those after this cursor.")] after: Option<String>,
    ) -> Result<Connection<Report>> {
        let args = PageArgs { first, after, ..PageArgs::default() };
        let page = service::reports::page(ctx.app(), ctx.viewer()?, resolved, &args).await?;
        Ok(connection(page, |report| report.id.0.encode(), Report))
    }

    /// The words that the organisation blocks; needs the permission CHAT_MODERATE.
    async fn blocked_words(&self, ctx: &Context<'_>) -> Result<Vec<BlockedWord>> {
        service::blocklist::list(ctx.app(), ctx.viewer()?).await.map(blocked_words)
    }
}

/// Finds what an id stands for, for one who has a token; what is no id stands for nothing.
async fn find_by_id<SqlUuid: FromStr, T>(
    ctx: &Context<'_>,
    id: &str,
    find: impl AsyncFnOnce(SqlUuid) -> Result<Option<T>>,
) -> Option<Result<T>> {
    if let Err(error) = ctx.viewer() {
        return Some(Err(error));
    }
    find(id.parse().ok()?).await.transpose()
}
