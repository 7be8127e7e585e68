//! Adversarial values in every argument of the schema.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use testkit::schema::{KnownIds, Probe, Schema};
use testkit::{Reply, TestApp, User, engine_test};

/// Returns texts that have broken software before.
fn texts() -> Vec<String> {
    let short = [
        "\0",
        "a\0b",
        "\0\0\0",
        "\u{1}\u{1f}\u{7f}\u{85}",
        "\r\n",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}rtl",
        "\u{10ffff}",
        "\u{fffd}",
        "",
        " ",
        "\\",
        "\"",
        "'",
        "%",
        "_",
        "\\%",
        "%s%n",
        "'; DROP TABLE messages; --",
        "$1",
        "?",
        "::uuid",
        "{}",
        "null",
        "-1",
        "NaN",
        "9223372036854775808",
        "chat_",
        "msg_",
        "member_",
        "org_",
        "org_\0",
        "http://",
        "https://x\0y",
        "javascript:alert(1)",
        "👨\u{200d}👩",
    ];
    let mut texts: Vec<String> = short.map(str::to_owned).into();
    texts.extend([
        "e\u{301}".repeat(4_000),
        "x".repeat(100_000),
        "ü".repeat(256),
        "https://".to_owned() + &"x".repeat(3_000),
    ]);
    // Ids in the format of the server, with contents that it never creates.
    for (prefix, bytes) in [
        ("chat_", vec![]),
        ("chat_", vec![0; 15]),
        ("chat_", vec![0xff; 16]),
        ("chat_", vec![0; 17]),
        ("msg_", vec![0; 16]),
        ("msg_", [[0; 16].as_slice(), &i64::MAX.to_be_bytes()].concat()),
        ("msg_", [[0xff; 16].as_slice(), &i64::MIN.to_be_bytes()].concat()),
        ("member_", vec![0; 16]),
        ("member_", [[0; 16].as_slice(), b"a\0b"].concat()),
        ("member_", [[0; 16].as_slice(), &[0xff, 0xfe]].concat()),
        ("member_", vec![b'x'; 16 + 256]),
        ("call_", vec![0; 31]),
        ("call_", vec![0; 32]),
        ("participant_", vec![0; 32]),
        ("participant_", [[0; 32].as_slice(), b"a\0b"].concat()),
        ("participant_", [[0; 32].as_slice(), &[0xff, 0xfe]].concat()),
    ] {
        texts.push(prefix.to_owned() + &BASE64.encode(bytes));
    }
    texts
}

/// Returns ids of messages that a chat never had.
fn forged_messages(chat: &str) -> Vec<String> {
    let chat = BASE64.decode(chat.strip_prefix("chat_").expect("a chat's id")).expect("a chat's id");
    let id = |seq: i64| format!("msg_{}", BASE64.encode([&chat[..], &seq.to_be_bytes()].concat()));
    [i64::MIN, -1, 0, 1_000_000, i64::MAX].map(id).into()
}

/// Returns copies of a cursor, each with an invalid value in place of one that it contains.
fn forged_cursors(cursor: &str) -> Vec<String> {
    fn forge(value: &Value) -> Vec<Value> {
        let extremes = [
            i64::MIN,
            i64::MIN + 1,
            -1_000_000_000_000_000_000,
            -62_135_596_800_000_001,
            -1,
            0,
            1 << 53,
            253_402_300_800_000_000,
            8_000_000_000_000_000_000,
            i64::MAX - 1,
            i64::MAX,
        ];
        let mut forged: Vec<Value> = match value {
            Value::Number(_) => extremes.into_iter().map(Value::from).collect(),
            Value::String(_) => {
                ["\0", "", "\\%_", "\u{10ffff}", "00000000-0000-0000-0000-000000000000"].map(Value::from).into()
            }
            Value::Array(items) => {
                let forge_item = |(index, item)| forge(item).into_iter().map(move |forged| (index, forged));
                let replace_item = |(index, forged)| {
                    let mut items = items.clone();
                    items[index] = forged;
                    Value::Array(items)
                };
                items.iter().enumerate().flat_map(forge_item).map(replace_item).collect()
            }
            _ => Vec::new(),
        };
        forged.extend([json!(null), json!([]), json!({}), json!(1.5), json!(u64::MAX), json!(true), json!([[[]]])]);
        forged
    }
    let bytes = BASE64.decode(cursor).expect("a cursor");
    let mut forged: Vec<String> = match serde_json::from_slice(&bytes) {
        Ok(value) => forge(&value).iter().map(|value| BASE64.encode(value.to_string())).collect(),
        // The cursor of a feed consists of bytes: the chat, a version, and the version of a snapshot.
        Err(_) => [i64::MIN, -1, 0, 1_000_000, i64::MAX]
            .iter()
            .flat_map(|number| {
                [[&bytes[..16], &number.to_be_bytes()].concat(), [&bytes[..24], &number.to_be_bytes()].concat()]
            })
            .map(|bytes| BASE64.encode(bytes))
            .collect(),
    };
    forged.extend([
        cursor[1..].to_owned(),
        format!("{cursor}="),
        format!("{cursor}AAAA"),
        cursor.to_lowercase(),
        BASE64.encode("[".repeat(1_000)),
    ]);
    forged
}

