//! Mentions: of members by name, and of everyone.

use serde_json::{Value, json};

use crate::support::{User, each_engine};

async fn unread(who: &User, chat: &str) -> (i64, i64) {
    let seen = who.sees_chat(chat, "viewerMembership { unreadCount unreadMentionCount }").await;
    let own = &seen["viewerMembership"];
    (own["unreadCount"].as_i64().unwrap(), own["unreadMentionCount"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_mentions_members_and_nobody_else() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        app.user("eve").await;
        let mention = |ids: &[&str]| json!({ "text": "look", "mentionIds": ids });
        let id = alice.sends(&chat, mention(&["carol", "bob", "carol"])).await;
        let seen = bob.sees(&id, "mentions { id } mentionsEveryone").await;
        assert_eq!(seen, json!({ "mentions": [{ "id": "bob" }, { "id": "carol" }], "mentionsEveryone": false }));
        for stranger in ["eve", "nobody"] {
            alice.try_send(&chat, mention(&["bob", stranger])).await.bad_input("mentionIds");
        }
        carol.does("leaveChat", json!({ "chatId": chat })).await;
        alice.try_send(&chat, mention(&["carol"])).await.bad_input("mentionIds");
        let seen = bob.sees(&id, "mentions { id }").await;
        assert_eq!(seen["mentions"], json!([{ "id": "bob" }, { "id": "carol" }]), "as they were when it was sent");
        let same = mention(&["bob"]);
        let with_nonce = |mut input: Value| {
            input["nonce"] = "n".into();
            input
        };
        let first = alice.sends(&chat, with_nonce(same.clone())).await;
        assert_eq!(alice.sends(&chat, with_nonce(mention(&["bob", "bob"]))).await, first);
        alice.try_send(&chat, with_nonce(mention(&[]))).await.refused("CONFLICT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_mentions_at_most_a_hundred() {
    each_engine(async |app| {
        let alice = app.user("alice").await;
        let ids: Vec<String> = (0..101).map(|n| format!("p{n:03}")).collect();
        for id in &ids {
            app.user(id).await;
        }
        let chat = alice.group("Walk", &[]).await;
        alice.does("addMembers", json!({ "chatId": chat, "userIds": ids[..100] })).await;
        alice.does("addMembers", json!({ "chatId": chat, "userIds": ids[100..] })).await;
        alice.try_send(&chat, json!({ "text": "all", "mentionIds": ids })).await.bad_input("mentionIds");
        let id = alice.sends(&chat, json!({ "text": "all", "mentionIds": ids[1..] })).await;
        assert_eq!(alice.sees(&id, "mentions { id }").await["mentions"].as_array().unwrap().len(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_is_mentioned_by_those_who_may() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let everyone = json!({ "text": "all of you", "mentionsEveryone": true });
        bob.try_send(&chat, everyone.clone()).await.refused("FORBIDDEN");
        let id = alice.sends(&chat, everyone.clone()).await;
        assert_eq!(
            bob.sees(&id, "mentionsEveryone mentions { id }").await,
            json!({ "mentionsEveryone": true, "mentions": [] })
        );
        assert_eq!((unread(&alice, &chat).await, unread(&bob, &chat).await), ((0, 0), (1, 1)));
        alice
            .does(
                "updateChat",
                json!({ "chatId": chat, "policy": [{ "action": "MENTION_EVERYONE", "role": "MEMBER" }] }),
            )
            .await;
        bob.sends(&chat, everyone.clone()).await;
        assert_eq!(unread(&alice, &chat).await, (1, 1));
        let direct = bob.mutate("openDirectChat", json!({ "userId": "alice" }), "chat { id }").await;
        bob.sends(&direct.text("openDirectChat.chat.id"), everyone).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_mentions_are_counted_exactly() {
    each_engine(async |app| {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let chat = alice.group("Walk", &[&bob, &carol]).await;
        let bob_too = json!({ "text": "bob", "mentionIds": ["bob"] });
        let first = alice.sends(&chat, bob_too.clone()).await;
        alice.send(&chat, "plain").await;
        let both = alice.sends(&chat, json!({ "text": "bob", "mentionIds": ["bob"], "mentionsEveryone": true })).await;
        bob.sends(&chat, json!({ "text": "myself", "mentionIds": ["bob"], "threadRootId": first })).await;
        assert_eq!((unread(&bob, &chat).await, unread(&carol, &chat).await), ((3, 2), (3, 1)));
        alice.sends(&chat, json!({ "text": "aside", "mentionIds": ["bob"], "threadRootId": first })).await;
        assert_eq!(unread(&bob, &chat).await, (3, 2), "replies of threads are left out");
        alice
            .sends(&chat, json!({ "text": "both", "mentionIds": ["bob"], "threadRootId": first, "alsoInChat": true }))
            .await;
        assert_eq!(unread(&bob, &chat).await, (4, 3));
        let totals = bob.ask("{ viewer { unread { chats messages mentions } } }").await;
        assert_eq!(totals.at("viewer.unread"), &json!({ "chats": 1, "messages": 4, "mentions": 3 }));
        let others = alice.sees_chat(&chat, "members { nodes { unreadMentionCount } }").await;
        assert!(others["members"]["nodes"].as_array().unwrap().iter().all(|member| member["unreadMentionCount"] == 0));
        alice.delete(&both).await;
        assert_eq!(unread(&bob, &chat).await, (3, 2), "a deleted one counts no more");
        assert_eq!(
            bob.sees(&both, "mentions { id } mentionsEveryone").await,
            json!({ "mentions": [], "mentionsEveryone": false })
        );
        bob.does("markRead", json!({ "chatId": chat, "upToMessageId": first })).await;
        assert_eq!(unread(&bob, &chat).await, (2, 1));
        bob.does("markRead", json!({ "chatId": chat })).await;
        assert_eq!(unread(&bob, &chat).await, (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_mentions_nobody_anew() {
    each_engine(async |app| {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let chat = alice.group("Walk", &[&bob]).await;
        let plain = alice.send(&chat, "hello").await;
        let named = alice.sends(&chat, json!({ "text": "hello bob", "mentionIds": ["bob"] })).await;
        bob.does("markRead", json!({ "chatId": chat })).await;
        for id in [&plain, &named] {
            alice.does("editMessage", json!({ "messageId": id, "text": "hello @bob @everyone" })).await;
        }
        assert_eq!(unread(&bob, &chat).await, (0, 0));
        assert_eq!(
            bob.sees(&plain, "mentions { id } mentionsEveryone").await,
            json!({ "mentions": [], "mentionsEveryone": false })
        );
        assert_eq!(
            bob.sees(&named, "mentions { id }").await["mentions"],
            json!([{ "id": "bob" }]),
            "it stays as it was sent"
        );
        let told = bob.ask("{ viewer { unread { notifications } notifications { nodes { kind } } } }").await;
        assert_eq!(told.at("viewer.unread.notifications"), 0);
        assert_eq!(told.at("viewer.notifications.nodes"), &json!([{ "kind": "MENTION" }, { "kind": "ADDED_TO_CHAT" }]));
    })
    .await;
}
