//! Capabilities: `viewerCan` predicts for each action whether its mutation succeeds.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test};

/// The actions with a mutation; none starts a call yet.
const ACTIONS: [&str; 10] = [
    "POST",
    "MENTION_EVERYONE",
    "EDIT_DETAILS",
    "ADD_MEMBERS",
    "REMOVE_MEMBERS",
    "SILENCE_MEMBERS",
    "CHANGE_ROLES",
    "DELETE_OTHERS_MESSAGES",
    "PIN",
    "DELETE_CHAT",
];
const ROLES: [&str; 4] = ["MEMBER", "MODERATOR", "ADMIN", "OWNER"];
const KINDS: [&str; 2] = ["GROUP", "CHANNEL"];
/// The least role for an action: the default, or one that was set.
const POLICIES: [Option<&str>; 3] = [None, Some("MEMBER"), Some("OWNER")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Plain,
    /// A token with the permission to view chats only.
    Bare,
    Moderator,
}
const TOKENS: [Token; 3] = [Token::Plain, Token::Bare, Token::Moderator];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    Silenced,
    SlowMode,
    /// The last state, because an archived chat stays archived.
    Archived,
}
const STATES: [State; 4] = [State::Normal, State::Silenced, State::SlowMode, State::Archived];

/// The users of all test chats.
struct TestUsers {
    creator: User,
    /// The users who try actions, one for each role, each with each token.
    viewers: Vec<[User; 3]>,
    /// The member on whom actions are tried.
    target: User,
}

impl TestUsers {
    async fn create(app: &TestApp) -> Self {
        let moderator = [
            "chat.view",
            "chat.create_group",
            "chat.manage_group",
            "chat.delete",
            "chat.initiate_call",
            "chat.moderate",
        ];
        app.user("guest").await;
        let mut viewers = Vec::new();
        for role in ROLES {
            viewers.push([
                app.user_in("demo", role, None).await,
                app.user_in("demo", role, Some(&["chat.view"])).await,
                app.user_in("demo", role, Some(&moderator)).await,
            ]);
        }
        Self { creator: app.user("creator").await, viewers, target: app.user("target").await }
    }

    fn viewer(&self, role: usize, token: Token) -> &User {
        &self.viewers[role][token as usize]
    }
}

/// A chat in which an action is tried by all viewers.
struct TestChat<'a> {
    users: &'a TestUsers,
    kind: &'static str,
    policy: Option<(&'static str, &'static str)>,
    chat: String,
    message: String,
}

impl<'a> TestChat<'a> {
    async fn create(users: &'a TestUsers, kind: &'static str, policy: Option<(&'static str, &'static str)>) -> Self {
        let rules: Vec<Value> =
            policy.into_iter().map(|(action, role)| json!({ "action": action, "role": role })).collect();
        let ids: Vec<&str> = ROLES.into_iter().chain(["target"]).collect();
        let input = json!({ "kind": kind, "title": "Chat", "memberIds": ids, "policy": rules });
        let chat = users.creator.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id");
        let message = users.creator.send(&chat, "Welcome").await;
        let test_chat = Self { users, kind, policy, chat, message };
        for role in ["OWNER", "ADMIN", "MODERATOR"] {
            test_chat.as_creator("changeMemberRole", json!({ "userId": role, "role": role }), "member { id }").await;
        }
        for [viewer, ..] in &users.viewers {
            // Slow mode counts from this message, if the role may post.
            let input = json!({ "chatId": test_chat.chat, "text": "Hello" });
            viewer.mutate_returning("sendMessage", input, "message { id }").await;
        }
        test_chat
    }

    async fn as_creator(&self, field: &str, mut input: Value, selection: &str) -> Reply {
        input["chatId"] = json!(self.chat);
        let reply = self.users.creator.mutate_returning(field, input, selection).await;
        reply.data();
        reply
    }

    async fn set_state(&self, state: State) {
        match state {
            State::Normal => {}
            State::Silenced => self.silence(json!("2100-01-01T00:00:00Z")).await,
            State::SlowMode => {
                self.silence(json!(null)).await;
                self.as_creator("updateChat", json!({ "slowModeSeconds": 3600 }), "chat { id }").await;
            }
            State::Archived => drop(self.as_creator("archiveChat", json!({ "archived": true }), "chat { id }").await),
        }
    }

