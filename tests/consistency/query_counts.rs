//! A list costs a fixed number of statements, whatever its length.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::process::server_binary;
use testkit::{Database, Engine, SECRET, TestApp, User, engine_test};

/// A server whose log has a line for each statement, with its request's id.
struct Logged {
    child: Child,
    lines: Receiver<String>,
    addr: std::net::SocketAddr,
}

/// What one request was answered, and the statements that it took.
struct Asked {
    answer: Value,
    statements: usize,
}

impl Logged {
    fn start(database: &Database) -> Self {
        let mut child = Command::new(server_binary())
            .env("DATABASE_URL", &database.url)
            .env("PARLOR_ADDR", "127.0.0.1:0")
            .env("PARLOR_JWT_SECRET", SECRET)
            .env("PARLOR_MAX_COMPLEXITY", "10000000")
            // No call ends meanwhile.
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
        let listening = |line: String| {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            (line["fields"]["message"] == "listening")
                .then(|| line["fields"]["addr"].as_str().expect("an address").to_owned())
        };
        let addr = loop {
            let line = lines.recv_timeout(Duration::from_secs(60)).expect("the server listens");
            if let Some(addr) = listening(line) {
                break addr.parse().expect("an address");
            }
        };
        Self { child, lines, addr }
    }

    async fn ask(&self, who: &User, query: &str, id: &str) -> Asked {
        let http = reqwest::Client::new();
        let url = format!("http://{}/graphql", self.addr);
        let ask = async |id: &str, query: &str| {
            let request =
                http.post(&url).bearer_auth(&who.token).header("x-request-id", id).json(&json!({ "query": query }));
            request.send().await.expect("an answer").json::<Value>().await.expect("JSON")
        };
        let answer = ask(id, query).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        // A second request marks the end of the first one's lines.
        let end = format!("{id}-end");
        ask(&end, "{ viewer { unread { chats } } }").await;
        let mut statements = 0;
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).expect("a line of the log");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            match line["span"]["id"].as_str() {
                Some(of) if of == id && line["target"] == "parlor::sql" => statements += 1,
                Some(of) if of == end => return Asked { answer: answer["data"].clone(), statements },
                _ => {}
            }
        }
    }

    /// Asserts that a short and a long list of the same things take as many statements.
    async fn take_as_many(&self, name: &str, short: (&User, String, usize), long: (&User, String, usize)) {
        let [(few, number), (many, larger)] = [
            (self.ask(short.0, &short.1, &format!("{name}-short")).await, short.2),
            (self.ask(long.0, &long.1, &format!("{name}-long")).await, long.2),
        ];
        assert_eq!((nodes(&few.answer).len(), nodes(&many.answer).len()), (number, larger), "{name}");
        let differences: Vec<_> = things(&few.answer).symmetric_difference(&things(&many.answer)).cloned().collect();
        assert!(differences.is_empty(), "only one list of {name} has {differences:?}");
        assert_eq!(few.statements, many.statements, "statements of {number} and of {larger} {name}");
        assert!((2..60).contains(&few.statements), "{} statements of {name}", few.statements);
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The nodes of the outermost list.
fn nodes(answer: &Value) -> &[Value] {
    match answer {
        Value::Object(fields) => match fields.get("nodes") {
            Some(Value::Array(nodes)) => nodes,
            _ => fields.values().map(nodes).find(|nodes| !nodes.is_empty()).unwrap_or_default(),
        },
        _ => &[],
    }
}

/// Where in the answer there is anything: the paths of its fields, those of lists without numbers.
fn things(answer: &Value) -> BTreeSet<String> {
    fn collect(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| collect(value, &format!("{path}.{name}"), found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
            Value::Null | Value::Bool(false) => {}
            Value::Number(number) if number.as_i64() == Some(0) => {}
            // There are messages of several kinds.
            Value::String(word) if path.ends_with(".kind") => {
                found.insert(format!("{path}: {word}"));
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }
    let mut found = BTreeSet::new();
    collect(answer, "", &mut found);
    // Whether there is more is what tells a short page from a long one.
    found.retain(|path| !path.contains("pageInfo"));
    found
}

const CHAT_LIST: &str = "chats(first: 100) { pageInfo { hasNextPage endCursor } nodes {
    id kind category title description avatarUrl createdAt lastActivityAt archivedAt version memberCount slowModeSeconds
    createdBy { name } resource { type id } policy { action role }
    typing { name }
    activeCall { id status viewerDirection startedBy { name } participants { status user { name } } chat { title } }
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

const MESSAGE: &str = "id seq kind nonce text html createdAt editedAt deletedAt viewerCanEdit viewerCanDelete
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
    editHistory { text editedAt } pinnedAt pinnedBy { id name }";

const NOTIFICATION: &str =
    "id kind createdAt readAt chat { id title memberCount } message { text sender { name } } actor { name }
     call { id endReason startedBy { name } }";

/// A chat of somebody's with Olga, with all that a list shows of one.
async fn full_chat(who: &User, olga: &User, number: usize) {
    let done = async |who: &User, field: &str, input: Value, selection: &str| {
        who.mutate_returning(field, input, selection).await.data().clone()
    };
    // The rest of a page is groups, as most chats are.
    let chat = match number {
        0 => {
            let input = json!({ "userId": "olga" });
            who.mutate_returning("openDirectChat", input, "chat { id }").await.text("openDirectChat.chat.id")
        }
        1 => {
            let input =
                json!({ "resource": { "type": "project", "id": who.id }, "title": "Project", "memberIds": ["olga"] });
            who.mutate_returning("ensureResourceChat", input, "chat { id }").await.text("ensureResourceChat.chat.id")
        }
        2 => who.chat("CHANNEL", "News", &[olga]).await,
        _ => {
            let input = json!({
                "kind": "GROUP", "title": format!("Chat {number}"), "description": "Ours", "category": "CUSTOM",
                "avatarUrl": "https://pictures.example/1", "memberIds": ["olga"],
                "policy": [{ "action": "MENTION_EVERYONE", "role": "MEMBER" }]
            });
            who.mutate_returning("createChat", input, "chat { id }").await.text("createChat.chat.id")
        }
    };
    let first = who.send(&chat, "**first**").await;
    done(who, "pinMessage", json!({ "messageId": first }), "message { id }").await;
    if number != 2 {
        let input = json!({ "chatId": chat, "text": "for you", "replyToId": first, "mentionIds": [who.id] });
        let sent = olga.mutate_returning("sendMessage", input, "message { id }").await.text("sendMessage.message.id");
        done(who, "addReaction", json!({ "messageId": sent, "emoji": "👍" }), "message { id }").await;
        done(who, "markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": sent }] }), "members { id }").await;
    }
    if number == 4 {
        let poll = json!({ "question": "More?", "options": ["yes", "no"] });
        let input = json!({ "chatId": chat, "poll": poll });
        let asked = who.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await;
        let option = asked.at("sendMessage.message.poll.options.0.id");
        let vote = json!({ "messageId": asked.at("sendMessage.message.id"), "optionIds": [option] });
        done(who, "votePoll", vote, "message { id }").await;
    }
    let call = json!({ "chatId": chat, "kind": "AUDIO", "deviceId": "phone" });
    done(who, "startCall", call, "call { id }").await;
    let own = json!({
        "chatId": chat, "draft": "to be continued", "pinned": true, "notificationLevel": "MENTIONS",
        "mutedUntil": "2100-01-01T00:00:00Z"
    });
    done(who, "updateMyMembership", own, "member { id }").await;
}

