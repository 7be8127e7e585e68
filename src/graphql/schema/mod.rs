//! The API: the only layer that knows async-graphql. It parses, makes one service call, and wraps.

pub mod connection;
pub mod context;
pub mod loaders;
pub mod mutation;
pub mod query;
pub mod scalars;
pub mod subscription;
pub mod types;

use async_graphql::SDLExportOptions;

use crate::graphql::schema::mutation::Mutation;
use crate::graphql::schema::query::Query;
use crate::graphql::schema::subscription::Subscription;
use crate::graphql::schema::types::call::Call;
use crate::graphql::schema::types::chat::Chat;
use crate::graphql::schema::types::feed::FeedEvent;
use crate::graphql::schema::types::member::ChatMember;
use crate::graphql::schema::types::message::Message;
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::report::Report;
use crate::graphql::schema::types::user::User;

pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// The schema, without what its resolvers need.
pub fn schema_builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query, Mutation::default(), Subscription)
        .register_output_type::<FeedEvent>()
        .override_output_type_description::<connection::Connection<Chat>>("A page of chats.")
        .override_output_type_description::<connection::Connection<ChatMember>>("A page of members of a chat.")
        .override_output_type_description::<connection::Connection<Message, types::message::MessageTotals>>(
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
    schema_builder().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}
