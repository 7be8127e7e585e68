//! Compares the state machine with its documented table and with a model that advances second by second.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::domain::calls::connection::CallConnectionState;
use crate::domain::calls::*;

const TIMEOUTS: CallTimeouts = CallTimeouts {
    ring_timeout: TimeDelta::seconds(45),
    alone_timeout: TimeDelta::seconds(60),
    disconnect_timeout: TimeDelta::seconds(15),
    max_participants: 3,
};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_000_000 + second, 0).unwrap()
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

/// Alice calls Bob and Carol at second 0.
fn ringing() -> Call {
    let organization: OrganizationId = "demo".parse().unwrap();
    let id = CallId::new(ChatId::new(organization.bucket()));
    let (others, media) = ([user("bob"), user("carol")], Media::default());
    Call::start(id, organization, CallKind::Audio, user("alice"), "phone".into(), media, others, &TIMEOUTS, at(0))
}

impl Call {
    fn join_at(&mut self, name: &str, second: i64) -> Result<(), CallRefusal> {
        self.join(&user(name), "phone".into(), Media::default(), false, &TIMEOUTS, at(second))
    }

    /// Renews the lease of a joined participant, as an open feed does.
    fn renew_lease_at(&mut self, name: &str, second: i64) {
        let participant = self.participants.iter_mut().find(|participant| participant.user == user(name)).unwrap();
        if participant.is_joined() {
            participant.lease_expires_at = Some(at(second) + TIMEOUTS.disconnect_timeout);
        }
    }

    fn status_of(&self, name: &str) -> ParticipantStatus {
        self.participant(&user(name)).unwrap().status
    }

    fn end_reason(&self) -> Option<CallEndReason> {
        self.end.map(|(_, reason)| reason)
    }
}

/// Checks the table of `docs/CALLS.md`: the effect of each step on a call in each status.
#[test]
fn call_follows_documented_table_in_each_status() {
    use CallEndReason::{Cancelled, Completed, Declined};
    type CallStep = fn(&mut Call) -> Result<(), CallRefusal>;
    let active = || {
        let mut call = ringing();
        call.join_at("bob", 1).unwrap();
        call
    };
    let ended = || {
        let mut call = active();
        call.end(&user("alice"), at(2));
        call
    };
    let join: CallStep = |call| call.join_at("carol", 9);
    let decline: CallStep = |call| call.decline(&user("carol"), DeclineReason::Declined, at(9));
    let leave: CallStep = |call| call.leave(&user("alice"), at(9));
    let end: CallStep = |call| {
        call.end(&user("alice"), at(9));
        Ok(())
    };
    let mute: CallStep = |call| call.set_media(&user("alice"), Media { audio: true, ..Media::default() }, at(9));
    for (initial, step, result, reason) in [
        (ringing(), join, Ok(()), None),
        (active(), join, Ok(()), None),
        (ended(), join, Err(CallRefusal::Ended(Completed)), Some(Completed)),
        (ringing(), decline, Ok(()), None),
        (active(), decline, Ok(()), None),
        (ended(), decline, Err(CallRefusal::Ended(Completed)), Some(Completed)),
        (ringing(), leave, Ok(()), Some(Cancelled)),
        (active(), leave, Ok(()), None),
        (ended(), leave, Ok(()), Some(Completed)),
        (ringing(), end, Ok(()), Some(Cancelled)),
        (active(), end, Ok(()), Some(Completed)),
        (ended(), end, Ok(()), Some(Completed)),
        (ringing(), mute, Ok(()), None),
        (active(), mute, Ok(()), None),
        (ended(), mute, Err(CallRefusal::Ended(Completed)), Some(Completed)),
    ] {
        let mut call = initial.clone();
        assert_eq!((step(&mut call), call.end_reason()), (result, reason), "{initial:?}");
    }
    let mut call = ringing();
    call.decline(&user("bob"), DeclineReason::Declined, at(1)).unwrap();
    call.decline(&user("carol"), DeclineReason::Declined, at(2)).unwrap();
    assert_eq!(call.end_reason(), Some(Declined), "all callees declined");
    assert_eq!(call.decline(&user("bob"), DeclineReason::Declined, at(3)), Ok(()), "declining again");
    let mut call = ringing();
    call.end(&user("bob"), at(1));
    assert_eq!(
        (call.end_reason(), call.status_of("bob")),
        (Some(Cancelled), ParticipantStatus::Declined),
        "the call still rang for Carol"
    );
    assert_eq!(call.status_of("carol"), ParticipantStatus::Missed);
    let mut call = ringing();
    call.remove(&user("bob"), at(1));
    assert_eq!(call.end_reason(), None);
    call.remove(&user("carol"), at(1));
    assert_eq!(call.end_reason(), Some(CallEndReason::Missed), "no callee is left");
    let mut call = active();
    call.remove(&user("bob"), at(2));
    assert_eq!(
        (call.end_reason(), call.status_of("bob"), call.sole_participant_since),
        (None, ParticipantStatus::Left, Some(at(2)))
    );
}

