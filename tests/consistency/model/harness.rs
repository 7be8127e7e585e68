//! People, what they do, and what each of them sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, TestApp, User};

use super::client_view::{Held, Sight};
use super::reference_model::{Draft, ROLES, Refused, Room, Said};
use super::{Deed, PEOPLE, Standing, Step};

/// What a client asks of a message, and of a member.
pub const MESSAGE: &str = "id seq kind text sender { id } system { kind } threadRoot { id } replyCount
    mentionsEveryone mentions { id } reactions { count viewerReacted }";
pub const MEMBER: &str = "user { id } role markedUnread lastReadMessage { seq }";

pub struct World {
    people: Vec<User>,
    rooms: Vec<Room>,
    chats: Vec<String>,
    /// What each person's client holds of each chat.
    held: Vec<[Held; 2]>,
    texts: usize,
}

impl World {
    pub async fn start(app: &TestApp) -> Self {
        let mut people = Vec::new();
        for id in PEOPLE {
            people.push(app.user(id).await);
        }
        let group = people[0].group("Model", &[&people[1], &people[2], &people[3]]).await;
        let policy = json!([{ "action": "POST", "role": "MEMBER" }]);
        let input = json!({ "kind": "CHANNEL", "title": "News", "memberIds": ["carol"], "policy": policy });
        let channel = people[1].mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id");
        let rooms = vec![Room::new(false, &[0, 1, 2, 3]), Room::new(true, &[1, 2])];
        let held = PEOPLE.iter().map(|_| Default::default()).collect();
        Self { people, rooms, chats: vec![group, channel], held, texts: 0 }
    }

    /// Somebody does something: the server allows what the model allows, and refuses it by the same code.
    pub async fn take(&mut self, app: &TestApp, Step { who, standing, room: at, deed }: Step) {
        let (chat, room) = (self.chats[at].clone(), &mut self.rooms[at]);
        let who = match standing {
            Standing::Owner => room.owner().unwrap_or(who),
            Standing::Member => room.present().cycle().nth(who).unwrap_or(who),
            Standing::Any => who,
        };
        self.texts += 1;
        let text = format!("text {}", self.texts);
        let id = |whom: usize| PEOPLE[whom];
        let (expected, field, input) = match deed {
            Deed::Send { mentions, everyone, reply } => {
                let root = reply.and_then(|(which, _)| pick(room, which, is_fit)).map(|(seq, _)| seq);
                let also_in_chat = root.is_some() && reply.is_some_and(|(_, also)| also);
                let draft = Draft { text: text.clone(), root, also_in_chat, mentions, everyone };
                return self.send(at, who, &draft).await;
            }
            Deed::Edit { which } => {
                let Some((seq, message)) = pick(room, which, |said| said.sender == Some(who)) else { return };
                (room.edit(who, seq, &text), "editMessage", json!({ "messageId": message, "text": text }))
            }
            Deed::Delete { which } => {
                let Some((seq, message)) = pick(room, which, is_fit) else { return };
                (room.delete_message(who, seq), "deleteMessage", json!({ "messageId": message }))
            }
            Deed::React { which } => {
                let Some((seq, message)) = pick(room, which, is_fit) else { return };
                let given = room.said[&seq].reactions.contains(&who);
                let field = if given { "removeReaction" } else { "addReaction" };
                (room.react(who, seq), field, json!({ "messageId": message, "emoji": "👍" }))
            }
            Deed::Read { which, privately } => {
                let up_to = which.and_then(|which| pick(room, which, |_| true));
                let input =
                    json!({ "chatId": chat, "upToMessageId": up_to.as_ref().map(|(_, id)| id), "private": privately });
                (room.read(who, up_to.map(|(seq, _)| seq), privately), "markRead", input)
            }
            Deed::Unread { which } => {
                let from = which.and_then(|which| pick(room, which, |_| true));
                let input = json!({ "chatId": chat, "fromMessageId": from.as_ref().map(|(_, id)| id) });
                (room.unread_from(who, from.map(|(seq, _)| seq)), "markUnread", input)
            }
            Deed::Add { whom, role } => {
                let input = json!({ "chatId": chat, "userIds": [id(whom)], "role": ROLES[role] });
                (room.add(who, whom, role), "addMembers", input)
            }
            Deed::Join => (room.join(who), "joinChannel", json!({ "chatId": chat })),
            Deed::Kick { whom } => {
                (room.kick(who, whom), "removeMember", json!({ "chatId": chat, "userId": id(whom) }))
            }
            Deed::Leave => (room.leave(who), "leaveChat", json!({ "chatId": chat })),
            Deed::GiveRole { whom, role } => {
                let input = json!({ "chatId": chat, "userId": id(whom), "role": ROLES[role] });
                (room.give_role(who, whom, role), "changeMemberRole", input)
            }
            Deed::Reconnect { which } => return self.held[who][at].cut(which),
            Deed::Wait => {
                // All read positions are told by then, and later ones are of another time.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return app.app.clock.advance(Duration::from_secs(15));
            }
        };
        judge(&self.people[who].mutate_returning(field, input, "__typename").await, &expected);
    }

