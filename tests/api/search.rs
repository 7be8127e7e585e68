//! Search: both engines find the same messages by the same words.

use parlor::domain::ids::OrganizationId;
use parlor::domain::search::SearchQuery;
use parlor::domain::search::terms::TermPrefix;
use parlor::storage::read_queue::Reader;
use serde_json::{Value, json};
use testkit::database::explain_postgres;
use testkit::{Database, Engine, Reply, TestApp, User, engine_test, pluck, postgres_test, wait_until};

const SEARCH: &str = "query($query: String!, $filter: MessageSearchFilter, $first: Int, $after: String) {
    searchMessages(query: $query, filter: $filter, first: $first, after: $after) {
        nodes { id text } edges { cursor snippet node { id } } pageInfo { hasNextPage endCursor }
    } }";

async fn search(user: &User, query: &str, filter: Value) -> Reply {
    user.ask_with(SEARCH, json!({ "query": query, "filter": filter })).await
}

/// Returns the texts of the messages that are found, newest first.
async fn found(user: &User, query: &str) -> Vec<Value> {
    found_with(user, query, Value::Null).await
}

async fn found_with(user: &User, query: &str, filter: Value) -> Vec<Value> {
    pluck(search(user, query, filter).await.at("searchMessages.nodes"), "text")
}

const NO_RESULTS: [Value; 0] = [];

#[engine_test]
async fn search_matches_prefixes_without_case_and_accents(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for text in
        ["Café crème, at nine", "The cafeteria is closed", "Wi-Fi for the café is crème42", "Ünïcode ﬁne 日本語 straße"]
    {
        alice.send(&chat, text).await;
    }
    let (first, second, third, last) = (
        "Café crème, at nine",
        "The cafeteria is closed",
        "Wi-Fi for the café is crème42",
        "Ünïcode ﬁne 日本語 straße",
    );
    for (query, expected) in [
        ("cafe", vec![third, second, first]),
        ("CAFÉ", vec![third, second, first]),
        ("cafet", vec![second]),
        ("afe", vec![]),
        ("creme cafe", vec![third, first]),
        ("closed cafe", vec![second]),
        ("closed nine", vec![]),
        ("\"cafe\"", vec![third, first]),
        ("\"cafe creme\"", vec![first]),
        ("\"creme cafe\"", vec![]),
        ("\"the cafe\"", vec![third]),
        ("\"the cafe\" wi", vec![third]),
        ("\"cafeteria is closed", vec![second]),
        ("“cafe creme”", vec![first]),
        ("wi-f", vec![third]),
        ("wifi", vec![]),
        ("42", vec![]),
        ("creme4", vec![third]),
        ("unicode", vec![last]),
        ("FINE", vec![last]),
        ("strasse", vec![last]),
        ("straß", vec![last]),
        ("nine.", vec![first]),
        ("at, nine!", vec![first]),
    ] {
        assert_eq!(found(&alice, query).await, expected, "{query}");
    }
}

#[engine_test]
async fn search_rejects_empty_query_and_treats_operators_as_text(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "a b c near or not it's 100% done").await;
    let seventeen = vec!["a"; 17].join(" ");
    for query in ["", " \n", "\"", "\"\"", "'", "\\", "*", "():&|!<->", "%", "…", "\u{0}", &seventeen, &"x".repeat(201)]
    {
        search(&alice, query, Value::Null).await.assert_bad_input("query");
    }
    for (query, count) in [
        ("\" OR 1", 0),
        ("a:*", 1),
        ("a:* & b", 1),
        ("NEAR(", 1),
        ("NEAR(a b, 2)", 0),
        ("a OR nothing", 0),
        ("a NOT b", 1),
        ("it's", 1),
        ("it''s", 1),
        ("'; DROP TABLE messages; --", 0),
        ("c\\", 1),
        ("\\x", 0),
        ("words : a", 0),
        ("^a", 1),
        ("-a", 1),
        ("a <-> b", 1),
        ("!a", 1),
        ("{a}", 1),
        ("a* b*", 1),
        ("100%", 1),
        ("10_", 1),
        ("a\"b\"c", 1),
    ] {
        let reply = search(&alice, query, Value::Null).await;
        assert_eq!(reply.at("searchMessages.nodes").as_array().unwrap().len(), count, "{query}");
    }
    let sixteen = vec!["a"; 16].join(" ");
    assert_eq!(found(&alice, &sixteen).await.len(), 1);
    assert_eq!(found(&alice, &"ü".repeat(200)).await, NO_RESULTS);
}

