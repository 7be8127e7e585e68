//! Bans: users who may not be members of a chat.

use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test, pluck};

async fn ban(user: &User, chat: &str, id: &str, reason: Option<&str>) -> Reply {
    let input = json!({ "chatId": chat, "userId": id, "ban": true, "reason": reason });
    user.mutate_returning("removeMember", input, "chat { memberCount } removedUserId").await
}

async fn unban(user: &User, chat: &str, id: &str) -> Reply {
    user.mutate_returning("unbanMember", json!({ "chatId": chat, "userId": id }), "chat { id } unbannedUserId").await
}

async fn join(user: &User, chat: &str) -> Reply {
    user.mutate("joinChannel", json!({ "chatId": chat })).await
}

/// Returns the message of the only error of a reply, which is `FORBIDDEN`.
#[track_caller]
fn forbidden(reply: &Reply) -> String {
    reply.assert_error("FORBIDDEN");
    reply.body["errors"][0]["message"].as_str().expect("a message").to_owned()
}

const BANS: &str = "bans { nodes { user { id } by { id } reason at } pageInfo { hasNextPage } }";

#[engine_test]
async fn banned_user_stays_out_of_a_channel_until_unbanned(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let channel = alice.chat("CHANNEL", "News", &[&bob]).await;
    let mut feed = bob.feed(&channel, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let removed = ban(&alice, &channel, "bob", Some("  advertising ")).await;
    assert_eq!(removed.at("removeMember"), &json!({ "chat": { "memberCount": 1 }, "removedUserId": "bob" }));
    assert_eq!(feed.error_code().await, "FORBIDDEN");
    for _ in 0..2 {
        assert_eq!(forbidden(&join(&bob, &channel).await), "you are banned from this chat");
    }
    let joinable = "{ chats(filter: { joinable: true }) { nodes { id } } }";
    assert_eq!(bob.ask(joinable).await.at("chats.nodes"), &json!([]));
    assert_eq!(bob.fetch_chat(&channel, "memberCount").await["memberCount"], 1, "the channel is still visible");

    let chat = alice.fetch_chat(&channel, BANS).await;
    let [banned] = &chat["bans"]["nodes"].as_array().expect("a list")[..] else { panic!("{chat}") };
    let at = app.app.clock.now().timestamp();
    let banned_at = chrono::DateTime::parse_from_rfc3339(banned["at"].as_str().expect("a time")).expect("a time");
    assert!((at - 60..=at).contains(&banned_at.timestamp()), "{banned}");
    assert_eq!(banned["user"]["id"], "bob");
    assert_eq!(banned["by"]["id"], "alice");
    assert_eq!(banned["reason"], "advertising");

    assert_eq!(unban(&alice, &channel, "bob").await.at("unbanMember.unbannedUserId"), "bob");
    assert_eq!(alice.fetch_chat(&channel, BANS).await["bans"]["nodes"], json!([]));
    assert_eq!(bob.ask(joinable).await.at("chats.nodes"), &json!([{ "id": channel }]));
    join(&bob, &channel).await.data();
    // Removed without a ban, a user joins again as before.
    alice.mutate_ok("removeMember", json!({ "chatId": channel, "userId": "bob" })).await;
    join(&bob, &channel).await.data();
}

#[engine_test]
async fn banned_user_is_added_only_by_those_who_may_ban(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    app.user("dora").await;
    let group = alice.group("Walk", &[&bob, &carol]).await;
    let policy = json!([{ "action": "ADD_MEMBERS", "role": "MEMBER" }]);
    alice.mutate_ok("updateChat", json!({ "chatId": group, "policy": policy })).await;
    ban(&alice, &group, "carol", None).await.data();
    let add = async |user: &User, ids: &[&str]| {
        user.mutate_returning("addMembers", json!({ "chatId": group, "userIds": ids }), "members { user { id } }").await
    };
    let message = forbidden(&add(&bob, &["dora", "carol"]).await);
    assert!(message.contains("banned"), "{message}");
    let members = async || {
        pluck(&alice.fetch_chat(&group, "members { nodes { user { id } } }").await["members"]["nodes"], "user")
    };
    assert_eq!(members().await, [json!({ "id": "alice" }), json!({ "id": "bob" })], "all or nothing");
    add(&bob, &["dora"]).await.data();
    // The owner may ban, so adding the user is a decision against the ban.
    add(&alice, &["carol"]).await.data();
    assert_eq!(alice.fetch_chat(&group, BANS).await["bans"]["nodes"], json!([]));
    carol.mutate_ok("leaveChat", json!({ "chatId": group })).await;
    add(&bob, &["carol"]).await.data();
}

#[engine_test]
async fn ban_needs_the_right_to_remove_the_member(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let (erin, stranger) = (app.user("erin").await, app.user("stranger").await);
    let group = alice.group("Walk", &[&bob, &carol, &erin]).await;
    for (id, role) in [("bob", "ADMIN"), ("erin", "ADMIN")] {
        alice.mutate_ok("changeMemberRole", json!({ "chatId": group, "userId": id, "role": role })).await;
    }
    ban(&carol, &group, "erin", None).await.assert_error("FORBIDDEN");
    ban(&bob, &group, "erin", None).await.assert_error("FORBIDDEN");
    ban(&bob, &group, "alice", None).await.assert_error("FORBIDDEN");
    ban(&stranger, &group, "carol", None).await.assert_error("NOT_FOUND");
    ban(&alice, &group, "alice", None).await.assert_bad_input("userId");
    ban(&alice, &group, "nobody", None).await.assert_error("NOT_FOUND");
    ban(&bob, &group, "carol", None).await.data();
    let powerless = app.user_in("demo", "bob", Some(&["chat.view"])).await;
    for (user, code) in [(&erin, None), (&powerless, Some("FORBIDDEN")), (&stranger, Some("NOT_FOUND"))] {
        let reply = unban(user, &group, "nobody").await;
        match code {
            None => drop(reply.data()),
            Some(code) => reply.assert_error(code),
        }
    }
    // Members without the right see everything of the chat but its bans.
    app.user("dora").await;
    alice.add_member(&group, "dora", "MEMBER").await;
    let dora = app.user("dora").await;
    let query = format!("query($id: ID!) {{ chat(id: $id) {{ id {BANS} }} }}");
    let reply = dora.ask_with(&query, json!({ "id": group })).await;
    reply.assert_error("FORBIDDEN");
    assert_eq!(reply.body["data"], json!({ "chat": { "id": group, "bans": null } }));
    let direct = alice.direct(&bob).await;
    ban(&alice, &direct, "bob", None).await.assert_error("FORBIDDEN");
    for (field, input) in [
        ("reason", json!({ "chatId": group, "userId": "dora", "reason": "rude" })),
        ("reason", json!({ "chatId": group, "userId": "dora", "ban": true, "reason": "x".repeat(501) })),
        ("reason", json!({ "chatId": group, "userId": "dora", "ban": true, "reason": "a\nb" })),
        ("reason", json!({ "chatId": group, "userId": "dora", "ban": true, "reason": "a\u{202E}b" })),
    ] {
        alice.mutate("removeMember", input).await.assert_bad_input(field);
    }
    ban(&alice, &group, "dora", Some(&"ü".repeat(500))).await.data();
}

#[engine_test]
async fn user_who_left_can_be_banned_and_a_second_ban_changes_nothing(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let channel = alice.chat("CHANNEL", "News", &[&bob]).await;
    bob.mutate_ok("leaveChat", json!({ "chatId": channel })).await;
    ban(&alice, &channel, "bob", Some("first")).await.data();
    join(&bob, &channel).await.assert_error("FORBIDDEN");
    let before = alice.fetch_chat(&channel, &format!("version {BANS}")).await;
    ban(&alice, &channel, "bob", Some("second")).await.data();
    assert_eq!(alice.fetch_chat(&channel, &format!("version {BANS}")).await, before);
    alice.mutate("removeMember", json!({ "chatId": channel, "userId": "bob" })).await.assert_error("NOT_FOUND");
    unban(&alice, &channel, "bob").await.data();
    let before = alice.fetch_chat(&channel, "version").await;
    unban(&alice, &channel, "bob").await.data();
    assert_eq!(alice.fetch_chat(&channel, "version").await, before);
}

#[engine_test]
async fn ban_is_delivered_to_the_feed_of_the_chat(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let group = alice.group("Walk", &[&bob]).await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
        ... on ChatUpserted { chat { bans { nodes { user { id } } } } }
        ... on MessageUpserted { message { system { kind subject { id } detail } } } } }";
    let mut feed = alice.subscribe(query, json!({ "chat": group })).await;
    feed.expect("FeedCaughtUp").await;
    ban(&alice, &group, "bob", None).await.data();
    let system = feed.next_of_type("MessageUpserted").await["message"]["system"].clone();
    assert_eq!(system, json!({ "kind": "MEMBER_REMOVED", "subject": { "id": "bob" }, "detail": "BANNED" }));
    let bans = |event: Value| event["chat"]["bans"]["nodes"].clone();
    assert_eq!(bans(feed.next_of_type("ChatUpserted").await), json!([{ "user": { "id": "bob" } }]));
    unban(&alice, &group, "bob").await.data();
    assert_eq!(bans(feed.next_of_type("ChatUpserted").await), json!([]));
}

