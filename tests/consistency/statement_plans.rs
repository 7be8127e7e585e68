//! The plans of the statements by which pages, feeds and searches are read: each reads a range of an index that begins
//! with the bucket.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl};
use serde_json::{Value, json};
use testkit::database::{explain_postgres, open_sqlite};
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, User, engine_test};

use super::query_counts::{CHAT_LIST, MESSAGE};

/// The tables that a distributed database has on each machine; their keys have no bucket.
const REFERENCE_TABLES: [&str; 7] = [
    "blocked_words",
    "cluster_state",
    "database_epoch",
    "organizations",
    "schema_version",
    "search_reindexing",
    "users",
];

/// A table or an index access of a plan.
#[derive(Debug)]
struct Access {
    table: String,
    /// The conditions by which an index is read; empty if the whole table is.
    conditions: String,
}

fn user(server: &ServerProcess, id: &str) -> User {
    let claims = json!({ "sub": id, "org": "demo", "name": id, "exp": 4_000_000_000_u64 });
    User::new(server.addr, id, sign_with_secret(claims))
}

/// Fills a chat with messages that have everything, and reads it in every way.
async fn write_and_read_chat(alice: &User, bob: &User) {
    let chat = alice.group("Walk", &[bob]).await;
    let send = async |user: &User, mut input: Value| {
        input["chatId"] = json!(chat);
        user.mutate_returning("sendMessage", input, "message { id poll { options { id } } }").await
    };
    let id = "sendMessage.message.id";
    let root = alice.send(&chat, "a lighthouse").await;
    let mut feed = bob.feed(&chat, None, None).await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].as_str().expect("a cursor").to_owned();
    drop(feed);
    let reply = json!({ "text": "in a thread", "threadRootId": root, "mentionIds": ["bob"], "nonce": "1" });
    let reply = send(alice, reply).await.text(id);
    send(bob, json!({ "text": "an answer", "replyToId": root, "mentionsEveryone": false })).await.data();
    let poll = send(alice, json!({ "poll": { "question": "More?", "options": ["yes", "no"] } })).await;
    let vote = json!({ "messageId": poll.at(id), "optionIds": [poll.at("sendMessage.message.poll.options.0.id")] });
    bob.mutate_returning("votePoll", vote, "message { id }").await.data();
    alice.mutate_ok("editMessage", json!({ "messageId": root, "text": "an edited lighthouse" })).await;
    alice.mutate_ok("pinMessage", json!({ "messageId": root })).await;
    bob.mutate_returning("addReaction", json!({ "messageId": root, "emoji": "👍" }), "message { id }").await.data();
    let deleted = alice.send(&chat, "never mind").await;
    alice.mutate_ok("deleteMessage", json!({ "messageId": deleted })).await;
    bob.mutate_ok("markThreadRead", json!({ "threadRootId": root, "upToMessageId": reply })).await;
    bob.feed(&chat, None, Some(&cursor)).await.catch_up().await;
    bob.feed(&chat, Some(2), None).await.catch_up().await;
    for query in [
        format!("{{ {CHAT_LIST} }}"),
        format!("{{ chat(id: \"{chat}\") {{ messages(last: 20) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}"),
        format!("{{ chat(id: \"{chat}\") {{ pinnedMessages(first: 20) {{ totalCount nodes {{ {MESSAGE} }} }} }} }}"),
        format!("{{ node(id: \"{root}\") {{ ... on Message {{ replies(last: 20) {{ nodes {{ {MESSAGE} }} }} }} }} }}"),
        "{ viewer { unread { chats messages mentions threads } } }".to_owned(),
        "{ searchMessages(query: \"light\", first: 20) { nodes { id } edges { snippet } } }".to_owned(),
        format!("{{ searchMessages(query: \"light\", filter: {{ chatId: \"{chat}\" }}) {{ nodes {{ id }} }} }}"),
        "{ searchMessages(query: \"\", filter: { senderId: \"alice\", mentionsMe: true }) { nodes { id } } }"
            .to_owned(),
    ] {
        bob.ask(&query).await.data();
    }
}

