//! The lists and lookups of one operation do not block each other.

use std::fmt::Write as _;

use futures_util::future::join_all;
use serde_json::json;
use testkit::{TestApp, engine_test};

/// More fields than either engine has connections.
const FIELDS: usize = 24;

/// Returns a query of lists and lookups.
///
/// A list holds a connection while it is read, and the lookups meanwhile need one too.
fn lists_and_lookups(chat: &str) -> String {
    let mut fields = String::new();
    for number in 0..FIELDS {
        let lookup = format!(
            "lookup{number}: chat(id: \"{chat}\") {{ messages {{ totalCount }} viewerMembership {{ unreadCount }} }}"
        );
        write!(fields, "list{number}: chats {{ nodes {{ id lastMessage {{ id }} }} }} {lookup} ").expect("a text");
    }
    format!("{{ {fields} viewer {{ unread {{ chats }} notifications {{ nodes {{ id }} }} }} }}")
}

#[engine_test(settings = [("PARLOR_MAX_COMPLEXITY", "10000000")])]
async fn lists_beyond_pool_size_load_beside_lookups(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let reply = alice.ask(&lists_and_lookups(&chat)).await;
    for number in 0..FIELDS {
        assert_eq!(reply.at(&format!("list{number}.nodes.0.id")), &json!(chat));
    }
    let requests = join_all((0..FIELDS).map(async |_| {
        let reply = alice.ask(&format!("{{ chats {{ nodes {{ id }} }} chat(id: \"{chat}\") {{ id }} }}")).await;
        assert_eq!(reply.at("chat.id"), &json!(chat));
    }));
    requests.await;
}
