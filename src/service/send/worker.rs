//! The commit of one batch of sends, and the publishing of what it changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::chat_events::{ChatEvent, UnversionedChange};
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
use crate::service::send::batch::{BatchOutcome, ChatLocking, SendBatch, SendRequest, SendResult};
use crate::service::send::queued_send::QueuedSend;
use crate::storage::connection::Conn;
use crate::storage::errors::Failure;
use crate::storage::pool::Database;
use crate::storage::session::TransactionLimits;
use crate::storage::{messages, users};

/// The time for which a batch waits for the lock of a row that is not a chat, such as a member.
const BATCH_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// The components that commit and publish a batch.
pub struct SendWorker {
    pub database: Database,
    pub publisher: EventPublisher,
    pub receipts: ReceiptCoalescer,
    pub typing: TypingTracker,
    pub rate_limits: Arc<RateLimits>,
    pub clock: Clock,
}

/// The rest of a batch after its attempt.
#[derive(Default)]
pub struct Processed {
    /// The sends that were not decided, because another transaction has locked what they need.
    pub held: Vec<QueuedSend>,
    /// The error of sends that were not tried, if the database did not answer.
    pub outage: Option<Error>,
}

/// The reason why a batch as a whole was not committed.
#[derive(Debug)]
enum BatchError {
    /// Another transaction has locked what the batch needs, or conflicts with it. Nothing has changed.
    Locked,
    /// The database did not answer. The second error is that of sends that were not tried.
    NoAnswer(Error, Error),
    /// Another reason.
    Other(Error),
}

/// The results of the sends of a batch, in their order; `None` for one that was not decided.
type Results = Vec<Option<Result<SendResult>>>;

impl SendWorker {
    /// Checks the sender's rate limit before the send is queued, without counting the send.
    ///
    /// The replay of a send is not limited, so an earlier send with the same nonce is looked for.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] if the limit is reached.
    pub async fn require_rate_limit(&self, viewer: &Viewer, draft: &MessageDraft) -> Result<()> {
        let Err(rate_limited) = self.rate_limits.require_send_allowed(viewer) else { return Ok(()) };
        let Some(nonce) = draft.nonce.clone() else { return Err(rate_limited) };
        let mut conn = self.database.read().await?;
        let sent = messages::by_nonces(&mut conn, &[(draft.chat, nonce)]).await?;
        let is_replay = sent.iter().any(|message| message.sender.as_ref() == Some(viewer.id()));
        if is_replay { Ok(()) } else { Err(rate_limited) }
    }

    /// Commits a batch of sends and answers those that were decided.
    ///
    /// The chats are of one bucket, or of several side by side where [`Database::commits_buckets_together`] allows it.
    pub async fn process(self: &Arc<Self>, batch: Vec<QueuedSend>) -> Processed {
        METRICS.send_batch_size.observe(batch.len() as f64);
        self.process_on_blocking_thread(batch, ChatLocking::SkipLocked, BATCH_LOCK_TIMEOUT).await
    }

    /// Commits a batch of sends to one chat, for whose lock it waits up to `lock_timeout`.
    pub async fn process_held(self: &Arc<Self>, batch: Vec<QueuedSend>, lock_timeout: Duration) -> Processed {
        self.process_on_blocking_thread(batch, ChatLocking::Wait, lock_timeout).await
    }

