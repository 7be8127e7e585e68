//! GraphQL over HTTP: the formats of requests and responses.

use std::io::{Read, Write};

use reqwest::Method;
use serde_json::json;
use testkit::TestApp;
use testkit::http::{bearer, get, graphql_body, post, request};
use testkit::keys::sign_with_secret;

const JSON: &str = "application/json; charset=utf-8";

const RESPONSE: &str = "application/graphql-response+json; charset=utf-8";

#[tokio::test(flavor = "multi_thread")]
async fn response_media_type_follows_accept_header() {
    let app = TestApp::sqlite(&[]).await;
    for (accept, expected) in [
        (vec![], JSON),
        (vec!["*/*"], JSON),
        (vec!["application/*"], JSON),
        (vec!["application/json"], JSON),
        (vec!["application/graphql-response+json"], RESPONSE),
        (vec!["application/graphql-response+json,application/json;q=0.9"], RESPONSE),
        (vec!["application/graphql-response+json; charset=utf-8, application/json"], RESPONSE),
        (vec!["application/json;q=0.9", "application/graphql-response+json"], RESPONSE),
        (vec!["application/json, application/graphql-response+json;q=0.5"], JSON),
        (vec!["application/graphql-response+json;q=0, */*;q=0.1"], JSON),
        (
            vec![
                "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
            ],
            RESPONSE,
        ),
        (vec!["application/json, multipart/mixed"], JSON),
        (
            vec![
                "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9",
            ],
            RESPONSE,
        ),
        (vec!["text/html"], ""),
        (vec!["application/json;q=0"], ""),
        (vec!["multipart/mixed"], ""),
        (vec![""], ""),
    ] {
        let headers: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
        for response in [
            post(&app, &headers, graphql_body("{ __typename }", json!({}))).await,
            get(&app, &headers, &[("query", "{__typename}")]).await,
        ] {
            if expected.is_empty() {
                response.assert_error(406, "BAD_USER_INPUT");
                assert_eq!(response.header("content-type"), JSON);
            } else {
                assert_eq!((response.status, response.header("content-type").as_str()), (200, expected), "{accept:?}");
                assert_eq!(response.json(), json!({ "data": { "__typename": "Query" } }));
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn response_status_follows_media_type() {
    let app = TestApp::sqlite(&[]).await;
    // Without a token, a document is not compared with the schema.
    let authorization = bearer(&app.user("alice").await);
    let well_formed = |query: &str, variables| (graphql_body(query, variables), true);
    let malformed = |body: &str| (body.to_owned(), false);
    let two = "query A { __typename } query B { __typename }";
    for ((body, is_well_formed), expected) in [
        (well_formed("{", json!({})), "Syntax Error: Expected Name, found <EOF>."),
        (well_formed("", json!({})), "Syntax Error: Unexpected <EOF>."),
        (well_formed("{ nonsense }", json!({})), "Unknown field \"nonsense\""),
        (well_formed("{ viewer }", json!({})), "must have a selection"),
        (well_formed("query($a: Int!) { __typename }", json!({})), "\"Int!\" was not provided"),
        (well_formed("query($a: Nope) { __typename }", json!({})), "cannot be used as an input type"),
        (well_formed(two, json!({})), "Must provide operation name"),
        (malformed(""), "not valid JSON"),
        (malformed("{\"query\":"), "not valid JSON"),
        (malformed("\u{feff}{}"), "no query"),
        (malformed("\u{feff}\u{feff}{}"), "not valid JSON"),
        (malformed("{\u{feff}}"), "not valid JSON"),
        (malformed("7"), "must be a JSON object"),
        (malformed("null"), "must be a JSON object"),
        (malformed("\"{ __typename }\""), "must be a JSON object"),
        (malformed("[]"), "batched requests are not supported"),
        (malformed("[{\"query\":\"{ __typename }\"}]"), "batched requests are not supported"),
        (malformed("{}"), "no query"),
        (malformed("{\"query\":null}"), "no query"),
        (malformed("{\"query\":7}"), "malformed"),
        (malformed("{\"query\":[\"{ __typename }\"]}"), "malformed"),
        (malformed("{\"query\":\"{ __typename }\",\"variables\":[]}"), "malformed"),
        (malformed("{\"query\":\"{ __typename }\",\"variables\":\"{}\"}"), "malformed"),
        (malformed("{\"query\":\"{ __typename }\",\"operationName\":7}"), "malformed"),
        (malformed("{\"query\":\"{ __typename }\",\"extensions\":[]}"), "malformed"),
        (malformed("{\"extensions\":{\"unknown\":1}}"), "no query"),
    ] {
        for (accept, status) in
            [("application/json", if is_well_formed { 200 } else { 400 }), ("application/graphql-response+json", 400)]
        {
            let headers = [("accept", accept), ("authorization", authorization.as_str())];
            let response = post(&app, &headers, body.clone()).await;
            response.assert_error(status, "BAD_USER_INPUT");
            assert!(response.message().contains(expected), "{body}: {}", response.message());
        }
    }
    let nulls = json!({ "query": "{ __typename }", "variables": null, "operationName": null, "extensions": null });
    let named = json!({ "query": two, "operationName": "B", "extensions": {} });
    let with_mark = format!("\u{feff}{nulls}");
    for body in [nulls.to_string(), named.to_string(), with_mark] {
        assert_eq!(post(&app, &[], body).await.json(), json!({ "data": { "__typename": "Query" } }));
    }
    let unknown = json!({ "query": two, "operationName": "C" }).to_string();
    assert_eq!(post(&app, &[], unknown).await.message(), "Unknown operation named \"C\".");

    // An operation with an error in a field was executed: the status is 200, and the response has data.
    let failing = "mutation { deleteMessage(input: { messageId: \"msg_none\" }) { message { id } } }";
    for accept in ["application/json", "application/graphql-response+json"] {
        let headers = [("accept", accept), ("authorization", authorization.as_str())];
        let response = post(&app, &headers, graphql_body(failing, json!({}))).await;
        assert_eq!((response.status, response.code().as_str()), (200, "NOT_FOUND"));
        assert_eq!(response.json()["data"], json!({ "deleteMessage": null }));
        assert_eq!(response.json()["errors"][0]["path"], json!(["deleteMessage"]));
        assert_eq!(response.json()["errors"][0]["locations"], json!([{ "line": 1, "column": 12 }]));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_body_must_be_utf_8_json() {
    let app = TestApp::sqlite(&[]).await;
    let body = graphql_body("{ __typename }", json!({}));
    for (content_type, status) in [
        ("application/json", 200),
        ("application/json;charset=utf-8", 200),
        ("Application/JSON; Charset=\"UTF-8\"", 200),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=iso-8859-1", 415),
        ("application/graphql", 415),
        ("application/jsonx", 415),
        ("text/json", 415),
        // A browser sends these to any site without a preflight request.
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ] {
        let headers = [("content-type", content_type)];
        let headers = if content_type.is_empty() { &[][..] } else { &headers };
        let response = request(&app, Method::POST, "/graphql", headers, body.clone()).await;
        assert_eq!(response.status, status, "{content_type:?}");
        if status == 415 {
            response.assert_error(415, "BAD_USER_INPUT");
        }
    }
    let latin = [&b"{\"query\":\"{ __typename } #"[..], &[0xe9], b"\"}"].concat();
    post(&app, &[], latin).await.assert_error(400, "BAD_USER_INPUT");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_request_runs_queries_only() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let bearer = bearer(&alice);
    let headers = [("authorization", bearer.as_str()), ("accept", "application/graphql-response+json")];
    let query = "query A { __typename } query B($id: ID!) { user(id: $id) { name } }";
    let response =
        get(&app, &headers, &[("query", query), ("operationName", "B"), ("variables", r#"{"id":"alice"}"#)]).await;
    assert_eq!((response.status, response.json()), (200, json!({ "data": { "user": { "name": "Alice" } } })));

    for parameters in [
        &[][..],
        &[("query", "")],
        &[("query", "{")],
        &[("query", query)],
        &[("query", query), ("operationName", "C")],
        &[("query", query), ("operationName", "B"), ("variables", "{}")],
        &[("query", query), ("operationName", "B"), ("variables", "{")],
        &[("query", query), ("operationName", "A"), ("variables", "[]")],
        &[("query", query), ("operationName", "A"), ("variables", "7")],
        &[("query", query), ("operationName", "A"), ("extensions", "\"x\"")],
        &[("query", "subscription { messageAdded { id } }")],
    ] {
        get(&app, &headers, parameters).await.assert_error(400, "BAD_USER_INPUT");
    }
    let mutation = format!("{{ {}(input: {{ userId: \"alice\" }}) {{ chat {{ id }} }} }}", "openDirectChat");
    for (query, name) in [
        (format!("mutation {mutation}"), ""),
        (format!("mutation M {mutation}"), ""),
        (format!("query Q {{ __typename }} mutation M {mutation}"), "M"),
    ] {
        let mut parameters = vec![("query", query.as_str())];
        parameters.extend((!name.is_empty()).then_some(("operationName", name)));
        let response = get(&app, &headers, &parameters).await;
        response.assert_error(405, "BAD_USER_INPUT");
        assert_eq!(response.header("allow"), "POST");
    }
    assert_eq!(alice.ask("{ chats { nodes { id } } }").await.at("chats.nodes"), &json!([]), "no chat was created");
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let response = request(
            &app,
            method,
            "/graphql",
            &[("content-type", "application/json")],
            graphql_body("{ __typename }", json!({})),
        )
        .await;
        response.assert_error(405, "BAD_USER_INPUT");
        assert_eq!(response.header("allow"), "GET, POST");
    }
    let subscription = post(&app, &headers, graphql_body("subscription { messageAdded { id } }", json!({}))).await;
    subscription.assert_error(400, "BAD_USER_INPUT");
    assert!(subscription.message().contains("WebSocket"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_parameter_without_value_counts_as_missing() {
    let app = TestApp::sqlite(&[]).await;
    let headers = [("accept", "application/graphql-response+json")];
    let query = ("query", "{ __typename }");
    for parameters in [
        &[("variables", ""), ("extensions", "")][..],
        &[("variables", " "), ("extensions", "\n")],
        &[("variables", "null"), ("extensions", "null")],
        &[("operationName", "")],
        &[("variables", "{}"), ("operationName", ""), ("extensions", "")],
    ] {
        let response = get(&app, &headers, &[&[query], parameters].concat()).await;
        assert_eq!((response.status, response.json()), (200, json!({ "data": { "__typename": "Query" } })));
    }
    for parameters in [[("variables", "")], [("query", "")]] {
        get(&app, &headers, &parameters).await.assert_error(400, "BAD_USER_INPUT");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_body_is_rejected_with_413() {
    let app = TestApp::sqlite(&[("PARLOR_MAX_BODY_BYTES", "65536"), ("PARLOR_CALL_SIGNAL_BYTES", "32768")]).await;
    let padded = |length: usize| {
        let body = graphql_body("{ __typename }", json!({}));
        body.clone() + &" ".repeat(length - body.len())
    };
    assert_eq!(post(&app, &[], padded(65_536)).await.status, 200);
    let response = post(&app, &[], padded(65_537)).await;
    response.assert_error(413, "PAYLOAD_TOO_LARGE");
    assert!(response.message().contains("65536"));

    // A client that reads nothing before it has written the whole body receives the response too, with and without a
    // length in advance.
    let addr = app.addr;
    for chunked in [false, true] {
        let response = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(addr).unwrap();
            let length = if chunked { "transfer-encoding: chunked" } else { "content-length: 10485760" };
            write!(stream, "POST /graphql HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{length}\r\n\r\n").unwrap();
            for _ in 0..160 {
                let piece = " ".repeat(65_536);
                if chunked {
                    write!(stream, "10000\r\n{piece}\r\n").unwrap();
                } else {
                    stream.write_all(piece.as_bytes()).unwrap();
                }
            }
            if chunked {
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        });
        let response = response.await.unwrap();
        assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
        assert!(response.contains("PAYLOAD_TOO_LARGE"), "{response}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_read_from_bearer_header() {
    let app = TestApp::sqlite(&[]).await;
    let token = sign_with_secret(json!({ "sub": "alice", "org": "demo", "exp": 4_000_000_000_u64 }));
    let good = format!("Bearer {token}");
    for (headers, status) in [
        (vec![good.clone()], 200),
        (vec![format!("bearer   {token} ")], 200),
        (vec![], 200),
        (vec![token.clone()], 401),
        (vec!["Bearer".into()], 401),
        (vec!["Bearer ".into()], 401),
        (vec!["Basic YWxpY2U6c2VjcmV0".into()], 401),
        (vec![format!("Basic {token}")], 401),
        (vec![format!("{good}, Basic YWxpY2U6c2VjcmV0")], 401),
        (vec![format!("Basic YWxpY2U6c2VjcmV0, {good}")], 401),
        // Two headers are ambiguous.
        (vec![good.clone(), "Basic YWxpY2U6c2VjcmV0".into()], 401),
        (vec!["Basic YWxpY2U6c2VjcmV0".into(), good.clone()], 401),
        (vec![good.clone(), good.clone()], 401),
    ] {
        let named_headers: Vec<_> = headers.iter().map(|value| ("authorization", value.as_str())).collect();
        for response in [
            post(&app, &named_headers, graphql_body("{ __typename }", json!({}))).await,
            get(&app, &named_headers, &[("query", "{__typename}")]).await,
        ] {
            assert_eq!(response.status, status, "{headers:?}");
            if status == 401 {
                response.assert_error(401, "UNAUTHENTICATED");
                assert!(response.header("www-authenticate").starts_with("Bearer"));
            }
        }
    }
    app.stop().await;
}
