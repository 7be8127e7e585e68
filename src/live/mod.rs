//! What happens now: the bus, who listens, and the feeds that listeners read.

pub mod bus;
pub mod feed;
pub mod hub;
pub mod inbox;
pub mod log;
pub mod memo;
pub mod receipts;

pub use bus::Bus;
pub use feed::{ChatFeed, FeedEvent, ResetReason, Start};
pub use hub::Hub;
pub use inbox::Inbox;
pub use receipts::Receipts;
