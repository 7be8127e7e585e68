//! Each mutation reaches those who hold the state: by applying a feed's events, live or after a
//! reconnect, a client comes to hold what a fresh query gives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test};

/// What a client holds of a chat, its messages and its members. Where an event has a node, it has all
/// of this of it, and of the chat that the node is in: a normalised cache needs no more.
///
/// What a message's own upserts can't tell of is left out: `viewerCanEdit` and `viewerCanDelete` follow
/// from the viewer's role, `status` and `readBy` from the members' positions.
const CHAT: &str = "fragment C on Chat {
        id kind category title description avatarUrl createdBy { id } lastActivityAt archivedAt version memberCount
        policy { action role } slowModeSeconds resource { type id } lastMessage { id } pinnedMessages { nodes { id } }
        activeCall { id }
        viewerCan { action allowed reason }
        viewerMembership { id unreadCount unreadMentionCount }
    }";
const MESSAGE: &str = "fragment M on Message {
        id seq kind sender { id } nonce text html location { latitude name } mentions { id } mentionsEveryone
        poll { question closed voterCount options { id text voteCount viewerVoted voters(first: 5) { id } } }
        system { kind actor { id } subject { id } detail call { id } } replyTo { id } threadRoot { id } replyCount
        forwardedFrom { sender { id } chatTitle } reactions { emoji count viewerReacted users(first: 5) { id } }
        editedAt editHistory { text } deletedAt pinnedAt pinnedBy { id } 
    }";
const MEMBER: &str = "fragment P on ChatMember {
        id user { id } role addedBy { id } lastReadMessage { id } lastDeliveredMessage { id } lastReadAt mutedUntil
        silencedUntil notificationLevel pinned markedUnread draft
    }";

const FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on ChatUpserted { chat { ...C } }
    ... on MessageUpserted { change message { ...M chat { ...C } } }
    ... on MemberUpserted { member { ...P chat { ...C } } }
    ... on MemberRemoved { userId }
} }";

/// Nodes by their ids.
type Nodes = BTreeMap<String, Value>;

#[derive(Debug, Clone, PartialEq)]
struct Held {
    chat: Value,
    messages: Nodes,
    members: Nodes,
}

impl Held {
    /// What a fresh query gives; none to one who is not in (any more).
    async fn fresh(who: &User, chat: &str) -> Option<Self> {
        let query = format!(
            "query($id: ID!) {{ chat(id: $id) {{ ...C messages(first: 60) {{ nodes {{ ...M }} }}
             members(first: 100) {{ nodes {{ ...P }} }} }} }} {CHAT} {MESSAGE} {MEMBER}"
        );
        let reply = who.ask_with(&query, json!({ "id": chat })).await;
        let mut chat = reply.at("chat").clone();
        let take = |chat: &mut Value, field: &str| chat.as_object_mut().and_then(|chat| chat.remove(field));
        let members = take(&mut chat, "members")?;
        let mut messages: Nodes = by_id(nodes(&take(&mut chat, "messages")?)).collect();
        let roots: Vec<String> = messages.values().filter(|message| message["replyCount"] != 0).map(id_of).collect();
        for root in roots {
            let query = format!(
                "query($id: ID!) {{ message(id: $id) {{ replies(first: 60) {{ nodes {{ ...M }} }} }} }} {MESSAGE}"
            );
            let thread = who.ask_with(&query, json!({ "id": root })).await;
            messages.extend(by_id(nodes(thread.at("message.replies"))));
        }
        (chat["viewerMembership"] != Value::Null).then(|| Self {
            chat,
            messages,
            members: nodes(&members).map(|member| (id_of(&member["user"]), member)).collect(),
        })
    }

    fn apply(&mut self, event: &Value) {
        let (node, is_message) = match event["__typename"].as_str().expect("a type") {
            "ChatUpserted" => {
                self.chat = event["chat"].clone();
                return;
            }
            "MessageUpserted" => (&event["message"], true),
            "MemberUpserted" => (&event["member"], false),
            "MemberRemoved" => {
                self.members.remove(event["userId"].as_str().expect("an id"));
                return;
            }
            other => panic!("{other}"),
        };
        let mut node = node.clone();
        self.chat = node.as_object_mut().and_then(|node| node.remove("chat")).expect("the node's chat");
        if is_message {
            self.messages.insert(id_of(&node), node);
        } else {
            self.members.insert(id_of(&node["user"]), node);
        }
    }
}

fn id_of(node: &Value) -> String {
    node["id"].as_str().expect("an id").to_owned()
}

