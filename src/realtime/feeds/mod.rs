//!

pub mod call;
pub mod change_log;
pub mod chat;
pub mod inbox;
pub mod member_chats;
pub mod new_messages;
pub mod presence;
pub mod typing;