    async fn silence(&self, until: Value) {
        for role in ROLES {
            self.as_creator("silenceMember", json!({ "userId": role, "until": until }), "member { id }").await;
        }
    }

    /// Sends the mutation of an action.
    async fn attempt(&self, viewer: &User, action: &str) -> Reply {
        let Self { chat, message, .. } = self;
        let (field, input, selection) = match action {
            "POST" => ("sendMessage", json!({ "chatId": chat, "text": "Hello again" }), "message { id }"),
            "MENTION_EVERYONE" => {
                let input = json!({ "chatId": chat, "text": "Hello again", "mentionsEveryone": true });
                ("sendMessage", input, "message { id }")
            }
            "EDIT_DETAILS" => ("updateChat", json!({ "chatId": chat, "description": "Ours" }), "chat { id }"),
            "ADD_MEMBERS" => ("addMembers", json!({ "chatId": chat, "userIds": ["guest"] }), "chat { id }"),
            "REMOVE_MEMBERS" => ("removeMember", json!({ "chatId": chat, "userId": "target" }), "chat { id }"),
            "SILENCE_MEMBERS" => (
                "silenceMember",
                json!({ "chatId": chat, "userId": "target", "until": "2101-01-01T00:00:00Z" }),
                "member { id }",
            ),
            "CHANGE_ROLES" => (
                "changeMemberRole",
                json!({ "chatId": chat, "userId": "target", "role": "MODERATOR" }),
                "member { id }",
            ),
            "DELETE_OTHERS_MESSAGES" => ("deleteMessage", json!({ "messageId": message }), "message { id }"),
            "PIN" => ("pinMessage", json!({ "messageId": message }), "message { id }"),
            "DELETE_CHAT" => ("deleteChat", json!({ "chatId": chat }), "deletedChatId"),
            other => panic!("no mutation for {other}"),
        };
        viewer.mutate_returning(field, input, selection).await
    }

    /// Reverts an action that succeeded, so that the next viewer can try it.
    async fn undo(&mut self, action: &str, state: State) {
        match action {
            "ADD_MEMBERS" => drop(self.as_creator("removeMember", json!({ "userId": "guest" }), "removedUserId").await),
            "SILENCE_MEMBERS" => {
                drop(self.as_creator("silenceMember", json!({ "userId": "target" }), "member { id }").await);
            }
            "CHANGE_ROLES" => {
                let input = json!({ "userId": "target", "role": "MEMBER" });
                drop(self.as_creator("changeMemberRole", input, "member { id }").await);
            }
            "REMOVE_MEMBERS" if state != State::Archived => {
                drop(self.as_creator("addMembers", json!({ "userIds": ["target"] }), "chat { id }").await);
            }
            // These actions cannot be reverted, so a new chat replaces the old one.
            "REMOVE_MEMBERS" | "DELETE_OTHERS_MESSAGES" | "DELETE_CHAT" => {
                *self = Self::create(self.users, self.kind, self.policy).await;
                self.set_state(state).await;
            }
            "PIN" if state != State::Archived => {
                let input = json!({ "messageId": self.message });
                self.users.creator.mutate_returning("unpinMessage", input, "message { id }").await.data();
            }
            _ => {}
        }
    }
}

/// Returns the capability that `viewerCan` states for an action.
async fn capability(viewer: &User, chat: &str, action: &str) -> Value {
    let query = format!("{{ chat(id: \"{chat}\") {{ viewerCan {{ action allowed reason until }} }} }}");
    let reply = viewer.ask(&query).await;
    let all = reply.at("chat.viewerCan").as_array().expect("a list").clone();
    all.into_iter().find(|capability| capability["action"] == action).expect("each action is there")
}

/// Asserts that a mutation had the result that a capability predicts, and returns true if it succeeded.
#[track_caller]
fn assert_predicted(capability: &Value, reply: &Reply, case: &str) -> bool {
    let case = format!("{case}: {capability}: {}", reply.body);
    assert_eq!(capability["allowed"] == json!(true), capability["reason"].is_null(), "{case}");
    let error = &reply.body["errors"][0];
    if capability["allowed"] == json!(true) {
        assert!(error.is_null() && capability["until"].is_null(), "{case}");
        return true;
    }
    assert_eq!(error["message"], capability["reason"], "{case}");
    let reason = capability["reason"].as_str().expect("a reason");
    let retry_after = error["extensions"]["retryAfterMs"].as_u64();
    match reason.starts_with("the chat is in slow mode") {
        true => {
            assert!(
                error["extensions"]["code"] == "RATE_LIMITED" && retry_after.is_some_and(|retry_after| retry_after > 0),
                "{case}"
            )
        }
        false => assert!(error["extensions"]["code"] == "FORBIDDEN" && retry_after.is_none(), "{case}"),
    }
    let is_temporary = reason.starts_with("the chat is in slow mode") || reason.starts_with("you are silenced");
    assert_eq!(capability["until"].is_string(), is_temporary, "{case}");
    false
}

