//! Calls: their state, what can be read from it, and the queries about past calls.
//!
//! Transitions are in [`state_machine`], and the connections of participants in [`connection`].

pub mod connection;
pub mod state_machine;

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::{CallFeedId, CallId, ChatId, ConnectionId, OrganizationId, ParticipantId, UserId};
use crate::error::Error;

/// The medium for which a call was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallKind {
    Audio,
    Video,
}

/// The phase of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    Ringing,
    Active,
    Ended,
}

/// The reason why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallEndReason {
    Completed,
    Missed,
    Declined,
    Cancelled,
    Failed,
    /// Everyone who declined was busy.
    Busy,
    /// The chat of the call was deleted.
    ChatGone,
}

/// The state of one user in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ParticipantStatus {
    Ringing,
    Joined,
    Left,
    Declined,
    Missed,
    /// A moderator removed the participant from the call.
    Removed,
}

/// The reason that a user gives for declining a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DeclineReason {
    Declined,
    Busy,
    DoNotDisturb,
}

/// The reason why a participant left a call that went on, or how they left it before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Departure {
    /// The participant left on their own.
    Left,
    /// The connection of the participant's device was lost.
    Lost,
    /// The participant was removed from the call or from its chat.
    Removed,
}

/// The direction of a call as seen by one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallDirection {
    Incoming,
    Outgoing,
}

/// The media that a participant sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Media {
    pub audio: bool,
    pub video: bool,
    pub screen: bool,
}

/// The timeouts of a call, and its maximum number of participants.
#[derive(Debug, Clone, Copy)]
pub struct CallTimeouts {
    /// The time after which an unanswered call is missed.
    pub ring_timeout: TimeDelta,
    /// The time after which an answered call with one participant ends.
    pub alone_timeout: TimeDelta,
    /// The time after which a participant without an open feed has left.
    pub disconnect_timeout: TimeDelta,
    /// The number of users that can be in the call at the same time.
    pub max_participants: usize,
}

impl CallTimeouts {
    /// Returns the time that a participant has to open the first feed after joining.
    pub fn initial_connect_timeout(&self) -> TimeDelta {
        self.disconnect_timeout * 4
    }
}

/// A call in one chat, with everyone who takes or took part.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub id: CallId,
    pub organization: OrganizationId,
    pub kind: CallKind,
    pub started_by: UserId,
    /// The user who may end the call for all: the caller and then whoever has been in the call for longest.
    pub host: UserId,
    pub started_at: DateTime<Utc>,
    pub rings_until: DateTime<Utc>,
    pub answered_at: Option<DateTime<Utc>>,
    /// The time since which an answered call has had one participant.
    pub sole_participant_since: Option<DateTime<Utc>>,
    pub end: Option<(DateTime<Utc>, CallEndReason)>,
    /// The number of the last change or signal.
    pub version: i64,
    /// The version of the last change of the call's own fields, without its participants.
    pub state_version: i64,
    /// The time of the last change of the call or a participant.
    ///
    /// Signals and quality reports don't count.
    pub state_changed_at: DateTime<Utc>,
    /// The version up to which signals have been deleted.
    pub signals_pruned_to: i64,
    /// The participants in the order in which they were added.
    pub participants: Vec<Participant>,
}

/// A user in a call, on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    pub user: UserId,
    /// The client's name of the device.
    ///
    /// Empty until the user has joined.
    pub device: String,
    pub status: ParticipantStatus,
    pub joined_at: Option<DateTime<Utc>>,
    pub left_at: Option<DateTime<Utc>>,
    /// The reason of the last departure.
    ///
    /// `None` while the participant is in the call, and if its end was the reason.
    pub departure: Option<Departure>,
    pub media: Media,
    /// The call's version at the participant's last change.
    pub version: i64,
    /// The call's version when the participant last joined.
    ///
    /// Earlier signals are not delivered.
    pub joined_version: i64,
    /// The number of times that the participant joined.
    pub joins: i32,
    /// The version up to which signals to the participant have been deleted.
    pub signals_pruned_to: i64,
    /// The time at which a joined participant is disconnected unless the lease is renewed.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// True if the device has an open feed of the call, as far as is known.
    pub has_open_feed: bool,
    /// The feed that the device opened last since it joined.
    pub feed: Option<CallFeedId>,
    /// The reason of the user's last decline, until they join.
    pub decline_reason: Option<DeclineReason>,
    /// True if the user may not join the call again.
    pub is_barred: bool,
    pub quality: Quality,
}

