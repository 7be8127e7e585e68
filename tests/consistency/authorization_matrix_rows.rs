//! The rows of the matrix: how each mutation is called upon a secret group, and what those are told
//! who may not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use testkit::{Reply, User};

pub const NOT_FOUND: &str = "NOT_FOUND";
pub const FORBIDDEN: &str = "FORBIDDEN";

/// A mutation of a secret group. What a person is told is a code; none where it is theirs to do.
pub struct Row {
    pub field: &'static str,
    pub input: Value,
    /// Somebody of the organisation who is not in the group.
    pub stranger: Option<&'static str>,
    /// Somebody of another organisation.
    pub foreigner: Option<&'static str>,
    /// One who is in the group and has no role above the least.
    pub member: Option<&'static str>,
    pub owner: Option<&'static str>,
    /// The permission that the owner needs too.
    pub permission: Option<&'static str>,
}

/// What every member may do, and nobody else.
fn for_members(field: &'static str, input: Value) -> Row {
    let (stranger, foreigner) = (Some(NOT_FOUND), Some(NOT_FOUND));
    Row { field, input, stranger, foreigner, member: None, owner: None, permission: None }
}

/// What only some members may do.
fn for_some(field: &'static str, input: Value) -> Row {
    Row { member: Some(FORBIDDEN), ..for_members(field, input) }
}

/// What nobody may do.
fn for_nobody(field: &'static str, input: Value, code: &'static str) -> Row {
    Row { member: Some(code), owner: Some(code), ..for_members(field, input) }
}

/// What a member is no nearer to than others: it needs a socket, or to administer the organisation.
fn for_nobody_at_all(field: &'static str, input: Value, code: &'static str) -> Row {
    Row { stranger: Some(code), foreigner: Some(code), ..for_nobody(field, input, code) }
}

/// What moderators of the organisation may do.
fn for_moderators(field: &'static str, input: Value) -> Row {
    let (stranger, foreigner) = (Some(FORBIDDEN), Some(FORBIDDEN));
    Row { stranger, foreigner, ..for_some(field, input) }.with("chat.moderate")
}

impl Row {
    fn with(self, permission: &'static str) -> Self {
        Self { permission: Some(permission), ..self }
    }
}

/// A chat with a message: what anybody may have of their own.
pub struct Own {
    pub chat: String,
    pub message: String,
}

impl Own {
    pub async fn of(who: &User) -> Self {
        let chat = who.group("Own", &[]).await;
        let message = who.send(&chat, "mine").await;
        Self { chat, message }
    }
}

/// A group of Alice's, and all in it that has an id.
pub struct Secret {
    pub chat: String,
    /// Of Alice's.
    pub message: String,
    /// Bob's reply in the message's thread.
    pub reply: String,
    pub pinned: String,
    pub poll: String,
    pub option: String,
    pub member: String,
    /// What Alice is told of.
    pub notification: String,
    /// Bob's report of the message.
    pub report: String,
    /// A call of Alice's, and she and Bob in it.
    pub call: String,
    pub alices: String,
    pub bobs: String,
    pub resource: String,
    /// A person of the organisation who is not in the group.
    pub person: String,
}

/// The people of the secret group: its owner, two members, and one who will be taken out.
pub struct People {
    pub alice: User,
    pub bob: User,
    pub erin: User,
    pub dora: User,
}

impl Secret {
    pub async fn make(people: &People, resource: &str) -> Self {
        let People { alice, bob, erin, dora } = people;
        let ids = [bob, erin, dora].map(|user| &user.id);
        let input =
            json!({ "resource": { "type": "project", "id": resource }, "title": "Secret garden", "memberIds": ids });
        let selection = "chat { id viewerMembership { id } }";
        let made = alice.mutate_returning("ensureResourceChat", input, selection).await;
        let chat = made.text("ensureResourceChat.chat.id");
        let send = async |who: &User, mut input: Value| -> Reply {
            input["chatId"] = json!(chat);
            who.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await
        };
        let id = |reply: Reply| reply.text("sendMessage.message.id");
        let said = json!({ "text": "a secret", "nonce": "alice-nonce", "mentionIds": ["bob"] });
        let message = id(send(alice, said).await);
        let reply = id(send(bob, json!({ "text": "a secret reply", "threadRootId": message })).await);
        let pinned = id(send(alice, json!({ "text": "a pinned secret" })).await);
        let asked = send(alice, json!({ "poll": { "question": "Secret?", "options": ["yes", "no"] } })).await;
        bob.mutate_returning("addReaction", json!({ "messageId": message, "emoji": "👍" }), "message { id }")
            .await
            .data();
        bob.mutate_returning("votePoll", json!({ "messageId": asked.at("sendMessage.message.id"), "optionIds": [asked.at("sendMessage.message.poll.options.0.id")] }), "message { id }").await.data();
        alice.mutate_returning("pinMessage", json!({ "messageId": pinned }), "message { id }").await.data();
        alice
            .mutate_returning("updateMyMembership", json!({ "chatId": chat, "draft": "psst" }), "member { id }")
            .await
            .data();
        let reported = bob
            .mutate_returning("reportMessage", json!({ "messageId": message, "reason": "secrets" }), "reportId")
            .await;
        let told = alice.ask("{ viewer { notifications(first: 1) { nodes { id } } } }").await;
        alice
            .mutate_returning("removeMember", json!({ "chatId": chat, "userId": "dora" }), "removedUserId")
            .await
            .data();
        let a = alice.start_call(&chat).await;
        let b = bob.join_call(&a.call).await;
        Self {
            call: a.call,
            alices: a.participant,
            bobs: b.participant,
            member: made.text("ensureResourceChat.chat.viewerMembership.id"),
            message,
            reply,
            pinned,
            poll: asked.text("sendMessage.message.id"),
            option: asked.text("sendMessage.message.poll.options.0.id"),
            notification: told.text("viewer.notifications.nodes.0.id"),
            report: reported.text("reportMessage.reportId"),
            resource: resource.into(),
            person: "carol".into(),
            chat,
        }
    }