    /// Commits a batch on a thread that may block.
    ///
    /// A batch that panics fails its own sends only.
    async fn process_on_blocking_thread(
        self: &Arc<Self>,
        batch: Vec<QueuedSend>,
        locking: ChatLocking,
        lock_timeout: Duration,
    ) -> Processed {
        let worker = self.clone();
        let work = async move { worker.process_with(batch, locking, lock_timeout).await };
        self.database.run_on_blocking_thread(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a batch of sends was aborted");
            Processed::default()
        })
    }

    async fn process_with(&self, batch: Vec<QueuedSend>, locking: ChatLocking, lock_timeout: Duration) -> Processed {
        let requests: Vec<&SendRequest> = batch.iter().map(|queued| &queued.request).collect();
        let (results, outage) = match self.commit(&requests, locking, lock_timeout).await {
            Ok(results) => (results, None),
            Err(BatchError::Locked) => return Processed { held: batch, outage: None },
            Err(BatchError::NoAnswer(error, outage)) => (repeat(&error, requests.len()), Some(outage)),
            Err(BatchError::Other(error @ Error::Unavailable { .. })) => (repeat(&error, requests.len()), None),
            Err(BatchError::Other(error)) if requests.len() == 1 => (repeat(&error, 1), None),
            Err(BatchError::Other(error)) => {
                tracing::warn!(%error, sends = requests.len(), "a batch of sends failed; committing each by itself");
                (self.commit_individually(&requests, locking, lock_timeout).await, None)
            }
        };
        let mut held = Vec::new();
        for (queued, result) in batch.into_iter().zip(results) {
            match result {
                Some(result) => queued.respond(result),
                None => held.push(queued),
            }
        }
        Processed { held, outage }
    }

    /// Commits each send in a transaction of its own, so that a bad send does not fail the others.
    ///
    /// After the first send that finds the database unavailable, the rest fail without an attempt.
    async fn commit_individually(
        &self,
        requests: &[&SendRequest],
        locking: ChatLocking,
        lock_timeout: Duration,
    ) -> Results {
        let mut results: Results = Vec::with_capacity(requests.len());
        let mut held = HashSet::new();
        for request in requests {
            let result = match results.last() {
                Some(Some(Err(unavailable @ Error::Unavailable { .. }))) => Some(Err(unavailable.clone())),
                // Sends of a chat stay in their order.
                _ if held.contains(&request.draft.chat) => None,
                _ => match self.commit(&[request], locking, lock_timeout).await {
                    Ok(mut results) => results.pop().flatten(),
                    Err(BatchError::Locked) => None,
                    Err(BatchError::NoAnswer(error, _) | BatchError::Other(error)) => Some(Err(error)),
                },
            };
            if result.is_none() {
                held.insert(request.draft.chat);
            }
            results.push(result);
        }
        results
    }

    /// Commits a batch and publishes its events.
    async fn commit(
        &self,
        requests: &[&SendRequest],
        locking: ChatLocking,
        lock_timeout: Duration,
    ) -> Result<Results, BatchError> {
        let connected = self.database.write_sends().await;
        let mut conn = connected.map_err(|error| BatchError::NoAnswer(error.clone(), error))?;
        let limits = TransactionLimits { lock: Some(lock_timeout), ..TransactionLimits::default() };
        let committed = conn
            .transaction_within(limits, async |conn| {
                let (mut results, mut outcome) = (Results::with_capacity(requests.len()), BatchOutcome::default());
                for requests in requests.chunk_by(|one, next| one.bucket() == next.bucket()) {
                    let mut batch = SendBatch::load(conn, requests, locking, &self.rate_limits, &self.clock).await?;
                    results.extend(requests.iter().map(|request| batch.decide(request)));
                    outcome.append(batch.write(conn).await?);
                }
                Ok((results, outcome))
            })
            .await;
        let (results, outcome) = committed.map_err(|error| batch_error(error, &conn))?;
        let mut events = outcome.events;
        if let Err(error) = self.attach_senders(&mut conn, &mut events).await {
            // The feeds read the senders themselves then.
            tracing::debug!(%error, "could not read the senders of new messages");
        }
        drop(conn);
        events.into_iter().for_each(|event| self.publisher.publish(event));
        for member in outcome.posters {
            self.typing.stop_typing(&member);
            self.receipts.record(member, UnversionedChange { visible_to_others: true, read_threads: false });
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

/// Returns the reason why a batch failed, given its connection.
fn batch_error(error: Error, conn: &Conn) -> BatchError {
    match conn.last_failure() {
        Some(Failure::Locked | Failure::Conflict) if conn.locks_rows() => BatchError::Locked,
        Some(failure @ (Failure::NoAnswer | Failure::Unreachable)) => {
            BatchError::NoAnswer(error, Error::unavailable(failure.message()))
        }
        _ => BatchError::Other(error),
    }
}

/// Returns one error for each send of a batch.
fn repeat(error: &Error, sends: usize) -> Results {
    vec![Some(Err(error.clone())); sends]
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
