//! Cursors in responses: a feed that starts after one loses and doubles nothing.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test};

const MESSAGE: &str = "id version text reactions { emoji count }";
const FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on MessageUpserted { message { id version text reactions { emoji count } } messageEdge { cursor node { id } } }
    ... on MemberRemoved { userId memberId }
} }";
const INBOX: &str = "subscription($after: String) { inboxFeed(after: $after) {
    __typename
    ... on FeedEvent { cursor }
    ... on ChatUpserted { chat { id version title lastMessage { id } viewerMembership { unreadCount } } }
    ... on ChatRemoved { chatId }
} }";

/// Objects by id.
type Objects = BTreeMap<String, Value>;

fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

fn version(object: &Value) -> i64 {
    object["version"].as_i64().expect("a version")
}

fn objects(list: &Value) -> Objects {
    list.as_array().expect("a list").iter().map(|object| (id(object), object.clone())).collect()
}

/// A client that queried a chat and continues by its feed.
struct Follower {
    /// The version of the chat in the response.
    start: i64,
    messages: Objects,
    feed: Feed,
}

impl Follower {
    async fn start(user: &User, chat: &str) -> Self {
        let query = format!(
            "query($id: ID!) {{ chat(id: $id) {{ messages(last: 100) {{ nodes {{ {MESSAGE} }} }} version feedCursor }} }}"
        );
        let reply = user.ask_with(&query, json!({ "id": chat })).await;
        let (start, messages) = (version(reply.at("chat")), objects(reply.at("chat.messages.nodes")));
        for message in messages.values() {
            assert!(version(message) <= start, "{message} is newer than the cursor");
        }
        let after = reply.text("chat.feedCursor");
        let feed = user.subscribe(FEED, json!({ "chat": chat, "after": after })).await;
        Self { start, messages, feed }
    }

    /// Returns the messages after the event with the given text.
    async fn messages_at(mut self, last_text: &str) -> Objects {
        let mut known_version = self.start;
        loop {
            let event = self.feed.next().await;
            assert_ne!(event["__typename"], "FeedReset", "{event}");
            if event["__typename"] == "MessageUpserted" {
                let message = &event["message"];
                assert!(version(message) > known_version, "{event} repeats what the client has at {known_version}");
                known_version = version(message);
                self.messages.insert(id(message), message.clone());
                if message["text"] == last_text {
                    return self.messages;
                }
            }
        }
    }
}

#[engine_test]
async fn chat_feed_after_feed_cursor_loses_and_doubles_nothing(app: &TestApp) {
    const WRITERS: usize = 4;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let write = join_all((0..WRITERS).map(async |writer| {
        for n in 0..12 {
            let message = alice.send(&chat, &format!("{writer}-{n}")).await;
            let reaction = json!({ "messageId": message, "emoji": "👍" });
            alice.mutate_returning("addReaction", reaction, "message { id }").await.data();
            let edit = json!({ "messageId": message, "text": format!("{writer}-{n}, edited") });
            alice.mutate_returning("editMessage", edit, "message { id }").await.data();
        }
    }));
    let follow = async {
        let mut followers = Vec::new();
        for _ in 0..12 {
            followers.push(Follower::start(&bob, &chat).await);
        }
        followers
    };
    let (_, followers) = join(write, follow).await;
    alice.send(&chat, "the end").await;
    let current = bob.fetch_chat(&chat, &format!("messages(last: 100) {{ nodes {{ {MESSAGE} }} }}")).await;
    let expected = objects(&current["messages"]["nodes"]);
    assert!(expected.len() > WRITERS * 12);
    for follower in followers {
        assert_eq!(follower.messages_at("the end").await, expected);
    }
}

