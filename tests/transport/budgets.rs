//! The budgets of operations: their cost, the bytes that they read and return, and their time.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::http::{Response, bearer, get, graphql_body, post, request};
use testkit::keys::sign_with_secret;
use testkit::{
    Database, Engine, Feed, HeldLock, SECRET, ServerProcess, TestApp, User, engine_test, postgres_test, wait_until,
};

/// The smallest budget that can be set.
const SMALL_BUDGET: usize = 64 * 1024;
/// The default limit of an operation's cost.
const DEFAULT_MAX_COST: u64 = 150_000;
/// The memory that the server may use for all attacks together, which ask for gigabytes.
const MAX_MEMORY_GROWTH: u64 = 512 * 1024 * 1024;

/// Returns a text of the maximum length, three bytes a character.
fn long_text(number: usize) -> String {
    format!("{number} ") + &"ა".repeat(7_990)
}

/// Creates a chat with long messages, and returns its id and that of the last message.
async fn chat_with_long_messages(alice: &User, count: usize) -> (String, String) {
    let chat = alice.group("Long", &[]).await;
    let mut last = String::new();
    for number in 0..count {
        last = alice.send(&chat, &long_text(number)).await;
    }
    (chat, last)
}

/// Asserts that a response consists of one error that names a budget.
#[track_caller]
fn assert_over_budget(body: &Value, limit: usize) {
    let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {body}"));
    assert_eq!((errors.len(), &body["data"]), (1, &Value::Null), "{body}");
    assert_eq!(errors[0]["extensions"], json!({ "code": "BAD_USER_INPUT", "limit": limit }));
    assert!(errors[0]["message"].as_str().unwrap().contains(&limit.to_string()), "{body}");
}

