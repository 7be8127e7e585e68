//! Those who are not in a chat get nothing of it, by any path, and change nothing.

use serde_json::{Value, json};

use crate::support::{TestApp, User, each_engine};

/// What the database holds, as its owner sees it.
async fn state(owner: &User, chat: &str) -> Value {
    let query = format!(
        "{{ chat(id: \"{chat}\") {{ version title memberCount members {{ nodes {{ role lastReadMessage {{ id }} user {{ id }} }} }}
           messages(first: 100) {{ nodes {{ id text reactions {{ emoji count }} editHistory {{ text }} deletedAt }} }} }} }}"
    );
    owner.ask(&query).await.data().clone()
}

struct Ids {
    chat: String,
    message: String,
    member: String,
}

/// Every mutation that takes an id of the chat, with the code that a stranger gets.
fn mutations(ids: &Ids) -> Vec<(&'static str, Value, &'static str)> {
    let Ids { chat, message, .. } = ids;
    vec![
        ("updateChat", json!({ "chatId": chat, "title": "Mine" }), "chat { id title }"),
        ("addMembers", json!({ "chatId": chat, "userIds": ["mallory"] }), "chat { id }"),
        ("removeMember", json!({ "chatId": chat, "userId": "bob" }), "chat { id }"),
        ("leaveChat", json!({ "chatId": chat }), "removedUserId"),
        ("joinChannel", json!({ "chatId": chat }), "member { id }"),
        ("sendMessage", json!({ "chatId": chat, "text": "boo" }), "message { id }"),
        ("sendMessage", json!({ "chatId": chat, "text": "boo", "replyToId": message }), "message { replyTo { text } }"),
        ("sendMessage", json!({ "chatId": chat, "text": "secret", "nonce": "alice-nonce" }), "message { text }"),
        ("editMessage", json!({ "messageId": message, "text": "boo" }), "message { text }"),
        ("deleteMessage", json!({ "messageId": message }), "message { id }"),
        ("addReaction", json!({ "messageId": message, "emoji": "👎" }), "message { id }"),
        ("removeReaction", json!({ "messageId": message, "emoji": "👍" }), "message { id }"),
        ("markRead", json!({ "chatId": chat }), "member { id }"),
        ("markRead", json!({ "chatId": chat, "upToMessageId": message }), "member { id }"),
    ]
}

async fn gets_nothing(who: &User, owner: &User, ids: &Ids) {
    let before = state(owner, &ids.chat).await;
    let Ids { chat, message, member } = ids;
    for id in [chat, message, member] {
        let look = who.ask_with("query($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } chat(id: $id) { id } message(id: $id) { id } }", json!({ "id": id })).await;
        assert_eq!(look.data(), &json!({ "node": null, "nodes": [null], "chat": null, "message": null }));
    }
    let lists = who.ask("{ chats { nodes { id } } joinable: chats(filter: { joinable: true }) { nodes { id } } found: chats(filter: { search: \"Secret\" }) { nodes { id } } viewer { unread { chats } } }").await;
    assert_eq!(
        lists.data(),
        &json!({ "chats": { "nodes": [] }, "joinable": { "nodes": [] }, "found": { "nodes": [] }, "viewer": { "unread": { "chats": 0 } } })
    );
    for (field, input, selection) in mutations(ids) {
        let reply = who.mutate(field, input, selection).await;
        reply.refused("NOT_FOUND");
        assert_eq!(reply.body["data"], json!({ field: null }), "{field}");
    }
    assert_eq!(who.feed(chat, Some(10), None).await.ends().await, "NOT_FOUND");
    let mut added = who
        .subscribe("subscription($chat: ID) { messageAdded(chatId: $chat) { text } }", json!({ "chat": chat }))
        .await;
    assert_eq!(added.ends().await, "NOT_FOUND");
    assert_eq!(state(owner, &ids.chat).await, before, "nothing changed");
}

