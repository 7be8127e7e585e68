//! Execution of documents: results and errors, variables, and persisted queries.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::http::{bearer, get, post};
use testkit::{TestApp, engine_test};

/// Returns the extension that a document is stored under, or that replaces the document.
fn persisted_extension(query: &str) -> Value {
    let hash: String = Sha256::digest(query).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } })
}

#[engine_test]
async fn failed_field_is_null_beside_successful_fields(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Order", &[&bob]).await;
    let query = "mutation($chat: ID!) {
            first: sendMessage(input: { chatId: $chat, text: \"one\" }) { message { text } }
            second: sendMessage(input: { chatId: $chat, text: \" \" }) { message { text } }
            third: deleteMessage(input: { messageId: \"msg_none\" }) { message { id } }
            fourth: sendMessage(input: { chatId: $chat, text: \"two\" }) { message { text } }
        }";
    let reply = bob.ask_with(query, json!({ "chat": chat })).await;
    assert_eq!(reply.status, 200);
    let [one, two] = ["one", "two"].map(|text| json!({ "message": { "text": text } }));
    assert_eq!(reply.body["data"], json!({ "first": one, "second": null, "third": null, "fourth": two }));
    let errors: Vec<_> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (&error["path"], &error["extensions"]["code"]))
        .collect();
    assert_eq!(errors, [(&json!(["second"]), &json!("BAD_USER_INPUT")), (&json!(["third"]), &json!("NOT_FOUND"))]);

    // The response has the fields in the order of the query.
    let query = "query Q($chat: ID!) { z: __typename chat(id: $chat) { viewerCan { allowed } title lastMessage { sender { name id } text } id }
            users { nodes { name } } viewer { unread { messages chats } user { name id } } a: __typename ...F }
            fragment F on Query { m: user(id: \"bob\") { id } b: __typename }";
    let body = json!({ "query": query, "variables": { "chat": chat } }).to_string();
    let text = String::from_utf8(post(app, &[("authorization", &bearer(&alice))], body).await.body.to_vec()).unwrap();
    let mut offset = 0;
    for name in [
        "z",
        "chat",
        "viewerCan",
        "title",
        "lastMessage",
        "sender",
        "name",
        "id",
        "text",
        "id",
        "users",
        "nodes",
        "viewer",
        "unread",
        "messages",
        "chats",
        "user",
        "name",
        "id",
        "a",
        "m",
        "b",
    ] {
        let next = text[offset..]
            .find(&format!("\"{name}\":"))
            .unwrap_or_else(|| panic!("no {name} after {offset} in {text}"));
        offset += next + 1;
    }

    // An error in a non-null field replaces the nearest nullable field by null, and nothing above it.
    let reply = alice.ask("{ here: __typename chats(first: 101) { nodes { id } } }").await;
    reply.assert_bad_input("first");
    assert_eq!(reply.body["data"], json!(null), "chats is not nullable, so the data is null");
    let reply = alice
        .ask_with(
            "query($chat: ID!) { chat(id: $chat) { title messages(first: 101) { totalCount } } here: __typename }",
            json!({ "chat": chat }),
        )
        .await;
    reply.assert_bad_input("first");
    assert_eq!(reply.body["data"], json!({ "chat": null, "here": "Query" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_coerced_like_graphql_js() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chats =
        "query($first: Int, $kinds: [ChatKind!]) { chats(first: $first, filter: { kinds: $kinds }) { nodes { id } } }";
    for (variables, expected) in [
        (json!({ "first": 1.0, "kinds": "GROUP" }), None),
        (json!({ "first": null, "unknown": {} }), None),
        (
            json!({ "first": "1" }),
            Some("Variable \"$first\" got invalid value \"1\"; Int cannot represent non-integer value: \"1\""),
        ),
        (
            json!({ "first": 1.5 }),
            Some("Variable \"$first\" got invalid value 1.5; Int cannot represent non-integer value: 1.5"),
        ),
        (
            json!({ "first": 2_147_483_648_u32 }),
            Some(
                "Variable \"$first\" got invalid value 2147483648; Int cannot represent non 32-bit signed integer value: 2147483648",
            ),
        ),
        (
            json!({ "first": true }),
            Some("Variable \"$first\" got invalid value true; Int cannot represent non-integer value: true"),
        ),
        (
            json!({ "kinds": ["GROUP", null] }),
            Some(
                "Variable \"$kinds\" got invalid value null at \"kinds[1]\"; Expected non-nullable type \"ChatKind!\" not to be null.",
            ),
        ),
        (
            json!({ "kinds": ["HALL"] }),
            Some(
                "Variable \"$kinds\" got invalid value \"HALL\" at \"kinds[0]\"; Value \"HALL\" does not exist in \"ChatKind\" enum.",
            ),
        ),
    ] {
        let reply = alice.ask_with(chats, variables).await;
        match expected {
            None => assert_eq!(reply.at("chats.nodes"), &json!([])),
            Some(message) => {
                reply.assert_error("BAD_USER_INPUT");
                assert_eq!(reply.body["errors"][0]["message"], message);
                assert_eq!(reply.body.get("data"), None);
            }
        }
    }
    let open = "mutation($input: OpenDirectChatInput!) { openDirectChat(input: $input) { chat { id } } }";
    for (variables, message) in [
        (json!({}), "Variable \"$input\" of required type \"OpenDirectChatInput!\" was not provided."),
        (json!({ "input": null }), "Variable \"$input\" of non-null type \"OpenDirectChatInput!\" must not be null."),
        (
            json!({ "input": {} }),
            "Variable \"$input\" got invalid value {}; Field \"userId\" of required type \"ID!\" was not provided.",
        ),
        (
            json!({ "input": { "userId": "bob", "who": 1 } }),
            "Variable \"$input\" got invalid value { userId: \"bob\", who: 1 }; Field \"who\" is not defined by type \"OpenDirectChatInput\".",
        ),
        (
            json!({ "input": { "userId": false } }),
            "Variable \"$input\" got invalid value false at \"input.userId\"; ID cannot represent value: false",
        ),
        (
            json!({ "input": "bob" }),
            "Variable \"$input\" got invalid value \"bob\"; Expected type \"OpenDirectChatInput\" to be an object.",
        ),
    ] {
        assert_eq!(alice.ask_with(open, variables).await.body["errors"][0]["message"], message);
    }
    // async-graphql itself would execute this query: the argument may be null, but the variable may not.
    let strict = "query($search: String!) { users(search: $search) { nodes { id } } }";
    for variables in [json!({ "search": null }), json!({})] {
        assert_eq!(alice.ask_with(strict, variables).await.body.get("data"), None);
    }
    // A number is a valid id, and a default replaces a missing variable.
    let user = "query($id: ID! = \"alice\", $skip: Boolean! = true) { user(id: $id) { id name @skip(if: $skip) } }";
    assert_eq!(alice.ask(user).await.data(), &json!({ "user": { "id": "alice" } }));
    assert_eq!(alice.ask_with(user, json!({ "id": 7 })).await.data(), &json!({ "user": null }));
    assert_eq!(alice.ask("{ user(id: \"\\uD83D\\uDE00\") { id } }").await.data(), &json!({ "user": null }));
    app.stop().await;
}

/// The errors are those of graphql-js 16.15, except for a document without an operation.
#[tokio::test(flavor = "multi_thread")]
async fn error_of_the_parser_is_one_line_with_its_location() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    for (document, message, line, column) in [
        ("", "Syntax Error: Unexpected <EOF>.", 1, 1),
        ("{}", "Syntax Error: Expected Name, found \"}\".", 1, 2),
        ("query", "Syntax Error: Expected \"{\", found <EOF>.", 1, 6),
        ("query {\n  viewer {\n", "Syntax Error: Expected Name, found <EOF>.", 3, 1),
        ("{ viewer }}", "Syntax Error: Unexpected \"}\".", 1, 11),
        ("{ user(id: \"a) { id } }", "Syntax Error: Unterminated string.", 1, 24),
        (
            "{ user(id: 'a') { id } }",
            "Syntax Error: Unexpected single quote character ('), did you mean to use a double quote (\")?",
            1,
            12,
        ),
        ("{ user(id: 007) { id } }", "Syntax Error: Invalid number, unexpected digit after 0: \"0\".", 1, 13),
        ("{ a(b: \"\\x\") }", "Syntax Error: Invalid character escape sequence: \"\\x\".", 1, 9),
        ("{ \u{0} }", "Syntax Error: Unexpected character: U+0000.", 1, 3),
        (
            "query($a: Int = $b) { viewer { user { id } } }",
            "Syntax Error: Unexpected variable \"$b\" in constant value.",
            1,
            17,
        ),
        ("type A { a: Int }", "The \"A\" definition is not executable.", 1, 1),
        ("{ __typename } query A { __typename }", "This anonymous operation must be the only defined operation.", 1, 1),
        ("query A { __typename }\nquery A { __typename }", "There can be only one operation named \"A\".", 2, 1),
        ("fragment F on Query { __typename }", "Must provide an operation.", 1, 1),
        ("{ ...F } fragment F on Query { ...F }", "Cannot spread fragment \"F\" within itself.", 1, 35),
    ] {
        let reply = alice.ask(document).await;
        let expected = json!([{
            "message": message,
            "locations": [{ "line": line, "column": column }],
            "extensions": { "code": "BAD_USER_INPUT" },
        }]);
        assert_eq!(reply.body, json!({ "errors": expected }), "{document}");
    }
    let limited = alice.ask(&format!("{{ {} }}", "a: __typename\n".repeat(60))).await;
    assert_eq!(limited.body["errors"][0]["locations"], json!([{ "line": 51, "column": 2 }]), "{}", limited.body);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn block_string_with_escaped_quotation_marks_is_read_by_the_specification() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for (literal, text) in [
        (r#""""a \""" b""""#, r#"a """ b"#),
        (r#""""\""" is it""""#, r#"""" is it"#),
        ("\"\"\"\n    one \\\"\"\"\n      two\n    \"\"\"", "one \"\"\"\n  two"),
        (r#""""a \\n \"" b""""#, r#"a \\n \"" b"#),
    ] {
        let query = format!(
            "mutation {{ sendMessage(input: {{ chatId: \"{chat}\", text: {literal} }}) {{ message {{ text }} }} }}"
        );
        assert_eq!(alice.ask(&query).await.at("sendMessage.message.text"), text, "{literal}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_runs_beside_others_that_define_its_variables_with_other_types() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let document = "query A($x: Int) { ...OfA } query B($x: String) { ...OfB } query C($x: ID!) { ...OfC ...Shared }
        mutation D($x: OpenDirectChatInput!) { openDirectChat(input: $x) { chat { ...OfD } } }
        query E($x: Int = 3) { ...OfA }
        fragment OfA on Query { chats(first: $x) { nodes { id } } }
        fragment OfB on Query { users(search: $x) { nodes { id } } }
        fragment OfC on Query { user(id: $x) { id } }
        fragment OfD on Chat { kind }
        fragment Shared on Query { __typename }";
    let run = async |document: &str, name: &str, variables: Value| {
        let body = json!({ "query": document, "operationName": name, "variables": variables }).to_string();
        post(&app, &[("authorization", &bearer(&alice))], body).await.json()
    };
    // The order in which the operations are validated is random.
    for _ in 0..10 {
        for (name, variables, data) in [
            ("A", json!({ "x": 1 }), json!({ "chats": { "nodes": [] } })),
            ("B", json!({ "x": "ali" }), json!({ "users": { "nodes": [{ "id": "alice" }] } })),
            ("C", json!({ "x": "alice" }), json!({ "user": { "id": "alice" }, "__typename": "Query" })),
            ("E", json!({}), json!({ "chats": { "nodes": [] } })),
        ] {
            assert_eq!(run(document, name, variables).await, json!({ "data": data }), "{name}");
        }
    }
    // The other operations are validated too.
    let invalid = document.replace("user(id: $x) { id }", "user(id: $x) { nothing }");
    let message = &run(&invalid, "A", json!({ "x": 1 })).await["errors"][0]["message"];
    assert!(message.as_str().is_some_and(|message| message.contains("nothing")), "{message}");
    app.stop().await;
}

#[engine_test]
async fn subscription_may_select_its_root_field_several_times(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let (text, sender) = (
        "{ __typename ... on MessageUpserted { message { text } } }",
        "{ ... on MessageUpserted { message { sender { id } } } }",
    );
    let feed = "feed: chatFeed(chatId: $chat)";
    for selections in [
        format!("{feed} {text} ...F }} fragment F on Subscription {{ {feed} {sender} }}"),
        format!(
            "...F ...G }} fragment F on Subscription {{ {feed} {text} }}
             fragment G on Subscription {{ ... on Subscription {{ {feed} {sender} }} }}"
        ),
        format!("{feed} {text} {feed} {sender} }}"),
    ] {
        let query = format!("subscription($chat: ID!) {{ {selections}");
        let mut socket = alice.socket().await;
        socket.subscribe("1", &query, json!({ "chat": chat })).await;
        assert_eq!(socket.recv().await["payload"]["data"]["feed"]["__typename"], "FeedCaughtUp", "{query}");
        alice.send(&chat, "hello").await;
        let message = json!({ "text": "hello", "sender": { "id": "alice" } });
        let expected = json!({ "data": { "feed": { "__typename": "MessageUpserted", "message": message } } });
        // Read positions of earlier messages are published later.
        let event = loop {
            let event = socket.recv().await["payload"].take();
            if event["data"]["feed"]["__typename"] != "MemberUpserted" {
                break event;
            }
        };
        assert_eq!(event, expected, "{query}");
    }
    for (query, message) in [
        (
            "subscription { messageAdded { id } x: messageAdded { id } }",
            "A subscription must select only one top level field.",
        ),
        (
            "subscription { messageAdded { id } ...F } fragment F on Subscription { messageAdded(chatId: \"x\") { id } }",
            "Fields \"messageAdded\" conflict",
        ),
    ] {
        let mut socket = alice.socket().await;
        socket.subscribe("1", query, json!({})).await;
        let error = socket.recv().await["payload"][0]["message"].take();
        assert!(error.as_str().is_some_and(|error| error.starts_with(message)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn persisted_query_is_sent_by_hash() {
    let app = TestApp::sqlite(&[]).await;
    let authorization = bearer(&app.user("alice").await);
    let accept = [
        ("accept", "application/graphql-response+json,application/json;q=0.9"),
        ("authorization", authorization.as_str()),
    ];
    let query = "query Q($a: Boolean!) { here: __typename ...F @include(if: $a) } fragment F on Query { __typename }";
    let extension = persisted_extension(query);
    let hash = extension["persistedQuery"]["sha256Hash"].clone();
    let variables = json!({ "a": true });
    let by_hash = json!({ "extensions": extension, "variables": variables }).to_string();
    let (extensions, variables_text) = (extension.to_string(), variables.to_string());
    let parameters = [("extensions", extensions.as_str()), ("variables", variables_text.as_str())];
    for response in [post(&app, &accept, by_hash.clone()).await, get(&app, &accept, &parameters).await] {
        response.assert_error(200, "PERSISTED_QUERY_NOT_FOUND");
        assert_eq!(response.message(), "PersistedQueryNotFound");
    }
    let other = json!({ "query": "{ __typename }", "extensions": extension }).to_string();
    post(&app, &accept, other).await.assert_error(400, "BAD_USER_INPUT");
    post(&app, &accept, by_hash.clone()).await.assert_error(200, "PERSISTED_QUERY_NOT_FOUND");

    let with_query = json!({ "query": query, "extensions": extension, "variables": variables }).to_string();
    let expected = json!({ "data": { "here": "Query", "__typename": "Query" } });
    assert_eq!(post(&app, &accept, with_query).await.json(), expected);
    assert_eq!(post(&app, &accept, by_hash).await.json(), expected);
    assert_eq!(get(&app, &accept, &parameters).await.json(), expected);
    assert_eq!(
        get(&app, &accept, &parameters[..1]).await.message(),
        "Variable \"$a\" of required type \"Boolean!\" was not provided."
    );

    for wrong in [
        json!(7),
        json!({}),
        json!({ "version": 2, "sha256Hash": hash }),
        json!({ "version": 1, "sha256Hash": "abc" }),
        json!({ "version": 1 }),
    ] {
        let body = json!({ "query": query, "extensions": { "persistedQuery": wrong } }).to_string();
        post(&app, &accept, body).await.assert_error(400, "BAD_USER_INPUT");
    }
    // A rejected document is not stored under its hash.
    let bad = "{ nonsense ".to_owned() + &"{ a ".repeat(30);
    let extension = persisted_extension(&bad);
    post(&app, &accept, json!({ "query": bad, "extensions": extension }).to_string())
        .await
        .assert_error(400, "BAD_USER_INPUT");
    post(&app, &accept, json!({ "extensions": extension }).to_string())
        .await
        .assert_error(200, "PERSISTED_QUERY_NOT_FOUND");
    // GET executes no mutation, not even by its hash.
    let mutation = "mutation M { __typename }";
    let extension = persisted_extension(mutation);
    assert_eq!(
        post(&app, &accept, json!({ "query": mutation, "extensions": extension }).to_string()).await.json(),
        json!({ "data": { "__typename": "Mutation" } })
    );
    get(&app, &accept, &[("extensions", &extension.to_string())]).await.assert_error(405, "BAD_USER_INPUT");
    app.stop().await;
}
