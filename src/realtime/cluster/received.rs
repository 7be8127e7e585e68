//! The numbers of the envelopes that this node received from the others, counted for each channel.
//!
//! A node that subscribes to a channel late sees numbers from the middle of a sequence. Each envelope has the time of
//! the one before it on its channel, and heartbeats have the time of the last one. One that was sent after the
//! subscription should have arrived; an earlier one could not.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::realtime::cluster::channels::Channel;
use crate::realtime::cluster::sequence::ReceivedSequence;

/// The time for which the numbers of a node are remembered after its last message. It is longer than an envelope is
/// valid.
const RETENTION: Duration = Duration::from_secs(150);
/// The time by which the clocks of two nodes differ at most. An envelope from less than this time after a subscription
/// may have been sent before.
const CLOCK_MARGIN: TimeDelta = TimeDelta::milliseconds(500);

/// The numbers received from each node on each channel to which this node is subscribed.
#[derive(Debug, Default)]
pub struct ReceivedNumbers {
    /// The channels, each with the time of the subscription.
    subscribed_at: HashMap<Channel, DateTime<Utc>>,
    nodes: HashMap<String, NodeNumbers>,
}

#[derive(Debug)]
struct NodeNumbers {
    last_message: Instant,
    channels: HashMap<Channel, ReceivedSequence>,
}

/// An envelope that a node has sent on a channel.
#[derive(Debug, Clone, Copy)]
pub struct SentEnvelope {
    pub channel: Channel,
    pub number: u64,
    pub sent_at: DateTime<Utc>,
}

impl ReceivedNumbers {
    /// Begins to count on a channel, of which envelopes arrive from now on.
    ///
    /// A second call says that the subscription began later. It has no effect on nodes that have sent something since.
    pub fn subscribe(&mut self, channel: Channel, now: DateTime<Utc>) {
        self.subscribed_at.insert(channel, now);
    }

    /// Stops counting on a channel.
    pub fn unsubscribe(&mut self, channel: Channel) {
        self.subscribed_at.remove(&channel);
        self.nodes.values_mut().for_each(|node| drop(node.channels.remove(&channel)));
    }

    /// Returns the channels on which envelopes are counted.
    pub fn channels(&self) -> impl Iterator<Item = Channel> {
        self.subscribed_at.keys().copied()
    }

    /// Adds the number of a received envelope, and returns false if the envelope must be dropped.
    ///
    /// `previous_sent_at` is the time of the envelope before it on the channel.
    pub fn accept(
        &mut self,
        node: &str,
        envelope: SentEnvelope,
        previous_sent_at: Option<DateTime<Utc>>,
        now: Instant,
    ) -> bool {
        let SentEnvelope { channel, number, sent_at } = envelope;
        let Some(subscribed_at) = self.subscribed_at.get(&channel) else { return false };
        // Redis delivers nothing from before the subscription: somebody has repeated the envelope.
        if sent_at + CLOCK_MARGIN < *subscribed_at && !self.knows(node, channel) {
            return false;
        }
        if let Some(sent_at) = previous_sent_at {
            let before = SentEnvelope { channel, number: number.saturating_sub(1), sent_at };
            self.sequence(node, before, now).is_some_and(|sequence| sequence.accept(number, now))
        } else {
            // The first envelope of the node on this channel.
            let node = self.node(node, now);
            let sequence = node.channels.entry(channel).or_insert_with(|| ReceivedSequence::after(0));
            sequence.accept(number, now)
        }
    }

    /// Expects an envelope that a node has sent, if this node is subscribed to its channel.
    pub fn expect(&mut self, node: &str, envelope: SentEnvelope, now: Instant) {
        if let Some(sequence) = self.sequence(node, envelope, now) {
            sequence.expect(envelope.number, now);
        }
    }

    /// Returns true if something was received from a node lately.
    pub fn knows_node(&self, node: &str) -> bool {
        self.nodes.contains_key(node)
    }

    fn knows(&self, node: &str, channel: Channel) -> bool {
        self.nodes.get(node).is_some_and(|node| node.channels.contains_key(&channel))
    }

    fn node(&mut self, node: &str, now: Instant) -> &mut NodeNumbers {
        let begin = || NodeNumbers { last_message: now, channels: HashMap::new() };
        let numbers = self.nodes.entry(node.to_owned()).or_insert_with(begin);
        numbers.last_message = now;
        numbers
    }

    /// Returns the sequence of a node on a channel on which it has sent this envelope.
    ///
    /// A new sequence begins after the envelope, or before it if it was sent after the subscription.
    fn sequence(&mut self, node: &str, sent: SentEnvelope, now: Instant) -> Option<&mut ReceivedSequence> {
        let subscribed_at = *self.subscribed_at.get(&sent.channel)?;
        let is_expected = sent.sent_at > subscribed_at + CLOCK_MARGIN;
        let begin = || {
            let first = if is_expected { sent.number.saturating_sub(1) } else { sent.number };
            let mut sequence = ReceivedSequence::after(first);
            sequence.expect(sent.number, now);
            sequence
        };
        Some(self.node(node, now).channels.entry(sent.channel).or_insert_with(begin))
    }

