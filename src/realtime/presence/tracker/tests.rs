//! Tests of presence on two nodes whose messages the test delivers.

use crate::realtime::dispatch::hub::Hub;
use crate::realtime::presence::registry::MAX_OFFLINE_ENTRIES;
use crate::realtime::presence::tracker::*;
use crate::storage::engine::Engine;
use crate::storage::settings::DatabaseSettings;

const GRACE_PERIOD: Duration = Duration::from_secs(5);
const BEYOND_GRACE_PERIOD: Duration = Duration::from_secs(6);

/// Starts a node whose database is never reached, because no test here waits for a flush.
fn start_node(name: &str, clock: &Clock) -> PresenceTracker {
    let engine = Engine::parse("sqlite:///nowhere/parlor.db").unwrap();
    let database = Database::open(&DatabaseSettings::for_test(engine), "test").unwrap();
    let publisher = EventPublisher::new(Arc::new(Hub::default()), None);
    PresenceTracker::start(name.into(), database, publisher, clock.clone(), GRACE_PERIOD)
}

fn bob() -> User {
    let organization = "demo".parse().unwrap();
    User { organization, id: "bob".parse().unwrap(), name: "Bob".into(), avatar_url: None, last_seen_at: None }
}

fn connect_bob(node: &PresenceTracker) -> ConnectionGuard {
    let bob = bob();
    node.connect(&bob.organization, &bob.id)
}

fn set_status(node: &PresenceTracker, status: PresenceStatus, current_chat: Option<ChatId>) {
    let bob = bob();
    node.set_manual_status(&bob.organization, &bob.id, status, current_chat);
}

fn all_buckets() -> BTreeSet<u8> {
    (u8::MIN..=u8::MAX).collect()
}

/// Sends everything that a new node would receive, through the transmitted form.
fn send_updates(from: &PresenceTracker, to: &PresenceTracker) {
    for announcement in from.announcements(&all_buckets()) {
        to.apply_announcement(&serde_json::from_slice(&serde_json::to_vec(&announcement).unwrap()).unwrap());
    }
}

/// Returns a node's message about Bob, also when he isn't connected.
fn update_about_bob(node: &PresenceTracker) -> PresenceUpdate {
    let user_key = user_key_of(&bob());
    let registry = node.0.lock();
    node.0.to_update(&user_key, &registry.users[&user_key], registry.revision)
}

/// Returns the message that a node sends at regular intervals.
fn digest_of(node: &PresenceTracker) -> PresenceDigest {
    node.0.local_digest(&node.0.lock())
}

/// Returns the status of Bob after all deadlines that have passed.
fn status_of_bob(node: &PresenceTracker) -> PresenceStatus {
    drop(node.0.run_due());
    node.snapshot_of(&bob()).status
}

#[tokio::test]
async fn user_is_online_while_connected_to_any_node() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let remote_connection = connect_bob(&remote);
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline);
    send_updates(&remote, &local);
    send_updates(&remote, &local);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online);
    let local_connection = connect_bob(&local);
    drop(remote_connection);
    local.apply_update(&update_about_bob(&remote));
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online, "the local connection is left");
    drop(local_connection);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online, "the grace period has not passed");
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline);
    assert!(local.snapshot_of(&bob()).last_seen_at.is_some());
}

#[tokio::test]
async fn node_ignores_messages_about_itself() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let _connection = connect_bob(&remote);
    local.apply_update(&PresenceUpdate { node: "local".into(), ..update_about_bob(&remote) });
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline);
}

#[tokio::test]
async fn invisible_user_of_another_node_is_never_shown_as_present() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    set_status(&remote, PresenceStatus::Offline, None);
    let _connection = connect_bob(&remote);
    send_updates(&remote, &local);
    let snapshot = local.snapshot_of(&bob());
    assert_eq!((snapshot.status, snapshot.last_seen_at), (PresenceStatus::Offline, None));
}

