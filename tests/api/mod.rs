//! The behaviour of the GraphQL schema, area by area.

mod adversarial_values;
mod archive;
mod call_rules;
mod calls;
mod capabilities;
mod chats;
mod cross_org_isolation;
mod feeds;
mod forwards;
mod inbox;
mod limits;
mod member_silencing;
mod members;
mod mentions;
mod message_content;
mod messages;
mod moderation;
mod notifications;
mod pins;
mod polls;
mod presence;
mod receipts;
mod resource_chats;
mod roles;
mod schema;
mod search;
mod system_messages;
mod threads;
mod typing;
mod unread;

use std::time::Duration;

use testkit::TIMEOUT;
use tokio::time::{Instant, sleep};

/// The interval in which [`wait_until`] checks its condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until a condition holds that a background task of the server brings about.
///
/// `description` completes the failure message "timed out before …".
async fn wait_until(description: &str, condition: impl AsyncFn() -> bool) {
    let started_at = Instant::now();
    while !condition().await {
        assert!(started_at.elapsed() < TIMEOUT, "timed out before {description}");
        sleep(CHECK_INTERVAL).await;
    }
}
