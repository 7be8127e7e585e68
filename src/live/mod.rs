//! What happens now: the bus, who listens, the feeds that listeners read, who is there and who types.

pub mod bus;
pub mod feed;
pub mod hub;
pub mod inbox;
pub mod log;
pub mod memo;
pub mod presence;
pub mod receipts;
pub mod typing;

pub use bus::Bus;
pub use feed::{ChatFeed, FeedEvent, ResetReason, Start};
pub use hub::Hub;
pub use inbox::Inbox;
pub use presence::{Presence, PresenceFeed, PresenceNow};
pub use receipts::Receipts;
pub use typing::{Typing, TypingFeed, TypingNow};