    /// The same of a group that never was.
    pub fn that_never_was(&self) -> Self {
        Self {
            chat: of_nothing(&self.chat),
            message: of_nothing(&self.message),
            reply: of_nothing(&self.reply),
            pinned: of_nothing(&self.pinned),
            poll: of_nothing(&self.poll),
            option: of_nothing(&self.option),
            member: of_nothing(&self.member),
            notification: of_nothing(&self.notification),
            report: of_nothing(&self.report),
            call: of_nothing(&self.call),
            alices: of_nothing(&self.alices),
            bobs: of_nothing(&self.bobs),
            resource: "nothing".into(),
            person: "nobody".into(),
        }
    }

    /// All of its ids.
    pub fn ids(&self) -> [&String; 10] {
        let Self { chat, message, reply, pinned, poll, member, notification, report, call, alices, .. } = self;
        [chat, message, reply, pinned, poll, member, notification, report, call, alices]
    }
}

/// An id of the server's own making, of a thing that it never made.
fn of_nothing(id: &str) -> String {
    let (prefix, encoded) = id.split_once('_').expect("an id");
    let mut bytes = BASE64.decode(encoded).expect("an id");
    bytes[..16].iter_mut().for_each(|byte| *byte = !*byte);
    format!("{prefix}_{}", BASE64.encode(bytes))
}

/// How each mutation is called upon the group, by one who has a chat of their own. They are in an
/// order in which its owner can do them all, one after the other, up to the end of the group.
pub fn rows(secret: &Secret, own: &Own) -> Vec<Row> {
    let Secret { chat, message, pinned, poll, option, notification, report, resource, person, .. } = secret;
    let yes = json!({ "chatId": chat });
    let meet = |field, input| Row { stranger: None, ..for_members(field, input) };
    [talking(secret, own), reading(secret, own), calling(secret)]
        .into_iter()
        .flatten()
        .chain([
            meet("openDirectChat", json!({ "userId": person })),
            meet("createChat", json!({ "kind": "GROUP", "title": "New", "memberIds": [person] }))
                .with("chat.create_group"),
            Row {
                stranger: Some(FORBIDDEN),
                ..for_some(
                    "ensureResourceChat",
                    json!({ "resource": { "type": "project", "id": resource }, "title": "Mine", "memberIds": ["bob", "erin", person] }),
                )
            }
            .with("chat.manage_group"),
            for_some("updateChat", json!({ "chatId": chat, "title": "Mine" })).with("chat.manage_group"),
            for_some("addMembers", json!({ "chatId": chat, "userIds": ["mallory"] })).with("chat.manage_group"),
            for_some("changeMemberRole", json!({ "chatId": chat, "userId": "erin", "role": "MODERATOR" }))
                .with("chat.manage_group"),
            for_some(
                "silenceMember",
                json!({ "chatId": chat, "userId": "erin", "until": "2100-01-01T00:00:00Z" }),
            ),
            for_nobody("joinChannel", yes.clone(), FORBIDDEN),
            for_some("pinMessage", json!({ "messageId": message })),
            for_some("unpinMessage", json!({ "messageId": pinned })),
            for_members("addReaction", json!({ "messageId": message, "emoji": "👎" })),
            for_members("removeReaction", json!({ "messageId": message, "emoji": "👍" })),
            for_members("votePoll", json!({ "messageId": poll, "optionIds": [option] })),
            for_some("closePoll", json!({ "messageId": poll })),
            Row {
                member: Some(NOT_FOUND),
                ..for_members("markNotificationsRead", json!({ "ids": [notification] }))
            },
            for_members("reportMessage", json!({ "messageId": message, "reason": "nosy" })),
            for_moderators("resolveReport", json!({ "reportId": report, "resolution": "DISMISSED" })),
            for_moderators("blockWords", json!({ "words": ["sesame"], "action": "REJECT" })),
            for_moderators("unblockWords", json!({ "words": ["blocked"] })),
            for_nobody_at_all("renewSession", json!({ "token": "any" }), "BAD_USER_INPUT"),
            for_nobody_at_all("revokeSessions", json!({ "userId": "erin" }), FORBIDDEN),
            for_some("editMessage", json!({ "messageId": message, "text": "mine" })),
            for_some("deleteMessage", json!({ "messageId": message })),
            for_some("removeMember", json!({ "chatId": chat, "userId": "erin" })).with("chat.manage_group"),
            for_some("archiveChat", json!({ "chatId": chat, "archived": true })).with("chat.manage_group"),
            for_members("leaveChat", yes.clone()),
            for_some("deleteChat", yes).with("chat.delete"),
        ])
        .collect()
}