impl Participant {
    /// Returns whether the participant is in the call.
    pub fn is_joined(&self) -> bool {
        self.status == ParticipantStatus::Joined
    }
}

/// Sums of the connection quality that devices reported.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    pub reports: i32,
    pub round_trip_ms: f64,
    pub packet_loss_percent: f64,
    pub bitrate_kbps: f64,
}

impl Quality {
    /// Adds the sums of other reports to these.
    pub fn add(&mut self, other: &Self) {
        self.reports += other.reports;
        self.round_trip_ms += other.round_trip_ms;
        self.packet_loss_percent += other.packet_loss_percent;
        self.bitrate_kbps += other.bitrate_kbps;
    }

    /// Returns the mean of one of the sums, or `None` before the first report.
    pub fn mean(&self, sum: f64) -> Option<f64> {
        (self.reports > 0).then(|| sum / f64::from(self.reports))
    }
}

/// The role of one participant in the WebRTC negotiation with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiation {
    /// True if the participant makes the first offer.
    pub makes_offer: bool,
    /// True if the participant gives way when offers collide.
    ///
    /// See "perfect negotiation" in the W3C's WebRTC 1.0.
    pub is_polite: bool,
}

/// A participant, and the join of it that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnConnection {
    pub participant: ParticipantId,
    /// The number of the join; `None` if the request names none.
    pub join: Option<i32>,
}

/// The reason why the state of a call does not allow a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// The call has ended for this reason.
    Ended(CallEndReason),
    /// The user is in the call on another device.
    OnAnotherDevice,
    /// The device is in another call.
    InAnotherCall,
    /// The call has this maximum number of participants.
    Full(usize),
    /// The call does not ring for the user.
    NotRinging,
    /// The user is not in the call.
    NotJoined,
    /// The user was removed from the call.
    Barred,
    /// The request does not name the participant's present connection.
    StaleConnection,
}

impl From<CallRefusal> for Error {
    fn from(refusal: CallRefusal) -> Self {
        let (reason, message) = match refusal {
            CallRefusal::Ended(_) => ("CALL_ENDED", "the call has ended".into()),
            CallRefusal::OnAnotherDevice => ("ON_OTHER_DEVICE", "you are in this call on another device".into()),
            CallRefusal::InAnotherCall => {
                ("IN_OTHER_CALL", "this device is in another call; leave that call first".into())
            }
            CallRefusal::Full(max) => {
                ("CALL_FULL", format!("the call is full: it can have at most {max} participants"))
            }
            CallRefusal::NotRinging => ("NOT_RINGING", "the call does not ring for you".into()),
            CallRefusal::NotJoined => ("NOT_IN_CALL", "the participant is not in the call".into()),
            CallRefusal::Barred => ("REMOVED_FROM_CALL", "you were removed from this call".into()),
            CallRefusal::StaleConnection => (
                "STALE_CONNECTION",
                "the participant has joined again; connectionId must name the present connection".into(),
            ),
        };
        let end_reason = match refusal {
            CallRefusal::Ended(reason) => Some(reason.into()),
            _ => None,
        };
        Self::CallConflict { message, reason, end_reason }
    }
}

impl Call {
    /// The maximum length of a device's name, in characters.
    pub const MAX_DEVICE_CHARS: usize = 128;

    pub fn status(&self) -> CallStatus {
        match (self.end, self.answered_at) {
            (Some(_), _) => CallStatus::Ended,
            (None, Some(_)) => CallStatus::Active,
            (None, None) => CallStatus::Ringing,
        }
    }

    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Returns the time between the answer and the end, or `None` if there was no answer or end.
    pub fn duration(&self) -> Option<TimeDelta> {
        let (ended_at, _) = self.end?;
        Some(ended_at - self.answered_at?)
    }

    pub fn participant(&self, user: &UserId) -> Option<&Participant> {
        self.participant_index(user).map(|index| &self.participants[index])
    }

    fn participant_index(&self, user: &UserId) -> Option<usize> {
        self.participants.iter().position(|participant| participant.user == *user)
    }

