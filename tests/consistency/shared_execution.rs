//! Shared execution: equal subscriptions share a rendered event, and no user receives one rendered for another user.
//!
//! Three different members select every field that a feed or a new message leads to, each of them twice: in a
//! subscription that all three use, and in one of their own. Both have to receive the same events.

mod observer;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::schema::Schema;
use testkit::{Engine, Feed, TestApp, User, engine_test, postgres_test};

use crate::consistency::cluster::harness::TestCluster;
use observer::{Kind, Observer};

/// The number of fields that one operation selects.
const FIELDS_PER_OPERATION: usize = 60;

const SETTINGS: [(&str, &str); 7] = [
    // The call does not end during the test.
    ("PARLOR_CALL_RING_SECONDS", "600"),
    ("PARLOR_CALL_LOST_SECONDS", "600"),
    // Concurrent requests outnumber the connections, and wait for one.
    ("PARLOR_DATABASE_WAIT_SECONDS", "60"),
    ("PARLOR_QUERY_SECONDS", "60"),
    ("PARLOR_SOCKET_OPERATIONS", "10000"),
    ("PARLOR_MAX_COMPLEXITY", "10000000"),
    ("PARLOR_PRESENCE_GRACE_SECONDS", "300"),
];

const FAR_FUTURE: &str = "2100-01-01T00:00:00Z";

/// The selections from an event to a field.
type Path = Vec<String>;

/// A group that Alice owns, with members whose views of it differ.
///
/// Bob reads it privately, and Carol has a draft and settings of her own. Dave moderates the group without a
/// subscription.
struct Fixture {
    subscribers: [User; 3],
    dave: User,
    chat: String,
    first: String,
    thread_root: String,
    poll: String,
    options: Vec<String>,
    bob_message: String,
}

