//! Unread totals over all chats, and the preferences of members in a chat.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

async fn totals(user: &User) -> Value {
    let seen = user.ask("{ viewer { unread { chats messages mentions } } }").await;
    let unread = seen.at("viewer.unread");
    json!([unread["chats"], unread["messages"], unread["mentions"]])
}

async fn set(user: &User, chat: &str, field: &str, value: Value) -> Value {
    let input = json!({ "chatId": chat, field: value });
    let selection = format!("member {{ {field} }}");
    user.mutate_returning("updateMyMembership", input, &selection).await.at("updateMyMembership.member")[field].clone()
}

#[engine_test]
async fn muted_chats_are_excluded_from_unread_totals(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    assert_eq!(totals(&bob).await, json!([0, 0, 0]));
    alice.send_message(&walk, json!({ "text": "one", "mentionIds": ["bob"] })).await;
    alice.send(&walk, "two").await;
    alice.send(&run, "three").await;
    assert_eq!(totals(&bob).await, json!([2, 3, 1]));
    set(&bob, &walk, "mutedUntil", json!(app.time_in(600))).await;
    assert_eq!(totals(&bob).await, json!([1, 1, 0]));
    let own = bob.fetch_chat(&walk, "viewerMembership { unreadCount unreadMentionCount }").await;
    assert_eq!(own["viewerMembership"], json!({ "unreadCount": 2, "unreadMentionCount": 1 }));
    app.advance(600);
    assert_eq!(totals(&bob).await, json!([2, 3, 1]), "the mute ends at its exact time");
    set(&bob, &walk, "mutedUntil", json!(app.time_in(600))).await;
    assert_eq!(set(&bob, &walk, "mutedUntil", Value::Null).await, Value::Null);
    assert_eq!(totals(&bob).await, json!([2, 3, 1]));
    alice.mutate_ok("archiveChat", json!({ "chatId": run, "archived": true })).await;
    assert_eq!(totals(&bob).await, json!([1, 2, 1]));
    bob.mutate_ok("leaveChat", json!({ "chatId": walk })).await;
    assert_eq!(totals(&bob).await, json!([0, 0, 0]));
}

#[engine_test]
async fn unread_count_is_capped_at_1000(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let send = async |count: usize| {
        for _ in 0..count / 50 {
            let sends = (0..50).map(|_| alice.send_message(&chat, json!({ "text": "bob", "mentionIds": ["bob"] })));
            futures_util::future::join_all(sends).await;
        }
    };
    let own = async || {
        let seen = bob.fetch_chat(&chat, "viewerMembership { unreadCount unreadMentionCount }").await;
        json!([seen["viewerMembership"]["unreadCount"], seen["viewerMembership"]["unreadMentionCount"]])
    };
    send(950).await;
    assert_eq!(
        (own().await, totals(&bob).await),
        (json!([950, 950]), json!([1, 950, 950])),
        "the count is exact below the limit"
    );
    send(100).await;
    assert_eq!((own().await, totals(&bob).await), (json!([1_000, 1_000]), json!([1, 1_000, 1_000])));
    let reply = bob.ask("{ viewer { unread { notifications } } }").await;
    assert_eq!(reply.at("viewer.unread.notifications"), 1_000);
}

#[engine_test]
async fn member_preferences_persist_until_changed(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let all = "viewerMembership { notificationLevel mutedUntil pinned draft markedUnread }";
    let own = async || bob.fetch_chat(&chat, all).await["viewerMembership"].clone();
    let default = json!({ "notificationLevel": "ALL", "mutedUntil": null, "pinned": false, "draft": null, "markedUnread": false });
    assert_eq!(own().await, default);
    let version = bob.fetch_chat(&chat, "version").await;
    let (muted, draft) = ("2999-01-01T00:00:00.000Z", " and\nthen ");
    for (field, value) in [
        ("notificationLevel", json!("NONE")),
        ("notificationLevel", json!("MENTIONS")),
        ("mutedUntil", json!(muted)),
        ("pinned", json!(true)),
        ("draft", json!(draft)),
    ] {
        assert_eq!(set(&bob, &chat, field, value.clone()).await, value, "{field}");
    }
    let set_by_bob = json!({ "notificationLevel": "MENTIONS", "mutedUntil": muted, "pinned": true, "draft": draft, "markedUnread": false });
    assert_eq!(own().await, set_by_bob, "an omitted field keeps its value");
    bob.mutate_ok("updateMyMembership", json!({ "chatId": chat })).await;
    assert_eq!(own().await, set_by_bob);
    assert_eq!(bob.fetch_chat(&chat, "version").await, version, "preferences do not change the version of the chat");
    let listed = async |pinned: bool| {
        let query = format!("{{ chats(filter: {{ pinned: {pinned} }}) {{ nodes {{ id }} }} }}");
        bob.ask(&query).await.at("chats.nodes").as_array().unwrap().len()
    };
    assert_eq!((listed(true).await, listed(false).await), (1, 0));
    let others =
        alice.fetch_chat(&chat, "members { nodes { notificationLevel mutedUntil pinned draft markedUnread } }").await;
    assert_eq!(others["members"]["nodes"], json!([default, default]), "other members do not see preferences");
    bob.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    alice.add_member(&chat, "bob", "MEMBER").await;
    assert_eq!(own().await, default, "a returning member has fresh preferences");
    for field in ["notificationLevel", "mutedUntil", "pinned", "draft"] {
        set(&bob, &chat, field, set_by_bob[field].clone()).await;
        set(&bob, &chat, field, Value::Null).await;
    }
    assert_eq!(own().await, default, "null restores the default");
}

#[engine_test]
async fn member_preference_limits_are_enforced(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[]).await;
    let draft = |text: String| json!({ "chatId": chat, "draft": text });
    alice.mutate_ok("updateMyMembership", draft("ü".repeat(10_000))).await;
    alice.mutate("updateMyMembership", draft("ü".repeat(10_001))).await.assert_bad_input("draft");
    alice.mutate("updateMyMembership", draft("a\u{0}b".into())).await.assert_bad_input("draft");
    assert_eq!(set(&alice, &chat, "draft", json!("")).await, Value::Null, "an empty draft is no draft");
    bob.mutate("updateMyMembership", draft("mine".into())).await.assert_error("NOT_FOUND");
    let news = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate("updateMyMembership", json!({ "chatId": news, "pinned": true })).await.assert_error("FORBIDDEN");
    let feed = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MemberUpserted { member { draft user { id } } } } }";
    let own = alice.group("Own", &[&bob]).await;
    let mut bob_feed = bob.subscribe(feed, json!({ "chat": own })).await;
    bob_feed.expect("FeedCaughtUp").await;
    set(&alice, &own, "draft", json!("secret")).await;
    set(&bob, &own, "draft", json!("mine")).await;
    let mut drafts = Vec::new();
    while drafts.last() != Some(&json!("mine")) {
        let event = bob_feed.next().await;
        drafts.extend(pluck(&json!([event["member"]]), "draft"));
    }
    assert!(!drafts.contains(&json!("secret")), "{drafts:?}");
}