fn nodes(list: &Value) -> impl Iterator<Item = Value> {
    list["nodes"].as_array().expect("nodes").clone().into_iter()
}

fn by_id(nodes: impl Iterator<Item = Value>) -> impl Iterator<Item = (String, Value)> {
    nodes.map(|node| (id_of(&node), node))
}

/// The people and things of each case: Alice owns the group, Bob moderates, Carol and Dave are in.
struct World {
    people: BTreeMap<&'static str, User>,
    chat: String,
    /// Messages and an option by the names that cases call them.
    ids: BTreeMap<&'static str, String>,
}

impl World {
    async fn new(app: &TestApp) -> Self {
        let mut people = BTreeMap::new();
        for name in ["alice", "bob", "carol", "dave", "erin"] {
            let all: Option<&[&str]> = (name == "alice").then_some(&[
                "chat.view",
                "chat.create_group",
                "chat.manage_group",
                "chat.delete",
                "chat.moderate",
                "chat.initiate_call",
            ]);
            people.insert(name, app.user_in("demo", name, all).await);
        }
        let alice = &people["alice"];
        let chat = alice.group("Walk", &[&people["bob"], &people["carol"], &people["dave"]]).await;
        let mut ids = BTreeMap::new();
        for (name, input) in [
            ("first", json!({ "text": "first" })),
            ("second", json!({ "text": "second" })),
            ("poll", json!({ "poll": { "question": "Where?", "options": ["Lake", "Hill"] } })),
        ] {
            ids.insert(name, alice.send_message(&chat, input).await);
        }
        let reply = people["bob"].send_message(&chat, json!({ "text": "a reply", "threadRootId": ids["first"] })).await;
        ids.insert("reply", reply);
        let mine = people["bob"].send_message(&chat, json!({ "text": "bob's" })).await;
        ids.insert("bobs", mine);
        let world = Self { people, chat, ids };
        let poll = world.people["alice"]
            .ask(&format!("{{ message(id: \"{}\") {{ poll {{ options {{ id }} }} }} }}", world.ids["poll"]))
            .await
            .text("message.poll.options.0.id");
        let mut world = world;
        world.ids.insert("lake", poll);
        let role = json!({ "chatId": world.chat, "userId": "bob", "role": "MODERATOR" });
        world.people["alice"].mutate_ok("changeMemberRole", role).await;
        world
    }

    fn id(&self, name: &str) -> &str {
        &self.ids[name]
    }
}

/// The mutations of a case, one after the other: who, what, with which input.
type Steps = Vec<(&'static str, &'static str, Value)>;