impl Fixture {
    async fn create(app: &TestApp) -> Self {
        let [alice, bob, carol, dave, erin, frank] =
            ["alice", "bob", "carol", "dave", "erin", "frank"].map(|id| app.user(id));
        let (alice, bob, carol, dave) = (alice.await, bob.await, carol.await, dave.await);
        tokio::join!(erin, frank);
        let chat = alice.group("Walk", &[&bob, &carol, &dave]).await;
        alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "dave", "role": "MODERATOR" })).await;
        let ban = json!({ "chatId": chat, "userId": "frank", "ban": true, "reason": "spam" });
        alice.mutate_ok("removeMember", ban).await;
        let first = alice.send_message(&chat, json!({ "text": "first", "mentionIds": ["bob", "carol"] })).await;
        let thread_root = bob.send_message(&chat, json!({ "text": "a thread", "replyToId": first })).await;
        bob.send_message(&chat, json!({ "text": "in the thread", "threadRootId": thread_root })).await;
        let poll = json!({ "poll": { "question": "Where?", "options": ["Lake", "Hill"] } });
        let poll = dave.send_message(&chat, poll).await;
        let options = dave.fetch_message(&poll, "poll { options { id } }").await;
        let options = testkit::pluck(&options["poll"]["options"], "id");
        let options: Vec<String> = options.iter().map(|id| id.as_str().expect("an id").to_owned()).collect();
        // A device is in one call at a time, and a test may have several chats.
        alice.start_call_on(&chat, &chat).await;
        let bob_message = bob.send_message(&chat, json!({ "text": "bob's" })).await;
        for (user, emoji) in [(&bob, "👍"), (&carol, "🎉"), (&dave, "👍")] {
            user.mutate_ok("addReaction", json!({ "messageId": first, "emoji": emoji })).await;
            user.mutate_ok("addReaction", json!({ "messageId": poll, "emoji": emoji })).await;
        }
        bob.mutate_ok("votePoll", json!({ "messageId": poll, "optionIds": [options[0]] })).await;
        alice.mutate_ok("pinMessage", json!({ "messageId": first })).await;
        bob.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": thread_root, "private": true })).await;
        carol.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": first })).await;
        carol.mutate_ok("markUnread", json!({ "chatId": chat, "fromMessageId": thread_root })).await;
        let preferences = json!({ "chatId": chat, "draft": "psst", "pinned": true, "mutedUntil": FAR_FUTURE,
            "notificationLevel": "NONE" });
        carol.mutate_ok("updateMyMembership", preferences).await;
        Self { subscribers: [alice, bob, carol], dave, chat, first, thread_root, poll, options, bob_message }
    }

    /// Returns the mutations that are run while all observers are subscribed.
    fn mutations(&self) -> Vec<(&User, &'static str, Value)> {
        let Self { subscribers: [alice, bob, carol], dave, chat, first, thread_root, poll, options, bob_message } =
            self;
        let member = |user: &str| json!({ "chatId": chat, "userId": user });
        let with_field = |mut input: Value, name: &str, value: &str| {
            input[name] = value.into();
            input
        };
        let text = |text: &str| json!({ "chatId": chat, "text": text });
        vec![
            (
                dave,
                "sendMessage",
                json!({ "chatId": chat, "text": "hello", "mentionIds": ["bob"], "replyToId": first }),
            ),
            (bob, "addReaction", json!({ "messageId": first, "emoji": "🦀" })),
            (carol, "votePoll", json!({ "messageId": poll, "optionIds": [options[1]] })),
            (carol, "sendMessage", with_field(text("in the thread too"), "threadRootId", thread_root)),
            (alice, "editMessage", json!({ "messageId": first, "text": "first, edited" })),
            (dave, "pinMessage", json!({ "messageId": poll })),
            (
                alice,
                "updateChat",
                json!({ "chatId": chat, "title": "Run", "policy": [{ "action": "PIN", "role": "ADMIN" }] }),
            ),
            (bob, "markRead", json!({ "chatId": chat, "private": true })),
            (carol, "markRead", json!({ "chatId": chat })),
            (alice, "addMembers", json!({ "chatId": chat, "userIds": ["erin"] })),
            (alice, "changeMemberRole", with_field(member("carol"), "role", "MODERATOR")),
            (alice, "silenceMember", with_field(member("bob"), "until", FAR_FUTURE)),
            (carol, "updateMyMembership", json!({ "chatId": chat, "draft": "psst, psst" })),
            (alice, "markRead", json!({ "chatId": chat })),
            (alice, "changeMemberRole", with_field(member("dave"), "role", "ADMIN")),
            (bob, "deleteMessage", json!({ "messageId": bob_message })),
            (alice, "removeMember", member("erin")),
            (
                dave,
                "sendMessage",
                json!({ "chatId": chat, "poll": { "question": "When?", "options": ["Now", "Never"] } }),
            ),
            (carol, "markUnread", json!({ "chatId": chat, "fromMessageId": first })),
        ]
    }

    /// Runs the mutations, each after all observers have received the events of the one before.
    async fn run_mutations(&self, observers: &mut [Observer]) {
        let member = self.dave.fetch_chat(&self.chat, "viewerMembership { id }").await;
        let dave_member = member["viewerMembership"]["id"].as_str().expect("an id");
        let mut are_subscribed = vec![false; observers.len()];
        while are_subscribed.contains(&false) {
            let marker = self.dave.send(&self.chat, "a marker").await;
            let receipts = observers.iter_mut().map(|observer| observer.receives_marker(&marker, dave_member));
            are_subscribed = join_all(receipts).await;
        }
        for (user, field, input) in self.mutations() {
            // These change the read state of the user: sending a message marks the chat as read. Others see only a
            // read position that is not private.
            let changes_read_state = ["sendMessage", "markRead", "markUnread", "updateMyMembership"].contains(&field);
            let is_visible = field == "sendMessage" || field == "markRead" && input["private"] != true;
            user.mutate_ok(field, input).await;
            let version = self.dave.fetch_chat(&self.chat, "version").await["version"].as_i64().expect("a number");
            join_all(observers.iter_mut().map(|observer| {
                let receives_reader = changes_read_state && (is_visible || observer.id == user.id);
                observer.settle(version, receives_reader.then_some(user.id.as_str()))
            }))
            .await;
        }
    }

    async fn observers(&self) -> Vec<Observer> {
        join_all(self.subscribers.iter().map(|user| Observer::connect(user, &self.chat))).await
    }
}

/// Collects the values at a path of an event, from all items of lists.
fn collect_values<'a>(value: &'a Value, path: &[String], found: &mut Vec<&'a Value>) {
    match (value, path) {
        (Value::Null, _) => found.push(value),
        (Value::Array(items), _) => items.iter().for_each(|item| collect_values(item, path, found)),
        (_, []) => found.push(value),
        (_, [field, rest @ ..]) => match field.strip_prefix("... on ") {
            Some(ty) if value["__typename"] == ty => collect_values(value, rest, found),
            Some(_) => {}
            None => collect_values(&value[field.split('(').next().expect("a name")], rest, found),
        },
    }
}