#[engine_test]
async fn inbox_feed_after_inbox_cursor_loses_nothing(app: &TestApp) {
    const CHATS: &str =
        "{ chats(first: 100) { nodes { id version title lastMessage { id } viewerMembership { unreadCount } } }
        viewer { inboxCursor } }";
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let removed_from = alice.group("Run", &[&bob]).await;
    let write = async {
        for n in 0..10 {
            let chat = alice.group(&format!("Walk {n}"), &[&bob]).await;
            join_all((0..3).map(|n| alice.send(&chat, ["one", "two", "three"][n]))).await;
            if n == 5 {
                let input = json!({ "chatId": removed_from, "userId": "bob" });
                alice.mutate_returning("removeMember", input, "removedUserId").await.data();
            }
        }
    };
    let follow = async {
        let mut followers = Vec::new();
        for _ in 0..10 {
            let reply = bob.ask(CHATS).await;
            let after = reply.text("viewer.inboxCursor");
            let feed = bob.subscribe(INBOX, json!({ "after": after })).await;
            followers.push((objects(reply.at("chats.nodes")), feed));
        }
        followers
    };
    let ((), followers) = join(write, follow).await;
    let last = alice.group("The end", &[&bob]).await;
    let expected = objects(bob.ask(CHATS).await.at("chats.nodes"));
    assert!(!expected.contains_key(&removed_from));
    for (mut chats, mut feed) in followers {
        // Events of the same chat are gathered, so the last chat may come before the last event of another one.
        while chats != expected {
            let event = feed.next().await;
            match event["__typename"].as_str().expect("a type") {
                "ChatUpserted" => {
                    let known = chats.insert(id(&event["chat"]), event["chat"].clone());
                    assert!(known.is_none_or(|known| version(&known) <= version(&event["chat"])), "{event}");
                }
                "ChatRemoved" => drop(chats.remove(event["chatId"].as_str().expect("an id"))),
                other => assert!(["NotificationUpserted", "FeedCaughtUp"].contains(&other), "{event}"),
            }
        }
        assert!(chats.contains_key(&last));
    }
}

#[engine_test]
async fn message_edges_of_events_extend_a_list_by_a_burst(app: &TestApp) {
    const BURST: usize = 80;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let start = bob.fetch_chat(&chat, "feedCursor messages(last: 10) { edges { cursor node { id } } }").await;
    let mut list = start["messages"]["edges"].as_array().expect("edges").clone();
    let mut feed = bob.subscribe(FEED, json!({ "chat": chat, "after": start["feedCursor"] })).await;
    // A user has at most 64 waiting messages.
    for _ in 0..2 {
        join_all((0..BURST / 2).map(|_| alice.send(&chat, "hello"))).await;
    }
    for _ in 0..BURST {
        let event = feed.next_of_type("MessageUpserted").await;
        assert_eq!(event["messageEdge"]["node"]["id"], event["message"]["id"]);
        list.push(event["messageEdge"].clone());
    }
    let query = "messages(last: 100) { edges { cursor node { id } } }";
    assert_eq!(json!(list), bob.fetch_chat(&chat, query).await["messages"]["edges"]);
}

#[engine_test]
async fn feed_cursor_of_an_event_continues_after_the_event(app: &TestApp) {
    const QUERY: &str = "subscription($chat: ID!) { chatFeed(chatId: $chat) {
        __typename ... on MessageUpserted { message { chat { feedCursor } } } } }";
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = bob.subscribe(QUERY, json!({ "chat": chat })).await;
    feed.expect("FeedCaughtUp").await;
    alice.send(&chat, "one").await;
    let event = feed.expect("MessageUpserted").await;
    let after = &event["message"]["chat"]["feedCursor"];
    for text in ["two", "three"] {
        alice.send(&chat, text).await;
    }
    let mut resumed = bob.subscribe(FEED, json!({ "chat": chat, "after": after })).await;
    for text in ["two", "three"] {
        assert_eq!(resumed.next_of_type("MessageUpserted").await["message"]["text"], text);
    }
}

#[engine_test]
async fn version_of_an_object_increases_with_its_changes(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = alice.send(&chat, "hello").await;
    let sent = bob.fetch_message(&message, "seq version chat { version }").await;
    assert_eq!((&sent["version"], &sent["version"]), (&sent["seq"], &sent["chat"]["version"]));
    let edit = json!({ "messageId": message, "text": "hello all" });
    let edited = alice.mutate_returning("editMessage", edit, "message { version chat { version } }").await;
    assert!(version(edited.at("editMessage.message")) > version(&sent));
    assert_eq!(edited.at("editMessage.message.version"), edited.at("editMessage.message.chat.version"));
    let member = async || {
        let chat = bob.fetch_chat(&chat, "version viewerMembership { version }").await;
        (version(&chat["viewerMembership"]), version(&chat))
    };
    let (joined_at, _) = member().await;
    let role = json!({ "chatId": chat, "userId": "bob", "role": "ADMIN" });
    alice.mutate_returning("changeMemberRole", role, "member { id }").await.data();
    let (changed_at, chat_version) = member().await;
    assert!(joined_at < changed_at && changed_at <= chat_version);
    let call = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "laptop" });
    let started = alice.mutate_returning("startCall", call, "call { id version }").await;
    let id = started.text("startCall.call.id");
    let join = json!({ "callId": id, "deviceId": "phone" });
    let joined = bob.mutate_returning("joinCall", join, "call { version }").await;
    assert!(version(joined.at("joinCall.call")) > version(started.at("startCall.call")));
}