#[tokio::test]
async fn removed_node_loses_its_connections_after_grace_period() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let _connection = connect_bob(&remote);
    send_updates(&remote, &local);
    local.remove_node("another");
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online);
    local.remove_node("remote");
    assert_eq!(status_of_bob(&local), PresenceStatus::Online, "the grace period has not passed");
    send_updates(&remote, &local);
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online, "the node came back in time");
    local.remove_node("remote");
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline);
}

#[tokio::test]
async fn newest_manual_status_wins_on_all_nodes_in_any_order_of_messages() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let _connections = (connect_bob(&local), connect_bob(&remote));
    let chat = ChatId::new(bob().organization.bucket());
    set_status(&local, PresenceStatus::Away, None);
    let away = update_about_bob(&local);
    clock.advance(Duration::from_secs(1));
    set_status(&remote, PresenceStatus::Busy, Some(chat));
    let busy = update_about_bob(&remote);
    local.apply_update(&busy);
    local.apply_update(&busy);
    remote.apply_update(&away);
    for node in [&local, &remote] {
        let snapshot = node.snapshot_of(&bob());
        assert_eq!((snapshot.status, snapshot.current_chat), (PresenceStatus::Busy, Some(chat)));
    }
    local.clear_current_chat(&bob().organization, &bob().id, chat);
    remote.apply_update(&update_about_bob(&local));
    assert_eq!(remote.snapshot_of(&bob()).current_chat, None);
    // The clock of the node that set `ahead` is a minute ahead; a status set after it still wins.
    let ahead = ManualStatus { set_at: clock.now() + TimeDelta::minutes(1), ..busy.manual_status.clone() };
    local.apply_update(&PresenceUpdate { manual_status: ahead, ..busy });
    set_status(&local, PresenceStatus::Online, None);
    remote.apply_update(&update_about_bob(&local));
    assert_eq!(status_of_bob(&remote), PresenceStatus::Online);
}

#[tokio::test]
async fn slow_subscriber_receives_only_the_newest_presence() {
    let clock = Clock::adjustable();
    let node = start_node("local", &clock);
    let [(first_id, first), (second_id, second)] = [node.add_subscriber(&[bob()]), node.add_subscriber(&[bob()])];
    for queue in [&first, &second] {
        assert_eq!(queue.recv().await.event.status, PresenceStatus::Offline);
    }
    let _connection = connect_bob(&node);
    set_status(&node, PresenceStatus::Away, None);
    set_status(&node, PresenceStatus::Busy, None);
    let received = [first.recv().await, second.recv().await];
    assert_eq!(received[0].event.status, PresenceStatus::Busy);
    assert!(Arc::ptr_eq(&received[0], &received[1]), "subscribers share one snapshot and its renderings");
    assert!(tokio::time::timeout(Duration::from_millis(100), first.recv()).await.is_err(), "no older presence waits");
    for id in [first_id, second_id] {
        node.remove_subscriber(&[user_key_of(&bob())], id);
    }
    assert!(node.0.lock().subscribers.is_empty());
}

#[tokio::test]
async fn registry_evicts_offline_users_beyond_the_limit() {
    let clock = Clock::adjustable();
    let node = start_node("local", &clock);
    let organization = bob().organization;
    let connection = connect_bob(&node);
    for number in 0..=MAX_OFFLINE_ENTRIES {
        let user = format!("u{number}").parse().unwrap();
        node.set_manual_status(&organization, &user, PresenceStatus::Away, None);
    }
    drop(connection);
    drop(node.0.run_due());
    let registry = node.0.lock();
    assert_eq!(registry.timers.len(), MAX_OFFLINE_ENTRIES);
    assert_eq!(registry.users.len(), MAX_OFFLINE_ENTRIES);
    assert!(registry.users[&user_key_of(&bob())].is_present(), "a user within the grace period is kept");
}

