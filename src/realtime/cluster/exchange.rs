//! The messages of this node and of the others, without their transport.
//!
//! Each envelope has the number that its node gave it on its channel. A number that came before is dropped, so that
//! nobody can repeat a message; so is an envelope older than a minute, which may be from before this node started. A
//! number that is missing means that messages were lost: this node then compares with the database, and asks for
//! presence if they were on the common channel. It compares too if it can't read what another node sent.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::domain::clock::Clock;
use crate::metrics::{KindLabel, METRICS};
use crate::rate_limited_log::RateLimitedLog;
use crate::realtime::cluster::channels::{Channel, Channels};
use crate::realtime::cluster::codec;
use crate::realtime::cluster::codec::{ClusterEnvelope, DecodeError, DecodedEnvelope, EnvelopeHeader};
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::interest::ChannelInterest;
use crate::realtime::cluster::message::{ChannelTail, ClusterMessage};
use crate::realtime::cluster::outbox::OutboxReceiver;
use crate::realtime::cluster::received::{ReceivedNumbers, SentEnvelope};
use crate::realtime::cluster::routing::by_channel;
use crate::realtime::cluster::sent::SentNumbers;
use crate::realtime::cluster::shared_state::{SharedState, record_clock_difference};

/// The interval in which a node publishes a heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// The time without any message after which a node counts as lost.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
/// The time without a heartbeat of its own after which a node joins again. It is shorter than [`NODE_TIMEOUT`], because
/// other nodes may have counted this one as lost while its process was stopped.
const REJOIN_AFTER: Duration = Duration::from_secs(10);
/// The time without any message of a node after which it may have sent messages that did not arrive.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(3);
/// The age of an envelope beyond which it is dropped.
const MAX_ENVELOPE_AGE: TimeDelta = TimeDelta::seconds(60);
/// The age of an envelope beyond which users are read from the database. They may have changed their names since then.
const SENDERS_MAX_AGE: TimeDelta = TimeDelta::seconds(1);
/// The interval of comparisons with the database while a node sends changes that this one can't read.
const UNREADABLE_CHANGE_INTERVAL: Duration = Duration::from_secs(2);
/// The interval of these comparisons while such messages arrive on the common channel only. They may be heartbeats.
const UNREADABLE_COMMON_INTERVAL: Duration = Duration::from_secs(10);
/// The interval in which a node publishes a summary of the presence on it.
const DIGEST_INTERVAL: Duration = Duration::from_secs(15);

/// The state of the exchange with the other nodes, which outlives the connections to Redis.
pub struct Exchange {
    node: String,
    interest: Arc<ChannelInterest>,
    clock: Clock,
    shared_state: Arc<SharedState>,
    handler: ClusterMessageHandler,
    /// The messages to publish when the batch under way has been published.
    pub batch: Vec<ClusterMessage>,
    sent: SentNumbers,
    received: ReceivedNumbers,
    /// The other nodes that have published something over the present connection.
    peers: HashMap<String, Peer>,
    connected_at: Instant,
    last_heartbeat: Instant,
    last_digest: Instant,
    /// True if the batch under way informs the other nodes of the shutdown.
    is_leaving: bool,
    /// True while the log says that the clock of another node differs from that of this one.
    is_clock_difference_logged: AtomicBool,
    rejection_log: RateLimitedLog,
    unreadable_log: RateLimitedLog,
    unreadable: Unreadable,
}

/// Messages of other nodes that this one could not read.
#[derive(Default)]
struct Unreadable {
    /// The interval of comparisons, if messages have arrived since the last one.
    pending: Option<Duration>,
    last_comparison: Option<Instant>,
}

/// Another node.
struct Peer {
    last_message: Instant,
    /// The time by which the system's clock of this node is ahead of the other one's.
    clock_difference: TimeDelta,
}