async fn real_cursors(alice: &User, chat: &str) -> Vec<String> {
    let query = "query($chat: ID!) { chats { edges { cursor } } users { edges { cursor } } chat(id: $chat) { members { edges { cursor } } messages { edges { cursor } } } }";
    let reply = alice.ask_with(query, json!({ "chat": chat })).await;
    let paths = ["chats", "users", "chat.members", "chat.messages"];
    let mut cursors: Vec<_> = paths.iter().map(|path| reply.text(&format!("{path}.edges.0.cursor"))).collect();
    let mut feed = alice.feed(chat, None, None).await;
    cursors.push(feed.next().await["cursor"].as_str().expect("a cursor").to_owned());
    cursors
}

/// Returns the payload of the first message of a subscription, or null if none arrives within a time.
async fn first_payload(alice: &User, query: &str, variables: Value, timeout: Duration) -> Value {
    let mut socket = alice.socket().await;
    socket.subscribe("1", query, variables).await;
    let message = tokio::time::timeout(timeout, socket.recv()).await.unwrap_or_default();
    match message["type"].as_str() {
        Some("error") => json!({ "errors": message["payload"] }),
        _ => message["payload"].clone(),
    }
}

/// Executes an operation, and asserts that each of its errors has an expected code.
async fn execute(alice: &User, probe: &Probe, variables: Value) -> Value {
    let printed = variables.to_string().chars().take(300).collect::<String>();
    let body = match probe.is_subscription {
        // A subscription to unknown users has no events, so only the time ends the wait for an error.
        true if probe.name == "Subscription.presence" => {
            first_payload(alice, &probe.query, variables, Duration::from_millis(500)).await
        }
        true => first_payload(alice, &probe.query, variables, Duration::from_secs(5)).await,
        false => {
            let reply: Reply = alice.ask_with(&probe.query, variables).await;
            assert!(matches!(reply.status, 200 | 400), "{}: {printed}: {}", probe.name, reply.body);
            reply.body
        }
    };
    for error in body["errors"].as_array().into_iter().flatten() {
        let code = error["extensions"]["code"].as_str();
        let expected = [
            "BAD_USER_INPUT",
            "NOT_FOUND",
            "FORBIDDEN",
            "CONFLICT",
            "RATE_LIMITED",
            "PLAN_REQUIRED",
            "PAYLOAD_TOO_LARGE",
        ];
        assert!(code.is_some_and(|code| expected.contains(&code)), "{}: {printed}: {error}", probe.name);
    }
    body
}

async fn create_known(app: &TestApp) -> (User, KnownIds) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.chat("CHANNEL", "Fortress", &[&bob]).await;
    let message = alice.send(&chat, "hello").await;
    let member = alice
        .ask_with("query($chat: ID!) { chat(id: $chat) { viewerMembership { id } } }", json!({ "chat": chat }))
        .await;
    let call = alice.start_call(&chat).await;
    let member = member.text("chat.viewerMembership.id");
    (alice, KnownIds { chat, message, member, user: "bob".into(), call: call.call, participant: call.participant })
}

