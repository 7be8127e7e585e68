//! The channels for which this node has listeners.
//!
//! Subscribers of the hub follow channels and unfollow them; the transport subscribes to what is followed. A feed waits
//! until its channels are active before it reads the database, so that no event between the read and the subscription
//! is lost. A channel without listeners stays subscribed for a while, because clients reconnect and change chats.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::domain::ids::{ChatId, OrganizationId, UserId};
use crate::realtime::cluster::channels::{Channel, Channels};

/// The time without listeners after which a channel is no longer subscribed.
const UNSUBSCRIBE_DELAY: Duration = Duration::from_secs(30);
/// The longest time that a feed waits for its channels. Afterwards it starts, and what it missed is read later.
const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(1);

/// The channels that have listeners on this node, and whether Redis has confirmed their subscriptions.
///
/// The lock is held for single operations on the map only, and is taken while a lock of the hub is held.
#[derive(Debug)]
pub struct ChannelInterest {
    channels: Channels,
    state: Mutex<InterestState>,
    /// Wakes the transport when there are channels to subscribe to.
    requested: Notify,
    /// Wakes the feeds that wait, after each change of a channel's or the connection's state.
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct InterestState {
    is_connected: bool,
    entries: HashMap<Channel, Entry>,
    /// The channels that the transport has to subscribe to.
    requested: Vec<Channel>,
}

#[derive(Debug, Default)]
struct Entry {
    listeners: usize,
    /// The time since when there are no listeners.
    idle_since: Option<Instant>,
    /// Redis has confirmed the subscription.
    is_active: bool,
    /// A listener reads the database without waiting for the subscription.
    is_late: bool,
}

impl ChannelInterest {
    /// Creates an interest in no channel.
    pub fn new(channels: Channels) -> Self {
        Self { channels, state: Mutex::default(), requested: Notify::new(), changes: watch::Sender::new(()) }
    }

    /// Returns the channels of the installation.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Counts a listener of a chat, and returns the channel.
    pub fn follow_chat(&self, chat: ChatId) -> Channel {
        self.follow(self.channels.of_chat(chat))
    }

    /// Counts a listener of a user, and returns the channel.
    pub fn follow_user(&self, organization: &OrganizationId, user: &UserId) -> Channel {
        self.follow(self.channels.of_user(organization, user))
    }

    /// Removes a listener of a chat.
    pub fn unfollow_chat(&self, chat: ChatId) {
        self.unfollow(self.channels.of_chat(chat));
    }

    /// Removes a listener of a user.
    pub fn unfollow_user(&self, organization: &OrganizationId, user: &UserId) {
        self.unfollow(self.channels.of_user(organization, user));
    }

    fn follow(&self, channel: Channel) -> Channel {
        let mut state = self.state.lock();
        let mut is_new = false;
        let entry = state.entries.entry(channel).or_insert_with(|| {
            is_new = true;
            Entry::default()
        });
        entry.listeners += 1;
        entry.idle_since = None;
        if is_new {
            state.requested.push(channel);
            drop(state);
            self.requested.notify_one();
        }
        channel
    }

    fn unfollow(&self, channel: Channel) {
        if let Some(entry) = self.state.lock().entries.get_mut(&channel) {
            entry.listeners = entry.listeners.saturating_sub(1);
            if entry.listeners == 0 {
                entry.idle_since = Some(Instant::now());
            }
        }
    }

    /// Waits until followed channels are active.
    ///
    /// The wait ends early without a connection or after `ACTIVATION_TIMEOUT`. Then the node compares with the
    /// database once the channels are active.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: it changes nothing that a later call needs.
    pub async fn wait_until_active(&self, channels: &[Channel]) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !self.is_ready(channels) {
                // An error is impossible, because `self` holds the sender.
                drop(changes.changed().await);
            }
        };
        if timeout(ACTIVATION_TIMEOUT, wait).await.is_err() {
            self.state.lock().mark_late(channels);
        }
    }

    /// Returns true if these channels are active, or can't become so without a connection.
    fn is_ready(&self, channels: &[Channel]) -> bool {
        let mut state = self.state.lock();
        let is_active = |channel: &Channel| state.entries.get(channel).is_none_or(|entry| entry.is_active);
        if channels.iter().all(is_active) {
            return true;
        }
        if !state.is_connected {
            state.mark_late(channels);
        }
        !state.is_connected
    }

    /// Returns true if a listener reads the database before its channel is active.
    pub fn has_late_channels(&self) -> bool {
        self.state.lock().entries.values().any(|entry| entry.is_late)
    }

    /// Waits until channels have been requested.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: a request stays until [`take_requested`](Self::take_requested).
    pub async fn wait_for_requests(&self) {
        self.requested.notified().await;
    }

    /// Wakes the transport if there are channels that have had no listeners for a while.
    pub fn request_change_if_idle(&self) {
        if self.state.lock().entries.values().any(|entry| entry.is_idle_for(UNSUBSCRIBE_DELAY)) {
            self.requested.notify_one();
        }
    }

    /// Returns the channels that have to be subscribed to.
    pub fn take_requested(&self) -> Vec<Channel> {
        std::mem::take(&mut self.state.lock().requested)
    }

    /// Removes the channels that have had no listeners for a while, and returns them.
    pub fn take_idle(&self) -> Vec<Channel> {
        self.take_idle_for(UNSUBSCRIBE_DELAY)
    }

    fn take_idle_for(&self, delay: Duration) -> Vec<Channel> {
        let idle = |_: &Channel, entry: &mut Entry| entry.is_idle_for(delay);
        self.state.lock().entries.extract_if(idle).map(|(channel, _)| channel).collect()
    }

    /// Begins a connection, which is subscribed to nothing, and returns the channels that have listeners.
    pub fn on_connected(&self) -> Vec<Channel> {
        let mut state = self.state.lock();
        state.is_connected = true;
        state.requested.clear();
        state.entries.retain(|_, entry| entry.listeners > 0);
        state.entries.keys().copied().collect()
    }

    /// Ends the connection: no channel is active any more, and no feed waits.
    pub fn on_disconnected(&self) {
        let mut state = self.state.lock();
        state.is_connected = false;
        state.entries.values_mut().for_each(|entry| entry.is_active = false);
        drop(state);
        self.changes.send_replace(());
    }

    /// Records that Redis confirmed subscriptions.
    ///
    /// Returns true if a listener has read the database before, and may have missed what was published in between.
    pub fn on_subscribed(&self, channels: &[Channel]) -> bool {
        let mut state = self.state.lock();
        let mut was_late = false;
        for channel in channels {
            if let Some(entry) = state.entries.get_mut(channel) {
                entry.is_active = true;
                was_late |= std::mem::take(&mut entry.is_late);
            }
        }
        drop(state);
        self.changes.send_replace(());
        was_late
    }
}

