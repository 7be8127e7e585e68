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
use crate::realtime::cluster::publisher::Bus;
use crate::realtime::receipt_coalescer::Receipts;
use crate::realtime::typing::Typing;
use crate::service::rate_limits::Limits;
use crate::service::send::batch::Group;
use crate::storage::connection::{CommitBroke, Conn};
use crate::storage::pool::Store;
use crate::storage::users;

/// Most sends of one transaction.
const GROUP: usize = 256;

/// A send that was committed.
#[derive(Debug, Clone)]
pub struct Sent {
    pub message: Arc<Message>,
    /// This nonce was sent before, and the message is the one made then.
    pub replayed: bool,
}

struct Pending {
    viewer: Arc<Viewer>,
    draft: MessageDraft,
    answer: oneshot::Sender<Result<Sent>>,
}

pub struct Committer {
    queue: mpsc::Sender<Pending>,
}

impl Committer {
    /// Starts the task. It ends when the last sender has gone and the queue is empty.
    pub fn start(writer: Writer, queue: usize) -> Self {
        let (sender, mut waiting) = mpsc::channel(queue);
        let writer = Arc::new(writer);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                let (writer, group) = (writer.clone(), std::mem::take(&mut group));
                let store = writer.store.clone();
                if let Err(error) = store.in_one_go(async move { writer.answer(group).await }).await {
                    tracing::error!(%error, "a group of sends broke off");
                }
            }
        });
        Self { queue: sender }
    }

    /// Sends a message. A full queue refuses at once: waiting there would only make it longer.
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<Sent> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Pending { viewer, draft, answer }).map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::Unavailable { message: "too many sends are waiting", retry_after: Duration::from_millis(250) }
            }
            TrySendError::Closed(_) => Error::unavailable("the server is stopping"),
        })?;
        answered.await.map_err(|_| Error::internal("nobody knows what became of a send"))?
    }
}

/// What a group is written and told with.
pub struct Writer {
    pub store: Store,
    pub bus: Bus,
    pub receipts: Receipts,
    pub typing: Typing,
    pub limits: Arc<Limits>,
    pub clock: Clock,
}

impl Writer {
    async fn answer(&self, group: Vec<Pending>) {
        METRICS.group.observe(group.len() as f64);
        let sends: Vec<_> = group.iter().map(|pending| (pending.viewer.clone(), pending.draft.clone())).collect();
        let results = match self.commit(&sends).await {
            Ok(results) => results,
            Err(error) if sends.len() == 1 => vec![Err(error)],
            Err(error @ Error::Unavailable { .. }) => vec![Err(error); sends.len()],
            Err(Error::Internal(cause)) if cause.is::<CommitBroke>() => vec![Err(Error::Internal(cause)); sends.len()],
            Err(error) => {
                tracing::warn!(%error, sends = sends.len(), "a group of sends failed; sending one by one");
                self.one_by_one(&sends).await
            }
        };
        for (pending, result) in group.into_iter().zip(results) {
            // A client that has gone needs no answer.
            drop(pending.answer.send(result));
        }
    }

    /// Commits each send alone: a bad one must not fail those beside it. Where the database has gone,
    /// the rest need not find out one by one.
    async fn one_by_one(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Vec<Result<Sent>> {
        let mut results: Vec<Result<Sent>> = Vec::with_capacity(sends.len());
        for send in sends {
            let result = match results.last() {
                Some(Err(gone @ Error::Unavailable { .. })) => Err(gone.clone()),
                _ => {
                    let alone = self.commit(std::slice::from_ref(send)).await;
                    alone.and_then(|mut results| results.pop().ok_or_else(unanswered)?)
                }
            };
            results.push(result);
        }
        results
    }

    /// Commits a group and tells of it: a result for each send, or an error for all.
    async fn commit(&self, sends: &[(Arc<Viewer>, MessageDraft)]) -> Result<Vec<Result<Sent>>> {
        let mut conn = self.store.write().await?;
        let (results, made) = conn
            .transaction(async |conn| {
                let mut group = Group::load(conn, sends, &self.limits, &self.clock).await?;
                let results = sends.iter().map(|(viewer, draft)| group.send(viewer, draft)).collect();
                Ok((results, group.write(conn).await?))
            })
            .await?;
        let mut events = made.events;
        if let Err(error) = self.introduce(&mut conn, &mut events).await {
            // Who tells of them looks them up, then.
            tracing::warn!(%error, "the senders of new messages could not be read");
        }
        drop(conn);
        events.into_iter().for_each(|event| self.bus.publish(event));
        for member in made.moved {
            self.typing.stop(&member);
            self.receipts.note(member, true);
        }
        Ok(results)
    }

    /// Adds the senders to what will be told, one statement for all: every node would look them up, for each event.
    async fn introduce(&self, conn: &mut Conn, events: &mut [ChatEvent]) -> Result<()> {
        for (organization, senders) in heard_senders(events, &self.bus) {
            let people = users::by_ids(conn, &organization, &senders.into_iter().collect::<Vec<_>>()).await?;
            for event in events.iter_mut().filter(|event| event.organization == organization) {
                let here: HashSet<&UserId> = event.senders().collect();
                event.people = people.iter().filter(|user| here.contains(&user.id)).cloned().collect();
            }
        }
        Ok(())
    }
}

/// The senders of what somebody listens to, by organisation.
fn heard_senders(events: &[ChatEvent], bus: &Bus) -> HashMap<OrganizationId, HashSet<UserId>> {
    let mut senders: HashMap<OrganizationId, HashSet<UserId>> = HashMap::new();
    for event in events.iter().filter(|event| event.senders().next().is_some() && bus.is_heard(event.chat)) {
        senders.entry(event.organization.clone()).or_default().extend(event.senders().cloned());
    }
    senders
}

fn unanswered() -> Error {
    Error::internal("a send was left without a result")
}
