//! The queue of sends, which are committed in batches.
//!
//! All sends go through one queue to one task. The task takes all sends that wait and commits them in one transaction
//! with a few multi-row statements. It never waits for a batch to fill: without load, a batch is one message. Each send
//! is answered after its commit, and is committed even if its client has disconnected meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::domain::chat_events::ChatEvent;
use crate::domain::clock::Clock;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::messages::MessageDraft;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::typing::TypingTracker;
use crate::service::rate_limits::RateLimits;
use crate::service::send::batch::{SendBatch, SendRequest, SendResult};
use crate::storage::connection::{CommitOutcomeUnknown, Conn};
use crate::storage::pool::Database;
use crate::storage::users;

/// The maximum number of sends in one transaction.
const MAX_BATCH: usize = 256;
/// The time after which a client may send again when the queue was full.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(250);

struct QueuedSend {
    request: SendRequest,
    responder: oneshot::Sender<Result<SendResult>>,
}

/// The sending half of the queue.
pub struct SendQueue {
    sender: mpsc::Sender<QueuedSend>,
}

impl SendQueue {
    /// Starts the task that commits the sends, with a queue of at most `capacity` sends.
    ///
    /// The task ends when the `SendQueue` is dropped and all queued sends are answered. A batch that panics fails its
    /// own sends, and the task goes on with the next batch.
    pub fn start(worker: SendWorker, capacity: usize) -> Self {
        let (sender, mut receiver) = mpsc::channel(capacity);
        let worker = Arc::new(worker);
        tokio::spawn(async move {
            let mut queued = Vec::with_capacity(MAX_BATCH);
            while receiver.recv_many(&mut queued, MAX_BATCH).await > 0 {
                let (worker, batch) = (worker.clone(), std::mem::take(&mut queued));
                let database = worker.database.clone();
                if let Err(error) = database.run_on_blocking_thread(async move { worker.process(batch).await }).await {
                    tracing::error!(%error, "a batch of sends was aborted");
                }
            }
        });
        Self { sender }
    }

    /// Sends a message and waits for its commit.
    ///
    /// This method is cancel-safe in one sense: a send that is in the queue is committed even if the returned future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`] at once if the queue is full, because waiting would only make it longer. Returns
    /// the error of the send if it is refused: see [`SendBatch::accept`].
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
        let (responder, response) = oneshot::channel();
        let queued = QueuedSend { request: SendRequest { viewer, draft }, responder };
        self.sender.try_send(queued).map_err(|error| match error {
            TrySendError::Full(_) => Error::Unavailable {
                message: "too many messages are waiting to be sent",
                retry_after: QUEUE_FULL_RETRY,
            },
            TrySendError::Closed(_) => Error::unavailable("the server is stopping"),
        })?;
        response.await.map_err(|_| Error::internal("the batch of a send was aborted"))?
    }
}

/// The components that commit and publish a batch.
pub struct SendWorker {
    pub database: Database,
    pub publisher: EventPublisher,
    pub receipts: ReceiptCoalescer,
    pub typing: TypingTracker,
    pub rate_limits: Arc<RateLimits>,
    pub clock: Clock,
}

impl SendWorker {
    /// Commits a batch and answers each of its sends.
    async fn process(&self, batch: Vec<QueuedSend>) {
        METRICS.send_batch_size.observe(batch.len() as f64);
        let (requests, responders): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|queued| (queued.request, queued.responder)).unzip();
        let results = match self.commit(&requests).await {
            Ok(results) => results,
            Err(error) if requests.len() == 1 => vec![Err(error)],
            Err(error @ Error::Unavailable { .. }) => vec![Err(error); requests.len()],
            Err(Error::Internal(cause)) if cause.is::<CommitOutcomeUnknown>() => {
                vec![Err(Error::Internal(cause)); requests.len()]
            }
            Err(error) => {
                tracing::warn!(%error, sends = requests.len(), "a batch of sends failed; committing each by itself");
                self.commit_individually(&requests).await
            }
        };
        for (responder, result) in responders.into_iter().zip(results) {
            // A client that has disconnected needs no answer.
            drop(responder.send(result));
        }
    }

    /// Commits each send in a transaction of its own, so that a bad send does not fail the others.
    ///
    /// After the first send that finds the database unavailable, the rest fail without an attempt.
    async fn commit_individually(&self, requests: &[SendRequest]) -> Vec<Result<SendResult>> {
        let mut results: Vec<Result<SendResult>> = Vec::with_capacity(requests.len());
        for request in requests {
            let result = match results.last() {
                Some(Err(unavailable @ Error::Unavailable { .. })) => Err(unavailable.clone()),
                _ => {
                    let committed = self.commit(std::slice::from_ref(request)).await;
                    committed.and_then(|mut results| results.pop().ok_or_else(missing_result)?)
                }
            };
            results.push(result);
        }
        results
    }

    /// Commits a batch and publishes its events.
    ///
    /// Returns a result for each send, or the error that fails the whole batch.
    async fn commit(&self, requests: &[SendRequest]) -> Result<Vec<Result<SendResult>>> {
        let mut conn = self.database.write().await?;
        let (results, outcome) = conn
            .transaction(async |conn| {
                let mut batch = SendBatch::load(conn, requests, &self.rate_limits, &self.clock).await?;
                let results = requests.iter().map(|request| batch.accept(request)).collect();
                Ok((results, batch.write(conn).await?))
            })
            .await?;
        let mut events = outcome.events;
        if let Err(error) = self.attach_senders(&mut conn, &mut events).await {
            // The feeds read the senders themselves then.
            tracing::warn!(%error, "could not read the senders of new messages");
        }
        drop(conn);
        events.into_iter().for_each(|event| self.publisher.publish(event));
        for member in outcome.posters {
            self.typing.stop_typing(&member);
            self.receipts.record(member, true);
        }
        Ok(results)
    }

    /// Adds the senders to events by one statement; otherwise every node would read them for every event.
    async fn attach_senders(&self, conn: &mut Conn, events: &mut [ChatEvent]) -> Result<()> {
        for (organization, senders) in subscribed_senders(events, &self.publisher) {
            let users = users::by_ids(conn, &organization, &senders.into_iter().collect::<Vec<_>>()).await?;
            for event in events.iter_mut().filter(|event| event.organization == organization) {
                let senders: HashSet<&UserId> = event.sender_ids().collect();
                event.senders = users.iter().filter(|user| senders.contains(&user.id)).cloned().collect();
            }
        }
        Ok(())
    }
}

/// Returns the senders of events that may have subscribers, by organisation.
fn subscribed_senders(events: &[ChatEvent], publisher: &EventPublisher) -> HashMap<OrganizationId, HashSet<UserId>> {
    let mut senders: HashMap<OrganizationId, HashSet<UserId>> = HashMap::new();
    let subscribed =
        events.iter().filter(|event| event.sender_ids().next().is_some() && publisher.has_subscribers(event.chat));
    for event in subscribed {
        senders.entry(event.organization.clone()).or_default().extend(event.sender_ids().cloned());
    }
    senders
}

fn missing_result() -> Error {
    Error::internal("the batch returned no result for a send")
}