/// Returns the paths whose values differ between users, each of whom has a subscription of their own.
async fn viewer_dependent_paths(app: &TestApp, kind: Kind, paths: &[Path]) -> BTreeSet<Path> {
    let fixture = Fixture::create(app).await;
    let mut observers = fixture.observers().await;
    for observer in &mut observers {
        for chunk in paths.chunks(FIELDS_PER_OPERATION) {
            let own_subscription = format!("{} # as {}", kind.subscription(chunk), observer.id);
            observer.subscribe(kind, &own_subscription).await;
        }
    }
    fixture.run_mutations(&mut observers).await;
    let mut dependent = BTreeSet::new();
    for (index, chunk) in paths.chunks(FIELDS_PER_OPERATION).enumerate() {
        for path in chunk {
            let mut values_by_subject: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
            for observer in &observers {
                // A user who reads privately receives additional events, so events are compared by their subjects.
                let mut own_values: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
                own_values.extend(values_at(observer.events(kind, index), path));
                for (subject, values) in own_values {
                    if values_by_subject.entry(subject).or_insert_with(|| values.clone()) != &values {
                        dependent.insert(path.clone());
                    }
                }
            }
        }
    }
    dependent
}

/// Returns the subject of each event with the values at a path.
fn values_at<'a>(events: &'a [Value], path: &[String]) -> Vec<(String, Vec<&'a Value>)> {
    let to_values = |event: &'a Value| {
        let mut values = Vec::new();
        collect_values(event, path, &mut values);
        (Kind::subject(event), values)
    };
    events.iter().map(to_values).collect()
}

/// Asserts that each user receives the same events from a shared subscription and from an own one.
///
/// A shared subscription selects a viewer-dependent field individually, so that no other field prevents sharing.
async fn assert_shared_equals_own(app: &TestApp, kind: Kind, common: &[Path], dependent: &[Path]) {
    let fixture = Fixture::create(app).await;
    let mut observers = fixture.observers().await;
    for observer in &mut observers {
        let id = observer.id.clone();
        for chunk in common.chunks(FIELDS_PER_OPERATION).chain(dependent.chunks(FIELDS_PER_OPERATION)) {
            observer.subscribe(kind, &format!("{} # as {id}", kind.subscription(chunk))).await;
        }
        for chunk in common.chunks(FIELDS_PER_OPERATION).chain(dependent.chunks(1)) {
            observer.subscribe(kind, &kind.subscription(chunk)).await;
        }
    }
    fixture.run_mutations(&mut observers).await;
    let common_operations = common.len().div_ceil(FIELDS_PER_OPERATION);
    let own_operations = common_operations + dependent.len().div_ceil(FIELDS_PER_OPERATION);
    for observer in &observers {
        for index in 0..common_operations {
            let [own, shared] = [index, own_operations + index].map(|index| observer.events(kind, index));
            assert!(own.len() >= 6);
            assert_eq!(shared, own, "{}: one of {:?}", observer.id, &common[index * FIELDS_PER_OPERATION]);
        }
        for (index, path) in dependent.iter().enumerate() {
            let own = observer.events(kind, common_operations + index / FIELDS_PER_OPERATION);
            let shared = observer.events(kind, own_operations + common_operations + index);
            assert_eq!(values_at(shared, path), values_at(own, path), "{}: {path:?}", observer.id);
        }
    }
}

/// Fields that must differ between users: otherwise the mutations would prove little.
const EXPECTED_DEPENDENT: [&str; 14] = [
    "activeCall viewerDirection",
    "nodes reason",
    "reactions viewerReacted",
    "viewerCan allowed",
    "viewerCan reason",
    "viewerMembership id",
    "viewerMembership role",
    "viewerMembership draft",
    "viewerMembership pinned",
    "viewerMembership markedUnread",
    "viewerMembership mutedUntil",
    "viewerMembership notificationLevel",
    "viewerMembership unreadCount",
    "viewerMembership lastReadAt",
];
/// Fields that must differ between users in events other than new messages.
const EXPECTED_DEPENDENT_IN_FEEDS: [&str; 6] = [
    "message viewerCanEdit",
    "message viewerCanDelete",
    "viewerMembership unreadMentionCount",
    "member draft",
    "member lastReadAt",
    "lastReadMessage id",
];