#[engine_test]
async fn argument_value_never_causes_internal_error(app: &TestApp) {
    let (alice, known) = create_known(app).await;
    let schema = Schema::read();
    let probes = schema.probes(&known);
    assert!(probes.len() >= 24, "{} fields", probes.len());

    let text_values: Vec<Value> = texts().into_iter().chain(forged_messages(&known.chat)).map(Value::from).collect();
    let cursors: Vec<Value> = real_cursors(&alice, &known.chat)
        .await
        .iter()
        .flat_map(|cursor| forged_cursors(cursor))
        .map(Value::from)
        .collect();
    let numbers = json!([
        -1,
        0,
        101,
        2_147_483_647,
        -2_147_483_648_i64,
        2_147_483_648_i64,
        i64::MIN,
        u64::MAX,
        1e308,
        1.5,
        "1",
        true,
        [],
        {}
    ]);
    let numbers = numbers.as_array().expect("a list");
    let other_types = json!([null, 7, 1.5, true, [], [[]], ["x"], {}, { "a": 1 }, [null]]);
    let other_types = other_types.as_array().expect("a list");
    let invalid_values = |name: &str, ty: &str| match (ty, name) {
        ("Int" | "Float", _) => numbers.clone(),
        ("String", "after" | "before") => [&text_values[..], &cursors, other_types].concat(),
        ("String" | "ID" | "URL" | "DateTime", _) => [&text_values[..], other_types].concat(),
        _ => [&text_values[..3], other_types].concat(),
    };
    let mut case_count = 0;
    for probe in &probes {
        let cases = schema.invalid_variables(probe, &known, &invalid_values);
        case_count += cases.len();
        stream::iter(cases)
            .for_each_concurrent(8, async |variables| drop(execute(&alice, probe, variables).await))
            .await;
    }
    assert!(case_count > 1_500, "{case_count} cases");

    // The server still works. With valid arguments each operation succeeds, so only the values were rejected before.
    assert_eq!(
        alice
            .ask_with("query($id: ID!) { message(id: $id) { chat { id } } }", json!({ "id": known.message }))
            .await
            .at("message.chat.id"),
        known.chat.as_str()
    );
    for probe in &probes {
        let variables = schema.valid_variables(probe, &known);
        let body = execute(&alice, probe, variables.clone()).await;
        assert!(body.get("data").is_some() || probe.is_subscription, "{}: {variables}: {body}", probe.name);
    }
}

/// Returns true for a character of [`texts`] that a reader can see.
fn is_visible(character: char) -> bool {
    !character.is_whitespace()
        && !character.is_control()
        && !matches!(character, '\u{feff}' | '\u{200d}' | '\u{202e}' | '\u{10ffff}')
}

#[engine_test]
async fn message_text_round_trips_unchanged(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Mirror", &[]).await;
    for text in texts() {
        let sent =
            alice.mutate_returning("sendMessage", json!({ "chatId": chat, "text": text }), "message { text }").await;
        match text {
            text if !text.contains(is_visible) || text.contains('\0') || text.chars().count() > 8_000 => {
                sent.assert_bad_input("text")
            }
            text => assert_eq!(sent.text("sendMessage.message.text"), text),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cursor_of_another_list_is_rejected() {
    let app = TestApp::sqlite(&[]).await;
    let (alice, known) = create_known(&app).await;
    let cursors = real_cursors(&alice, &known.chat).await;
    for (field, accepted) in [
        ("chats(after: $c)", 0),
        ("users(after: $c)", 1),
        ("chat(id: $id) { members(after: $c)", 2),
        ("chat(id: $id) { messages(before: $c)", 3),
    ] {
        let query = format!(
            "query($c: String, $id: ID!) {{ {field} {{ nodes {{ id }} }} {} __typename user(id: $id) {{ id }} }}",
            "}".repeat(field.matches('{').count())
        );
        for (index, cursor) in cursors.iter().enumerate() {
            let reply = alice.ask_with(&query, json!({ "c": cursor, "id": known.chat })).await;
            match index == accepted {
                true => drop(reply.data()),
                false => reply.assert_bad_input(if field.contains("before") { "before" } else { "after" }),
            }
        }
    }
    app.stop().await;
}
