//! The API: the only layer that knows async-graphql. It parses, makes one service call, and wraps.

mod absent;
pub mod batching;
pub mod coercion;
pub mod connection;
pub mod context;
pub mod errors;
pub mod execute;
pub mod guard;
pub mod loaders;
pub mod mutation;
pub mod persisted;
pub mod query;
pub mod running;
pub mod scalars;
pub mod shape;
pub mod sharing;
pub mod sources;
pub mod subscribed;
pub mod subscription;
pub mod types;

use async_graphql::SDLExportOptions;

pub use execute::Api;
use mutation::Mutation;
use query::Query;
use subscription::Subscription;
use types::{Call, Chat, ChatMember, FeedEvent, Message, Notification, Report, User};

pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The schema, without what its resolvers need.
fn builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query, Mutation::default(), Subscription)
        .register_output_type::<FeedEvent>()
        .override_output_type_description::<connection::Connection<Chat>>("A page of chats.")
        .override_output_type_description::<connection::Connection<ChatMember>>("A page of members of a chat.")
        .override_output_type_description::<connection::Connection<Message, types::MessageTotals>>(
            "A page of messages, in the order of the chat.",
        )
        .override_output_type_description::<connection::Connection<User>>("A page of people.")
        .override_output_type_description::<connection::Connection<Notification>>("A page of notifications.")
        .override_output_type_description::<connection::Connection<Report>>("A page of reports.")
        .override_output_type_description::<connection::Connection<Call>>("A page of calls.")
        // The guard bounds a document before it is parsed; this is async-graphql's own net.
        .limit_recursive_depth(64)
        // They compare names of any length with all that there are.
        .disable_suggestions()
}

/// The schema definition, as `schema.graphql` holds it.
pub fn sdl() -> String {
    builder().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}
