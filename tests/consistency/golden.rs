//! The spelling of everything that is stored in the database or sent between nodes.
//!
//! Databases and running nodes outlive a release, so the names of tables, columns, JSON keys and enum values may not
//! change by accident. Scenarios that use the API alone fill every table and make nodes publish every kind of message.
//! The result is compared with `golden/*.txt`; `UPDATE_GOLDEN=1` writes these files again.

mod cluster;
pub mod rows;

use std::path::Path;

use serde_json::{Value, json};

use testkit::User;

/// A fixed time in the far future: the fingerprint of a poll covers the time at which it closes.
const FAR_FUTURE: &str = "2100-01-01T00:00:00Z";
/// The permissions that the scenarios need.
const PERMISSIONS: &str = "chat.view chat.create_group chat.manage_group chat.delete chat.initiate_call chat.moderate \
                           organization.admin";

/// The prefixes of the server's own ids in the API.
const ID_KINDS: [&str; 9] =
    ["chat", "notice", "report", "msg", "option", "call", "participant", "connection", "member"];

fn permissions() -> Vec<&'static str> {
    PERMISSIONS.split(' ').collect()
}

/// Returns a policy with each action of a chat and each role.
fn policy() -> Value {
    let actions = "POST MENTION_EVERYONE EDIT_DETAILS ADD_MEMBERS REMOVE_MEMBERS SILENCE_MEMBERS CHANGE_ROLES \
                   DELETE_OTHERS_MESSAGES PIN START_CALL DELETE_CHAT";
    let roles = ["MEMBER", "MODERATOR", "ADMIN", "OWNER"];
    actions
        .split(' ')
        .zip(roles.iter().cycle())
        .map(|(action, role)| json!({ "action": action, "role": role }))
        .collect()
}

/// Runs a mutation and returns the text at a path of its payload.
async fn mutate(user: &User, field: &str, input: Value, path: &str) -> String {
    let selection = path.split('.').rev().fold(String::new(), |inner, step| match inner.as_str() {
        "" => step.to_owned(),
        inner => format!("{step} {{ {inner} }}"),
    });
    user.mutate_returning(field, input, &selection).await.text(&format!("{field}.{path}"))
}

/// Starts a call, and returns its id with those of the user's participant and connection.
async fn start_call(user: &User, chat: &str, kind: &str) -> (String, String, String) {
    let media = json!({ "audio": true, "video": kind == "VIDEO", "screen": false });
    let input = json!({ "chatId": chat, "kind": kind, "deviceId": "phone", "media": media });
    let reply = user.mutate_returning("startCall", input, "call { id } participant { id connectionId }").await;
    let text = |path: &str| reply.text(&format!("startCall.{path}"));
    (text("call.id"), text("participant.id"), text("participant.connectionId"))
}

/// Joins a call, and returns the id of the user's connection.
async fn join_call(user: &User, call: &str) -> String {
    mutate(user, "joinCall", json!({ "callId": call, "deviceId": "laptop" }), "participant.connectionId").await
}

/// Returns the ids of a poll's options.
async fn option_ids(user: &User, poll: &str) -> Vec<Value> {
    let query = "query($id: ID!) { message(id: $id) { poll { options { id } } } }";
    let reply = user.ask_with(query, json!({ "id": poll })).await;
    let options = reply.at("message.poll.options").as_array().expect("a list");
    options.iter().map(|option| option["id"].clone()).collect()
}

/// Replaces ids and times, which differ from run to run.
fn normalized(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_token_char = |c: char| c.is_ascii_alphanumeric() || "_-.:+".contains(c);
        let length = match first.is_ascii_alphanumeric() {
            true => rest.find(|c| !is_token_char(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (token, remaining) = rest.split_at(length);
        result += &normalized_token(token);
        rest = remaining;
    }
    result
}

fn normalized_token(token: &str) -> String {
    let bytes = token.as_bytes();
    let dashes = |indexes: &[usize]| indexes.iter().all(|index| bytes.get(*index) == Some(&b'-'));
    let is_hex = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
    match token.split_once('_') {
        _ if token.len() == 36 && dashes(&[8, 13, 18, 23]) => "<id>".to_owned(),
        _ if token.len() == 32 && token.chars().all(is_hex) => "<id>".to_owned(),
        _ if token.len() == 16 && token.chars().all(|c| c.is_ascii_digit()) => "<time>".to_owned(),
        _ if token.len() >= 20 && dashes(&[4, 7]) && bytes[10] == b'T' => "<time>".to_owned(),
        // An id of the API, whose base64 has at least the 16 bytes of a UUID.
        Some((kind, id)) if ID_KINDS.contains(&kind) && id.len() >= 22 => format!("{kind}_<id>"),
        _ => token.to_owned(),
    }
}

/// Compares a text with its golden file, or overwrites that file.
fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consistency/golden").join(name);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|update| update == "1") {
        return std::fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file: UPDATE_GOLDEN=1 writes it");
    let lines_only_in = |one: &str, other: &str, mark: &str| -> Vec<String> {
        let lines = one.lines().filter(|line| !other.lines().any(|other_line| other_line == *line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    let differences = [lines_only_in(&golden, text, "-"), lines_only_in(text, &golden, "+")].concat().join("\n");
    assert!(golden == text, "{name} is different:\n{differences}");
}
