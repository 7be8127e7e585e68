//! The stock handler: async-graphql's `GraphQLSubscription` with a schema whose events have the shape of Parlor's.
//!
//! Its resolvers only read the event, which is the minimum.

use std::sync::Arc;

use async_graphql::{Context, EmptyMutation, ID, Object, Result, Schema, SimpleObject, Subscription, Union};
use async_graphql_axum::GraphQLSubscription;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::broadcast::Sender;
use tokio::sync::broadcast::error::RecvError;

use super::BACKLOG;

type Events = Sender<Arc<MessageUpserted>>;

pub fn router() -> Router {
    let events = Events::new(BACKLOG);
    let schema = Schema::build(Query, EmptyMutation, Subscriptions).data(events.clone()).finish();
    Router::new()
        .route_service("/graphql", GraphQLSubscription::new(schema))
        .route("/publish", post(publish))
        .with_state(events)
}

async fn publish(State(events): State<Events>, event: String) -> Result<(), StatusCode> {
    let event = serde_json::from_str(&event).map_err(|_| StatusCode::BAD_REQUEST)?;
    // Sending fails if there are no subscribers, which is not an error.
    events.send(Arc::new(event)).ok();
    Ok(())
}

struct Query;

#[Object]
impl Query {
    async fn ready(&self) -> bool {
        true
    }
}

struct Subscriptions;

#[Subscription]
impl Subscriptions {
    async fn chat_feed(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "chatId")] _chat: ID,
    ) -> Result<impl Stream<Item = ChatFeedEvent> + use<>> {
        let receiver = ctx.data::<Events>()?.subscribe();
        Ok(stream::unfold(receiver, async |mut receiver| {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((ChatFeedEvent::MessageUpserted(event), receiver)),
                    // As in the usual pattern, a slow subscriber loses messages.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        }))
    }
}

#[derive(Union)]
enum ChatFeedEvent {
    MessageUpserted(Arc<MessageUpserted>),
}

#[derive(Deserialize, SimpleObject)]
struct MessageUpserted {
    cursor: String,
    change: String,
    message: Message,
}

#[derive(Deserialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: ID,
    seq: i64,
    text: Option<String>,
    created_at: String,
    sender: Option<User>,
    reactions: Vec<ReactionGroup>,
}

#[derive(Deserialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
struct User {
    id: ID,
    name: String,
    avatar_url: Option<String>,
}

#[derive(Deserialize, SimpleObject)]
struct ReactionGroup {
    emoji: String,
    count: i32,
}