#[engine_test(settings = [("PARLOR_RESPONSE_BYTES", "65536")])]
async fn response_over_byte_budget_is_refused_on_every_transport(app: &TestApp) {
    let alice = app.user("alice").await;
    let (chat, message) = chat_with_long_messages(&alice, 3).await;
    let aliases = |count: usize, field: &str| (0..count).map(|n| format!("a{n}: {field} ")).collect::<String>();
    let long_alias = format!("{}: id", "a".repeat(3_000));
    let mut socket = alice.socket().await;
    for (selection, fits) in [
        (format!("chat(id: \"{chat}\") {{ messages(last: 2) {{ nodes {{ text }} }} }}"), true),
        (format!("chat(id: \"{chat}\") {{ messages(last: 3) {{ nodes {{ text }} }} }}"), false),
        (format!("chat(id: \"{chat}\") {{ messages(last: 3) {{ nodes {{ html }} }} }}"), false),
        (format!("message(id: \"{message}\") {{ {} }}", aliases(2, "text")), true),
        (format!("message(id: \"{message}\") {{ {} }}", aliases(3, "text")), false),
        (format!("message(id: \"{message}\") {{ {} }}", aliases(50, "html")), false),
        (format!("nodes(ids: [{0}, {0}, {0}]) {{ ... on Message {{ text }} }}", json!(message)), false),
        // No value is long, but the response as a whole is.
        (format!("nodes(ids: [{}]) {{ {long_alias} }}", format!("{}, ", json!(message)).repeat(50)), false),
    ] {
        let query = format!("{{ {selection} }}");
        let over_http = alice.ask(&query).await;
        assert_eq!(over_http.status, 200);
        socket.subscribe("1", &query, json!({})).await;
        let message = socket.recv().await;
        assert_eq!((&message["type"], &message["payload"]), (&json!("next"), &over_http.body), "{query}");
        assert_eq!(socket.recv().await, json!({ "id": "1", "type": "complete" }));
        let headers = [("authorization", bearer(&alice)), ("accept", "text/event-stream".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let events = post(app, &headers, graphql_body(&query, json!({}))).await;
        assert_eq!(events_data(&events)[0], over_http.body, "{query}");
        match fits {
            true => drop(over_http.data()),
            false => assert_over_budget(&over_http.body, SMALL_BUDGET),
        }
    }
}

/// Returns the data of the events in a finished event stream.
fn events_data(response: &Response) -> Vec<Value> {
    let text = std::str::from_utf8(&response.body).expect("text");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

/// Returns the payload of the next event that has a message or an error, which read positions do not.
async fn message_payload(feed: &mut Feed) -> Value {
    loop {
        let payload = feed.socket.recv().await["payload"].clone();
        if payload["errors"].is_array() || payload["data"]["chatFeed"]["message"].is_object() {
            return payload;
        }
    }
}

#[engine_test(settings = [("PARLOR_RESPONSE_BYTES", "65536")])]
async fn event_over_byte_budget_ends_its_subscription(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Events", &[&bob]).await;
    let subscription = |selection: &str| {
        format!(
            "subscription($chat: ID!) {{ chatFeed(chatId: $chat) {{ __typename
                ... on MessageUpserted {{ message {{ id {selection} }} }} }} }}"
        )
    };
    let variables = json!({ "chat": chat });
    // Two subscribers of one operation share its execution, and a field of the viewer prevents that.
    let large = subscription("a: text b: text c: text");
    let individual = subscription("a: text b: text c: text viewerCanEdit");
    let mut subscribers = Vec::new();
    for (user, query) in [(&alice, &large), (&bob, &large), (&bob, &individual), (&bob, &subscription("text"))] {
        let mut feed = user.subscribe(query, variables.clone()).await;
        assert_eq!(feed.next().await["__typename"], "FeedCaughtUp", "{query}");
        subscribers.push(feed);
    }
    let mut small = subscribers.pop().expect("the last subscriber");
    let first = alice.send(&chat, "short").await;
    for feed in subscribers.iter_mut().chain([&mut small]) {
        assert_eq!(message_payload(feed).await["data"]["chatFeed"]["message"]["id"], first);
    }
    let second = alice.send(&chat, &long_text(1)).await;
    for feed in &mut subscribers {
        assert_over_budget(&message_payload(feed).await, SMALL_BUDGET);
        assert_eq!(feed.socket.recv().await["type"], "complete");
    }
    assert_eq!(message_payload(&mut small).await["data"]["chatFeed"]["message"]["id"], second);
}

#[engine_test(settings = [("PARLOR_READ_BYTES", "65536")])]
async fn read_over_byte_budget_is_refused(app: &TestApp) {
    let moderator = app.user("mona").await;
    let (chat, message) = chat_with_long_messages(&moderator, 4).await;
    moderator.mutate_ok("pinMessage", json!({ "messageId": message })).await;
    let draft = "ა".repeat(9_000);
    moderator.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": draft })).await;
    // The draft is read with the chat only, and not with each list of its content.
    moderator.ask(&format!("{{ chat(id: \"{chat}\") {{ pinnedMessages {{ nodes {{ id }} }} }} }}")).await.data();
    let messages = format!("chat(id: \"{chat}\") {{ messages(first: LIMIT) {{ nodes {{ id }} }} }}");
    // A page reads one message more than it shows.
    moderator.ask(&format!("{{ {} }}", messages.replace("LIMIT", "1"))).await.data();
    let reply = moderator.ask(&format!("{{ {} }}", messages.replace("LIMIT", "4"))).await;
    assert_over_budget(&reply.body, SMALL_BUDGET);
    // The budget belongs to one operation.
    for _ in 0..4 {
        moderator.ask(&format!("{{ {} }}", messages.replace("LIMIT", "1"))).await.data();
    }
}

/// Returns the cost that the response reports.
#[track_caller]
fn reported_cost(body: &Value) -> (u64, u64) {
    let cost = &body["extensions"]["cost"];
    let number = |name: &str| cost[name].as_u64().unwrap_or_else(|| panic!("no cost: {body}"));
    (number("requested"), number("limit"))
}

async fn ask_for_cost(app: &TestApp, user: &User, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables, "extensions": { "cost": true } }).to_string();
    post(app, &[("authorization", &bearer(user))], body).await.json()
}

