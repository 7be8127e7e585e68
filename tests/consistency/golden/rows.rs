//! Every stored row, table by table, with the names of its columns.

use std::collections::BTreeMap;

use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use serde_json::{Value, json};
use tokio_postgres::NoTls;

use super::{FAR_FUTURE, compare, join_call, mutate, normalized, option_ids, permissions, policy, start_call};
use testkit::keys::sign_with_secret;
use testkit::{Database, Engine, TestApp, User, engine_test, wait_until};

#[engine_test]
async fn stored_rows_keep_their_spelling(engine: Engine) {
    let settings = [("PARLOR_CALL_RING_SECONDS", "600"), ("PARLOR_CALL_LOST_SECONDS", "60")];
    let app = TestApp::start(Database::create(engine).await, &settings).await;
    fill(&app).await;
    let database = app.shut_down().await;
    // The row of a migration, which is deleted when the index is complete.
    database.execute("DELETE FROM search_reindexing").await;
    database.start_reindexing().await;
    // The states of moves are set by commands, which need two databases.
    database
        .execute("UPDATE organizations SET move_state = 'moved', move_revision = 1, moved_to = 'https://example.org/'")
        .await;
    let tables = rows(&database).await;
    database.drop().await;
    assert_eq!(unfilled(&tables), Vec::<String>::new(), "tables and columns without a value on {engine:?}");
    let text = tables.iter().map(|(table, rows)| {
        let mut rows: Vec<String> = rows.iter().map(|row| normalized(row)).collect();
        if table == "call_signals" {
            rows = rows.iter().map(|row| without_fingerprint(row)).collect();
        }
        rows.sort();
        format!("# {table}\n{}\n\n", rows.join("\n"))
    });
    let text: String = text.collect();
    compare(&format!("{engine:?}.txt").to_lowercase(), &text);
}

/// Removes the fingerprint of a signal, its last column, which covers the random ids of connections.
fn without_fingerprint(row: &str) -> String {
    let (before, _) = row.split_once("\"fingerprint\"").expect("a fingerprint");
    format!("{before}\"fingerprint\"")
}

