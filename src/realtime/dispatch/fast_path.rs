//! The fast path: shared renderings are written straight to the sockets of subscribers that are caught up.
//!
//! A feed that is caught up, has nothing to deliver and is not being polled hands its position to the hub. Events that
//! follow that position are then written to the socket by the task that rendered them, and the position advances; the
//! subscriber's own task is not woken. Everything else goes to the queue as usual: an event after a gap, an event that
//! must be rendered for each subscriber separately, an event that the socket does not accept. The feed takes its
//! position back before it looks at the queue.

use std::sync::Arc;

use crate::domain::ids::UserId;
use crate::realtime::dispatch::ports::{FeedPosition, FrameSink, MAX_WRITE_BYTES};
use crate::realtime::dispatch::shared_event::SharedEvent;

/// The position of a feed that the hub advances, and the socket that it writes to.
#[derive(Debug)]
pub(super) struct FastPath {
    pub(super) render_group_id: u64,
    pub(super) position: FeedPosition,
    pub(super) sink: Arc<dyn FrameSink>,
}

/// The result of one write by the fast path.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The number of events that are done with, including those that the owner does not receive.
    pub(super) events: usize,
    /// The number of messages that were written.
    pub(super) messages: usize,
}

impl FastPath {
    /// Writes as many of the events as follow the position without a gap and fit into one write.
    ///
    /// An event larger than one write is left to the queue, where all subscribers hold one copy. `frames` is a buffer
    /// to encode into.
    pub(super) fn write_through(
        &mut self,
        owner: &UserId,
        events: &[Arc<SharedEvent>],
        frames: &mut Vec<u8>,
    ) -> Written {
        let (mut position, mut written) = (self.position, Written::default());
        frames.clear();
        for event in events {
            if event.is_visible_to(owner) {
                let Some(batch) = event.rendering_for(self.render_group_id) else { break };
                if batch.after_version != position.version || frames.len() + batch.total_bytes > MAX_WRITE_BYTES {
                    break;
                }
                batch.bodies.iter().for_each(|body| self.sink.encode_frame(body, frames));
                position = FeedPosition {
                    version: batch.to_version,
                    member_version: position.member_version.max(batch.member_version.unwrap_or_default()),
                    as_of: batch.as_of,
                };
                written.messages += batch.bodies.len();
            }
            written.events += 1;
        }
        if !frames.is_empty() && !self.sink.try_write(frames) {
            return Written::default();
        }
        self.position = position;
        written
    }
}
