//! Users and their clients, whose actions are applied to the server and to the reference model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, TestApp, User};

use super::client_view::{ClientView, Observation};
use super::reference_model::{Draft, ErrorCode, ModelChat, ModelMessage, ROLES};
use super::{Action, ActorChoice, Step, USER_IDS};

/// The fields of a message that clients query.
pub const MESSAGE_FIELDS: &str = "id seq kind text sender { id } system { kind } threadRoot { id } replyCount
    mentionsEveryone mentions { id } reactions { count viewerReacted }";
/// The fields of a member that clients query.
pub const MEMBER_FIELDS: &str = "user { id } role markedUnread lastReadMessage { seq }";

/// Longer than the server collects read positions before it publishes them.
const RECEIPT_PAUSE: Duration = Duration::from_millis(200);

pub struct Harness {
    users: Vec<User>,
    models: Vec<ModelChat>,
    chat_ids: Vec<String>,
    /// The clients of each user, one for each chat.
    clients: Vec<[ClientView; 2]>,
    sent_texts: usize,
}

impl Harness {
    pub async fn start(app: &TestApp) -> Self {
        let mut users = Vec::new();
        for id in USER_IDS {
            users.push(app.user(id).await);
        }
        let group = users[0].group("Model", &[&users[1], &users[2], &users[3]]).await;
        let policy = json!([{ "action": "POST", "role": "MEMBER" }]);
        let input = json!({ "kind": "CHANNEL", "title": "News", "memberIds": ["carol"], "policy": policy });
        let channel = users[1].mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id");
        let models = vec![ModelChat::new(false, &[0, 1, 2, 3]), ModelChat::new(true, &[1, 2])];
        let clients = USER_IDS.iter().map(|_| Default::default()).collect();
        Self { users, models, chat_ids: vec![group, channel], clients, sent_texts: 0 }
    }

    /// Applies an action to the server and to the model, and asserts that both have the same result.
    ///
    /// Where the model returns an error code, the server has to return the same code.
    pub async fn apply(&mut self, app: &TestApp, Step { user, actor, chat, action }: Step) {
        let (chat_id, model) = (self.chat_ids[chat].clone(), &mut self.models[chat]);
        let user = match actor {
            ActorChoice::Owner => model.owner().unwrap_or(user),
            ActorChoice::Member => model.active_members().cycle().nth(user).unwrap_or(user),
            ActorChoice::AsDrawn => user,
        };
        self.sent_texts += 1;
        let text = format!("text {}", self.sent_texts);
        let (expected, field, input) = match action {
            Action::Send { mentions, mentions_everyone, reply } => {
                let thread_root = reply.and_then(|(index, _)| pick(model, index, accepts_replies)).map(|(seq, _)| seq);
                let also_in_chat = thread_root.is_some() && reply.is_some_and(|(_, also_in_chat)| also_in_chat);
                let draft = Draft { text: text.clone(), thread_root, also_in_chat, mentions, mentions_everyone };
                return self.send(chat, user, &draft).await;
            }
            Action::Edit { index } => {
                let Some((seq, message)) = pick(model, index, |message| message.sender == Some(user)) else { return };
                (model.edit(user, seq, &text), "editMessage", json!({ "messageId": message, "text": text }))
            }
            Action::Delete { index } => {
                let Some((seq, message)) = pick(model, index, accepts_replies) else { return };
                (model.delete_message(user, seq), "deleteMessage", json!({ "messageId": message }))
            }
            Action::React { index } => {
                let Some((seq, message)) = pick(model, index, accepts_replies) else { return };
                let has_reacted = model.messages[&seq].reactions.contains(&user);
                let field = if has_reacted { "removeReaction" } else { "addReaction" };
                (model.react(user, seq), field, json!({ "messageId": message, "emoji": "👍" }))
            }
            Action::Read { index, privately } => {
                let up_to = index.and_then(|index| pick(model, index, |_| true));
                let up_to_id = up_to.as_ref().map(|(_, id)| id);
                let input = json!({ "chatId": chat_id, "upToMessageId": up_to_id, "private": privately });
                (model.mark_read(user, up_to.map(|(seq, _)| seq), privately), "markRead", input)
            }
            Action::ReadThread { index } => {
                let Some((root, id)) = pick(model, index, |message| message.reply_count > 0) else { return };
                (model.mark_thread_read(user, root), "markThreadRead", json!({ "threadRootId": id }))
            }
            Action::MarkUnread { index } => {
                let from = index.and_then(|index| pick(model, index, |_| true));
                let input = json!({ "chatId": chat_id, "fromMessageId": from.as_ref().map(|(_, id)| id) });
                (model.mark_unread(user, from.map(|(seq, _)| seq)), "markUnread", input)
            }
            Action::Add { target, role } => {
                let input = json!({ "chatId": chat_id, "userIds": [USER_IDS[target]], "role": ROLES[role] });
                (model.add_member(user, target, role), "addMembers", input)
            }
            Action::Join => (model.join(user), "joinChannel", json!({ "chatId": chat_id })),
            Action::Remove { target } => {
                let input = json!({ "chatId": chat_id, "userId": USER_IDS[target] });
                (model.remove_member(user, target), "removeMember", input)
            }
            Action::Leave => (model.leave(user), "leaveChat", json!({ "chatId": chat_id })),
            Action::ChangeRole { target, role } => {
                let input = json!({ "chatId": chat_id, "userId": USER_IDS[target], "role": ROLES[role] });
                (model.change_role(user, target, role), "changeMemberRole", input)
            }
            Action::Reconnect { index } => return self.clients[user][chat].disconnect(index),
            Action::AdvanceClock => {
                // The server publishes earlier read positions by then, so that later ones have another time. No
                // client may be connected, so nothing can be polled.
                tokio::time::sleep(RECEIPT_PAUSE).await;
                self.models.iter_mut().for_each(|model| model.now += 15);
                return app.app.clock.advance(Duration::from_secs(15));
            }
        };
        assert_same_result(&self.users[user].mutate_returning(field, input, "__typename").await, &expected);
    }