#[engine_test]
async fn bans_are_listed_in_pages_latest_first(app: &TestApp) {
    let alice = app.user("alice").await;
    let channel = alice.chat("CHANNEL", "News", &[]).await;
    for id in ["bob", "carol", "dora"] {
        app.user(id).await;
        ban(&alice, &channel, id, None).await.data();
        app.advance(1);
    }
    let query = "query($id: ID!, $after: String) { chat(id: $id) {
        bans(first: 2, after: $after) { nodes { user { id } } pageInfo { hasNextPage endCursor } } } }";
    let page = async |after: Value| {
        let reply = alice.ask_with(query, json!({ "id": channel, "after": after })).await;
        (reply.at("chat.bans.nodes").clone(), reply.at("chat.bans.pageInfo").clone())
    };
    let id = |id: &str| json!({ "user": { "id": id } });
    let (nodes, info) = page(Value::Null).await;
    assert_eq!((nodes, &info["hasNextPage"]), (json!([id("dora"), id("carol")]), &json!(true)));
    let (nodes, info) = page(info["endCursor"].clone()).await;
    assert_eq!((nodes, &info["hasNextPage"]), (json!([id("bob")]), &json!(false)));
    let reply = alice.ask_with(query, json!({ "id": channel, "after": "x" })).await;
    reply.assert_bad_input("after");
}

