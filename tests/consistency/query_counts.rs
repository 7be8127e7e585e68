//! A list takes a fixed number of SQL statements, which does not depend on its length.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::process::server_binary;
use testkit::{Database, Engine, SECRET, TestApp, User, engine_test};

/// A server that logs each statement with the id of its request.
struct LoggingServer {
    child: Child,
    lines: Receiver<String>,
    addr: std::net::SocketAddr,
}

/// The data that a request returned, and the number of statements that it took.
struct CountedReply {
    data: Value,
    statements: usize,
}

impl LoggingServer {
    fn start(database: &Database) -> Self {
        let mut child = Command::new(server_binary())
            .env("DATABASE_URL", &database.url)
            .env("PARLOR_ADDR", "127.0.0.1:0")
            .env("PARLOR_JWT_SECRET", SECRET)
            .env("PARLOR_MAX_COMPLEXITY", "10000000")
            // No call ends during the test.
            .env("PARLOR_CALL_LOST_SECONDS", "600")
            .env("PARLOR_LOG", "info,parlor::sql=trace")
            .env("PARLOR_LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let log = BufReader::new(child.stderr.take().expect("a log"));
        let (sender, lines) = channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let listening_addr = |line: String| {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            (line["fields"]["message"] == "listening")
                .then(|| line["fields"]["addr"].as_str().expect("an address").to_owned())
        };
        let addr = loop {
            let line =
                lines.recv_timeout(Duration::from_secs(60)).expect("a line of the log before the server listens");
            if let Some(addr) = listening_addr(line) {
                break addr.parse().expect("an address");
            }
        };
        // The server listens before its start is complete.
        while !lines.recv_timeout(Duration::from_secs(60)).expect("the server gets ready").contains("\"ready\"") {}
        Self { child, lines, addr }
    }

    /// Sends a query and counts its statements.
    async fn ask(&self, user: &User, query: &str, id: &str) -> CountedReply {
        let http = reqwest::Client::new();
        let url = format!("http://{}/graphql", self.addr);
        let ask = async |id: &str, query: &str| {
            let request =
                http.post(&url).bearer_auth(&user.token).header("x-request-id", id).json(&json!({ "query": query }));
            request.send().await.expect("a response").json::<Value>().await.expect("JSON")
        };
        let reply = ask(id, query).await;
        assert!(reply.get("errors").is_none(), "{reply}");
        // A second request marks the end of the lines of the first one.
        let end_id = format!("{id}-end");
        ask(&end_id, "{ viewer { unread { chats } } }").await;
        let mut statements = 0;
        // The server also logs statements of its own, so the time limit of a line would not end the loop.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(remaining).expect("a line of the second request");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            match line["span"]["id"].as_str() {
                Some(request_id) if request_id == id && line["target"] == "parlor::sql" => statements += 1,
                Some(request_id) if request_id == end_id => {
                    return CountedReply { data: reply["data"].clone(), statements };
                }
                _ => {}
            }
        }
    }

    /// Asserts that a short and a long list of equally complete items take the same number of statements.
    async fn assert_equal_counts(&self, name: &str, short: (&User, String, usize), long: (&User, String, usize)) {
        let (short_length, long_length) = (short.2, long.2);
        // The server replaces a request id that contains a space.
        let id = name.replace(' ', "-");
        let short = self.ask(short.0, &short.1, &format!("{id}-short")).await;
        let long = self.ask(long.0, &long.1, &format!("{id}-long")).await;
        assert_eq!((nodes(&short.data).len(), nodes(&long.data).len()), (short_length, long_length), "{name}");
        let (short_fields, long_fields) = (filled_fields(&short.data), filled_fields(&long.data));
        let differences: Vec<_> = short_fields.symmetric_difference(&long_fields).collect();
        assert!(differences.is_empty(), "only one list of {name} has {differences:?}");
        assert_eq!(short.statements, long.statements, "statements of {short_length} and of {long_length} {name}");
        assert!((2..60).contains(&short.statements), "{} statements of {name}", short.statements);
    }
}

impl Drop for LoggingServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the nodes of the outermost list.
fn nodes(data: &Value) -> &[Value] {
    match data {
        Value::Object(fields) => match fields.get("nodes") {
            Some(Value::Array(nodes)) => nodes,
            _ => fields.values().map(nodes).find(|nodes| !nodes.is_empty()).unwrap_or_default(),
        },
        _ => &[],
    }
}

