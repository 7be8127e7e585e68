//! Forwarded messages: snapshots of messages from other chats.

use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test};

const FIELDS: &str = "id kind text sender { id } forwardedFrom { chatTitle sentAt sender { id } }";

async fn forward(user: &User, message: &str, to: &str, nonce: Option<&str>) -> Reply {
    let input = json!({ "messageId": message, "toChatId": to, "nonce": nonce });
    user.mutate_returning("forwardMessage", input, &format!("replayed message {{ {FIELDS} viewerCanEdit }}")).await
}

#[engine_test]
async fn forwarded_message_keeps_original_content(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, bob.group("Run", &[&carol]).await);
    let source = alice.send_message(&walk, json!({ "text": "at *nine*", "mentionIds": ["bob"] })).await;
    let sent_at = alice.fetch_message(&source, "createdAt").await["createdAt"].clone();
    let forwarded = forward(&bob, &source, &run, None).await;
    let message = forwarded.at("forwardMessage.message");
    let from = json!({ "chatTitle": "Walk", "sentAt": sent_at, "sender": { "id": "alice" } });
    assert_eq!((&message["text"], &message["sender"]["id"]), (&json!("at *nine*"), &json!("bob")));
    assert_eq!((&message["forwardedFrom"], &message["viewerCanEdit"]), (&from, &json!(false)));
    let id = message["id"].as_str().unwrap();
    let rest = carol.fetch_message(id, "mentions { id } html").await;
    assert_eq!(
        rest,
        json!({ "mentions": [], "html": "<p>at <em>nine</em></p>" }),
        "a forwarded message mentions no user"
    );
    let unread = carol.fetch_chat(&run, "viewerMembership { unreadCount }").await;
    assert_eq!(unread["viewerMembership"]["unreadCount"], 1);
    bob.mutate("editMessage", json!({ "messageId": id, "text": "at ten" })).await.assert_error("FORBIDDEN");
    alice.mutate_ok("editMessage", json!({ "messageId": source, "text": "at ten" })).await;
    assert_eq!(carol.fetch_message(id, "text").await["text"], "at *nine*");
    let newer = forward(&bob, &source, &run, None).await;
    assert_eq!(newer.at("forwardMessage.message.text"), "at ten");
    alice.mutate_ok("updateChat", json!({ "chatId": walk, "title": "Hike" })).await;
    alice.delete_message(&source).await;
    assert_eq!(
        carol.fetch_message(id, "text forwardedFrom { chatTitle sentAt sender { id } }").await,
        json!({ "text": "at *nine*", "forwardedFrom": from })
    );
    forward(&bob, &source, &run, None).await.assert_error("FORBIDDEN");
    bob.delete_message(id).await;
    assert_eq!(
        carol.fetch_message(id, "text forwardedFrom { sentAt }").await,
        json!({ "text": null, "forwardedFrom": null })
    );
}