#[engine_test]
async fn refused_cost_is_named_with_its_limit(app: &TestApp) {
    let alice = app.user("alice").await;
    let query = "{ chats(first: 100) { nodes { messages(first: 100) { nodes { text html } }
        again: messages(first: 100) { nodes { text html } } } } }";
    let expected = 1 + 100 * (1 + 2 * (1 + 100 * (1 + 4 + 8)));
    let reply = alice.ask(query).await;
    reply.assert_error("BAD_USER_INPUT");
    assert_eq!((reply.body.get("data"), reply.body.get("extensions")), (None, None));
    let error = &reply.body["errors"][0];
    assert_eq!(reported_cost(error), (expected, DEFAULT_MAX_COST));
    let message =
        format!("the operation is too complex: its cost is {expected}, and at most {DEFAULT_MAX_COST} is allowed");
    assert_eq!(error["message"], message);
    let mut socket = alice.socket().await;
    socket.subscribe("1", query, json!({})).await;
    assert_eq!(socket.recv().await, json!({ "id": "1", "type": "error", "payload": [error] }));
    let asked = ask_for_cost(app, &alice, query, json!({})).await;
    assert_eq!(reported_cost(&asked), (expected, DEFAULT_MAX_COST));
}

#[engine_test]
async fn cost_is_reported_on_every_answer_if_the_client_asks(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Costs", &[]).await;
    let query = "{ chats(first: 3) { nodes { id } } }";
    assert_eq!(reported_cost(&ask_for_cost(app, &alice, query, json!({})).await), (7, DEFAULT_MAX_COST));
    for extensions in ["{}", "{\"cost\":false}", "{\"cost\":1}"] {
        let body = format!("{{ \"query\": {}, \"extensions\": {extensions} }}", json!(query));
        let response = post(app, &[("authorization", &bearer(&alice))], body).await;
        assert_eq!(response.json().get("extensions"), None, "{extensions}");
    }
    let parameters = [("query", query), ("extensions", "{\"cost\":true}")];
    let over_get = get(app, &[("authorization", &bearer(&alice))], &parameters).await.json();
    assert_eq!(reported_cost(&over_get), (7, DEFAULT_MAX_COST));
    let mutation = format!("mutation {{ sendMessage(input: {{ chatId: \"{chat}\", text: \"x\" }}) {{ replayed }} }}");
    assert_eq!(reported_cost(&ask_for_cost(app, &alice, &mutation, json!({})).await).0, 2);
}

#[engine_test]
async fn cost_is_reported_on_events_to_the_subscribers_that_ask(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Costs", &[]).await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename
        ... on MessageUpserted { message { id } } } }";
    let mut feeds = Vec::new();
    // The first two share their executions, and the third one has the same operation.
    for (extensions, cost) in
        [(json!({ "cost": true }), Some(4)), (json!({ "cost": true }), Some(4)), (json!({}), None)]
    {
        let mut socket = alice.socket().await;
        let payload = json!({ "query": query, "variables": { "chat": chat }, "extensions": extensions });
        socket.send(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        feeds.push((Feed::new(socket), cost));
    }
    for event in 0..3 {
        for (feed, cost) in &mut feeds {
            let payload =
                if event == 0 { feed.socket.recv().await["payload"].clone() } else { message_payload(feed).await };
            assert_eq!(payload["extensions"]["cost"]["requested"].as_u64(), *cost, "{payload}");
        }
        alice.send(&chat, "event").await;
    }
}