fn talking(secret: &Secret, own: &Own) -> Vec<Row> {
    let Secret { chat, message, .. } = secret;
    let send = |input| for_members("sendMessage", input);
    let send_elsewhere = |input| for_nobody("sendMessage", input, NOT_FOUND);
    vec![
        send(json!({ "chatId": chat, "text": "boo" })),
        send(json!({ "chatId": chat, "text": "boo", "replyToId": message })),
        send(json!({ "chatId": chat, "text": "boo", "threadRootId": message })),
        send(json!({ "chatId": chat, "text": "boo", "nonce": "alice-nonce-2" })),
        send(json!({ "chatId": chat, "text": "a secret", "nonce": "alice-nonce", "mentionIds": ["bob"] })),
        send(json!({ "chatId": chat, "text": "boo", "mentionIds": ["bob"] })),
        send(json!({ "chatId": chat, "location": { "latitude": 1, "longitude": 2 } })),
        for_some("sendMessage", json!({ "chatId": chat, "text": "boo", "mentionsEveryone": true })),
        send_elsewhere(json!({ "chatId": own.chat, "text": "boo", "replyToId": message })),
        send_elsewhere(json!({ "chatId": own.chat, "text": "boo", "threadRootId": message })),
        for_members("forwardMessage", json!({ "messageId": message, "toChatId": chat })),
        for_members("forwardMessage", json!({ "messageId": message, "toChatId": own.chat })),
        for_members("forwardMessage", json!({ "messageId": own.message, "toChatId": chat })),
    ]
}

fn calling(secret: &Secret) -> Vec<Row> {
    let Secret { chat, call, alices, bobs, .. } = secret;
    let (id, own) = (json!({ "callId": call }), json!({ "callId": call, "participantId": alices }));
    let with = |base: &Value, more: Value| {
        let mut input = base.clone();
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        input
    };
    let media = json!({ "audio": true, "video": false, "screen": false });
    let quality = json!({ "roundTripMs": 1.0, "packetLossPercent": 0.0, "bitrateKbps": 1.0 });
    let signal = json!({ "callId": call, "fromParticipantId": alices, "toParticipantId": bobs });
    // One's own place in a call is nobody else's.
    let for_her = |field, input| Row { member: Some(NOT_FOUND), ..for_members(field, input) };
    vec![
        for_members("startCall", json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "phone" }))
            .with("chat.initiate_call"),
        for_members("joinCall", with(&id, json!({ "deviceId": "phone" }))),
        for_nobody("declineCall", id.clone(), "CONFLICT"),
        for_her("updateCallMedia", with(&own, json!({ "media": media }))),
        for_her("sendSignal", with(&signal, json!({ "kind": "RENEGOTIATE", "payload": {} }))),
        for_her("reportCallQuality", with(&own, quality)),
        for_her("leaveCall", own),
        for_some("endCall", id),
    ]
}

fn reading(secret: &Secret, own: &Own) -> Vec<Row> {
    let Secret { chat, message, reply, .. } = secret;
    let arrived = |chat: &str, message: &str| json!({ "chatId": chat, "messageId": message });
    let theirs = arrived(&own.chat, &own.message);
    vec![
        for_members("markRead", json!({ "chatId": chat })),
        for_members("markRead", json!({ "chatId": chat, "upToMessageId": message, "private": true })),
        for_nobody("markRead", json!({ "chatId": own.chat, "upToMessageId": message }), NOT_FOUND),
        for_members("markUnread", json!({ "chatId": chat })),
        for_members("markUnread", json!({ "chatId": chat, "fromMessageId": message })),
        for_nobody("markUnread", json!({ "chatId": own.chat, "fromMessageId": message }), NOT_FOUND),
        for_members("markDelivered", json!({ "upTo": [arrived(chat, message)] })),
        for_members("markDelivered", json!({ "upTo": [theirs, arrived(chat, reply)] })),
        for_nobody("markDelivered", json!({ "upTo": [arrived(&own.chat, message)] }), NOT_FOUND),
        for_members("setTyping", json!({ "chatId": chat, "typing": true })),
        for_members("setTyping", json!({ "chatId": chat, "typing": false })),
        for_members("setPresence", json!({ "status": "BUSY", "currentChatId": chat })),
        for_members("updateMyMembership", json!({ "chatId": chat, "pinned": true, "draft": "boo" })),
    ]
}
