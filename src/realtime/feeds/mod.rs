//! Feeds: what one subscriber reads of a chat, a call, an inbox, typing or presence.
//!
//! A feed joins the live events of its [`Subscriber`](super::dispatch::subscriber::Subscriber) with reads of the
//! database. It holds a position instead of a queue of its own: it drops events at or before the position, and reads
//! the database when an event reveals a gap or its queue overflowed. Services open feeds after they checked access; a
//! feed checks it again by [`MemberAccess`](crate::access::MemberAccess) at each read, and ends when it is lost.

pub mod call;
pub mod catch_up;
pub mod change_log;
pub mod chat;
pub mod inbox;
pub mod member_chats;
pub mod new_messages;
pub mod presence;
pub mod typing;
