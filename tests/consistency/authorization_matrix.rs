//! The authorization matrix: requesters without permission learn nothing and change nothing.
//!
//! Each mutation and each query of the schema is called with the ids of a secret group.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::schema::Schema;
use testkit::{DatabaseDump, Reply, TestApp, User, engine_test};

use super::authorization_matrix_rows::{FORBIDDEN, GroupUsers, NOT_FOUND, OwnChat, Row, SecretGroup, rows};

/// All permissions except `organization.admin`, which the host's service has.
const PERMISSIONS: [&str; 8] = [
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
    PERMISSIONS.into_iter().filter(|granted| *granted != permission).collect()
}

/// Creates the users of the secret group, the users outside it, and a blocked word.
async fn group_users(app: &TestApp) -> GroupUsers {
    for non_member in ["carol", "mallory"] {
        app.user(non_member).await;
    }
    let moderator = app.user_in("demo", "alice", Some(&PERMISSIONS)).await;
    let input = json!({ "words": ["blocked"], "action": "MASK" });
    moderator.mutate_returning("blockWords", input, "blockedWords { word }").await.data();
    let [alice, bob, erin, dora] = ["alice", "bob", "erin", "dora"].map(|id| app.user(id));
    let host = app.user_in("demo", "host", Some(&["chat.view", "organization.admin"])).await;
    GroupUsers { alice: alice.await, bob: bob.await, erin: erin.await, dora: dora.await, host }
}

async fn call(user: &User, schema: &Schema, row: &Row) -> Reply {
    user.ask_with(&schema.operation("Mutation", row.field), json!({ "input": row.input })).await
}

/// Asserts that a call was rejected with this code and returned no data.
#[track_caller]
fn assert_rejected(reply: &Reply, row: &Row, code: &str) {
    let result = (reply.body["errors"][0]["extensions"]["code"].as_str(), &reply.body["data"]);
    assert_eq!(result, (Some(code), &json!({ row.field: null })), "{}: {}: {}", row.field, row.input, reply.body);
}

/// A query that takes an id, with the data that it returns to requesters who may not see the object.
struct Lookup {
    field: &'static str,
    query: String,
    denied: Value,
}

/// Returns each query that takes an id, for each id of the group.
fn lookups(secret: &SecretGroup) -> Vec<Lookup> {
    let mut lookups = Vec::new();
    for id in secret.ids() {
        for field in ["node", "chat", "message", "call"] {
            let query = format!("{{ {field}(id: \"{id}\") {{ id }} }}");
            lookups.push(Lookup { field, query, denied: json!({ field: null }) });
        }
        let query = format!("{{ nodes(ids: [\"{id}\"]) {{ id }} }}");
        lookups.push(Lookup { field: "nodes", query, denied: json!({ "nodes": [null] }) });
    }
    for filter in [format!("chatId: \"{}\"", secret.chat), "senderId: \"alice\"".into(), "kinds: [TEXT]".into()] {
        let query = format!("{{ searchMessages(query: \"secret\", filter: {{ {filter} }}) {{ nodes {{ id }} }} }}");
        lookups.push(Lookup { field: "searchMessages", query, denied: json!({ "searchMessages": { "nodes": [] } }) });
    }
    let query = format!("{{ calls(filter: {{ chatId: \"{}\" }}) {{ nodes {{ id }} }} }}", secret.chat);
    lookups.push(Lookup { field: "calls", query, denied: json!({ "calls": { "nodes": [] } }) });
    lookups
}

/// Returns the subscriptions to the group and to its call.
///
/// Presence is not among them: it belongs to the organization.
fn subscriptions(schema: &Schema, secret: &SecretGroup) -> Vec<(String, Value)> {
    const CALL_FEED: &str = "subscription($call: ID!, $own: ID, $connection: ID) {
            callFeed(callId: $call, participantId: $own, connectionId: $connection) { __typename }
        }";
    let fields = schema.fields_with_ids("Subscription").into_iter().filter(|field| field != "presence");
    let to_subscriptions = |field: String| match field.as_str() {
        "callFeed" => vec![
            (CALL_FEED.to_owned(), json!({ "call": secret.call })),
            (CALL_FEED.to_owned(), json!({ "call": secret.call, "own": secret.alice_participant })),
            (CALL_FEED.to_owned(), json!({ "call": secret.call, "connection": secret.alice_connection })),
        ],
        field => {
            let query = format!("subscription($chat: ID!) {{ {field}(chatId: $chat) {{ __typename }} }}");
            vec![(query, json!({ "chat": secret.chat }))]
        }
    };
    fields.flat_map(to_subscriptions).collect()
}