    async fn send(&mut self, chat: usize, user: usize, draft: &Draft) {
        let model = &mut self.models[chat];
        let thread_root_id = draft.thread_root.and_then(|root| model.messages[&root].id.clone());
        let mention_ids: Vec<&str> = draft.mentions.iter().map(|mentioned| USER_IDS[*mentioned]).collect();
        let input = json!({
            "chatId": self.chat_ids[chat], "text": draft.text, "threadRootId": thread_root_id,
            "alsoInChat": draft.also_in_chat, "mentionIds": mention_ids, "mentionsEveryone": draft.mentions_everyone,
        });
        let expected = model.send(user, draft);
        let reply = self.users[user].mutate_returning("sendMessage", input, "message { id seq }").await;
        assert_same_result(&reply, &expected);
        if let Some(message) = expected.ok().and_then(|seq| model.messages.get_mut(&seq)) {
            message.id = Some(reply.text("sendMessage.message.id"));
        }
    }

    /// Asserts that every user sees a chat, and the unread counts of all chats, as the model has them.
    ///
    /// In addition, the client of one user and one chat, another one in each turn, catches up by its feed.
    pub async fn assert_matches(&mut self, turn: usize, chat: usize) {
        let (follower, followed_chat) = (turn / 2 % USER_IDS.len(), turn % 2);
        let queries = (0..USER_IDS.len()).map(|user| {
            let with_details = |index: usize| index == chat || (user, index) == (follower, followed_chat);
            self.observe(user, [with_details(0), with_details(1)])
        });
        for (user, observations) in join_all(queries).await.into_iter().enumerate() {
            for (chat, observation) in observations.into_iter().enumerate() {
                self.record_system_message_ids(chat, &observation);
                let client = &mut self.clients[user][chat];
                if self.models[chat].member(user).is_none() {
                    client.expect_removal().await;
                } else if let Some(observation) = observation.filter(|_| (user, chat) == (follower, followed_chat)) {
                    client.catch_up(&self.users[user], &self.chat_ids[chat], &observation).await;
                }
            }
        }
    }

    /// Waits until every client holds the state that the server returns to queries, with read positions.
    pub async fn quiesce(&mut self) {
        let results = join_all((0..USER_IDS.len()).map(|user| self.observe(user, [true, true]))).await;
        for (user, observations) in results.into_iter().enumerate() {
            for (chat, observation) in observations.into_iter().enumerate() {
                let Some(observation) = observation else { continue };
                let (client, user) = (&mut self.clients[user][chat], &self.users[user]);
                client.catch_up(user, &self.chat_ids[chat], &observation).await;
                client.quiesce(user, &observation).await;
            }
        }
    }

