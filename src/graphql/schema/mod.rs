//! The GraphQL schema: types, fields, scalars, and the loaders that resolvers share.
//!
//! A resolver converts its arguments, makes one service call, and wraps the result. Rules belong to the domain layer,
//! and authorisation to the service layer.

pub mod connection;
pub mod context;
pub mod costs;
pub mod loaders;
pub mod mutation;
pub mod query;
pub mod scalars;
pub mod subscription;
pub mod types;

use async_graphql::SDLExportOptions;

use crate::graphql::schema::connection::Connection;
use crate::graphql::schema::mutation::Mutation;
use crate::graphql::schema::query::Query;
use crate::graphql::schema::subscription::Subscription;
use crate::graphql::schema::types::ban::ChatBan;
use crate::graphql::schema::types::feed::FeedEvent;
use crate::graphql::schema::types::message::{MessageRevision, MessageTotals};
use crate::graphql::schema::types::notification::Notification;
use crate::graphql::schema::types::objects::{Call, Chat, ChatMember, Message, User};
use crate::graphql::schema::types::report::Report;

/// The schema with its three root types.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// Returns a builder of the schema, without the data that resolvers need.
pub fn schema_builder() -> async_graphql::SchemaBuilder<Query, Mutation, Subscription> {
    async_graphql::Schema::build(Query, Mutation::default(), Subscription)
        .register_output_type::<FeedEvent>()
        .override_output_type_description::<Connection<Chat>>("A page of chats.")
        .override_output_type_description::<Connection<ChatMember>>("A page of a chat's members.")
        .override_output_type_description::<Connection<Message, MessageTotals>>("A page of messages.")
        .override_output_type_description::<Connection<MessageRevision>>("A page of the previous texts of a message.")
        .override_output_type_description::<Connection<ChatBan>>("A page of bans from a chat.")
        .override_output_type_description::<Connection<User>>("A page of users.")
        .override_output_type_description::<Connection<Notification>>("A page of notifications.")
        .override_output_type_description::<Connection<Report>>("A page of reports.")
        .override_output_type_description::<Connection<Call>>("A page of calls.")
        // Admission limits a document before it is parsed. This limit of async-graphql's parser is a second barrier.
        .limit_recursive_depth(64)
        // A suggestion compares a name of any length with all names of the schema.
        .disable_suggestions()
}

/// Returns the schema definition, which `schema.graphql` contains.
pub fn sdl() -> String {
    schema_builder().finish().sdl_with_options(SDLExportOptions::new().include_specified_by())
}
