//! Roles: who gives them, who may silence whom, and what a chat asks of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{TestApp, User, each_engine};

struct Crew {
    owner: User,
    admin: User,
    moderator: User,
    member: User,
    chat: String,
}

/// A group with one of each role.
async fn crew(app: &TestApp) -> Crew {
    let (owner, admin) = (app.user("olga").await, app.user("adam").await);
    let (moderator, member) = (app.user("mona").await, app.user("mike").await);
    let chat = owner.group("Walk", &[&member]).await;
    owner.adds(&chat, "adam", "ADMIN").await;
    owner.adds(&chat, "mona", "MODERATOR").await;
    Crew { owner, admin, moderator, member, chat }
}

/// The members and their roles, by name.
async fn roles(who: &User, chat: &str) -> String {
    let members = who.sees_chat(chat, "members { nodes { role user { id } } }").await;
    let role =
        |member: &Value| format!("{}:{}", member["user"]["id"].as_str().unwrap(), member["role"].as_str().unwrap());
    members["members"]["nodes"].as_array().unwrap().iter().map(role).collect::<Vec<_>>().join(" ")
}

fn role_of(chat: &str, user: &str, role: &str) -> Value {
    json!({ "chatId": chat, "userId": user, "role": role })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_gives_roles_and_others_do_not() {
    each_engine(async |app| {
        let Crew { owner, admin, moderator, member, chat } = crew(app).await;
        for who in [&admin, &moderator, &member] {
            who.act("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await.refused("FORBIDDEN");
        }
        let stranger = app.user("sven").await;
        stranger.act("changeMemberRole", role_of(&chat, "mike", "ADMIN")).await.refused("NOT_FOUND");
        owner.act("changeMemberRole", role_of(&chat, "sven", "ADMIN")).await.refused("NOT_FOUND");
        let changed = owner
            .mutate("changeMemberRole", role_of(&chat, "mike", "ADMIN"), "member { role user { id } chat { id } }")
            .await;
        let expected = json!({ "role": "ADMIN", "user": { "id": "mike" }, "chat": { "id": chat } });
        assert_eq!(changed.at("changeMemberRole.member"), &expected);
        owner.does("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await;
        assert_eq!(roles(&owner, &chat).await, "adam:MEMBER mike:ADMIN mona:MODERATOR olga:OWNER");
        let before = owner.sees_chat(&chat, "version").await;
        owner.does("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await;
        assert_eq!(owner.sees_chat(&chat, "version").await, before, "the same role is no change");
        let weak = app.person("demo", "olga", Some(&["chat.view"])).await;
        weak.act("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_more_than_they_have_or_to_one_above_them() {
    each_engine(async |app| {
        let Crew { owner, admin, moderator, member, chat } = crew(app).await;
        let policy = json!([{ "action": "CHANGE_ROLES", "role": "MODERATOR" }]);
        owner.does("updateChat", json!({ "chatId": chat, "policy": policy })).await;
        moderator.does("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await;
        moderator.act("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await.refused("FORBIDDEN");
        admin.does("changeMemberRole", role_of(&chat, "mike", "MEMBER")).await;
        moderator.act("changeMemberRole", role_of(&chat, "mike", "ADMIN")).await.refused("FORBIDDEN");
        moderator.act("changeMemberRole", role_of(&chat, "mona", "ADMIN")).await.refused("FORBIDDEN");
        moderator.act("changeMemberRole", role_of(&chat, "adam", "MEMBER")).await.refused("FORBIDDEN");
        admin.act("changeMemberRole", role_of(&chat, "olga", "MEMBER")).await.refused("FORBIDDEN");
        admin.act("changeMemberRole", role_of(&chat, "mike", "OWNER")).await.refused("FORBIDDEN");
        member.act("changeMemberRole", role_of(&chat, "mike", "MODERATOR")).await.refused("FORBIDDEN");
        admin.does("changeMemberRole", role_of(&chat, "adam", "MODERATOR")).await;
        assert_eq!(
            roles(&owner, &chat).await,
            "adam:MODERATOR mike:MEMBER mona:MODERATOR olga:OWNER",
            "one may step down"
        );
        let input = json!({ "chatId": chat, "userIds": ["sven"], "role": "ADMIN" });
        app.user("sven").await;
        owner
            .does("updateChat", json!({ "chatId": chat, "policy": [{ "action": "ADD_MEMBERS", "role": "MODERATOR" }] }))
            .await;
        moderator.act("addMembers", input).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_keeps_an_owner() {
    each_engine(async |app| {
        let Crew { owner, admin, member, chat, .. } = crew(app).await;
        owner.act("changeMemberRole", role_of(&chat, "olga", "ADMIN")).await.refused("FORBIDDEN");
        owner.does("changeMemberRole", role_of(&chat, "adam", "OWNER")).await;
        owner.does("changeMemberRole", role_of(&chat, "olga", "MEMBER")).await;
        owner.act("changeMemberRole", role_of(&chat, "olga", "OWNER")).await.refused("FORBIDDEN");
        admin.does("leaveChat", json!({ "chatId": chat })).await;
        assert_eq!(roles(&member, &chat).await, "mike:MEMBER mona:OWNER olga:MEMBER", "the highest of the others");
        let direct = admin.mutate("openDirectChat", json!({ "userId": "mike" }), "chat { id }").await;
        let direct = direct.text("openDirectChat.chat.id");
        admin.act("changeMemberRole", role_of(&direct, "mike", "OWNER")).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_leaves_is_followed_by_the_highest_and_then_the_longest_there() {
    each_engine(async |app| {
        let (owner, zoe, adam) = (app.user("olga").await, app.user("zoe").await, app.user("adam").await);
        let chat = owner.group("Walk", &[]).await;
        // Zoe comes first, Adam is first by name.
        owner.adds(&chat, "zoe", "MODERATOR").await;
        app.advance(1);
        owner.adds(&chat, "adam", "MODERATOR").await;
        app.user("mike").await;
        owner.adds(&chat, "mike", "MEMBER").await;
        owner.does("leaveChat", json!({ "chatId": chat })).await;
        assert_eq!(roles(&zoe, &chat).await, "adam:MODERATOR mike:MEMBER zoe:OWNER");
        zoe.does("changeMemberRole", role_of(&chat, "mike", "OWNER")).await;
        zoe.does("leaveChat", json!({ "chatId": chat })).await;
        assert_eq!(roles(&adam, &chat).await, "adam:MODERATOR mike:OWNER", "another owner is left");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_set_by_those_who_give_roles_and_changes_what_roles_may_do() {
    each_engine(async |app| {
        let Crew { owner, admin, moderator, member, chat } = crew(app).await;
        let rule = |action: &str, role: &str| json!({ "chatId": chat, "policy": [{ "action": action, "role": role }] });
        admin.act("updateChat", rule("POST", "ADMIN")).await.refused("FORBIDDEN");
        owner.does("updateChat", rule("POST", "MODERATOR")).await;
        member.try_send(&chat, json!({ "text": "hello" })).await.refused("FORBIDDEN");
        moderator.send(&chat, "hello").await;
        let can = member.sees_chat(&chat, "viewerCan { action allowed }").await;
        assert!(can["viewerCan"].as_array().unwrap().contains(&json!({ "action": "POST", "allowed": false })));
        owner.does("updateChat", rule("EDIT_DETAILS", "MEMBER")).await;
        member.does("updateChat", json!({ "chatId": chat, "title": "Run" })).await;
        member.act("updateChat", rule("POST", "MEMBER")).await.refused("FORBIDDEN");
        // Nobody makes themselves one who gives roles.
        member.act("updateChat", rule("CHANGE_ROLES", "MEMBER")).await.refused("FORBIDDEN");
        let policy = owner.sees_chat(&chat, "policy { action role }").await["policy"].clone();
        let policy = policy.as_array().unwrap();
        assert_eq!(policy.len(), 11);
        for (action, role) in [("POST", "MODERATOR"), ("EDIT_DETAILS", "MEMBER"), ("PIN", "MODERATOR")] {
            assert!(policy.contains(&json!({ "action": action, "role": role })), "others stay: {policy:?}");
        }
        owner.does("updateChat", json!({ "chatId": chat, "policy": null })).await;
        member.send(&chat, "hello").await;
        member.act("updateChat", json!({ "chatId": chat, "title": "Walk" })).await.refused("FORBIDDEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_mode_lets_a_member_send_again_exactly_at_its_end() {
    each_engine(async |app| {
        let Crew { owner, admin, moderator, member, chat } = crew(app).await;
        let slow = async |who: &User, seconds: i32| {
            who.act("updateChat", json!({ "chatId": chat, "slowModeSeconds": seconds })).await
        };
        slow(&owner, -1).await.bad_input("slowModeSeconds");
        slow(&owner, 21_601).await.bad_input("slowModeSeconds");
        slow(&moderator, 10).await.refused("FORBIDDEN");
        slow(&admin, 21_600).await.data();
        let first = member.send(&chat, "first").await;
        let wait = member.try_send(&chat, json!({ "text": "second" })).await.retry_after();
        assert!(wait > Duration::from_secs(21_500) && wait <= Duration::from_secs(21_600), "{wait:?}");
        for who in [&moderator, &admin, &owner] {
            who.send(&chat, "one").await;
            who.send(&chat, "two").await;
        }
        member.does("editMessage", json!({ "messageId": first, "text": "the first" })).await;
        app.app.clock.advance(wait - Duration::from_secs(60));
        // The tokens of before have expired by now.
        let (owner, admin, member) = (app.user("olga").await, app.user("adam").await, app.user("mike").await);
        let wait = member.try_send(&chat, json!({ "text": "second" })).await.retry_after();
        assert!(wait <= Duration::from_secs(60), "{wait:?}");
        app.app.clock.advance(wait);
        member.send(&chat, "second").await;
        member.try_send(&chat, json!({ "text": "third" })).await.retry_after();
        let other = member.group("Elsewhere", &[]).await;
        member.send(&other, "each chat is slow by itself").await;
        slow(&admin, 0).await.data();
        member.send(&chat, "third").await;
        member.send(&chat, "fourth").await;
        slow(&admin, 5).await.data();
        member.does("leaveChat", json!({ "chatId": chat })).await;
        owner.adds(&chat, "mike", "MEMBER").await;
        member.try_send(&chat, json!({ "text": "came again" })).await.retry_after();
    })
    .await;
}