#[test]
fn join_is_refused_on_second_device_and_when_call_is_full() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let second_device = call.join(&user("bob"), "laptop".into(), Media::default(), false, &TIMEOUTS, at(2));
    assert_eq!(second_device, Err(CallRefusal::OnAnotherDevice));
    let before = call.participant(&user("bob")).unwrap().joined_version;
    call.join_at("bob", 3).unwrap();
    let bob = call.participant(&user("bob")).unwrap();
    assert!(bob.joined_version > before && bob.joined_at == Some(at(3)), "the same device joins again");
    call.join_at("carol", 4).unwrap();
    assert_eq!(call.join_at("dora", 5), Err(CallRefusal::Full(3)));
    call.leave(&user("bob"), at(6)).unwrap();
    call.join_at("dora", 7).unwrap();
    assert_eq!(call.require_joined(&user("bob")).err(), Some(CallRefusal::NotJoined));
}

#[test]
fn take_over_moves_the_participant_to_the_new_device() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let bob = user("bob");
    call.require_connection(&bob, None).unwrap();
    call.join(&bob, "laptop".into(), Media::default(), true, &TIMEOUTS, at(2)).unwrap();
    let participant = call.participant(&bob).unwrap();
    assert_eq!((participant.device.as_str(), participant.joins), ("laptop", 2));
    assert!(participant.is_joined() && participant.departure.is_none());
    for (join, expected) in
        [(None, Err(CallRefusal::StaleConnection)), (Some(1), Err(CallRefusal::StaleConnection)), (Some(2), Ok(()))]
    {
        assert_eq!(call.require_connection(&bob, join), expected, "{join:?}");
    }
}

#[test]
fn departure_tells_why_a_participant_left() {
    let departure = |leave: fn(&mut Call)| {
        let mut call = ringing();
        call.join_at("bob", 1).unwrap();
        leave(&mut call);
        call.participant(&user("bob")).unwrap().departure
    };
    assert_eq!(departure(|call| call.leave(&user("bob"), at(2)).unwrap()), Some(Departure::Left));
    assert_eq!(departure(|call| call.remove(&user("bob"), at(2))), Some(Departure::Removed));
    assert_eq!(departure(|call| call.end(&user("alice"), at(2))), None, "the call ended");
    let lost = departure(|call| {
        call.renew_lease_at("alice", 50);
        call.advance_all(&TIMEOUTS, at(61));
    });
    assert_eq!(lost, Some(Departure::Lost));
}

#[test]
fn closed_feed_makes_reconnecting_unless_another_replaced_it() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let connection = |call: &Call| call.participant(&user("bob")).and_then(Participant::connection);
    let bob = call.connection_id(call.participant(&user("bob")).unwrap());
    let (first, second, lease_end) = (CallFeedId::new(), CallFeedId::new(), at(30));
    let version = call.version;
    call.open_feed(&bob, first, lease_end, at(2));
    call.open_feed(&bob, second, lease_end, at(3));
    call.close_feed(&bob, first, lease_end, at(4));
    assert_eq!(
        (connection(&call), call.version),
        (Some(CallConnectionState::Connected), version),
        "nothing to publish"
    );
    call.close_feed(&bob, second, lease_end, at(5));
    assert_eq!((connection(&call), call.version), (Some(CallConnectionState::Reconnecting), version + 1));
    call.open_feed(&bob, CallFeedId::new(), lease_end, at(6));
    assert_eq!((connection(&call), call.version), (Some(CallConnectionState::Connected), version + 2));
    // The feed of a former join neither keeps the participant in the call nor takes them out of it.
    call.join_at("bob", 7).unwrap();
    let rejoined = call.clone();
    call.open_feed(&bob, first, at(90), at(8));
    call.close_feed(&bob, first, at(90), at(8));
    assert_eq!(call, rejoined);
    call.leave(&user("bob"), at(9)).unwrap();
    assert_eq!(connection(&call), None);
}