    /// Returns the nodes whose envelopes were lost since the last call.
    ///
    /// Each comes with whether one of them was on the common channel.
    pub fn take_lost(&mut self, now: Instant) -> Vec<(String, bool)> {
        self.nodes.retain(|_, node| node.last_message.elapsed() < RETENTION);
        let mut lost = Vec::new();
        for (name, node) in &mut self.nodes {
            let mut lost_common = None;
            for (channel, sequence) in &mut node.channels {
                if sequence.take_lost(now) {
                    lost_common = Some(lost_common == Some(true) || *channel == Channel::Common);
                }
            }
            lost.extend(lost_common.map(|is_common| (name.clone(), is_common)));
        }
        lost
    }

    /// Returns true if every envelope of a node that is known to exist was received.
    pub fn is_complete(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| node.channels.values().all(ReceivedSequence::is_complete))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: Channel = Channel::Chats(5);

    fn seconds(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn sent(number: u64, at: i64) -> SentEnvelope {
        SentEnvelope { channel: CHANNEL, number, sent_at: seconds(at) }
    }

    /// Returns numbers of a node that subscribed to the channel ten seconds after the epoch.
    fn subscribed() -> ReceivedNumbers {
        let mut numbers = ReceivedNumbers::default();
        numbers.subscribe(CHANNEL, seconds(10));
        numbers
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3)
    }

    #[test]
    fn late_subscriber_misses_nothing_that_was_sent_before() {
        let (now, mut numbers) = (Instant::now(), subscribed());
        assert!(numbers.accept("a", sent(700, 12), Some(seconds(8)), now));
        assert!(numbers.accept("a", sent(701, 13), Some(seconds(12)), now));
        numbers.expect("a", sent(701, 13), now);
        numbers.expect("b", sent(90, 9), now);
        assert!(numbers.accept("b", sent(91, 14), Some(seconds(9)), now));
        assert!(numbers.accept("c", sent(1, 14), None, now));
        assert!(numbers.take_lost(later()).is_empty());
        assert!(["a", "b", "c"].iter().all(|node| numbers.is_complete(node)));
    }

    #[test]
    fn late_subscriber_notices_what_was_lost_after_the_subscription() {
        // The envelope before the first one received.
        let (now, mut numbers) = (Instant::now(), subscribed());
        assert!(numbers.accept("a", sent(700, 14), Some(seconds(12)), now));
        assert!(!numbers.is_complete("a"));
        assert_eq!(numbers.take_lost(later()), [("a".to_owned(), false)]);
        assert!(numbers.is_complete("a"));
        // The only envelope.
        let mut numbers = subscribed();
        numbers.expect("a", sent(700, 12), now);
        assert_eq!(numbers.take_lost(later()), [("a".to_owned(), false)]);
        // The first envelope that the node ever sent on the channel.
        let mut numbers = subscribed();
        assert!(numbers.accept("a", sent(2, 14), Some(seconds(13)), now));
        assert_eq!(numbers.take_lost(later()), [("a".to_owned(), false)]);
        // An envelope in between.
        let mut numbers = subscribed();
        assert!(numbers.accept("a", sent(5, 12), Some(seconds(8)), now));
        assert!(numbers.accept("a", sent(7, 14), Some(seconds(13)), now));
        assert_eq!(numbers.take_lost(later()), [("a".to_owned(), false)]);
    }

    #[test]
    fn loss_on_the_common_channel_is_told_apart() {
        let (now, mut numbers) = (Instant::now(), subscribed());
        numbers.subscribe(Channel::Common, seconds(10));
        let common = |number| SentEnvelope { channel: Channel::Common, number, sent_at: seconds(12) };
        assert!(numbers.accept("a", common(1), None, now));
        assert!(numbers.accept("a", common(3), Some(seconds(12)), now));
        assert_eq!(numbers.take_lost(later()), [("a".to_owned(), true)]);
    }

    #[test]
    fn repeated_envelope_is_dropped_also_after_another_subscription() {
        let (now, mut numbers) = (Instant::now(), subscribed());
        assert!(numbers.accept("a", sent(5, 12), Some(seconds(8)), now));
        assert!(!numbers.accept("a", sent(5, 12), Some(seconds(8)), now));
        numbers.unsubscribe(CHANNEL);
        assert!(!numbers.accept("a", sent(6, 13), Some(seconds(12)), now), "nobody listens");
        numbers.subscribe(CHANNEL, seconds(20));
        assert!(!numbers.accept("a", sent(5, 12), Some(seconds(8)), now), "from before the subscription");
        assert!(numbers.accept("a", sent(7, 21), Some(seconds(13)), now));
        assert!(numbers.take_lost(later()).is_empty());
    }
}
