//! A call from its first ring to its end: a machine of states that knows no clock but what it is told.
//!
//! What it may do is its table in `docs/CALLS.md`; `calls/tests.rs` holds it to a model.

use chrono::{DateTime, TimeDelta, Utc};
use strum::{EnumString, IntoStaticStr};

use crate::domain::ids::{CallId, ChatId, OrganizationId, ParticipantId, UserId};
use crate::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallKind {
    Audio,
    Video,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    Ringing,
    Active,
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallEndReason {
    Completed,
    Missed,
    Declined,
    Cancelled,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ParticipantStatus {
    Ringing,
    Joined,
    Left,
    Declined,
    Missed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallDirection {
    Incoming,
    Outgoing,
}

/// What a participant sends of themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Media {
    pub audio: bool,
    pub video: bool,
    pub screen: bool,
}

/// How long things of a call take, and how many may be in.
#[derive(Debug, Clone, Copy)]
pub struct CallTimeouts {
    /// Unanswered for so long, it is missed.
    pub ring_timeout: TimeDelta,
    /// With nobody but one in it for so long, it ends.
    pub alone_timeout: TimeDelta,
    /// Who has not listened to it for so long has left.
    pub disconnect_timeout: TimeDelta,
    /// People who may be in it at once.
    pub max_participants: usize,
}

impl CallTimeouts {
    /// Who joined and never listened is given so long to begin.
    pub fn initial_connect_timeout(&self) -> TimeDelta {
        self.disconnect_timeout * 4
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub id: CallId,
    pub organization: OrganizationId,
    pub kind: CallKind,
    pub started_by: UserId,
    pub started_at: DateTime<Utc>,
    pub rings_until: DateTime<Utc>,
    pub answered_at: Option<DateTime<Utc>>,
    /// Since when there is but one in the answered call.
    pub sole_participant_since: Option<DateTime<Utc>>,
    pub end: Option<(DateTime<Utc>, CallEndReason)>,
    /// The number of its last change, or of its last signal.
    pub version: i64,
    /// The version at the last change of what is its own.
    pub state_version: i64,
    /// When it last changed but for signals.
    pub state_changed_at: DateTime<Utc>,
    /// Signals up to this version are kept no more.
    pub signals_pruned_to: i64,
    /// In the order in which they came.
    pub participants: Vec<Participant>,
}

/// A person in a call, on the device by which they are in.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    pub user: UserId,
    /// Empty for one who has not answered.
    pub device: String,
    pub status: ParticipantStatus,
    pub joined_at: Option<DateTime<Utc>>,
    pub left_at: Option<DateTime<Utc>>,
    pub media: Media,
    /// The call's version at their last change.
    pub version: i64,
    /// The call's version when they joined: signals of before are for nobody.
    pub joined_version: i64,
    /// Their signals up to this version are kept no more.
    pub signals_pruned_to: i64,
    /// While they are in: who has not listened again by then has left.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Their device listens to the call, as far as is known.
    pub has_open_feed: bool,
    pub quality: Quality,
}

/// Sums of what devices reported.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    pub reports: i32,
    pub round_trip_ms: f64,
    pub packet_loss_percent: f64,
    pub bitrate_kbps: f64,
}

impl Quality {
    pub fn add(&mut self, other: &Self) {
        self.reports += other.reports;
        self.round_trip_ms += other.round_trip_ms;
        self.packet_loss_percent += other.packet_loss_percent;
        self.bitrate_kbps += other.bitrate_kbps;
    }

    /// The mean of one of the sums; none before the first report.
    pub fn mean(&self, sum: f64) -> Option<f64> {
        (self.reports > 0).then(|| sum / f64::from(self.reports))
    }
}

/// How one participant negotiates with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiation {
    /// Makes the first offer.
    pub makes_offer: bool,
    /// Gives way where offers collide.
    pub is_polite: bool,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    Ended,
    /// The person is in by another device.
    OnAnotherDevice,
    Full(usize),
    /// It does not ring for this person.
    NotRinging,
    /// The person is not in.
    NotJoined,
}

impl From<CallRefusal> for Error {
    fn from(refusal: CallRefusal) -> Self {
        Self::Conflict(match refusal {
            CallRefusal::Ended => "the call has ended".into(),
            CallRefusal::OnAnotherDevice => "you are in this call on another device".into(),
            CallRefusal::Full(most) => format!("the call is full: at most {most} may be in"),
            CallRefusal::NotRinging => "the call does not ring for you".into(),
            CallRefusal::NotJoined => "not in the call: join it first".into(),
        })
    }
}

/// What happens when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    RingTimeout,
    AloneTimeout,
    /// The participant at this place.
    Disconnected(usize),
}

impl Call {
    /// Longest name of a device, in characters.
    pub const MAX_DEVICE_CHARS: usize = 128;

