//! Those who ask the same share what is made of an event, and nobody is told what was made for another.
//!
//! Every field that a feed or a new message leads to is asked for by three different members, each twice:
//! in words that all three use, and in words of their own. What they are told has to be the same.

mod observer;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::schema::Schema;
use testkit::{Engine, Feed, TestApp, User, engine_test, postgres_test};

use crate::consistency::cluster::harness::TestCluster;
use observer::{Kind, Watcher};

/// Fields that are asked for by one operation where nothing in it depends on who asks.
const TOGETHER: usize = 60;

const SETTINGS: [(&str, &str); 6] = [
    // The call goes on.
    ("PARLOR_CALL_RING_SECONDS", "600"),
    ("PARLOR_CALL_LOST_SECONDS", "600"),
    // So many ask at once that they wait for a connection.
    ("PARLOR_DATABASE_WAIT_SECONDS", "60"),
    ("PARLOR_SOCKET_OPERATIONS", "10000"),
    ("PARLOR_MAX_COMPLEXITY", "10000000"),
    ("PARLOR_PRESENCE_GRACE_SECONDS", "300"),
];

type Path = Vec<String>;

/// Alice owns the chat, Bob reads it privately, Carol has a draft and more of her own; Dave moderates it
/// and listens to nothing.
struct World {
    people: [User; 3],
    dave: User,
    chat: String,
    first: String,
    root: String,
    poll: String,
    options: Vec<String>,
    bobs: String,
}

impl World {
    async fn new(app: &TestApp) -> Self {
        let [alice, bob, carol, dave, erin] = ["alice", "bob", "carol", "dave", "erin"].map(|id| app.user(id));
        let (alice, bob, carol, dave) = (alice.await, bob.await, carol.await, dave.await);
        erin.await;
        let chat = alice.group("Walk", &[&bob, &carol, &dave]).await;
        alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "dave", "role": "MODERATOR" })).await;
        let first = alice.send_message(&chat, json!({ "text": "first", "mentionIds": ["bob", "carol"] })).await;
        let root = bob.send_message(&chat, json!({ "text": "a thread", "replyToId": first })).await;
        bob.send_message(&chat, json!({ "text": "in the thread", "threadRootId": root })).await;
        let poll = json!({ "poll": { "question": "Where?", "options": ["Lake", "Hill"] } });
        let poll = dave.send_message(&chat, poll).await;
        let options = dave.fetch_message(&poll, "poll { options { id } }").await;
        let options = testkit::pluck(&options["poll"]["options"], "id");
        let options: Vec<String> = options.iter().map(|id| id.as_str().expect("an id").to_owned()).collect();
        alice.start_call(&chat).await;
        let bobs = bob.send_message(&chat, json!({ "text": "bob's" })).await;
        for (who, emoji) in [(&bob, "👍"), (&carol, "🎉"), (&dave, "👍")] {
            who.mutate_ok("addReaction", json!({ "messageId": first, "emoji": emoji })).await;
            who.mutate_ok("addReaction", json!({ "messageId": poll, "emoji": emoji })).await;
        }
        bob.mutate_ok("votePoll", json!({ "messageId": poll, "optionIds": [options[0]] })).await;
        alice.mutate_ok("pinMessage", json!({ "messageId": first })).await;
        bob.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": root, "private": true })).await;
        carol.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": first })).await;
        carol.mutate_ok("markUnread", json!({ "chatId": chat, "fromMessageId": root })).await;
        carol
            .mutate_ok(
                "updateMyMembership",
                json!({ "chatId": chat, "draft": "psst", "pinned": true, "mutedUntil": "2100-01-01T00:00:00Z", "notificationLevel": "NONE" }),
            )
            .await;
        Self { people: [alice, bob, carol], dave, chat, first, root, poll, options, bobs }
    }

    /// What happens while all listen.
    fn steps(&self) -> Vec<(&User, &'static str, Value)> {
        let Self { people: [alice, bob, carol], dave, chat, first, root, poll, options, bobs } = self;
        let member = |user: &str| json!({ "chatId": chat, "userId": user });
        let with = |mut input: Value, name: &str, value: &str| {
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
            (carol, "sendMessage", with(text("in the thread too"), "threadRootId", root)),
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
            (alice, "changeMemberRole", with(member("carol"), "role", "MODERATOR")),
            (alice, "silenceMember", with(member("bob"), "until", "2100-01-01T00:00:00Z")),
            (carol, "updateMyMembership", json!({ "chatId": chat, "draft": "psst, psst" })),
            (alice, "markRead", json!({ "chatId": chat })),
            (alice, "changeMemberRole", with(member("dave"), "role", "ADMIN")),
            (bob, "deleteMessage", json!({ "messageId": bobs })),
            (alice, "removeMember", member("erin")),
            (
                dave,
                "sendMessage",
                json!({ "chatId": chat, "poll": { "question": "When?", "options": ["Now", "Never"] } }),
            ),
            (carol, "markUnread", json!({ "chatId": chat, "fromMessageId": first })),
        ]
    }

    /// Takes the steps, each when all have heard of the one before.
    async fn walk(&self, watchers: &mut [Watcher]) {
        let member = self.dave.fetch_chat(&self.chat, "viewerMembership { id }").await;
        let dave = member["viewerMembership"]["id"].as_str().expect("an id");
        let mut there = vec![false; watchers.len()];
        while there.contains(&false) {
            let marker = self.dave.send(&self.chat, "is everybody there?").await;
            there = join_all(watchers.iter_mut().map(|watcher| watcher.is_there(&marker, dave))).await;
        }
        for (who, field, input) in self.steps() {
            // Who sends reads too; what is one's own, or is read privately, is told to oneself alone.
            let moves = ["sendMessage", "markRead", "markUnread", "updateMyMembership"].contains(&field);
            let is_shown = field == "sendMessage" || field == "markRead" && input["private"] != true;
            who.mutate_ok(field, input).await;
            let version = self.dave.fetch_chat(&self.chat, "version").await["version"].as_i64().expect("a number");
            join_all(watchers.iter_mut().map(|watcher| {
                let moved = (moves && (is_shown || watcher.id == who.id)).then_some(who.id.as_str());
                watcher.settle(version, moved)
            }))
            .await;
        }
    }

    async fn watchers(&self) -> Vec<Watcher> {
        join_all(self.people.iter().map(|who| Watcher::of(who, &self.chat))).await
    }
}

