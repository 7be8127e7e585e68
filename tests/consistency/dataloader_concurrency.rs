//! What one operation asks for at once doesn't stand in its own way.

use std::fmt::Write as _;

use futures_util::future::join_all;
use serde_json::json;
use testkit::{TestApp, engine_test};

/// More than there are connections, of either engine.
const FIELDS: usize = 24;

/// Lists hold a connection each while they are read, and what else is looked up meanwhile needs one too.
fn lists_and_look_ups(chat: &str) -> String {
    let mut fields = String::new();
    for number in 0..FIELDS {
        let look_up = format!(
            "look{number}: chat(id: \"{chat}\") {{ messages {{ totalCount }} viewerMembership {{ unreadCount }} }}"
        );
        write!(fields, "list{number}: chats {{ nodes {{ id lastMessage {{ id }} }} }} {look_up} ").expect("a text");
    }
    format!("{{ {fields} viewer {{ unread {{ chats }} notifications {{ nodes {{ id }} }} }} }}")
}

#[engine_test(settings = [("PARLOR_MAX_COMPLEXITY", "10000000")])]
async fn lists_beyond_pool_size_load_beside_lookups(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let answer = alice.ask(&lists_and_look_ups(&chat)).await;
    for number in 0..FIELDS {
        assert_eq!(answer.at(&format!("list{number}.nodes.0.id")), &json!(chat));
    }
    let many = join_all((0..FIELDS).map(async |_| {
        let answer = alice.ask(&format!("{{ chats {{ nodes {{ id }} }} chat(id: \"{chat}\") {{ id }} }}")).await;
        assert_eq!(answer.at("chat.id"), &json!(chat));
    }));
    many.await;
}
