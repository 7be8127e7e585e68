//! `viewerCan` says of each action what the mutation then does.

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
    /// With nothing but the permission to see chats.
    Bare,
    Moderator,
}
const TOKENS: [Token; 3] = [Token::Plain, Token::Bare, Token::Moderator];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    Silenced,
    SlowMode,
    /// The last: a room that is archived is left so.
    Archived,
}
const STATES: [State; 4] = [State::Normal, State::Silenced, State::SlowMode, State::Archived];

/// The people of all rooms: their maker, one for each role with each token, one to whom things are
/// done, and one who is not in.
struct People {
    maker: User,
    viewers: Vec<[User; 3]>,
    tom: User,
}

impl People {
    async fn of(app: &TestApp) -> Self {
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
        Self { maker: app.user("maker").await, viewers, tom: app.user("tom").await }
    }

    fn viewer(&self, role: usize, token: Token) -> &User {
        &self.viewers[role][token as usize]
    }
}

/// A chat in which an action is tried by everyone.
struct Room<'a> {
    people: &'a People,
    kind: &'static str,
    policy: Option<(&'static str, &'static str)>,
    chat: String,
    message: String,
}

impl<'a> Room<'a> {
    async fn make(people: &'a People, kind: &'static str, policy: Option<(&'static str, &'static str)>) -> Self {
        let rules: Vec<Value> =
            policy.into_iter().map(|(action, role)| json!({ "action": action, "role": role })).collect();
        let ids: Vec<&str> = ROLES.into_iter().chain(["tom"]).collect();
        let input = json!({ "kind": kind, "title": "Room", "memberIds": ids, "policy": rules });
        let chat = people.maker.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id");
        let message = people.maker.send(&chat, "Hear, hear").await;
        let room = Self { people, kind, policy, chat, message };
        for role in ["OWNER", "ADMIN", "MODERATOR"] {
            room.by_maker("changeMemberRole", json!({ "userId": role, "role": role }), "member { id }").await;
        }
        for [viewer, ..] in &people.viewers {
            // For slow mode: of those who may.
            let input = json!({ "chatId": room.chat, "text": "Here" });
            viewer.mutate_returning("sendMessage", input, "message { id }").await;
        }
        room
    }

    async fn by_maker(&self, field: &str, mut input: Value, selection: &str) -> Reply {
        input["chatId"] = json!(self.chat);
        let reply = self.people.maker.mutate_returning(field, input, selection).await;
        reply.data();
        reply
    }

    async fn enter(&self, state: State) {
        match state {
            State::Normal => {}
            State::Silenced => self.silence(json!("2100-01-01T00:00:00Z")).await,
            State::SlowMode => {
                self.silence(json!(null)).await;
                self.by_maker("updateChat", json!({ "slowModeSeconds": 3600 }), "chat { id }").await;
            }
            State::Archived => drop(self.by_maker("archiveChat", json!({ "archived": true }), "chat { id }").await),
        }
    }

    async fn silence(&self, until: Value) {
        for role in ROLES {
            self.by_maker("silenceMember", json!({ "userId": role, "until": until }), "member { id }").await;
        }
    }

    /// The mutation for an action.
    async fn attempt(&self, viewer: &User, action: &str) -> Reply {
        let Self { chat, message, .. } = self;
        let (field, input, selection) = match action {
            "POST" => ("sendMessage", json!({ "chatId": chat, "text": "Hear me" }), "message { id }"),
            "MENTION_EVERYONE" => {
                let input = json!({ "chatId": chat, "text": "Hear me", "mentionsEveryone": true });
                ("sendMessage", input, "message { id }")
            }
            "EDIT_DETAILS" => ("updateChat", json!({ "chatId": chat, "description": "Ours" }), "chat { id }"),
            "ADD_MEMBERS" => ("addMembers", json!({ "chatId": chat, "userIds": ["guest"] }), "chat { id }"),
            "REMOVE_MEMBERS" => ("removeMember", json!({ "chatId": chat, "userId": "tom" }), "chat { id }"),
            "SILENCE_MEMBERS" => (
                "silenceMember",
                json!({ "chatId": chat, "userId": "tom", "until": "2101-01-01T00:00:00Z" }),
                "member { id }",
            ),
            "CHANGE_ROLES" => {
                ("changeMemberRole", json!({ "chatId": chat, "userId": "tom", "role": "MODERATOR" }), "member { id }")
            }
            "DELETE_OTHERS_MESSAGES" => ("deleteMessage", json!({ "messageId": message }), "message { id }"),
            "PIN" => ("pinMessage", json!({ "messageId": message }), "message { id }"),
            "DELETE_CHAT" => ("deleteChat", json!({ "chatId": chat }), "deletedChatId"),
            other => panic!("no mutation for {other}"),
        };
        viewer.mutate_returning(field, input, selection).await
    }