/// Settings with which the server changes no row by itself during a test.
///
/// It would store when subscribers were last seen, and end calls.
const NO_TIMEOUTS: [(&str, &str); 3] = [
    ("PARLOR_PRESENCE_GRACE_SECONDS", "300"),
    ("PARLOR_CALL_RING_SECONDS", "600"),
    ("PARLOR_CALL_LOST_SECONDS", "600"),
];

/// A user who is not a member of the group.
struct NonMember {
    user: User,
    is_in_other_organization: bool,
    /// True if the user has all permissions, also those to moderate and administer the organization.
    is_moderator: bool,
}

impl NonMember {
    async fn create(app: &TestApp, organization: &str, id: &str, is_moderator: bool) -> Self {
        let permissions = [&PERMISSIONS[..], &["organization.admin"]].concat();
        let user = app.user_in(organization, id, is_moderator.then_some(&permissions)).await;
        Self { user, is_in_other_organization: organization != "demo", is_moderator }
    }

    /// Returns the error code that the user receives, or `None` where the call is allowed.
    fn receives(&self, row: &Row) -> Option<&'static str> {
        match row.field {
            "resolveReport" if self.is_moderator => self.is_in_other_organization.then_some(NOT_FOUND),
            "blockWords" | "unblockWords" | "revokeSessions" if self.is_moderator => None,
            // The host's service need not be a member of the chats of the host's resources.
            "ensureResourceChat" | "removeMember" | "unbanMember"
                if self.is_moderator && !self.is_in_other_organization =>
            {
                None
            }
            // The members of the chat are unknown to the other organization.
            "ensureResourceChat" if self.is_moderator => Some(NOT_FOUND),
            _ if self.is_in_other_organization => row.other_organization,
            _ => row.non_member,
        }
    }

    async fn assert_denied(&self, app: &TestApp, secret: &SecretGroup, own: &OwnChat, schema: &Schema) {
        let Self { user, is_in_other_organization, is_moderator } = self;
        let name =
            format!("{} of {}", user.id, if *is_in_other_organization { "another organization" } else { "demo" });
        let before = DatabaseDump::take(&app.database).await;
        let nonexistent = secret.nonexistent();
        for (row, nonexistent_row) in rows(secret, own).iter().zip(rows(&nonexistent, own)) {
            let Some(code) = self.receives(row) else { continue };
            let reply = call(user, schema, row).await;
            assert_rejected(&reply, row, code);
            if code == NOT_FOUND {
                // The message must not differ from the one for an object that has never existed.
                let expected = call(user, schema, &nonexistent_row).await.body["errors"][0]["message"].clone();
                assert_eq!(reply.body["errors"][0]["message"], expected, "{}: {}", row.field, row.input);
            }
        }
        for Lookup { query, denied, .. } in lookups(secret) {
            let may_read_report = *is_moderator && !is_in_other_organization && query.contains(&secret.report);
            if !may_read_report {
                assert_eq!(user.ask(&query).await.data(), &denied, "{name}: {query}");
            }
        }
        let query = "{ user(id: \"carol\") { id } organization: node(id: \"org_demo\") { id } }";
        let visible = if *is_in_other_organization { json!(null) } else { json!({ "id": "carol" }) };
        assert_eq!(user.ask(query).await.at("user"), &visible);
        self.assert_lists_exclude(secret, own).await;
        for query in ["{ reports { nodes { id } } }", "{ blockedWords { word } }"] {
            let reply = user.ask(query).await;
            match (*is_moderator, *is_in_other_organization) {
                (false, _) => reply.assert_error(FORBIDDEN),
                (true, true) => assert!(matches!(
                    reply.data().to_string().as_str(),
                    "{\"reports\":{\"nodes\":[]}}" | "{\"blockedWords\":[]}"
                )),
                (true, false) => drop(reply.data()),
            }
        }
        for (query, variables) in subscriptions(schema, secret) {
            let mut feed = user.subscribe(&query, variables).await;
            assert_eq!(feed.error_code().await, NOT_FOUND, "{name}: {query}");
        }
        before.assert_unchanged(&DatabaseDump::take(&app.database).await, &format!("after all calls of {name}"));
    }

    /// Asserts that the user's lists have nothing of the group: they have the user's own chat only.
    async fn assert_lists_exclude(&self, secret: &SecretGroup, own: &OwnChat) {
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
        for notification in lists.at("viewer.notifications.nodes").as_array().expect("a list") {
            assert_eq!(notification, &json!({ "chat": null, "message": null }));
        }
        assert!(secret.ids().iter().all(|id| !lists.body.to_string().contains(id.as_str())), "{}", lists.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_covers_every_schema_field() {
    let app = TestApp::sqlite(&[]).await;
    let secret = SecretGroup::create(&group_users(&app).await, "1").await;
    let own = OwnChat { chat: secret.chat.clone(), message: secret.message.clone() };
    let schema = Schema::read();
    let mutations: BTreeSet<String> = schema.fields("Mutation").into_iter().collect();
    let with_rows: BTreeSet<String> = rows(&secret, &own).iter().map(|row| row.field.to_owned()).collect();
    assert_eq!(with_rows, mutations, "mutations with rows, and the mutations of the schema");
    let queries: BTreeSet<String> = schema.fields_with_ids("Query").into_iter().collect();
    let covered = lookups(&secret).into_iter().map(|lookup| lookup.field.to_owned());
    // A user belongs to the organization, not to the group.
    assert_eq!(covered.chain(["user".to_owned()]).collect::<BTreeSet<_>>(), queries, "queries that take an id");
    let with_ids = schema.fields_with_ids("Subscription");
    let without_ids: Vec<_> =
        schema.fields("Subscription").into_iter().filter(|field| !with_ids.contains(field)).collect();
    assert_eq!(without_ids, ["inboxFeed"], "subscriptions that need no id");
    app.stop().await;
}

/// A row that even the owner cannot call would be rejected for another reason than missing permission.
#[tokio::test(flavor = "multi_thread")]
async fn owner_is_allowed_every_row() {
    let app = TestApp::sqlite(&[]).await;
    let schema = Schema::read();
    let users = group_users(&app).await;
    let owner = app.user_in("demo", "alice", Some(&PERMISSIONS)).await;
    let own = OwnChat::create(&owner).await;
    let mut secret = SecretGroup::create(&users, "1").await;
    for index in 0..rows(&secret, &own).len() {
        let row = rows(&secret, &own).swap_remove(index);
        let reply = call(&owner, &schema, &row).await;
        match row.owner {
            Some(code) => assert_rejected(&reply, &row, code),
            None => assert!(reply.body.get("errors").is_none(), "{}: {}: {}", row.field, row.input, reply.body),
        }
        if row.field == "leaveChat" {
            secret = SecretGroup::create(&users, "2").await;
        }
    }
    app.stop().await;
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn non_member_is_denied_every_row(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    // Dora is a former member.
    for (id, is_moderator) in [("mallory", false), ("dora", false), ("dora", true)] {
        let non_member = NonMember::create(app, "demo", id, is_moderator).await;
        let own = OwnChat::create(&non_member.user).await;
        non_member.assert_denied(app, &secret, &own, &schema).await;
        non_member.user.mutate_returning("deleteChat", json!({ "chatId": own.chat }), "deletedChatId").await.data();
    }
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn other_organization_with_valid_ids_is_denied_every_row(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    // In another organization, the same ids belong to other users.
    for (id, is_moderator) in [("mallory", false), ("alice", false), ("bob", true)] {
        let non_member = NonMember::create(app, "other", id, is_moderator).await;
        let own = OwnChat::create(&non_member.user).await;
        non_member.assert_denied(app, &secret, &own, &schema).await;
    }
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn member_is_allowed_only_member_rows(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    let own = OwnChat::create(&users.bob).await;
    let before = DatabaseDump::take(&app.database).await;
    for row in rows(&secret, &own) {
        if let Some(code) = row.member {
            assert_rejected(&call(&users.bob, &schema, &row).await, &row, code);
        }
    }
    for query in ["{ reports { nodes { id } } }", "{ blockedWords { word } }"] {
        users.bob.ask(query).await.assert_error(FORBIDDEN);
    }
    // A member sees neither notifications of others nor reports.
    for id in [&secret.notification, &secret.report] {
        assert_eq!(users.bob.ask(&format!("{{ node(id: \"{id}\") {{ id }} }}")).await.at("node"), &json!(null));
    }
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all calls of a member");
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn owner_without_permission_is_denied(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    let own = OwnChat::create(&users.alice).await;
    let before = DatabaseDump::take(&app.database).await;
    let mut required = BTreeSet::new();
    for permission in PERMISSIONS {
        let lacking = app.user_in("demo", "alice", Some(&all_but(permission))).await;
        for row in rows(&secret, &own).iter().filter(|row| row.permission == Some(permission)) {
            assert_rejected(&call(&lacking, &schema, row).await, row, FORBIDDEN);
            required.insert(permission);
        }
    }
    assert_eq!(
        required,
        ["chat.create_group", "chat.delete", "chat.initiate_call", "chat.manage_group", "chat.moderate"].into()
    );
    let lacking = app.user_in("demo", "alice", Some(&all_but("chat.create_group"))).await;
    let input = json!({ "resource": { "type": "project", "id": "2" }, "title": "New", "memberIds": [] });
    lacking.mutate_returning("ensureResourceChat", input, "chat { id }").await.assert_error(FORBIDDEN);
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all calls without a permission");
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn missing_view_permission_hides_every_chat(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    let own = OwnChat::create(&users.alice).await;
    let viewer = app.user_in("demo", "alice", Some(&all_but("chat.view"))).await;
    let before = DatabaseDump::take(&app.database).await;
    for row in rows(&secret, &own) {
        match (row.field, row.owner) {
            // These belong to the organization, not to a chat.
            ("blockWords" | "unblockWords" | "resolveReport", _) => {}
            ("renewSession", Some(code)) => assert_rejected(&call(&viewer, &schema, &row).await, &row, code),
            (_, Some(NOT_FOUND)) => assert_rejected(&call(&viewer, &schema, &row).await, &row, NOT_FOUND),
            _ => assert_rejected(&call(&viewer, &schema, &row).await, &row, FORBIDDEN),
        }
    }
    for Lookup { field, query, denied } in lookups(&secret) {
        let reply = viewer.ask(&query).await;
        match field {
            "searchMessages" | "calls" => reply.assert_error(FORBIDDEN),
            _ if query.contains(&secret.report) => {}
            _ => assert_eq!(reply.data(), &denied, "{query}"),
        }
    }
    let query =
        format!("{{ node(id: \"{}\") {{ ... on Report {{ chat {{ id }} message {{ id }} }} }} }}", secret.report);
    assert_eq!(viewer.ask(&query).await.at("node"), &json!({ "chat": null, "message": null }));
    for query in [
        "{ chats { nodes { id } } }",
        "{ user(id: \"bob\") { presence { status } } }",
        "{ users { nodes { presence { status } } } }",
        "{ viewer { user { presence { status } } } }",
        "{ viewer { unread { messages } } }",
        "{ viewer { notifications { nodes { id } } } }",
        "{ viewer { iceServers { urls } } }",
    ] {
        let codes = viewer.ask(query).await.body["errors"].clone();
        let codes: BTreeSet<_> =
            codes.as_array().into_iter().flatten().map(|e| e["extensions"]["code"].clone().to_string()).collect();
        assert_eq!(codes, [format!("{FORBIDDEN:?}")].into(), "{query}");
    }
    for query in ["presence(userIds: [\"bob\"]) { status }", "inboxFeed { __typename }"] {
        let mut feed = viewer.subscribe(&format!("subscription {{ {query} }}"), json!({})).await;
        assert_eq!(feed.error_code().await, FORBIDDEN, "{query}");
    }
    for (query, variables) in subscriptions(&schema, &secret) {
        let mut feed = viewer.subscribe(&query, variables).await;
        assert_eq!(feed.error_code().await, NOT_FOUND, "{query}");
    }
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all calls without the permission");
}

#[engine_test(settings = NO_TIMEOUTS)]
async fn anonymous_requester_is_denied_every_field(app: &TestApp) {
    let users = group_users(app).await;
    let secret = SecretGroup::create(&users, "1").await;
    let schema = Schema::read();
    let own = OwnChat::create(&users.alice).await;
    let before = DatabaseDump::take(&app.database).await;
    let ask = async |query: &str, variables: Value| {
        let body = json!({ "query": query, "variables": variables });
        let response = reqwest::Client::new().post(app.url("/graphql")).json(&body).send().await.expect("a response");
        response.json::<Value>().await.expect("JSON")
    };
    assert_eq!(ask("{ __typename }", json!({})).await, json!({ "data": { "__typename": "Query" } }));
    let is_unauthenticated = |reply: &Value| reply["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED";
    for row in rows(&secret, &own) {
        let reply = ask(&schema.operation("Mutation", row.field), json!({ "input": row.input })).await;
        assert!(is_unauthenticated(&reply), "{}: {reply}", row.field);
    }
    for Lookup { query, .. } in lookups(&secret) {
        let reply = ask(&query, json!({})).await;
        assert!(is_unauthenticated(&reply), "{query}: {reply}");
    }
    for field in schema.fields("Query") {
        let variables = json!({ "id": secret.chat, "ids": [secret.chat], "query": "secret" });
        let reply = ask(&schema.operation("Query", &field), variables).await;
        assert!(is_unauthenticated(&reply), "{field}: {reply}");
    }
    before.assert_unchanged(&DatabaseDump::take(&app.database).await, "after all calls without a token");
}
