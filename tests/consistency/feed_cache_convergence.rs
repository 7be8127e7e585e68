//! Client caches converge: after each mutation, a cache that applies a feed's events equals a new query.
//!
//! This holds for a feed that is live, and for one that resumes after a reconnect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test};

/// The fields of a chat that a client caches.
///
/// An event selects all cached fields of its node and of the node's chat, which is all that a normalized cache needs.
/// A message's fields that change without an upsert of the message are not cached: `viewerCanEdit` and
/// `viewerCanDelete` depend on the viewer's role, `status` and `readBy` on the members' read positions.
const CHAT: &str = "fragment C on Chat {
        id kind category title description avatarUrl createdBy { id } lastActivityAt archivedAt version memberCount
        policy { action role } slowModeSeconds historyForNewMembers resource { type id } lastMessage { id } lastEntry { id } pinnedMessages { nodes { id } }
        activeCall { id }
        viewerCan { action allowed reason }
        viewerMembership { id unreadCount unreadMentionCount }
    }";
const MESSAGE: &str = "fragment M on Message {
        id seq kind sender { id } nonce text html location { latitude name } mentions { id } mentionsEveryone
        poll { question closed voterCount options { id text voteCount viewerVoted voters(first: 5) { id } } }
        system { kind actor { id } subject { id } detail changedFields call { id } } replyTo { id } threadRoot { id } replyCount
        thread { unreadCount unreadMentionCount lastReplyAt following lastReadMessage { id } }
        forwardedFrom { sender { id } chatTitle } reactions { emoji count viewerReacted users(first: 5) { id } }
        editedAt editHistory { nodes { text } } deletedAt pinnedAt pinnedBy { id } 
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

/// Nodes by id.
type Nodes = BTreeMap<String, Value>;

/// A client's cache of a chat with its messages and members.
#[derive(Debug, Clone, PartialEq)]
struct ChatCache {
    chat: Value,
    messages: Nodes,
    members: Nodes,
}