    /// A call that rings for some, and has whom it was started by in it.
    #[expect(clippy::too_many_arguments, reason = "each is another thing that a call begins with")]
    pub fn start(
        id: CallId,
        organization: OrganizationId,
        kind: CallKind,
        by: UserId,
        device: String,
        media: Media,
        rung: impl IntoIterator<Item = UserId>,
        rules: &CallTimeouts,
        now: DateTime<Utc>,
    ) -> Self {
        let mut call = Self {
            id,
            organization,
            kind,
            started_by: by.clone(),
            started_at: now,
            rings_until: now + rules.ring_timeout,
            answered_at: None,
            sole_participant_since: None,
            end: None,
            version: 1,
            state_version: 1,
            state_changed_at: now,
            signals_pruned_to: 0,
            participants: Vec::new(),
        };
        let place = call.participant_index_or_insert(&by);
        call.admit(place, device, media, rules, now);
        for user in rung {
            let place = call.participant_index_or_insert(&user);
            call.update_participant(place, now, |participant| participant.status = ParticipantStatus::Ringing);
        }
        call
    }

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

    /// How long people talked.
    pub fn duration(&self) -> Option<TimeDelta> {
        let (ended_at, _) = self.end?;
        Some(ended_at - self.answered_at?)
    }

    pub fn participant(&self, user: &UserId) -> Option<&Participant> {
        self.participant_index(user).map(|place| &self.participants[place])
    }

    fn participant_index(&self, user: &UserId) -> Option<usize> {
        self.participants.iter().position(|participant| participant.user == *user)
    }

    /// A participant who is in.
    pub fn require_joined(&self, user: &UserId) -> Result<&Participant, CallRefusal> {
        if self.has_ended() {
            return Err(CallRefusal::Ended);
        }
        self.participant(user).filter(|participant| participant.is_joined()).ok_or(CallRefusal::NotJoined)
    }

    pub fn participant_id(&self, participant: &Participant) -> ParticipantId {
        ParticipantId { call: self.id, user: participant.user.clone() }
    }

    /// Which way it went for a person; none for one who had no part.
    pub fn direction(&self, user: &UserId) -> Option<CallDirection> {
        self.participant(user)?;
        Some(if self.started_by == *user { CallDirection::Outgoing } else { CallDirection::Incoming })
    }

    /// Until when it rings for anybody.
    pub fn pending_ring_timeout(&self) -> Option<DateTime<Utc>> {
        let rings = !self.has_ended() && (self.answered_at.is_none() || self.has_ringing_participant());
        rings.then_some(self.rings_until)
    }

    /// How one who is in negotiates with another who is: the later offers.
    pub fn negotiation(&self, own: &UserId, other: &UserId) -> Option<Negotiation> {
        let (own, other) = (self.require_joined(own).ok()?, self.require_joined(other).ok()?);
        let later = own.joined_version > other.joined_version;
        (own.user != other.user).then_some(Negotiation { makes_offer: later, is_polite: later })
    }

    pub fn quality(&self) -> Quality {
        let mut sum = Quality::default();
        self.participants.iter().for_each(|participant| sum.add(&participant.quality));
        sum
    }

    /// A person comes in, by a device. Who is in already by the same device begins anew: it lost what it knew.
    pub fn join(
        &mut self,
        user: &UserId,
        device: String,
        media: Media,
        rules: &CallTimeouts,
        now: DateTime<Utc>,
    ) -> Result<(), CallRefusal> {
        if self.has_ended() {
            return Err(CallRefusal::Ended);
        }
        let known = self.participant(user).filter(|participant| participant.is_joined());
        if known.is_some_and(|participant| participant.device != device) {
            return Err(CallRefusal::OnAnotherDevice);
        }
        if known.is_none() && self.joined_count() >= rules.max_participants {
            return Err(CallRefusal::Full(rules.max_participants));
        }
        let place = self.participant_index_or_insert(user);
        self.admit(place, device, media, rules, now);
        if self.answered_at.is_none() && *user != self.started_by {
            self.answered_at = Some(now);
            self.bump_version(now);
        }
        self.check_alone(now);
        Ok(())
    }

    /// A person does not want to come in; again changes nothing.
    pub fn decline(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let place = self.participant_index(user).ok_or(CallRefusal::NotRinging)?;
        match self.participants[place].status {
            ParticipantStatus::Declined => return Ok(()),
            ParticipantStatus::Ringing if !self.has_ended() => {}
            _ if self.has_ended() => return Err(CallRefusal::Ended),
            _ => return Err(CallRefusal::NotRinging),
        }
        self.cancel_ringing(place, ParticipantStatus::Declined, CallEndReason::Declined, now);
        Ok(())
    }