    /// Records the ids of system messages, which are known when a user first queries the messages.
    fn record_system_message_ids(&mut self, chat: usize, observation: &Option<Observation>) {
        for (seq, node) in observation.iter().flat_map(|observation| &observation.messages) {
            let id = node["id"].as_str().expect("an id");
            let message = self.models[chat].messages.get_mut(seq).expect("a message of the model");
            assert_eq!(message.id.get_or_insert_with(|| id.to_owned()), id);
        }
    }

    /// Queries one user's view, asserts that it equals the model, and returns the detailed chats.
    ///
    /// The result is `None` for a chat of which the user is not a member.
    async fn observe(&self, user: usize, with_details: [bool; 2]) -> [Option<Observation>; 2] {
        let name = USER_IDS[user];
        let reply = self.users[user].ask(&self.query(with_details)).await;
        let mut observations = [None, None];
        let (mut unread_chats, mut unread_totals) = (0, (0, 0));
        for (index, model) in self.models.iter().enumerate() {
            let chat = reply.at(&format!("chat{index}"));
            let thread_roots = if with_details[index] { thread_roots(model) } else { BTreeSet::new() };
            let threads = thread_roots.into_iter().map(|root| (root, reply.at(&format!("thread{index}_{root}"))));
            let Some(member) = model.member(user) else {
                assert!(chat.is_null() != model.is_channel, "all users see a channel, only members a group: {chat}");
                assert!(chat["viewerMembership"].is_null(), "{chat}");
                for list in ["messages", "members"] {
                    let nodes = &chat[list]["nodes"];
                    assert!(nodes.is_null() || *nodes == json!([]), "{name} is not a member, and sees {nodes}");
                }
                threads.for_each(|(_, thread)| assert!(thread.is_null(), "{name} is not a member, and sees {thread}"));
                continue;
            };
            let (messages, mentions) = model.unread_counts(user);
            let counts = json!({ "unreadCount": messages, "unreadMentionCount": mentions });
            assert_eq!(chat["viewerMembership"], counts, "unread counts of {name}");
            unread_totals = (unread_totals.0 + messages, unread_totals.1 + mentions);
            unread_chats += usize::from(messages > 0 || member.is_marked_unread);
            let members = expected_members(model, user);
            assert_eq!((&chat["version"], &chat["memberCount"]), (&json!(model.version), &json!(members.len())));
            if !with_details[index] {
                continue;
            }
            let mut messages = messages_by_seq(&chat["messages"], model, |message| message.in_timeline);
            for (root, thread) in threads {
                let is_reply = |message: &ModelMessage| message.thread_root == Some(root);
                messages.extend(messages_by_seq(&thread["replies"], model, is_reply));
            }
            for (seq, node) in &messages {
                assert_eq!(*node, expected_message(model, *seq, user, &node["id"]), "a message as {name} sees it");
            }
            let nodes = chat["members"]["nodes"].as_array().expect("members").iter();
            let found = nodes.map(|node| (node["user"]["id"].as_str().expect("an id").to_owned(), node.clone()));
            let found: BTreeMap<String, Value> = found.collect();
            assert_eq!(found, members, "the members as {name} sees them");
            observations[index] = Some(Observation { version: model.version, messages, members });
        }
        let totals = json!({ "chats": unread_chats, "messages": unread_totals.0, "mentions": unread_totals.1 });
        assert_eq!(reply.at("viewer.unread"), &totals, "unread totals of {name}");
        observations
    }

    /// Returns the query for both chats: details are their members, messages and threads.
    fn query(&self, with_details: [bool; 2]) -> String {
        let mut query = "{ viewer { unread { chats messages mentions } }".to_owned();
        for (index, (model, chat)) in self.models.iter().zip(&self.chat_ids).enumerate() {
            query += &format!(
                " chat{index}: chat(id: \"{chat}\") {{ version memberCount
                  viewerMembership {{ unreadCount unreadMentionCount }}"
            );
            if with_details[index] {
                query += &format!(
                    " members {{ nodes {{ {MEMBER_FIELDS} }} }} messages(last: 100) {{ nodes {{ {MESSAGE_FIELDS} }} }} }}"
                );
                for root in thread_roots(model) {
                    let id = model.messages[&root].id.as_deref().expect("an id");
                    query += &format!(
                        " thread{index}_{root}: message(id: \"{id}\") {{ replies {{ nodes {{ {MESSAGE_FIELDS} }} }} }}"
                    );
                }
            } else {
                query += " }";
            }
        }
        query + " }"
    }
}