#[tokio::test]
async fn registry_forgets_manual_status_after_retention() {
    let clock = Clock::adjustable();
    let node = start_node("local", &clock);
    set_status(&node, PresenceStatus::Busy, None);
    let announced: usize = node.announcements(&all_buckets()).iter().map(|message| message.users.len()).sum();
    assert_eq!(announced, 1, "a new node receives the status");
    clock.advance(Duration::from_secs(25 * 3600));
    drop(node.0.run_due());
    let registry = node.0.lock();
    assert!(registry.users.is_empty() && registry.timers.is_empty());
}

#[tokio::test]
async fn late_and_doubled_updates_replace_no_newer_presence() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let connection = connect_bob(&remote);
    let connected = update_about_bob(&remote);
    let listed = remote.announcements(&all_buckets());
    drop(connection);
    local.apply_update(&update_about_bob(&remote));
    local.apply_update(&connected);
    listed.iter().for_each(|announcement| local.apply_announcement(announcement));
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline, "the disconnection is the newest change");
    let _connection = connect_bob(&remote);
    local.apply_update(&update_about_bob(&remote));
    assert_eq!(status_of_bob(&local), PresenceStatus::Online);
}

#[tokio::test]
async fn announcement_disconnects_users_whom_it_does_not_list() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let connection = connect_bob(&remote);
    send_updates(&remote, &local);
    drop(connection);
    // The message of the disconnection is lost.
    let bob_bucket = bucket_of(&user_key_of(&bob()));
    assert_eq!(local.differing_buckets(&digest_of(&remote)), [bob_bucket]);
    let other_buckets = all_buckets().into_iter().filter(|bucket| *bucket != bob_bucket).collect();
    remote.announcements(&other_buckets).iter().for_each(|message| local.apply_announcement(message));
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Online);
    remote.announcements(&BTreeSet::from([bob_bucket])).iter().for_each(|message| local.apply_announcement(message));
    assert!(local.differing_buckets(&digest_of(&remote)).is_empty());
    clock.advance(BEYOND_GRACE_PERIOD);
    assert_eq!(status_of_bob(&local), PresenceStatus::Offline);
}

#[tokio::test]
async fn joining_node_receives_twenty_thousand_users_in_small_messages() {
    const USERS: usize = 20_000;
    let clock = Clock::adjustable();
    let (local, remote) = (start_node("local", &clock), start_node("remote", &clock));
    let organization = bob().organization;
    let user = |number: usize| format!("user{number}").parse::<UserId>().unwrap();
    let connections: Vec<_> = (0..USERS).map(|number| remote.connect(&organization, &user(number))).collect();
    let messages = remote.announcements(&all_buckets());
    assert!(messages.iter().all(|message| message.users.len() < 2 * ANNOUNCEMENT_SIZE), "small messages");
    assert!(messages.len() < 100, "{} messages", messages.len());
    // One message is lost: the digest finds its users, and only they are sent again.
    messages[1..].iter().for_each(|message| local.apply_announcement(message));
    let missing: BTreeSet<u8> = local.differing_buckets(&digest_of(&remote)).into_iter().collect();
    assert_eq!(missing, messages[0].buckets.iter().copied().collect());
    remote.announcements(&missing).iter().for_each(|message| local.apply_announcement(message));
    assert!(local.differing_buckets(&digest_of(&remote)).is_empty());
    let online = (0..USERS).filter(|number| {
        let row = User { id: user(*number), ..bob() };
        local.snapshot_of(&row).status == PresenceStatus::Online
    });
    assert_eq!(online.count(), USERS);
    drop(connections);
}

#[tokio::test]
async fn expiry_loop_does_not_keep_tracker_alive() {
    let node = start_node("local", &Clock::adjustable());
    set_status(&node, PresenceStatus::Busy, None);
    let inner = Arc::downgrade(&node.0);
    drop(node);
    assert!(inner.upgrade().is_none());
}
