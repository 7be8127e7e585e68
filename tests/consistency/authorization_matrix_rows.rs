//! The rows of the authorization matrix: a call of each mutation on a secret group, with the expected error codes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use testkit::{Reply, User};

pub const NOT_FOUND: &str = "NOT_FOUND";
pub const FORBIDDEN: &str = "FORBIDDEN";

/// A mutation of a secret group with the error code for each requester, `None` if it is allowed.
pub struct Row {
    pub field: &'static str,
    pub input: Value,
    /// The code for a user of the same organization who is not in the group.
    pub non_member: Option<&'static str>,
    /// The code for a user of another organization.
    pub other_organization: Option<&'static str>,
    /// The code for a member with the lowest role.
    pub member: Option<&'static str>,
    pub owner: Option<&'static str>,
    /// The permission that the owner needs in addition.
    pub permission: Option<&'static str>,
}

/// Returns a row that every member is allowed, and no other user.
fn members_only(field: &'static str, input: Value) -> Row {
    let (non_member, other_organization) = (Some(NOT_FOUND), Some(NOT_FOUND));
    Row { field, input, non_member, other_organization, member: None, owner: None, permission: None }
}

/// Returns a row that only members with a higher role are allowed.
fn higher_roles_only(field: &'static str, input: Value) -> Row {
    Row { member: Some(FORBIDDEN), ..members_only(field, input) }
}

/// Returns a row that is rejected for every member with this code.
fn rejected_for_members(field: &'static str, input: Value, code: &'static str) -> Row {
    Row { member: Some(code), owner: Some(code), ..members_only(field, input) }
}

/// Returns a row that is rejected for every user.
///
/// The mutation needs a WebSocket, or the right to administer the organization.
fn never_allowed(field: &'static str, input: Value, code: &'static str) -> Row {
    Row { non_member: Some(code), other_organization: Some(code), ..rejected_for_members(field, input, code) }
}

/// Returns a row that only moderators of the organization are allowed.
fn moderators_only(field: &'static str, input: Value) -> Row {
    let (non_member, other_organization) = (Some(FORBIDDEN), Some(FORBIDDEN));
    Row { non_member, other_organization, ..higher_roles_only(field, input) }.requires("chat.moderate")
}

impl Row {
    /// Adds the permission that the owner needs.
    fn requires(self, permission: &'static str) -> Self {
        Self { permission: Some(permission), ..self }
    }
}

/// A chat of the requester's own, with a message.
pub struct OwnChat {
    pub chat: String,
    pub message: String,
}

impl OwnChat {
    pub async fn create(user: &User) -> Self {
        let chat = user.group("Own", &[]).await;
        let message = user.send(&chat, "mine").await;
        Self { chat, message }
    }
}

/// A group that Alice owns, with the id of each object in it.
pub struct SecretGroup {
    pub chat: String,
    /// Alice's message.
    pub message: String,
    /// Bob's reply in the message's thread.
    pub reply: String,
    pub pinned: String,
    pub poll: String,
    pub option: String,
    pub member: String,
    /// A notification of Alice's.
    pub notification: String,
    /// Bob's report of the message.
    pub report: String,
    /// Alice's call, in which Alice and Bob participate.
    pub call: String,
    pub alice_participant: String,
    /// The connections by which Alice and Bob have joined the call.
    pub alice_connection: String,
    pub bob_connection: String,
    /// The participant of Erin, for whom the call rings.
    pub erin_participant: String,
    pub resource: String,
    /// A user of the organization who is not in the group.
    pub non_member: String,
}

/// The users of the secret group.
///
/// They are its owner, two members, Dora, who is removed, and the host that creates the group.
pub struct GroupUsers {
    pub host: User,
    pub alice: User,
    pub bob: User,
    pub erin: User,
    pub dora: User,
}