impl ChatCache {
    /// Queries the content of a cache. Returns `None` if the user is not a member.
    async fn query(user: &User, chat: &str) -> Option<Self> {
        let query = format!(
            "query($id: ID!) {{ chat(id: $id) {{ ...C messages(first: 60) {{ nodes {{ ...M }} }}
             members(first: 100) {{ nodes {{ ...P }} }} }} }} {CHAT} {MESSAGE} {MEMBER}"
        );
        let reply = user.ask_with(&query, json!({ "id": chat })).await;
        let mut chat = reply.at("chat").clone();
        let remove = |chat: &mut Value, field: &str| chat.as_object_mut().and_then(|chat| chat.remove(field));
        let members = remove(&mut chat, "members")?;
        let mut messages: Nodes = by_id(nodes(&remove(&mut chat, "messages")?)).collect();
        let thread_roots: Vec<String> =
            messages.values().filter(|message| message["replyCount"] != 0).map(id_of).collect();
        for root in thread_roots {
            let query = format!(
                "query($id: ID!) {{ message(id: $id) {{ replies(first: 60) {{ nodes {{ ...M }} }} }} }} {MESSAGE}"
            );
            let thread = user.ask_with(&query, json!({ "id": root })).await;
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
            other => panic!("unexpected event: {other}"),
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

/// A group that Alice owns and Bob moderates, with the members Carol and Dave.
struct Fixture {
    users: BTreeMap<&'static str, User>,
    chat: String,
    /// The ids of messages and of an option, by the names that the cases use.
    ids: BTreeMap<&'static str, String>,
}

impl Fixture {
    async fn create(app: &TestApp) -> Self {
        let mut users = BTreeMap::new();
        for name in ["alice", "bob", "carol", "dave", "erin"] {
            let permissions: Option<&[&str]> = (name == "alice").then_some(&[
                "chat.view",
                "chat.create_group",
                "chat.manage_group",
                "chat.delete",
                "chat.moderate",
                "chat.initiate_call",
                "organization.admin",
            ]);
            users.insert(name, app.user_in("demo", name, permissions).await);
        }
        let alice = &users["alice"];
        let chat = alice.group("Walk", &[&users["bob"], &users["carol"], &users["dave"]]).await;
        let mut ids = BTreeMap::new();
        for (name, input) in [
            ("first", json!({ "text": "first" })),
            ("second", json!({ "text": "second" })),
            ("poll", json!({ "poll": { "question": "Where?", "options": ["Lake", "Hill"] } })),
        ] {
            ids.insert(name, alice.send_message(&chat, input).await);
        }
        let reply = users["bob"].send_message(&chat, json!({ "text": "a reply", "threadRootId": ids["first"] })).await;
        ids.insert("reply", reply);
        let bob_message = users["bob"].send_message(&chat, json!({ "text": "bob's" })).await;
        ids.insert("bob_message", bob_message);
        let poll = alice.fetch_message(&ids["poll"], "poll { options { id } }").await;
        ids.insert("lake", id_of(&poll["poll"]["options"][0]));
        let role = json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" });
        alice.mutate_ok("changeMemberRole", role).await;
        Self { users, chat, ids }
    }

    fn id(&self, name: &str) -> &str {
        &self.ids[name]
    }
}

/// The consecutive mutations of a case, each with its user, field and input.
type Case = Vec<(&'static str, &'static str, Value)>;

/// Returns a case for each mutation. Some cases start with a mutation that the tested one requires.
fn cases(fixture: &Fixture) -> Vec<Case> {
    let chat = &fixture.chat;
    let [first, second, poll, reply, bob_message, lake] =
        ["first", "second", "poll", "reply", "bob_message", "lake"].map(|name| fixture.id(name));
    let far_future = "2100-01-01T00:00:00Z";
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
        vec![("bob", "editMessage", json!({ "messageId": reply, "text": "a reply", "mentionIds": ["dave"] }))],
        vec![
            (
                "bob",
                "sendMessage",
                json!({ "chatId": chat, "text": "dave", "threadRootId": first, "mentionIds": ["dave"] }),
            ),
            ("dave", "markThreadRead", json!({ "threadRootId": first })),
        ],
        vec![("bob", "editMessage", json!({ "messageId": reply, "text": "a reply", "mentionIds": [] }))],
        vec![("bob", "forwardMessage", json!({ "messageId": second, "toChatId": chat }))],
        vec![("bob", "pinMessage", json!({ "messageId": first }))],
        vec![("bob", "unpinMessage", json!({ "messageId": first }))],
        vec![("dave", "addReaction", json!({ "messageId": first, "emoji": "👍" }))],
        vec![("dave", "removeReaction", json!({ "messageId": first, "emoji": "👍" }))],
        vec![("dave", "votePoll", json!({ "messageId": poll, "optionIds": [lake] }))],
        vec![("alice", "closePoll", json!({ "messageId": poll }))],
        vec![("dave", "reportMessage", json!({ "messageId": second, "reason": "dull" }))],
        vec![("bob", "deleteMessage", json!({ "messageId": reply }))],
        vec![("alice", "deleteMessage", json!({ "messageId": bob_message }))],
        vec![("dave", "markRead", json!({ "chatId": chat }))],
        vec![("dave", "markUnread", json!({ "chatId": chat, "fromMessageId": second }))],
        vec![("dave", "markRead", json!({ "chatId": chat, "private": true }))],
        vec![("carol", "markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": second }] }))],
        vec![("dave", "markNotificationsRead", json!({}))],
        vec![(
            "dave",
            "updateMyMembership",
            json!({ "chatId": chat, "draft": "I", "pinned": true, "mutedUntil": far_future, "notificationLevel": "MENTIONS" }),
        )],
        vec![(
            "alice",
            "updateChat",
            json!({ "chatId": chat, "title": "Run", "description": "by the lake", "slowModeSeconds": 1,
                "historyForNewMembers": "SINCE_JOINED", "policy": [{ "action": "PIN", "role": "OWNER" }] }),
        )],
        vec![("alice", "updateChat", json!({ "chatId": chat, "slowModeSeconds": 0 }))],
        vec![("alice", "addMembers", json!({ "chatId": chat, "userIds": ["erin"] }))],
        vec![("alice", "removeMember", json!({ "chatId": chat, "userId": "erin" }))],
        vec![("alice", "removeMember", json!({ "chatId": chat, "userId": "erin", "ban": true, "reason": "spam" }))],
        vec![("alice", "unbanMember", json!({ "chatId": chat, "userId": "erin" }))],
        vec![("alice", "changeMemberRole", json!({ "chatId": chat, "userId": "dave", "role": "ADMIN" }))],
        vec![("alice", "silenceMember", json!({ "chatId": chat, "userId": "carol", "until": far_future }))],
        vec![("alice", "silenceMember", json!({ "chatId": chat, "userId": "carol" }))],
        vec![("alice", "archiveChat", json!({ "chatId": chat, "archived": true }))],
        vec![("alice", "archiveChat", json!({ "chatId": chat, "archived": false }))],
        // The next mutations create another chat or change none, so this chat stays as it is.
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