#[test]
fn call_without_callees_is_active_and_ends_when_the_caller_stays_alone() {
    let organization: OrganizationId = "demo".parse().unwrap();
    let id = CallId::new(ChatId::new(organization.bucket()));
    let (alice, media) = (user("alice"), Media::default());
    let mut call = Call::start(id, organization, CallKind::Audio, alice, "phone".into(), media, [], &TIMEOUTS, at(0));
    assert_eq!((call.status(), call.pending_ring_timeout()), (CallStatus::Active, None));
    call.renew_lease_at("alice", 50);
    call.advance_all(&TIMEOUTS, at(59));
    assert_eq!(call.status(), CallStatus::Active);
    call.advance_all(&TIMEOUTS, at(60));
    assert_eq!(call.end, Some((at(60), CallEndReason::Completed)));
}

#[test]
fn participant_who_joined_later_makes_the_offer() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(call.negotiation(&bob, &alice), Some(Negotiation { makes_offer: true, is_polite: true }));
    assert_eq!(call.negotiation(&alice, &bob), Some(Negotiation { makes_offer: false, is_polite: false }));
    assert_eq!(call.negotiation(&alice, &alice), None);
    assert_eq!(call.negotiation(&alice, &user("carol")), None, "Carol has not joined");
}

#[test]
fn each_change_takes_a_new_version() {
    let mut call = ringing();
    let mut last_version = call.version;
    let mut assert_new_version = |call: &Call| {
        assert!(call.version > last_version, "{call:?}");
        last_version = call.version;
    };
    call.join_at("bob", 1).unwrap();
    assert_new_version(&call);
    call.set_media(&user("bob"), Media { video: true, ..Media::default() }, at(2)).unwrap();
    assert_new_version(&call);
    let unchanged = call.clone();
    call.set_media(&user("bob"), Media { video: true, ..Media::default() }, at(3)).unwrap();
    assert_eq!(call, unchanged, "equal media is not a change");
    call.end(&user("bob"), at(4));
    assert_new_version(&call);
    let newest = call.participants.iter().map(|participant| participant.version).max().unwrap();
    assert!(newest.max(call.state_version) == call.version);
}

/// A reference model of a call that advances in steps of one second.
#[derive(Debug, Clone)]
struct Model {
    second: i64,
    participants: BTreeMap<&'static str, (ParticipantStatus, &'static str)>,
    /// The second at which each participant's lease ends.
    lease_ends: BTreeMap<&'static str, i64>,
    answered: bool,
    alone_for: Option<i64>,
    end: Option<(i64, CallEndReason)>,
    /// The participants in the call, in the order of their last joins.
    join_order: Vec<&'static str>,
    host: &'static str,
    barred: BTreeSet<&'static str>,
    decline_reasons: BTreeMap<&'static str, DeclineReason>,
}

impl Model {
    fn new() -> Self {
        let callee = (ParticipantStatus::Ringing, "");
        let participants = [("alice", (ParticipantStatus::Joined, "phone")), ("bob", callee), ("carol", callee)].into();
        let lease_ends = [("alice", 60)].into();
        Self {
            second: 0,
            participants,
            lease_ends,
            answered: false,
            alone_for: None,
            end: None,
            join_order: vec!["alice"],
            host: "alice",
            barred: BTreeSet::new(),
            decline_reasons: BTreeMap::new(),
        }
    }

    fn count(&self, status: ParticipantStatus) -> usize {
        self.participants.values().filter(|(actual, _)| *actual == status).count()
    }

    fn end(&mut self, reason: CallEndReason) {
        for (status, _) in self.participants.values_mut() {
            *status = match *status {
                ParticipantStatus::Joined => ParticipantStatus::Left,
                ParticipantStatus::Ringing => ParticipantStatus::Missed,
                other => other,
            };
        }
        self.end = Some((self.second, reason));
    }

    fn depart(&mut self, name: &'static str, unanswered: CallEndReason) {
        self.participants.get_mut(name).unwrap().0 = ParticipantStatus::Left;
        if self.count(ParticipantStatus::Joined) == 0 {
            self.end(if self.answered { CallEndReason::Completed } else { unanswered });
        }
        self.join_order.retain(|other| *other != name);
        if self.host == name && self.end.is_none() {
            self.host = self.join_order[0];
        }
    }

    fn decline(&mut self, name: &'static str, reason: DeclineReason) {
        self.participants.get_mut(name).unwrap().0 = ParticipantStatus::Declined;
        self.decline_reasons.insert(name, reason);
    }

    fn check_alone(&mut self) {
        let is_alone = self.answered && self.end.is_none() && self.count(ParticipantStatus::Joined) == 1;
        self.alone_for = is_alone.then(|| self.alone_for.unwrap_or(0));
    }

