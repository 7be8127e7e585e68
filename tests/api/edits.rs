//! Edits of messages: the texts that a message keeps, and how often it may be edited.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

async fn try_edit(user: &User, id: &str, text: &str) -> testkit::Reply {
    user.mutate("editMessage", json!({ "messageId": id, "text": text })).await
}

async fn edit(user: &User, id: &str, text: &str) {
    try_edit(user, id, text).await.data();
}

/// Returns a page of the previous texts of a message.
async fn history(user: &User, id: &str, arguments: &str) -> Value {
    let selection = format!(
        "editHistory{arguments} {{ nodes {{ text editedAt }} edges {{ cursor }}
         pageInfo {{ hasPreviousPage hasNextPage startCursor endCursor }} }}"
    );
    user.fetch_message(id, &selection).await["editHistory"].clone()
}

async fn texts(user: &User, id: &str, arguments: &str) -> Vec<Value> {
    pluck(&history(user, id, arguments).await["nodes"], "text")
}

#[engine_test]
async fn edit_history_is_paged_from_both_ends(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "0").await;
    for n in 1..=5 {
        edit(&alice, &id, &n.to_string()).await;
    }
    let all = history(&bob, &id, "").await;
    assert_eq!(pluck(&all["nodes"], "text"), ["0", "1", "2", "3", "4"]);
    assert!(all["nodes"].as_array().unwrap().iter().all(|revision| revision["editedAt"].is_string()), "{all}");
    let cursor = |n: usize| all["edges"][n]["cursor"].as_str().unwrap();
    for (arguments, expected, previous, next) in [
        ("(first: 2)".to_owned(), &["0", "1"][..], false, true),
        ("(last: 2)".to_owned(), &["3", "4"], true, false),
        (format!("(first: 2, after: \"{}\")", cursor(1)), &["2", "3"], true, true),
        (format!("(last: 2, before: \"{}\")", cursor(4)), &["2", "3"], true, true),
        (format!("(after: \"{}\", before: \"{}\")", cursor(0), cursor(2)), &["1"], true, false),
        (format!("(after: \"{}\")", cursor(4)), &[], true, false),
        ("(first: 0)".to_owned(), &[], false, true),
    ] {
        let page = history(&bob, &id, &arguments).await;
        assert_eq!(pluck(&page["nodes"], "text"), expected, "{arguments}");
        let info = &page["pageInfo"];
        assert_eq!((&info["hasPreviousPage"], &info["hasNextPage"]), (&json!(previous), &json!(next)), "{arguments}");
    }
    for (arguments, field) in [
        ("(first: 101)", "first"),
        ("(last: -1)", "last"),
        ("(after: \"x\")", "after"),
        ("(first: 1, last: 1)", "last"),
    ] {
        let query = format!("{{ message(id: \"{id}\") {{ editHistory{arguments} {{ nodes {{ text }} }} }} }}");
        bob.ask(&query).await.assert_bad_input(field);
    }
    alice.delete_message(&id).await;
    assert_eq!(texts(&bob, &id, "").await, Vec::<Value>::new());
}

#[engine_test]
async fn message_keeps_original_and_latest_texts_up_to_their_number(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let id = alice.send(&chat, "0").await;
    for n in 1..=53 {
        edit(&alice, &id, &n.to_string()).await;
    }
    let kept = texts(&alice, &id, "(first: 100)").await;
    let expected: Vec<String> = std::iter::once(0).chain(4..=52).map(|n: i32| n.to_string()).collect();
    assert_eq!(kept, expected);
    assert_eq!(app.database.query_number("SELECT COUNT(*) FROM revisions").await, 50);
    assert_eq!(alice.fetch_message(&id, "text").await["text"], "53");
}

#[engine_test]
async fn message_keeps_original_and_latest_texts_up_to_their_size(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    // 32,000 bytes each, of which 8 fit.
    let text = |n: usize| char::from_digit(n as u32, 36).unwrap().to_string() + &"😀".repeat(7_999);
    let id = alice.send(&chat, &text(0)).await;
    for n in 1..=11 {
        edit(&alice, &id, &text(n)).await;
    }
    let kept = texts(&alice, &id, "").await;
    let first_characters: String = kept.iter().map(|text| text.as_str().unwrap().chars().next().unwrap()).collect();
    assert_eq!(first_characters, "0456789a");
}

#[engine_test(settings = [("PARLOR_SENDS_PER_MINUTE", "4")])]
async fn edits_and_messages_share_one_rate_limit(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    app.app.clock.pause();
    let id = alice.send(&chat, "0").await;
    for n in 1..4 {
        edit(&alice, &id, &n.to_string()).await;
    }
    let wait = try_edit(&alice, &id, "4").await.retry_after();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(15), "{wait:?}");
    alice.try_send_message(&chat, json!({ "text": "another" })).await.retry_after();
    assert_eq!(alice.fetch_message(&id, "text").await["text"], "3");
    bob.send(&chat, "each user has a limit of their own").await;
    app.app.clock.advance(wait);
    edit(&alice, &id, "4").await;
    try_edit(&alice, &id, "5").await.retry_after();
}

#[engine_test]
async fn slow_mode_applies_to_edits_other_than_the_first_of_the_last_message(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let old = bob.send(&chat, "old").await;
    alice.mutate_ok("updateChat", json!({ "chatId": chat, "slowModeSeconds": 30 })).await;
    app.app.clock.pause();
    app.advance(30);
    let last = bob.send(&chat, "one").await;
    let can_edit = async |id: &str| bob.fetch_message(id, "viewerCanEdit").await["viewerCanEdit"].clone();
    assert_eq!((can_edit(&old).await, can_edit(&last).await), (json!(false), json!(true)));
    assert_eq!(try_edit(&bob, &old, "older").await.retry_after(), Duration::from_secs(30));
    edit(&bob, &last, "two").await;
    assert_eq!(can_edit(&last).await, false);
    for id in [&last, &old, &last] {
        assert_eq!(try_edit(&bob, id, "three").await.retry_after(), Duration::from_secs(30));
    }
    app.advance(29);
    assert_eq!(try_edit(&bob, &last, "three").await.retry_after(), Duration::from_secs(1));
    app.advance(1);
    edit(&bob, &old, "older").await;
    // The edit starts the interval again, for messages and edits alike.
    assert_eq!(try_edit(&bob, &last, "three").await.retry_after(), Duration::from_secs(30));
    let next = bob.try_send_message(&chat, json!({ "text": "next" })).await;
    assert_eq!(next.retry_after(), Duration::from_secs(30));
    app.advance(30);
    bob.send(&chat, "next").await;
    assert_eq!(texts(&bob, &last, "").await, ["one"]);
    let own = alice.send(&chat, "mine").await;
    for text in ["mine!", "mine?", "mine."] {
        edit(&alice, &own, text).await;
    }
}
