//! Resource chats: the one chat of an object of the host application.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Engine, TestApp, User, engine_test, pluck};

fn ticket(id: &str, member_ids: &[&str]) -> Value {
    json!({ "resource": { "type": "ticket", "id": id }, "title": format!("Ticket {id}"), "memberIds": member_ids })
}

async fn ensure(user: &User, id: &str, member_ids: &[&str]) -> String {
    user.mutate_returning("ensureResourceChat", ticket(id, member_ids), "chat { id }")
        .await
        .text("ensureResourceChat.chat.id")
}

/// Returns the ids of the members, with the ids of owners in capitals.
async fn member_list(user: &User, chat: &str) -> String {
    let seen = user.fetch_chat(chat, "memberCount members(first: 100) { nodes { role user { id } } }").await;
    let members = seen["members"]["nodes"].as_array().unwrap();
    assert_eq!(seen["memberCount"], members.len());
    let name = |member: &Value| {
        let id = member["user"]["id"].as_str().unwrap().to_owned();
        if member["role"] == "OWNER" { id.to_uppercase() } else { id }
    };
    members.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[engine_test]
async fn resource_chat_is_unique_under_concurrency(app: &TestApp) {
    let (alice, _bob) = (app.user("alice").await, app.user("bob").await);
    let host = app.user_in("demo", "host", Some(&["chat.view", "chat.create_group", "organization.admin"])).await;
    let asks = (0..20).map(|turn| ensure(if turn % 2 == 0 { &alice } else { &host }, "7", &["alice", "bob", "host"]));
    let ids = join_all(asks).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let seen = alice.fetch_chat(&ids[0], "kind title resource { type id }").await;
    assert_eq!(seen, json!({ "kind": "GROUP", "title": "Ticket 7", "resource": { "type": "ticket", "id": "7" } }));
    assert_eq!(alice.ask("{ chats { nodes { id } } }").await.at("chats.nodes"), &json!([{ "id": ids[0] }]));
    assert_ne!(ensure(&alice, "8", &[]).await, ids[0]);
    let mut other = ticket("7", &["alice", "bob", "host"]);
    other["title"] = "Another title".into();
    let kept = host.mutate_returning("ensureResourceChat", other.clone(), "chat { id title }").await;
    assert_eq!(kept.at("ensureResourceChat.chat"), &json!({ "id": ids[0], "title": "Ticket 7" }));
    other["resource"]["type"] = "order".into();
    assert_ne!(
        alice.mutate_returning("ensureResourceChat", other, "chat { id }").await.text("ensureResourceChat.chat.id"),
        ids[0]
    );
    let plain = alice.group("Walk", &[]).await;
    assert_eq!(alice.fetch_chat(&plain, "resource { id }").await["resource"], Value::Null);
}

#[engine_test]
async fn resource_chat_members_sync_and_owners_stay(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    for id in ["carol", "dora"] {
        app.user(id).await;
    }
    let chat = ensure(&alice, "7", &["bob", "carol", "bob"]).await;
    assert_eq!(member_list(&alice, &chat).await, "ALICE bob carol");
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    ensure(&alice, "7", &["carol", "dora"]).await;
    assert_eq!(
        member_list(&alice, &chat).await,
        "ALICE carol dora",
        "the owner stays a member although the list does not contain her"
    );
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    let events = alice.fetch_chat(&chat, "messages(last: 2) { nodes { system { kind subject { id } } } }").await;
    let events = pluck(&events["messages"]["nodes"], "system");
    assert_eq!(
        events,
        [
            json!({ "kind": "MEMBER_ADDED", "subject": { "id": "dora" } }),
            json!({ "kind": "MEMBER_REMOVED", "subject": { "id": "bob" } }),
        ]
    );
    let before = alice.fetch_chat(&chat, "version").await;
    ensure(&alice, "7", &["alice", "carol", "dora"]).await;
    assert_eq!(alice.fetch_chat(&chat, "version").await, before, "nothing changed");
    alice.mutate("ensureResourceChat", ticket("7", &["nobody"])).await.assert_error("NOT_FOUND");
    assert_eq!(member_list(&alice, &chat).await, "ALICE carol dora", "all or nothing");
}

#[engine_test]
async fn resource_chat_sync_needs_right_to_change_members(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = ensure(&alice, "7", &["bob"]).await;
    assert_eq!(ensure(&bob, "7", &["alice", "bob"]).await, chat, "a member may request the chat without changes");
    bob.mutate("ensureResourceChat", ticket("7", &["bob", "carol"])).await.assert_error("FORBIDDEN");
    bob.mutate("ensureResourceChat", ticket("7", &[])).await.assert_error("FORBIDDEN");
    carol.mutate("ensureResourceChat", ticket("7", &["bob", "carol"])).await.assert_error("FORBIDDEN");
    carol.mutate("ensureResourceChat", ticket("7", &["bob"])).await.assert_error("FORBIDDEN");
    assert_eq!(member_list(&alice, &chat).await, "ALICE bob");
    let viewer_only = app.user_in("demo", "observer", Some(&["chat.view"])).await;
    viewer_only.mutate("ensureResourceChat", ticket("8", &[])).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn host_service_need_not_be_a_member(app: &TestApp) {
    let (alice, _bob, _carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = ensure(&alice, "7", &["bob"]).await;
    let host = app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await;
    assert_eq!(ensure(&host, "7", &["carol"]).await, chat);
    assert_eq!(member_list(&alice, &chat).await, "ALICE carol");
    host.try_send_message(&chat, json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
    // The result contains nothing that the host may not read.
    let selection = "chat { messages { nodes { id } } members { nodes { id } } viewerMembership { id } }";
    let seen = host.mutate_returning("ensureResourceChat", ticket("7", &["carol"]), selection).await;
    let expected = json!({ "messages": { "nodes": [] }, "members": { "nodes": [] }, "viewerMembership": null });
    assert_eq!(seen.at("ensureResourceChat.chat"), &expected);
    host.mutate("ensureResourceChat", ticket("8", &[])).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn resource_chat_is_separate_per_organization(app: &TestApp) {
    let alice = app.user("alice").await;
    let all = ["chat.view", "chat.create_group", "organization.admin"];
    let other = app.user_in("other", "alice", Some(&all)).await;
    let chat = ensure(&alice, "7", &[]).await;
    let other_chat = ensure(&other, "7", &[]).await;
    assert_ne!(chat, other_chat);
    assert_eq!(other.fetch_chat(&chat, "id").await, Value::Null);
    assert_eq!(alice.fetch_chat(&other_chat, "id").await, Value::Null);
}

#[engine_test]
async fn resource_chat_input_limits_are_enforced(app: &TestApp) {
    let alice = app.user("alice").await;
    let with = |field: &str, value: Value| {
        let mut input = ticket("7", &[]);
        match field.split_once('.') {
            Some((outer, inner)) => input[outer][inner] = value,
            None => input[field] = value,
        }
        input
    };
    for (field, value) in [
        ("resource.type", json!("")),
        ("resource.type", json!("x".repeat(256))),
        ("resource.id", json!(" ")),
        ("resource.id", json!("x".repeat(256))),
        ("resource.id", json!("a\nb")),
        ("title", json!("")),
        ("title", json!("x".repeat(201))),
        ("memberIds", (0..1_001).map(|n| format!("p{n}")).collect()),
    ] {
        alice.mutate("ensureResourceChat", with(field, value)).await.assert_bad_input(field);
    }
    for (field, value) in
        [("resource.type", "ü".repeat(255)), ("resource.id", "ü".repeat(255)), ("title", "ü".repeat(200))]
    {
        alice.mutate_ok("ensureResourceChat", with(field, json!(value))).await;
    }
    alice.mutate("ensureResourceChat", ticket("9", &["nobody"])).await.assert_error("NOT_FOUND");
    assert_eq!(alice.ask("{ chats { nodes { id } } }").await.at("chats.nodes").as_array().unwrap().len(), 3);
}

#[engine_test]
async fn resource_chat_syncs_a_thousand_members(app: &TestApp) {
    let alice = app.user("alice").await;
    let ids: Vec<String> = (0..1_000).map(|n| format!("p{n:04}")).collect();
    let created_at = if app.database.engine == Engine::Sqlite { "0" } else { "now()" };
    let rows: Vec<_> = ids.iter().map(|id| format!("('demo', '{id}', '{id}', '{id}', {created_at})")).collect();
    let columns = "organization_id, id, name, name_folded, created_at";
    app.database.execute(&format!("INSERT INTO users ({columns}) VALUES {}", rows.join(", "))).await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for (member_ids, count) in [(&ids[..], 1_001), (&ids[..1], 2), (&ids[..], 1_001)] {
        let chat = ensure(&alice, "7", member_ids).await;
        assert_eq!(alice.fetch_chat(&chat, "memberCount").await["memberCount"], count);
    }
}