    /// Returns the participant of a user who is in the call.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`] after the call's end, [`CallRefusal::NotJoined`] for any other user.
    pub fn require_joined(&self, user: &UserId) -> Result<&Participant, CallRefusal> {
        self.require_ongoing()?;
        self.participant(user).filter(|participant| participant.is_joined()).ok_or(CallRefusal::NotJoined)
    }

    /// Checks that the call has not ended.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`] after the call's end.
    pub fn require_ongoing(&self) -> Result<(), CallRefusal> {
        self.end.map_or(Ok(()), |(_, reason)| Err(CallRefusal::Ended(reason)))
    }

    /// Checks that a request of a user is from the device that joined last.
    ///
    /// A request that names no `join` can only be attributed if the user has joined once.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::StaleConnection`] if the user has joined again since, or may have.
    pub fn require_connection(&self, user: &UserId, join: Option<i32>) -> Result<(), CallRefusal> {
        let joins = self.participant(user).map_or(0, |participant| participant.joins);
        let is_present = join.map_or(joins <= 1, |join| join == joins);
        if is_present { Ok(()) } else { Err(CallRefusal::StaleConnection) }
    }

    /// Returns the participant of a connection that is in the call.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`] after the call's end, [`CallRefusal::StaleConnection`] if the participant has
    /// joined again since, [`CallRefusal::NotJoined`] if they have left.
    pub fn require_connected(&self, connection: &ConnectionId) -> Result<&Participant, CallRefusal> {
        let user = &connection.participant.user;
        self.require_ongoing()?;
        self.require_connection(user, Some(connection.join))?;
        self.require_joined(user)
    }

    /// Returns the connection by which a participant is in the call, or was last.
    pub fn connection_id(&self, participant: &Participant) -> ConnectionId {
        ConnectionId { participant: self.participant_id(participant), join: participant.joins }
    }

    pub fn participant_id(&self, participant: &Participant) -> ParticipantId {
        ParticipantId { call: self.id, user: participant.user.clone() }
    }

    /// Returns the call's direction for a participant, or `None` for another user.
    pub fn direction(&self, user: &UserId) -> Option<CallDirection> {
        self.participant(user)?;
        Some(if self.started_by == *user { CallDirection::Outgoing } else { CallDirection::Incoming })
    }

    /// Returns the time at which ringing times out, or `None` if the call does not ring.
    pub fn pending_ring_timeout(&self) -> Option<DateTime<Utc>> {
        let is_ringing = !self.has_ended() && (self.answered_at.is_none() || self.has_ringing_participant());
        is_ringing.then_some(self.rings_until)
    }

    /// Returns the role of one joined participant in the negotiation with another joined participant.
    ///
    /// The participant who joined later makes the offer: a device that rejoins has lost its connections and
    /// is the one that has to begin.
    pub fn negotiation(&self, own: &UserId, other: &UserId) -> Option<Negotiation> {
        let (own, other) = (self.require_joined(own).ok()?, self.require_joined(other).ok()?);
        let joined_later = own.joined_version > other.joined_version;
        (own.user != other.user).then_some(Negotiation { makes_offer: joined_later, is_polite: joined_later })
    }

    /// Returns the sums of the quality reports of all participants.
    pub fn quality(&self) -> Quality {
        let mut sum = Quality::default();
        self.participants.iter().for_each(|participant| sum.add(&participant.quality));
        sum
    }

    fn has_ringing_participant(&self) -> bool {
        self.participants.iter().any(|participant| participant.status == ParticipantStatus::Ringing)
    }

    fn joined_count(&self) -> usize {
        self.participants.iter().filter(|participant| participant.is_joined()).count()
    }
}

/// A range of time that includes the first moment and excludes the second.
pub type TimeRange = (DateTime<Utc>, DateTime<Utc>);

/// Statistics of an organisation's calls in a range of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallStatistics {
    /// The number of calls that started in the range and have ended.
    pub calls: i64,
    pub answered: i64,
    /// The number of calls that nobody answered or declined.
    pub missed: i64,
    pub declined: i64,
    /// The time from answer to end, over all calls.
    pub talk_seconds: f64,
}

/// The conditions that a user's listed calls meet.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    pub chat: Option<ChatId>,
    pub kinds: Option<Vec<CallKind>>,
    /// True to list only calls that rang for the user until they ended.
    pub missed_only: bool,
    /// The earliest start.
    pub since: Option<DateTime<Utc>>,
    /// The time before which a call started.
    pub until: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests;