/// Returns the paths of the fields that have a value, without the indexes of lists.
fn filled_fields(data: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| collect(value, &format!("{path}.{name}"), found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
            Value::Null | Value::Bool(false) => {}
            Value::Number(number) if number.as_i64() == Some(0) => {}
            // Messages have several kinds.
            Value::String(kind) if path.ends_with(".kind") => {
                found.insert(format!("{path}: {kind}"));
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    collect(data, "", &mut found);
    // A short page and a long one differ in having a next page.
    found.retain(|path| !path.contains("pageInfo"));
    found
}

pub(super) const CHAT_LIST: &str = "chats(first: 100) { pageInfo { hasNextPage endCursor } nodes {
    id kind category title description avatarUrl createdAt lastActivityAt archivedAt version memberCount slowModeSeconds
    createdBy { name } resource { type id } policy { action role }
    typing { name }
    activeCall { id status viewerDirection startedBy { name } participants { status user { name } } chat { title } }
    historyForNewMembers lastEntry { id kind system { kind changedFields } }
    lastMessage {
        id kind text html createdAt mentionsEveryone status viewerCanEdit viewerCanDelete
        sender { id name avatarUrl presence { status lastSeenAt currentChatId } } mentions { name } replyTo { text sender { name } }
        reactions { emoji count viewerReacted users(first: 3) { name } } readBy(first: 3) { nodes { name } }
        poll { question voterCount options { text voteCount viewerVoted } } system { kind actor { name } call { id participants { status user { name } } } }
    }
    members(first: 3) { nodes { role joinedAt silencedUntil user { name presence { status lastSeenAt user { name } } } addedBy { name } lastReadMessage { id } } }
    messages(last: 2) { totalCount nodes { text sender { name } } }
    pinnedMessages(first: 2) { totalCount nodes { text pinnedAt pinnedBy { name } } }
    viewerMembership {
        role unreadCount unreadMentionCount draft pinned markedUnread mutedUntil notificationLevel lastReadAt
        lastReadMessage { id text } lastDeliveredMessage { id text }
    }
    viewerCan { action allowed reason until }
} }";

pub(super) const MESSAGE: &str =
    "id seq kind nonce text html createdAt editedAt deletedAt viewerCanEdit viewerCanDelete
    sender { id name avatarUrl } chat { id title viewerMembership { role unreadCount } }
    location { latitude longitude name address }
    poll {
        question multipleChoice anonymous closesAt closed voterCount
        options { id text voteCount viewerVoted voters(first: 3) { id name } }
    }
    system { kind detail actor { name } subject { name } call { id status endReason participants { user { name } } } }
    mentions { id name } mentionsEveryone
    replyTo { id text sender { name } }
    threadRoot { id text replyCount sender { name } }
    replyCount replies(first: 3) { totalCount nodes { text status sender { name } reactions { emoji count } } }
    forwardedFrom { chatTitle sentAt sender { name } }
    status readBy(first: 3) { nodes { id name } }
    reactions { emoji count viewerReacted users(first: 5) { id name } }
    editHistory { nodes { text editedAt } } pinnedAt pinnedBy { id name }";

const NOTIFICATION: &str =
    "id kind createdAt readAt chat { id title memberCount } message { text sender { name } } actor { name }
     call { id endReason startedBy { name } }";

/// The default permissions, and that of the host's service, which creates the chats of resources.
const PERMISSIONS: [&str; 6] =
    ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete", "chat.initiate_call", "organization.admin"];

