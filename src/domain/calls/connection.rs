//! The connections between the participants in a call and the server.
//!
//! A participant is connected while a feed of the call is open.

use chrono::{DateTime, Utc};

use crate::domain::calls::{Call, Participant};
use crate::domain::ids::{CallFeedId, ConnectionId};

/// The state of the connection between a participant in the call and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallConnectionState {
    Connected,
    /// The participant's feed was closed, and the participant has not left yet.
    Reconnecting,
}

impl Participant {
    /// Returns the state of the participant's connection, or `None` if they are not in the call.
    ///
    /// A participant who has not opened a feed yet is not reconnecting.
    pub fn connection(&self) -> Option<CallConnectionState> {
        let was_lost = self.feed.is_some() && !self.has_open_feed;
        self.is_joined().then_some(if was_lost {
            CallConnectionState::Reconnecting
        } else {
            CallConnectionState::Connected
        })
    }
}

impl Call {
    /// Records that a device in the call has opened a feed, and extends its lease.
    ///
    /// The feed of a former join has no effect.
    pub fn open_feed(
        &mut self,
        connection: &ConnectionId,
        feed: CallFeedId,
        lease_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let Some(index) = self.connection_index(connection) else { return };
        let was_lost = self.participants[index].connection() == Some(CallConnectionState::Reconnecting);
        let participant = &mut self.participants[index];
        participant.feed = Some(feed);
        participant.has_open_feed = true;
        participant.lease_expires_at = Some(lease_expires_at);
        if was_lost {
            self.update_participant(index, now, |_| {});
        }
    }

    /// Records that a feed was closed. Until the end of the lease, its participant is reconnecting.
    ///
    /// A feed that the device has replaced by another one has no effect.
    pub fn close_feed(
        &mut self,
        connection: &ConnectionId,
        feed: CallFeedId,
        lease_expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let is_last = |participant: &Participant| participant.feed == Some(feed) && participant.has_open_feed;
        let index = self.connection_index(connection).filter(|index| is_last(&self.participants[*index]));
        let Some(index) = index else { return };
        self.update_participant(index, now, |participant| {
            participant.has_open_feed = false;
            participant.lease_expires_at = Some(lease_expires_at);
        });
    }

    /// Returns the index of a participant who is in the call by this connection.
    fn connection_index(&self, connection: &ConnectionId) -> Option<usize> {
        let is_present = |participant: &Participant| participant.is_joined() && participant.joins == connection.join;
        self.participant_index(&connection.participant.user).filter(|index| is_present(&self.participants[*index]))
    }
}