#[engine_test]
async fn nodes_cost_counts_ids(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Nodes", &[]).await;
    let selection = "... on Chat { messages(first: 50) { nodes { id text } } }";
    let literal = |count: usize| format!("{{ nodes(ids: {}) {{ {selection} }} }}", json!(vec![&chat; count]));
    let one = reported_cost(&ask_for_cost(app, &alice, &literal(1), json!({})).await).0 - 1;
    for count in [0, 2, 60, 100] {
        let in_variables = format!("query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {selection} }} }}");
        let variables = json!({ "ids": vec![&chat; count] });
        let costs = [
            reported_cost(&ask_for_cost(app, &alice, &literal(count), json!({})).await).0,
            reported_cost(&ask_for_cost(app, &alice, &in_variables, variables).await).0,
        ];
        assert_eq!(costs, [1 + one * count as u64; 2], "{count} ids");
    }
    let searches: String =
        (0..45).map(|n| format!("a{n}: searchMessages(query: \"x\") {{ nodes {{ id }} }} ")).collect();
    alice.ask(&format!("{{ {searches} }}")).await.assert_error("BAD_USER_INPUT");
}

#[engine_test]
async fn memory_stays_bounded_when_pages_of_long_texts_are_requested(engine: Engine) {
    let database = Database::create(engine).await;
    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    let (chat, message) = chat_with_long_messages(&alice, 100).await;
    let database = app.shut_down().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("PARLOR_JWT_SECRET", SECRET),
        // The cost must not be what prevents the attacks.
        ("PARLOR_MAX_COMPLEXITY", "10000000"),
    ];
    let server = ServerProcess::start(folder.path(), &settings);
    let claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "exp": 4_000_000_000_u64 });
    let alice = User::new(server.addr, "alice", sign_with_secret(claims));
    alice.ask("{ viewer { user { id } } }").await.data();
    let (chats, messages) = (json!(vec![&chat; 100]), json!(vec![&message; 100]));
    let pages: String = (1..40).map(|n| format!("p{n}: messages(last: {}) {{ nodes {{ id }} }} ", 100 - n)).collect();
    let texts: String = (0..40).map(|n| format!("t{n}: text h{n}: html ")).take(24).collect();
    let attacks = [
        format!("{{ nodes(ids: {chats}) {{ ... on Chat {{ messages(last: 100) {{ nodes {{ text html }} }} }} }} }}"),
        format!("{{ nodes(ids: {chats}) {{ ... on Chat {{ {pages} }} }} }}"),
        format!("{{ nodes(ids: {messages}) {{ ... on Message {{ {texts} }} }} }}"),
        format!("{{ chat(id: {}) {{ messages(last: 100) {{ nodes {{ chat {{ {pages} }} }} }} }} }}", json!(chat)),
    ];
    assert!(attacks.iter().all(|attack| attack.len() < 8_000));
    let before = server.resident_memory();
    let replies = join_all(attacks.iter().flat_map(|attack| [alice.ask(attack), alice.ask(attack)])).await;
    let growth = server.resident_memory().saturating_sub(before);
    for reply in replies {
        let extensions = &reply.body["errors"][0]["extensions"];
        // The operations of one user share a part of the memory, so some of them may have to wait.
        match extensions["code"].as_str() {
            Some("BAD_USER_INPUT") => assert!(extensions["limit"].is_u64(), "{}", reply.body),
            _ => drop(reply.retry_after()),
        }
    }
    assert!(growth < MAX_MEMORY_GROWTH, "{} MiB", growth / 1024 / 1024);
    alice.ask("{ viewer { user { id } } }").await.data();
    server.process.stop("TERM").await;
    database.drop().await;
}