/// Fills each table with each spelling that the API can reach.
pub async fn fill(app: &TestApp) {
    let claims = json!({ "sub": "eve", "org": "demo", "name": "Eve", "picture": "https://example.org/eve.png",
        "exp": 4_000_000_000_u64, "iat": 1 });
    let eve = User::new(app.addr, "eve", sign_with_secret(claims));
    eve.ask("{ viewer { user { id } } }").await.data();
    let alice = app.user_in("demo", "alice", Some(&permissions())).await;
    let (bob, carol, dave) = (app.user("bob").await, app.user("carol").await, app.user("dave").await);
    let (alice, bob, carol, dave) = (&alice, &bob, &carol, &dave);

    let group = json!({ "kind": "GROUP", "title": "Walk", "memberIds": ["bob", "carol", "dave", "eve"],
        "category": "DEPARTMENT", "description": "Over the hill", "avatarUrl": "https://example.org/walk.png",
        "policy": policy(), "nonce": "walk" });
    let group = &mutate(alice, "createChat", group, "chat.id").await;
    let direct = &mutate(alice, "openDirectChat", json!({ "userId": "bob" }), "chat.id").await;
    let channel = json!({ "kind": "CHANNEL", "title": "News", "memberIds": [] });
    let channel = &mutate(alice, "createChat", channel, "chat.id").await;
    let archived = json!({ "kind": "GROUP", "title": "Old", "memberIds": [] });
    let archived = &mutate(alice, "createChat", archived, "chat.id").await;
    let ticket =
        json!({ "resource": { "type": "ticket", "id": "7" }, "title": "Ticket 7", "memberIds": ["alice", "carol"] });
    let ticket = &mutate(alice, "ensureResourceChat", ticket, "chat.id").await;
    let deleted = json!({ "kind": "GROUP", "title": "Gone", "memberIds": ["bob"], "nonce": "gone" });
    let deleted = &mutate(alice, "createChat", deleted, "chat.id").await;
    let changes = json!({ "chatId": archived, "title": "Older", "description": "Put away", "category": "OPERATIONAL",
        "avatarUrl": "https://example.org/old.png", "slowModeSeconds": 30, "historyForNewMembers": "SINCE_JOINED",
        "policy": [{ "action": "POST", "role": "OWNER" }] });
    for (user, field, input) in [
        (alice, "updateChat", changes),
        (alice, "updateChat", json!({ "chatId": ticket, "category": "CUSTOM" })),
        (alice, "archiveChat", json!({ "chatId": archived, "archived": true })),
        (alice, "removeMember", json!({ "chatId": archived, "userId": "bob", "ban": true, "reason": "Spam" })),
        (alice, "deleteChat", json!({ "chatId": deleted })),
        (bob, "joinChannel", json!({ "chatId": channel })),
        (alice, "addMembers", json!({ "chatId": channel, "userIds": ["carol", "dave"], "role": "MODERATOR" })),
        (alice, "changeMemberRole", json!({ "chatId": channel, "userId": "bob", "role": "ADMIN" })),
        (alice, "changeMemberRole", json!({ "chatId": channel, "userId": "carol", "role": "OWNER" })),
        (alice, "changeMemberRole", json!({ "chatId": channel, "userId": "dave", "role": "MEMBER" })),
        (alice, "changeMemberRole", json!({ "chatId": channel, "userId": "dave", "role": "MODERATOR" })),
        (alice, "removeMember", json!({ "chatId": group, "userId": "eve" })),
        (dave, "leaveChat", json!({ "chatId": group })),
    ] {
        user.mutate_ok(field, input).await;
    }

    let text = json!({ "text": "Hello **everybody**", "mentionIds": ["bob"], "nonce": "text" });
    let hello = &send(alice, group, text).await;
    send(bob, group, json!({ "text": "Hi", "replyToId": hello })).await;
    send(bob, group, json!({ "text": "In a thread", "threadRootId": hello, "alsoInChat": true })).await;
    let only_in_thread = json!({ "text": "Only there", "threadRootId": hello, "mentionIds": ["bob"] });
    send(carol, group, only_in_thread).await;
    send(carol, group, json!({ "text": "🎉" })).await;
    send(alice, group, json!({ "text": "All of you", "mentionsEveryone": true })).await;
    let location = json!({ "latitude": 47.5, "longitude": 8.25, "name": "Hill", "address": "Hill road 1" });
    let location = &send(carol, group, json!({ "location": location, "nonce": "location" })).await;
    let poll = json!({ "question": "When?", "options": ["now", "later"], "multipleChoice": true, "anonymous": true,
        "closesAt": FAR_FUTURE });
    let poll = &send(alice, group, json!({ "poll": poll, "nonce": "poll" })).await;
    let deleted = &send(carol, group, json!({ "text": "Never mind" })).await;
    for (user, field, input) in [
        (bob, "votePoll", json!({ "messageId": poll, "optionIds": option_ids(bob, poll).await })),
        (alice, "closePoll", json!({ "messageId": poll })),
        (carol, "addReaction", json!({ "messageId": hello, "emoji": "👍" })),
        (alice, "editMessage", json!({ "messageId": hello, "text": "Hello all" })),
        (alice, "editMessage", json!({ "messageId": hello, "text": "Hello to all" })),
        (alice, "pinMessage", json!({ "messageId": hello })),
        (bob, "markThreadRead", json!({ "threadRootId": hello })),
        (carol, "deleteMessage", json!({ "messageId": deleted })),
        (alice, "forwardMessage", json!({ "messageId": hello, "toChatId": direct })),
        (alice, "blockWords", json!({ "words": ["spam"], "action": "REJECT" })),
        (alice, "blockWords", json!({ "words": ["damn"], "action": "MASK" })),
    ] {
        user.mutate_ok(field, input).await;
    }
    for (message, resolution) in [(hello, None), (location, Some("DISMISSED")), (poll, Some("ACTION_TAKEN"))] {
        let report = json!({ "messageId": message, "reason": "Not nice" });
        let report = mutate(bob, "reportMessage", report, "reportId").await;
        if let Some(resolution) = resolution {
            alice.mutate_ok("resolveReport", json!({ "reportId": report, "resolution": resolution })).await;
        }
    }

    // One call for each reason to end, and two that do not end.
    let (ended, own, _) = start_call(alice, direct, "VIDEO").await;
    join_call(bob, &ended).await;
    let media = json!({ "audio": true, "video": false, "screen": true });
    let quality = json!({ "callId": ended, "participantId": own,
        "roundTripMs": 40.5, "packetLossPercent": 1.5, "bitrateKbps": 900.25 });
    alice.mutate_ok("updateCallMedia", json!({ "callId": ended, "participantId": own, "media": media })).await;
    alice.mutate_ok("reportCallQuality", quality).await;
    alice.mutate_ok("endCall", json!({ "callId": ended })).await;
    let (declined, ..) = start_call(alice, direct, "AUDIO").await;
    bob.mutate_ok("declineCall", json!({ "callId": declined })).await;
    let (busy, ..) = start_call(alice, direct, "AUDIO").await;
    bob.mutate_ok("declineCall", json!({ "callId": busy, "reason": "BUSY" })).await;
    let (cancelled, ..) = start_call(alice, direct, "AUDIO").await;
    alice.mutate_ok("endCall", json!({ "callId": cancelled })).await;
    start_call(alice, ticket, "AUDIO").await;
    alice.mutate_ok("removeMember", json!({ "chatId": ticket, "userId": "carol" })).await;
    let (failed, ..) = start_call(alice, direct, "AUDIO").await;
    app.advance(241);
    let query = "query($id: ID!) { call(id: $id) { endReason } }";
    let has_failed = async || alice.ask_with(query, json!({ "id": failed })).await.at("call.endReason") == "FAILED";
    wait_until("the call has failed", has_failed).await;
    let (active, _, from) = start_call(alice, channel, "AUDIO").await;
    let to = join_call(bob, &active).await;
    carol.mutate_ok("declineCall", json!({ "callId": active })).await;
    for (kind, payload) in [
        ("OFFER", json!({ "type": "offer", "sdp": "v=0\r\n" })),
        ("ANSWER", json!({ "type": "answer", "sdp": "v=0\r\n" })),
        ("ICE_CANDIDATES", json!([{ "candidate": "candidate:1", "sdpMid": "0" }])),
        ("RENEGOTIATE", json!({})),
    ] {
        let input = json!({ "callId": active, "fromConnectionId": from, "toConnectionId": to, "kind": kind,
            "payload": payload, "nonce": (kind == "OFFER").then_some("offer") });
        alice.mutate_ok("sendSignal", input).await;
    }
    // The feed's end is waited for, because it changes the row too.
    let query = "subscription($id: ID!, $connection: ID) { callFeed(callId: $id, connectionId: $connection) {
        __typename ... on FeedEvent { cursor } } }";
    let mut feed = alice.subscribe(query, json!({ "id": active, "connection": from })).await;
    feed.catch_up().await;
    drop(feed);
    let query = "SELECT count(*) FROM call_participants WHERE feed_id IS NOT NULL AND NOT listening";
    let is_closed = async || app.database.query_number(query).await == 1;
    wait_until("the end of the feed is recorded", is_closed).await;
    let query = "query($id: ID!) { call(id: $id) { participants { id } } }";
    let bobs = alice.ask_with(query, json!({ "id": active })).await.text("call.participants.1.id");
    let removal = json!({ "callId": active, "participantId": bobs, "forThisCall": true });
    alice.mutate_ok("removeFromCall", removal).await;
    let (left, own, _) = start_call(bob, direct, "AUDIO").await;
    join_call(alice, &left).await;
    bob.mutate_ok("leaveCall", json!({ "callId": left, "participantId": own })).await;

    let notification_level = |value: &str| json!({ "chatId": group, "notificationLevel": value });
    let settings = json!({ "chatId": direct, "mutedUntil": FAR_FUTURE, "pinned": true, "draft": "Dear Alice" });
    for (user, field, input) in [
        (bob, "updateMyMembership", settings),
        (bob, "updateMyMembership", notification_level("MENTIONS")),
        (carol, "updateMyMembership", notification_level("NONE")),
        (bob, "markDelivered", json!({ "upTo": [{ "chatId": group, "messageId": poll }] })),
        (bob, "markRead", json!({ "chatId": group, "private": true })),
        (carol, "markRead", json!({ "chatId": group })),
        (bob, "markUnread", json!({ "chatId": direct })),
        (alice, "silenceMember", json!({ "chatId": group, "userId": "carol", "until": FAR_FUTURE })),
        (alice, "revokeSessions", json!({ "userId": "eve" })),
    ] {
        user.mutate_ok(field, input).await;
    }
    // The server stores when a user was last seen after the last connection, or when it stops.
    drop(dave.socket().await);
}