/// Returns the texts of the statements in the log, without those that begin and end transactions.
fn logged_statements(log: &str) -> BTreeSet<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let statements = lines.filter(|line| line["target"] == "parlor::sql");
    statements.map(|line| line["fields"]["sql"].as_str().expect("the text of a statement").to_owned()).collect()
}

/// Returns whether a statement means to read every bucket, as tasks of the server do.
fn reads_all_buckets(sql: &str) -> bool {
    sql.contains("bucket\" >= 0") || sql.contains("bucket` >= 0") || sql.contains("WHERE bucket >= 0")
}

/// Returns the tables behind the names by which a statement knows them.
fn tables_by_name(sql: &str) -> BTreeMap<String, String> {
    let words: Vec<String> =
        sql.split([' ', '(', ')', ',']).map(|word| word.trim_matches(['`', '"']).to_owned()).collect();
    let named = words.windows(4).filter(|words| matches!(words[0].as_str(), "FROM" | "JOIN" | "UPDATE"));
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    for words in named {
        let name = if words[2] == "AS" { &words[3] } else { &words[1] };
        tables.insert(name.clone(), words[1].clone());
    }
    tables
}

/// Returns how SQLite reads the tables of a statement.
fn sqlite_accesses(database: &Database, sql: &str) -> Vec<Access> {
    #[derive(QueryableByName)]
    struct Step {
        #[diesel(sql_type = Text)]
        detail: String,
    }
    let tables = tables_by_name(sql);
    let mut conn = open_sqlite(&database.sqlite_path());
    let steps: Vec<Step> =
        diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(&mut conn).unwrap_or_else(|e| panic!("{e}: {sql}"));
    let access = |step: &Step| {
        let (kind, rest) = step.detail.split_once(' ')?;
        let name = rest.split(' ').next()?;
        let table = tables.get(name)?.clone();
        // The index of words is read by a match, and the row that it refers to by its number.
        let is_read = matches!(kind, "SCAN" | "SEARCH") && table != "message_words" && !rest.contains("(rowid=?)");
        let conditions = rest.split_once('(').map(|(_, conditions)| conditions.to_owned()).unwrap_or_default();
        is_read.then_some(Access { table, conditions })
    };
    steps.iter().filter_map(access).collect()
}

/// Gives the values in a list of keys the types of their columns, which a statement without values does not have.
fn with_typed_keys(sql: &str) -> String {
    let mut parts = sql.split(" IN (SELECT column1");
    let mut typed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let columns = typed.rsplit_once('(').map_or("", |(_, columns)| columns).trim_end_matches(')');
        let types: Vec<&str> = columns
            .split(", ")
            .map(|column| match column.rsplit('.').next().unwrap_or(column).trim_matches('"') {
                "bucket" => "::int",
                "id" | "chat_id" | "call_id" => "::uuid",
                "seq" | "root_seq" | "nonce_hash" => "::bigint",
                _ => "::text",
            })
            .collect();
        let (values, rest) = part.split_once(") AS keys").expect("the end of the keys");
        let (columns, values) = values.split_once("(VALUES ").expect("values");
        let values: Vec<String> =
            values.split(", ").zip(types.iter().cycle()).map(|(value, kind)| add_type(value, kind)).collect();
        typed += &format!(" IN (SELECT column1{columns}(VALUES {}) AS keys{rest}", values.join(", "));
    }
    typed
}

fn add_type(value: &str, kind: &str) -> String {
    match value.strip_suffix(')') {
        Some(value) => format!("{value}{kind})"),
        None => format!("{value}{kind}"),
    }
}

