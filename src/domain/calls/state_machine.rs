//! The transitions of a call, from its first ring to its end.
//!
//! The table of transitions is in `docs/CALLS.md`; `tests.rs` compares the machine with that table and with
//! a model. No function reads a clock: the time is an argument.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::calls::{
    Call, CallEndReason, CallKind, CallRefusal, CallStatus, CallTimeouts, DeclineReason, Departure, Media, Participant,
    ParticipantStatus, Quality,
};
use crate::domain::ids::{CallId, OrganizationId, UserId};

/// The time after a call's end in which devices can still report its quality.
const REPORT_GRACE: TimeDelta = TimeDelta::minutes(1);

/// A transition that takes place at a known time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    RingTimeout,
    AloneTimeout,
    /// The lease of the participant with this index expires.
    Disconnected(usize),
}

impl Call {
    /// Starts a call that the caller has joined and that rings for the `callees`.
    ///
    /// Without callees the call is active at once, because nobody has to answer it.
    #[expect(clippy::too_many_arguments, reason = "these are the independent initial values of a call")]
    pub fn start(
        id: CallId,
        organization: OrganizationId,
        kind: CallKind,
        caller: UserId,
        device: String,
        media: Media,
        callees: impl IntoIterator<Item = UserId>,
        timeouts: &CallTimeouts,
        now: DateTime<Utc>,
    ) -> Self {
        let mut call = Self {
            id,
            organization,
            kind,
            started_by: caller.clone(),
            host: caller.clone(),
            started_at: now,
            rings_until: now + timeouts.ring_timeout,
            answered_at: None,
            sole_participant_since: None,
            end: None,
            version: 1,
            state_version: 1,
            state_changed_at: now,
            signals_pruned_to: 0,
            participants: Vec::new(),
        };
        let index = call.participant_index_or_insert(&caller);
        call.admit(index, device, media, timeouts, now);
        for callee in callees {
            let index = call.participant_index_or_insert(&callee);
            call.update_participant(index, now, |participant| participant.status = ParticipantStatus::Ringing);
        }
        if !call.has_ringing_participant() {
            call.answered_at = Some(now);
            call.bump_version(now);
            call.check_alone(now);
        }
        call
    }

    /// Lets a user join on a device.
    ///
    /// A user who is already in the call on the same device joins again, because the device has lost its state. With
    /// `take_over`, a user who is in the call on another device moves to this one.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`], [`CallRefusal::Barred`], [`CallRefusal::OnAnotherDevice`] or
    /// [`CallRefusal::Full`].
    pub fn join(
        &mut self,
        user: &UserId,
        device: String,
        media: Media,
        take_over: bool,
        timeouts: &CallTimeouts,
        now: DateTime<Utc>,
    ) -> Result<(), CallRefusal> {
        self.require_ongoing()?;
        if self.participant(user).is_some_and(|participant| participant.is_barred) {
            return Err(CallRefusal::Barred);
        }
        let joined = self.participant(user).filter(|participant| participant.is_joined());
        if !take_over && joined.is_some_and(|participant| participant.device != device) {
            return Err(CallRefusal::OnAnotherDevice);
        }
        if joined.is_none() && self.joined_count() >= timeouts.max_participants {
            return Err(CallRefusal::Full(timeouts.max_participants));
        }
        let index = self.participant_index_or_insert(user);
        self.admit(index, device, media, timeouts, now);
        if self.answered_at.is_none() && *user != self.started_by {
            self.answered_at = Some(now);
            self.bump_version(now);
        }
        self.check_alone(now);
        Ok(())
    }

    /// Declines the call for a user.
    ///
    /// Declining again has no effect.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::NotRinging`] if the call does not ring for the user, [`CallRefusal::Ended`] after its
    /// end.
    pub fn decline(&mut self, user: &UserId, reason: DeclineReason, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let index = self.participant_index(user).ok_or(CallRefusal::NotRinging)?;
        match self.participants[index].status {
            ParticipantStatus::Declined => return Ok(()),
            ParticipantStatus::Ringing => self.require_ongoing()?,
            _ => return self.require_ongoing().and(Err(CallRefusal::NotRinging)),
        }
        self.participants[index].decline_reason = Some(reason);
        let mut reasons = self.participants.iter().filter_map(|participant| participant.decline_reason);
        let is_busy = reasons.all(|reason| reason == DeclineReason::Busy);
        let unanswered = if is_busy { CallEndReason::Busy } else { CallEndReason::Declined };
        self.cancel_ringing(index, ParticipantStatus::Declined, unanswered, now);
        Ok(())
    }

