//! The messages of this node and of the others, without their transport.
//!
//! Each envelope has the number that its node gave it. A number that came before is dropped, so that nobody can repeat
//! a message; so is an envelope older than a minute, which may be from before this node started. A number that is
//! missing means that messages were lost: this node then compares with the database and asks for presence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::domain::clock::Clock;
use crate::metrics::{KindLabel, METRICS};
use crate::rate_limited_log::RateLimitedLog;
use crate::realtime::cluster::codec;
use crate::realtime::cluster::codec::{ClusterEnvelope, DecodeError, by_channel, channel_name};
use crate::realtime::cluster::handler::ClusterMessageHandler;
use crate::realtime::cluster::message::ClusterMessage;
use crate::realtime::cluster::outbox::OutboxReceiver;
use crate::realtime::cluster::sequence::ReceivedSequence;
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
/// The time for which the numbers of a node are remembered after its last message. It is longer than an envelope is
/// valid.
const SEQUENCE_RETENTION: Duration = Duration::from_secs(150);
/// The interval in which a node publishes a summary of the presence on it.
const DIGEST_INTERVAL: Duration = Duration::from_secs(15);

/// The state of the exchange with the other nodes, which outlives the connections to Redis.
pub struct Exchange {
    node: String,
    channel_prefix: String,
    clock: Clock,
    shared_state: Arc<SharedState>,
    handler: ClusterMessageHandler,
    /// The messages to publish when the batch under way has been published.
    pub batch: Vec<ClusterMessage>,
    last_number: u64,
    /// The numbers received from each node, with the time of its last message.
    sequences: HashMap<String, (ReceivedSequence, Instant)>,
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
        channel_prefix: String,
        clock: Clock,
        shared_state: Arc<SharedState>,
        handler: ClusterMessageHandler,
    ) -> Self {
        let now = Instant::now();
        // Feeds that are opened from now on read the database themselves; events before that are not needed.
        handler.hub.set_complete_until(clock.now());
        Self {
            node: handler.node.clone(),
            channel_prefix,
            clock,
            shared_state,
            handler,
            batch: Vec::new(),
            last_number: 0,
            sequences: HashMap::new(),
            peers: HashMap::new(),
            connected_at: now,
            last_heartbeat: now,
            last_digest: now,
            is_leaving: false,
            is_clock_difference_logged: AtomicBool::new(false),
            rejection_log: RateLimitedLog::default(),
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

    /// Empties the batch and returns it encoded: each channel with its payload.
    ///
    /// # Errors
    ///
    /// Returns an error when a message can't be represented as JSON.
    pub fn encode_batch(&mut self) -> Result<Vec<(String, Vec<u8>)>, serde_json::Error> {
        count_messages("sent", self.batch.len());
        self.is_leaving |= self.batch.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving));
        let (key, sent_at) = (self.shared_state.key(), self.clock.now());
        let mut payloads = Vec::new();
        for (channel, messages) in by_channel(self.batch.drain(..)) {
            self.last_number += 1;
            let envelope = ClusterEnvelope { node: self.node.clone(), number: self.last_number, sent_at, messages };
            let channel = channel_name(&self.channel_prefix, channel);
            let payload = codec::encode(&key, &channel, &envelope)?;
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
        self.batch.push(ClusterMessage::Heartbeat { system_time: self.clock.system_time() });
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
        let now = Instant::now();
        self.sequences.retain(|_, (_, last_message)| last_message.elapsed() < SEQUENCE_RETENTION);
        for (node, (sequence, _)) in &mut self.sequences {
            if sequence.take_lost(now) {
                tracing::debug!(node, "messages of another node were lost; comparing with the database");
                self.handler.on_messages_lost(node);
            }
        }
        let is_complete = self.peers.iter().all(|(node, peer)| {
            peer.last_message.elapsed() < SILENCE_TIMEOUT
                && self.sequences.get(node).is_some_and(|(sequence, _)| sequence.is_complete())
        });
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
    pub fn on_payload(&mut self, channel: &[u8], payload: &[u8], outbox: &OutboxReceiver) {
        match codec::decode(&self.shared_state.key(), channel, payload) {
            // Redis delivers a node's own messages too.
            Ok(envelope) if envelope.node == self.node => outbox.note_echo(),
            Ok(envelope) => self.on_envelope(envelope),
            Err(DecodeError::Unauthenticated) => self.on_rejected(),
            // The format version keeps other formats apart, so a later version of the server has sent the payload.
            Err(DecodeError::Malformed(error)) => {
                tracing::debug!(%error, "could not decode a message of another node; comparing with the database");
                self.handler.schedule_resync();
            }
        }
    }

    fn on_envelope(&mut self, envelope: ClusterEnvelope) {
        let ClusterEnvelope { node, number, sent_at, messages } = envelope;
        if !self.is_new(&node, number, sent_at) {
            count_messages("stale", messages.len());
            return;
        }
        if messages.iter().any(|message| matches!(message, ClusterMessage::NodeLeaving)) {
            self.peers.remove(&node);
        } else {
            let peer = self.peers.entry(node.clone()).or_insert_with(Peer::new);
            peer.last_message = Instant::now();
            for message in &messages {
                if let ClusterMessage::Heartbeat { system_time } = message {
                    peer.clock_difference = self.clock.system_time() - *system_time;
                }
            }
        }
        count_messages("received", messages.len());
        let is_late = self.clock.now() - sent_at > SENDERS_MAX_AGE;
        for mut message in messages {
            if let ClusterMessage::Chat(event) = &mut message
                && is_late
            {
                event.senders.clear();
            }
            self.handler.handle(&node, message);
        }
    }

    /// Returns true if an envelope was not received before and is not old.
    fn is_new(&mut self, node: &str, number: u64, sent_at: DateTime<Utc>) -> bool {
        let now = Instant::now();
        if (self.clock.now() - sent_at).abs() > MAX_ENVELOPE_AGE {
            return false;
        }
        if let Some((sequence, last_message)) = self.sequences.get_mut(node) {
            *last_message = now;
            return sequence.accept(number, now);
        }
        self.sequences.insert(node.to_owned(), (ReceivedSequence::new(number), now));
        if number > 1 {
            // The node has sent messages that this one did not receive, perhaps after it compared with the database.
            self.handler.on_messages_lost(node);
        }
        true
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
