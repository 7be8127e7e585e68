//! Roles: changing them, the succession of owners, and the policy and slow mode of a chat.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test};

/// The members of a group, one of each role.
struct TestGroup {
    owner: User,
    admin: User,
    moderator: User,
    member: User,
    chat: String,
}

/// Creates a group with one member of each role.
async fn create_group(app: &TestApp) -> TestGroup {
    let (owner, admin) = (app.user("olga").await, app.user("adam").await);
    let (moderator, member) = (app.user("mona").await, app.user("mike").await);
    let chat = owner.group("Walk", &[&member]).await;
    owner.add_member(&chat, "adam", "ADMIN").await;
    owner.add_member(&chat, "mona", "MODERATOR").await;
    TestGroup { owner, admin, moderator, member, chat }
}

/// Returns the members and their roles, by name.
async fn roles(user: &User, chat: &str) -> String {
    let members = user.fetch_chat(chat, "members { nodes { role user { id } } }").await;
    let role =
        |member: &Value| format!("{}:{}", member["user"]["id"].as_str().unwrap(), member["role"].as_str().unwrap());
    members["members"]["nodes"].as_array().unwrap().iter().map(role).collect::<Vec<_>>().join(" ")
}

fn role_of(chat: &str, user: &str, role: &str) -> Value {
    json!({ "chatId": chat, "userId": user, "role": role })
}

