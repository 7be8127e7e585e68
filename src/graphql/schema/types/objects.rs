//! The object types that refer to each other.
//!
//! Types of a GraphQL schema are recursive: a chat has members, and a member has a chat. These types are declared here,
//! and the fields of each of them are implemented in its own file, so that no two files depend on each other.

use std::sync::Arc;

use crate::domain::{calls, chats, members, messages, users};
use crate::realtime::presence::snapshot::PresenceSnapshot;

/// The type `Call`.
pub struct Call(pub Arc<calls::Call>);

/// The type `Chat`.
pub struct Chat(pub chats::Chat);

/// The type `ChatMember`.
pub struct ChatMember(pub members::Member);

/// The type `Message`.
pub struct Message(pub Arc<messages::Message>);

/// The type `Presence`.
pub struct Presence(pub PresenceSnapshot);

/// The type `User`.
pub struct User(pub users::User);
