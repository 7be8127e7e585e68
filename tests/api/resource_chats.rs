//! Resource chats: the one chat of an object of the host application.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Engine, Reply, TestApp, User, engine_test, pluck};

fn ticket(id: &str, member_ids: &[&str]) -> Value {
    json!({ "resource": { "type": "ticket", "id": id }, "title": format!("Ticket {id}"), "memberIds": member_ids })
}

/// Returns the host's service: an administrator of the organisation, who is a member of no chat.
async fn host(app: &TestApp) -> User {
    app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await
}

async fn ensure(user: &User, id: &str, member_ids: &[&str]) -> String {
    user.mutate_returning("ensureResourceChat", ticket(id, member_ids), "chat { id }")
        .await
        .text("ensureResourceChat.chat.id")
}

/// Synchronises the members of the chat of ticket 7, with these roles.
async fn ensure_roles(user: &User, member_ids: &[&str], roles: &[(&str, &str)]) -> Reply {
    let mut input = ticket("7", member_ids);
    input["roles"] = roles.iter().map(|(user, role)| json!({ "userId": user, "role": role })).collect();
    user.mutate_returning("ensureResourceChat", input, "chat { id }").await
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
    let (alice, _bob, host) = (app.user("alice").await, app.user("bob").await, host(app).await);
    let second_host = app.user_in("demo", "second", Some(&["chat.view", "organization.admin"])).await;
    let asks = (0..20).map(|turn| ensure(if turn % 2 == 0 { &second_host } else { &host }, "7", &["alice", "bob"]));
    let ids = join_all(asks).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let seen = alice.fetch_chat(&ids[0], "kind title resource { type id }").await;
    assert_eq!(seen, json!({ "kind": "GROUP", "title": "Ticket 7", "resource": { "type": "ticket", "id": "7" } }));
    assert_eq!(alice.ask("{ chats { nodes { id } } }").await.at("chats.nodes"), &json!([{ "id": ids[0] }]));
    assert_ne!(ensure(&host, "8", &[]).await, ids[0]);
    let mut other = ticket("7", &["alice", "bob"]);
    other["title"] = "Another title".into();
    let kept = host.mutate_returning("ensureResourceChat", other.clone(), "chat { id title }").await;
    assert_eq!(kept.at("ensureResourceChat.chat"), &json!({ "id": ids[0], "title": "Ticket 7" }));
    other["resource"]["type"] = "order".into();
    assert_ne!(
        host.mutate_returning("ensureResourceChat", other, "chat { id }").await.text("ensureResourceChat.chat.id"),
        ids[0]
    );
    let plain = alice.group("Walk", &[]).await;
    assert_eq!(alice.fetch_chat(&plain, "resource { id }").await["resource"], Value::Null);
}

#[engine_test]
async fn resource_chat_members_become_exactly_those_asked_for(app: &TestApp) {
    let (bob, carol, host) = (app.user("bob").await, app.user("carol").await, host(app).await);
    for id in ["alice", "dora"] {
        app.user(id).await;
    }
    let created = ensure_roles(&host, &["alice", "bob", "carol", "bob"], &[("alice", "OWNER")]).await;
    let chat = created.text("ensureResourceChat.chat.id");
    assert_eq!(member_list(&carol, &chat).await, "ALICE bob carol", "the host is not a member");
    let mut feed = bob.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    ensure(&host, "7", &["carol", "dora"]).await;
    assert_eq!(member_list(&carol, &chat).await, "carol dora", "the owner was removed too");
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    let events = carol.fetch_chat(&chat, "messages(last: 3) { nodes { system { kind subject { id } } } }").await;
    let events = pluck(&events["messages"]["nodes"], "system");
    assert_eq!(
        events,
        [
            json!({ "kind": "MEMBER_ADDED", "subject": { "id": "dora" } }),
            json!({ "kind": "MEMBER_REMOVED", "subject": { "id": "alice" } }),
            json!({ "kind": "MEMBER_REMOVED", "subject": { "id": "bob" } }),
        ]
    );
    let before = carol.fetch_chat(&chat, "version").await;
    ensure(&host, "7", &["carol", "dora"]).await;
    assert_eq!(carol.fetch_chat(&chat, "version").await, before, "nothing changed");
    host.mutate("ensureResourceChat", ticket("7", &["nobody"])).await.assert_error("NOT_FOUND");
    assert_eq!(member_list(&carol, &chat).await, "carol dora", "all or nothing");
    ensure(&host, "7", &[]).await;
    assert_eq!(carol.fetch_chat(&chat, "id").await, Value::Null);
}