    async fn send(&mut self, at: usize, who: usize, draft: &Draft) {
        let room = &mut self.rooms[at];
        let root = draft.root.and_then(|root| room.said[&root].id.clone());
        let mentions: Vec<&str> = draft.mentions.iter().map(|whom| PEOPLE[*whom]).collect();
        let input = json!({
            "chatId": self.chats[at], "text": draft.text, "threadRootId": root, "alsoInChat": draft.also_in_chat,
            "mentionIds": mentions, "mentionsEveryone": draft.everyone,
        });
        let expected = room.send(who, draft);
        let reply = self.people[who].mutate_returning("sendMessage", input, "message { id seq }").await;
        judge(&reply, &expected);
        if let Some(said) = expected.ok().and_then(|seq| room.said.get_mut(&seq)) {
            said.id = Some(reply.text("sendMessage.message.id"));
        }
    }

    /// After something was done in a room, what everybody sees of it is what the model says, and so is what
    /// they have not read anywhere; one of them, by turns, follows a feed to where it stands.
    pub async fn check(&mut self, turn: usize, room: usize) {
        let (follower, followed) = (turn / 2 % PEOPLE.len(), turn % 2);
        let looks = (0..PEOPLE.len()).map(|who| {
            let whole = |at: usize| at == room || (who, at) == (follower, followed);
            self.look(who, [whole(0), whole(1)])
        });
        for (who, sights) in join_all(looks).await.into_iter().enumerate() {
            for (at, fresh) in sights.into_iter().enumerate() {
                self.learn(at, &fresh);
                let held = &mut self.held[who][at];
                if self.rooms[at].member(who).is_none() {
                    held.lose().await;
                } else if let Some(fresh) = fresh.filter(|_| (who, at) == (follower, followed)) {
                    held.follow(&self.people[who], &self.chats[at], &fresh).await;
                }
            }
        }
    }

    /// Everybody's client holds what is so, read positions too.
    pub async fn settle(&mut self) {
        let looks = join_all((0..PEOPLE.len()).map(|who| self.look(who, [true, true]))).await;
        for (who, sights) in looks.into_iter().enumerate() {
            for (at, fresh) in sights.into_iter().enumerate() {
                let Some(fresh) = fresh else { continue };
                let (held, user) = (&mut self.held[who][at], &self.people[who]);
                held.follow(user, &self.chats[at], &fresh).await;
                held.settle(user, &fresh).await;
            }
        }
    }

    /// Messages of the chat's own get their ids when they are first seen.
    fn learn(&mut self, at: usize, sight: &Option<Sight>) {
        for (seq, node) in sight.iter().flat_map(|sight| &sight.messages) {
            let id = node["id"].as_str().expect("an id");
            let said = self.rooms[at].said.get_mut(seq).expect("a message of the model's");
            assert_eq!(said.id.get_or_insert_with(|| id.to_owned()), id);
        }
    }

    /// What one person sees, which is what the model has: what is unread, and those chats that are to be
    /// looked at whole. None of a chat that they are not in.
    async fn look(&self, who: usize, whole: [bool; 2]) -> [Option<Sight>; 2] {
        let name = PEOPLE[who];
        let seen = self.people[who].ask(&self.query(whole)).await;
        let mut sights = [None, None];
        let (mut chats, mut unread) = (0, (0, 0));
        for (at, room) in self.rooms.iter().enumerate() {
            let chat = seen.at(&format!("chat{at}"));
            let threads = if whole[at] { roots(room) } else { BTreeSet::new() };
            let threads = threads.into_iter().map(|root| (root, seen.at(&format!("thread{at}_{root}"))));
            let Some(member) = room.member(who) else {
                assert!(chat.is_null() != room.is_channel, "a channel is there for all, and a group is not: {chat}");
                assert!(chat["viewerMembership"].is_null(), "{chat}");
                for list in ["messages", "members"] {
                    let nodes = &chat[list]["nodes"];
                    assert!(nodes.is_null() || *nodes == json!([]), "{name} is not in, and sees {nodes}");
                }
                threads.for_each(|(_, thread)| assert!(thread.is_null(), "{name} is not in, and sees {thread}"));
                continue;
            };
            let (messages, mentions) = room.unread(who);
            let counts = json!({ "unreadCount": messages, "unreadMentionCount": mentions });
            assert_eq!(chat["viewerMembership"], counts, "what {name} has not read, recounted");
            unread = (unread.0 + messages, unread.1 + mentions);
            chats += usize::from(messages > 0 || member.marked);
            let members = members(room, who);
            assert_eq!((&chat["version"], &chat["memberCount"]), (&json!(room.version), &json!(members.len())));
            if !whole[at] {
                continue;
            }
            let mut found = list(&chat["messages"], room, |said| said.in_timeline);
            for (root, thread) in threads {
                found.extend(list(&thread["replies"], room, |said| said.root == Some(root)));
            }
            for (seq, node) in &found {
                assert_eq!(*node, shown(room, *seq, who, &node["id"]), "a message, to {name}");
            }
            let nodes = chat["members"]["nodes"].as_array().expect("members").iter();
            let present = nodes.map(|node| (node["user"]["id"].as_str().expect("an id").to_owned(), node.clone()));
            let present: BTreeMap<String, Value> = present.collect();
            assert_eq!(present, members, "who is in, to {name}");
            sights[at] = Some(Sight { version: room.version, messages: found, members });
        }
        let totals = json!({ "chats": chats, "messages": unread.0, "mentions": unread.1 });
        assert_eq!(seen.at("viewer.unread"), &totals, "what {name} has not read over all");
        sights
    }