async fn secret_group(app: &TestApp) -> (User, User, Ids) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Secret", &[&bob]).await;
    let input = json!({ "chatId": chat, "text": "secret", "nonce": "alice-nonce" });
    let message = alice.mutate("sendMessage", input, "message { id }").await.text("sendMessage.message.id");
    alice.mutate("addReaction", json!({ "messageId": message, "emoji": "👍" }), "message { id }").await.data();
    let member = alice
        .ask(&format!("{{ chat(id: \"{chat}\") {{ viewerMembership {{ id }} }} }}"))
        .await
        .text("chat.viewerMembership.id");
    (alice, bob, Ids { chat, message, member })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_of_the_organisation_gets_nothing() {
    each_engine(async |app| {
        let (alice, _, ids) = secret_group(app).await;
        gets_nothing(&app.user("mallory").await, &alice, &ids).await;
        let moderator =
            app.person("demo", "moderator", Some(&["chat.view", "chat.moderate", "organization.admin"])).await;
        gets_nothing(&moderator, &alice, &ids).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organisation_with_the_right_ids_gets_nothing() {
    each_engine(async |app| {
        let (alice, _, ids) = secret_group(app).await;
        for id in ["mallory", "alice", "bob"] {
            // The same user ids there are other people.
            gets_nothing(&app.person("elsewhere", id, None).await, &alice, &ids).await;
        }
        let spy = app.person("elsewhere", "spy", None).await;
        let people =
            spy.ask("{ users { nodes { id } } user(id: \"carol\") { id } node(id: \"org_demo\") { id } }").await;
        assert_eq!(
            people.at("users.nodes"),
            &json!([{ "id": "alice" }, { "id": "bob" }, { "id": "mallory" }, { "id": "spy" }])
        );
        assert_eq!((people.at("user"), people.at("node")), (&json!(null), &json!(null)));
        let carol = app.user("carol").await;
        spy.mutate("openDirectChat", json!({ "userId": "carol" }), "chat { id }").await.refused("NOT_FOUND");
        let channel = carol.chat("CHANNEL", "News", &[]).await;
        spy.mutate("joinChannel", json!({ "chatId": channel }), "member { id }").await.refused("NOT_FOUND");
        assert_eq!(spy.ask(&format!("{{ chat(id: \"{channel}\") {{ id }} }}")).await.at("chat"), &json!(null));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_was_a_member_gets_nothing_any_more() {
    each_engine(async |app| {
        let (alice, bob, ids) = secret_group(app).await;
        let mut feed = bob.feed(&ids.chat, None, None).await;
        feed.expect("FeedCaughtUp").await;
        alice.mutate("removeMember", json!({ "chatId": ids.chat, "userId": "bob" }), "removedUserId").await.data();
        assert_eq!(feed.ends().await, "FORBIDDEN");
        gets_nothing(&bob, &alice, &ids).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_the_permission_to_view_gets_nothing() {
    each_engine(async |app| {
        let (_, _, ids) = secret_group(app).await;
        let blind = app.person("demo", "bob", Some(&["chat.create_group"])).await;
        let look = blind
            .ask(&format!(
                "{{ node(id: \"{0}\") {{ id }} chat(id: \"{0}\") {{ id }} message(id: \"{1}\") {{ id }} }}",
                ids.chat, ids.message
            ))
            .await;
        assert_eq!(look.data(), &json!({ "node": null, "chat": null, "message": null }));
        blind.ask("{ chats { nodes { id } } }").await.refused("FORBIDDEN");
        for (field, input, selection) in mutations(&ids) {
            let reply = blind.mutate(field, input, selection).await;
            assert!(["FORBIDDEN", "NOT_FOUND"].contains(&reply.code()), "{field}: {}", reply.body);
        }
        blind.mutate("openDirectChat", json!({ "userId": "alice" }), "chat { id }").await.refused("FORBIDDEN");
        assert!(["FORBIDDEN", "NOT_FOUND"].contains(&blind.feed(&ids.chat, None, None).await.ends().await.as_str()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_there_is_nothing_but_the_door() {
    each_engine(async |app| {
        let (_, _, ids) = secret_group(app).await;
        let ask = async |query: String| {
            let answer =
                reqwest::Client::new().post(app.url("/graphql")).json(&json!({ "query": query })).send().await.unwrap();
            answer.json::<Value>().await.unwrap()
        };
        assert_eq!(ask("{ __typename }".into()).await, json!({ "data": { "__typename": "Query" } }));
        for field in [
            "viewer { permissions }".to_owned(),
            "chats { nodes { id } }".into(),
            "users { nodes { id } }".into(),
            "user(id: \"alice\") { id }".into(),
            "node(id: \"alice\") { id }".into(),
            "nodes(ids: []) { id }".into(),
            format!("chat(id: \"{}\") {{ id }}", ids.chat),
            format!("message(id: \"{}\") {{ id }}", ids.message),
        ] {
            let answer = ask(format!("{{ {field} }}")).await;
            let code = &answer["errors"][0]["extensions"]["code"];
            assert!(code == "UNAUTHENTICATED" || field.starts_with("nodes(ids: [])"), "{field}: {answer}");
        }
        for (field, input, selection) in mutations(&ids) {
            let input = input
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
                .join(", ");
            let answer = ask(format!("mutation {{ {field}(input: {{ {input} }}) {{ {selection} }} }}")).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{field}");
        }
    })
    .await;
}
