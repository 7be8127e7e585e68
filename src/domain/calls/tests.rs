//! The machine held to its table, and to a model that lives second by second.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::domain::calls::*;
use crate::domain::ids::ChatId;

const RULES: CallTimeouts = CallTimeouts {
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
    let (id, organization) = (CallId::new(ChatId::new()), "demo".parse().unwrap());
    let (others, media) = ([user("bob"), user("carol")], Media::default());
    Call::start(id, organization, CallKind::Audio, user("alice"), "phone".into(), media, others, &RULES, at(0))
}

impl Call {
    fn join_at(&mut self, name: &str, second: i64) -> Result<(), CallRefusal> {
        self.join(&user(name), "phone".into(), Media::default(), &RULES, at(second))
    }

    /// They listen, and so are in for as long as the rules say.
    fn renew_lease_at(&mut self, name: &str, second: i64) {
        let participant = self.participants.iter_mut().find(|participant| participant.user == user(name)).unwrap();
        if participant.is_joined() {
            participant.lease_expires_at = Some(at(second) + RULES.disconnect_timeout);
        }
    }

    fn status_of(&self, name: &str) -> ParticipantStatus {
        self.participant(&user(name)).unwrap().status
    }

    fn end_reason(&self) -> Option<CallEndReason> {
        self.end.map(|(_, reason)| reason)
    }
}

/// The table of `docs/CALLS.md`: what each step does to a call in each status.
#[test]
fn each_step_does_what_the_table_says() {
    use CallEndReason::{Cancelled, Completed, Declined};
    type CallStep = fn(&mut Call) -> Result<(), CallRefusal>;
    let active = || {
        let mut call = ringing();
        call.join_at("bob", 1).unwrap();
        call
    };
    let over = || {
        let mut call = active();
        call.end(&user("alice"), at(2));
        call
    };
    let join: CallStep = |call| call.join_at("carol", 9);
    let decline: CallStep = |call| call.decline(&user("carol"), at(9));
    let leave: CallStep = |call| call.leave(&user("alice"), at(9));
    let end: CallStep = |call| {
        call.end(&user("alice"), at(9));
        Ok(())
    };
    let mute: CallStep = |call| call.set_media(&user("alice"), Media { audio: true, ..Media::default() }, at(9));
    for (begin, step, result, reason) in [
        (ringing(), join, Ok(()), None),
        (active(), join, Ok(()), None),
        (over(), join, Err(CallRefusal::Ended), Some(Completed)),
        (ringing(), decline, Ok(()), None),
        (active(), decline, Ok(()), None),
        (over(), decline, Err(CallRefusal::Ended), Some(Completed)),
        (ringing(), leave, Ok(()), Some(Cancelled)),
        (active(), leave, Ok(()), None),
        (over(), leave, Ok(()), Some(Completed)),
        (ringing(), end, Ok(()), Some(Cancelled)),
        (active(), end, Ok(()), Some(Completed)),
        (over(), end, Ok(()), Some(Completed)),
        (ringing(), mute, Ok(()), None),
        (active(), mute, Ok(()), None),
        (over(), mute, Err(CallRefusal::Ended), Some(Completed)),
    ] {
        let mut call = begin.clone();
        assert_eq!((step(&mut call), call.end_reason()), (result, reason), "{begin:?}");
    }
    let mut call = ringing();
    call.decline(&user("bob"), at(1)).unwrap();
    call.decline(&user("carol"), at(2)).unwrap();
    assert_eq!(call.end_reason(), Some(Declined), "everyone declined");
    assert_eq!(call.decline(&user("bob"), at(3)), Ok(()), "again");
    let mut call = ringing();
    call.end(&user("bob"), at(1));
    assert_eq!(
        (call.end_reason(), call.status_of("bob")),
        (Some(Cancelled), ParticipantStatus::Declined),
        "it rang for another"
    );
    assert_eq!(call.status_of("carol"), ParticipantStatus::Missed);
    let mut call = ringing();
    call.remove(&user("bob"), at(1));
    assert_eq!(call.end_reason(), None);
    call.remove(&user("carol"), at(1));
    assert_eq!(call.end_reason(), Some(CallEndReason::Missed), "nobody is left who could answer");
    let mut call = active();
    call.remove(&user("bob"), at(2));
    assert_eq!(
        (call.end_reason(), call.status_of("bob"), call.sole_participant_since),
        (None, ParticipantStatus::Left, Some(at(2)))
    );
}