/// The mutations without a case, each with the reason.
const WITHOUT_CASE: [(&str, &str); 14] = [
    ("joinCall", "a call has a feed of its own"),
    ("declineCall", "a call has a feed of its own"),
    ("leaveCall", "a call has a feed of its own"),
    ("endCall", "has a test of its own, because it needs the id of a call"),
    ("removeFromCall", "a call has a feed of its own"),
    ("updateCallMedia", "a call has a feed of its own"),
    ("sendSignal", "reaches one participant only"),
    ("reportCallQuality", "a call has a feed of its own"),
    ("joinChannel", "has a test of its own, because it needs a channel"),
    ("resolveReport", "the report queue has no feed, and no chat shows it"),
    ("setTyping", "is transient, and has a subscription of its own"),
    ("setPresence", "belongs to a user, and has a subscription of its own"),
    ("renewSession", "affects one WebSocket only"),
    ("revokeSessions", "closes WebSockets, and no chat shows it"),
];

/// A client that caches the chat and subscribes to its feed.
struct CachingClient<'a> {
    user: &'a User,
    cache: ChatCache,
    feed: Feed,
    cursor: String,
}

impl<'a> CachingClient<'a> {
    async fn connect(user: &'a User, chat: &str) -> Self {
        let mut feed = subscribe(user, chat, None).await;
        let cursor = feed.expect("FeedCaughtUp").await["cursor"].as_str().expect("a cursor").to_owned();
        let cache = ChatCache::query(user, chat).await.expect("a member");
        Self { user, cache, feed, cursor }
    }

    /// Applies events of the live feed until the cache equals a new query.
    async fn assert_converges(&mut self, chat: &str, case: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let expected = ChatCache::query(self.user, chat).await.expect("a member");
            if self.cache == expected {
                return;
            }
            match tokio::time::timeout_at(deadline, self.feed.next()).await {
                Ok(event) => self.cache.apply(&event),
                Err(_) => assert_eq!(self.cache, expected, "{case}: live, for {}", self.user.id),
            }
        }
    }

    /// Applies the backfill of a resumed feed, asserts the same, and returns the new cursor.
    async fn assert_resume_converges(&self, chat: &str, mut cache: ChatCache, case: &str) -> String {
        let mut feed = subscribe(self.user, chat, Some(&self.cursor)).await;
        loop {
            let event = feed.next().await;
            if event["__typename"] == "FeedCaughtUp" {
                let expected = ChatCache::query(self.user, chat).await.expect("a member");
                assert_eq!(cache, expected, "{case}: after a reconnect, for {}", self.user.id);
                return event["cursor"].as_str().expect("a cursor").to_owned();
            }
            cache.apply(&event);
        }
    }
}