impl SecretGroup {
    pub async fn create(users: &GroupUsers, resource: &str) -> Self {
        let GroupUsers { alice, bob, erin, dora, host } = users;
        let ids = [alice, bob, erin, dora].map(|user| &user.id);
        let input = json!({ "resource": { "type": "project", "id": resource }, "title": "Secret garden",
            "memberIds": ids, "roles": [{ "userId": alice.id, "role": "OWNER" }] });
        let created = host.mutate_returning("ensureResourceChat", input, "chat { id }").await;
        let chat = created.text("ensureResourceChat.chat.id");
        let member = alice.fetch_chat(&chat, "viewerMembership { id }").await["viewerMembership"]["id"].clone();
        let send = async |user: &User, mut input: Value| -> Reply {
            input["chatId"] = json!(chat);
            user.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await
        };
        let id = |reply: Reply| reply.text("sendMessage.message.id");
        let draft = json!({ "text": "a secret", "nonce": "alice-nonce", "mentionIds": ["bob"] });
        let message = id(send(alice, draft).await);
        let reply = id(send(bob, json!({ "text": "a secret reply", "threadRootId": message })).await);
        let pinned = id(send(alice, json!({ "text": "a pinned secret" })).await);
        let poll = send(alice, json!({ "poll": { "question": "Secret?", "options": ["yes", "no"] } })).await;
        bob.mutate_returning("addReaction", json!({ "messageId": message, "emoji": "👍" }), "message { id }")
            .await
            .data();
        let (poll, option) = (poll.text("sendMessage.message.id"), poll.text("sendMessage.message.poll.options.0.id"));
        bob.mutate_returning("votePoll", json!({ "messageId": poll, "optionIds": [option] }), "message { id }")
            .await
            .data();
        alice.mutate_returning("pinMessage", json!({ "messageId": pinned }), "message { id }").await.data();
        alice
            .mutate_returning("updateMyMembership", json!({ "chatId": chat, "draft": "psst" }), "member { id }")
            .await
            .data();
        let report = bob
            .mutate_returning("reportMessage", json!({ "messageId": message, "reason": "secrets" }), "reportId")
            .await;
        let notifications = alice.ask("{ viewer { notifications(first: 1) { nodes { id } } } }").await;
        alice
            .mutate_returning("removeMember", json!({ "chatId": chat, "userId": "dora" }), "removedUserId")
            .await
            .data();
        let alice_call = alice.start_call(&chat).await;
        let bob_call = bob.join_call(&alice_call.call).await;
        let call = alice.fetch_call(&alice_call.call).await;
        let participants = call["participants"].as_array().expect("a list");
        let erin_participant = participants.iter().find(|participant| participant["user"]["id"] == erin.id.as_str());
        let erin_participant = erin_participant.expect("the call rings for Erin")["id"].as_str().expect("an id").into();
        Self {
            call: alice_call.call,
            alice_participant: alice_call.participant,
            alice_connection: alice_call.connection,
            bob_connection: bob_call.connection,
            erin_participant,
            member: member.as_str().expect("an id").into(),
            message,
            reply,
            pinned,
            poll,
            option,
            notification: notifications.text("viewer.notifications.nodes.0.id"),
            report: report.text("reportMessage.reportId"),
            resource: resource.into(),
            non_member: "carol".into(),
            chat,
        }
    }

    /// Returns ids of a group that has never existed.
    pub fn nonexistent(&self) -> Self {
        Self {
            chat: nonexistent_id(&self.chat),
            message: nonexistent_id(&self.message),
            reply: nonexistent_id(&self.reply),
            pinned: nonexistent_id(&self.pinned),
            poll: nonexistent_id(&self.poll),
            option: nonexistent_id(&self.option),
            member: nonexistent_id(&self.member),
            notification: nonexistent_id(&self.notification),
            report: nonexistent_id(&self.report),
            call: nonexistent_id(&self.call),
            alice_participant: nonexistent_id(&self.alice_participant),
            alice_connection: nonexistent_id(&self.alice_connection),
            bob_connection: nonexistent_id(&self.bob_connection),
            erin_participant: nonexistent_id(&self.erin_participant),
            resource: "missing".into(),
            non_member: "missing".into(),
        }
    }

    /// Returns the ids of the group and of its objects.
    pub fn ids(&self) -> [&String; 10] {
        let Self { chat, message, reply, pinned, poll, member, notification, report, call, alice_participant, .. } =
            self;
        [chat, message, reply, pinned, poll, member, notification, report, call, alice_participant]
    }
}

/// Returns a valid id of an object that has never existed.
fn nonexistent_id(id: &str) -> String {
    let (prefix, encoded) = id.split_once('_').expect("an id");
    let mut bytes = BASE64.decode(encoded).expect("an id");
    // The bytes with the version and the variant of the UUID stay, without which it would be no id.
    for index in (0..16).filter(|index| ![6, 8].contains(index)) {
        bytes[index] = !bytes[index];
    }
    format!("{prefix}_{}", BASE64.encode(bytes))
}

