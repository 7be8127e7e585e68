//! Chats whose ids follow from their users, their resource, or their creator and a nonce.

use futures_util::future::join_all;
use parlor::domain::chat_events::{ChatEvent, ChatEventKind};
use parlor::domain::chats::{Resource, direct_chat_id, nonce_chat_id};
use parlor::domain::ids::{ChatId, Nonce, OrganizationId};
use parlor::storage::chats;
use serde_json::{Value, json};
use testkit::{Feed, Reply, TestApp, User, engine_test};

use crate::api::feeds::{next_text_message, send_until_delivered};
use crate::api::inbox::{caught_up_inbox, subscribe_inbox};

fn walk() -> Value {
    json!({ "kind": "GROUP", "title": "Walk", "memberIds": ["bob"], "nonce": "walk" })
}

async fn create(user: &User, input: Value) -> Reply {
    user.mutate_returning("createChat", input, "chat { id title createdAt }").await
}

async fn create_walk(user: &User) -> String {
    create(user, walk()).await.text("createChat.chat.id")
}

async fn delete(user: &User, chat: &str) {
    user.mutate_ok("deleteChat", json!({ "chatId": chat })).await;
}

async fn seq_of(user: &User, message: &str) -> i64 {
    user.fetch_message(message, "seq").await["seq"].as_i64().expect("a number")
}

/// Returns the texts of messages of users that a feed delivers until it has caught up.
async fn delivered_texts(feed: &mut Feed) -> Vec<Value> {
    let events = feed.catch_up().await;
    events.iter().map(|event| event["message"]["text"].clone()).filter(|text| !text.is_null()).collect()
}

#[engine_test]
async fn chat_id_follows_from_users_resource_or_nonce(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (other_alice, other_bob) = (app.user_in("other", "alice", None).await, app.user_in("other", "bob", None).await);
    let demo: OrganizationId = "demo".parse().unwrap();
    let [a, b] = ["alice", "bob"].map(|id| id.parse().unwrap());
    let direct = alice.direct(&bob).await;
    assert_eq!(direct, direct_chat_id(&demo, &a, &b).to_string());
    assert_eq!(bob.direct(&alice).await, direct);
    assert_eq!(alice.direct(&alice).await, direct_chat_id(&demo, &a, &a).to_string());
    assert_ne!(other_alice.direct(&other_bob).await, direct);

    let walk_id = create_walk(&alice).await;
    assert_eq!(walk_id, nonce_chat_id(&demo, &a, &Nonce::parse("walk").unwrap()).to_string());
    let of_bob = create(&bob, json!({ "kind": "GROUP", "title": "Walk", "memberIds": [], "nonce": "walk" })).await;
    assert_ne!(of_bob.text("createChat.chat.id"), walk_id, "the nonce is of its creator");
    assert_ne!(create_walk(&other_alice).await, walk_id);

    let host = app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await;
    let input = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket", "memberIds": ["alice"] });
    let ticket = host.mutate_returning("ensureResourceChat", input, "chat { id }").await;
    let resource = Resource { kind: "ticket".into(), id: "7".into() };
    assert_eq!(ticket.text("ensureResourceChat.chat.id"), resource.chat_id(&demo).to_string());
    for chat in [direct, walk_id] {
        assert_eq!(chat.parse::<ChatId>().unwrap().bucket(), demo.bucket());
        assert_eq!(other_alice.fetch_chat(&chat, "id").await, Value::Null, "another organisation");
    }
}