impl Exchange {
    /// Creates the exchange of a node.
    pub fn new(
        interest: Arc<ChannelInterest>,
        clock: Clock,
        shared_state: Arc<SharedState>,
        handler: ClusterMessageHandler,
    ) -> Self {
        let now = Instant::now();
        // Feeds that are opened from now on read the database themselves; events before that are not needed.
        handler.hub.set_complete_until(clock.now());
        Self {
            node: handler.node.clone(),
            interest,
            clock,
            shared_state,
            handler,
            batch: Vec::new(),
            sent: SentNumbers::default(),
            received: ReceivedNumbers::default(),
            peers: HashMap::new(),
            connected_at: now,
            last_heartbeat: now,
            last_digest: now,
            is_leaving: false,
            is_clock_difference_logged: AtomicBool::new(false),
            rejection_log: RateLimitedLog::default(),
            unreadable_log: RateLimitedLog::default(),
            unreadable: Unreadable::default(),
        }
    }

    fn channels(&self) -> &Channels {
        self.interest.channels()
    }

    /// Prepares for envelopes of these channels, which arrive as soon as their subscription is requested.
    pub fn on_subscribing(&mut self, channels: &[Channel]) {
        let now = self.clock.now();
        channels.iter().for_each(|channel| self.received.subscribe(*channel, now));
    }

    /// Handles the confirmation of subscriptions.
    ///
    /// A feed that has read the database before may have missed events, so the node compares again.
    pub fn on_subscribed(&mut self, channels: &[Channel]) {
        self.on_subscribing(channels);
        if self.interest.on_subscribed(channels) {
            self.handler.schedule_resync();
        }
        self.record_channels();
    }

    /// Forgets all channels but these, to which a new connection is going to be subscribed.
    pub fn retain_channels(&mut self, channels: &[Channel]) {
        let kept: HashSet<&Channel> = channels.iter().collect();
        let removed: Vec<Channel> = self.received.channels().filter(|channel| !kept.contains(channel)).collect();
        self.on_unsubscribing(&removed);
    }

    /// Forgets channels to which this node is no longer subscribed.
    pub fn on_unsubscribing(&mut self, channels: &[Channel]) {
        channels.iter().for_each(|channel| self.received.unsubscribe(*channel));
        self.record_channels();
    }

    fn record_channels(&self) {
        for kind in ["chats", "users"] {
            let count = self.received.channels().filter(|channel| channel.kind() == kind).count();
            METRICS.cluster_channels.get_or_create(&KindLabel { kind }).set(count as i64);
        }
    }

    /// Joins the other nodes over a new connection.
    ///
    /// The channels are subscribed already, so the comparison with the database finds what was published before, and
    /// the subscription receives what is published later.
    pub fn on_connected(&mut self, outbox: &OutboxReceiver) {
        let now = Instant::now();
        self.connected_at = now;
        self.last_heartbeat = now;
        self.peers.clear();
        self.batch.clear();
        self.batch.push(ClusterMessage::NodeJoined);
        self.request_resync_after_drops(outbox);
        self.handler.on_connected();
    }

    /// Asks the other nodes to resync if messages to them were lost.
    fn request_resync_after_drops(&mut self, outbox: &OutboxReceiver) {
        if outbox.take_dropped() {
            self.batch.push(ClusterMessage::ResyncRequired);
            self.handler.announce_presence();
        }
    }

