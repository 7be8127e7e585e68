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
pub struct CallRules {
    /// Unanswered for so long, it is missed.
    pub ring: TimeDelta,
    /// With nobody but one in it for so long, it ends.
    pub alone: TimeDelta,
    /// Who has not listened to it for so long has left.
    pub lost: TimeDelta,
    /// People who may be in it at once.
    pub most: usize,
}

impl CallRules {
    /// Who joined and never listened is given so long to begin.
    pub fn first(&self) -> TimeDelta {
        self.lost * 4
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
    pub alone_since: Option<DateTime<Utc>>,
    pub end: Option<(DateTime<Utc>, CallEndReason)>,
    /// The number of its last change, or of its last signal.
    pub version: i64,
    /// The version at the last change of what is its own.
    pub own_version: i64,
    /// When it last changed but for signals.
    pub changed_at: DateTime<Utc>,
    /// Signals up to this version are kept no more.
    pub forgotten: i64,
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
    pub forgotten: i64,
    /// While they are in: who has not listened again by then has left.
    pub expires_at: Option<DateTime<Utc>>,
    /// Their device listens to the call, as far as is known.
    pub is_listening: bool,
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
    pub offers: bool,
    /// Gives way where offers collide.
    pub is_polite: bool,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    Ended,
    /// The person is in by another device.
    Elsewhere,
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
            CallRefusal::Elsewhere => "you are in this call on another device".into(),
            CallRefusal::Full(most) => format!("the call is full: at most {most} may be in"),
            CallRefusal::NotRinging => "the call does not ring for you".into(),
            CallRefusal::NotJoined => "not in the call: join it first".into(),
        })
    }
}

/// What happens when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    RungOut,
    Alone,
    /// The participant at this place.
    Lost(usize),
}

