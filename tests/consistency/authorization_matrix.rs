//! Who may not, learns nothing and changes nothing: each mutation and each look-up of the schema,
//! called with the ids of a secret group by all who are not to.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::schema::Schema;
use testkit::{DatabaseDump, Reply, TestApp, User, engine_test};

use super::authorization_matrix_rows::{FORBIDDEN, NOT_FOUND, Own, People, Row, Secret, rows};

/// All that a token can allow, but to administer the organisation, which stands above the rights in
/// the chats of the host's own objects.
const ALL: [&str; 8] = [
    "chat.view",
    "chat.create_group",
    "chat.manage_group",
    "chat.delete",
    "chat.initiate_call",
    "chat.moderate",
    "support.agent",
    "audit.read",
];

fn all_but(permission: &str) -> Vec<&'static str> {
    ALL.into_iter().filter(|held| *held != permission).collect()
}

async fn people(app: &TestApp) -> People {
    for other in ["carol", "mallory"] {
        app.user(other).await;
    }
    let moderator = app.user_in("demo", "alice", Some(&ALL)).await;
    let input = json!({ "words": ["blocked"], "action": "MASK" });
    moderator.mutate_returning("blockWords", input, "blockedWords { word }").await.data();
    let [alice, bob, erin, dora] = ["alice", "bob", "erin", "dora"].map(|id| app.user(id));
    People { alice: alice.await, bob: bob.await, erin: erin.await, dora: dora.await }
}

async fn call(who: &User, schema: &Schema, row: &Row) -> Reply {
    who.ask_with(&schema.operation("Mutation", row.field), json!({ "input": row.input })).await
}

/// Asserts that a call was refused with a code, and did nothing beside.
#[track_caller]
fn refused(reply: &Reply, row: &Row, code: &str) {
    let told = (reply.body["errors"][0]["extensions"]["code"].as_str(), &reply.body["data"]);
    assert_eq!(told, (Some(code), &json!({ row.field: null })), "{}: {}: {}", row.field, row.input, reply.body);
}

/// Each query that takes an id: the operation, and what those are answered who may not see.
fn look_ups(secret: &Secret) -> Vec<(&'static str, String, Value)> {
    let mut look_ups = Vec::new();
    for id in secret.ids() {
        for field in ["node", "chat", "message", "call"] {
            look_ups.push((field, format!("{{ {field}(id: \"{id}\") {{ id }} }}"), json!({ field: null })));
        }
        look_ups.push(("nodes", format!("{{ nodes(ids: [\"{id}\"]) {{ id }} }}"), json!({ "nodes": [null] })));
    }
    for filter in [format!("chatId: \"{}\"", secret.chat), "senderId: \"alice\"".into(), "kinds: [TEXT]".into()] {
        let query = format!("{{ searchMessages(query: \"secret\", filter: {{ {filter} }}) {{ nodes {{ id }} }} }}");
        look_ups.push(("searchMessages", query, json!({ "searchMessages": { "nodes": [] } })));
    }
    let query = format!("{{ calls(filter: {{ chatId: \"{}\" }}) {{ nodes {{ id }} }} }}", secret.chat);
    look_ups.push(("calls", query, json!({ "calls": { "nodes": [] } })));
    look_ups
}

/// The feeds of one chat and of one call, each as a subscription; people's presence is of the organisation.
fn feeds_of_chats(schema: &Schema, secret: &Secret) -> Vec<(String, Value)> {
    let fields = schema.fields_with_ids("Subscription").into_iter().filter(|field| field != "presence");
    let feed = |field: String| match field.as_str() {
        "callFeed" => {
            let query =
                "subscription($call: ID!, $own: ID) { callFeed(callId: $call, participantId: $own) { __typename } }";
            vec![
                (query.to_owned(), json!({ "call": secret.call })),
                (query.to_owned(), json!({ "call": secret.call, "own": secret.alices })),
            ]
        }
        field => {
            let query = format!("subscription($chat: ID!) {{ {field}(chatId: $chat) {{ __typename }} }}");
            vec![(query, json!({ "chat": secret.chat }))]
        }
    };
    fields.flat_map(feed).collect()
}

/// Who listens was there, and when they were last is written: not while these stories are told.
/// Nor does a call go on by itself.
const NOBODY_LEAVES: [(&str, &str); 3] = [
    ("PARLOR_PRESENCE_GRACE_SECONDS", "300"),
    ("PARLOR_CALL_RING_SECONDS", "600"),
    ("PARLOR_CALL_LOST_SECONDS", "600"),
];