    /// Empties the batch and returns it encoded: the name of each channel with its payload.
    ///
    /// # Errors
    ///
    /// Returns an error when a message can't be encoded.
    pub fn encode_batch(&mut self) -> Result<Vec<(String, Vec<u8>)>, rmp_serde::encode::Error> {
        count_messages("sent", self.batch.len());
        self.is_leaving |= self.batch.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving));
        let (key, sent_at) = (self.shared_state.key(), self.clock.now());
        let mut payloads = Vec::new();
        let channels = self.interest.channels();
        for (channel, messages) in by_channel(channels, self.batch.drain(..)) {
            let (number, previous_sent_at) = self.sent.next(channel, sent_at);
            let header = EnvelopeHeader { node: self.node.clone(), number, sent_at, previous_sent_at };
            let channel = channels.name(channel);
            let payload = codec::encode(&key, &channel, &ClusterEnvelope { header, messages })?;
            payloads.push((channel, payload));
        }
        Ok(payloads)
    }

    /// Handles the end of the publication of a batch.
    pub fn on_published(&self, outbox: &OutboxReceiver) {
        if self.is_leaving {
            outbox.confirm_shutdown();
        }
    }

    /// Publishes that this node is alive, and looks for lost nodes and messages.
    ///
    /// It removes nodes that have published nothing for too long, and looks for messages that did not arrive.
    pub fn on_heartbeat(&mut self, outbox: &OutboxReceiver) {
        self.batch.push(ClusterMessage::Heartbeat {
            system_time: self.clock.system_time(),
            channels: self.channels().count(),
            tails: self.sent.take_tails(),
        });
        if self.last_heartbeat.elapsed() > REJOIN_AFTER {
            self.batch.push(ClusterMessage::NodeJoined);
            self.handler.on_connected();
        }
        self.last_heartbeat = Instant::now();
        if self.last_digest.elapsed() > DIGEST_INTERVAL {
            self.last_digest = Instant::now();
            self.handler.presence.publish_digest();
        }
        self.request_resync_after_drops(outbox);
        self.remove_lost_peers();
        self.find_lost_messages();
        self.compare_after_unreadable();
        self.record_clock_differences();
    }

    fn remove_lost_peers(&mut self) {
        self.peers.retain(|node, peer| {
            let is_alive = peer.last_message.elapsed() < NODE_TIMEOUT;
            if !is_alive {
                self.handler.on_node_lost(node);
            }
            is_alive
        });
        // By now each living node has published a heartbeat on this connection. Nodes that went while this one had no
        // connection are not among `peers`.
        if self.connected_at.elapsed() > NODE_TIMEOUT {
            self.handler.retain_nodes(&self.peers.keys().map(String::as_str).collect::<HashSet<_>>());
        }
    }

    /// Replaces messages that were lost, and records up to when none is missing.
    fn find_lost_messages(&mut self) {
        for (node, is_common) in self.received.take_lost(Instant::now()) {
            tracing::debug!(node, is_common, "messages of another node were lost; comparing with the database");
            self.handler.on_messages_lost(&node, is_common);
        }
        let is_complete = self.unreadable.pending.is_none()
            && !self.interest.has_late_channels()
            && self
                .peers
                .iter()
                .all(|(node, peer)| peer.last_message.elapsed() < SILENCE_TIMEOUT && self.received.is_complete(node));
        if is_complete && self.connected_at.elapsed() > SILENCE_TIMEOUT && !self.handler.is_resync_pending() {
            let span = TimeDelta::from_std(SILENCE_TIMEOUT).unwrap_or_default();
            self.handler.hub.set_complete_until(self.clock.now() - span);
        }
    }

    fn record_clock_differences(&self) {
        let differences = self.peers.values().map(|peer| peer.clock_difference);
        let largest = differences.max_by_key(TimeDelta::abs).unwrap_or_default();
        record_clock_difference("nodes", largest, &self.is_clock_difference_logged);
    }

    /// Handles the payload of a channel.
    pub fn on_payload(&mut self, channel_name: &[u8], payload: &[u8], outbox: &OutboxReceiver) {
        let name = str::from_utf8(channel_name).unwrap_or_default();
        let Some(channel) = self.channels().parse(name) else { return };
        match codec::decode(&self.shared_state.key(), name, payload) {
            // Redis delivers a node's own messages too.
            Ok(DecodedEnvelope { envelope, .. }) if envelope.header.node == self.node => outbox.note_echo(),
            Ok(DecodedEnvelope { envelope, unknown_messages }) => {
                if self.on_envelope(channel, envelope) && unknown_messages > 0 {
                    self.on_unreadable(channel, unknown_messages);
                }
            }
            Err(DecodeError::Unauthenticated) => self.on_rejected(),
            Err(DecodeError::UnknownVersion(_) | DecodeError::Malformed) => self.on_unreadable(channel, 1),
        }
    }

    /// Handles an envelope, and returns false if it was dropped.
    fn on_envelope(&mut self, channel: Channel, envelope: ClusterEnvelope) -> bool {
        let ClusterEnvelope { header, messages } = envelope;
        if !self.is_new(channel, &header) {
            count_messages("stale", messages.len());
            return false;
        }
        let EnvelopeHeader { node, sent_at, .. } = header;
        if messages.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving)) {
            self.peers.remove(&node);
        } else {
            let peer = self.peers.entry(node.clone()).or_insert_with(Peer::new);
            peer.last_message = Instant::now();
        }
        count_messages("received", messages.len());
        let kind = channel.kind();
        METRICS.cluster_channel_messages.get_or_create(&KindLabel { kind }).inc_by(messages.len() as u64);
        let is_late = self.clock.now() - sent_at > SENDERS_MAX_AGE;
        let mut unwanted = 0;
        for mut message in messages {
            if let ClusterMessage::Chat(event) = &mut message
                && is_late
            {
                event.senders.clear();
            }
            if let ClusterMessage::Heartbeat { system_time, channels, tails } = &message {
                self.on_heartbeat_of(&node, *system_time, *channels, tails);
            }
            unwanted += usize::from(!self.handler.handle(&node, message));
        }
        count_messages("unwanted", unwanted);
        true
    }

    fn on_heartbeat_of(&mut self, node: &str, system_time: DateTime<Utc>, channels: u32, tails: &[ChannelTail]) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.clock_difference = self.clock.system_time() - system_time;
        }
        if channels != self.channels().count() {
            // Its channels are others than those of this node, which receives nothing about chats from it.
            let own = self.channels().count();
            if self.unreadable_log.occurrences_to_log().is_some() {
                tracing::warn!(
                    node,
                    channels,
                    own,
                    "another node has another number of channels; reading the database"
                );
            }
            self.compare_within(UNREADABLE_CHANGE_INTERVAL);
            return;
        }
        let now = Instant::now();
        for ChannelTail { channel, number, sent_at_micros } in tails {
            let sent_at = DateTime::from_timestamp_micros(*sent_at_micros).unwrap_or_default();
            let envelope = SentEnvelope { channel: Channel::from_code(*channel), number: *number, sent_at };
            self.received.expect(node, envelope, now);
        }
    }

    /// Returns true if an envelope was not received before and is not old.
    fn is_new(&mut self, channel: Channel, header: &EnvelopeHeader) -> bool {
        let EnvelopeHeader { node, number, sent_at, previous_sent_at } = header;
        if (self.clock.now() - *sent_at).abs() > MAX_ENVELOPE_AGE {
            return false;
        }
        let is_unknown = !self.received.knows_node(node);
        let envelope = SentEnvelope { channel, number: *number, sent_at: *sent_at };
        let is_new = self.received.accept(node, envelope, *previous_sent_at, Instant::now());
        if is_new && is_unknown && *number > 1 {
            // The node has sent messages that this one did not receive, perhaps after it compared with the database.
            self.handler.on_messages_lost(node, true);
        }
        is_new
    }

    /// Counts messages that this node can't read, because another release has sent them.
    fn on_unreadable(&mut self, channel: Channel, messages: usize) {
        count_messages("unreadable", messages);
        if let Some(messages) = self.unreadable_log.occurrences_to_log() {
            tracing::warn!(messages, "dropped messages of nodes of another release; reading the database instead");
        }
        let interval = match channel {
            Channel::Common => UNREADABLE_COMMON_INTERVAL,
            Channel::Chats(_) | Channel::Users(_) => UNREADABLE_CHANGE_INTERVAL,
        };
        self.compare_within(interval);
    }

    /// Compares with the database within an interval after the last such comparison.
    fn compare_within(&mut self, interval: Duration) {
        self.unreadable.pending = Some(self.unreadable.pending.map_or(interval, |pending| pending.min(interval)));
        self.compare_after_unreadable();
    }

    fn compare_after_unreadable(&mut self) {
        let last_comparison = self.unreadable.last_comparison;
        let is_due = |interval: &mut Duration| last_comparison.is_none_or(|last| last.elapsed() >= *interval);
        if self.unreadable.pending.take_if(is_due).is_some() {
            self.unreadable.last_comparison = Some(Instant::now());
            self.handler.schedule_resync();
        }
    }

    /// Drops a payload that was not made with the key of this installation.
    fn on_rejected(&mut self) {
        count_messages("rejected", 1);
        // Perhaps an operator renewed the key.
        self.shared_state.request_refresh();
        if let Some(messages) = self.rejection_log.occurrences_to_log() {
            tracing::warn!(messages, "dropped messages in Redis that no node of this installation sent");
        }
    }
}

impl Peer {
    fn new() -> Self {
        Self { last_message: Instant::now(), clock_difference: TimeDelta::zero() }
    }
}

fn count_messages(kind: &'static str, count: usize) {
    METRICS.cluster_messages.get_or_create(&KindLabel { kind }).inc_by(count as u64);
}