async fn subscribe(user: &User, chat: &str, after: Option<&str>) -> Feed {
    user.subscribe(&format!("{FEED} {CHAT} {MESSAGE} {MEMBER}"), json!({ "chat": chat, "after": after })).await
}

#[engine_test]
async fn chat_cache_fed_by_feed_equals_fresh_query(app: &TestApp) {
    let fixture = Fixture::create(app).await;
    let mut clients = Vec::new();
    // The clients of an owner, of a member whose own state changes, and of a member who leaves.
    for name in ["alice", "dave", "carol"] {
        clients.push(CachingClient::connect(&fixture.users[name], &fixture.chat).await);
    }
    for mutations in cases(&fixture) {
        let case = format!("{mutations:?}");
        let caches: Vec<ChatCache> = clients.iter().map(|client| client.cache.clone()).collect();
        let (actor, field, _) = mutations.last().expect("a mutation");
        let removed: BTreeSet<&str> = match *field {
            "leaveChat" => [*actor].into(),
            "deleteChat" => ["alice", "dave"].into(),
            _ => BTreeSet::new(),
        };
        for (user, field, input) in &mutations {
            fixture.users[user].mutate_ok(field, input.clone()).await;
        }
        for (client, cache) in clients.iter_mut().zip(caches) {
            if removed.contains(client.user.id.as_str()) {
                assert_eq!(client.feed.error_code().await, "FORBIDDEN", "{case}");
                assert_eq!(ChatCache::query(client.user, &fixture.chat).await, None, "{case}");
                continue;
            }
            client.assert_converges(&fixture.chat, &case).await;
            client.cursor = client.assert_resume_converges(&fixture.chat, cache, &case).await;
        }
        clients.retain(|client| !removed.contains(client.user.id.as_str()));
    }
}

#[engine_test]
async fn channel_cache_learns_of_new_members(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.chat("CHANNEL", "News", &[]).await;
    let mut client = CachingClient::connect(&alice, &chat).await;
    let before = client.cache.clone();
    bob.mutate_ok("joinChannel", json!({ "chatId": chat })).await;
    client.assert_converges(&chat, "joinChannel").await;
    client.assert_resume_converges(&chat, before, "joinChannel").await;
    assert!(client.cache.members.contains_key("bob"));
}

#[engine_test]
async fn chat_cache_learns_of_call_start_and_end(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    let mut client = CachingClient::connect(&bob, &chat).await;
    let mut before = client.cache.clone();
    let call = alice.start_call(&chat).await;
    client.assert_converges(&chat, "startCall").await;
    assert_eq!(client.cache.chat["activeCall"], json!({ "id": call.call }));
    client.cursor = client.assert_resume_converges(&chat, before, "startCall").await;
    before = client.cache.clone();
    alice.mutate_ok("endCall", json!({ "callId": call.call })).await;
    client.assert_converges(&chat, "endCall").await;
    assert_eq!(client.cache.chat["activeCall"], json!(null));
    client.assert_resume_converges(&chat, before, "endCall").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn convergence_covers_every_mutation() {
    let app = TestApp::sqlite(&[]).await;
    let fixture = Fixture::create(&app).await;
    let cases = cases(&fixture);
    let covered: BTreeSet<&str> = cases.iter().flatten().map(|(_, field, _)| *field).collect();
    let without_case: BTreeSet<&str> = WITHOUT_CASE.iter().map(|(field, _)| *field).collect();
    let sdl = parlor::graphql::schema::sdl();
    let (_, mutations) = sdl.split_once("\ntype Mutation {").expect("mutations");
    let (mutations, _) = mutations.split_once("\n}").expect("an end");
    let all = mutations.lines().filter_map(|line| line.strip_prefix('\t')?.strip_suffix('('));
    let all: BTreeSet<&str> = all.collect();
    assert!(all.len() > 30);
    assert_eq!(covered.union(&without_case).copied().collect::<BTreeSet<_>>(), all);
    app.stop().await;
}