/// Somebody who is not in the group.
struct Outsider {
    user: User,
    /// Of another organisation.
    is_foreign: bool,
    /// With all permissions, those to moderate and to administer their organisation too.
    moderates: bool,
}

impl Outsider {
    async fn new(app: &TestApp, organization: &str, id: &str, moderates: bool) -> Self {
        let held = [&ALL[..], &["organization.admin"]].concat();
        let user = app.user_in(organization, id, moderates.then_some(&held)).await;
        Self { user, is_foreign: organization != "demo", moderates }
    }

    fn is_told(&self, row: &Row) -> Option<&'static str> {
        match row.field {
            "resolveReport" if self.moderates => self.is_foreign.then_some(NOT_FOUND),
            "blockWords" | "unblockWords" | "revokeSessions" if self.moderates => None,
            // The host's own service need not be in a chat that is the host's.
            "ensureResourceChat" if self.moderates && !self.is_foreign => None,
            _ if self.is_foreign => row.foreigner,
            _ => row.stranger,
        }
    }

    async fn gets_nothing(&self, app: &TestApp, secret: &Secret, own: &Own, schema: &Schema) {
        let Self { user, is_foreign, moderates } = self;
        let name = format!("{} of {}", user.id, if *is_foreign { "elsewhere" } else { "demo" });
        let before = DatabaseDump::take(&app.database).await;
        let nothing = secret.that_never_was();
        for (row, same) in rows(secret, own).iter().zip(rows(&nothing, own)) {
            let Some(code) = self.is_told(row) else { continue };
            let reply = call(user, schema, row).await;
            refused(&reply, row, code);
            if code == NOT_FOUND {
                // In the words in which they are told of what was never there.
                let words = call(user, schema, &same).await.body["errors"][0]["message"].clone();
                assert_eq!(reply.body["errors"][0]["message"], words, "{}: {}", row.field, row.input);
            }
        }
        for (_, query, answer) in look_ups(secret) {
            let is_their_report = *moderates && !is_foreign && query.contains(&secret.report);
            if !is_their_report {
                assert_eq!(user.ask(&query).await.data(), &answer, "{name}: {query}");
            }
        }
        let about_people = user.ask("{ user(id: \"carol\") { id } organization: node(id: \"org_demo\") { id } }").await;
        let seen = if *is_foreign { json!(null) } else { json!({ "id": "carol" }) };
        assert_eq!(about_people.at("user"), &seen);
        self.finds_nothing_in_lists(secret, own).await;
        for query in ["{ reports { nodes { id } } }", "{ blockedWords { word } }"] {
            let reply = user.ask(query).await;
            match (*moderates, *is_foreign) {
                (false, _) => reply.assert_error(FORBIDDEN),
                (true, true) => assert!(matches!(
                    reply.data().to_string().as_str(),
                    "{\"reports\":{\"nodes\":[]}}" | "{\"blockedWords\":[]}"
                )),
                (true, false) => drop(reply.data()),
            }
        }
        for (query, variables) in feeds_of_chats(schema, secret) {
            let mut feed = user.subscribe(&query, variables).await;
            assert_eq!(feed.error_code().await, NOT_FOUND, "{name}: {query}");
        }
        before.assert_unchanged(&DatabaseDump::take(&app.database).await, &format!("after all that {name} tried"));
    }

    /// They have a chat of their own, and that is all they have.
    async fn finds_nothing_in_lists(&self, secret: &Secret, own: &Own) {
        let lists = "{
            chats { nodes { id } }
            joinable: chats(filter: { joinable: true }) { nodes { id } }
            archived: chats(filter: { archived: true }) { nodes { id } }
            found: chats(filter: { search: \"Secret\" }) { nodes { id } }
            viewer { unread { chats messages mentions } notifications { nodes { chat { id } message { id } } } }
        }";
        let lists = self.user.ask(lists).await;
        assert_eq!(lists.at("chats.nodes"), &json!([{ "id": own.chat }]));
        for list in ["joinable", "archived", "found"] {
            assert_eq!(lists.at(list), &json!({ "nodes": [] }), "{list}");
        }
        assert_eq!(lists.at("viewer.unread"), &json!({ "chats": 0, "messages": 0, "mentions": 0 }));
        for told in lists.at("viewer.notifications.nodes").as_array().expect("a list") {
            assert_eq!(told, &json!({ "chat": null, "message": null }));
        }
        assert!(secret.ids().iter().all(|id| !lists.body.to_string().contains(id.as_str())), "{}", lists.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_covers_every_schema_field() {
    let app = TestApp::sqlite(&[]).await;
    let secret = Secret::make(&people(&app).await, "1").await;
    let own = Own { chat: secret.chat.clone(), message: secret.message.clone() };
    let schema = Schema::read();
    let mutations: BTreeSet<String> = schema.fields("Mutation").into_iter().collect();
    let with_rows: BTreeSet<String> = rows(&secret, &own).iter().map(|row| row.field.to_owned()).collect();
    assert_eq!(with_rows, mutations, "rows of mutations, and the mutations of the schema");
    let queries: BTreeSet<String> = schema.fields_with_ids("Query").into_iter().collect();
    let looked_up = look_ups(&secret).into_iter().map(|(field, ..)| field.to_owned());
    // A person is of the organisation, not of the group.
    assert_eq!(looked_up.chain(["user".to_owned()]).collect::<BTreeSet<_>>(), queries, "queries that take an id");
    let of_ids = schema.fields_with_ids("Subscription");
    let own: Vec<_> = schema.fields("Subscription").into_iter().filter(|field| !of_ids.contains(field)).collect();
    assert_eq!(own, ["inboxFeed"], "subscriptions that are the viewer's own");
    app.stop().await;
}

/// Rows that nobody can call as they stand would be refused for another reason than the one meant.
#[tokio::test(flavor = "multi_thread")]
async fn owner_is_allowed_every_row() {
    let app = TestApp::sqlite(&[]).await;
    let schema = Schema::read();
    let people = people(&app).await;
    let owner = app.user_in("demo", "alice", Some(&ALL)).await;
    let own = Own::of(&owner).await;
    let mut secret = Secret::make(&people, "1").await;
    for place in 0..rows(&secret, &own).len() {
        let row = rows(&secret, &own).swap_remove(place);
        let reply = call(&owner, &schema, &row).await;
        match row.owner {
            Some(code) => refused(&reply, &row, code),
            None => assert!(reply.body.get("errors").is_none(), "{}: {}: {}", row.field, row.input, reply.body),
        }
        if row.field == "leaveChat" {
            secret = Secret::make(&people, "2").await;
        }
    }
    app.stop().await;
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn non_member_is_denied_every_row(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    // Dora was in.
    for (id, moderates) in [("mallory", false), ("dora", false), ("dora", true)] {
        let outsider = Outsider::new(app, "demo", id, moderates).await;
        let own = Own::of(&outsider.user).await;
        outsider.gets_nothing(app, &secret, &own, &schema).await;
        outsider.user.mutate_returning("deleteChat", json!({ "chatId": own.chat }), "deletedChatId").await.data();
    }
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn other_organization_with_valid_ids_is_denied_every_row(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    // The same user ids are other people there.
    for (id, moderates) in [("mallory", false), ("alice", false), ("bob", true)] {
        let outsider = Outsider::new(app, "elsewhere", id, moderates).await;
        let own = Own::of(&outsider.user).await;
        outsider.gets_nothing(app, &secret, &own, &schema).await;
    }
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn member_is_allowed_only_member_rows(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    let own = Own::of(&people.bob).await;
    let before = DatabaseDump::take(&app.database).await;
    for row in rows(&secret, &own) {
        if let Some(code) = row.member {
            refused(&call(&people.bob, &schema, &row).await, &row, code);
        }
    }
    for query in ["{ reports { nodes { id } } }", "{ blockedWords { word } }"] {
        people.bob.ask(query).await.assert_error(FORBIDDEN);
    }
    // What others are told of, and what was reported, is none of a member's.
    for id in [&secret.notification, &secret.report] {
        assert_eq!(people.bob.ask(&format!("{{ node(id: \"{id}\") {{ id }} }}")).await.at("node"), &json!(null));
    }
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all that a member tried");
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn owner_without_permission_is_denied(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    let own = Own::of(&people.alice).await;
    let before = DatabaseDump::take(&app.database).await;
    let mut needed = BTreeSet::new();
    for permission in ALL {
        let lacking = app.user_in("demo", "alice", Some(&all_but(permission))).await;
        for row in rows(&secret, &own).iter().filter(|row| row.permission == Some(permission)) {
            refused(&call(&lacking, &schema, row).await, row, FORBIDDEN);
            needed.insert(permission);
        }
    }
    assert_eq!(
        needed,
        ["chat.create_group", "chat.delete", "chat.initiate_call", "chat.manage_group", "chat.moderate"].into()
    );
    let elsewhere = app.user_in("demo", "alice", Some(&all_but("chat.create_group"))).await;
    let input = json!({ "resource": { "type": "project", "id": "2" }, "title": "New", "memberIds": [] });
    elsewhere.mutate_returning("ensureResourceChat", input, "chat { id }").await.assert_error(FORBIDDEN);
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all that was tried without permission");
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn missing_view_permission_hides_every_chat(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    let own = Own::of(&people.alice).await;
    let blind = app.user_in("demo", "alice", Some(&all_but("chat.view"))).await;
    let before = DatabaseDump::take(&app.database).await;
    for row in rows(&secret, &own) {
        match (row.field, row.owner) {
            // What is the organisation's or the person's, and no chat's.
            ("blockWords" | "unblockWords" | "resolveReport" | "markNotificationsRead", _) => {}
            ("renewSession", Some(code)) => refused(&call(&blind, &schema, &row).await, &row, code),
            (_, Some(NOT_FOUND)) => refused(&call(&blind, &schema, &row).await, &row, NOT_FOUND),
            _ => refused(&call(&blind, &schema, &row).await, &row, FORBIDDEN),
        }
    }
    for (field, query, answer) in look_ups(&secret) {
        let reply = blind.ask(&query).await;
        match field {
            "searchMessages" | "calls" => reply.assert_error(FORBIDDEN),
            _ if query.contains(&secret.notification) || query.contains(&secret.report) => {}
            _ => assert_eq!(reply.data(), &answer, "{query}"),
        }
    }
    for id in [&secret.notification, &secret.report] {
        let query = format!(
            "{{ node(id: \"{id}\") {{ ... on Notification {{ chat {{ id }} message {{ id }} }} ... on Report {{ chat {{ id }} message {{ id }} }} }} }}"
        );
        assert_eq!(blind.ask(&query).await.at("node"), &json!({ "chat": null, "message": null }));
    }
    blind.ask("{ chats { nodes { id } } }").await.assert_error(FORBIDDEN);
    for query in ["presence(userIds: [\"bob\"]) { status }", "inboxFeed { __typename }"] {
        let mut feed = blind.subscribe(&format!("subscription {{ {query} }}"), json!({})).await;
        assert_eq!(feed.error_code().await, FORBIDDEN, "{query}");
    }
    for (query, variables) in feeds_of_chats(&schema, &secret) {
        let mut feed = blind.subscribe(&query, variables).await;
        assert_eq!(feed.error_code().await, NOT_FOUND, "{query}");
    }
    before
        .assert_unchanged(&DatabaseDump::take(&app.database).await, "after all that was tried without the permission");
}

#[engine_test(settings = NOBODY_LEAVES)]
async fn anonymous_requester_is_denied_every_field(app: &TestApp) {
    let people = people(app).await;
    let secret = Secret::make(&people, "1").await;
    let schema = Schema::read();
    let own = Own::of(&people.alice).await;
    let before = DatabaseDump::take(&app.database).await;
    let ask = async |query: &str, variables: Value| {
        let body = json!({ "query": query, "variables": variables });
        let answer = reqwest::Client::new().post(app.url("/graphql")).json(&body).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")
    };
    assert_eq!(ask("{ __typename }", json!({})).await, json!({ "data": { "__typename": "Query" } }));
    let unauthenticated = |answer: &Value| answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED";
    for row in rows(&secret, &own) {
        let answer = ask(&schema.operation("Mutation", row.field), json!({ "input": row.input })).await;
        assert!(unauthenticated(&answer), "{}: {answer}", row.field);
    }
    for (_, query, _) in look_ups(&secret) {
        let answer = ask(&query, json!({})).await;
        assert!(unauthenticated(&answer), "{query}: {answer}");
    }
    for field in schema.fields("Query") {
        let variables = json!({ "id": secret.chat, "ids": [secret.chat], "query": "secret" });
        let answer = ask(&schema.operation("Query", &field), variables).await;
        assert!(unauthenticated(&answer), "{field}: {answer}");
    }
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all that was tried without a token");
}
