//! The handle of one subscription, which leaves the hub when it is dropped.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::domain::ids::{CallId, ChatId, OrganizationId, UserId};
use crate::domain::users::UserKey;
use crate::realtime::cluster::channels::Channel;
use crate::realtime::dispatch::fast_path::FastPath;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::dispatch::ports::{FeedPosition, FrameSink, RenderGroup};
use crate::realtime::dispatch::queue::{Delivery, DeliveryQueue};

/// A subscriber of the hub: what it follows, and the queue of its events.
#[derive(Debug)]
pub struct Subscriber {
    hub: Arc<Hub>,
    id: u64,
    queue: Arc<DeliveryQueue>,
    chats: HashSet<ChatId>,
    user_key: Option<UserKey>,
    deletion_chat: Option<ChatId>,
    call: Option<CallId>,
    /// The channels of other nodes' events for which this subscriber has not waited yet.
    awaited_channels: Vec<Channel>,
    /// The group of subscribers of its chats with which it shares renderings.
    render_group_id: Option<u64>,
}

impl Subscriber {
    /// Creates a subscriber owned by `user`, which follows nothing yet.
    pub fn new(hub: Arc<Hub>, user: &UserId) -> Self {
        Self {
            id: hub.next_subscriber_id(),
            hub,
            queue: Arc::new(DeliveryQueue::new(user)),
            chats: HashSet::new(),
            user_key: None,
            deletion_chat: None,
            call: None,
            awaited_channels: Vec::new(),
            render_group_id: None,
        }
    }

    /// Follows a chat from now on, and returns `false` if it did already.
    pub fn subscribe_chat(&mut self, chat: ChatId) -> bool {
        let is_new = self.chats.insert(chat);
        if is_new {
            self.awaited_channels.extend(self.hub.subscribe_chat(chat, self.id, &self.queue));
        }
        is_new
    }

    /// Waits until the events of other nodes arrive about all that it follows.
    ///
    /// A feed waits before it reads the database, so that no event between the read and the subscription is lost.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a later call waits for the same.
    pub async fn wait_until_active(&mut self) {
        if !self.awaited_channels.is_empty() {
            self.hub.wait_until_active(&self.awaited_channels).await;
            self.awaited_channels.clear();
        }
    }

    /// Stops following a chat.
    pub fn unsubscribe_chat(&mut self, chat: ChatId) {
        if self.chats.remove(&chat) {
            self.hub.unsubscribe_chat(chat, self.id, self.render_group_id);
        }
    }

    /// Shares the renderings of its chats' events with all subscribers of the group.
    ///
    /// Applies to the chats that it follows already, and only once.
    pub fn join_render_group(&mut self, group: &Arc<dyn RenderGroup>) {
        if self.render_group_id.replace(group.id()).is_none() {
            self.hub.join_render_group(&self.chats, group);
        }
    }

    /// Declares that the subscriber, which started just now, knows a chat up to `version`.
    ///
    /// The next event that it needs is the one after that version.
    pub fn mark_caught_up(&self, chat: ChatId, version: i64) {
        self.hub.mark_caught_up(chat, version);
    }

    /// Follows a user: the chats that they join or leave, their notifications and their calls.
    pub fn subscribe_user(&mut self, organization: &OrganizationId, user: &UserId) {
        let user_key = (organization.clone(), user.clone());
        self.awaited_channels.extend(self.hub.subscribe_user(user_key.clone(), self.id, &self.queue));
        self.user_key = Some(user_key);
    }

    /// Follows whether a chat is deleted, and nothing else in that chat.
    pub fn subscribe_chat_deletion(&mut self, chat: ChatId) {
        self.awaited_channels.extend(self.hub.subscribe_chat_deletion(chat, self.id, &self.queue));
        self.deletion_chat = Some(chat);
    }

    /// Follows a call.
    pub fn subscribe_call(&mut self, call: CallId) {
        self.awaited_channels.extend(self.hub.subscribe_call(call, self.id, &self.queue));
        self.call = Some(call);
    }

    /// Waits for the next delivery.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a delivery is taken from the queue only when it is returned.
    pub async fn recv(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next delivery, without the cost of a future for each event.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        self.queue.poll_recv(cx)
    }

    /// Takes the next delivery if one waits already.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        self.queue.pop()
    }

    /// Lets events of its render group be written to `sink`, until [`Self::disable_fast_path`] is called.
    ///
    /// The caller must be caught up at `position` in its only chat, must have delivered everything that it took from
    /// here, and must have been polled since it was last woken. The call does nothing without a render group, or if
    /// events wait already.
    pub fn enable_fast_path(&self, position: FeedPosition, sink: &Arc<dyn FrameSink>) {
        if let Some(render_group_id) = self.render_group_id {
            self.queue.enable_fast_path(FastPath { render_group_id, position, sink: sink.clone() });
        }
    }

    /// Ends the fast path and returns the position that it reached; `None` if it was not enabled.
    pub fn disable_fast_path(&self) -> Option<FeedPosition> {
        self.queue.disable_fast_path()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.queue.disable_fast_path();
        for chat in &self.chats {
            self.hub.unsubscribe_chat(*chat, self.id, self.render_group_id);
        }
        if let Some(user_key) = &self.user_key {
            self.hub.unsubscribe_user(user_key, self.id);
        }
        if let Some(chat) = self.deletion_chat {
            self.hub.unsubscribe_chat_deletion(chat, self.id);
        }
        if let Some(call) = self.call {
            self.hub.unsubscribe_call(call, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt;

    use super::*;
    use crate::domain::buckets::Bucket;
    use crate::realtime::cluster::channels::Channels;
    use crate::realtime::cluster::interest::ChannelInterest;

    #[tokio::test]
    async fn subscriber_follows_the_channels_of_its_chats_its_call_and_its_user_until_it_is_dropped() {
        let channels = Channels::new("parlor".into(), 65_536);
        let interest = Arc::new(ChannelInterest::new(channels.clone()));
        let hub = Arc::new(Hub::new(Some(interest.clone())));
        assert_eq!(interest.on_connected(), []);
        let [chat, left, deletable, calling] = [7; 4].map(|bucket| ChatId::new(Bucket::new(bucket).unwrap()));
        let (organization, user) = ("demo".parse().unwrap(), "bob".parse().unwrap());
        let mut subscriber = Subscriber::new(hub, &user);
        subscriber.subscribe_chat(chat);
        subscriber.subscribe_chat(left);
        subscriber.subscribe_chat_deletion(deletable);
        subscriber.subscribe_call(CallId::new(calling));
        subscriber.subscribe_user(&organization, &user);
        subscriber.unsubscribe_chat(left);
        let followed: BTreeSet<Channel> = [chat, deletable, calling]
            .map(|chat| channels.of_chat(chat))
            .into_iter()
            .chain([channels.of_user(&organization, &user)])
            .collect();
        let requested = interest.take_requested();
        assert!(followed.iter().all(|channel| requested.contains(channel)));
        assert!(subscriber.wait_until_active().now_or_never().is_none(), "no channel is active yet");
        interest.on_subscribed(&requested);
        assert!(subscriber.wait_until_active().now_or_never().is_some());
        let listened = || interest.on_connected().into_iter().collect::<BTreeSet<_>>();
        assert_eq!(listened(), followed);
        drop(subscriber);
        assert_eq!(listened(), BTreeSet::new());
    }
}