#[engine_test]
async fn id_of_an_earlier_form_belongs_to_no_object(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let id: ChatId = chat.parse().unwrap();
    let mut bytes = id.0.into_bytes();
    bytes[6] = 0x70 | (bytes[6] & 0xF);
    let earlier = ChatId(uuid::Uuid::from_bytes(bytes)).to_string();
    assert_eq!(alice.fetch_chat(&earlier, "id").await, Value::Null);
    alice.try_send_message(&earlier, json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
    let nodes =
        alice.ask_with("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", json!({ "ids": [chat, earlier] })).await;
    assert_eq!(nodes.at("nodes"), &json!([{ "id": chat }, null]));
}

#[engine_test]
async fn replayed_creation_is_refused_to_a_creator_who_left(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    assert_eq!(create_walk(&alice).await, chat);
    for change in [json!({ "title": "Run" }), json!({ "kind": "CHANNEL" }), json!({ "memberIds": [] })] {
        let mut other = walk();
        other.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        create(&alice, other).await.assert_error("CONFLICT");
    }
    alice.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    create(&alice, walk()).await.assert_error("NOT_FOUND");
    let seen = bob.fetch_chat(&chat, "memberCount").await;
    assert_eq!(seen["memberCount"], 1, "the repeated request changed nothing");
}

#[engine_test]
async fn chat_made_again_continues_the_numbers_of_the_deleted_one(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    let old = alice.send_message(&chat, json!({ "text": "old, bob", "mentionIds": ["bob"] })).await;
    let old_seq = seq_of(&bob, &old).await;
    delete(&alice, &chat).await;
    assert_eq!(alice.fetch_chat(&chat, "id").await, Value::Null);

    // The nonce is free again, for any content.
    let mut input = walk();
    input["title"] = "Another walk".into();
    assert_eq!(create(&alice, input).await.text("createChat.chat.id"), chat);
    for user in [&alice, &bob] {
        assert_eq!(user.fetch_message(&old, "id").await, Value::Null);
        let fields = "title lastMessage { id } viewerMembership { unreadCount unreadMentionCount }";
        let seen = user.fetch_chat(&chat, fields).await;
        let member = json!({ "unreadCount": 0, "unreadMentionCount": 0 });
        assert_eq!(seen, json!({ "title": "Another walk", "lastMessage": null, "viewerMembership": member }));
    }
    let new = alice.send_message(&chat, json!({ "text": "new" })).await;
    assert!(seq_of(&bob, &new).await > old_seq, "no number is used twice");
    assert_eq!(bob.fetch_message(&old, "id").await, Value::Null);
    assert_eq!(bob.fetch_texts(&chat).await, ["new"]);
    let seen = bob.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
    assert_eq!(seen["viewerMembership"]["unreadCount"], 1);

    // It continues after the second deletion too.
    let second_seq = seq_of(&bob, &new).await;
    delete(&alice, &chat).await;
    assert_eq!(create_walk(&alice).await, chat);
    let third = alice.send(&chat, "third").await;
    assert!(seq_of(&bob, &third).await > second_seq);
}

#[engine_test]
async fn resource_chat_made_again_continues_the_numbers_of_the_deleted_one(app: &TestApp) {
    let alice = app.user("alice").await;
    let host = app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await;
    let ensure = async || {
        let input = json!({
            "resource": { "type": "ticket", "id": "7" }, "title": "Ticket", "memberIds": ["alice"],
            "roles": [{ "userId": "alice", "role": "OWNER" }],
        });
        host.mutate_returning("ensureResourceChat", input, "chat { id }").await.text("ensureResourceChat.chat.id")
    };
    let chat = ensure().await;
    let old = alice.send(&chat, "old").await;
    let old_seq = seq_of(&alice, &old).await;
    delete(&alice, &chat).await;
    assert_eq!(ensure().await, chat);
    let new = alice.send(&chat, "new").await;
    assert!(seq_of(&alice, &new).await > old_seq);
    assert_eq!(alice.fetch_message(&old, "id").await, Value::Null);
}

#[engine_test]
async fn feed_cursor_of_a_deleted_chat_resets_in_the_chat_made_again(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    alice.send(&chat, "old").await;
    let mut feed = bob.feed(&chat, Some(10), None).await;
    let mut cursors = Vec::new();
    loop {
        let event = feed.next().await;
        cursors.push(event["cursor"].as_str().expect("a cursor").to_owned());
        if event["__typename"] == "FeedCaughtUp" {
            break;
        }
    }
    assert!(cursors.len() > 2);
    delete(&alice, &chat).await;
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    for cursor in &cursors {
        assert_eq!(bob.feed(&chat, None, Some(cursor)).await.error_code().await, "NOT_FOUND");
    }

    assert_eq!(create_walk(&alice).await, chat);
    alice.send(&chat, "new").await;
    for cursor in &cursors {
        let mut resumed = bob.feed(&chat, None, Some(cursor)).await;
        let reset = resumed.next().await;
        assert_eq!((&reset["__typename"], &reset["reason"]), (&json!("FeedReset"), &json!("ACCESS_CHANGED")));
        let rest = reset["cursor"].as_str().expect("a cursor");
        // The client loads the chat again, and nothing old comes before the live events.
        alice.send(&chat, "live").await;
        assert_eq!(resumed.expect("MessageUpserted").await["message"]["text"], "live");
        assert_eq!(delivered_texts(&mut bob.feed(&chat, None, Some(rest)).await).await, ["live"]);
    }
}

#[engine_test]
async fn inbox_resumed_over_a_deletion_has_the_chat_made_again(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    let gone = alice.group("Gone", &[&bob]).await;
    let (feed, cursor) = caught_up_inbox(&bob).await;
    drop(feed);
    for chat in [&chat, &gone] {
        delete(&alice, chat).await;
    }
    assert_eq!(create_walk(&alice).await, chat);
    alice.send(&chat, "new").await;
    let events = subscribe_inbox(&bob, Some(&cursor)).await.catch_up().await;
    let last_about = |id: &str| {
        let is_about = |event: &&Value| event["chat"]["id"] == id || event["chatId"] == id;
        events.iter().rfind(is_about).unwrap_or_else(|| panic!("nothing about {id}: {events:?}"))
    };
    assert_eq!(last_about(&gone)["__typename"], "ChatRemoved");
    assert_eq!(last_about(&chat)["__typename"], "ChatUpserted");
    assert_eq!(last_about(&chat)["chat"]["lastMessage"]["text"], "new");
}

#[engine_test]
async fn late_event_of_a_deletion_does_not_end_feeds_of_the_chat_made_again(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    alice.send(&chat, "old").await;
    let id: ChatId = chat.parse().unwrap();
    let versions = chats::versions(&mut app.app.database.read().await.unwrap(), &[id]).await.unwrap();
    delete(&alice, &chat).await;
    assert_eq!(create_walk(&alice).await, chat);

    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let mut typing = bob.typing_feed(&chat).await;
    typing.next_typing_users().await;
    let mut added = bob.subscribe("subscription { messageAdded { text } }", json!({})).await;
    send_until_delivered(&alice, &chat, &mut added).await;
    let kind = ChatEventKind::Deleted { version: versions[&id] };
    app.app.hub.deliver(ChatEvent::new("demo".parse().unwrap(), id, app.app.clock.now(), kind));
    alice.set_typing(&chat, true).await;
    assert_eq!(typing.next_typing_users().await, ["alice"]);
    alice.send(&chat, "new").await;
    assert_eq!(next_text_message(&mut feed).await["text"], "new");
    assert_eq!(next_text_message(&mut added).await["text"], "new");
}

#[engine_test]
async fn chat_is_made_again_once_under_concurrency(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    let mut newest = seq_of(&bob, &alice.send(&chat, "first").await).await;
    for round in 0..5 {
        delete(&alice, &chat).await;
        let created = join_all((0..8).map(|_| create(&alice, walk()))).await;
        for reply in &created {
            assert_eq!(reply.at("createChat.chat"), created[0].at("createChat.chat"), "round {round}");
        }
        assert_eq!(bob.fetch_chat(&chat, "memberCount").await["memberCount"], 2);
        let seq = seq_of(&bob, &alice.send(&chat, "next").await).await;
        assert!(seq > newest, "round {round}: {seq} after {newest}");
        newest = seq;
    }
}

#[engine_test]
async fn deletion_at_the_time_of_a_creation_reuses_no_number(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = create_walk(&alice).await;
    let mut newest = seq_of(&bob, &alice.send(&chat, "first").await).await;
    for round in 0..15 {
        // Each creation finds the chat before the deletion, or makes it again after it.
        let creations = join_all((0..4).map(|_| create(&alice, walk())));
        let (created, ()) = tokio::join!(creations, delete(&alice, &chat));
        for reply in &created {
            assert_eq!(reply.text("createChat.chat.id"), chat, "round {round}");
        }
        assert_eq!(create_walk(&alice).await, chat);
        let seq = seq_of(&bob, &alice.send(&chat, "next").await).await;
        assert!(seq > newest, "round {round}: {seq} after {newest}");
        newest = seq;
    }
}