#[engine_test]
async fn changing_roles_needs_owner(app: &TestApp) {
    let TestGroup { owner, admin, moderator, member, chat } = create_group(app).await;
    for user in [&admin, &moderator, &member] {
        user.mutate("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await.assert_error("FORBIDDEN");
    }
    let outsider = app.user("sven").await;
    outsider.mutate("changeMemberRole", role_of(&chat, "mike", "ADMIN")).await.assert_error("NOT_FOUND");
    owner.mutate("changeMemberRole", role_of(&chat, "sven", "ADMIN")).await.assert_error("NOT_FOUND");
    let changed = owner
        .mutate_returning(
            "changeMemberRole",
            role_of(&chat, "mike", "ADMIN"),
            "member { role user { id } chat { id } }",
        )
        .await;
    let expected = json!({ "role": "ADMIN", "user": { "id": "mike" }, "chat": { "id": chat } });
    assert_eq!(changed.at("changeMemberRole.member"), &expected);
    owner.mutate_ok("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await;
    assert_eq!(roles(&owner, &chat).await, "adam:MEMBER mike:ADMIN mona:MODERATOR olga:OWNER");
    let before = owner.fetch_chat(&chat, "version").await;
    owner.mutate_ok("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await;
    assert_eq!(owner.fetch_chat(&chat, "version").await, before, "the same role is no change");
    let viewer_only = app.user_in("demo", "olga", Some(&["chat.view"])).await;
    viewer_only.mutate("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn role_change_cannot_exceed_own_role(app: &TestApp) {
    let TestGroup { owner, admin, moderator, member, chat } = create_group(app).await;
    let policy = json!([{ "action": "CHANGE_ROLES", "role": "MODERATOR" }]);
    owner.mutate_ok("updateChat", json!({ "chatId": chat, "policy": policy })).await;
    moderator.mutate_ok("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await;
    moderator.mutate("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await.assert_error("FORBIDDEN");
    admin.mutate_ok("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await;
    moderator.mutate("changeMemberRole", role_of(&chat, "mike", "ADMIN")).await.assert_error("FORBIDDEN");
    moderator.mutate("changeMemberRole", role_of(&chat, "mona", "ADMIN")).await.assert_error("FORBIDDEN");
    moderator.mutate("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await.assert_error("FORBIDDEN");
    admin.mutate("changeMemberRole", role_of(&chat, "olga", "MEMBER")).await.assert_error("FORBIDDEN");
    admin.mutate("changeMemberRole", role_of(&chat, "mike", "OWNER")).await.assert_error("FORBIDDEN");
    member.mutate("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await.assert_error("FORBIDDEN");
    admin.mutate_ok("changeMemberRole", role_of(&chat, "adam", "MODERATOR")).await;
    assert_eq!(
        roles(&owner, &chat).await,
        "adam:MODERATOR mike:MEMBER mona:MODERATOR olga:OWNER",
        "a member can step down"
    );
    let input = json!({ "chatId": chat, "userIds": ["sven"], "role": "ADMIN" });
    app.user("sven").await;
    owner
        .mutate_ok(
            "updateChat",
            json!({ "chatId": chat, "policy": [{ "action": "ADD_MEMBERS", "role": "MODERATOR" }] }),
        )
        .await;
    moderator.mutate("addMembers", input).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn chat_always_keeps_an_owner(app: &TestApp) {
    let TestGroup { owner, admin, member, chat, .. } = create_group(app).await;
    owner.mutate("changeMemberRole", role_of(&chat, "olga", "ADMIN")).await.assert_error("FORBIDDEN");
    owner.mutate_ok("changeMemberRole", role_of(&chat, "adam", "OWNER")).await;
    owner.mutate_ok("changeMemberRole", role_of(&chat, "olga", "MEMBER")).await;
    owner.mutate("changeMemberRole", role_of(&chat, "olga", "OWNER")).await.assert_error("FORBIDDEN");
    admin.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert_eq!(
        roles(&member, &chat).await,
        "mike:MEMBER mona:OWNER olga:MEMBER",
        "the member with the highest role becomes the owner"
    );
    let direct = admin.mutate_returning("openDirectChat", json!({ "userId": "mike" }), "chat { id }").await;
    let direct = direct.text("openDirectChat.chat.id");
    admin.mutate("changeMemberRole", role_of(&direct, "mike", "OWNER")).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn leaving_owner_is_succeeded_by_highest_then_oldest_member(app: &TestApp) {
    let (owner, zoe, adam) = (app.user("olga").await, app.user("zoe").await, app.user("adam").await);
    let chat = owner.group("Walk", &[]).await;
    // Zoe is the older member, Adam is first by name.
    owner.add_member(&chat, "zoe", "MODERATOR").await;
    app.advance(1);
    owner.add_member(&chat, "adam", "MODERATOR").await;
    app.user("mike").await;
    owner.add_member(&chat, "mike", "MEMBER").await;
    owner.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert_eq!(roles(&zoe, &chat).await, "adam:MODERATOR mike:MEMBER zoe:OWNER");
    zoe.mutate_ok("changeMemberRole", role_of(&chat, "mike", "OWNER")).await;
    zoe.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert_eq!(roles(&adam, &chat).await, "adam:MODERATOR mike:OWNER", "another owner is left");
}

#[engine_test]
async fn chat_policy_changes_rights_of_roles(app: &TestApp) {
    let TestGroup { owner, admin, moderator, member, chat } = create_group(app).await;
    let rule = |action: &str, role: &str| json!({ "chatId": chat, "policy": [{ "action": action, "role": role }] });
    admin.mutate("updateChat", rule("POST", "ADMIN")).await.assert_error("FORBIDDEN");
    owner.mutate_ok("updateChat", rule("POST", "MODERATOR")).await;
    member.try_send_message(&chat, json!({ "text": "hello" })).await.assert_error("FORBIDDEN");
    moderator.send(&chat, "hello").await;
    let can = member.fetch_chat(&chat, "viewerCan { action allowed }").await;
    assert!(can["viewerCan"].as_array().unwrap().contains(&json!({ "action": "POST", "allowed": false })));
    owner.mutate_ok("updateChat", rule("EDIT_DETAILS", "MEMBER")).await;
    member.mutate_ok("updateChat", json!({ "chatId": chat, "title": "Run" })).await;
    member.mutate("updateChat", rule("POST", "MEMBER")).await.assert_error("FORBIDDEN");
    // Members cannot give themselves the right to change roles.
    member.mutate("updateChat", rule("CHANGE_ROLES", "MEMBER")).await.assert_error("FORBIDDEN");
    let policy = owner.fetch_chat(&chat, "policy { action role }").await["policy"].clone();
    let policy = policy.as_array().unwrap();
    assert_eq!(policy.len(), 11);
    for (action, role) in [("POST", "MODERATOR"), ("EDIT_DETAILS", "MEMBER"), ("PIN", "MODERATOR")] {
        assert!(policy.contains(&json!({ "action": action, "role": role })), "others stay: {policy:?}");
    }
    owner.mutate_ok("updateChat", json!({ "chatId": chat, "policy": null })).await;
    member.send(&chat, "hello").await;
    member.mutate("updateChat", json!({ "chatId": chat, "title": "Walk" })).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn slow_mode_allows_next_send_exactly_at_its_end(app: &TestApp) {
    let TestGroup { owner, admin, moderator, member, chat } = create_group(app).await;
    let slow = async |user: &User, seconds: i32| {
        user.mutate("updateChat", json!({ "chatId": chat, "slowModeSeconds": seconds })).await
    };
    slow(&owner, -1).await.assert_bad_input("slowModeSeconds");
    slow(&owner, 21_601).await.assert_bad_input("slowModeSeconds");
    slow(&moderator, 10).await.assert_error("FORBIDDEN");
    slow(&admin, 21_600).await.data();
    let first = member.send(&chat, "first").await;
    let wait = member.try_send_message(&chat, json!({ "text": "second" })).await.retry_after();
    assert!(wait > Duration::from_secs(21_500) && wait <= Duration::from_secs(21_600), "{wait:?}");
    for user in [&moderator, &admin, &owner] {
        user.send(&chat, "one").await;
        user.send(&chat, "two").await;
    }
    member.mutate_ok("editMessage", json!({ "messageId": first, "text": "the first" })).await;
    app.app.clock.advance(wait - Duration::from_secs(60));
    // The first tokens have expired by now.
    let (owner, admin, member) = (app.user("olga").await, app.user("adam").await, app.user("mike").await);
    let wait = member.try_send_message(&chat, json!({ "text": "second" })).await.retry_after();
    assert!(wait <= Duration::from_secs(60), "{wait:?}");
    app.app.clock.advance(wait);
    member.send(&chat, "second").await;
    member.try_send_message(&chat, json!({ "text": "third" })).await.retry_after();
    let other = member.group("Other", &[]).await;
    member.send(&other, "slow mode applies to each chat separately").await;
    slow(&admin, 0).await.data();
    member.send(&chat, "third").await;
    member.send(&chat, "fourth").await;
    slow(&admin, 5).await.data();
    member.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    owner.add_member(&chat, "mike", "MEMBER").await;
    member.try_send_message(&chat, json!({ "text": "after rejoining" })).await.retry_after();
}
