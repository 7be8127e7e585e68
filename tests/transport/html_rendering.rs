//! Rendering of messages as HTML: once per text, and beside the threads that serve requests.

use std::fmt::Write;

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use testkit::metrics::fetch_metric;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, engine_test, http_client, wait_until};

/// The number of messages whose HTML is expensive: every character has to be escaped.
const MESSAGES: usize = 12;

/// Returns a query that selects the HTML of all messages many times.
fn query(chat: &str, times: usize) -> String {
    let mut query = String::from("{");
    for n in 0..times {
        write!(query, " a{n}: chat(id: \"{chat}\") {{ messages(last: 100) {{ nodes {{ html }} }} }}").unwrap();
    }
    query + " }"
}

/// A server process with expensive messages of Alice in a chat.
///
/// It is a process of its own, because the metrics belong to the process.
struct Server {
    process: ServerProcess,
    metrics_url: String,
    database: Database,
    alice: User,
    chat: String,
    _folder: TempDir,
}

impl Server {
    /// Starts the server with messages of this length.
    async fn start(engine: Engine, characters: usize) -> Self {
        let app = TestApp::start(Database::create(engine).await, &[]).await;
        let alice = app.user("alice").await;
        let chat = alice.group("Walk", &[]).await;
        for _ in 0..MESSAGES {
            alice.send(&chat, &"<".repeat(characters)).await;
        }
        let database = app.shut_down().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("DATABASE_URL", database.url.as_str()),
            ("PARLOR_JWT_SECRET", SECRET),
            ("PARLOR_METRICS_ADDR", "127.0.0.1:0"),
        ];
        let process = ServerProcess::start(folder.path(), &settings);
        let (metrics_url, alice) = (process.next_metrics_url(), alice.at(process.addr));
        Self { process, metrics_url, database, alice, chat, _folder: folder }
    }

    async fn renders(&self) -> f64 {
        fetch_metric(&self.metrics_url, "parlor_message_renders_total").await
    }

    async fn end(self) {
        self.process.kill();
        self.database.drop().await;
    }
}

#[engine_test]
async fn text_is_rendered_once_for_all_operations(engine: Engine) {
    let server = Server::start(engine, 1_000).await;
    let (alice, chat) = (&server.alice, &server.chat);
    let query = query(chat, 20);
    let replies = join_all((0..4).map(|_| alice.ask(&query))).await;
    let expected = format!("<p>{}</p>", "&lt;".repeat(1_000));
    for reply in &replies {
        for n in [0, 19] {
            let nodes = reply.at(&format!("a{n}.messages.nodes")).as_array().unwrap();
            let html: Vec<_> = nodes.iter().filter_map(|node| node["html"].as_str()).collect();
            assert_eq!(html, vec![expected.as_str(); MESSAGES]);
        }
    }
    assert_eq!(server.renders().await, MESSAGES as f64);
    // Changes of other things than the text do not render it again.
    let last = alice.fetch_chat(chat, "messages(last: 1) { nodes { id } }").await;
    let last = last["messages"]["nodes"][0]["id"].as_str().unwrap().to_owned();
    alice.mutate_ok("addReaction", json!({ "messageId": last, "emoji": "👍" })).await;
    alice.mutate_ok("pinMessage", json!({ "messageId": last })).await;
    alice.ask(&query).await.data();
    assert_eq!(server.renders().await, MESSAGES as f64);
    alice.mutate_ok("editMessage", json!({ "messageId": last, "text": "*new*" })).await;
    assert_eq!(alice.fetch_message(&last, "html").await["html"], "<p><em>new</em></p>");
    assert_eq!(server.renders().await, MESSAGES as f64 + 1.0);
    server.end().await;
}

#[engine_test]
async fn subscriptions_render_no_text_again(engine: Engine) {
    const SUBSCRIPTIONS: usize = 10;
    let server = Server::start(engine, 1_000).await;
    let (alice, chat) = (&server.alice, &server.chat);
    let mut feeds = Vec::new();
    for n in 0..SUBSCRIPTIONS {
        // The alias makes each of them an operation of its own, which shares no execution with the others.
        let query = format!(
            "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename ... on MessageUpserted {{
             message {{ f{n}: html chat {{ messages(last: 100) {{ nodes {{ html }} }} }} }} }} }} }}"
        );
        let mut feed = alice.subscribe(&query, json!({ "chat": chat })).await;
        feed.expect("FeedCaughtUp").await;
        feeds.push(feed);
    }
    alice.send(chat, "*new*").await;
    for (n, feed) in feeds.iter_mut().enumerate() {
        let event = feed.next_non_member_event().await;
        assert_eq!(event["message"][format!("f{n}")], "<p><em>new</em></p>", "{event}");
    }
    assert_eq!(server.renders().await, MESSAGES as f64 + 1.0);
    server.end().await;
}

#[engine_test]
async fn health_answers_while_texts_are_rendered(engine: Engine) {
    let server = Server::start(engine, 8_000).await;
    let (alice, chat) = (&server.alice, &server.chat);
    let health = format!("http://{}/healthz", server.process.addr);
    let (client, query) = (http_client(), query(chat, 1));
    let attack = join_all((0..8).map(|_| alice.ask(&query)));
    let checks = async {
        wait_until("the rendering begins", async || server.renders().await > 0.0).await;
        for _ in 0..10 {
            assert_eq!(client.get(&health).send().await.unwrap().status(), 200);
        }
        server.renders().await
    };
    let (replies, renders_at_last_check) = tokio::join!(attack, checks);
    assert!(renders_at_last_check < MESSAGES as f64, "the checks are answered before the messages are rendered");
    replies.iter().for_each(|reply| assert!(reply.data().is_object()));
    assert_eq!(server.renders().await, MESSAGES as f64);
    server.end().await;
}