    /// Lets a participant leave.
    ///
    /// Leaving again has no effect.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::NotJoined`] if the user has not been in the call.
    pub fn leave(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        let index = self.participant_index(user).ok_or(CallRefusal::NotJoined)?;
        match self.participants[index].status {
            ParticipantStatus::Left => return Ok(()),
            ParticipantStatus::Joined => {}
            _ => return Err(CallRefusal::NotJoined),
        }
        self.depart(index, Departure::Left, CallEndReason::Cancelled, now);
        Ok(())
    }

    /// Lets a participant leave a call of two, which ends it.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::NotJoined`] if the user has not been in the call.
    pub fn hang_up(&mut self, user: &UserId, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        self.leave(user, now)?;
        if !self.has_ended() {
            let is_answered = self.answered_at.is_some();
            self.finish(if is_answered { CallEndReason::Completed } else { CallEndReason::Cancelled }, now);
        }
        Ok(())
    }

    /// Ends the call for everyone.
    ///
    /// Ending an ended call has no effect.
    ///
    /// A user for whom the call rings declines it by ending it.
    pub fn end(&mut self, user: &UserId, now: DateTime<Utc>) {
        if self.has_ended() {
            return;
        }
        let is_ringing = |index: &usize| self.participants[*index].status == ParticipantStatus::Ringing;
        let declining = self.participant_index(user).filter(is_ringing);
        if let Some(index) = declining {
            self.update_participant(index, now, |participant| {
                participant.status = ParticipantStatus::Declined;
                participant.decline_reason = Some(DeclineReason::Declined);
            });
        }
        let reason = match self.answered_at {
            Some(_) => CallEndReason::Completed,
            None if declining.is_some() && !self.has_ringing_participant() => CallEndReason::Declined,
            None => CallEndReason::Cancelled,
        };
        self.finish(reason, now);
    }

    /// Ends the call because its chat was deleted.
    pub fn end_with_chat(&mut self, now: DateTime<Utc>) {
        if !self.has_ended() {
            self.finish(CallEndReason::ChatGone, now);
        }
    }

    /// Removes a user who is no longer a member of the chat: the user leaves, or the call stops ringing.
    pub fn remove(&mut self, user: &UserId, now: DateTime<Utc>) {
        let Some(index) = self.participant_index(user).filter(|_| !self.has_ended()) else { return };
        match self.participants[index].status {
            ParticipantStatus::Joined => self.depart(index, Departure::Removed, CallEndReason::Cancelled, now),
            ParticipantStatus::Ringing => {
                self.cancel_ringing(index, ParticipantStatus::Missed, CallEndReason::Missed, now);
            }
            ParticipantStatus::Left
            | ParticipantStatus::Declined
            | ParticipantStatus::Missed
            | ParticipantStatus::Removed => {}
        }
    }

    /// Removes a user who is in the call or for whom it rings, as a moderator of the chat wishes.
    ///
    /// With `is_barred` the user may not join the call again.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`], or [`CallRefusal::NotJoined`] if the call has nothing to remove the user from.
    pub fn remove_by_moderator(
        &mut self,
        user: &UserId,
        is_barred: bool,
        now: DateTime<Utc>,
    ) -> Result<(), CallRefusal> {
        self.require_ongoing()?;
        let index = self.participant_index(user).ok_or(CallRefusal::NotJoined)?;
        match self.participants[index].status {
            ParticipantStatus::Joined => self.depart(index, Departure::Removed, CallEndReason::Cancelled, now),
            ParticipantStatus::Ringing => {
                self.cancel_ringing(index, ParticipantStatus::Removed, CallEndReason::Missed, now);
            }
            ParticipantStatus::Removed if is_barred => {}
            _ => return Err(CallRefusal::NotJoined),
        }
        self.update_participant(index, now, |participant| {
            participant.status = ParticipantStatus::Removed;
            participant.is_barred |= is_barred;
        });
        Ok(())
    }