/// Creates a chat of a user and Olga in which each field of the chat list has a value.
async fn create_full_chat(owner: &User, olga: &User, number: usize) {
    let mutate = async |user: &User, field: &str, input: Value, selection: &str| {
        user.mutate_returning(field, input, selection).await.data().clone()
    };
    // Most chats are groups.
    let chat = match number {
        0 => {
            let input = json!({ "userId": "olga" });
            owner.mutate_returning("openDirectChat", input, "chat { id }").await.text("openDirectChat.chat.id")
        }
        1 => {
            let input = json!({ "resource": { "type": "project", "id": owner.id }, "title": "Project", "memberIds": [owner.id, "olga"] });
            owner.mutate_returning("ensureResourceChat", input, "chat { id }").await.text("ensureResourceChat.chat.id")
        }
        2 => owner.chat("CHANNEL", "News", &[olga]).await,
        _ => {
            let input = json!({
                "kind": "GROUP", "title": format!("Chat {number}"), "description": "Ours", "category": "CUSTOM",
                "avatarUrl": "https://pictures.example/1", "memberIds": ["olga"],
                "policy": [{ "action": "MENTION_EVERYONE", "role": "MEMBER" }]
            });
            owner.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id")
        }
    };
    let first = owner.send(&chat, "**first**").await;
    mutate(owner, "pinMessage", json!({ "messageId": first }), "message { id }").await;
    if number != 2 {
        let input = json!({ "chatId": chat, "text": "for you", "replyToId": first, "mentionIds": [owner.id] });
        let sent = olga.mutate_returning("sendMessage", input, "message { id }").await.text("sendMessage.message.id");
        mutate(owner, "addReaction", json!({ "messageId": sent, "emoji": "👍" }), "message { id }").await;
        mutate(owner, "markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": sent }] }), "members { id }")
            .await;
    }
    if number == 4 {
        let poll = json!({ "question": "More?", "options": ["yes", "no"] });
        let input = json!({ "chatId": chat, "poll": poll });
        let reply = owner.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await;
        let option = reply.at("sendMessage.message.poll.options.0.id");
        let vote = json!({ "messageId": reply.at("sendMessage.message.id"), "optionIds": [option] });
        mutate(owner, "votePoll", vote, "message { id }").await;
    }
    // A device is in one call at a time.
    let call = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": chat });
    mutate(owner, "startCall", call, "call { id }").await;
    let own = json!({
        "chatId": chat, "draft": "to be continued", "pinned": true, "notificationLevel": "MENTIONS",
        "mutedUntil": "2100-01-01T00:00:00Z"
    });
    mutate(owner, "updateMyMembership", own, "member { id }").await;
}

/// Sends twelve messages, in which each field of a message has a value.
async fn send_full_messages(owner: &User, olga: &User, chat: &str, other_message: &str, number: usize) {
    let send = async |user: &User, mut input: Value| {
        input["chatId"] = json!(chat);
        user.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await
    };
    let id = "sendMessage.message.id";
    let first = send(olga, json!({ "text": "**first**", "mentionIds": [owner.id], "nonce": number.to_string() }))
        .await
        .text(id);
    olga.mutate_returning("editMessage", json!({ "messageId": first, "text": "**first** of all" }), "message { id }")
        .await
        .data();
    for (user, emoji) in [(owner, "👍"), (olga, "🎉")] {
        user.mutate_returning("addReaction", json!({ "messageId": first, "emoji": emoji }), "message { id }")
            .await
            .data();
    }
    owner.mutate_returning("pinMessage", json!({ "messageId": first }), "message { id }").await.data();
    let role = if number.is_multiple_of(2) { "ADMIN" } else { "MODERATOR" };
    let input = json!({ "chatId": chat, "userId": "olga", "role": role });
    owner.mutate_returning("changeMemberRole", input, "member { id }").await.data();
    let poll = json!({ "question": "More?", "options": ["yes", "no"], "multipleChoice": true, "closesAt": "2100-01-01T00:00:00Z" });
    let reply = send(olga, json!({ "poll": poll })).await;
    let options = reply.at("sendMessage.message.poll.options").as_array().expect("options").clone();
    for (voter, option) in [(owner, &options[0]), (olga, &options[1])] {
        let vote = json!({ "messageId": reply.at(id), "optionIds": [option["id"]] });
        voter.mutate_returning("votePoll", vote, "message { id }").await.data();
    }
    let location = json!({ "latitude": 52.5, "longitude": 13.4, "name": "Here", "address": "A street" });
    send(owner, json!({ "location": location })).await.data();
    send(owner, json!({ "text": "answered", "replyToId": first, "mentionsEveryone": true })).await.data();
    let root = send(owner, json!({ "text": "a thread" })).await.text(id);
    for index in 0..4 {
        let reply = send(olga, json!({ "text": index.to_string(), "threadRootId": root })).await.text(id);
        owner
            .mutate_returning("addReaction", json!({ "messageId": reply, "emoji": "👍" }), "message { id }")
            .await
            .data();
    }
    send(olga, json!({ "text": "out loud", "threadRootId": root, "alsoInChat": true })).await.data();
    let forward = json!({ "messageId": other_message, "toChatId": chat });
    owner.mutate_returning("forwardMessage", forward, "message { id }").await.data();
    let deleted = send(owner, json!({ "text": "never mind" })).await.text(id);
    owner.mutate_returning("deleteMessage", json!({ "messageId": deleted }), "message { id }").await.data();
    let call = olga.start_call(chat).await;
    olga.mutate_ok("endCall", json!({ "callId": call.call })).await;
}