/// Returns how PostgreSQL reads the tables of a statement for any values, if it has an index to choose.
async fn postgres_accesses(client: &tokio_postgres::Client, sql: &str) -> Vec<Access> {
    fn collect(node: &Value, table: &str, accesses: &mut Vec<Access>) {
        let table = node["Relation Name"].as_str().unwrap_or(table);
        let kind = node["Node Type"].as_str().expect("the type of a node");
        if matches!(kind, "Seq Scan" | "Index Scan" | "Index Only Scan" | "Bitmap Index Scan") {
            let conditions = node["Index Cond"].as_str().unwrap_or_default().to_owned();
            accesses.push(Access { table: table.to_owned(), conditions });
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            collect(child, table, accesses);
        }
    }
    let parameters = (1..).take_while(|number| sql.contains(&format!("${number}"))).count();
    let values = vec!["NULL"; parameters].join(", ");
    let execute = if parameters == 0 { "plan".to_owned() } else { format!("plan({values})") };
    let prepare = format!("PREPARE plan AS {}", with_typed_keys(sql));
    client.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{error:?}: {prepare}"));
    let plan = explain_postgres(client, "COSTS off", &format!("EXECUTE {execute}")).await;
    client.batch_execute("DEALLOCATE plan").await.expect("a prepared statement");
    let mut accesses = Vec::new();
    collect(&plan, "", &mut accesses);
    accesses
}

#[engine_test]
async fn read_of_a_page_is_a_range_of_an_index_that_begins_with_the_bucket(engine: Engine) {
    let database = Database::create(engine).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("PARLOR_JWT_SECRET", SECRET),
        ("PARLOR_LOG", "info,parlor::sql=trace"),
        ("PARLOR_LOG_FORMAT", "json"),
        ("PARLOR_MAX_COMPLEXITY", "10000000"),
    ];
    let mut server = ServerProcess::start(folder.path(), &settings);
    server.process.wait_until_ready(server.addr).await;
    let (alice, bob) = (user(&server, "alice"), user(&server, "bob"));
    for user in [&alice, &bob] {
        user.ask("{ viewer { user { id } } }").await.data();
    }
    write_and_read_chat(&alice, &bob).await;
    let statements = logged_statements(&server.log());
    server.kill();
    let selects = statements.iter().filter(|sql| sql.contains("SELECT") && !sql.starts_with("INSERT"));
    let selects: Vec<&String> = selects.filter(|sql| !reads_all_buckets(sql)).collect();
    let client = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some(database.postgres_client().await),
    };
    if let Some(client) = &client {
        // The tables are too small for an index to be worth it, and the plan has to hold for all values.
        client
            .batch_execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
            .await
            .expect("settings");
    }
    let mut read_tables: BTreeSet<String> = BTreeSet::new();
    for sql in selects {
        let accesses = match &client {
            None => sqlite_accesses(&database, sql),
            Some(client) => postgres_accesses(client, sql).await,
        };
        for Access { table, conditions } in accesses {
            let is_reference = REFERENCE_TABLES.contains(&table.as_str());
            let is_range = match engine {
                // Without statistics SQLite would take the bucket alone.
                Engine::Sqlite => conditions.starts_with("bucket=? AND"),
                Engine::Postgres => conditions.contains("bucket") || conditions.contains("@@"),
            };
            assert!(is_reference || is_range, "{table} is read by ({conditions}) in {sql}");
            read_tables.insert(table);
        }
    }
    for table in ["chats", "members", "messages", "mentions", "thread_members", "reactions", "votes", "revisions"] {
        assert!(read_tables.contains(table), "no plan reads {table}: {read_tables:?}");
    }
    database.drop().await;
}

#[tokio::test]
async fn sqlite_has_statistics_of_each_index_that_begins_with_the_bucket() {
    let app = TestApp::start(Database::create_sqlite(), &[]).await;
    let missing = "SELECT t.name || '.' || i.name AS line
        FROM pragma_table_list t, pragma_index_list(t.name) i, pragma_index_info(i.name) c
        WHERE t.schema = 'main' AND t.type = 'table' AND c.seqno = 0 AND c.name = 'bucket' AND NOT EXISTS (
            SELECT 1 FROM sqlite_stat1 s WHERE s.tbl = t.name AND s.idx IN (i.name, iif(i.origin = 'pk', t.name, ''))
        )";
    assert_eq!(app.database.query_lines(missing).await, Vec::<String>::new());
    assert!(app.database.query_number("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'messages'").await > 0);
    app.stop().await;
}