async fn assert_no_leaks(app: &TestApp, kind: Kind) {
    // The longest paths are tested on one engine, because both share the execution.
    let depth = if app.database.engine == Engine::Sqlite { kind.depth() } else { 2 };
    let paths = Schema::read().leaves(kind.event_type(), depth);
    let dependent = viewer_dependent_paths(app, kind, &paths).await;
    let last_two = |path: &Path| path[path.len().saturating_sub(2)..].join(" ");
    let found: BTreeSet<String> = dependent.iter().map(|path| last_two(path).replace("(first: 3)", "")).collect();
    eprintln!("{kind:?}: {} paths, {} of them depend on the viewer", paths.len(), dependent.len());
    let in_feeds = EXPECTED_DEPENDENT_IN_FEEDS.iter().filter(|_| kind == Kind::ChatFeed);
    let at_depth_3 = ["options viewerVoted"].iter().filter(|_| depth == 3);
    for expected in EXPECTED_DEPENDENT.iter().chain(in_feeds).chain(at_depth_3) {
        assert!(found.contains(*expected), "{expected} was the same for all users; different: {found:?}");
    }
    let (dependent, common): (Vec<Path>, Vec<Path>) = paths.into_iter().partition(|path| dependent.contains(path));
    assert_shared_equals_own(app, kind, &common, &dependent).await;
}

/// Counts the statements that a message takes which these readers receive in equal subscriptions.
///
/// The subscriptions start at different positions.
async fn count_statements(cluster: &TestCluster, readers: &[User], chat: &str) -> usize {
    let query = "subscription Shared($chat: ID!, $last: Int, $after: String) {
        chatFeed(chatId: $chat, last: $last, after: $after) {
            __typename
            ... on FeedEvent { cursor }
            ... on MessageUpserted { message {
                text sender { name } reactions { emoji count } mentions { name } chat { title members(first: 3) { nodes { role } } }
            } }
        }
    }";
    let mut feeds: Vec<Feed> = Vec::new();
    let mut cursor = json!(null);
    for (number, reader) in readers.iter().enumerate() {
        // A feed starts now, at the newest messages, or at a cursor.
        let variables = match number % 3 {
            0 => json!({ "chat": chat }),
            1 => json!({ "chat": chat, "last": 2 }),
            _ => json!({ "chat": chat, "last": 7, "after": cursor }),
        };
        let mut feed = reader.subscribe(query, variables).await;
        loop {
            let event = feed.next().await;
            if event["__typename"] == "FeedCaughtUp" {
                cursor = event["cursor"].clone();
                break;
            }
        }
        feeds.push(feed);
    }
    let count = || cluster.node(0).log().matches("parlor::sql").count();
    let before = count();
    readers[0].send(chat, "for all").await;
    for feed in &mut feeds {
        while feed.next().await["message"]["text"] != "for all" {}
    }
    count() - before
}

#[postgres_test]
async fn shared_execution_loads_data_once() {
    let log = [("PARLOR_LOG", "warn,parlor::sql=trace")];
    let cluster = TestCluster::start(1, None, &log).await;
    let users: Vec<User> = join_all((0..50).map(|n| {
        let cluster = &cluster;
        async move { cluster.user_at(0, &format!("reader{n}")).await }
    }))
    .await;
    let chat = users[0].group("Crowd", &users[1..].iter().collect::<Vec<_>>()).await;
    let [few, many] =
        [count_statements(&cluster, &users[..3], &chat).await, count_statements(&cluster, &users, &chat).await];
    eprintln!("{few} statements for 3, {many} for 50");
    // Read positions and the periodic reconciliation take some statements too.
    assert!(few >= 5 && many <= few + 12, "{few} statements for 3, {many} for 50");
    cluster.end().await;
}

#[engine_test(settings = SETTINGS)]
async fn shared_execution_never_leaks_feed_fields_between_viewers(app: &TestApp) {
    assert_no_leaks(app, Kind::ChatFeed).await;
}

#[engine_test(settings = SETTINGS)]
async fn shared_execution_never_leaks_message_fields_between_viewers(app: &TestApp) {
    for kind in [Kind::ChatMessages, Kind::AllMessages] {
        assert_no_leaks(app, kind).await;
    }
}