#[engine_test]
async fn chat_list_takes_constant_number_of_statements(engine: Engine) {
    let settings = [
        ("PARLOR_CHATS_PER_MINUTE", "100000"),
        ("PARLOR_WRITES_PER_MINUTE", "100000"),
        ("PARLOR_CALLS_PER_MINUTE", "100000"),
        ("PARLOR_CALL_RING_SECONDS", "600"),
        ("PARLOR_CALL_LOST_SECONDS", "600"),
    ];
    let app = TestApp::start(Database::create(engine).await, &settings).await;
    let [few, many] = ["few", "many"].map(|id| app.user_in("demo", id, Some(&PERMISSIONS)));
    let (few, many, olga) = (few.await, many.await, app.user("olga").await);
    // The list shows the newest hundred of 500 chats.
    stream::iter(0..400)
        .for_each_concurrent(8, async |number| drop(many.group(&format!("Chat {number}"), &[&olga]).await))
        .await;
    stream::iter(0..5).for_each(async |number| create_full_chat(&few, &olga, number).await).await;
    stream::iter(0..100).for_each_concurrent(8, async |number| create_full_chat(&many, &olga, number).await).await;
    let database = app.shut_down().await;
    let server = LoggingServer::start(&database);
    // The first request of a user registers the user, so the counted requests come later.
    for user in [&few, &many] {
        user.at(server.addr).ask("{ viewer { user { id } } }").await.data();
    }
    let list = format!("{{ {CHAT_LIST} }}");
    server.assert_equal_counts("chats", (&few, list.clone(), 5), (&many, list, 100)).await;
    let found = |number| {
        format!(
            "{{ chats(first: {number}, filter: {{ search: \"chat\", unreadOnly: true }}) {{ nodes {{ id title viewerMembership {{ unreadCount }} }} }} }}"
        )
    };
    let users = |number| {
        format!("{{ users(first: {number}) {{ nodes {{ id presence {{ status lastSeenAt user {{ name }} }} }} }} }}")
    };
    server.assert_equal_counts("users", (&many, users(1), 1), (&many, users(3), 3)).await;
    server.assert_equal_counts("found chats", (&many, found(5), 5), (&many, found(90), 90)).await;
    drop(server);
    database.drop().await;
}

#[engine_test]
async fn message_page_takes_constant_number_of_statements(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let (owner, olga) = (app.user("owner").await, app.user("olga").await);
    let chat = owner.group("Everything", &[&olga]).await;
    let other = olga.group("Other", &[&owner]).await;
    let other_message = olga.send(&other, "far away").await;
    for number in 0..10 {
        send_full_messages(&owner, &olga, &chat, &other_message, number).await;
    }
    olga.mutate_returning("markRead", json!({ "chatId": chat }), "member { id }").await.data();
    let database = app.shut_down().await;
    let server = LoggingServer::start(&database);
    owner.at(server.addr).ask("{ viewer { user { id } } }").await.data();
    let page = |number| {
        format!("{{ chat(id: \"{chat}\") {{ messages(last: {number}) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}")
    };
    server.assert_equal_counts("messages", (&owner, page(12), 12), (&owner, page(96), 96)).await;
    let pinned = |number| {
        format!(
            "{{ chat(id: \"{chat}\") {{ pinnedMessages(first: {number}) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}"
        )
    };
    server.assert_equal_counts("pinned messages", (&owner, pinned(2), 2), (&owner, pinned(10), 10)).await;
    let found = |number| {
        format!(
            "{{ searchMessages(query: \"first\", first: {number}) {{ nodes {{ {MESSAGE} }} edges {{ snippet }} }} }}"
        )
    };
    server.assert_equal_counts("found messages", (&owner, found(2), 2), (&owner, found(10), 10)).await;
    let notifications =
        |number| format!("{{ viewer {{ notifications(first: {number}) {{ nodes {{ {NOTIFICATION} }} }} }} }}");
    let calls = |number| {
        format!(
            "{{ calls(first: {number}) {{ nodes {{ id status viewerDirection startedBy {{ name }} quality {{ reports }} chat {{ id title }} participants {{ status user {{ name }} }} }} }} }}"
        )
    };
    server.assert_equal_counts("calls", (&owner, calls(2), 2), (&owner, calls(10), 10)).await;
    server.assert_equal_counts("notifications", (&owner, notifications(7), 7), (&owner, notifications(70), 70)).await;
    drop(server);
    database.drop().await;
}