/// What is at a path of an event, all places of lists together.
fn at<'a>(value: &'a Value, path: &[String], found: &mut Vec<&'a Value>) {
    match (value, path) {
        (Value::Null, _) => found.push(value),
        (Value::Array(items), _) => items.iter().for_each(|item| at(item, path, found)),
        (_, []) => found.push(value),
        (_, [field, rest @ ..]) => match field.strip_prefix("... on ") {
            Some(ty) if value["__typename"] == ty => at(value, rest, found),
            Some(_) => {}
            None => at(&value[field.split('(').next().expect("a name")], rest, found),
        },
    }
}

/// The ways to what was different for different people, found by asking each in words of their own.
async fn personal(app: &TestApp, kind: Kind, leaves: &[Path]) -> BTreeSet<Path> {
    let world = World::new(app).await;
    let mut watchers = world.watchers().await;
    for watcher in &mut watchers {
        for leaves in leaves.chunks(TOGETHER) {
            let own = format!("{} # as {}", kind.asking(leaves), watcher.id);
            watcher.subscribe(kind, &own).await;
        }
    }
    world.walk(&mut watchers).await;
    let mut personal = BTreeSet::new();
    for (chunk, leaves) in leaves.chunks(TOGETHER).enumerate() {
        for leaf in leaves {
            let mut told: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
            for watcher in &watchers {
                // Who reads privately hears of more than others do: by what it is about.
                let mut own: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
                own.extend(told_at(watcher.told(kind, chunk), leaf));
                for (subject, found) in own {
                    if told.entry(subject).or_insert_with(|| found.clone()) != &found {
                        personal.insert(leaf.clone());
                    }
                }
            }
        }
    }
    personal
}

/// What a subscription told of one way, event by event.
fn told_at<'a>(told: &'a [Value], leaf: &[String]) -> Vec<(String, Vec<&'a Value>)> {
    let found = |event: &'a Value| {
        let mut found = Vec::new();
        at(event, leaf, &mut found);
        (Kind::subject(event), found)
    };
    told.iter().map(found).collect()
}