#[test]
fn one_device_of_a_person_is_in_and_the_call_has_a_size() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let other = call.join(&user("bob"), "laptop".into(), Media::default(), &RULES, at(2));
    assert_eq!(other, Err(CallRefusal::OnAnotherDevice));
    let before = call.participant(&user("bob")).unwrap().joined_version;
    call.join_at("bob", 3).unwrap();
    let bob = call.participant(&user("bob")).unwrap();
    assert!(bob.joined_version > before && bob.joined_at == Some(at(3)), "the same device begins anew");
    call.join_at("carol", 4).unwrap();
    assert_eq!(call.join_at("dora", 5), Err(CallRefusal::Full(3)));
    call.leave(&user("bob"), at(6)).unwrap();
    call.join_at("dora", 7).unwrap();
    assert_eq!(call.require_joined(&user("bob")).err(), Some(CallRefusal::NotJoined));
}

#[test]
fn of_two_who_are_in_the_later_offers() {
    let mut call = ringing();
    call.join_at("bob", 1).unwrap();
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(call.negotiation(&bob, &alice), Some(Negotiation { makes_offer: true, is_polite: true }));
    assert_eq!(call.negotiation(&alice, &bob), Some(Negotiation { makes_offer: false, is_polite: false }));
    assert_eq!(call.negotiation(&alice, &alice), None);
    assert_eq!(call.negotiation(&alice, &user("carol")), None, "who is not in");
}

#[test]
fn each_change_takes_a_number_of_its_own() {
    let mut call = ringing();
    let mut known = call.version;
    let mut next = |call: &Call| {
        assert!(call.version > known, "{call:?}");
        known = call.version;
    };
    call.join_at("bob", 1).unwrap();
    next(&call);
    call.set_media(&user("bob"), Media { video: true, ..Media::default() }, at(2)).unwrap();
    next(&call);
    let same = call.clone();
    call.set_media(&user("bob"), Media { video: true, ..Media::default() }, at(3)).unwrap();
    assert_eq!(call, same, "the same again is no change");
    call.end(&user("bob"), at(4));
    next(&call);
    let newest = call.participants.iter().map(|participant| participant.version).max().unwrap();
    assert!(newest.max(call.state_version) == call.version);
}

/// A call as somebody would tell of it who looked at it once a second.
#[derive(Debug, Clone)]
struct Model {
    second: i64,
    participants: BTreeMap<&'static str, (ParticipantStatus, &'static str)>,
    /// Until when those are in who are not heard of again.
    lease_ends: BTreeMap<&'static str, i64>,
    answered: bool,
    alone_for: Option<i64>,
    end: Option<(i64, CallEndReason)>,
}

impl Model {
    fn new() -> Self {
        let rung = (ParticipantStatus::Ringing, "");
        let people = [("alice", (ParticipantStatus::Joined, "phone")), ("bob", rung), ("carol", rung)];
        let heard = [("alice", 60)].into();
        Self { second: 0, participants: people.into(), lease_ends: heard, answered: false, alone_for: None, end: None }
    }

    fn count(&self, status: ParticipantStatus) -> usize {
        self.participants.values().filter(|(is, _)| *is == status).count()
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
    }

    fn check_alone(&mut self) {
        let alone = self.answered && self.end.is_none() && self.count(ParticipantStatus::Joined) == 1;
        self.alone_for = alone.then(|| self.alone_for.unwrap_or(0));
    }