    /// Makes an action that was done undone, for the next one to try.
    async fn undo(&mut self, action: &str, state: State) {
        match action {
            "ADD_MEMBERS" => drop(self.by_maker("removeMember", json!({ "userId": "guest" }), "removedUserId").await),
            "SILENCE_MEMBERS" => {
                drop(self.by_maker("silenceMember", json!({ "userId": "tom" }), "member { id }").await);
            }
            "CHANGE_ROLES" => {
                let input = json!({ "userId": "tom", "role": "MEMBER" });
                drop(self.by_maker("changeMemberRole", input, "member { id }").await);
            }
            "REMOVE_MEMBERS" if state != State::Archived => {
                drop(self.by_maker("addMembers", json!({ "userIds": ["tom"] }), "chat { id }").await);
            }
            // What can't be undone is begun anew.
            "REMOVE_MEMBERS" | "DELETE_OTHERS_MESSAGES" | "DELETE_CHAT" => {
                *self = Self::make(self.people, self.kind, self.policy).await;
                self.enter(state).await;
            }
            "PIN" if state != State::Archived => {
                let input = json!({ "messageId": self.message });
                self.people.maker.mutate_returning("unpinMessage", input, "message { id }").await.data();
            }
            _ => {}
        }
    }
}

/// What `viewerCan` says of an action.
async fn capability(viewer: &User, chat: &str, action: &str) -> Value {
    let query = format!("{{ chat(id: \"{chat}\") {{ viewerCan {{ action allowed reason until }} }} }}");
    let reply = viewer.ask(&query).await;
    let all = reply.at("chat.viewerCan").as_array().expect("a list").clone();
    all.into_iter().find(|capability| capability["action"] == action).expect("each action is there")
}

/// Asserts that a mutation did what `viewerCan` said it would; true where it was done.
#[track_caller]
fn agrees(said: &Value, reply: &Reply, case: &str) -> bool {
    let case = format!("{case}: {said}: {}", reply.body);
    assert_eq!(said["allowed"] == json!(true), said["reason"].is_null(), "{case}");
    let error = &reply.body["errors"][0];
    if said["allowed"] == json!(true) {
        assert!(error.is_null() && said["until"].is_null(), "{case}");
        return true;
    }
    assert_eq!(error["message"], said["reason"], "{case}");
    let reason = said["reason"].as_str().expect("a reason");
    let waits = error["extensions"]["retryAfterMs"].as_u64();
    match reason.starts_with("slow mode") {
        true => {
            assert!(error["extensions"]["code"] == "RATE_LIMITED" && waits.is_some_and(|waits| waits > 0), "{case}")
        }
        false => assert!(error["extensions"]["code"] == "FORBIDDEN" && waits.is_none(), "{case}"),
    }
    let mends = reason.starts_with("slow mode") || reason.starts_with("you are silenced");
    assert_eq!(said["until"].is_string(), mends, "{case}");
    false
}

/// Each action is tried by each role, in each kind of chat, under each policy of the action, with each
/// token and in each state: a third of all cases, so that any two of these come together.
async fn try_all(people: &People, kind: &'static str, action: &'static str, policy: usize) -> (usize, usize) {
    let place = |one: &str| ACTIONS.iter().position(|action| *action == one).unwrap_or_default();
    let mut room = Room::make(people, kind, POLICIES[policy].map(|role| (action, role))).await;
    let (mut done, mut refused) = (0, 0);
    for state in STATES {
        room.enter(state).await;
        for (role, name) in ROLES.into_iter().enumerate() {
            for token in TOKENS {
                let number = role + 2 * policy + token as usize + state as usize + place(action);
                if !(number + usize::from(kind == "GROUP")).is_multiple_of(3) {
                    continue;
                }
                let viewer = people.viewer(role, token);
                let said = capability(viewer, &room.chat, action).await;
                let reply = room.attempt(viewer, action).await;
                let case =
                    format!("{action} by {name} with {token:?} in a {kind} under {:?}, {state:?}", POLICIES[policy]);
                let is_about_people = ["REMOVE_MEMBERS", "SILENCE_MEMBERS", "CHANGE_ROLES"].contains(&action);
                if is_about_people && name == "MEMBER" && token != Token::Moderator && said["allowed"] == json!(true) {
                    // One may, upon those whom one outranks: of whom there is nobody.
                    reply.assert_error("FORBIDDEN");
                    let why = reply.body["errors"][0]["message"].as_str().expect("a message");
                    assert_eq!(why, "this action requires the role MODERATOR or higher", "{case}");
                    refused += 1;
                } else if agrees(&said, &reply, &case) {
                    room.undo(action, state).await;
                    done += 1;
                } else {
                    refused += 1;
                }
            }
        }
    }
    (done, refused)
}