/// Every mutation with a case; some need another before them.
fn cases(world: &World) -> Vec<Steps> {
    let chat = &world.chat;
    let [first, second, poll, reply, bobs, lake] =
        ["first", "second", "poll", "reply", "bobs", "lake"].map(|name| world.id(name));
    let later = "2100-01-01T00:00:00Z";
    vec![
        vec![(
            "carol",
            "sendMessage",
            json!({ "chatId": chat, "text": "hello **you**", "mentionIds": ["bob", "dave"], "nonce": "n" }),
        )],
        vec![("carol", "sendMessage", json!({ "chatId": chat, "text": "🎉", "replyToId": second }))],
        vec![("carol", "sendMessage", json!({ "chatId": chat, "text": "in the thread", "threadRootId": first }))],
        vec![(
            "carol",
            "sendMessage",
            json!({ "chatId": chat, "text": "both", "threadRootId": first, "alsoInChat": true }),
        )],
        vec![("bob", "sendMessage", json!({ "chatId": chat, "text": "all", "mentionsEveryone": true }))],
        vec![(
            "bob",
            "sendMessage",
            json!({ "chatId": chat, "location": { "latitude": 46.5, "longitude": 6.6, "name": "Lake" } }),
        )],
        vec![("alice", "editMessage", json!({ "messageId": second, "text": "second, edited" }))],
        vec![("bob", "forwardMessage", json!({ "messageId": second, "toChatId": chat }))],
        vec![("bob", "pinMessage", json!({ "messageId": first }))],
        vec![("bob", "unpinMessage", json!({ "messageId": first }))],
        vec![("dave", "addReaction", json!({ "messageId": first, "emoji": "👍" }))],
        vec![("dave", "removeReaction", json!({ "messageId": first, "emoji": "👍" }))],
        vec![("dave", "votePoll", json!({ "messageId": poll, "optionIds": [lake] }))],
        vec![("alice", "closePoll", json!({ "messageId": poll }))],
        vec![("dave", "reportMessage", json!({ "messageId": second, "reason": "dull" }))],
        vec![("bob", "deleteMessage", json!({ "messageId": reply }))],
        vec![("alice", "deleteMessage", json!({ "messageId": bobs }))],
        vec![("dave", "markRead", json!({ "chatId": chat }))],
        vec![("dave", "markUnread", json!({ "chatId": chat, "fromMessageId": second }))],
        vec![("dave", "markRead", json!({ "chatId": chat, "private": true }))],
        vec![("carol", "markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": second }] }))],
        vec![("dave", "markNotificationsRead", json!({}))],
        vec![(
            "dave",
            "updateMyMembership",
            json!({ "chatId": chat, "draft": "I", "pinned": true, "mutedUntil": later, "notificationLevel": "MENTIONS" }),
        )],
        vec![(
            "alice",
            "updateChat",
            json!({ "chatId": chat, "title": "Run", "description": "by the lake", "slowModeSeconds": 1, "policy": [{ "action": "PIN", "role": "OWNER" }] }),
        )],
        vec![("alice", "updateChat", json!({ "chatId": chat, "slowModeSeconds": 0 }))],
        vec![("alice", "addMembers", json!({ "chatId": chat, "userIds": ["erin"] }))],
        vec![("alice", "removeMember", json!({ "chatId": chat, "userId": "erin" }))],
        vec![("alice", "changeMemberRole", json!({ "chatId": chat, "userId": "dave", "role": "ADMIN" }))],
        vec![("alice", "silenceMember", json!({ "chatId": chat, "userId": "carol", "until": later }))],
        vec![("alice", "silenceMember", json!({ "chatId": chat, "userId": "carol" }))],
        vec![("alice", "archiveChat", json!({ "chatId": chat, "archived": true }))],
        vec![("alice", "archiveChat", json!({ "chatId": chat, "archived": false }))],
        // What makes another chat, or changes none, leaves this one as it is.
        vec![("alice", "openDirectChat", json!({ "userId": "dave" }))],
        vec![("alice", "createChat", json!({ "kind": "GROUP", "title": "Other", "memberIds": ["dave"] }))],
        vec![(
            "alice",
            "ensureResourceChat",
            json!({ "resource": { "type": "task", "id": "7" }, "title": "Task", "memberIds": ["dave"] }),
        )],
        vec![
            ("alice", "blockWords", json!({ "words": ["drat"], "action": "MASK" })),
            ("bob", "sendMessage", json!({ "chatId": chat, "text": "drat!" })),
        ],
        vec![("alice", "startCall", json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "phone" }))],
        vec![("alice", "unblockWords", json!({ "words": ["drat"] }))],
        vec![("carol", "leaveChat", json!({ "chatId": chat }))],
        vec![("alice", "deleteChat", json!({ "chatId": chat }))],
    ]
}

/// Mutations whose effect no chat holds, each with why it has no case of its own.
const ELSEWHERE: [(&str, &str); 13] = [
    ("joinCall", "a call has a feed of its own"),
    ("declineCall", "a call has a feed of its own"),
    ("leaveCall", "a call has a feed of its own"),
    ("endCall", "below, as it names its call"),
    ("updateCallMedia", "a call has a feed of its own"),
    ("sendSignal", "is for one participant"),
    ("reportCallQuality", "a call has a feed of its own"),
    ("joinChannel", "a channel of its own, below"),
    ("resolveReport", "the queue of reports has no feed, and no chat shows it"),
    ("setTyping", "is over by itself, and has a subscription of its own"),
    ("setPresence", "is a person's, and has a subscription of its own"),
    ("renewSession", "is a socket's own"),
    ("revokeSessions", "ends sockets, and no chat shows it"),
];

/// A person who holds the chat and listens to it.
struct Watcher<'a> {
    who: &'a User,
    held: Held,
    feed: Feed,
    cursor: String,
}

impl<'a> Watcher<'a> {
    async fn of(who: &'a User, chat: &str) -> Self {
        let mut feed = subscribe(who, chat, None).await;
        let cursor = feed.expect("FeedCaughtUp").await["cursor"].as_str().expect("a cursor").to_owned();
        let held = Held::fresh(who, chat).await.expect("a member");
        Self { who, held, feed, cursor }
    }