/// Returns the calls of each mutation on the group, by a requester who has a chat of their own.
///
/// The group's owner can make the calls in this order, up to the deletion of the group.
pub fn rows(secret: &SecretGroup, own: &OwnChat) -> Vec<Row> {
    let SecretGroup { chat, message, pinned, poll, option, notification, report, resource, non_member, .. } = secret;
    let chat_input = json!({ "chatId": chat });
    let members = json!(["bob", "erin", non_member]);
    let resource_chat =
        json!({ "resource": { "type": "project", "id": resource }, "title": "Mine", "memberIds": members });
    let allowed_in_organization = |field, input| Row { non_member: None, ..members_only(field, input) };
    [sending_rows(secret, own), read_state_rows(secret, own), call_rows(secret)]
        .into_iter()
        .flatten()
        .chain([
            allowed_in_organization("openDirectChat", json!({ "userId": non_member })),
            allowed_in_organization(
                "createChat",
                json!({ "kind": "GROUP", "title": "New", "memberIds": [non_member] }),
            )
            .requires("chat.create_group"),
            never_allowed("ensureResourceChat", resource_chat, FORBIDDEN),
            higher_roles_only("updateChat", json!({ "chatId": chat, "title": "Mine" })).requires("chat.manage_group"),
            higher_roles_only("addMembers", json!({ "chatId": chat, "userIds": ["mallory"] }))
                .requires("chat.manage_group"),
            higher_roles_only("changeMemberRole", json!({ "chatId": chat, "userId": "erin", "role": "MODERATOR" }))
                .requires("chat.manage_group"),
            higher_roles_only(
                "silenceMember",
                json!({ "chatId": chat, "userId": "erin", "until": "2100-01-01T00:00:00Z" }),
            ),
            rejected_for_members("joinChannel", chat_input.clone(), FORBIDDEN),
            higher_roles_only("pinMessage", json!({ "messageId": message })),
            higher_roles_only("unpinMessage", json!({ "messageId": pinned })),
            members_only("addReaction", json!({ "messageId": message, "emoji": "👎" })),
            members_only("removeReaction", json!({ "messageId": message, "emoji": "👍" })),
            members_only("votePoll", json!({ "messageId": poll, "optionIds": [option] })),
            higher_roles_only("closePoll", json!({ "messageId": poll })),
            Row { member: Some(NOT_FOUND), ..members_only("markNotificationsRead", json!({ "ids": [notification] })) },
            members_only("reportMessage", json!({ "messageId": message, "reason": "nosy" })),
            moderators_only("resolveReport", json!({ "reportId": report, "resolution": "DISMISSED" })),
            moderators_only("blockWords", json!({ "words": ["sesame"], "action": "REJECT" })),
            moderators_only("unblockWords", json!({ "words": ["blocked"] })),
            never_allowed("renewSession", json!({ "token": "any" }), "BAD_USER_INPUT"),
            never_allowed("revokeSessions", json!({ "userId": "erin" }), FORBIDDEN),
            higher_roles_only("editMessage", json!({ "messageId": message, "text": "mine" })),
            higher_roles_only("deleteMessage", json!({ "messageId": message })),
            higher_roles_only("removeMember", json!({ "chatId": chat, "userId": "erin", "ban": true }))
                .requires("chat.manage_group"),
            higher_roles_only("unbanMember", json!({ "chatId": chat, "userId": "erin" })).requires("chat.manage_group"),
            higher_roles_only("archiveChat", json!({ "chatId": chat, "archived": true })).requires("chat.manage_group"),
            members_only("leaveChat", chat_input.clone()),
            higher_roles_only("deleteChat", chat_input).requires("chat.delete"),
        ])
        .collect()
}