#[engine_test]
async fn search_filter_narrows_results(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    alice.send(&walk, "word one").await;
    app.advance(10);
    let middle = app.time_in(0);
    app.advance(10);
    bob.send(&walk, "word two").await;
    alice.send_message(&run, json!({ "text": "word three", "mentionIds": ["bob"] })).await;
    alice.send_message(&run, json!({ "text": "word four", "mentionsEveryone": true })).await;
    let poll = json!({ "question": "Where to?", "options": ["hill", "lake"] });
    alice.send_message(&run, json!({ "text": "word five", "poll": poll })).await;
    let location = json!({ "latitude": 1.5, "longitude": 2.5, "name": "word" });
    alice.send_message(&run, json!({ "text": "word six", "location": location })).await;
    alice.send_message(&run, json!({ "poll": poll })).await;
    for (filter, expected) in [
        (json!({}), "six five four three two one"),
        (json!({ "chatId": walk }), "two one"),
        (json!({ "senderId": "bob" }), "two"),
        (json!({ "senderId": "nobody" }), ""),
        (json!({ "kinds": ["POLL"] }), "five"),
        (json!({ "kinds": ["LOCATION", "POLL"] }), "six five"),
        (json!({ "kinds": ["EMOJI"] }), ""),
        (json!({ "kinds": [] }), ""),
        (json!({ "hasAttachment": false }), "six five four three two one"),
        (json!({ "hasAttachment": true }), ""),
        (json!({ "mentionsMe": true }), "four three"),
        (json!({ "mentionsMe": false }), "six five four three two one"),
        (json!({ "since": middle }), "six five four three two"),
        (json!({ "until": middle }), "one"),
        (json!({ "since": middle, "until": middle }), ""),
        (json!({ "chatId": run, "senderId": "alice", "kinds": ["TEXT"], "mentionsMe": true }), "four three"),
    ] {
        let texts: Vec<_> = found_with(&bob, "word", filter.clone()).await;
        let texts: Vec<_> = texts.iter().map(|text| text.as_str().unwrap().trim_start_matches("word ")).collect();
        assert_eq!(texts.join(" "), expected, "{filter}");
    }
    search(&bob, "word", json!({ "chatId": "chat_nonsense" })).await.assert_error("NOT_FOUND");
    assert_eq!(found_with(&alice, "word", json!({ "mentionsMe": true })).await, ["word four"]);
}

#[engine_test]
async fn search_results_are_paged(app: &TestApp) {
    let alice = app.user("alice").await;
    let (walk, run) = (alice.group("Walk", &[]).await, alice.group("Run", &[]).await);
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(json!(alice.send(if n % 2 == 0 { &walk } else { &run }, "word").await));
    }
    ids.reverse();
    let (mut all, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = alice.ask_with(SEARCH, json!({ "query": "word", "first": 3, "after": after })).await;
        let page = page.at("searchMessages");
        all.extend(pluck(&page["nodes"], "id"));
        assert_eq!(
            pluck(&page["nodes"], "id"),
            page["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["id"].clone()).collect::<Vec<_>>()
        );
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        assert_eq!(all.len() % 3, 0);
    }
    assert_eq!(all, ids, "newest first over all chats");
    alice.ask_with(SEARCH, json!({ "query": "word", "first": 101 })).await.assert_bad_input("first");
    alice.ask_with(SEARCH, json!({ "query": "word", "after": "nonsense" })).await.assert_bad_input("after");
}

#[engine_test]
async fn search_snippet_marks_matches_without_other_markup(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "<b>Café</b> & <script>alert('crème')</script>\nat \"nine\"").await;
    let snippet = async |query: &str| search(&alice, query, Value::Null).await.text("searchMessages.edges.0.snippet");
    assert_eq!(
        snippet("cafe \"at nine\"").await,
        "&lt;b&gt;<mark>Café</mark>&lt;/b&gt; &amp; &lt;script&gt;alert(&#39;crème&#39;)&lt;/script&gt; <mark>at</mark> &quot;<mark>nine</mark>&quot;"
    );
    assert!(snippet("creme").await.contains("alert(&#39;<mark>crème</mark>&#39;)"));
    alice.send(&chat, &format!("{} needle {}", "straw ".repeat(500), "straw ".repeat(500))).await;
    let short = snippet("needle").await;
    assert!(short.starts_with('…') && short.ends_with('…') && short.contains("<mark>needle</mark>"), "{short}");
    assert!(short.chars().count() < 250, "{short}");
    alice.send(&chat, "<mark>forged</mark>").await;
    assert_eq!(snippet("forged").await, "&lt;mark&gt;<mark>forged</mark>&lt;/mark&gt;");
}

