//! What happens now: the bus, who listens, the feeds that listeners read, who is there and who types.

mod aside;
pub mod attendance;
pub mod bus;
pub mod call_feed;
pub mod feed;
pub mod hub;
pub mod inbox;
pub mod inbox_feed;
pub mod log;
pub mod memo;
pub mod mender;
pub mod peers;
pub mod presence;
pub mod receipts;
pub mod redis;
pub mod sessions;
mod stock;
pub mod typing;

pub use aside::aside;
pub use attendance::Attendance;
pub use bus::Bus;
pub use call_feed::{CallEvent, CallFeed, CallNews};
pub use feed::{ChatFeed, FeedEvent, ResetReason, Start};
pub use hub::Hub;
pub use inbox::Inbox;
pub use inbox_feed::{InboxEvent, InboxFeed, InboxNews};
pub use mender::Mender;
pub use peers::Peers;
pub use presence::{Presence, PresenceFeed, PresenceNow};
pub use receipts::Receipts;
pub use sessions::{Session, Sessions};
pub use typing::{Typing, TypingFeed, TypingNow};