/// Takes a lock that stops all statements that need the messages.
async fn lock_messages(database: &Database) -> HeldLock {
    HeldLock::take(database, "BEGIN IMMEDIATE", "BEGIN; LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await
}

/// Asserts that an operation was given up, and returns the error's message.
#[track_caller]
fn deadline_message(body: &Value) -> String {
    assert_eq!(body["data"], Value::Null, "{body}");
    let error = &body["errors"][0];
    assert_eq!(error["extensions"], json!({ "code": "UNAVAILABLE", "retryAfterMs": 1_000 }), "{body}");
    error["message"].as_str().expect("a message").to_owned()
}

#[engine_test(settings = [("PARLOR_MUTATION_SECONDS", "1")])]
async fn mutation_beyond_its_deadline_may_still_be_carried_out(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Slow", &[]).await;
    let lock = lock_messages(&app.database).await;
    let input = json!({ "chatId": chat, "text": "late" });
    let over_http = alice.mutate_returning("sendMessage", input, "message { id }").await;
    let message = deadline_message(&over_http.body);
    assert!(message.contains("1 second") && message.contains("may have been carried out"), "{message}");
    lock.release().await;
    let count = "SELECT count(*) FROM messages WHERE text = 'late'";
    wait_until("the message is stored", async || app.database.query_number(count).await == 1).await;
}

#[postgres_test]
async fn query_beyond_its_deadline_is_given_up() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[("PARLOR_QUERY_SECONDS", "1")]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Slow", &[]).await;
    let query = format!("{{ chat(id: \"{chat}\") {{ messages {{ nodes {{ id }} }} }} }}");
    let lock = lock_messages(&app.database).await;
    let mut socket = alice.socket().await;
    socket.subscribe("1", &query, json!({})).await;
    let over_http = alice.ask(&query).await;
    assert!(deadline_message(&over_http.body).contains("1 second"));
    let over_socket = socket.recv().await;
    assert_eq!((&over_socket["type"], &over_socket["payload"]), (&json!("next"), &over_http.body));
    assert_eq!(socket.recv().await["type"], "complete");
    lock.release().await;
    alice.ask(&query).await.data();
    app.stop().await;
}

#[engine_test]
async fn document_without_token_is_not_compared_with_the_schema(app: &TestApp) {
    let refusal = json!({
        "errors": [{ "message": "a token is needed", "extensions": { "code": "UNAUTHENTICATED" } }]
    });
    for document in [
        "{ chats { nodes { id } } }",
        "{ chatz { nodes { id } } }",
        "{ chats { nodes { id nothing } } }",
        "{ chats(nothing: 1) { nodes { id } } }",
        "{ chats(first: \"text\") { nodes { id } } }",
        "{ chats { nodes { members { nodes { chat { members { nodes { chat { members { nodes { id } } } } } } } } } } }",
        "query($a: ChatFilter) { __typename }",
        "query($a: Nothing) { __typename }",
        "{ __typename ... on Chat { id } }",
        "{ __typename } fragment F on Nothing { id }",
        "query A { __typename } query B { viewer { user { id } } }",
        "mutation { sendMessage(input: { chatId: \"1\", text: \"x\" }) { replayed } }",
        "mutation { sendMassage { id } }",
        "subscription { inboxFeed { __typename } }",
        "subscription { inboxFood { __typename } }",
    ] {
        let body = json!({ "query": document, "operationName": document.starts_with("query A").then_some("A") });
        for (accept, status) in [("application/json", 200), ("application/graphql-response+json", 400)] {
            let response = post(app, &[("accept", accept)], body.to_string()).await;
            assert_eq!((response.status, response.json()), (status, refusal.clone()), "{document}");
        }
        let hash = [("accept", "text/event-stream")];
        assert_eq!(events_data(&post(app, &hash, body.to_string()).await)[0], refusal, "{document}");
    }
    // A document that does not depend on the schema is answered, and so is a token that is not valid.
    for document in ["{ __typename }", "query($n: String!) { __type(name: $n) { name } }"] {
        let response = post(app, &[], graphql_body(document, json!({ "n": "Chat" }))).await.json();
        assert_eq!(response.get("errors"), None, "{response}");
    }
    let invalid = [("authorization", "Bearer nonsense"), ("content-type", "application/json")];
    let response = request(app, Method::POST, "/graphql", &invalid, graphql_body("{ chatz }", json!({}))).await;
    assert_eq!((response.status, response.code().as_str()), (401, "UNAUTHENTICATED"));
    // With a token, the document is compared with the schema.
    let alice = app.user("alice").await;
    alice.ask("{ chatz { nodes { id } } }").await.assert_error("BAD_USER_INPUT");
}