/// Returns messages by sequence number, and asserts that these are the model's selected ones.
fn messages_by_seq(
    connection: &Value,
    model: &ModelChat,
    is_selected: impl Fn(&ModelMessage) -> bool,
) -> BTreeMap<i64, Value> {
    let nodes = connection["nodes"].as_array().expect("messages");
    let nodes: Vec<_> =
        nodes.iter().map(|node| (node["seq"].as_i64().expect("a sequence number"), node.clone())).collect();
    let found: Vec<i64> = nodes.iter().map(|(seq, _)| *seq).collect();
    let selected = model.messages.iter().filter(|(_, message)| is_selected(message));
    let expected: Vec<i64> = selected.map(|(seq, _)| *seq).collect();
    assert_eq!(found, expected, "sequence numbers of queried messages, and of the model's");
    nodes.into_iter().collect()
}

/// Selects one of a chat's messages, and returns its sequence number and its id.
///
/// Three of four indexes select a message that `is_suitable` accepts, the others any: deleted ones and system messages
/// too.
fn pick(model: &ModelChat, index: usize, is_suitable: impl Fn(&ModelMessage) -> bool) -> Option<(i64, String)> {
    let candidates = model.messages.iter().filter(|(_, message)| index.is_multiple_of(4) || is_suitable(message));
    let known: Vec<_> = candidates.filter_map(|(seq, message)| Some((*seq, message.id.clone()?))).collect();
    (!known.is_empty()).then(|| known[index % known.len()].clone())
}

/// Returns whether a message accepts replies and reactions.
fn accepts_replies(message: &ModelMessage) -> bool {
    message.system_kind.is_none() && !message.is_deleted
}

fn thread_roots(model: &ModelChat) -> BTreeSet<i64> {
    model.messages.values().filter_map(|message| message.thread_root).collect()
}

#[track_caller]
fn assert_same_result<T>(reply: &Reply, expected: &Result<T, ErrorCode>) {
    match expected {
        Ok(_) => drop(reply.data()),
        Err(code) => reply.assert_error(code),
    }
}

/// Returns a message as the model shows it to a user.
///
/// `id` is used where no user has seen the message before.
fn expected_message(model: &ModelChat, seq: i64, user: usize, id: &Value) -> Value {
    let message = &model.messages[&seq];
    let to_user = |user: &usize| json!({ "id": USER_IDS[*user] });
    let reactions = &message.reactions;
    let reaction = json!({ "count": reactions.len(), "viewerReacted": reactions.contains(&user) });
    json!({
        "id": message.id.clone().map_or_else(|| id.clone(), Value::from),
        "seq": seq,
        "kind": if message.system_kind.is_some() { "SYSTEM" } else { "TEXT" },
        "text": message.text,
        "sender": message.sender.as_ref().map(to_user),
        "system": message.system_kind.map(|kind| json!({ "kind": kind })),
        "threadRoot": message.thread_root.map(|root| json!({ "id": model.messages[&root].id })),
        "replyCount": message.reply_count,
        "mentionsEveryone": message.mentions_everyone,
        "mentions": message.mentions.iter().map(to_user).collect::<Vec<_>>(),
        "reactions": if reactions.is_empty() { json!([]) } else { json!([reaction]) },
    })
}

/// Returns the members as the model shows them to a user.
///
/// Only members themselves see that they marked the chat unread, and the read position of a member who reads privately.
fn expected_members(model: &ModelChat, viewer: usize) -> BTreeMap<String, Value> {
    let active = model.members.iter().filter(|(_, member)| member.is_active);
    let members = active.map(|(user, member)| {
        let is_viewer = *user == viewer;
        let read_seq = Some(member.read_seq).filter(|seq| *seq > 0 && (is_viewer || !member.reads_privately));
        let fields = json!({
            "user": { "id": USER_IDS[*user] },
            "role": ROLES[member.role],
            "markedUnread": is_viewer && member.is_marked_unread,
            "lastReadMessage": read_seq.map(|seq| json!({ "seq": seq })),
        });
        (USER_IDS[*user].to_owned(), fields)
    });
    members.collect()
}