    fn advance_one_second(&mut self) {
        self.second += 1;
        self.alone_for = self.alone_for.map(|seconds| seconds + 1);
        if self.end.is_some() {
            return;
        }
        if self.second == 45 {
            if self.answered {
                for (status, _) in
                    self.participants.values_mut().filter(|(status, _)| *status == ParticipantStatus::Ringing)
                {
                    *status = ParticipantStatus::Missed;
                }
            } else {
                self.end(CallEndReason::Missed);
            }
        }
        if self.end.is_none() && self.alone_for == Some(60) {
            self.end(CallEndReason::Completed);
        }
        let expired: Vec<_> =
            self.lease_ends.iter().filter(|(_, end)| **end == self.second).map(|(name, _)| *name).collect();
        for name in expired {
            if self.end.is_none() && self.participants[name].0 == ParticipantStatus::Joined {
                self.depart(name, CallEndReason::Failed);
                self.check_alone();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum ModelAction {
    Join(&'static str, &'static str, bool),
    Decline(&'static str, DeclineReason),
    Leave(&'static str),
    HangUp(&'static str),
    RemoveByModerator(&'static str, bool),
    End(&'static str),
    RenewLease(&'static str),
    Wait(i64),
}

fn model_action() -> impl Strategy<Value = ModelAction> {
    let name = || prop::sample::select(vec!["alice", "bob", "carol", "dora"]);
    let device = prop::sample::select(vec!["phone", "laptop"]);
    let reason = prop::sample::select(vec![DeclineReason::Busy, DeclineReason::DoNotDisturb]);
    prop_oneof![
        3 => (name(), device, any::<bool>()).prop_map(|(name, device, take_over)| ModelAction::Join(name, device, take_over)),
        1 => (name(), reason).prop_map(|(name, reason)| ModelAction::Decline(name, reason)),
        2 => name().prop_map(ModelAction::Leave),
        1 => name().prop_map(ModelAction::HangUp),
        2 => (name(), any::<bool>()).prop_map(|(name, is_barred)| ModelAction::RemoveByModerator(name, is_barred)),
        1 => name().prop_map(ModelAction::End),
        4 => name().prop_map(ModelAction::RenewLease),
        4 => (0_i64..40).prop_map(ModelAction::Wait),
    ]
}

proptest! {
    #[test]
    fn call_matches_model_after_any_actions(actions in prop::collection::vec(model_action(), 1..40)) {
        let (mut call, mut model) = (ringing(), Model::new());
        for action in actions {
            let now = at(model.second);
            let has_ended = model.end.is_some();
            let ended = model.end.map(|(_, reason)| CallRefusal::Ended(reason));
            let participant = |model: &Model, name| model.participants.get(name).copied();
            match action {
                ModelAction::Wait(seconds) => {
                    (0..seconds).for_each(|_| model.advance_one_second());
                    call.advance_all(&TIMEOUTS, at(model.second));
                }
                ModelAction::RenewLease(name) => {
                    if matches!(participant(&model, name), Some((ParticipantStatus::Joined, _))) && !has_ended {
                        call.renew_lease_at(name, model.second);
                        model.lease_ends.insert(name, model.second + 15);
                    }
                }
                ModelAction::Join(name, device, take_over) => {
                    let before = participant(&model, name);
                    let is_joined = matches!(before, Some((ParticipantStatus::Joined, _)));
                    let expected = match before {
                        _ if has_ended => ended.map_or(Ok(()), Err),
                        _ if model.barred.contains(name) => Err(CallRefusal::Barred),
                        Some((ParticipantStatus::Joined, other)) if !take_over && other != device => Err(CallRefusal::OnAnotherDevice),
                        _ if !is_joined && model.count(ParticipantStatus::Joined) == 3 => Err(CallRefusal::Full(3)),
                        _ => Ok(()),
                    };
                    let joined = call.join(&user(name), device.into(), Media::default(), take_over, &TIMEOUTS, now);
                    prop_assert_eq!(joined, expected);
                    if expected.is_ok() {
                        model.participants.insert(name, (ParticipantStatus::Joined, device));
                        model.lease_ends.insert(name, model.second + 60);
                        model.decline_reasons.remove(name);
                        model.join_order.retain(|other| *other != name);
                        model.join_order.push(name);
                        model.answered |= name != "alice";
                        model.check_alone();
                    }
                }
                ModelAction::Decline(name, reason) => {
                    let expected = match participant(&model, name).map(|(status, _)| status) {
                        None => Err(CallRefusal::NotRinging),
                        Some(ParticipantStatus::Declined) => Ok(()),
                        _ if has_ended => ended.map_or(Ok(()), Err),
                        Some(ParticipantStatus::Ringing) => Ok(()),
                        Some(_) => Err(CallRefusal::NotRinging),
                    };
                    prop_assert_eq!(call.decline(&user(name), reason, now), expected);
                    if expected.is_ok() && !has_ended {
                        if participant(&model, name).is_some_and(|(status, _)| status == ParticipantStatus::Ringing) {
                            model.decline(name, reason);
                        }
                        if !model.answered && model.count(ParticipantStatus::Ringing) == 0 {
                            let is_busy = model.decline_reasons.values().all(|reason| *reason == DeclineReason::Busy);
                            model.end(if is_busy { CallEndReason::Busy } else { CallEndReason::Declined });
                        }
                    }
                }
                ModelAction::RemoveByModerator(name, is_barred) => {
                    let status = participant(&model, name).map(|(status, _)| status);
                    let expected = match status {
                        _ if has_ended => ended.map_or(Ok(()), Err),
                        Some(ParticipantStatus::Joined | ParticipantStatus::Ringing) => Ok(()),
                        Some(ParticipantStatus::Removed) if is_barred => Ok(()),
                        _ => Err(CallRefusal::NotJoined),
                    };
                    prop_assert_eq!(call.remove_by_moderator(&user(name), is_barred, now), expected);
                    if expected.is_ok() {
                        if status == Some(ParticipantStatus::Joined) {
                            model.depart(name, CallEndReason::Cancelled);
                            model.check_alone();
                        }
                        model.participants.get_mut(name).unwrap().0 = ParticipantStatus::Removed;
                        if is_barred {
                            model.barred.insert(name);
                        }
                        if !model.answered && model.end.is_none() && model.count(ParticipantStatus::Ringing) == 0 {
                            model.end(CallEndReason::Missed);
                        }
                    }
                }
                ModelAction::Leave(name) | ModelAction::HangUp(name) => {
                    let expected = match participant(&model, name).map(|(status, _)| status) {
                        Some(ParticipantStatus::Left | ParticipantStatus::Joined) => Ok(()),
                        _ => Err(CallRefusal::NotJoined),
                    };
                    let hangs_up = matches!(action, ModelAction::HangUp(_));
                    let left = if hangs_up { call.hang_up(&user(name), now) } else { call.leave(&user(name), now) };
                    prop_assert_eq!(left, expected);
                    if matches!(participant(&model, name), Some((ParticipantStatus::Joined, _))) {
                        model.depart(name, CallEndReason::Cancelled);
                        model.check_alone();
                    }
                    if hangs_up && expected.is_ok() && model.end.is_none() {
                        model.end(if model.answered { CallEndReason::Completed } else { CallEndReason::Cancelled });
                    }
                }
                ModelAction::End(name) => {
                    call.end(&user(name), now);
                    if !has_ended {
                        let declines = matches!(participant(&model, name), Some((ParticipantStatus::Ringing, _)));
                        if declines {
                            model.decline(name, DeclineReason::Declined);
                        }
                        let is_last = declines && model.count(ParticipantStatus::Ringing) == 0;
                        model.end(match (model.answered, is_last) {
                            (true, _) => CallEndReason::Completed,
                            (false, true) => CallEndReason::Declined,
                            (false, false) => CallEndReason::Cancelled,
                        });
                    }
                }
            }
            prop_assert_eq!(call.host.as_str(), model.host);
            prop_assert_eq!(call.end, model.end.map(|(second, reason)| (at(second), reason)));
            let statuses = call.participants.iter().map(|participant| (participant.user.as_str().to_owned(), participant.status));
            let statuses: BTreeMap<String, ParticipantStatus> = statuses.collect();
            let expected = model.participants.iter().map(|(name, (status, _))| ((*name).to_owned(), *status));
            prop_assert_eq!(statuses, expected.collect::<BTreeMap<_, _>>());
            let is_ringing = !model.answered || model.count(ParticipantStatus::Ringing) > 0;
            let is_due = model.end.is_none() && (is_ringing || model.alone_for.is_some());
            prop_assert_eq!(call.due_at(&TIMEOUTS).is_some(), is_due);
            let leases = call.participants.iter().filter(|participant| participant.lease_expires_at.is_some()).count();
            prop_assert_eq!(leases, model.count(ParticipantStatus::Joined), "each joined participant has a lease");
            let newest = call.participants.iter().map(|participant| participant.version).max().unwrap_or_default();
            prop_assert_eq!(newest.max(call.state_version), call.version);
        }
    }
}
