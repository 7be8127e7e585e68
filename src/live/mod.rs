//! What happens now: the bus, who listens, and the feeds that listeners read.

mod aside;
pub mod bus;
pub mod feed;
pub mod hub;
pub mod inbox;
pub mod log;
pub mod memo;
pub mod mender;
pub mod receipts;
pub mod sessions;

pub use aside::aside;
pub use bus::Bus;
pub use feed::{ChatFeed, FeedEvent, ResetReason, Start};
pub use hub::Hub;
pub use inbox::Inbox;
pub use mender::Mender;
pub use receipts::Receipts;
pub use sessions::{Session, Sessions};
