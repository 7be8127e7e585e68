//! Sends are committed in groups.
//!
//! All sends go through one queue to one task, which takes whatever waits and writes it in one
//! transaction of a few many-row statements: under no load a group is one message, and nobody waits
//! on purpose. Each send is answered after its commit, and goes on if its client has gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::domain::chat_events::ChatEvent;
use crate::domain::clock::Clock;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::messages::{Message, MessageDraft};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::realtime::cluster::publisher::EventPublisher;
use crate::realtime::receipt_coalescer::ReceiptCoalescer;
use crate::realtime::typing::TypingTracker;
use crate::service::rate_limits::RateLimits;
use crate::service::send::batch::SendBatch;
use crate::storage::connection::{CommitOutcomeUnknown, Conn};
use crate::storage::pool::Database;
use crate::storage::users;

/// Most sends of one transaction.
const MAX_BATCH: usize = 256;

/// A send that was committed.
#[derive(Debug, Clone)]
pub struct SendResult {
    pub message: Arc<Message>,
    /// This nonce was sent before, and the message is the one made then.
    pub replayed: bool,
}

struct QueuedSend {
    viewer: Arc<Viewer>,
    draft: MessageDraft,
    responder: oneshot::Sender<Result<SendResult>>,
}

pub struct SendQueue {
    sender: mpsc::Sender<QueuedSend>,
}

impl SendQueue {
    /// Starts the task. It ends when the last sender has gone and the queue is empty.
    pub fn start(writer: SendWorker, queue: usize) -> Self {
        let (sender, mut waiting) = mpsc::channel(queue);
        let writer = Arc::new(writer);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(MAX_BATCH);
            while waiting.recv_many(&mut group, MAX_BATCH).await > 0 {
                let (writer, group) = (writer.clone(), std::mem::take(&mut group));
                let store = writer.database.clone();
                if let Err(error) = store.run_on_blocking_thread(async move { writer.respond(group).await }).await {
                    tracing::error!(%error, "a group of sends broke off");
                }
            }
        });
        Self { sender: sender }
    }

    /// Sends a message. A full queue refuses at once: waiting there would only make it longer.
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(QueuedSend { viewer, draft, responder: answer }).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::Unavailable { message: "too many sends are waiting", retry_after: Duration::from_millis(250) }
            }
            TrySendError::Closed(_) => Error::unavailable("the server is stopping"),
        })?;
        answered.await.map_err(|_| Error::internal("nobody knows what became of a send"))?
    }
}

/// What a group is written and told with.
pub struct SendWorker {
    pub database: Database,
    pub publisher: EventPublisher,
    pub receipts: ReceiptCoalescer,
    pub typing: TypingTracker,
    pub rate_limits: Arc<RateLimits>,
    pub clock: Clock,
}

impl SendWorker {
    async fn respond(&self, group: Vec<QueuedSend>) {
        METRICS.send_batch_size.observe(group.len() as f64);
        let sends: Vec<_> = group.iter().map(|pending| (pending.viewer.clone(), pending.draft.clone())).collect();
        let results = match self.commit(&sends).await {
            Ok(results) => results,
            Err(error) if sends.len() == 1 => vec![Err(error)],
            Err(error @ Error::Unavailable { .. }) => vec![Err(error); sends.len()],
            Err(Error::Internal(cause)) if cause.is::<CommitOutcomeUnknown>() => {
                vec![Err(Error::Internal(cause)); sends.len()]
            }
            Err(error) => {
                tracing::warn!(%error, sends = sends.len(), "a group of sends failed; sending one by one");
                self.commit_individually(&sends).await
            }
        };
        for (pending, result) in group.into_iter().zip(results) {
            // A client that has gone needs no answer.
            drop(pending.responder.send(result));
        }
    }

    /// Commits each send alone: a bad one must not fail those beside it. Where the database has gone,
    /// the rest need not find out one by one.
    async fn commit_individually(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Vec<Result<SendResult>> {
        let mut results: Vec<Result<SendResult>> = Vec::with_capacity(sends.len());
        for send in sends {
            let result = match results.last() {
                Some(Err(gone @ Error::Unavailable { .. })) => Err(gone.clone()),
                _ => {
                    let alone = self.commit(std::slice::from_ref(send)).await;
                    alone.and_then(|mut results| results.pop().ok_or_else(fail_unanswered)?)
                }
            };
            results.push(result);
        }
        results
    }

    /// Commits a group and tells of it: a result for each send, or an error for all.
    async fn commit(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Result<Vec<Result<SendResult>>> {
        let mut conn = self.database.write().await?;
        let (results, made) = conn
            .transaction(async |conn| {
                let mut group = SendBatch::load(conn, sends, &self.rate_limits, &self.clock).await?;
                let results = sends.iter().map(|(viewer, draft)| group.accept(viewer, draft)).collect();
                Ok((results, group.write(conn).await?))
            })
            .await?;
        let mut events = made.events;
        if let Err(error) = self.attach_senders(&mut conn, &mut events).await {
            // Who tells of them looks them up, then.
            tracing::warn!(%error, "the senders of new messages could not be read");
        }
        drop(conn);
        events.into_iter().for_each(|event| self.publisher.publish(event));
        for member in made.posters {
            self.typing.stop_typing(&member);
            self.receipts.record(member, true);
        }
        Ok(results)
    }

    /// Adds the senders to what will be told, one statement for all: every node would look them up, for each event.
    async fn attach_senders(&self, conn: &mut Conn, events: &mut [ChatEvent]) -> Result<()> {
        for (organization, senders) in subscribed_senders(events, &self.publisher) {
            let people = users::by_ids(conn, &organization, &senders.into_iter().collect::<Vec<_>>()).await?;
            for event in events.iter_mut().filter(|event| event.organization == organization) {
                let here: HashSet<&UserId> = event.sender_ids().collect();
                event.senders = people.iter().filter(|user| here.contains(&user.id)).cloned().collect();
            }
        }
        Ok(())
    }
}

/// The senders of what somebody listens to, by organisation.
fn subscribed_senders(events: &[ChatEvent], bus: &EventPublisher) -> HashMap<OrganizationId, HashSet<UserId>> {
    let mut senders: HashMap<OrganizationId, HashSet<UserId>> = HashMap::new();
    for event in events.iter().filter(|event| event.sender_ids().next().is_some() && bus.has_subscribers(event.chat)) {
        senders.entry(event.organization.clone()).or_default().extend(event.sender_ids().cloned());
    }
    senders
}

fn fail_unanswered() -> Error {
    Error::internal("a send was left without a result")
}
