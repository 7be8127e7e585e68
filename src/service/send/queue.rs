//! The queue of sends, which are committed in batches.
//!
//! The sends of a node go through one or several [lanes](Lane), which commit in parallel. The chat determines the lane,
//! so the sends of a chat keep their order, and a chat that is busy or locked delays the sends of its lane at most. The
//! chats of one organisation use all lanes: their transactions lock different rows, whatever bucket they are in.

use std::sync::Arc;

use crate::domain::ids::ChatId;
use crate::domain::messages::MessageDraft;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::service::quotas::Quota;
use crate::service::send::batch::{SendRequest, SendResult};
use crate::service::send::lane::Lane;
use crate::service::send::worker::SendWorker;

/// The sending half of the queue.
pub struct SendQueue {
    lanes: Vec<Lane>,
    /// The places of each sender, so that no one takes the places of all others.
    places: Arc<Quota>,
    worker: Arc<SendWorker>,
}

impl SendQueue {
    /// Starts the lanes, whose queues have room for at most `capacity` sends together.
    ///
    /// The task of a lane ends when the `SendQueue` is dropped and all sends of the lane are answered.
    pub fn start(worker: SendWorker, capacity: usize, places: Arc<Quota>) -> Self {
        let worker = Arc::new(worker);
        let count = worker.database.send_lanes().min(capacity).max(1);
        METRICS.send_lanes.set(i64::try_from(count).unwrap_or(i64::MAX));
        let lanes = (0..count).map(|number| Lane::start(worker.clone(), number, capacity / count)).collect();
        Self { lanes, places, worker }
    }

    /// Sends a message and waits for its commit.
    ///
    /// This method is cancel-safe in one sense: a send that is in the queue is committed even if the returned future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RateLimited`] at once if the sender's rate limit is reached, or if too many sends of the sender
    /// or of the organisation wait. Returns [`Error::Unavailable`] at once if the queue of the chat's lane is full, and
    /// after a few seconds if another transaction keeps the chat locked. Returns the error of the send if it is
    /// refused: see [`SendBatch::accept`](crate::service::send::batch::SendBatch::accept).
    pub async fn send(&self, viewer: Arc<Viewer>, draft: MessageDraft) -> Result<SendResult> {
        let place = self.places.acquire(&viewer.key())?;
        self.worker.require_rate_limit(&viewer, &draft).await?;
        let lane = &self.lanes[self.lane_of(draft.chat)];
        let response = lane.push(SendRequest::new(viewer, draft), place)?;
        response.await.map_err(|_| Error::internal("the batch of a send was aborted"))?
    }

    /// Returns the number of the lane that commits the sends of a chat.
    pub fn lane_of(&self, chat: ChatId) -> usize {
        lane_of(chat, self.lanes.len())
    }
}

/// Returns the number of a chat's lane among `lanes`.
///
/// The last bits of an id are random or those of a hash.
fn lane_of(chat: ChatId, lanes: usize) -> usize {
    let [.., high, low] = chat.0.into_bytes();
    usize::from(u16::from_be_bytes([high, low])) % lanes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::OrganizationId;

    #[test]
    fn chats_of_one_organization_use_all_lanes_evenly() {
        let organization: OrganizationId = "demo".parse().unwrap();
        let chats: Vec<_> = (0..4_000).map(|_| ChatId::new(organization.bucket())).collect();
        for lanes in [1, 2, 3, 4, 64] {
            let mut counts = vec![0; lanes];
            for chat in &chats {
                counts[lane_of(*chat, lanes)] += 1;
            }
            let fair = chats.len() / lanes;
            assert!(counts.iter().all(|count| (fair / 3..=fair * 3).contains(count)), "{lanes} lanes: {counts:?}");
        }
    }
}