    /// A participant goes; again changes nothing.
    pub fn leave(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let place = self.participant_index(user).ok_or(CallRefusal::NotJoined)?;
        match self.participants[place].status {
            ParticipantStatus::Left => return Ok(()),
            ParticipantStatus::Joined => {}
            _ => return Err(CallRefusal::NotJoined),
        }
        self.depart(place, CallEndReason::Cancelled, now);
        Ok(())
    }

    /// Somebody ends it for all; again changes nothing. For whom it rings declines it by that.
    pub fn end(&mut self, by: &UserId, now: DateTime<Utc>) {
        if self.has_ended() {
            return;
        }
        let rings = |participant: &Participant| participant.status == ParticipantStatus::Ringing;
        let declines = self.participant_index(by).filter(|place| rings(&self.participants[*place]));
        if let Some(place) = declines {
            self.update_participant(place, now, |participant| participant.status = ParticipantStatus::Declined);
        }
        let reason = match self.answered_at {
            Some(_) => CallEndReason::Completed,
            None if declines.is_some() && !self.has_ringing_participant() => CallEndReason::Declined,
            None => CallEndReason::Cancelled,
        };
        self.finish(reason, now);
    }

    /// A person may not be in any more, nor is it to ring for them.
    pub fn remove(&mut self, user: &UserId, now: DateTime<Utc>) {
        let Some(place) = self.participant_index(user).filter(|_| !self.has_ended()) else { return };
        match self.participants[place].status {
            ParticipantStatus::Joined => self.depart(place, CallEndReason::Cancelled, now),
            ParticipantStatus::Ringing => {
                self.cancel_ringing(place, ParticipantStatus::Missed, CallEndReason::Missed, now);
            }
            ParticipantStatus::Left | ParticipantStatus::Declined | ParticipantStatus::Missed => {}
        }
    }

    /// What a participant sends of themselves.
    pub fn set_media(&mut self, user: &UserId, media: Media, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        if self.require_joined(user)?.media != media {
            let place = self.participant_index_or_insert(user);
            self.update_participant(place, now, |participant| participant.media = media);
        }
        Ok(())
    }

    /// What a device found out about its connections: during the call, or just after it.
    pub fn report_quality(&mut self, user: &UserId, quality: &Quality, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        const REPORT_GRACE: TimeDelta = TimeDelta::minutes(1);
        if self.end.is_some_and(|(at, _)| now > at + REPORT_GRACE) {
            return Err(CallRefusal::Ended);
        }
        let place = self.participant_index(user).filter(|place| self.participants[*place].joined_at.is_some());
        self.participants[place.ok_or(CallRefusal::NotJoined)?].quality.add(quality);
        // Of interest to who follows the call, and to no list of calls.
        self.version += 1;
        self.state_version = self.version;
        Ok(())
    }

    /// Lets pass what was to happen by now, each at its own moment; but for who is lost: that is known only
    /// when all who are there have been heard.
    pub fn advance(&mut self, rules: &CallTimeouts, now: DateTime<Utc>) {
        self.apply_deadlines(now, |call| call.timeouts(rules).min_by_key(|(at, _)| *at));
    }

    /// The same with who is lost.
    pub fn advance_all(&mut self, rules: &CallTimeouts, now: DateTime<Utc>) {
        self.apply_deadlines(now, |call| call.timeouts(rules).chain(call.lease_deadlines()).min_by_key(|(at, _)| *at));
    }

    fn apply_deadlines(&mut self, now: DateTime<Utc>, next: impl Fn(&Self) -> Option<(DateTime<Utc>, Deadline)>) {
        while let Some((at, deadline)) = next(self).filter(|(at, _)| *at <= now) {
            match deadline {
                Deadline::RingTimeout if self.answered_at.is_none() => self.finish(CallEndReason::Missed, at),
                Deadline::RingTimeout => self.mark_missed(at),
                Deadline::AloneTimeout => self.finish(CallEndReason::Completed, at),
                Deadline::Disconnected(place) => self.depart(place, CallEndReason::Failed, at),
            }
        }
    }

    /// When it next has to be looked at, but for who may be lost by then; never once it has ended.
    pub fn due_at(&self, rules: &CallTimeouts) -> Option<DateTime<Utc>> {
        self.timeouts(rules).map(|(at, _)| at).min()
    }

