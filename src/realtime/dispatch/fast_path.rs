//! The short way: what is the same for many goes straight to the sockets of those who are level.
//!
//! A feed that is level, has nothing to tell and is not looked at lends its place to the hub. What is heard
//! then and follows that place is written to its socket where it was made ready, and the place moves on; no
//! task is woken. Whatever does not fit - a gap, what each must be told by themselves, a socket that takes
//! nothing - goes to the mailbox as ever, and the feed takes its place back before it looks there.

use std::fmt::Debug;
use std::sync::Arc;

use bytestring::ByteString;
use chrono::{DateTime, Utc};

use crate::domain::chat_events::{Change, ChatEventKind};
use crate::domain::ids::UserId;
use crate::realtime::dispatch::queue::SharedEvent;
use crate::realtime::dispatch::render_cache::RenderedPayload;

/// Bytes that are gathered for one write.
pub const MAX_WRITE_BYTES: usize = 16 * 1024;

/// How far a feed has told its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPosition {
    /// Every change up to this version was told.
    pub version: i64,
    /// Every change of a member up to this version was told; later ones there are none up to the position.
    pub member_version: i64,
    /// When the feed last heard or read: positions that moved up to then, but for [`SLACK`], are told.
    ///
    /// [`SLACK`]: crate::live::feed::SLACK
    pub as_of: DateTime<Utc>,
}

/// The way to one subscriber.
pub trait FrameSink: Debug + Send + Sync {
    /// Adds what tells the subscriber of this to what is written next.
    fn encode_frame(&self, body: &str, frames: &mut Vec<u8>);

    /// Writes it; false where that can't be now, and then nothing of it was written.
    fn try_write(&self, frames: &[u8]) -> bool;
}

/// What all of an audience are told of something that was heard, if they stand right before it.
#[derive(Debug)]
pub struct RenderedBatch {
    after_version: i64,
    to_version: i64,
    member_version: Option<i64>,
    as_of: DateTime<Utc>,
    bodies: Vec<ByteString>,
    total_bytes: usize,
}

impl RenderedBatch {
    /// Of what was made for each event. None where not all can be told the same.
    pub fn new(heard: &SharedEvent, made: Vec<Option<RenderedPayload>>) -> Option<Self> {
        let ChatEventKind::LogChanges(stretch) = &heard.event.kind else { return None };
        // Of what one alone heard nothing is kept. And it is the end for those who leave.
        if !heard.is_cached() || heard.event.membership_changes().any(|(_, is_active)| !is_active) {
            return None;
        }
        let members = stretch.changes.iter().filter(|change| matches!(change, Change::Member(_)));
        let body = |made: Option<RenderedPayload>| made.filter(|made| !made.should_resubscribe).map(|made| made.body);
        let bodies: Vec<ByteString> = made.into_iter().map(body).collect::<Option<_>>()?;
        Some(Self {
            after_version: stretch.after_version,
            to_version: stretch.to_version,
            member_version: members.map(Change::version).max(),
            as_of: heard.event.published_at,
            total_bytes: bodies.iter().map(|body| body.len()).sum(),
            bodies,
        })
    }
}

/// The lent place of a feed.
#[derive(Debug)]
pub(super) struct FastPath {
    pub(super) render_group_id: u64,
    pub(super) position: FeedPosition,
    pub(super) sink: Arc<dyn FrameSink>,
}

impl FastPath {
    /// Tells the owner as many of these as follow the place without a gap and fit one write: how many, and in how
    /// many messages. What is too large for one waits in the mailbox, where it is held once for all.
    pub(super) fn write_through(
        &mut self,
        owner: &UserId,
        heard: &[Arc<SharedEvent>],
        frames: &mut Vec<u8>,
    ) -> (usize, usize) {
        let (mut place, mut told, mut messages) = (self.position, 0, 0);
        frames.clear();
        for heard in heard {
            if heard.is_visible_to(owner) {
                let Some(sheet) = heard.rendering_for(self.render_group_id) else { break };
                if sheet.after_version != place.version || frames.len() + sheet.total_bytes > MAX_WRITE_BYTES {
                    break;
                }
                sheet.bodies.iter().for_each(|body| self.sink.encode_frame(body, frames));
                place = FeedPosition {
                    version: sheet.to_version,
                    member_version: place.member_version.max(sheet.member_version.unwrap_or_default()),
                    as_of: sheet.as_of,
                };
                messages += sheet.bodies.len();
            }
            told += 1;
        }
        if !frames.is_empty() && !self.sink.try_write(frames) {
            return (0, 0);
        }
        self.position = place;
        (told, messages)
    }
}