async fn send(user: &User, chat: &str, mut input: Value) -> String {
    input["chatId"] = chat.into();
    mutate(user, "sendMessage", input, "message.id").await
}

/// Returns the column `line` of each row of a query.
async fn lines(database: &Database, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Line {
        #[diesel(sql_type = Text)]
        line: String,
    }
    match database.engine {
        Engine::Sqlite => {
            let file = database.url.strip_prefix("sqlite://").expect("the address of a file");
            let mut conn = SqliteConnection::establish(file).expect("the file opens");
            // The full-text index has no readable columns, only a vocabulary.
            conn.batch_execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, message_words, 'row')")
                .expect("the vocabulary");
            let lines = sql_query(sql).load::<Line>(&mut conn).expect(sql);
            lines.into_iter().map(|line| line.line).collect()
        }
        Engine::Postgres => {
            let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.expect("a connection");
            tokio::spawn(connection);
            let rows = client.query(sql, &[]).await.expect(sql);
            rows.iter().map(|row| row.get(0)).collect()
        }
    }
}

/// Returns each row of each table as JSON: keys are columns, values are as the engine stores them.
async fn rows(database: &Database) -> BTreeMap<String, Vec<String>> {
    let (columns, object) = match database.engine {
        Engine::Sqlite => (
            "SELECT t.name || ' ' || c.name || ' ' || c.type AS line
             FROM pragma_table_list t, pragma_table_info(t.name) c
             WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid",
            "json_object",
        ),
        Engine::Postgres => (
            "SELECT table_name || ' ' || column_name || ' ' || data_type AS line FROM information_schema.columns
             WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
            "json_build_object",
        ),
    };
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines(database, columns).await {
        let [table, column, kind] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let value = match (column, kind) {
            ("talked", _) => "CASE WHEN talked > 0 THEN 1 ELSE 0 END".to_owned(),
            ("message_key", _) => "'<key>'".to_owned(),
            // Diesel writes this time in a format of its own.
            ("run_on", _) => "'<time>'".to_owned(),
            // Each database draws its own number.
            ("epoch", _) => "1".to_owned(),
            ("policy" | "content" | "payload", "BLOB") => format!("json({column})"),
            ("fingerprint", "BLOB") => r"'\x' || lower(nullif(hex(fingerprint), ''))".to_owned(),
            (_, "BLOB") => format!("nullif(hex({column}), '')"),
            _ => format!("\"{column}\""),
        };
        tables.entry(table.to_owned()).or_default().push(format!("'{column}', {value}"));
    }
    if database.engine == Engine::Sqlite {
        tables.insert("vocabulary".to_owned(), vec!["'term', term, 'doc', doc, 'cnt', cnt".to_owned()]);
    }
    for (table, columns) in &mut tables {
        let sql = format!("SELECT CAST({object}({}) AS text) AS line FROM \"{table}\"", columns.join(", "));
        *columns = lines(database, &sql).await;
    }
    tables
}

/// Returns the tables without rows, and the columns that are null in every row.
fn unfilled(tables: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut unfilled = Vec::new();
    for (table, rows) in tables {
        let rows: Vec<BTreeMap<String, Value>> =
            rows.iter().map(|row| serde_json::from_str(row).expect("a row is an object")).collect();
        let Some(first) = rows.first() else {
            unfilled.push(table.clone());
            continue;
        };
        let empty = first.keys().filter(|column| rows.iter().all(|row| row[*column].is_null()));
        unfilled.extend(empty.map(|column| format!("{table}.{column}")));
    }
    unfilled
}