    /// Sets the media that a participant sends.
    ///
    /// The call's version stays if they don't differ.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`] or [`CallRefusal::NotJoined`].
    pub fn set_media(&mut self, user: &UserId, media: Media, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        if self.require_joined(user)?.media != media {
            let index = self.participant_index_or_insert(user);
            self.update_participant(index, now, |participant| participant.media = media);
        }
        Ok(())
    }

    /// Adds a report of a device about its connections, during the call or up to a minute after its end.
    ///
    /// # Errors
    ///
    /// Returns [`CallRefusal::Ended`] after that minute, [`CallRefusal::NotJoined`] if the user never joined.
    pub fn report_quality(&mut self, user: &UserId, quality: &Quality, now: DateTime<Utc>) -> Result<(), CallRefusal> {
        if self.end.is_some_and(|(ended_at, _)| now > ended_at + REPORT_GRACE) {
            self.require_ongoing()?;
        }
        let index = self.participant_index(user).filter(|index| self.participants[*index].joined_at.is_some());
        self.participants[index.ok_or(CallRefusal::NotJoined)?].quality.add(quality);
        // `state_changed_at` stays: lists of calls don't show the quality, so they don't have to change.
        self.version += 1;
        self.state_version = self.version;
        Ok(())
    }

    /// Applies the timeouts that are due by `now`, except disconnects.
    ///
    /// Each transition takes the time at which it was due. Disconnects are left out because leases are renewed in
    /// batches: only after all renewals are written is it known which participants are gone; then
    /// [`advance_all`](Self::advance_all) applies.
    pub fn advance(&mut self, timeouts: &CallTimeouts, now: DateTime<Utc>) {
        self.apply_deadlines(now, |call| call.timeouts(timeouts).min_by_key(|(due_at, _)| *due_at));
    }

    /// Applies the timeouts and disconnects that are due by `now`.
    pub fn advance_all(&mut self, timeouts: &CallTimeouts, now: DateTime<Utc>) {
        self.apply_deadlines(now, |call| {
            call.timeouts(timeouts).chain(call.lease_deadlines()).min_by_key(|(due_at, _)| *due_at)
        });
    }

    fn apply_deadlines(&mut self, now: DateTime<Utc>, next: impl Fn(&Self) -> Option<(DateTime<Utc>, Deadline)>) {
        while let Some((due_at, deadline)) = next(self).filter(|(due_at, _)| *due_at <= now) {
            match deadline {
                Deadline::RingTimeout if self.answered_at.is_none() => self.finish(CallEndReason::Missed, due_at),
                Deadline::RingTimeout => self.mark_missed(due_at),
                Deadline::AloneTimeout => self.finish(CallEndReason::Completed, due_at),
                Deadline::Disconnected(index) => self.depart(index, Departure::Lost, CallEndReason::Failed, due_at),
            }
        }
    }

    /// Returns the time of the next timeout without disconnects, or `None` once the call has ended.
    pub fn due_at(&self, timeouts: &CallTimeouts) -> Option<DateTime<Utc>> {
        self.timeouts(timeouts).map(|(due_at, _)| due_at).min()
    }