#[engine_test]
async fn resource_chat_roles_are_set_by_synchronisation(app: &TestApp) {
    let (alice, host) = (app.user("alice").await, host(app).await);
    app.user("bob").await;
    let created = ensure_roles(&host, &["alice", "bob"], &[("alice", "ADMIN")]).await;
    let chat = created.text("ensureResourceChat.chat.id");
    let roles = async || {
        let seen = alice.fetch_chat(&chat, "members { nodes { role } }").await;
        pluck(&seen["members"]["nodes"], "role")
    };
    assert_eq!(roles().await, ["ADMIN", "MEMBER"]);
    ensure_roles(&host, &["alice", "bob"], &[("bob", "OWNER")]).await.data();
    assert_eq!(roles().await, ["ADMIN", "OWNER"], "a user without a role keeps it");
    ensure(&host, "7", &["alice", "bob"]).await;
    assert_eq!(roles().await, ["ADMIN", "OWNER"]);
    ensure_roles(&host, &["alice", "bob"], &[("bob", "MEMBER"), ("alice", "MODERATOR")]).await.data();
    assert_eq!(roles().await, ["MODERATOR", "MEMBER"], "the last owner too");
    let system = alice.fetch_chat(&chat, "messages(last: 2) { nodes { system { kind subject { id } detail } } }").await;
    assert_eq!(
        pluck(&system["messages"]["nodes"], "system"),
        [
            json!({ "kind": "ROLE_CHANGED", "subject": { "id": "alice" }, "detail": "MODERATOR" }),
            json!({ "kind": "ROLE_CHANGED", "subject": { "id": "bob" }, "detail": "MEMBER" }),
        ]
    );
    for wrong in [&[("carol", "ADMIN")][..], &[("bob", "ADMIN"), ("bob", "OWNER")]] {
        ensure_roles(&host, &["alice", "bob"], wrong).await.assert_bad_input("roles");
    }
    assert_eq!(roles().await, ["MODERATOR", "MEMBER"]);
}

#[engine_test]
async fn resource_chat_caller_is_a_member_only_if_listed(app: &TestApp) {
    let host = host(app).await;
    app.user("alice").await;
    let chat = ensure(&host, "7", &["alice", "host"]).await;
    assert_eq!(member_list(&host, &chat).await, "alice HOST", "a listed creator owns the chat");
    ensure(&host, "7", &["alice"]).await;
    assert_eq!(host.fetch_chat(&chat, "id").await, Value::Null);
    ensure(&host, "7", &["host"]).await;
    assert_eq!(member_list(&host, &chat).await, "host");
    ensure_roles(&host, &["host"], &[("host", "OWNER")]).await.data();
    assert_eq!(member_list(&host, &chat).await, "HOST");
}

