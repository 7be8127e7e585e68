use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::registry::MAX_OFFLINE_ENTRIES;
use crate::realtime::presence::tracker::*;
use crate::storage::pool::Engine;

/// A node whose database is never reached: nothing here waits for it.
fn start_node(name: &str, clock: &Clock) -> PresenceTracker {
    let engine = Engine::parse("sqlite:///nowhere/parlor.db").unwrap();
    let store = Database::open(&engine, 2, Duration::from_secs(1)).unwrap();
    let bus = EventPublisher::new(Arc::new(Hub::default()), None);
    PresenceTracker::start(name.into(), store, bus, clock.clone(), Duration::from_secs(5))
}

fn bob() -> User {
    let organization = "demo".parse().unwrap();
    User { organization, id: "bob".parse().unwrap(), name: "Bob".into(), avatar_url: None, last_seen_at: None }
}

fn connect_bob(node: &PresenceTracker) -> ConnectionGuard {
    let bob = bob();
    node.connect(&bob.organization, &bob.id)
}

/// Tells one node all that another would tell it.
fn send_updates(from: &PresenceTracker, to: &PresenceTracker) {
    for word in from.local_updates() {
        // As it goes over a wire.
        let word = serde_json::from_slice(&serde_json::to_vec(&word).unwrap()).unwrap();
        match word {
            ClusterMessage::Presence(word) => to.apply_update(&word),
            other => panic!("presence tells of presence: {other:?}"),
        }
    }
}

/// What a node says of Bob, whatever he is there.
fn update_about_bob(from: &PresenceTracker) -> PresenceUpdate {
    let bob = bob();
    let person = (bob.organization, bob.id);
    match from.0.to_message(&person, &from.0.lock().users[&person]) {
        ClusterMessage::Presence(word) => word,
        other => panic!("presence tells of presence: {other:?}"),
    }
}

/// What a node knows once it has looked at all whose time has come.
fn status_of_bob(node: &PresenceTracker) -> PresenceStatus {
    drop(node.0.run_due());
    node.snapshot_of(&bob()).status
}

#[tokio::test]
async fn one_is_there_while_connected_to_any_node() {
    let clock = Clock::default();
    let (here, there) = (start_node("here", &clock), start_node("there", &clock));
    let connection = connect_bob(&there);
    assert_eq!(status_of_bob(&here), PresenceStatus::Offline);
    send_updates(&there, &here);
    send_updates(&there, &here);
    assert_eq!(status_of_bob(&here), PresenceStatus::Online);
    let own = connect_bob(&here);
    drop(connection);
    here.apply_update(&update_about_bob(&there));
    clock.advance(Duration::from_secs(6));
    assert_eq!(status_of_bob(&here), PresenceStatus::Online, "connected here");
    drop(own);
    assert_eq!(status_of_bob(&here), PresenceStatus::Online, "the grace");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status_of_bob(&here), PresenceStatus::Offline);
    assert!(here.snapshot_of(&bob()).last_seen_at.is_some());
    // What a node hears of itself it knows better.
    here.apply_update(&PresenceUpdate { node: "here".into(), is_connected: true, ..update_about_bob(&there) });
    assert_eq!(status_of_bob(&here), PresenceStatus::Offline);
}

#[tokio::test]
async fn a_node_that_is_gone_takes_its_connections_along() {
    let clock = Clock::default();
    let (here, there) = (start_node("here", &clock), start_node("there", &clock));
    let _connection = connect_bob(&there);
    send_updates(&there, &here);
    here.remove_node("elsewhere");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status_of_bob(&here), PresenceStatus::Online);
    here.remove_node("there");
    assert_eq!(status_of_bob(&here), PresenceStatus::Online, "the grace");
    send_updates(&there, &here);
    clock.advance(Duration::from_secs(6));
    assert_eq!(status_of_bob(&here), PresenceStatus::Online, "it came back in time");
    here.remove_node("there");
    clock.advance(Duration::from_secs(6));
    assert_eq!(status_of_bob(&here), PresenceStatus::Offline);
}

