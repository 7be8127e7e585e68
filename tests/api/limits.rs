//! Rate limits: their size, their scope, and the requests that share one.

use std::time::Duration;

use serde_json::json;
use testkit::{TestApp, engine_test};

#[engine_test(settings = [("PARLOR_SENDS_PER_MINUTE", "5")])]
async fn send_rate_is_limited_per_user(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[]).await);
    let first = json!({ "text": "first", "nonce": "n" });
    let id = alice.send_message(&walk, first.clone()).await;
    for n in 1..5 {
        alice.send(if n % 2 == 0 { &walk } else { &run }, &n.to_string()).await;
    }
    // Five sends per minute, in a burst or spread out, so the next one is allowed after at most twelve seconds.
    let wait = alice.try_send_message(&walk, json!({ "text": "sixth" })).await.retry_after();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(12), "{wait:?}");
    alice.mutate("forwardMessage", json!({ "messageId": id, "toChatId": run })).await.retry_after();
    alice.try_send_message(&walk, json!({ "text": "aside", "threadRootId": id })).await.retry_after();
    for _ in 0..10 {
        assert_eq!(alice.send_message(&walk, first.clone()).await, id, "the replay of a send is not limited");
    }
    alice.mutate("editMessage", json!({ "messageId": id, "text": "the first" })).await.retry_after();
    alice.mutate_ok("addReaction", json!({ "messageId": id, "emoji": "👍" })).await;
    bob.send(&walk, "each user has a limit of their own").await;
    let wait = alice.try_send_message(&walk, json!({ "text": "sixth" })).await.retry_after();
    app.app.clock.advance(wait);
    alice.send(&walk, "sixth").await;
    alice.try_send_message(&walk, json!({ "text": "seventh" })).await.retry_after();
    app.advance(60);
    for n in 0..5 {
        alice.send(&walk, &n.to_string()).await;
    }
    alice.try_send_message(&walk, json!({ "text": "too many" })).await.retry_after();
    let other_alice = app.user_in("other", "alice", Some(&["chat.view", "chat.create_group"])).await;
    let other_chat = other_alice.group("Theirs", &[]).await;
    other_alice.send(&other_chat, "and in each organization").await;
}

#[engine_test(settings = [("PARLOR_SENDS_PER_MINUTE", "2")])]
async fn rejected_send_consumes_no_rate_limit(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for _ in 0..10 {
        alice.try_send_message(&chat, json!({ "text": "" })).await.assert_bad_input("text");
        alice.try_send_message("chat_x", json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
        alice
            .try_send_message(&chat, json!({ "text": "hello", "mentionIds": ["nobody"] }))
            .await
            .assert_bad_input("mentionIds");
    }
    alice.send(&chat, "one").await;
    alice.send(&chat, "two").await;
    alice.try_send_message(&chat, json!({ "text": "three" })).await.retry_after();
}

#[engine_test(settings = [("PARLOR_REACTIONS_PER_MINUTE", "4")])]
async fn reactions_votes_and_reports_share_one_rate_limit(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let poll = json!({ "question": "Where to?", "options": ["hill", "lake"] });
    let id = alice.send_message(&chat, json!({ "poll": poll })).await;
    let option = bob.fetch_message(&id, "poll { options { id } }").await["poll"]["options"][0]["id"].clone();
    let reaction = json!({ "messageId": id, "emoji": "👍" });
    let all = [
        ("addReaction", reaction.clone()),
        ("removeReaction", reaction.clone()),
        ("votePoll", json!({ "messageId": id, "optionIds": [option] })),
        ("reportMessage", json!({ "messageId": id, "reason": "rude" })),
    ];
    for (field, input) in all.clone() {
        bob.mutate_ok(field, input).await;
    }
    for (field, input) in all.clone() {
        let wait = bob.mutate(field, input).await.retry_after();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(15), "{wait:?}");
    }
    bob.send(&chat, "messages have a limit of their own").await;
    alice.mutate_ok("addReaction", reaction.clone()).await;
    let wait = bob.mutate("addReaction", reaction.clone()).await.retry_after();
    app.app.clock.advance(wait);
    bob.mutate_ok("addReaction", reaction.clone()).await;
    bob.mutate("addReaction", reaction).await.retry_after();
}

#[engine_test(settings = [("PARLOR_CHATS_PER_MINUTE", "3")])]
async fn chat_creation_is_rate_limited_but_replay_is_not(app: &TestApp) {
    let all = ["chat.view", "chat.create_group", "organization.admin"];
    let (alice, bob) = (app.user_in("demo", "alice", Some(&all)).await, app.user("bob").await);
    app.user("carol").await;
    let group = json!({ "kind": "GROUP", "title": "Walk", "memberIds": [], "nonce": "n" });
    let direct = json!({ "userId": "bob" });
    let ticket = |id: &str| json!({ "resource": { "type": "ticket", "id": id }, "title": "Ticket", "memberIds": [] });
    alice.mutate_ok("createChat", group.clone()).await;
    alice.mutate_ok("openDirectChat", direct.clone()).await;
    alice.mutate_ok("ensureResourceChat", ticket("7")).await;
    for _ in 0..3 {
        alice.mutate_ok("createChat", group.clone()).await;
        alice.mutate_ok("openDirectChat", direct.clone()).await;
        alice.mutate_ok("ensureResourceChat", ticket("7")).await;
    }
    let other = json!({ "kind": "GROUP", "title": "Walk", "memberIds": [] });
    alice.mutate("openDirectChat", json!({ "userId": "carol" })).await.retry_after();
    alice.mutate("ensureResourceChat", ticket("8")).await.retry_after();
    let wait = alice.mutate("createChat", other.clone()).await.retry_after();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(20), "{wait:?}");
    bob.mutate_ok("createChat", other.clone()).await;
    app.app.clock.advance(wait);
    alice.mutate_ok("createChat", other.clone()).await;
    alice.mutate("createChat", other).await.retry_after();
}

#[engine_test(settings = [("PARLOR_SIGNALS_PER_MINUTE", "4")])]
async fn typing_and_receipts_share_one_rate_limit(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let typing = |typing: bool| ("setTyping", json!({ "chatId": chat, "typing": typing }));
    let presence = ("setPresence", json!({ "status": "AWAY", "currentChatId": chat }));
    for _ in 0..10 {
        bob.mutate("setTyping", json!({ "chatId": "chat_x", "typing": true })).await.assert_error("NOT_FOUND");
    }
    let all = [typing(true), typing(false), presence.clone(), presence.clone()];
    for (field, input) in all.clone() {
        bob.mutate_ok(field, input).await;
    }
    for (field, input) in all {
        let wait = bob.mutate(field, input).await.retry_after();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(15), "{wait:?}");
    }
    bob.send(&chat, "messages have a limit of their own").await;
    alice.mutate_ok(presence.0, presence.1.clone()).await;
    let wait = bob.mutate(presence.0, presence.1.clone()).await.retry_after();
    app.app.clock.advance(wait);
    bob.mutate_ok(presence.0, presence.1).await;
}

#[engine_test]
async fn default_rate_limits_allow_normal_use(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for n in 0..100 {
        alice.send(&chat, &n.to_string()).await;
    }
}