#[engine_test]
async fn host_bans_and_lifts_bans_in_the_chat_of_a_resource(app: &TestApp) {
    let (alice, host) =
        (app.user("alice").await, app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await);
    app.user("bob").await;
    let input = json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket", "memberIds": ["alice", "bob"],
        "roles": [{ "userId": "alice", "role": "OWNER" }] });
    let created = host.mutate_returning("ensureResourceChat", input.clone(), "chat { id }").await;
    let chat = created.text("ensureResourceChat.chat.id");
    ban(&host, &chat, "alice", Some("left the company")).await.data();
    let listed = |reply: &Reply| pluck(reply.at("ensureResourceChat.chat.bans.nodes"), "user");
    let mut without = input.clone();
    (without["memberIds"], without["roles"]) = (json!(["bob"]), json!([]));
    let reply = host.mutate_returning("ensureResourceChat", without.clone(), &format!("chat {{ {BANS} }}")).await;
    assert_eq!(listed(&reply), [json!({ "id": "alice" })]);
    // The list of the host decides, so a listed user is not banned any longer.
    let reply = host.mutate_returning("ensureResourceChat", input, &format!("chat {{ {BANS} }}")).await;
    assert_eq!(listed(&reply), [] as [Value; 0]);
    assert_eq!(alice.fetch_chat(&chat, "memberCount").await["memberCount"], 2);
    ban(&host, &chat, "alice", None).await.data();
    unban(&host, &chat, "alice").await.data();
    let reply = host.mutate_returning("ensureResourceChat", without, &format!("chat {{ {BANS} }}")).await;
    assert_eq!(listed(&reply), [] as [Value; 0]);
}