impl Entry {
    /// Returns true if the subscription can end.
    ///
    /// One that is not confirmed yet stays, so that its beginning and its end do not overtake each other.
    fn is_idle_for(&self, delay: Duration) -> bool {
        self.is_active && self.idle_since.is_some_and(|since| since.elapsed() >= delay)
    }
}

impl InterestState {
    fn mark_late(&mut self, channels: &[Channel]) {
        for channel in channels {
            if let Some(entry) = self.entries.get_mut(channel) {
                entry.is_late |= !entry.is_active;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    const ONE: Channel = Channel::Chats(1);
    const TWO: Channel = Channel::Chats(2);

    fn interest() -> Arc<ChannelInterest> {
        Arc::new(ChannelInterest::new(Channels::new("parlor".into(), 16)))
    }

    fn is_waiting(interest: &ChannelInterest, channels: &[Channel]) -> bool {
        interest.wait_until_active(channels).now_or_never().is_none()
    }

    #[tokio::test]
    async fn channel_is_requested_by_its_first_listener_and_removed_after_its_last() {
        let interest = interest();
        interest.on_connected();
        interest.follow(ONE);
        interest.follow(ONE);
        interest.wait_for_requests().await;
        assert_eq!(interest.take_requested(), [ONE]);
        assert!(!interest.on_subscribed(&[ONE]));
        let take_idle = || interest.take_idle_for(Duration::ZERO);
        interest.unfollow(ONE);
        assert!(take_idle().is_empty(), "a listener is left");
        interest.unfollow(ONE);
        assert!(interest.take_idle().is_empty(), "the last listener has just gone");
        interest.follow(ONE);
        assert!(interest.take_requested().is_empty(), "the channel is subscribed still");
        assert!(take_idle().is_empty());
        interest.unfollow(ONE);
        assert_eq!(take_idle(), [ONE]);
        interest.follow(ONE);
        assert_eq!(interest.take_requested(), [ONE], "another listener subscribes again");
    }

    #[tokio::test]
    async fn feed_waits_until_all_its_channels_are_active() {
        let interest = interest();
        interest.on_connected();
        interest.follow(ONE);
        interest.follow(TWO);
        let waiting = tokio::spawn({
            let interest = interest.clone();
            async move { interest.wait_until_active(&[ONE, TWO]).await }
        });
        tokio::task::yield_now().await;
        interest.on_subscribed(&[ONE]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(!interest.on_subscribed(&[TWO]), "nobody read before");
        waiting.await.unwrap();
        assert!(!is_waiting(&interest, &[ONE, TWO]));
        assert!(!interest.has_late_channels());
    }

    #[tokio::test]
    async fn feed_that_did_not_wait_is_read_again_once_its_channel_is_active() {
        let interest = interest();
        interest.follow(ONE);
        assert!(!is_waiting(&interest, &[ONE]), "there is no connection");
        assert!(interest.has_late_channels());
        assert_eq!(interest.on_connected(), [ONE]);
        assert!(interest.on_subscribed(&[ONE]), "a feed has started in between");
        // A slow Redis.
        interest.follow(TWO);
        interest.wait_until_active(&[TWO]).await;
        assert!(interest.on_subscribed(&[TWO]), "the feed has started before");
        assert!(!interest.on_subscribed(&[TWO]));
        // A broken connection.
        interest.on_disconnected();
        assert!(!is_waiting(&interest, &[ONE]));
        let mut channels = interest.on_connected();
        channels.sort();
        assert_eq!(channels, [ONE, TWO], "a new connection subscribes to everything again");
    }
}