/// Tries an action in a kind of chat under a policy, and returns the numbers of successes and failures.
///
/// The action is tried by each role, with each token and in each state, except two thirds of the cases. The remaining
/// third contains all pairs of these values.
async fn try_action(users: &TestUsers, kind: &'static str, action: &'static str, policy: usize) -> (usize, usize) {
    let index_of = |name: &str| ACTIONS.iter().position(|action| *action == name).unwrap_or_default();
    let mut test_chat = TestChat::create(users, kind, POLICIES[policy].map(|role| (action, role))).await;
    let (mut succeeded, mut failed) = (0, 0);
    for state in STATES {
        test_chat.set_state(state).await;
        for (role, name) in ROLES.into_iter().enumerate() {
            for token in TOKENS {
                let number = role + 2 * policy + token as usize + state as usize + index_of(action);
                if !(number + usize::from(kind == "GROUP")).is_multiple_of(3) {
                    continue;
                }
                let viewer = users.viewer(role, token);
                let predicted = capability(viewer, &test_chat.chat, action).await;
                let reply = test_chat.attempt(viewer, action).await;
                let case =
                    format!("{action} by {name} with {token:?} in a {kind} under {:?}, {state:?}", POLICIES[policy]);
                let is_about_member = ["REMOVE_MEMBERS", "SILENCE_MEMBERS", "CHANGE_ROLES"].contains(&action);
                if is_about_member
                    && name == "MEMBER"
                    && token != Token::Moderator
                    && predicted["allowed"] == json!(true)
                {
                    // The capability concerns members of a lower role, and there is none.
                    reply.assert_error("FORBIDDEN");
                    let message = reply.body["errors"][0]["message"].as_str().expect("a message");
                    assert_eq!(message, "this action requires the role MODERATOR or higher", "{case}");
                    failed += 1;
                } else if assert_predicted(&predicted, &reply, &case) {
                    test_chat.undo(action, state).await;
                    succeeded += 1;
                } else {
                    failed += 1;
                }
            }
        }
    }
    (succeeded, failed)
}

#[engine_test(settings = [("PARLOR_CHATS_PER_MINUTE", "100000"), ("PARLOR_WRITES_PER_MINUTE", "100000")])]
async fn viewer_can_matches_mutation_outcome(app: &TestApp) {
    let users = TestUsers::create(app).await;
    let mut cases = Vec::new();
    for action in ACTIONS {
        for kind in KINDS {
            cases.extend((0..POLICIES.len()).map(|policy| (kind, action, policy)));
        }
    }
    let tried: Vec<(usize, usize)> = stream::iter(cases)
        .map(|(kind, action, policy)| try_action(&users, kind, action, policy))
        .buffer_unordered(8)
        .collect()
        .await;
    let (succeeded, failed) = tried.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!((900..1_100).contains(&(succeeded + failed)), "{succeeded} succeeded, {failed} failed");
    assert!(succeeded > 300 && failed > 300, "{succeeded} succeeded, {failed} failed");
}

#[engine_test]
async fn direct_chat_allows_no_moderation(app: &TestApp) {
    let users = TestUsers::create(app).await;
    let opened = users.target.mutate_returning("openDirectChat", json!({ "userId": "MEMBER" }), "chat { id }").await;
    let chat = opened.text("openDirectChat.chat.id");
    let message = users.target.send(&chat, "Hello").await;
    let test_chat = TestChat { users: &users, kind: "DIRECT", policy: None, chat, message };
    for token in TOKENS {
        let viewer = users.viewer(0, token);
        for action in ACTIONS {
            let predicted = capability(viewer, &test_chat.chat, action).await;
            let reply = test_chat.attempt(viewer, action).await;
            let succeeds = assert_predicted(&predicted, &reply, &format!("{action} with {token:?}"));
            assert_eq!(succeeds, ["POST", "MENTION_EVERYONE", "PIN"].contains(&action), "{action}");
        }
    }
}