#[engine_test]
async fn edited_message_is_found_by_new_text(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "the hill").await;
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "the lake" })).await;
    assert_eq!(found(&bob, "hill").await, NO_RESULTS);
    assert_eq!(found(&bob, "lake").await, ["the lake"]);
    let other = alice.group("Run", &[]).await;
    alice.mutate_ok("forwardMessage", json!({ "messageId": id, "toChatId": other })).await;
    assert_eq!(found(&alice, "lake").await, ["the lake", "the lake"]);
    alice.send_message(&chat, json!({ "text": "lake aside", "threadRootId": id })).await;
    assert_eq!(found(&bob, "lake").await, ["lake aside", "the lake"], "search includes replies in threads");
    alice.delete_message(&id).await;
    assert_eq!(found(&bob, "lake").await, ["lake aside"]);
    assert_eq!(found(&bob, "walk").await, NO_RESULTS, "search excludes system messages");
    let emoji = alice.send(&chat, "👍").await;
    alice.mutate_ok("editMessage", json!({ "messageId": emoji, "text": "thumbs" })).await;
    assert_eq!(found(&bob, "thumbs").await, ["thumbs"]);
    alice.mutate_ok("editMessage", json!({ "messageId": emoji, "text": "👍" })).await;
    assert_eq!(found(&bob, "thumbs").await, NO_RESULTS);
}

#[engine_test]
async fn search_covers_only_current_memberships(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let all = ["chat.view", "chat.create_group"];
    let other = app.user_in("other", "bob", Some(&all)).await;
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let news = alice.chat("CHANNEL", "News", &[]).await;
    alice.send(&chat, "word").await;
    alice.send(&news, "word").await;
    let own = other.group("Own", &[]).await;
    assert_eq!(found(&other, "word").await, NO_RESULTS);
    other.send(&own, "word of theirs").await;
    assert_eq!(
        (found(&bob, "word").await.len(), found(&carol, "word").await.len()),
        (1, 1),
        "only members find the messages of a channel"
    );
    bob.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    alice.mutate_ok("removeMember", json!({ "chatId": chat, "userId": "carol" })).await;
    for user in [&bob, &carol] {
        assert_eq!(found(user, "word").await, NO_RESULTS);
        assert_eq!(found_with(user, "word", json!({ "chatId": chat })).await, NO_RESULTS);
        assert_eq!(found_with(user, "word", json!({ "chatId": news })).await, NO_RESULTS);
    }
    alice.add_member(&chat, "carol", "MEMBER").await;
    assert_eq!(found(&carol, "word").await, ["word"]);
    assert_eq!(found(&other, "word").await, ["word of theirs"]);
    assert_eq!(found_with(&other, "word", json!({ "chatId": chat })).await, NO_RESULTS);
    alice.mutate_ok("archiveChat", json!({ "chatId": chat, "archived": true })).await;
    assert_eq!(found(&carol, "word").await, ["word"], "search includes archived chats");
    let powerless = app.user_in("demo", "alice", Some(&["chat.create_group"])).await;
    search(&powerless, "word", Value::Null).await.assert_error("FORBIDDEN");
}

/// Returns the query for the number of messages in the full-text index.
fn indexed_messages(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "SELECT count(*) FROM message_words",
        Engine::Postgres => "SELECT count(*) FROM messages WHERE words IS NOT NULL",
    }
}

/// Empties the full-text index, as a migration does that changes what the index contains.
async fn empty_index(database: &Database) {
    let sqlite = "INSERT INTO message_words (message_words) VALUES ('delete-all')";
    database.execute_by_engine(sqlite, "UPDATE messages SET words = NULL").await;
}

#[engine_test]
async fn messages_sent_before_index_are_found_after_restart(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, "an old lighthouse").await;
    let database = app.shut_down().await;
    // The state that a server without the index left.
    empty_index(&database).await;
    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    wait_until("the message is indexed", async || found(&alice, "lighthouse").await == [json!("an old lighthouse")])
        .await;
    app.stop().await;
}

