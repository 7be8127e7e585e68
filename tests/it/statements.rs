//! A list costs a fixed number of statements, whatever its length.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Database, Engine, SECRET, TestApp};

/// A server whose log has a line for each statement, with its request's id.
struct Logged {
    child: Child,
    lines: Receiver<String>,
    addr: std::net::SocketAddr,
}

impl Logged {
    fn start(database: &Database) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_parlor"))
            .env("DATABASE_URL", &database.url)
            .env("PARLOR_ADDR", "127.0.0.1:0")
            .env("PARLOR_JWT_SECRET", SECRET)
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

    /// The answer to a query, and the number of statements that it took.
    async fn statements(&self, token: &str, query: &str, id: &str) -> (Value, usize) {
        let http = reqwest::Client::new();
        let url = format!("http://{}/graphql", self.addr);
        let ask = async |id: &str, query: &str| {
            let request =
                http.post(&url).bearer_auth(token).header("x-request-id", id).json(&json!({ "query": query }));
            request.send().await.expect("an answer").json::<Value>().await.expect("JSON")
        };
        let answer = ask(id, query).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        // A second request marks the end of the first one's lines.
        let end = format!("{id}-end");
        ask(&end, "{ viewer { unread { chats } } }").await;
        let mut number = 0;
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).expect("a line of the log");
            let line: Value = serde_json::from_str(&line).expect("JSON");
            match line["span"]["id"].as_str() {
                Some(of) if of == id && line["target"] == "parlor::sql" => number += 1,
                Some(of) if of == end => return (answer, number),
                _ => {}
            }
        }
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const CHAT_LIST: &str = "chats(first: 100) { nodes {
    id title kind memberCount policy { action role }
    lastMessage { id text sender { id name avatarUrl } reactions { emoji count viewerReacted users(first: 3) { name } } replyTo { text sender { name } } }
    members(first: 3) { nodes { role user { name } } }
    messages(last: 2) { nodes { text sender { name } } }
    viewerMembership { unreadCount role lastReadMessage { id } }
    viewerCan { action allowed reason until }
} }";

const MESSAGES: &str = "messages(last: 100) { totalCount nodes {
    id seq kind text nonce createdAt editedAt deletedAt viewerCanEdit viewerCanDelete
    sender { id name avatarUrl } chat { id title } editHistory { text editedAt }
    replyTo { id text sender { name } } reactions { emoji count viewerReacted users(first: 5) { id name } }
} }";

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_list_and_a_page_of_messages_take_as_many_statements_short_or_long() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::start(Database::create(engine).await, &[]).await;
        let (few, many) = (app.user("few").await, app.user("many").await);
        let (mut chats, mut answers) = (Vec::new(), Vec::new());
        for (who, number) in [(&few, 5), (&many, 100)] {
            for n in 0..number {
                let chat = who.group(&format!("Chat {n}"), &[&few, &many]).await;
                let first = who.send(&chat, "first").await;
                let input = json!({ "chatId": chat, "text": "second", "replyToId": first });
                let reply = who.mutate("sendMessage", input, "message { id }").await.text("sendMessage.message.id");
                who.mutate("addReaction", json!({ "messageId": reply, "emoji": "👍" }), "message { id }").await.data();
                // Only their own five are left to the one with few.
                let other = if number == 100 { &few } else { &many };
                other.mutate("leaveChat", json!({ "chatId": chat }), "removedUserId").await.data();
                chats.push(chat);
                answers.push(reply);
            }
        }
        let (short, long) = (&chats[0], &chats[chats.len() - 1]);
        for n in 0..98 {
            let id = many.send(long, &n.to_string()).await;
            if n % 10 == 0 {
                many.mutate("editMessage", json!({ "messageId": id, "text": "edited" }), "message { id }").await.data();
                many.mutate("addReaction", json!({ "messageId": id, "emoji": "🎉" }), "message { id }").await.data();
            }
        }
        few.mutate("editMessage", json!({ "messageId": answers[0], "text": "edited" }), "message { id }").await.data();
        let database = app.halt().await;
        let server = Logged::start(&database);
        // The first request of a person notes them; the ones that count come after.
        for who in [&few, &many] {
            who.at(server.addr).ask("{ viewer { user { id } } }").await.data();
        }
        let list = format!("{{ {CHAT_LIST} }}");
        let (answer, at_five) = server.statements(&few.token, &list, "list-5").await;
        assert_eq!(answer["data"]["chats"]["nodes"].as_array().unwrap().len(), 5);
        let (answer, at_hundred) = server.statements(&many.token, &list, "list-100").await;
        assert_eq!(answer["data"]["chats"]["nodes"].as_array().unwrap().len(), 100);
        assert_eq!(at_five, at_hundred, "statements of a chat list on {engine:?}");
        assert!((5..40).contains(&at_five), "{at_five}");

        let page = |chat: &str| format!("{{ chat(id: \"{chat}\") {{ {MESSAGES} }} }}");
        let (_, at_two) = server.statements(&few.token, &page(short), "page-2").await;
        let (answer, at_hundred) = server.statements(&many.token, &page(long), "page-100").await;
        assert_eq!(answer["data"]["chat"]["messages"]["nodes"].as_array().unwrap().len(), 100);
        assert_eq!(at_two, at_hundred, "statements of a page of messages on {engine:?}");
        drop(server);
        database.drop().await;
    }
}