#[engine_test]
async fn channel_visitor_has_no_capability(app: &TestApp) {
    let users = TestUsers::create(app).await;
    let test_chat = TestChat::create(&users, "CHANNEL", None).await;
    let moderator = app.user_in("demo", "guest", Some(&["chat.view", "chat.manage_group", "chat.moderate"])).await;
    for viewer in [app.user("guest").await, moderator] {
        for action in ACTIONS {
            let predicted = capability(&viewer, &test_chat.chat, action).await;
            let reply = test_chat.attempt(&viewer, action).await;
            match action {
                // A visitor cannot see the messages.
                "DELETE_OTHERS_MESSAGES" | "PIN" => {
                    assert_eq!(predicted["reason"], "you are not a member of this chat");
                    reply.assert_error("NOT_FOUND");
                }
                _ => assert!(!assert_predicted(&predicted, &reply, action)),
            }
        }
    }
}

/// The capability to mention everyone includes the right to post.
#[engine_test]
async fn mention_everyone_needs_right_to_post(app: &TestApp) {
    let users = TestUsers::create(app).await;
    let test_chat = TestChat::create(&users, "GROUP", Some(("POST", "OWNER"))).await;
    for (index, role) in ROLES.into_iter().enumerate() {
        let viewer = users.viewer(index, Token::Plain);
        let predicted = capability(viewer, &test_chat.chat, "MENTION_EVERYONE").await;
        let reply = test_chat.attempt(viewer, "MENTION_EVERYONE").await;
        assert_eq!(assert_predicted(&predicted, &reply, role), role == "OWNER");
    }
}

#[engine_test]
async fn temporary_denial_ends_at_reported_time(app: &TestApp) {
    let users = TestUsers::create(app).await;
    let test_chat = TestChat::create(&users, "GROUP", None).await;
    let member = users.viewer(0, Token::Plain);
    let end_of = |predicted: &Value| -> chrono::DateTime<chrono::Utc> {
        predicted["until"].as_str().expect("a time").parse().expect("a time")
    };
    test_chat.as_creator("updateChat", json!({ "slowModeSeconds": 60 }), "chat { id }").await;
    let predicted = capability(member, &test_chat.chat, "POST").await;
    let reply = test_chat.attempt(member, "POST").await;
    assert!(!assert_predicted(&predicted, &reply, "slow mode"));
    let retry_after =
        Duration::from_millis(reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().expect("a time"));
    assert!(retry_after > Duration::from_secs(50) && retry_after <= Duration::from_secs(60), "{retry_after:?}");
    app.app.clock.advance(retry_after - Duration::from_secs(10));
    assert!(!assert_predicted(
        &capability(member, &test_chat.chat, "POST").await,
        &test_chat.attempt(member, "POST").await,
        "too early"
    ));
    app.app.clock.advance(Duration::from_secs(10));
    assert!(app.app.clock.now() >= end_of(&predicted));
    assert!(assert_predicted(
        &capability(member, &test_chat.chat, "POST").await,
        &test_chat.attempt(member, "POST").await,
        "slow mode"
    ));
    test_chat.as_creator("updateChat", json!({ "slowModeSeconds": 0 }), "chat { id }").await;

    let silenced_until = app.app.clock.now() + Duration::from_secs(60);
    let input = json!({ "userId": "MEMBER", "until": silenced_until.to_rfc3339() });
    test_chat.as_creator("silenceMember", input, "member { id }").await;
    let predicted = capability(member, &test_chat.chat, "POST").await;
    assert!(!assert_predicted(&predicted, &test_chat.attempt(member, "POST").await, "silenced"));
    app.app.clock.advance(Duration::from_secs(50));
    assert!(!assert_predicted(
        &capability(member, &test_chat.chat, "POST").await,
        &test_chat.attempt(member, "POST").await,
        "silenced"
    ));
    app.app.clock.advance((end_of(&predicted) - app.app.clock.now()).to_std().expect("a time in the future"));
    assert!(assert_predicted(
        &capability(member, &test_chat.chat, "POST").await,
        &test_chat.attempt(member, "POST").await,
        "no longer silenced"
    ));
}