    /// Applies what the feed tells until all is as a fresh query has it.
    async fn follow(&mut self, chat: &str, case: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let fresh = Held::fresh(self.who, chat).await.expect("a member");
            if self.held == fresh {
                return;
            }
            match tokio::time::timeout_at(deadline, self.feed.next()).await {
                Ok(event) => self.held.apply(&event),
                Err(_) => assert_eq!(self.held, fresh, "{case}: live, for {}", self.who.id),
            }
        }
    }

    /// Applies what a feed tells that goes on from before: once it is level, all is as a fresh query has it.
    async fn resume(&self, chat: &str, mut held: Held, case: &str) -> String {
        let mut feed = subscribe(self.who, chat, Some(&self.cursor)).await;
        loop {
            let event = feed.next().await;
            if event["__typename"] == "FeedCaughtUp" {
                let fresh = Held::fresh(self.who, chat).await.expect("a member");
                assert_eq!(held, fresh, "{case}: after a reconnect, for {}", self.who.id);
                return event["cursor"].as_str().expect("a cursor").to_owned();
            }
            held.apply(&event);
        }
    }
}

async fn subscribe(who: &User, chat: &str, after: Option<&str>) -> Feed {
    who.subscribe(&format!("{FEED} {CHAT} {MESSAGE} {MEMBER}"), json!({ "chat": chat, "after": after })).await
}

#[engine_test]
async fn chat_cache_fed_by_feed_equals_fresh_query(app: &TestApp) {
    let world = World::new(app).await;
    let mut watchers = Vec::new();
    // An owner, a member whose own rows change, and one who leaves.
    for name in ["alice", "dave", "carol"] {
        watchers.push(Watcher::of(&world.people[name], &world.chat).await);
    }
    for steps in cases(&world) {
        let case = format!("{steps:?}");
        let before: Vec<Held> = watchers.iter().map(|watcher| watcher.held.clone()).collect();
        let (actor, field, _) = steps.last().expect("a step");
        let gone: BTreeSet<&str> = match *field {
            "leaveChat" => [*actor].into(),
            "deleteChat" => ["alice", "dave"].into(),
            _ => BTreeSet::new(),
        };
        for (who, field, input) in &steps {
            world.people[who].mutate_ok(field, input.clone()).await;
        }
        for (watcher, before) in watchers.iter_mut().zip(before) {
            if gone.contains(watcher.who.id.as_str()) {
                assert_eq!(watcher.feed.error_code().await, "FORBIDDEN", "{case}");
                assert_eq!(Held::fresh(watcher.who, &world.chat).await, None, "{case}");
                continue;
            }
            watcher.follow(&world.chat, &case).await;
            watcher.cursor = watcher.resume(&world.chat, before, &case).await;
        }
        watchers.retain(|watcher| !gone.contains(watcher.who.id.as_str()));
    }
}

#[engine_test]
async fn channel_cache_learns_of_new_members(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.chat("CHANNEL", "News", &[]).await;
    let mut watcher = Watcher::of(&alice, &chat).await;
    let before = watcher.held.clone();
    bob.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    watcher.follow(&chat, "joinChannel").await;
    watcher.resume(&chat, before, "joinChannel").await;
    assert!(watcher.held.members.contains_key("bob"));
}

#[engine_test]
async fn chat_cache_learns_of_call_start_and_end(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    let mut watcher = Watcher::of(&bob, &chat).await;
    let mut before = watcher.held.clone();
    let at = alice.start_call(&chat).await;
    watcher.follow(&chat, "startCall").await;
    assert_eq!(watcher.held.chat["activeCall"], json!({ "id": at.call }));
    watcher.cursor = watcher.resume(&chat, before, "startCall").await;
    before = watcher.held.clone();
    alice.mutate_ok("endCall", json!({ "callId": at.call })).await;
    watcher.follow(&chat, "endCall").await;
    assert_eq!(watcher.held.chat["activeCall"], json!(null));
    watcher.resume(&chat, before, "endCall").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn convergence_covers_every_mutation() {
    let app = TestApp::sqlite(&[]).await;
    let world = World::new(&app).await;
    let cases = cases(&world);
    let told: BTreeSet<&str> = cases.iter().flatten().map(|(_, field, _)| *field).collect();
    let elsewhere: BTreeSet<&str> = ELSEWHERE.iter().map(|(field, _)| *field).collect();
    let sdl = parlor::graphql::schema::sdl();
    let (_, mutations) = sdl.split_once("\ntype Mutation {").expect("mutations");
    let (mutations, _) = mutations.split_once("\n}").expect("an end");
    let all = mutations.lines().filter_map(|line| line.strip_prefix('\t')?.strip_suffix('('));
    let all: BTreeSet<&str> = all.collect();
    assert!(all.len() > 30);
    assert_eq!(told.union(&elsewhere).copied().collect::<BTreeSet<_>>(), all);
    app.stop().await;
}