/// Twelve messages that follow each other, with all that a message can have.
async fn full_messages(who: &User, olga: &User, chat: &str, elsewhere: &str, number: usize) {
    let send = async |who: &User, mut input: Value| {
        input["chatId"] = json!(chat);
        who.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await
    };
    let id = "sendMessage.message.id";
    let first =
        send(olga, json!({ "text": "**first**", "mentionIds": [who.id], "nonce": number.to_string() })).await.text(id);
    olga.mutate_returning("editMessage", json!({ "messageId": first, "text": "**first** of all" }), "message { id }")
        .await
        .data();
    for (reacting, emoji) in [(who, "👍"), (olga, "🎉")] {
        reacting
            .mutate_returning("addReaction", json!({ "messageId": first, "emoji": emoji }), "message { id }")
            .await
            .data();
    }
    who.mutate_returning("pinMessage", json!({ "messageId": first }), "message { id }").await.data();
    let role = if number.is_multiple_of(2) { "ADMIN" } else { "MODERATOR" };
    let input = json!({ "chatId": chat, "userId": "olga", "role": role });
    who.mutate_returning("changeMemberRole", input, "member { id }").await.data();
    let poll = json!({ "question": "More?", "options": ["yes", "no"], "multipleChoice": true, "closesAt": "2100-01-01T00:00:00Z" });
    let asked = send(olga, json!({ "poll": poll })).await;
    let options = asked.at("sendMessage.message.poll.options").as_array().expect("options").clone();
    for (voter, option) in [(who, &options[0]), (olga, &options[1])] {
        let vote = json!({ "messageId": asked.at(id), "optionIds": [option["id"]] });
        voter.mutate_returning("votePoll", vote, "message { id }").await.data();
    }
    let place = json!({ "latitude": 52.5, "longitude": 13.4, "name": "Here", "address": "A street" });
    send(who, json!({ "location": place })).await.data();
    send(who, json!({ "text": "answered", "replyToId": first, "mentionsEveryone": true })).await.data();
    let root = send(who, json!({ "text": "a thread" })).await.text(id);
    for place in 0..4 {
        let reply = send(olga, json!({ "text": place.to_string(), "threadRootId": root })).await.text(id);
        who.mutate_returning("addReaction", json!({ "messageId": reply, "emoji": "👍" }), "message { id }")
            .await
            .data();
    }
    send(olga, json!({ "text": "out loud", "threadRootId": root, "alsoInChat": true })).await.data();
    let forward = json!({ "messageId": elsewhere, "toChatId": chat });
    who.mutate_returning("forwardMessage", forward, "message { id }").await.data();
    let gone = send(who, json!({ "text": "never mind" })).await.text(id);
    who.mutate_returning("deleteMessage", json!({ "messageId": gone }), "message { id }").await.data();
    let call = olga.start_call(chat).await;
    olga.mutate_ok("endCall", json!({ "callId": call.call })).await;
}