/// Asks in shared words and in own, and finds both told the same. What depends on who asks is asked for
/// alone where it is shared, so that nothing beside it keeps it from being shared.
async fn is_told_its_own(app: &TestApp, kind: Kind, common: &[Path], personal: &[Path]) {
    let world = World::new(app).await;
    let mut watchers = world.watchers().await;
    for watcher in &mut watchers {
        let id = watcher.id.clone();
        for leaves in common.chunks(TOGETHER).chain(personal.chunks(TOGETHER)) {
            watcher.subscribe(kind, &format!("{} # as {id}", kind.asking(leaves))).await;
        }
        for leaves in common.chunks(TOGETHER).chain(personal.chunks(1)) {
            watcher.subscribe(kind, &kind.asking(leaves)).await;
        }
    }
    world.walk(&mut watchers).await;
    let (commons, own_words) = (common.len().div_ceil(TOGETHER), personal.len().div_ceil(TOGETHER));
    for watcher in &watchers {
        for place in 0..commons {
            let [own, shared] = [place, commons + own_words + place].map(|place| watcher.told(kind, place));
            assert!(own.len() >= 6);
            assert_eq!(shared, own, "{}: one of {:?}", watcher.id, &common[place * TOGETHER]);
        }
        for (place, leaf) in personal.iter().enumerate() {
            let own = watcher.told(kind, commons + place / TOGETHER);
            let shared = watcher.told(kind, 2 * commons + own_words + place);
            assert_eq!(told_at(shared, leaf), told_at(own, leaf), "{}: {leaf:?}", watcher.id);
        }
    }
}

/// What has to be different for different people, or the walk proves little.
const KNOWN: [&str; 13] = [
    "activeCall viewerDirection",
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
/// And of what is no new message.
const KNOWN_OF_FEEDS: [&str; 6] = [
    "message viewerCanEdit",
    "message viewerCanDelete",
    "viewerMembership unreadMentionCount",
    "member draft",
    "member lastReadAt",
    "lastReadMessage id",
];

async fn nobody_is_told_what_is_another_s(app: &TestApp, kind: Kind) {
    // The longest ways on one engine: what is shared is the same on both.
    let objects = if app.database.engine == Engine::Sqlite { kind.objects() } else { 2 };
    let leaves = Schema::read().leaves(kind.ty(), objects);
    let personal = personal(app, kind, &leaves).await;
    let last_two = |path: &Path| path[path.len().saturating_sub(2)..].join(" ");
    let found: BTreeSet<String> = personal.iter().map(|path| last_two(path).replace("(first: 3)", "")).collect();
    eprintln!("{kind:?}: {} ways, {} of them personal", leaves.len(), personal.len());
    let of_feeds = KNOWN_OF_FEEDS.iter().filter(|_| kind == Kind::Feed);
    let far_away = ["options viewerVoted"].iter().filter(|_| objects == 3);
    for known in KNOWN.iter().chain(of_feeds).chain(far_away) {
        assert!(found.contains(*known), "{known} was the same for all; different: {found:?}");
    }
    let (personal, common): (Vec<Path>, Vec<Path>) = leaves.into_iter().partition(|leaf| personal.contains(leaf));
    is_told_its_own(app, kind, &common, &personal).await;
}

/// Statements that a message takes which so many are told, each in the same words from another place.
async fn statements_for(cluster: &TestCluster, readers: &[User], chat: &str) -> usize {
    let query = "subscription Told($chat: ID!, $last: Int, $after: String) {
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
    for (number, who) in readers.iter().enumerate() {
        // From now, from the newest, and from a cursor.
        let variables = match number % 3 {
            0 => json!({ "chat": chat }),
            1 => json!({ "chat": chat, "last": 2 }),
            _ => json!({ "chat": chat, "last": 7, "after": cursor }),
        };
        let mut feed = who.subscribe(query, variables).await;
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
    let people: Vec<User> = join_all((0..50).map(|n| {
        let cluster = &cluster;
        async move { cluster.user_at(0, &format!("reader{n}")).await }
    }))
    .await;
    let chat = people[0].group("Crowd", &people[1..].iter().collect::<Vec<_>>()).await;
    let [few, many] =
        [statements_for(&cluster, &people[..3], &chat).await, statements_for(&cluster, &people, &chat).await];
    eprintln!("{few} statements for 3, {many} for 50");
    // What goes on beside it takes some too: read positions, and the look at the database now and then.
    assert!(few >= 5 && many <= few + 12, "{few} statements for 3, {many} for 50");
    cluster.end().await;
}

#[engine_test(settings = SETTINGS)]
async fn shared_execution_never_leaks_feed_fields_between_viewers(app: &TestApp) {
    nobody_is_told_what_is_another_s(app, Kind::Feed).await;
}

#[engine_test(settings = SETTINGS)]
async fn shared_execution_never_leaks_message_fields_between_viewers(app: &TestApp) {
    for kind in [Kind::OfChat, Kind::OfAll] {
        nobody_is_told_what_is_another_s(app, kind).await;
    }
}