    fn advance_one_second(&mut self) {
        self.second += 1;
        self.alone_for = self.alone_for.map(|seconds| seconds + 1);
        if self.end.is_some() {
            return;
        }
        if self.second == 45 {
            if self.answered {
                for (status, _) in self.participants.values_mut().filter(|(is, _)| *is == ParticipantStatus::Ringing) {
                    *status = ParticipantStatus::Missed;
                }
            } else {
                self.end(CallEndReason::Missed);
            }
        }
        if self.end.is_none() && self.alone_for == Some(60) {
            self.end(CallEndReason::Completed);
        }
        let lost: Vec<_> =
            self.lease_ends.iter().filter(|(_, until)| **until == self.second).map(|(who, _)| *who).collect();
        for name in lost {
            if self.end.is_none() && self.participants[name].0 == ParticipantStatus::Joined {
                self.depart(name, CallEndReason::Failed);
                self.check_alone();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum ModelAction {
    Join(&'static str, &'static str),
    Decline(&'static str),
    Leave(&'static str),
    End(&'static str),
    Listen(&'static str),
    Wait(i64),
}

fn model_action() -> impl Strategy<Value = ModelAction> {
    let who = || prop::sample::select(vec!["alice", "bob", "carol", "dora"]);
    let device = prop::sample::select(vec!["phone", "laptop"]);
    prop_oneof![
        3 => (who(), device).prop_map(|(who, device)| ModelAction::Join(who, device)),
        1 => who().prop_map(ModelAction::Decline),
        1 => who().prop_map(ModelAction::Leave),
        1 => who().prop_map(ModelAction::End),
        4 => who().prop_map(ModelAction::Listen),
        4 => (0_i64..40).prop_map(ModelAction::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_is_as_the_model_has_it(acts in prop::collection::vec(model_action(), 1..40)) {
        let (mut call, mut model) = (ringing(), Model::new());
        for act in acts {
            let now = at(model.second);
            let over = model.end.is_some();
            let known = |model: &Model, who| model.participants.get(who).copied();
            match act {
                ModelAction::Wait(seconds) => {
                    (0..seconds).for_each(|_| model.advance_one_second());
                    call.advance_all(&RULES, at(model.second));
                }
                ModelAction::Listen(who) => {
                    if matches!(known(&model, who), Some((ParticipantStatus::Joined, _))) && !over {
                        call.renew_lease_at(who, model.second);
                        model.lease_ends.insert(who, model.second + 15);
                    }
                }
                ModelAction::Join(who, device) => {
                    let is = known(&model, who);
                    let inside = matches!(is, Some((ParticipantStatus::Joined, _)));
                    let expected = match is {
                        _ if over => Err(CallRefusal::Ended),
                        Some((ParticipantStatus::Joined, other)) if other != device => Err(CallRefusal::OnAnotherDevice),
                        _ if !inside && model.count(ParticipantStatus::Joined) == 3 => Err(CallRefusal::Full(3)),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(call.join(&user(who), device.into(), Media::default(), &RULES, now), expected);
                    if expected.is_ok() {
                        model.participants.insert(who, (ParticipantStatus::Joined, device));
                        model.lease_ends.insert(who, model.second + 60);
                        model.answered |= who != "alice";
                        model.check_alone();
                    }
                }
                ModelAction::Decline(who) => {
                    let expected = match known(&model, who).map(|(status, _)| status) {
                        None => Err(CallRefusal::NotRinging),
                        Some(ParticipantStatus::Declined) => Ok(()),
                        _ if over => Err(CallRefusal::Ended),
                        Some(ParticipantStatus::Ringing) => Ok(()),
                        Some(_) => Err(CallRefusal::NotRinging),
                    };
                    prop_assert_eq!(call.decline(&user(who), now), expected);
                    if expected.is_ok() && !over {
                        model.participants.get_mut(who).unwrap().0 = ParticipantStatus::Declined;
                        if !model.answered && model.count(ParticipantStatus::Ringing) == 0 {
                            model.end(CallEndReason::Declined);
                        }
                    }
                }
                ModelAction::Leave(who) => {
                    let expected = match known(&model, who).map(|(status, _)| status) {
                        Some(ParticipantStatus::Left | ParticipantStatus::Joined) => Ok(()),
                        _ => Err(CallRefusal::NotJoined),
                    };
                    prop_assert_eq!(call.leave(&user(who), now), expected);
                    if matches!(known(&model, who), Some((ParticipantStatus::Joined, _))) {
                        model.depart(who, CallEndReason::Cancelled);
                        model.check_alone();
                    }
                }
                ModelAction::End(who) => {
                    call.end(&user(who), now);
                    if !over {
                        let declines = matches!(known(&model, who), Some((ParticipantStatus::Ringing, _)));
                        if declines {
                            model.participants.get_mut(who).unwrap().0 = ParticipantStatus::Declined;
                        }
                        let last = declines && model.count(ParticipantStatus::Ringing) == 0;
                        model.end(match (model.answered, last) {
                            (true, _) => CallEndReason::Completed,
                            (false, true) => CallEndReason::Declined,
                            (false, false) => CallEndReason::Cancelled,
                        });
                    }
                }
            }
            prop_assert_eq!(call.end, model.end.map(|(second, reason)| (at(second), reason)));
            let statuses = call.participants.iter().map(|one| (one.user.as_str().to_owned(), one.status));
            let statuses: BTreeMap<String, ParticipantStatus> = statuses.collect();
            let expected = model.participants.iter().map(|(who, (status, _))| ((*who).to_owned(), *status));
            prop_assert_eq!(statuses, expected.collect::<BTreeMap<_, _>>());
            let rings = !model.answered || model.count(ParticipantStatus::Ringing) > 0;
            let due = model.end.is_none() && (rings || model.alone_for.is_some());
            prop_assert_eq!(call.due_at(&RULES).is_some(), due);
            let leases = call.participants.iter().filter(|one| one.lease_expires_at.is_some()).count();
            prop_assert_eq!(leases, model.count(ParticipantStatus::Joined), "who is in can be lost, and nobody else");
            let newest = call.participants.iter().map(|one| one.version).max().unwrap_or_default();
            prop_assert_eq!(newest.max(call.state_version), call.version);
        }
    }
}