#[engine_test]
async fn chat_list_takes_constant_number_of_statements(engine: Engine) {
    let settings = [
        ("PARLOR_CHATS_PER_MINUTE", "100000"),
        ("PARLOR_CALLS_PER_MINUTE", "100000"),
        ("PARLOR_CALL_RING_SECONDS", "600"),
        ("PARLOR_CALL_LOST_SECONDS", "600"),
    ];
    let app = TestApp::start(Database::create(engine).await, &settings).await;
    let (few, many, olga) = (app.user("few").await, app.user("many").await, app.user("olga").await);
    // A page of the 500 is the newest hundred.
    stream::iter(0..400)
        .for_each_concurrent(8, async |number| drop(many.group(&format!("Chat {number}"), &[&olga]).await))
        .await;
    stream::iter(0..5).for_each(async |number| full_chat(&few, &olga, number).await).await;
    stream::iter(0..100).for_each_concurrent(8, async |number| full_chat(&many, &olga, number).await).await;
    let database = app.shut_down().await;
    let server = Logged::start(&database);
    // The first request of a person notes them; the ones that count come after.
    for who in [&few, &many] {
        who.at(server.addr).ask("{ viewer { user { id } } }").await.data();
    }
    let list = format!("{{ {CHAT_LIST} }}");
    server.take_as_many("chats", (&few, list.clone(), 5), (&many, list, 100)).await;
    let found = |number| {
        format!(
            "{{ chats(first: {number}, filter: {{ search: \"chat\", unreadOnly: true }}) {{ nodes {{ id title viewerMembership {{ unreadCount }} }} }} }}"
        )
    };
    let people = |number| {
        format!("{{ users(first: {number}) {{ nodes {{ id presence {{ status lastSeenAt user {{ name }} }} }} }} }}")
    };
    server.take_as_many("people", (&many, people(1), 1), (&many, people(3), 3)).await;
    server.take_as_many("found chats", (&many, found(5), 5), (&many, found(90), 90)).await;
    drop(server);
    database.drop().await;
}

#[engine_test]
async fn message_page_takes_constant_number_of_statements(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let (who, olga) = (app.user("who").await, app.user("olga").await);
    let chat = who.group("Everything", &[&olga]).await;
    let other = olga.group("Elsewhere", &[&who]).await;
    let elsewhere = olga.send(&other, "far away").await;
    for number in 0..10 {
        full_messages(&who, &olga, &chat, &elsewhere, number).await;
    }
    olga.mutate_returning("markRead", json!({ "chatId": chat }), "member { id }").await.data();
    let database = app.shut_down().await;
    let server = Logged::start(&database);
    who.at(server.addr).ask("{ viewer { user { id } } }").await.data();
    let page = |number| {
        format!("{{ chat(id: \"{chat}\") {{ messages(last: {number}) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}")
    };
    server.take_as_many("messages", (&who, page(12), 12), (&who, page(96), 96)).await;
    let thread = |number| {
        format!(
            "{{ chat(id: \"{chat}\") {{ pinnedMessages(first: {number}) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}"
        )
    };
    server.take_as_many("pinned messages", (&who, thread(2), 2), (&who, thread(10), 10)).await;
    let found = |number| {
        format!(
            "{{ searchMessages(query: \"first\", first: {number}) {{ nodes {{ {MESSAGE} }} edges {{ snippet }} }} }}"
        )
    };
    server.take_as_many("found messages", (&who, found(2), 2), (&who, found(10), 10)).await;
    let told = |number| format!("{{ viewer {{ notifications(first: {number}) {{ nodes {{ {NOTIFICATION} }} }} }} }}");
    let calls = |number| {
        format!(
            "{{ calls(first: {number}) {{ nodes {{ id status viewerDirection startedBy {{ name }} quality {{ reports }} chat {{ id title }} participants {{ status user {{ name }} }} }} }} }}"
        )
    };
    server.take_as_many("calls", (&who, calls(2), 2), (&who, calls(10), 10)).await;
    server.take_as_many("notifications", (&who, told(7), 7), (&who, told(70), 70)).await;
    drop(server);
    database.drop().await;
}