impl Call {
    /// Longest name of a device, in characters.
    pub const MAX_DEVICE: usize = 128;

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
        rules: &CallRules,
        now: DateTime<Utc>,
    ) -> Self {
        let mut call = Self {
            id,
            organization,
            kind,
            started_by: by.clone(),
            started_at: now,
            rings_until: now + rules.ring,
            answered_at: None,
            alone_since: None,
            end: None,
            version: 1,
            own_version: 1,
            changed_at: now,
            forgotten: 0,
            participants: Vec::new(),
        };
        let place = call.place(&by);
        call.enter(place, device, media, rules, now);
        for user in rung {
            let place = call.place(&user);
            call.change(place, now, |participant| participant.status = ParticipantStatus::Ringing);
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
        self.find(user).map(|place| &self.participants[place])
    }

    fn find(&self, user: &UserId) -> Option<usize> {
        self.participants.iter().position(|participant| participant.user == *user)
    }

    /// A participant who is in.
    pub fn joined(&self, user: &UserId) -> Result<&Participant, CallRefusal> {
        if self.has_ended() {
            return Err(CallRefusal::Ended);
        }
        self.participant(user).filter(|participant| participant.is_in()).ok_or(CallRefusal::NotJoined)
    }

    pub fn id_of(&self, participant: &Participant) -> ParticipantId {
        ParticipantId { call: self.id, user: participant.user.clone() }
    }

    /// Which way it went for a person; none for one who had no part.
    pub fn direction(&self, user: &UserId) -> Option<CallDirection> {
        self.participant(user)?;
        Some(if self.started_by == *user { CallDirection::Outgoing } else { CallDirection::Incoming })
    }

    /// Until when it rings for anybody.
    pub fn rings_until(&self) -> Option<DateTime<Utc>> {
        let rings = !self.has_ended() && (self.answered_at.is_none() || self.is_ringing_for_any());
        rings.then_some(self.rings_until)
    }

    /// How one who is in negotiates with another who is: the later offers.
    pub fn negotiation(&self, own: &UserId, other: &UserId) -> Option<Negotiation> {
        let (own, other) = (self.joined(own).ok()?, self.joined(other).ok()?);
        let later = own.joined_version > other.joined_version;
        (own.user != other.user).then_some(Negotiation { offers: later, is_polite: later })
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
        rules: &CallRules,
        now: DateTime<Utc>,
    ) -> Result<(), CallRefusal> {
        if self.has_ended() {
            return Err(CallRefusal::Ended);
        }
        let known = self.participant(user).filter(|participant| participant.is_in());
        if known.is_some_and(|participant| participant.device != device) {
            return Err(CallRefusal::Elsewhere);
        }
        if known.is_none() && self.number_in() >= rules.most {
            return Err(CallRefusal::Full(rules.most));
        }
        let place = self.place(user);
        self.enter(place, device, media, rules, now);
        if self.answered_at.is_none() && *user != self.started_by {
            self.answered_at = Some(now);
            self.changed(now);
        }
        self.settle(now);
        Ok(())
    }

    /// A person does not want to come in; again changes nothing.
    pub fn decline(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let place = self.find(user).ok_or(CallRefusal::NotRinging)?;
        match self.participants[place].status {
            ParticipantStatus::Declined => return Ok(()),
            ParticipantStatus::Ringing if !self.has_ended() => {}
            _ if self.has_ended() => return Err(CallRefusal::Ended),
            _ => return Err(CallRefusal::NotRinging),
        }
        self.stop_ringing(place, ParticipantStatus::Declined, CallEndReason::Declined, now);
        Ok(())
    }

    /// A participant goes; again changes nothing.
    pub fn leave(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let place = self.find(user).ok_or(CallRefusal::NotJoined)?;
        match self.participants[place].status {
            ParticipantStatus::Left => return Ok(()),
            ParticipantStatus::Joined => {}
            _ => return Err(CallRefusal::NotJoined),
        }
        self.go(place, CallEndReason::Cancelled, now);
        Ok(())
    }

    /// Somebody ends it for all; again changes nothing. For whom it rings declines it by that.
    pub fn end(&mut self, by: &UserId, now: DateTime<Utc>) {
        if self.has_ended() {
            return;
        }
        let rings = |participant: &Participant| participant.status == ParticipantStatus::Ringing;
        let declines = self.find(by).filter(|place| rings(&self.participants[*place]));
        if let Some(place) = declines {
            self.change(place, now, |participant| participant.status = ParticipantStatus::Declined);
        }
        let reason = match self.answered_at {
            Some(_) => CallEndReason::Completed,
            None if declines.is_some() && !self.is_ringing_for_any() => CallEndReason::Declined,
            None => CallEndReason::Cancelled,
        };
        self.finish(reason, now);
    }

    /// A person may not be in any more, nor is it to ring for them.
    pub fn remove(&mut self, user: &UserId, now: DateTime<Utc>) {
        let Some(place) = self.find(user).filter(|_| !self.has_ended()) else { return };
        match self.participants[place].status {
            ParticipantStatus::Joined => self.go(place, CallEndReason::Cancelled, now),
            ParticipantStatus::Ringing => {
                self.stop_ringing(place, ParticipantStatus::Missed, CallEndReason::Missed, now);
            }
            ParticipantStatus::Left | ParticipantStatus::Declined | ParticipantStatus::Missed => {}
        }
    }

    /// What a participant sends of themselves.
    pub fn set_media(&mut self, user: &UserId, media: Media, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        if self.joined(user)?.media != media {
            let place = self.place(user);
            self.change(place, now, |participant| participant.media = media);
        }
        Ok(())
    }

    /// What a device found out about its connections: during the call, or just after it.
    pub fn report(&mut self, user: &UserId, quality: &Quality, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        const AFTER: TimeDelta = TimeDelta::minutes(1);
        if self.end.is_some_and(|(at, _)| now > at + AFTER) {
            return Err(CallRefusal::Ended);
        }
        let place = self.find(user).filter(|place| self.participants[*place].joined_at.is_some());
        self.participants[place.ok_or(CallRefusal::NotJoined)?].quality.add(quality);
        // Of interest to who follows the call, and to no list of calls.
        self.version += 1;
        self.own_version = self.version;
        Ok(())
    }

    /// Lets pass what was to happen by now, each at its own moment; but for who is lost: that is known only
    /// when all who are there have been heard.
    pub fn pass(&mut self, rules: &CallRules, now: DateTime<Utc>) {
        self.pass_by(now, |call| call.timers(rules).min_by_key(|(at, _)| *at));
    }

    /// The same with who is lost.
    pub fn pass_all(&mut self, rules: &CallRules, now: DateTime<Utc>) {
        self.pass_by(now, |call| call.timers(rules).chain(call.leases()).min_by_key(|(at, _)| *at));
    }

    fn pass_by(&mut self, now: DateTime<Utc>, next: impl Fn(&Self) -> Option<(DateTime<Utc>, Deadline)>) {
        while let Some((at, deadline)) = next(self).filter(|(at, _)| *at <= now) {
            match deadline {
                Deadline::RungOut if self.answered_at.is_none() => self.finish(CallEndReason::Missed, at),
                Deadline::RungOut => self.miss(at),
                Deadline::Alone => self.finish(CallEndReason::Completed, at),
                Deadline::Lost(place) => self.go(place, CallEndReason::Failed, at),
            }
        }
    }

    /// When it next has to be looked at, but for who may be lost by then; never once it has ended.
    pub fn due_at(&self, rules: &CallRules) -> Option<DateTime<Utc>> {
        self.timers(rules).map(|(at, _)| at).min()
    }

    fn timers(&self, rules: &CallRules) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        let rung_out = self.rings_until().map(|at| (at, Deadline::RungOut));
        let alone = self.alone_since.map(|since| (since + rules.alone, Deadline::Alone));
        rung_out.into_iter().chain(alone)
    }

    /// When which participants are lost, if they are not heard of again.
    fn leases(&self) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        let participants = self.participants.iter().enumerate();
        participants.filter_map(|(place, participant)| Some((participant.expires_at?, Deadline::Lost(place))))
    }

    fn is_ringing_for_any(&self) -> bool {
        self.participants.iter().any(|participant| participant.status == ParticipantStatus::Ringing)
    }

    fn number_in(&self) -> usize {
        self.participants.iter().filter(|participant| participant.is_in()).count()
    }

    /// A person's place among the participants, made where they have none.
    fn place(&mut self, user: &UserId) -> usize {
        if let Some(place) = self.find(user) {
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
            forgotten: 0,
            expires_at: None,
            is_listening: false,
            quality: Quality::default(),
        });
        self.participants.len() - 1
    }

    fn enter(&mut self, place: usize, device: String, media: Media, rules: &CallRules, now: DateTime<Utc>) {
        let expires_at = Some(now + rules.first());
        self.change(place, now, |participant| {
            participant.status = ParticipantStatus::Joined;
            participant.device = device;
            participant.joined_at = Some(now);
            participant.left_at = None;
            participant.media = media;
            participant.expires_at = expires_at;
            participant.is_listening = false;
        });
        self.participants[place].joined_version = self.version;
    }

    /// One goes; where nobody is left, the call ends. Unanswered, it ends for this reason.
    fn go(&mut self, place: usize, unanswered: CallEndReason, now: DateTime<Utc>) {
        self.change(place, now, |participant| participant.part(now));
        if self.number_in() == 0 {
            let reason = if self.answered_at.is_some() { CallEndReason::Completed } else { unanswered };
            self.finish(reason, now);
        }
        self.settle(now);
    }

    /// It rings for one no more. Where nobody is left who could answer, an unanswered call ends for this reason.
    fn stop_ringing(&mut self, place: usize, status: ParticipantStatus, unanswered: CallEndReason, now: DateTime<Utc>) {
        self.change(place, now, |participant| participant.status = status);
        if self.answered_at.is_none() && !self.is_ringing_for_any() {
            self.finish(unanswered, now);
        }
    }

    /// Nobody for whom it rings answers any more.
    fn miss(&mut self, now: DateTime<Utc>) {
        for place in 0..self.participants.len() {
            if self.participants[place].status == ParticipantStatus::Ringing {
                self.change(place, now, |participant| participant.status = ParticipantStatus::Missed);
            }
        }
    }

    fn finish(&mut self, reason: CallEndReason, now: DateTime<Utc>) {
        self.miss(now);
        for place in 0..self.participants.len() {
            if self.participants[place].is_in() {
                self.change(place, now, |participant| participant.part(now));
            }
        }
        self.end = Some((now, reason));
        self.alone_since = None;
        self.changed(now);
    }

    /// Notes whether one is alone in the answered call.
    fn settle(&mut self, now: DateTime<Utc>) {
        let alone = self.status() == CallStatus::Active && self.number_in() == 1;
        self.alone_since = alone.then(|| self.alone_since.unwrap_or(now));
    }

    fn change(&mut self, place: usize, now: DateTime<Utc>, change: impl FnOnce(&mut Participant)) {
        self.version += 1;
        self.changed_at = now;
        let participant = &mut self.participants[place];
        participant.version = self.version;
        change(participant);
    }

    fn changed(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.own_version = self.version;
        self.changed_at = now;
    }
}

impl Participant {
    pub fn is_in(&self) -> bool {
        self.status == ParticipantStatus::Joined
    }

    fn part(&mut self, now: DateTime<Utc>) {
        self.status = ParticipantStatus::Left;
        self.left_at = Some(now);
        self.expires_at = None;
        self.is_listening = false;
    }
}

/// Between these moments, the second excluded.
pub type Span = (DateTime<Utc>, DateTime<Utc>);

/// What calls of an organisation came to in a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CallTotals {
    /// Calls that were begun, and have ended.
    pub calls: i64,
    pub answered: i64,
    /// That nobody answered and nobody declined.
    pub missed: i64,
    pub declined: i64,
    /// From the answer to the end, over all of them.
    pub talked_seconds: f64,
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
