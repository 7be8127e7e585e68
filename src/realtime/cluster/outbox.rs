//! The bounded queue of messages that wait to be sent to the other nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::metrics::{KindLabel, METRICS};
use crate::realtime::cluster::message::ClusterMessage;

/// The number of messages that may wait. Further ones are dropped, and the other nodes are asked to resync.
const OUTBOX_CAPACITY: usize = 16_384;
/// The time without a message of its own after which a node counts as cut off. Each node publishes a heartbeat each
/// second.
const ECHO_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum time that a node waits, when it shuts down, until the other nodes have been informed.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// The sending half of the queue.
///
/// Sending never waits, because messages are hints that must not delay a commit, and because callers hold locks.
#[derive(Debug, Clone)]
pub struct ClusterOutbox {
    sender: mpsc::Sender<ClusterMessage>,
    status: Arc<OutboxStatus>,
}

/// The receiving half of the queue, which the transport owns.
#[derive(Debug)]
pub struct OutboxReceiver {
    receiver: mpsc::Receiver<ClusterMessage>,
    status: Arc<OutboxStatus>,
}

/// The state that both halves share. The flags guard no other memory, so their accesses are relaxed.
#[derive(Debug, Default)]
struct OutboxStatus {
    /// True if a message was dropped since the other nodes were last asked to resync.
    has_dropped_messages: AtomicBool,
    /// True while the transport has a connection.
    is_connected: AtomicBool,
    /// The time at which Redis last delivered a message of this node. The lock is held for single accesses only.
    last_echo: Mutex<Option<Instant>>,
    /// Notified when [`ClusterMessage::NodeLeaving`] has been sent.
    shutdown_announced: Notify,
}

impl ClusterOutbox {
    /// Creates a queue and returns its two halves.
    pub fn new() -> (Self, OutboxReceiver) {
        Self::with_capacity(OUTBOX_CAPACITY)
    }

    /// Creates a queue in which this number of messages may wait.
    pub fn with_capacity(capacity: usize) -> (Self, OutboxReceiver) {
        let (sender, receiver) = mpsc::channel(capacity);
        let status = Arc::<OutboxStatus>::default();
        (Self { sender, status: status.clone() }, OutboxReceiver { receiver, status })
    }

    /// Queues a message, or drops it and notes that the other nodes have to resync when the queue is full.
    pub fn send(&self, message: ClusterMessage) {
        if self.sender.try_send(message).is_err() {
            METRICS.cluster_messages.get_or_create(&KindLabel { kind: "dropped" }).inc();
            self.status.has_dropped_messages.store(true, Ordering::Relaxed);
        }
    }

    /// Queues a message as soon as there is room for it.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: a dropped call has queued nothing.
    pub async fn send_when_room(&self, message: ClusterMessage) {
        // An error means that the transport has ended, and with it the process.
        drop(self.sender.send(message).await);
    }

    /// Returns true while messages reach Redis and come back from it.
    pub fn is_delivering(&self) -> bool {
        self.is_connected() && self.status.last_echo.lock().is_some_and(|echo| echo.elapsed() < ECHO_TIMEOUT)
    }

    /// Informs the other nodes that this one is shutting down, after all messages queued before.
    ///
    /// The call waits until the message has been sent, for one second at most.
    pub async fn announce_shutdown(&self) {
        self.send(ClusterMessage::NodeLeaving);
        let announced = self.status.shutdown_announced.notified();
        if self.is_connected() && timeout(SHUTDOWN_GRACE, announced).await.is_err() {
            tracing::debug!("could not inform the other nodes of the shutdown in time");
        }
    }

    /// Returns true while messages reach Redis.
    pub fn is_connected(&self) -> bool {
        self.status.is_connected.load(Ordering::Relaxed)
    }
}

impl OutboxReceiver {
    /// Returns true when all senders have been dropped.
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed()
    }

    /// Removes the next message, and returns `None` when all senders have been dropped.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: a dropped call has removed no message.
    pub async fn recv(&mut self) -> Option<ClusterMessage> {
        self.receiver.recv().await
    }

    /// Moves up to `limit` messages to `batch`, and returns their number.
    ///
    /// The call waits for at least one message. It returns 0 when all senders have been dropped.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel-safe: a dropped call has moved no message.
    pub async fn recv_many(&mut self, batch: &mut Vec<ClusterMessage>, limit: usize) -> usize {
        self.receiver.recv_many(batch, limit).await
    }

    /// Returns true while messages reach Redis.
    pub fn is_connected(&self) -> bool {
        self.status.is_connected.load(Ordering::Relaxed)
    }

    /// Records whether messages reach Redis, also for the metrics.
    pub fn set_connected(&self, is_connected: bool) {
        self.status.is_connected.store(is_connected, Ordering::Relaxed);
        METRICS.redis_connected.set(is_connected.into());
    }

    /// Notes that Redis delivered a message of this node.
    pub fn note_echo(&self) {
        *self.status.last_echo.lock() = Some(Instant::now());
    }

    /// Notes that messages were lost.
    pub fn mark_dropped(&self) {
        self.status.has_dropped_messages.store(true, Ordering::Relaxed);
    }

    /// Returns true if messages were lost since the last call.
    pub fn take_dropped(&self) -> bool {
        self.status.has_dropped_messages.swap(false, Ordering::Relaxed)
    }

    /// Ends the wait of [`ClusterOutbox::announce_shutdown`].
    pub fn confirm_shutdown(&self) {
        self.status.shutdown_announced.notify_one();
    }
}