#[engine_test(settings = [("PARLOR_CHATS_PER_MINUTE", "100000")])]
async fn viewer_can_matches_mutation_outcome(app: &TestApp) {
    let people = People::of(app).await;
    let mut cases = Vec::new();
    for action in ACTIONS {
        for kind in KINDS {
            cases.extend((0..POLICIES.len()).map(|policy| (kind, action, policy)));
        }
    }
    let tried: Vec<(usize, usize)> = stream::iter(cases)
        .map(|(kind, action, policy)| try_all(&people, kind, action, policy))
        .buffer_unordered(8)
        .collect()
        .await;
    let (done, refused) = tried.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!((900..1_100).contains(&(done + refused)), "{done} done, {refused} refused");
    assert!(done > 300 && refused > 300, "{done} done, {refused} refused");
}

#[engine_test]
async fn direct_chat_allows_no_moderation(app: &TestApp) {
    let people = People::of(app).await;
    let opened = people.tom.mutate_returning("openDirectChat", json!({ "userId": "MEMBER" }), "chat { id }").await;
    let chat = opened.text("openDirectChat.chat.id");
    let message = people.tom.send(&chat, "Hello").await;
    let room = Room { people: &people, kind: "DIRECT", policy: None, chat, message };
    for token in TOKENS {
        let viewer = people.viewer(0, token);
        for action in ACTIONS {
            let said = capability(viewer, &room.chat, action).await;
            let reply = room.attempt(viewer, action).await;
            let is_done = agrees(&said, &reply, &format!("{action} with {token:?}"));
            assert_eq!(is_done, ["POST", "MENTION_EVERYONE", "PIN"].contains(&action), "{action}");
        }
    }
}

#[engine_test]
async fn channel_visitor_has_no_capability(app: &TestApp) {
    let people = People::of(app).await;
    let room = Room::make(&people, "CHANNEL", None).await;
    let moderator = app.user_in("demo", "guest", Some(&["chat.view", "chat.manage_group", "chat.moderate"])).await;
    for viewer in [app.user("guest").await, moderator] {
        for action in ACTIONS {
            let said = capability(&viewer, &room.chat, action).await;
            let reply = room.attempt(&viewer, action).await;
            match action {
                // Its messages are none of theirs to know.
                "DELETE_OTHERS_MESSAGES" | "PIN" => {
                    assert_eq!(said["reason"], "you are not a member of this chat");
                    reply.assert_error("NOT_FOUND");
                }
                _ => assert!(!agrees(&said, &reply, action)),
            }
        }
    }
}

/// Who may not mention everyone because they may not post at all is told so beforehand.
#[engine_test]
async fn mention_everyone_needs_right_to_post(app: &TestApp) {
    let people = People::of(app).await;
    let room = Room::make(&people, "GROUP", Some(("POST", "OWNER"))).await;
    for (place, role) in ROLES.into_iter().enumerate() {
        let viewer = people.viewer(place, Token::Plain);
        let said = capability(viewer, &room.chat, "MENTION_EVERYONE").await;
        let reply = room.attempt(viewer, "MENTION_EVERYONE").await;
        assert_eq!(agrees(&said, &reply, role), role == "OWNER");
    }
}

#[engine_test]
async fn temporary_denial_ends_at_reported_time(app: &TestApp) {
    let people = People::of(app).await;
    let room = Room::make(&people, "GROUP", None).await;
    let member = people.viewer(0, Token::Plain);
    let until = |said: &Value| -> chrono::DateTime<chrono::Utc> {
        said["until"].as_str().expect("a time").parse().expect("a time")
    };
    room.by_maker("updateChat", json!({ "slowModeSeconds": 60 }), "chat { id }").await;
    let said = capability(member, &room.chat, "POST").await;
    let reply = room.attempt(member, "POST").await;
    assert!(!agrees(&said, &reply, "slow mode"));
    let waits = Duration::from_millis(reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().expect("a time"));
    assert!(waits > Duration::from_secs(50) && waits <= Duration::from_secs(60), "{waits:?}");
    app.app.clock.advance(waits - Duration::from_secs(10));
    assert!(!agrees(&capability(member, &room.chat, "POST").await, &room.attempt(member, "POST").await, "too early"));
    app.app.clock.advance(Duration::from_secs(10));
    assert!(app.app.clock.now() >= until(&said));
    assert!(agrees(&capability(member, &room.chat, "POST").await, &room.attempt(member, "POST").await, "slow mode"));
    room.by_maker("updateChat", json!({ "slowModeSeconds": 0 }), "chat { id }").await;

    let silent = app.app.clock.now() + Duration::from_secs(60);
    let input = json!({ "userId": "MEMBER", "until": silent.to_rfc3339() });
    room.by_maker("silenceMember", input, "member { id }").await;
    let said = capability(member, &room.chat, "POST").await;
    assert!(!agrees(&said, &room.attempt(member, "POST").await, "silenced"));
    app.app.clock.advance(Duration::from_secs(50));
    assert!(!agrees(&capability(member, &room.chat, "POST").await, &room.attempt(member, "POST").await, "silenced"));
    app.app.clock.advance((until(&said) - app.app.clock.now()).to_std().expect("a time to come"));
    assert!(agrees(&capability(member, &room.chat, "POST").await, &room.attempt(member, "POST").await, "heard"));
}