#[engine_test]
async fn forward_of_forward_keeps_first_origin(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let direct = alice.mutate_returning("openDirectChat", json!({ "userId": "bob" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    let (run, swim) = (bob.group("Run", &[&carol]).await, carol.group("Swim", &[]).await);
    let source = alice.send_message(&direct, json!({ "text": "🎉" })).await;
    let first = forward(&bob, &source, &run, None).await.at("forwardMessage.message").clone();
    let second = forward(&carol, first["id"].as_str().unwrap(), &swim, None).await;
    let second = second.at("forwardMessage.message");
    assert_eq!((&first["forwardedFrom"], &first["kind"]), (&second["forwardedFrom"], &json!("EMOJI")));
    assert_eq!(second["forwardedFrom"]["sender"]["id"], "alice");
    assert_eq!(second["forwardedFrom"]["chatTitle"], Value::Null, "a direct chat has no title");
    let same = forward(&alice, &source, &direct, None).await;
    assert_eq!(same.at("forwardMessage.message.text"), "🎉", "in the same chat");
    let plain = alice.send(&direct, "mine").await;
    assert_eq!(alice.fetch_message(&plain, "forwardedFrom { sentAt }").await["forwardedFrom"], Value::Null);
}

#[engine_test]
async fn forward_needs_read_access_and_right_to_post(app: &TestApp) {
    let (alice, bob, eve) = (app.user("alice").await, app.user("bob").await, app.user("eve").await);
    let (walk, own) = (alice.group("Walk", &[&bob]).await, eve.group("Own", &[]).await);
    let news = alice.chat("CHANNEL", "News", &[&bob]).await;
    let (source, announced) = (alice.send(&walk, "hello").await, alice.send(&news, "hello").await);
    forward(&eve, &source, &own, None).await.assert_error("NOT_FOUND");
    // Everyone sees a channel, and its members read its messages.
    forward(&eve, &announced, &own, None).await.assert_error("NOT_FOUND");
    forward(&eve, "msg_nonsense", &own, None).await.assert_error("NOT_FOUND");
    forward(&bob, &source, &own, None).await.assert_error("NOT_FOUND");
    forward(&bob, &source, &news, None).await.assert_error("FORBIDDEN");
    forward(&bob, &source, "chat_x", None).await.assert_error("NOT_FOUND");
    eve.mutate_ok("joinChannel", json!({ "chatId": news })).await;
    forward(&eve, &announced, &own, None).await.data();
    eve.mutate_ok("leaveChat", json!({ "chatId": news })).await;
    forward(&eve, &announced, &own, None).await.assert_error("NOT_FOUND");
    let all = ["chat.view", "chat.create_group"];
    let other = app.user_in("other", "bob", Some(&all)).await;
    let other_chat = other.group("Theirs", &[]).await;
    forward(&other, &source, &other_chat, None).await.assert_error("NOT_FOUND");
    alice.mutate_ok("updateChat", json!({ "chatId": walk, "slowModeSeconds": 60 })).await;
    forward(&bob, &source, &walk, None).await.data();
    forward(&bob, &source, &walk, None).await.retry_after();
}

#[engine_test]
async fn forward_replay_returns_first_after_source_deletion(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, bob.group("Run", &[]).await);
    let (source, other) = (alice.send(&walk, "hello").await, alice.send(&walk, "hello").await);
    let first = forward(&bob, &source, &run, Some("n")).await;
    assert_eq!(first.at("forwardMessage.replayed"), false);
    alice.mutate_ok("editMessage", json!({ "messageId": source, "text": "changed" })).await;
    let message = first.at("forwardMessage.message");
    let again = async || {
        let again = forward(&bob, &source, &run, Some("n")).await;
        assert_eq!(again.at("forwardMessage.replayed"), true);
        assert_eq!(again.at("forwardMessage.message"), message);
    };
    again().await;
    alice.delete_message(&source).await;
    again().await;
    alice.mutate_ok("removeMember", json!({ "chatId": walk, "userId": "bob" })).await;
    again().await;
    forward(&bob, &other, &run, Some("n")).await.assert_error("CONFLICT");
    bob.try_send_message(&run, json!({ "text": "hello", "nonce": "n" })).await.assert_error("CONFLICT");
    let long = "x".repeat(129);
    forward(&bob, &source, &run, Some(&long)).await.assert_bad_input("nonce");
}

#[engine_test]
async fn forward_copies_poll_without_votes_and_location(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[]).await);
    let poll = json!({ "question": "Where to?", "options": ["hill", "lake"], "multipleChoice": true, "closesAt": app.time_in(60) });
    let source = alice.send_message(&walk, json!({ "poll": poll })).await;
    let fields = "poll { question multipleChoice anonymous closed closesAt voterCount options { id text voteCount } }";
    let options = bob.fetch_message(&source, fields).await["poll"]["options"].clone();
    bob.mutate_ok("votePoll", json!({ "messageId": source, "optionIds": [options[1]["id"]] })).await;
    alice.mutate_ok("closePoll", json!({ "messageId": source })).await;
    let copy = forward(&alice, &source, &run, None).await.text("forwardMessage.message.id");
    let mut copied_poll = alice.fetch_message(&copy, fields).await["poll"].clone();
    for option in copied_poll["options"].as_array_mut().unwrap() {
        let id = option.as_object_mut().unwrap().remove("id").unwrap();
        assert_ne!(id, options[0]["id"]);
        assert_ne!(id, options[1]["id"]);
    }
    let options = json!([{ "text": "hill", "voteCount": 0 }, { "text": "lake", "voteCount": 0 }]);
    assert_eq!(
        copied_poll,
        json!({ "question": "Where to?", "multipleChoice": true, "anonymous": false, "closed": false, "closesAt": null,
                "voterCount": 0, "options": options })
    );
    let location_message = json!({ "location": { "latitude": 47.5, "longitude": 19.04, "name": "Home" } });
    let source = alice.send_message(&walk, location_message).await;
    let copy = forward(&bob, &source, &walk, None).await.text("forwardMessage.message.id");
    let fields = alice.fetch_message(&copy, "kind text location { latitude longitude name address }").await;
    let location = json!({ "latitude": 47.5, "longitude": 19.04, "name": "Home", "address": null });
    assert_eq!(fields, json!({ "kind": "LOCATION", "text": null, "location": location }));
}