#[tokio::test]
async fn what_was_set_last_counts_on_all_nodes_in_whatever_order_it_is_heard() {
    let clock = Clock::default();
    let (here, there) = (start_node("here", &clock), start_node("there", &clock));
    let _connections = (connect_bob(&here), connect_bob(&there));
    let (organization, user) = (bob().organization, bob().id);
    let chat = ChatId::new();
    here.set_manual_status(&organization, &user, PresenceStatus::Away, None);
    let away = update_about_bob(&here);
    clock.advance(Duration::from_secs(1));
    there.set_manual_status(&organization, &user, PresenceStatus::Busy, Some(chat));
    let busy = update_about_bob(&there);
    here.apply_update(&busy);
    here.apply_update(&busy);
    there.apply_update(&away);
    for node in [&here, &there] {
        let now = node.snapshot_of(&bob());
        assert_eq!((now.status, now.current_chat), (PresenceStatus::Busy, Some(chat)));
    }
    here.clear_current_chat(&organization, &user, chat);
    there.apply_update(&update_about_bob(&here));
    assert_eq!(there.snapshot_of(&bob()).current_chat, None);
    // One whose clock is behind still has the last word where it heard the one before.
    here.apply_update(&PresenceUpdate {
        manual_status: ManualStatus { set_at: clock.now() + TimeDelta::minutes(1), ..busy.manual_status.clone() },
        ..busy
    });
    here.set_manual_status(&organization, &user, PresenceStatus::Online, None);
    there.apply_update(&update_about_bob(&here));
    assert_eq!(status_of_bob(&there), PresenceStatus::Online);
}

#[tokio::test]
async fn all_who_listen_are_handed_the_same_and_one_who_is_slow_only_the_newest() {
    let clock = Clock::default();
    let here = start_node("here", &clock);
    let (mut one, mut other) = (here.subscribe(&[bob()]), here.subscribe(&[bob()]));
    for feed in [&mut one, &mut other] {
        assert_eq!(feed.recv().await.unwrap().unwrap().event.status, PresenceStatus::Offline);
    }
    let _connection = connect_bob(&here);
    let (organization, user) = (bob().organization, bob().id);
    for status in [PresenceStatus::Away, PresenceStatus::Busy] {
        here.set_manual_status(&organization, &user, status, None);
    }
    let news = [one.recv().await.unwrap().unwrap(), other.recv().await.unwrap().unwrap()];
    assert_eq!(news[0].event.status, PresenceStatus::Busy);
    assert!(Arc::ptr_eq(&news[0], &news[1]), "what is made of it can be shared");
    assert!(tokio::time::timeout(Duration::from_millis(100), one.recv()).await.is_err(), "no backlog");
    drop((one, other));
    assert!(here.0.lock().subscribers.is_empty(), "nothing is left of feeds that have gone");
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let clock = Clock::default();
    let here = start_node("here", &clock);
    let (organization, user) = (bob().organization, bob().id);
    let connection = connect_bob(&here);
    for number in 0..=MAX_OFFLINE_ENTRIES {
        let user = format!("u{number}").parse().unwrap();
        here.set_manual_status(&organization, &user, PresenceStatus::Away, None);
    }
    drop(connection);
    drop(here.0.run_due());
    let state = here.0.lock();
    assert_eq!(state.timers.len(), MAX_OFFLINE_ENTRIES);
    assert_eq!(state.users.len(), MAX_OFFLINE_ENTRIES);
    assert!(state.users[&(organization, user)].is_present(), "one who is leaving still counts as there");
}

#[tokio::test]
async fn nothing_is_left_of_who_is_forgotten_and_the_task_ends() {
    let clock = Clock::default();
    let here = start_node("here", &clock);
    let (organization, user) = (bob().organization, bob().id);
    here.set_manual_status(&organization, &user, PresenceStatus::Busy, None);
    assert_eq!(here.local_updates().len(), 1, "one who joins hears of it");
    clock.advance(Duration::from_secs(25 * 3600));
    drop(here.0.run_due());
    let state = here.0.lock();
    assert!(state.users.is_empty() && state.timers.is_empty());
    drop(state);
    let shared = Arc::downgrade(&here.0);
    drop(here);
    assert!(shared.upgrade().is_none(), "the task keeps nothing alive");
}