#[engine_test]
async fn reply_that_is_only_in_its_thread_is_not_in_chat(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let root = alice.send(&chat, "root").await;
    for (also_in_chat, expected) in [(false, false), (true, true)] {
        let input = json!({ "chatId": chat, "text": "reply", "threadRootId": root, "alsoInChat": also_in_chat });
        let reply = alice.mutate_returning("sendMessage", input, "message { inChat }").await;
        assert_eq!(reply.at("sendMessage.message.inChat"), &json!(expected));
    }
    assert_eq!(alice.fetch_message(&root, "inChat").await["inChat"], true);
}

#[engine_test]
async fn removal_of_a_member_names_the_membership(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let start = bob.fetch_chat(&chat, "feedCursor viewerMembership { id }").await;
    let mut feed = alice.subscribe(FEED, json!({ "chat": chat, "after": start["feedCursor"] })).await;
    bob.mutate_returning("leaveChat", json!({ "chatId": chat }), "removedUserId").await.data();
    let removed = feed.next_of_type("MemberRemoved").await;
    assert_eq!((&removed["userId"], &removed["memberId"]), (&json!("bob"), &start["viewerMembership"]["id"]));
}

#[engine_test]
async fn response_with_a_cursor_equals_one_without(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let messages = join_all((0..5).map(|_| bob.send(&chat, "**hello** alice"))).await;
    alice
        .mutate_returning("addReaction", json!({ "messageId": messages[0], "emoji": "👍" }), "message { id }")
        .await
        .data();
    let query = format!(
        "{{
            a: chat(id: \"{chat}\") {{ ...C feedCursor }}
            b: node(id: \"{chat}\") {{ ... on Chat {{ ...C }} }}
            chats(first: 10) {{ nodes {{ ...C }} }}
            message(id: \"{}\") {{ ...M }}
            searchMessages(query: \"hello\") {{ edges {{ snippet node {{ ...M }} }} }}
            users(first: 10) {{ nodes {{ id name presence {{ status }} }} }}
            calls(first: 10) {{ nodes {{ id }} }}
            viewer {{ unread {{ messages mentions }} notifications(first: 10) {{ nodes {{ id message {{ ...M }} }} }} }}
        }}
        fragment C on Chat {{
            id version members(first: 10) {{ nodes {{ id role user {{ name }} unreadCount }} }} lastMessage {{ ...M }}
            messages(last: 10) {{ totalCount nodes {{ ...M }} }} pinnedMessages {{ totalCount nodes {{ id }} }}
            viewerCan {{ action allowed }} viewerMembership {{ unreadCount }} activeCall {{ id }} typing {{ id }}
            around: messages(around: \"{}\", last: 3) {{ nodes {{ id }} }}
        }}
        fragment M on Message {{
            id html status readBy(first: 5) {{ nodes {{ id }} }} reactions {{ emoji count viewerReacted users(first: 3) {{ id }} }}
            mentions {{ id }} replies(last: 3) {{ nodes {{ id }} }} editHistory {{ nodes {{ text }} }} viewerCanEdit
        }}",
        messages[1], messages[2]
    );
    let reply = alice.ask(&query).await;
    let mut with_cursor = reply.data().clone();
    let cursor = with_cursor["a"].as_object_mut().expect("a chat").remove("feedCursor");
    assert!(cursor.is_some(), "{with_cursor}");
    let without_cursor = alice.ask(&query.replace("feedCursor", "")).await;
    assert_eq!(with_cursor, *without_cursor.data());
}

#[engine_test]
async fn inbox_cursor_needs_the_right_to_view_chats(app: &TestApp) {
    let carol = app.user_in("demo", "carol", Some(&["chat.create_group"])).await;
    carol.ask_with("{ viewer { inboxCursor } }", json!({})).await.assert_error("FORBIDDEN");
}