    fn timeouts(&self, rules: &CallTimeouts) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        let rung_out = self.pending_ring_timeout().map(|at| (at, Deadline::RingTimeout));
        let alone = self.sole_participant_since.map(|since| (since + rules.alone_timeout, Deadline::AloneTimeout));
        rung_out.into_iter().chain(alone)
    }

    /// When which participants are lost, if they are not heard of again.
    fn lease_deadlines(&self) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        let participants = self.participants.iter().enumerate();
        participants
            .filter_map(|(place, participant)| Some((participant.lease_expires_at?, Deadline::Disconnected(place))))
    }

    fn has_ringing_participant(&self) -> bool {
        self.participants.iter().any(|participant| participant.status == ParticipantStatus::Ringing)
    }

    fn joined_count(&self) -> usize {
        self.participants.iter().filter(|participant| participant.is_joined()).count()
    }

    /// A person's place among the participants, made where they have none.
    fn participant_index_or_insert(&mut self, user: &UserId) -> usize {
        if let Some(place) = self.participant_index(user) {
            return place;
        }
        self.participants.push(Participant {
            user: user.clone(),
            device: String::new(),
            status: ParticipantStatus::Left,
            joined_at: None,
            left_at: None,
            media: Media::default(),
            version: 0,
            joined_version: 0,
            signals_pruned_to: 0,
            lease_expires_at: None,
            has_open_feed: false,
            quality: Quality::default(),
        });
        self.participants.len() - 1
    }

    fn admit(&mut self, place: usize, device: String, media: Media, rules: &CallTimeouts, now: DateTime<Utc>) {
        let expires_at = Some(now + rules.initial_connect_timeout());
        self.update_participant(place, now, |participant| {
            participant.status = ParticipantStatus::Joined;
            participant.device = device;
            participant.joined_at = Some(now);
            participant.left_at = None;
            participant.media = media;
            participant.lease_expires_at = expires_at;
            participant.has_open_feed = false;
        });
        self.participants[place].joined_version = self.version;
    }

    /// One goes; where nobody is left, the call ends. Unanswered, it ends for this reason.
    fn depart(&mut self, place: usize, unanswered: CallEndReason, now: DateTime<Utc>) {
        self.update_participant(place, now, |participant| participant.mark_left(now));
        if self.joined_count() == 0 {
            let reason = if self.answered_at.is_some() { CallEndReason::Completed } else { unanswered };
            self.finish(reason, now);
        }
        self.check_alone(now);
    }

    /// It rings for one no more. Where nobody is left who could answer, an unanswered call ends for this reason.
    fn cancel_ringing(
        &mut self,
        place: usize,
        status: ParticipantStatus,
        unanswered: CallEndReason,
        now: DateTime<Utc>,
    ) {
        self.update_participant(place, now, |participant| participant.status = status);
        if self.answered_at.is_none() && !self.has_ringing_participant() {
            self.finish(unanswered, now);
        }
    }

    /// Nobody for whom it rings answers any more.
    fn mark_missed(&mut self, now: DateTime<Utc>) {
        for place in 0..self.participants.len() {
            if self.participants[place].status == ParticipantStatus::Ringing {
                self.update_participant(place, now, |participant| participant.status = ParticipantStatus::Missed);
            }
        }
    }

    fn finish(&mut self, reason: CallEndReason, now: DateTime<Utc>) {
        self.mark_missed(now);
        for place in 0..self.participants.len() {
            if self.participants[place].is_joined() {
                self.update_participant(place, now, |participant| participant.mark_left(now));
            }
        }
        self.end = Some((now, reason));
        self.sole_participant_since = None;
        self.bump_version(now);
    }

    /// Notes whether one is alone in the answered call.
    fn check_alone(&mut self, now: DateTime<Utc>) {
        let alone = self.status() == CallStatus::Active && self.joined_count() == 1;
        self.sole_participant_since = alone.then(|| self.sole_participant_since.unwrap_or(now));
    }

    fn update_participant(&mut self, place: usize, now: DateTime<Utc>, change: impl FnOnce(&mut Participant)) {
        self.version += 1;
        self.state_changed_at = now;
        let participant = &mut self.participants[place];
        participant.version = self.version;
        change(participant);
    }

    fn bump_version(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.state_version = self.version;
        self.state_changed_at = now;
    }
}

impl Participant {
    pub fn is_joined(&self) -> bool {
        self.status == ParticipantStatus::Joined
    }

    fn mark_left(&mut self, now: DateTime<Utc>) {
        self.status = ParticipantStatus::Left;
        self.left_at = Some(now);
        self.lease_expires_at = None;
        self.has_open_feed = false;
    }
}

/// Between these moments, the second excluded.
pub type TimeRange = (DateTime<Utc>, DateTime<Utc>);

/// What calls of an organisation came to in a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallStatistics {
    /// Calls that were begun, and have ended.
    pub calls: i64,
    pub answered: i64,
    /// That nobody answered and nobody declined.
    pub missed: i64,
    pub declined: i64,
    /// From the answer to the end, over all of them.
    pub talk_seconds: f64,
}

/// Which calls of a person to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    pub chat: Option<ChatId>,
    pub kinds: Option<Vec<CallKind>>,
    /// Only those that rang for them until they were over.
    pub missed_only: bool,
    /// Begun at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Begun before this moment.
    pub until: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests;