    fn timeouts(&self, timeouts: &CallTimeouts) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        let ring = self.pending_ring_timeout().map(|due_at| (due_at, Deadline::RingTimeout));
        let alone = self.sole_participant_since.map(|since| (since + timeouts.alone_timeout, Deadline::AloneTimeout));
        ring.into_iter().chain(alone)
    }

    /// Returns when the lease of each joined participant expires.
    fn lease_deadlines(&self) -> impl Iterator<Item = (DateTime<Utc>, Deadline)> {
        self.participants
            .iter()
            .enumerate()
            .filter_map(|(index, participant)| Some((participant.lease_expires_at?, Deadline::Disconnected(index))))
    }

    fn participant_index_or_insert(&mut self, user: &UserId) -> usize {
        if let Some(index) = self.participant_index(user) {
            return index;
        }
        self.participants.push(Participant {
            user: user.clone(),
            device: String::new(),
            status: ParticipantStatus::Left,
            joined_at: None,
            left_at: None,
            departure: None,
            media: Media::default(),
            version: 0,
            joined_version: 0,
            joins: 0,
            signals_pruned_to: 0,
            lease_expires_at: None,
            has_open_feed: false,
            feed: None,
            decline_reason: None,
            is_barred: false,
            quality: Quality::default(),
        });
        self.participants.len() - 1
    }

    fn admit(&mut self, index: usize, device: String, media: Media, timeouts: &CallTimeouts, now: DateTime<Utc>) {
        let lease_expires_at = Some(now + timeouts.initial_connect_timeout());
        self.update_participant(index, now, |participant| {
            participant.status = ParticipantStatus::Joined;
            participant.device = device;
            participant.joined_at = Some(now);
            participant.left_at = None;
            participant.departure = None;
            participant.joins += 1;
            participant.media = media;
            participant.lease_expires_at = lease_expires_at;
            participant.has_open_feed = false;
            participant.feed = None;
            participant.decline_reason = None;
        });
        self.participants[index].joined_version = self.version;
    }

    /// Lets a participant leave, and ends the call if nobody is left.
    ///
    /// A call that nobody answered ends with the reason `unanswered`.
    fn depart(&mut self, index: usize, departure: Departure, unanswered: CallEndReason, now: DateTime<Utc>) {
        self.update_participant(index, now, |participant| {
            participant.mark_left(now);
            participant.departure = Some(departure);
        });
        if self.joined_count() == 0 {
            let reason = if self.answered_at.is_some() { CallEndReason::Completed } else { unanswered };
            self.finish(reason, now);
        }
        self.pass_host(now);
        self.check_alone(now);
    }

    /// Makes whoever has been in the call for longest its host, if the host has left.
    fn pass_host(&mut self, now: DateTime<Utc>) {
        let joined = self.participants.iter().filter(|participant| participant.is_joined());
        let longest_in = joined.min_by_key(|participant| participant.joined_version).map(|next| next.user.clone());
        if let Some(next) = longest_in.filter(|_| self.require_joined(&self.host).is_err()) {
            self.host = next;
            self.bump_version(now);
        }
    }

    /// Stops ringing for a participant, and ends an unanswered call that nobody is left to answer.
    fn cancel_ringing(
        &mut self,
        index: usize,
        status: ParticipantStatus,
        unanswered: CallEndReason,
        now: DateTime<Utc>,
    ) {
        self.update_participant(index, now, |participant| participant.status = status);
        if self.answered_at.is_none() && !self.has_ringing_participant() {
            self.finish(unanswered, now);
        }
    }

    /// Stops ringing for everyone.
    fn mark_missed(&mut self, now: DateTime<Utc>) {
        for index in 0..self.participants.len() {
            if self.participants[index].status == ParticipantStatus::Ringing {
                self.update_participant(index, now, |participant| participant.status = ParticipantStatus::Missed);
            }
        }
    }

    fn finish(&mut self, reason: CallEndReason, now: DateTime<Utc>) {
        self.mark_missed(now);
        for index in 0..self.participants.len() {
            if self.participants[index].is_joined() {
                self.update_participant(index, now, |participant| participant.mark_left(now));
            }
        }
        self.end = Some((now, reason));
        self.sole_participant_since = None;
        self.bump_version(now);
    }

    /// Starts or clears the timeout of an answered call with one participant.
    fn check_alone(&mut self, now: DateTime<Utc>) {
        let is_alone = self.status() == CallStatus::Active && self.joined_count() == 1;
        self.sole_participant_since = is_alone.then(|| self.sole_participant_since.unwrap_or(now));
    }

    pub(super) fn update_participant(
        &mut self,
        index: usize,
        now: DateTime<Utc>,
        update: impl FnOnce(&mut Participant),
    ) {
        self.version += 1;
        self.state_changed_at = now;
        let participant = &mut self.participants[index];
        participant.version = self.version;
        update(participant);
    }

    fn bump_version(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.state_version = self.version;
        self.state_changed_at = now;
    }
}

impl Participant {
    fn mark_left(&mut self, now: DateTime<Utc>) {
        self.status = ParticipantStatus::Left;
        self.left_at = Some(now);
        self.lease_expires_at = None;
        self.has_open_feed = false;
        self.feed = None;
    }
}