    /// All that is there to see, for whoever may see it.
    fn query(&self, whole: [bool; 2]) -> String {
        let mut query = "{ viewer { unread { chats messages mentions } }".to_owned();
        for (at, (room, chat)) in self.rooms.iter().zip(&self.chats).enumerate() {
            query += &format!(
                " chat{at}: chat(id: \"{chat}\") {{ version memberCount
                  viewerMembership {{ unreadCount unreadMentionCount }}"
            );
            if whole[at] {
                query +=
                    &format!(" members {{ nodes {{ {MEMBER} }} }} messages(last: 100) {{ nodes {{ {MESSAGE} }} }} }}");
                for root in roots(room) {
                    let id = room.said[&root].id.as_deref().expect("an id");
                    query +=
                        &format!(" thread{at}_{root}: message(id: \"{id}\") {{ replies {{ nodes {{ {MESSAGE} }} }} }}");
                }
            } else {
                query += " }";
            }
        }
        query + " }"
    }
}

/// A list of messages by their places, which are those of the model's messages of this kind.
fn list(found: &Value, room: &Room, wanted: impl Fn(&Said) -> bool) -> BTreeMap<i64, Value> {
    let nodes = found["nodes"].as_array().expect("messages");
    let nodes: Vec<_> = nodes.iter().map(|node| (node["seq"].as_i64().expect("a place"), node.clone())).collect();
    let places: Vec<i64> = nodes.iter().map(|(seq, _)| *seq).collect();
    let expected: Vec<i64> = room.said.iter().filter(|(_, said)| wanted(said)).map(|(seq, _)| *seq).collect();
    assert_eq!(places, expected, "the places of messages, and of what was said");
    nodes.into_iter().collect()
}

/// One of a chat's messages: its place and id. Mostly one that is fit for the purpose, at times any,
/// deleted ones and the chat's own too.
fn pick(room: &Room, which: usize, fit: impl Fn(&Said) -> bool) -> Option<(i64, String)> {
    let wanted = room.said.iter().filter(|(_, said)| which.is_multiple_of(4) || fit(said));
    let known: Vec<_> = wanted.filter_map(|(seq, said)| Some((*seq, said.id.clone()?))).collect();
    (!known.is_empty()).then(|| known[which % known.len()].clone())
}

/// Whether a message can be answered, and reacted to.
fn is_fit(said: &Said) -> bool {
    said.notice.is_none() && !said.deleted
}

fn roots(room: &Room) -> BTreeSet<i64> {
    room.said.values().filter_map(|said| said.root).collect()
}

#[track_caller]
fn judge<T>(reply: &Reply, expected: &Result<T, Refused>) {
    match expected {
        Ok(_) => drop(reply.data()),
        Err(code) => reply.assert_error(code),
    }
}

/// A message as the model shows it to somebody; `id` is that of one that nobody has seen before.
fn shown(room: &Room, seq: i64, who: usize, id: &Value) -> Value {
    let said = &room.said[&seq];
    let user = |whom: &usize| json!({ "id": PEOPLE[*whom] });
    let reaction = json!({ "count": said.reactions.len(), "viewerReacted": said.reactions.contains(&who) });
    json!({
        "id": said.id.clone().map_or_else(|| id.clone(), Value::from), "seq": seq, "kind": if said.notice.is_some() { "SYSTEM" } else { "TEXT" }, "text": said.text,
        "sender": said.sender.as_ref().map(user), "system": said.notice.map(|kind| json!({ "kind": kind })),
        "threadRoot": said.root.map(|root| json!({ "id": room.said[&root].id })), "replyCount": said.replies,
        "mentionsEveryone": said.everyone, "mentions": said.mentions.iter().map(user).collect::<Vec<_>>(),
        "reactions": if said.reactions.is_empty() { json!([]) } else { json!([reaction]) },
    })
}

/// Who is in, as the model shows them to somebody: what is marked unread is for oneself, and who reads
/// privately keeps their place.
fn members(room: &Room, who: usize) -> BTreeMap<String, Value> {
    let present = room.members.iter().filter(|(_, member)| member.is_in);
    let shown = present.map(|(whom, member)| {
        let own = *whom == who;
        let read = Some(member.read).filter(|read| *read > 0 && (own || !member.privately));
        let shown = json!({
            "user": { "id": PEOPLE[*whom] }, "role": ROLES[member.role], "markedUnread": own && member.marked,
            "lastReadMessage": read.map(|seq| json!({ "seq": seq })),
        });
        (PEOPLE[*whom].to_owned(), shown)
    });
    shown.collect()
}