#[engine_test]
async fn resource_chat_needs_administrator_whether_it_exists_or_not(app: &TestApp) {
    let (alice, bob, host) = (app.user("alice").await, app.user("bob").await, host(app).await);
    let created = ensure_roles(&host, &["alice", "bob"], &[("alice", "OWNER")]).await;
    let chat = created.text("ensureResourceChat.chat.id");
    let all_but_administrator =
        ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete", "chat.moderate", "support.agent"];
    let stranger = app.user_in("demo", "stranger", Some(&all_but_administrator)).await;
    for user in [&alice, &bob, &stranger] {
        let answers = [("7", &["alice", "bob"][..]), ("7", &[]), ("8", &["alice", "bob"]), ("8", &["nobody"])];
        let answers =
            answers.map(async |(id, members)| user.mutate("ensureResourceChat", ticket(id, members)).await.body);
        let answers = join_all(answers).await;
        assert_eq!(answers[0]["errors"][0]["extensions"]["code"], "FORBIDDEN");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    let blind = app.user_in("demo", "blind", Some(&["organization.admin"])).await;
    blind.mutate("ensureResourceChat", ticket("7", &[])).await.assert_error("FORBIDDEN");
    assert_eq!(member_list(&alice, &chat).await, "ALICE bob");
    assert_eq!(ensure(&host, "8", &["bob"]).await.len(), chat.len(), "ticket 8 had no chat");
}

#[engine_test]
async fn host_service_need_not_be_a_member(app: &TestApp) {
    let (alice, _bob, _carol, host) =
        (app.user("alice").await, app.user("bob").await, app.user("carol").await, host(app).await);
    let chat = ensure(&host, "7", &["alice", "bob"]).await;
    ensure(&host, "7", &["alice", "carol"]).await;
    assert_eq!(member_list(&alice, &chat).await, "alice carol");
    host.try_send_message(&chat, json!({ "text": "hello" })).await.assert_error("NOT_FOUND");
    // The result contains nothing that the host may not read.
    let selection = "chat { messages { nodes { id } } members { nodes { id } } viewerMembership { id } }";
    let seen = host.mutate_returning("ensureResourceChat", ticket("7", &["alice", "carol"]), selection).await;
    let expected = json!({ "messages": { "nodes": [] }, "members": { "nodes": [] }, "viewerMembership": null });
    assert_eq!(seen.at("ensureResourceChat.chat"), &expected);
}

#[engine_test]
async fn host_removes_anyone_from_the_chat_of_a_resource(app: &TestApp) {
    let (alice, bob, host) = (app.user("alice").await, app.user("bob").await, host(app).await);
    let created = ensure_roles(&host, &["alice", "bob"], &[("alice", "OWNER")]).await;
    let chat = created.text("ensureResourceChat.chat.id");
    let remove = async |user: &User, chat: &str, id: &str| {
        user.mutate_returning("removeMember", json!({ "chatId": chat, "userId": id }), "removedUserId").await
    };
    remove(&bob, &chat, "alice").await.assert_error("FORBIDDEN");
    assert_eq!(remove(&host, &chat, "alice").await.text("removeMember.removedUserId"), "alice");
    assert_eq!(member_list(&bob, &chat).await, "bob");
    remove(&host, &chat, "alice").await.assert_error("NOT_FOUND");
    // The right is that of the host: other administrators, chats and organisations have none of it.
    let plain = alice.group("Walk", &[&bob]).await;
    remove(&host, &plain, "bob").await.assert_error("NOT_FOUND");
    let other = app.user_in("other", "host", Some(&["chat.view", "organization.admin"])).await;
    remove(&other, &chat, "bob").await.assert_error("NOT_FOUND");
    let moderator = app.user_in("demo", "mona", Some(&["chat.view", "chat.manage_group", "chat.moderate"])).await;
    remove(&moderator, &chat, "bob").await.assert_error("NOT_FOUND");
    assert_eq!(member_list(&bob, &chat).await, "bob");
}

#[engine_test]
async fn resource_chat_is_separate_per_organization(app: &TestApp) {
    let all = ["chat.view", "organization.admin"];
    let alice = app.user_in("demo", "alice", Some(&all)).await;
    let other = app.user_in("other", "alice", Some(&all)).await;
    let chat = ensure(&alice, "7", &["alice"]).await;
    let other_chat = ensure(&other, "7", &["alice"]).await;
    assert_ne!(chat, other_chat);
    assert_eq!(other.fetch_chat(&chat, "id").await, Value::Null);
    assert_eq!(alice.fetch_chat(&other_chat, "id").await, Value::Null);
}

#[engine_test]
async fn resource_chat_input_limits_are_enforced(app: &TestApp) {
    let host = host(app).await;
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
        host.mutate("ensureResourceChat", with(field, value)).await.assert_bad_input(field);
    }
    for (field, value) in
        [("resource.type", "ü".repeat(255)), ("resource.id", "ü".repeat(255)), ("title", "ü".repeat(200))]
    {
        let mut input = with(field, json!(value));
        input["memberIds"] = json!(["host"]);
        host.mutate_ok("ensureResourceChat", input).await;
    }
    host.mutate("ensureResourceChat", ticket("9", &["nobody"])).await.assert_error("NOT_FOUND");
    assert_eq!(host.ask("{ chats { nodes { id } } }").await.at("chats.nodes").as_array().unwrap().len(), 3);
}

#[engine_test]
async fn resource_chat_syncs_a_thousand_members(app: &TestApp) {
    let host = host(app).await;
    let ids: Vec<String> = (0..999).map(|n| format!("p{n:04}")).collect();
    let created_at = if app.database.engine == Engine::Sqlite { "0" } else { "now()" };
    let rows: Vec<_> = ids.iter().map(|id| format!("('demo', '{id}', '{id}', '{id}', {created_at})")).collect();
    let columns = "organization_id, id, name, name_folded, created_at";
    app.database.execute(&format!("INSERT INTO users ({columns}) VALUES {}", rows.join(", "))).await;
    let ids: Vec<&str> = std::iter::once("host").chain(ids.iter().map(String::as_str)).collect();
    for (member_ids, count) in [(&ids[..], 1_000), (&ids[..2], 2), (&ids[..], 1_000)] {
        let chat = ensure(&host, "7", member_ids).await;
        assert_eq!(host.fetch_chat(&chat, "memberCount").await["memberCount"], count);
    }
}
