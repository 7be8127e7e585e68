//! The values of `DateTime` and `URL` in arguments and input objects, and the errors of wrong ones.

use std::collections::BTreeSet;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, InputValueDefinition, Type, TypeKind, TypeSystemDefinition};
use serde_json::{Value, json};
use testkit::{TestApp, engine_test};

/// A scalar's coordinate in the schema, an operation with `VALUE` there, and the field of its errors.
type Place = (&'static str, &'static str, &'static str);

const DATE_TIMES: [Place; 9] = [
    (
        "MessageSearchFilter.since",
        "{ searchMessages(query: \"x\", filter: { since: VALUE }) { nodes { id } } }",
        "filter.since",
    ),
    (
        "MessageSearchFilter.until",
        "{ searchMessages(query: \"x\", filter: { until: VALUE }) { nodes { id } } }",
        "filter.until",
    ),
    ("CallFilter.since", "{ calls(filter: { since: VALUE }) { nodes { id } } }", "filter.since"),
    ("CallFilter.until", "{ calls(filter: { until: VALUE }) { nodes { id } } }", "filter.until"),
    (
        "Organization.callStatistics.since",
        "{ viewer { organization { callStatistics(since: VALUE, until: \"2030-01-01T00:00:00Z\") { since } } } }",
        "since",
    ),
    (
        "Organization.callStatistics.until",
        "{ viewer { organization { callStatistics(since: \"2030-01-01T00:00:00Z\", until: VALUE) { since } } } }",
        "until",
    ),
    (
        "PollInput.closesAt",
        "{ sendMessage(input: { chatId: \"CHAT\", poll: { question: \"?\", options: [\"a\", \"b\"], closesAt: VALUE } }) \
         { message { id } } }",
        "poll.closesAt",
    ),
    (
        "SilenceMemberInput.until",
        "{ silenceMember(input: { chatId: \"CHAT\", userId: \"bob\", until: VALUE }) { member { role } } }",
        "until",
    ),
    (
        "UpdateMyMembershipInput.mutedUntil",
        "{ updateMyMembership(input: { chatId: \"CHAT\", mutedUntil: VALUE }) { member { role } } }",
        "mutedUntil",
    ),
];

const URLS: [Place; 2] = [
    (
        "CreateChatInput.avatarUrl",
        "{ createChat(input: { kind: GROUP, title: \"T\", memberIds: [], avatarUrl: VALUE }) { chat { id } } }",
        "avatarUrl",
    ),
    (
        "UpdateChatInput.avatarUrl",
        "{ updateChat(input: { chatId: \"CHAT\", avatarUrl: VALUE }) { chat { id } } }",
        "avatarUrl",
    ),
];

/// Returns the coordinates of the arguments and input fields of a scalar.
fn places_in_schema(scalar: &str) -> BTreeSet<String> {
    fn base_name(ty: &Type) -> &str {
        match &ty.base {
            BaseType::Named(name) => name,
            BaseType::List(item) => base_name(item),
        }
    }
    let mut places = BTreeSet::new();
    let mut add = |owner: String, input: &InputValueDefinition| {
        if base_name(&input.ty.node) == scalar {
            places.insert(format!("{owner}.{}", input.name.node));
        }
    };
    for definition in parse_schema(parlor::graphql::schema::sdl()).expect("a schema").definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let name = &definition.node.name.node;
        match &definition.node.kind {
            TypeKind::InputObject(input) => {
                input.fields.iter().for_each(|field| add(name.to_string(), &field.node));
            }
            TypeKind::Object(object) => object.fields.iter().for_each(|field| {
                let owner = format!("{name}.{}", field.node.name.node);
                field.node.arguments.iter().for_each(|argument| add(owner.clone(), &argument.node));
            }),
            _ => {}
        }
    }
    places
}

/// Asserts that wrong values are refused in every place of a scalar, as literals and as variables.
async fn assert_refused_everywhere(app: &TestApp, scalar: &str, places: &[Place], wrong: &[(Value, &str)]) {
    let covered: BTreeSet<String> = places.iter().map(|(coordinate, ..)| (*coordinate).to_owned()).collect();
    assert_eq!(places_in_schema(scalar), covered, "each place of {scalar} needs a case");
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    for (coordinate, selection, field) in places {
        let keyword = if selection.contains("input:") { "mutation" } else { "query" };
        let operation = selection.replace("CHAT", &chat);
        for (value, rule) in wrong {
            let literal = format!("{keyword} {}", operation.replace("VALUE", &value.to_string()));
            let with_variable = format!("{keyword}($value: {scalar}!) {}", operation.replace("VALUE", "$value"));
            for reply in [alice.ask(&literal).await, alice.ask_with(&with_variable, json!({ "value": value })).await] {
                reply.assert_bad_input(field);
                let error = &reply.body["errors"][0];
                assert_eq!(error["message"], format!("{field} {rule}"), "{coordinate}: {value}");
                assert!(error["path"].is_array() && error["locations"].is_array(), "{error}");
            }
        }
    }
}

#[engine_test]
async fn wrong_date_time_is_refused_with_its_field_in_every_place(app: &TestApp) {
    let form = "must be an RFC 3339 date and time such as 2026-11-21T09:30:00Z";
    let wrong = [
        (json!("soon"), form),
        (json!(""), form),
        (json!("2030-01-01"), form),
        (json!("2030-01-01T24:00:00Z"), form),
        (json!("2030-01-01T12:30:00+24:00"), form),
        (json!("2030-01-01T12:30:60Z"), "must not be a leap second: seconds are 00 to 59"),
        (json!("9999-12-31T23:59:59-00:01"), "must be in the years 1 to 9999 in UTC"),
        (json!("0001-01-01T00:00:00+00:01"), "must be in the years 1 to 9999 in UTC"),
        (json!(1_900_000_000), "must be a string"),
        (json!(true), "must be a string"),
        (json!(["2030-01-01T12:30:00Z"]), "must be a string"),
    ];
    assert_refused_everywhere(app, "DateTime", &DATE_TIMES, &wrong).await;
}

#[engine_test]
async fn wrong_url_is_refused_with_its_field_in_every_place(app: &TestApp) {
    let form = "must be an absolute http or https URL";
    let wrong = [
        (json!("nonsense"), form),
        (json!("javascript:alert(1)"), form),
        (json!("https://[::1"), form),
        (json!("https://a.example:99999/"), form),
        (json!("/relative"), form),
        (json!("https://user@a.example/"), "must not contain a user name or password"),
        (json!(7), "must be a string"),
        (json!({}), "must be a string"),
    ];
    assert_refused_everywhere(app, "URL", &URLS, &wrong).await;
}

#[engine_test]
async fn date_time_is_returned_as_it_was_stored(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for (given, shown) in [
        ("2030-01-01t12:30:00z", "2030-01-01T12:30:00.000Z"),
        ("2030-01-01T12:30:59.123999+01:00", "2030-01-01T11:30:59.123Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999Z"),
    ] {
        let update = json!({ "chatId": chat, "mutedUntil": given });
        let reply = alice.mutate_returning("updateMyMembership", update, "member { mutedUntil }").await;
        assert_eq!(reply.at("updateMyMembership.member.mutedUntil"), shown, "{given}");
        assert_eq!(
            alice.fetch_chat(&chat, "viewerMembership { mutedUntil }").await["viewerMembership"]["mutedUntil"],
            shown
        );
    }
}