fn sending_rows(secret: &SecretGroup, own: &OwnChat) -> Vec<Row> {
    let SecretGroup { chat, message, .. } = secret;
    let send = |input| members_only("sendMessage", input);
    let send_in_own_chat = |input| rejected_for_members("sendMessage", input, NOT_FOUND);
    vec![
        send(json!({ "chatId": chat, "text": "boo" })),
        send(json!({ "chatId": chat, "text": "boo", "replyToId": message })),
        send(json!({ "chatId": chat, "text": "boo", "threadRootId": message })),
        send(json!({ "chatId": chat, "text": "boo", "nonce": "alice-nonce-2" })),
        send(json!({ "chatId": chat, "text": "a secret", "nonce": "alice-nonce", "mentionIds": ["bob"] })),
        send(json!({ "chatId": chat, "text": "boo", "mentionIds": ["bob"] })),
        send(json!({ "chatId": chat, "location": { "latitude": 1, "longitude": 2 } })),
        higher_roles_only("sendMessage", json!({ "chatId": chat, "text": "boo", "mentionsEveryone": true })),
        send_in_own_chat(json!({ "chatId": own.chat, "text": "boo", "replyToId": message })),
        send_in_own_chat(json!({ "chatId": own.chat, "text": "boo", "threadRootId": message })),
        members_only("forwardMessage", json!({ "messageId": message, "toChatId": chat })),
        members_only("forwardMessage", json!({ "messageId": message, "toChatId": own.chat })),
        members_only("forwardMessage", json!({ "messageId": own.message, "toChatId": chat })),
    ]
}

fn call_rows(secret: &SecretGroup) -> Vec<Row> {
    let SecretGroup { chat, call, alice_participant, alice_connection, bob_connection, erin_participant, .. } = secret;
    let id = json!({ "callId": call });
    let own = json!({ "callId": call, "participantId": alice_participant, "connectionId": alice_connection });
    let with_fields = |base: &Value, fields: Value| {
        let mut input = base.clone();
        input.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        input
    };
    let media = json!({ "audio": true, "video": false, "screen": false });
    let quality = json!({ "roundTripMs": 1.0, "packetLossPercent": 0.0, "bitrateKbps": 1.0 });
    let signal = json!({ "callId": call, "fromConnectionId": alice_connection, "toConnectionId": bob_connection });
    let removal = json!({ "callId": call, "participantId": erin_participant });
    // Bob cannot act as Alice's participant.
    let own_participant_only = |field, input| Row { member: Some(NOT_FOUND), ..members_only(field, input) };
    vec![
        rejected_for_members("declineCall", id.clone(), "CONFLICT"),
        own_participant_only("updateCallMedia", with_fields(&own, json!({ "media": media }))),
        own_participant_only("sendSignal", with_fields(&signal, json!({ "kind": "RENEGOTIATE", "payload": {} }))),
        own_participant_only("reportCallQuality", with_fields(&own, quality)),
        own_participant_only("leaveCall", own),
        // After a join, the connection is another one.
        members_only("startCall", json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "phone" }))
            .requires("chat.initiate_call"),
        members_only("joinCall", with_fields(&id, json!({ "deviceId": "phone" }))),
        higher_roles_only("removeFromCall", removal),
        higher_roles_only("endCall", id),
    ]
}

fn read_state_rows(secret: &SecretGroup, own: &OwnChat) -> Vec<Row> {
    let SecretGroup { chat, message, reply, .. } = secret;
    let message_ref = |chat: &str, message: &str| json!({ "chatId": chat, "messageId": message });
    let own_message = message_ref(&own.chat, &own.message);
    vec![
        members_only("markRead", json!({ "chatId": chat })),
        members_only("markRead", json!({ "chatId": chat, "upToMessageId": message, "private": true })),
        rejected_for_members("markRead", json!({ "chatId": own.chat, "upToMessageId": message }), NOT_FOUND),
        members_only("markThreadRead", json!({ "threadRootId": message })),
        members_only("markThreadRead", json!({ "threadRootId": message, "upToMessageId": reply })),
        rejected_for_members(
            "markThreadRead",
            json!({ "threadRootId": own.message, "upToMessageId": reply }),
            NOT_FOUND,
        ),
        members_only("markUnread", json!({ "chatId": chat })),
        members_only("markUnread", json!({ "chatId": chat, "fromMessageId": message })),
        rejected_for_members("markUnread", json!({ "chatId": own.chat, "fromMessageId": message }), NOT_FOUND),
        members_only("markDelivered", json!({ "upTo": [message_ref(chat, message)] })),
        members_only("markDelivered", json!({ "upTo": [own_message, message_ref(chat, reply)] })),
        rejected_for_members("markDelivered", json!({ "upTo": [message_ref(&own.chat, message)] }), NOT_FOUND),
        members_only("setTyping", json!({ "chatId": chat, "typing": true })),
        members_only("setTyping", json!({ "chatId": chat, "typing": false })),
        members_only("setPresence", json!({ "status": "BUSY", "currentChatId": chat })),
        members_only("updateMyMembership", json!({ "chatId": chat, "pinned": true, "draft": "boo" })),
    ]
}
