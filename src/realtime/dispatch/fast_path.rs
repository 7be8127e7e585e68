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

use crate::domain::chat_events::{Change, Happening};
use crate::domain::ids::UserId;
use crate::realtime::dispatch::queue::Heard;
use crate::realtime::dispatch::render_cache::Made;

/// Bytes that are gathered for one write.
pub const BATCH: usize = 16 * 1024;

/// How far a feed has told its chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Every change up to this version was told.
    pub position: i64,
    /// Every change of a member up to this version was told; later ones there are none up to the position.
    pub members_at: i64,
    /// When the feed last heard or read: positions that moved up to then, but for [`SLACK`], are told.
    ///
    /// [`SLACK`]: crate::live::feed::SLACK
    pub heard_at: DateTime<Utc>,
}

/// The way to one subscriber.
pub trait Outlet: Debug + Send + Sync {
    /// Adds what tells the subscriber of this to what is written next.
    fn frame(&self, body: &str, frames: &mut Vec<u8>);

    /// Writes it; false where that can't be now, and then nothing of it was written.
    fn write(&self, frames: &[u8]) -> bool;
}

/// What all of an audience are told of something that was heard, if they stand right before it.
#[derive(Debug)]
pub struct Sheet {
    after: i64,
    end: i64,
    members_at: Option<i64>,
    heard_at: DateTime<Utc>,
    bodies: Vec<ByteString>,
    bytes: usize,
}

impl Sheet {
    /// Of what was made for each event. None where not all can be told the same.
    pub fn new(heard: &Heard, made: Vec<Option<Made>>) -> Option<Self> {
        let Happening::Changed(stretch) = &heard.event.what else { return None };
        // Of what one alone heard nothing is kept. And it is the end for those who leave.
        if !heard.is_kept() || heard.event.membership().any(|(_, is_active)| !is_active) {
            return None;
        }
        let members = stretch.changes.iter().filter(|change| matches!(change, Change::Member(_)));
        let body = |made: Option<Made>| made.filter(|made| !made.failed).map(|made| made.body);
        let bodies: Vec<ByteString> = made.into_iter().map(body).collect::<Option<_>>()?;
        Some(Self {
            after: stretch.after,
            end: stretch.end,
            members_at: members.map(Change::version).max(),
            heard_at: heard.event.at,
            bytes: bodies.iter().map(|body| body.len()).sum(),
            bodies,
        })
    }
}

/// The lent place of a feed.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) audience: u64,
    pub(super) place: Place,
    pub(super) outlet: Arc<dyn Outlet>,
}

impl Lane {
    /// Tells the owner as many of these as follow the place without a gap and fit one write: how many, and in how
    /// many messages. What is too large for one waits in the mailbox, where it is held once for all.
    pub(super) fn tell(&mut self, owner: &UserId, heard: &[Arc<Heard>], frames: &mut Vec<u8>) -> (usize, usize) {
        let (mut place, mut told, mut messages) = (self.place, 0, 0);
        frames.clear();
        for heard in heard {
            if heard.concerns(owner) {
                let Some(sheet) = heard.sheet(self.audience) else { break };
                if sheet.after != place.position || frames.len() + sheet.bytes > BATCH {
                    break;
                }
                sheet.bodies.iter().for_each(|body| self.outlet.frame(body, frames));
                place = Place {
                    position: sheet.end,
                    members_at: place.members_at.max(sheet.members_at.unwrap_or_default()),
                    heard_at: sheet.heard_at,
                };
                messages += sheet.bodies.len();
            }
            told += 1;
        }
        if !frames.is_empty() && !self.outlet.write(frames) {
            return (0, 0);
        }
        self.place = place;
        (told, messages)
    }
}