#[engine_test]
async fn index_is_completed_in_steps_while_the_server_serves(engine: Engine) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let alice = app.user("alice").await;
    let other = app.user_in("other", "bob", Some(&["chat.view", "chat.create_group"])).await;
    let (chat, others_chat) = (alice.group("Walk", &[]).await, other.group("Own", &[]).await);
    // More messages than one step indexes.
    for number in 0..230 {
        alice.send(&chat, &format!("lighthouse {number}")).await;
    }
    other.send(&others_chat, "lighthouse of theirs").await;
    let deleted = alice.send(&chat, "a deleted lighthouse").await;
    alice.mutate_ok("deleteMessage", json!({ "messageId": deleted })).await;
    let database = app.shut_down().await;
    empty_index(&database).await;
    database.start_reindexing().await;
    let app = TestApp::start(database, &[]).await;
    let (alice, other) = (app.user("alice").await, app.user_in("other", "bob", Some(&["chat.view"])).await);
    let sent_meanwhile = alice.send(&chat, "lighthouse, sent meanwhile").await;
    alice.mutate_ok("editMessage", json!({ "messageId": sent_meanwhile, "text": "lighthouse, edited" })).await;
    wait_until("all messages are indexed", async || {
        app.database.query_number("SELECT count(*) FROM search_reindexing").await == 0
    })
    .await;
    assert_eq!(found_with(&alice, "lighthouse", Value::Null).await[0], "lighthouse, edited");
    assert_eq!(app.database.query_number(indexed_messages(engine)).await, 232, "each message once");
    for query in ["\"lighthouse 0\"", "\"lighthouse 229\"", "edited"] {
        assert_eq!(found(&alice, query).await.len(), 1, "{query}");
    }
    assert_eq!(found(&alice, "deleted").await, NO_RESULTS);
    assert_eq!(found(&other, "lighthouse").await, ["lighthouse of theirs"]);
    app.stop().await;
}

#[engine_test]
async fn search_reads_only_index_entries_of_its_organization(app: &TestApp) {
    let alice = app.user("alice").await;
    let other = app.user_in("other", "bob", Some(&["chat.view", "chat.create_group"])).await;
    let (chat, others_chat) = (alice.group("Walk", &[]).await, other.group("Own", &[]).await);
    for number in 0..30 {
        alice.send(&chat, &format!("lighthouse keeper {number}")).await;
    }
    other.send(&others_chat, "a keeper").await;
    assert_eq!(found(&other, "lighthouse").await, NO_RESULTS);
    assert_eq!(found(&other, "keep").await, ["a keeper"]);
    // An engine reads the entries of the terms that a query names, or that begin with a prefix in it.
    for (query, organization, entries) in [
        ("lighthouse", "demo", 30),
        ("lighthouse", "other", 0),
        ("keep", "other", 1),
        ("\"keeper\"", "other", 1),
        ("l", "other", 0),
        ("lighthouse", "empty", 0),
    ] {
        let (parsed, prefix) = (SearchQuery::parse(query).unwrap(), TermPrefix::new(&organization.parse().unwrap()));
        let matches = match app.database.engine {
            Engine::Sqlite => format!("message_words MATCH '{}'", parsed.fts5(&prefix)),
            Engine::Postgres => format!("words @@ '{}'::tsquery", parsed.tsquery(&prefix).replace('\'', "''")),
        };
        let table = if app.database.engine == Engine::Sqlite { "message_words" } else { "messages" };
        let read = app.database.query_number(&format!("SELECT count(*) FROM {table} WHERE {matches}")).await;
        assert_eq!(read, entries, "{query} in {organization}");
    }
    // Terms and not rows decide what is read, so no term may belong to both organisations.
    let shared_terms = match app.database.engine {
        Engine::Sqlite => {
            app.database.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(message_words, 'instance')").await;
            "SELECT count(*) FROM (SELECT 1 FROM vocabulary JOIN messages ON messages.pk = vocabulary.doc \
             JOIN chats ON chats.id = messages.chat_id \
             GROUP BY vocabulary.term HAVING count(DISTINCT chats.organization_id) > 1)"
        }
        Engine::Postgres => {
            "SELECT count(*) FROM (SELECT 1 FROM messages CROSS JOIN unnest(words) \
             JOIN chats ON chats.id = messages.chat_id \
             GROUP BY lexeme HAVING count(DISTINCT chats.organization_id) > 1) AS shared"
        }
    };
    assert_eq!(app.database.query_number(shared_terms).await, 0);
}

