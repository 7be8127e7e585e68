use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::registry::MOST_KEPT;
use crate::realtime::presence::tracker::*;
use crate::storage::pool::Engine;

/// A node whose database is never reached: nothing here waits for it.
fn node(name: &str, clock: &Clock) -> Presence {
    let engine = Engine::parse("sqlite:///nowhere/parlor.db").unwrap();
    let store = Store::open(&engine, 2, Duration::from_secs(1)).unwrap();
    let bus = Bus::new(Arc::new(Hub::default()), None);
    Presence::start(name.into(), store, bus, clock.clone(), Duration::from_secs(5))
}

fn bob() -> User {
    let organization = "demo".parse().unwrap();
    User { organization, id: "bob".parse().unwrap(), name: "Bob".into(), avatar_url: None, last_seen_at: None }
}

fn arrive(node: &Presence) -> Here {
    let bob = bob();
    node.arrive(&bob.organization, &bob.id)
}

/// Tells one node all that another would tell it.
fn tell(from: &Presence, to: &Presence) {
    for word in from.here() {
        // As it goes over a wire.
        let word = serde_json::from_slice(&serde_json::to_vec(&word).unwrap()).unwrap();
        match word {
            Word::Presence(word) => to.hear(&word),
            other => panic!("presence tells of presence: {other:?}"),
        }
    }
}

/// What a node says of Bob, whatever he is there.
fn word(from: &Presence) -> PresenceWord {
    let bob = bob();
    let person = (bob.organization, bob.id);
    match from.0.word(&person, &from.0.lock().people[&person]) {
        Word::Presence(word) => word,
        other => panic!("presence tells of presence: {other:?}"),
    }
}

/// What a node knows once it has looked at all whose time has come.
fn status(node: &Presence) -> PresenceStatus {
    drop(node.0.look());
    node.of(&bob()).status
}

#[tokio::test]
async fn one_is_there_while_connected_to_any_node() {
    let clock = Clock::default();
    let (here, there) = (node("here", &clock), node("there", &clock));
    let connection = arrive(&there);
    assert_eq!(status(&here), PresenceStatus::Offline);
    tell(&there, &here);
    tell(&there, &here);
    assert_eq!(status(&here), PresenceStatus::Online);
    let own = arrive(&here);
    drop(connection);
    here.hear(&word(&there));
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&here), PresenceStatus::Online, "connected here");
    drop(own);
    assert_eq!(status(&here), PresenceStatus::Online, "the grace");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&here), PresenceStatus::Offline);
    assert!(here.of(&bob()).last_seen_at.is_some());
    // What a node hears of itself it knows better.
    here.hear(&PresenceWord { node: "here".into(), here: true, ..word(&there) });
    assert_eq!(status(&here), PresenceStatus::Offline);
}

#[tokio::test]
async fn a_node_that_is_gone_takes_its_connections_along() {
    let clock = Clock::default();
    let (here, there) = (node("here", &clock), node("there", &clock));
    let _connection = arrive(&there);
    tell(&there, &here);
    here.forget_node("elsewhere");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&here), PresenceStatus::Online);
    here.forget_node("there");
    assert_eq!(status(&here), PresenceStatus::Online, "the grace");
    tell(&there, &here);
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&here), PresenceStatus::Online, "it came back in time");
    here.forget_node("there");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status(&here), PresenceStatus::Offline);
}

#[tokio::test]
async fn what_was_set_last_counts_on_all_nodes_in_whatever_order_it_is_heard() {
    let clock = Clock::default();
    let (here, there) = (node("here", &clock), node("there", &clock));
    let _connections = (arrive(&here), arrive(&there));
    let (organization, user) = (bob().organization, bob().id);
    let chat = ChatId::new();
    here.set(&organization, &user, PresenceStatus::Away, None);
    let away = word(&here);
    clock.advance(Duration::from_secs(1));
    there.set(&organization, &user, PresenceStatus::Busy, Some(chat));
    let busy = word(&there);
    here.hear(&busy);
    here.hear(&busy);
    there.hear(&away);
    for node in [&here, &there] {
        let now = node.of(&bob());
        assert_eq!((now.status, now.current_chat), (PresenceStatus::Busy, Some(chat)));
    }
    here.left_chat(&organization, &user, chat);
    there.hear(&word(&here));
    assert_eq!(there.of(&bob()).current_chat, None);
    // One whose clock is behind still has the last word where it heard the one before.
    here.hear(&PresenceWord { set: Set { at: clock.now() + TimeDelta::minutes(1), ..busy.set.clone() }, ..busy });
    here.set(&organization, &user, PresenceStatus::Online, None);
    there.hear(&word(&here));
    assert_eq!(status(&there), PresenceStatus::Online);
}

#[tokio::test]
async fn all_who_listen_are_handed_the_same_and_one_who_is_slow_only_the_newest() {
    let clock = Clock::default();
    let here = node("here", &clock);
    let (mut one, mut other) = (here.listen(&[bob()]), here.listen(&[bob()]));
    for feed in [&mut one, &mut other] {
        assert_eq!(feed.next().await.unwrap().unwrap().event.status, PresenceStatus::Offline);
    }
    let _connection = arrive(&here);
    let (organization, user) = (bob().organization, bob().id);
    for status in [PresenceStatus::Away, PresenceStatus::Busy] {
        here.set(&organization, &user, status, None);
    }
    let news = [one.next().await.unwrap().unwrap(), other.next().await.unwrap().unwrap()];
    assert_eq!(news[0].event.status, PresenceStatus::Busy);
    assert!(Arc::ptr_eq(&news[0], &news[1]), "what is made of it can be shared");
    assert!(tokio::time::timeout(Duration::from_millis(100), one.next()).await.is_err(), "no backlog");
    drop((one, other));
    assert!(here.0.lock().listeners.is_empty(), "nothing is left of feeds that have gone");
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let clock = Clock::default();
    let here = node("here", &clock);
    let (organization, user) = (bob().organization, bob().id);
    let connection = arrive(&here);
    for number in 0..=MOST_KEPT {
        let user = format!("u{number}").parse().unwrap();
        here.set(&organization, &user, PresenceStatus::Away, None);
    }
    drop(connection);
    drop(here.0.look());
    let state = here.0.lock();
    assert_eq!(state.agenda.len(), MOST_KEPT);
    assert_eq!(state.people.len(), MOST_KEPT);
    assert!(state.people[&(organization, user)].is_present(), "one who is leaving still counts as there");
}

#[tokio::test]
async fn nothing_is_left_of_who_is_forgotten_and_the_task_ends() {
    let clock = Clock::default();
    let here = node("here", &clock);
    let (organization, user) = (bob().organization, bob().id);
    here.set(&organization, &user, PresenceStatus::Busy, None);
    assert_eq!(here.here().len(), 1, "one who joins hears of it");
    clock.advance(Duration::from_secs(25 * 3600));
    drop(here.0.look());
    let state = here.0.lock();
    assert!(state.people.is_empty() && state.agenda.is_empty());
    drop(state);
    let shared = Arc::downgrade(&here.0);
    drop(here);
    assert!(shared.upgrade().is_none(), "the task keeps nothing alive");
}