/// The entries and the pages of the index that a search reads.
#[derive(Debug, PartialEq)]
struct IndexRead {
    entries: i64,
    pages: i64,
}

/// Returns what PostgreSQL reads of the index of words for a search in an organisation.
async fn index_read(client: &tokio_postgres::Client, query: &str, organization: &str) -> IndexRead {
    fn index_scan(node: &Value) -> Option<&Value> {
        let is_scan = node["Index Name"] == "messages_by_word";
        if is_scan { Some(node) } else { node["Plans"].as_array()?.iter().find_map(index_scan) }
    }
    let organization: OrganizationId = organization.parse().unwrap();
    let query = SearchQuery::parse(query).unwrap().tsquery(&TermPrefix::new(&organization)).replace('\'', "''");
    let statement = format!("SELECT bucket, chat_id, seq FROM messages WHERE words @@ '{query}'::tsquery");
    let plan = explain_postgres(client, "ANALYZE, BUFFERS", &statement).await;
    let scan = index_scan(&plan).unwrap_or_else(|| panic!("the index is not read: {plan}"));
    let number = |name: &str| scan[name].as_f64().unwrap_or_else(|| panic!("no {name}: {scan}")) as i64;
    IndexRead { entries: number("Actual Rows"), pages: number("Shared Hit Blocks") + number("Shared Read Blocks") }
}

/// FTS5's work is in no plan; the entries of its terms are counted by the test above.
#[postgres_test]
async fn search_reads_as_much_for_words_of_others_as_for_words_of_nobody() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[]).await;
    let alice = app.user("alice").await;
    let other = app.user_in("other", "bob", Some(&["chat.view", "chat.create_group"])).await;
    let (chat, others_chat) = (alice.group("Walk", &[]).await, other.group("Own", &[]).await);
    other.send(&others_chat, "a keeper").await;
    for number in 0..200 {
        alice.send(&chat, &format!("lighthouse {number} {}", "and its keeper ".repeat(20))).await;
    }
    let client = app.database.postgres_client().await;
    client.batch_execute("SET enable_seqscan = off").await.unwrap();
    assert_eq!(index_read(&client, "\"lighthouse\"", "demo").await.entries, 200);
    assert_eq!(index_read(&client, "keep", "other").await.entries, 1);
    for organization in ["other", "empty"] {
        let of_nobody = index_read(&client, "\"lighthousf\"", organization).await;
        assert_eq!(of_nobody.entries, 0);
        // The way from the root of the index to a leaf: the index is a few pages deep, and has no other list to read.
        assert!(of_nobody.pages <= 4, "{organization}: {of_nobody:?}");
        for query in ["\"lighthouse\"", "light", "\"199\""] {
            assert_eq!(index_read(&client, query, organization).await, of_nobody, "{query} in {organization}");
        }
    }
    app.stop().await;
}

#[engine_test(settings = [("PARLOR_READS_PER_USER", "2"), ("PARLOR_READS_PER_ORGANIZATION", "3")])]
async fn reads_beyond_bounds_wait_and_hold_up_nobody_else(app: &TestApp) {
    const READ: &str =
        "{ chats(first: 1) { nodes { title } } searchMessages(query: \"word\", first: 1) { nodes { id } } }";
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let other = app.user_in("other", "bob", None).await;
    let reader = |user: &str| Reader { organization: "demo".parse().unwrap(), user: Some(user.parse().unwrap()) };
    // Two slow reads of Alice.
    let slow = [app.app.reads.acquire(reader("alice")).await, app.app.reads.acquire(reader("alice")).await];
    let mut waiting = std::pin::pin!(alice.ask(READ));
    for _ in 0..3 {
        tokio::select! {
            biased;
            reply = &mut waiting => panic!("a read beyond the bound did not wait: {reply:?}"),
            reply = bob.ask(READ) => {
                reply.data();
            }
        }
    }
    // And one of Carol: now the organisation has as many as it may.
    let carol = app.app.reads.acquire(reader("carol")).await;
    let mut bob_waits = std::pin::pin!(bob.ask(READ));
    for _ in 0..3 {
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("a read beyond the bound of the user did not wait"),
            _ = &mut bob_waits => panic!("a read beyond the bound of the organisation did not wait"),
            reply = other.ask(READ) => {
                reply.data();
            }
        }
    }
    drop(carol);
    bob_waits.await.data();
    drop(slow);
    waiting.await.data();
}
