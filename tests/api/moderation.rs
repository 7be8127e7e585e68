//! Moderation: reports of messages, and the blocked words of an organization.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test, pluck};

const ALL: [&str; 4] = ["chat.view", "chat.create_group", "chat.manage_group", "chat.moderate"];

async fn moderator(app: &TestApp, organization: &str, id: &str) -> User {
    app.user_in(organization, id, Some(&ALL)).await
}

async fn report(user: &User, message: &str, reason: &str) -> Reply {
    user.mutate_returning("reportMessage", json!({ "messageId": message, "reason": reason }), "reportId").await
}

async fn resolve(user: &User, report: &Value, resolution: &str) -> Reply {
    let input = json!({ "reportId": report, "resolution": resolution });
    user.mutate_returning("resolveReport", input, "report { resolvedAt resolution resolvedBy { id } }").await
}

async fn queue(user: &User, arguments: &str) -> Value {
    let fields = "id messageId text reason createdAt resolvedAt resolution reporter { id } resolvedBy { id } message { id } chat { id }";
    let query = format!("{{ reports{arguments} {{ nodes {{ {fields} }} pageInfo {{ hasNextPage endCursor }} }} }}");
    user.ask(&query).await.at("reports").clone()
}

#[engine_test]
async fn message_is_reported_once_per_user(app: &TestApp) {
    let (alice, bob, mona) = (app.user("alice").await, app.user("bob").await, moderator(app, "demo", "mod").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = alice.send(&chat, "something rude").await;
    let reports = join_all((0..10).map(|_| report(&bob, &message, "rude"))).await;
    let id = reports[0].text("reportMessage.reportId");
    assert!(reports.iter().all(|again| again.at("reportMessage.reportId") == id.as_str()));
    assert_eq!(report(&bob, &message, "very rude").await.at("reportMessage.reportId"), id.as_str());
    report(&alice, &message, "my own fault").await.data();
    for (reason, length) in [(String::new(), 0), (" \n".into(), 2), ("ü".repeat(1_001), 1_001)] {
        assert_eq!(reason.chars().count(), length);
        report(&bob, &message, &reason).await.assert_bad_input("reason");
    }
    report(&app.user("eve").await, &message, "rude").await.assert_error("NOT_FOUND");
    report(&bob, "msg_nonsense", "rude").await.assert_error("NOT_FOUND");
    alice.mutate_ok("editMessage", json!({ "messageId": message, "text": "something nice" })).await;
    alice.delete_message(&message).await;
    report(&bob, &message, "rude").await.data();
    let other = alice.send(&chat, "gone").await;
    alice.delete_message(&other).await;
    report(&bob, &other, "rude").await.assert_error("FORBIDDEN");
    let poll = json!({ "question": "Rude?", "options": ["yes", "no"] });
    let poll = alice.send_message(&chat, json!({ "poll": poll })).await;
    report(&bob, &poll, &"ü".repeat(1_000)).await.data();
    let queue = queue(&mona, "").await;
    let nodes = queue["nodes"].as_array().unwrap();
    assert_eq!(
        pluck(&queue["nodes"], "text"),
        ["something rude", "something rude", "Rude?"],
        "the text at the time of the report, the oldest report first"
    );
    assert!(nodes[0]["createdAt"].is_string());
    let first = json!([nodes[0]["id"], nodes[0]["messageId"], nodes[0]["reason"], nodes[0]["reporter"]["id"]]);
    assert_eq!(first, json!([id, message, "rude", "bob"]));
    for field in ["resolvedAt", "resolution", "resolvedBy", "message", "chat"] {
        assert_eq!(nodes[0][field], Value::Null, "{field}: the moderator is not a member of the chat");
    }
    let inside = moderator(app, "demo", "alice").await;
    let seen = inside.ask("{ reports { nodes { message { id text } chat { id } } } }").await;
    assert_eq!(
        seen.at("reports.nodes.0"),
        &json!({ "message": { "id": message, "text": null }, "chat": { "id": chat } })
    );
}

#[engine_test]
async fn reports_need_moderator_and_resolve_once(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (mona, mike) = (moderator(app, "demo", "mona").await, moderator(app, "demo", "mike").await);
    let other_mona = moderator(app, "other", "mona").await;
    let chat = alice.group("Walk", &[&bob]).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let message = alice.send(&chat, &n.to_string()).await;
        ids.push(json!(report(&bob, &message, "rude").await.text("reportMessage.reportId")));
    }
    let page = queue(&mona, "(first: 2)").await;
    assert_eq!((pluck(&page["nodes"], "id").as_slice(), &page["pageInfo"]["hasNextPage"]), (&ids[..2], &json!(true)));
    let rest = queue(&mona, &format!("(first: 2, after: {})", page["pageInfo"]["endCursor"])).await;
    assert_eq!((pluck(&rest["nodes"], "id").as_slice(), &rest["pageInfo"]["hasNextPage"]), (&ids[2..], &json!(false)));
    mona.ask("{ reports(first: 101) { nodes { id } } }").await.assert_bad_input("first");
    let node = "query($id: ID!) { node(id: $id) { id ... on Report { reason } } }";
    assert_eq!(
        mona.ask_with(node, json!({ "id": ids[0] })).await.at("node"),
        &json!({ "id": ids[0], "reason": "rude" })
    );
    for user in [&alice, &bob] {
        user.ask("{ reports { nodes { id } } }").await.assert_error("FORBIDDEN");
        resolve(user, &ids[0], "DISMISSED").await.assert_error("FORBIDDEN");
        assert_eq!(user.ask_with(node, json!({ "id": ids[0] })).await.at("node"), &Value::Null);
    }
    assert_eq!(queue(&other_mona, "").await["nodes"], json!([]));
    assert_eq!(other_mona.ask_with(node, json!({ "id": ids[0] })).await.at("node"), &Value::Null);
    resolve(&other_mona, &ids[0], "DISMISSED").await.assert_error("NOT_FOUND");
    resolve(&mona, &json!("report_nonsense"), "DISMISSED").await.assert_error("NOT_FOUND");
    let resolved = resolve(&mona, &ids[1], "ACTION_TAKEN").await;
    let report_after = resolved.at("resolveReport.report");
    assert_eq!(
        (&report_after["resolution"], &report_after["resolvedBy"]["id"]),
        (&json!("ACTION_TAKEN"), &json!("mona"))
    );
    assert!(report_after["resolvedAt"].is_string());
    assert_eq!(
        resolve(&mike, &ids[1], "ACTION_TAKEN").await.at("resolveReport.report"),
        report_after,
        "a second resolution of the same kind changes nothing"
    );
    resolve(&mike, &ids[1], "DISMISSED").await.assert_error("CONFLICT");
    for (arguments, expected) in [
        ("(resolved: false)", vec![ids[0].clone(), ids[2].clone()]),
        ("(resolved: true)", vec![ids[1].clone()]),
        ("", ids.clone()),
    ] {
        assert_eq!(pluck(&queue(&mike, arguments).await["nodes"], "id"), expected, "{arguments}");
    }
    let both = join_all([resolve(&mona, &ids[0], "DISMISSED"), resolve(&mike, &ids[0], "ACTION_TAKEN")]).await;
    let rejected: Vec<_> = both.iter().filter(|reply| reply.body.get("errors").is_some()).collect();
    assert_eq!(rejected.len(), 1, "exactly one of two concurrent resolutions succeeds");
    rejected[0].assert_error("CONFLICT");
}

async fn words(user: &User, field: &str, words: Value, action: Option<&str>) -> Reply {
    let mut input = json!({ "words": words });
    if let Some(action) = action {
        input["action"] = action.into();
    }
    user.mutate_returning(field, input, "blockedWords { word action }").await
}

#[engine_test]
async fn blocked_words_are_masked_or_rejected_everywhere(app: &TestApp) {
    let (alice, bob, mona) = (app.user("alice").await, app.user("bob").await, moderator(app, "demo", "mona").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let (before, rude) = (alice.send(&chat, "darn spam").await, alice.send(&chat, "darn it").await);
    let poll = |question: &str, option: &str| json!({ "question": question, "options": [option, "no"] });
    let poll_before = alice.send_message(&chat, json!({ "poll": poll("spam?", "darn") })).await;
    words(&mona, "blockWords", json!(["Dårn"]), Some("MASK")).await.data();
    words(&mona, "blockWords", json!(["spam"]), Some("REJECT")).await.data();
    assert_eq!(bob.fetch_message(&before, "text").await["text"], "darn spam", "earlier messages are unchanged");
    let id = alice.send(&chat, "Darn, DÄRN darned!").await;
    assert_eq!(bob.fetch_message(&id, "text").await["text"], "****, **** darned!");
    let found = bob.ask("{ searchMessages(query: \"darn\") { nodes { id } } }").await;
    assert!(!pluck(found.at("searchMessages.nodes"), "id").is_empty());
    assert!(pluck(found.at("searchMessages.nodes"), "id").contains(&json!(before)));
    alice.try_send_message(&chat, json!({ "text": "buy SPÄM now" })).await.assert_bad_input("text");
    alice.mutate("editMessage", json!({ "messageId": id, "text": "spam" })).await.assert_bad_input("text");
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "darn" })).await;
    assert_eq!(bob.fetch_message(&id, "text").await["text"], "****");
    alice.try_send_message(&chat, json!({ "poll": poll("spam?", "yes") })).await.assert_bad_input("poll.question");
    alice.try_send_message(&chat, json!({ "poll": poll("Really?", "spam") })).await.assert_bad_input("poll.options");
    let masked = alice.send_message(&chat, json!({ "poll": poll("Darn?", "darn it") })).await;
    let seen = bob.fetch_message(&masked, "poll { question options { text } }").await;
    assert_eq!(seen["poll"], json!({ "question": "****?", "options": [{ "text": "**** it" }, { "text": "no" }] }));
    let location_message =
        |name: &str| json!({ "location": { "latitude": 1.5, "longitude": 2.5, "name": name, "address": "darn" } });
    alice.try_send_message(&chat, location_message("spam")).await.assert_bad_input("location.name");
    let masked_location = alice.send_message(&chat, location_message("darn")).await;
    assert_eq!(
        bob.fetch_message(&masked_location, "location { name address }").await["location"],
        json!({ "name": "****", "address": "****" })
    );
    for source in [&before, &poll_before] {
        bob.mutate("forwardMessage", json!({ "messageId": source, "toChatId": chat }))
            .await
            .assert_bad_input("messageId");
    }
    let forwarded = bob
        .mutate_returning("forwardMessage", json!({ "messageId": rude, "toChatId": chat }), "message { text }")
        .await;
    assert_eq!(forwarded.at("forwardMessage.message.text"), "**** it");
    let nonce = json!({ "text": "darn", "nonce": "n" });
    assert_eq!(alice.send_message(&chat, nonce.clone()).await, alice.send_message(&chat, nonce).await);
    let other = app.user_in("other", "alice", Some(&ALL)).await;
    let other_chat = other.group("Theirs", &[]).await;
    let id = other.send(&other_chat, "darn spam").await;
    assert_eq!(other.fetch_message(&id, "text").await["text"], "darn spam", "each organization has a list of its own");
    words(&mona, "unblockWords", json!(["SPAM", "unknown"]), None).await.data();
    alice.send(&chat, "spam").await;
    words(&mona, "blockWords", json!(["darn"]), Some("REJECT")).await.data();
    alice.try_send_message(&chat, json!({ "text": "darn" })).await.assert_bad_input("text");
}

#[engine_test]
async fn blocklist_needs_moderator_and_has_limits(app: &TestApp) {
    let (alice, mona, other_mona) =
        (app.user("alice").await, moderator(app, "demo", "mona").await, moderator(app, "other", "mona").await);
    words(&alice, "blockWords", json!(["darn"]), Some("MASK")).await.assert_error("FORBIDDEN");
    words(&alice, "unblockWords", json!(["darn"]), None).await.assert_error("FORBIDDEN");
    alice.ask("{ blockedWords { word } }").await.assert_error("FORBIDDEN");
    let list = words(&mona, "blockWords", json!(["Zürn", "Dårn", "darn", " darn "]), Some("MASK")).await;
    let expected = json!([{ "word": "darn", "action": "MASK" }, { "word": "zurn", "action": "MASK" }]);
    assert_eq!(list.at("blockWords.blockedWords"), &expected);
    let changed = words(&mona, "blockWords", json!(["zurn"]), Some("REJECT")).await;
    assert_eq!(changed.at("blockWords.blockedWords.1"), &json!({ "word": "zurn", "action": "REJECT" }));
    assert_eq!(
        mona.ask("{ blockedWords { word action } }").await.at("blockedWords"),
        changed.at("blockWords.blockedWords")
    );
    assert_eq!(other_mona.ask("{ blockedWords { word } }").await.at("blockedWords"), &json!([]));
    let remaining = words(&mona, "unblockWords", json!(["Darn", "unknown"]), None).await;
    assert_eq!(remaining.at("unblockWords.blockedWords"), &json!([{ "word": "zurn", "action": "REJECT" }]));
    for invalid in [json!([]), json!(["two words"]), json!(["fine", ""]), json!(["…"]), json!(["ü".repeat(65)])] {
        words(&mona, "blockWords", invalid.clone(), Some("MASK")).await.assert_bad_input("words");
        words(&mona, "unblockWords", invalid, None).await.assert_bad_input("words");
    }
    words(&mona, "blockWords", json!(["u".repeat(64)]), Some("MASK")).await.data();
    let numbered_words = |range: std::ops::Range<u32>| range.map(|n| json!(format!("w{n}"))).collect::<Value>();
    words(&mona, "blockWords", numbered_words(0..1_001), Some("MASK")).await.assert_bad_input("words");
    words(&mona, "blockWords", numbered_words(0..999), Some("MASK")).await.assert_bad_input("words");
    words(&mona, "blockWords", numbered_words(0..998), Some("MASK")).await.data();
    words(&mona, "blockWords", json!(["w1", "zurn"]), Some("REJECT")).await.data();
    words(&mona, "blockWords", json!(["onemore"]), Some("MASK")).await.assert_bad_input("words");
    let all = mona.ask("{ blockedWords { word } }").await;
    assert_eq!(all.at("blockedWords").as_array().unwrap().len(), 1_000);
}

#[engine_test]
async fn blocked_word_is_found_in_the_text_as_it_is_shown(app: &TestApp) {
    let (alice, mona) = (app.user("alice").await, moderator(app, "demo", "mona").await);
    let chat = alice.group("Walk", &[]).await;
    let clean = alice.send(&chat, "clean").await;
    words(&mona, "blockWords", json!(["damn"]), Some("REJECT")).await.data();
    words(&mona, "blockWords", json!(["darn"]), Some("MASK")).await.data();
    for hidden in ["da\u{200b}mn", "da\u{ad}mn", "da**m**n", "*da*mn", "[da](https://a.example)mn", "ｄａｍｎ"] {
        let text = format!("well, {hidden} it");
        alice.try_send_message(&chat, json!({ "text": text })).await.assert_bad_input("text");
        alice.mutate("editMessage", json!({ "messageId": clean, "text": text })).await.assert_bad_input("text");
        let location = json!({ "latitude": 1.5, "longitude": 2.5 });
        alice.try_send_message(&chat, json!({ "text": text, "location": location })).await.assert_bad_input("text");
    }
    let reply = alice.try_send_message(&chat, json!({ "text": "Oh DAMN" })).await;
    let message = reply.body["errors"][0]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "text must not contain \"DAMN\", a word that the organisation blocks");
    for (text, masked) in [("da\u{200b}rn it", "**** it"), ("**so** darn", "**so** ****"), ("da**r**n it", "**** it")] {
        let id = alice.send(&chat, text).await;
        assert_eq!(alice.fetch_message(&id, "text").await["text"], masked, "{text:?}");
        alice.mutate_ok("editMessage", json!({ "messageId": clean, "text": text })).await;
        assert_eq!(alice.fetch_message(&clean, "text").await["text"], masked, "{text:?}");
    }
    // Other words, and texts that show their markup.
    for text in ["damned", "da mn", "da-mn"] {
        alice.send(&chat, text).await;
    }
    let poll = json!({ "question": "Which?", "options": ["da**m**n", "no"] });
    alice.send_message(&chat, json!({ "poll": poll })).await;
    let poll = json!({ "question": "Which?", "options": ["Dämn", "no"] });
    alice.try_send_message(&chat, json!({ "poll": poll })).await.assert_bad_input("poll.options");
}

#[engine_test]
async fn word_of_a_script_without_spaces_is_blocked_inside_text(app: &TestApp) {
    let (alice, mona) = (app.user("alice").await, moderator(app, "demo", "mona").await);
    let chat = alice.group("Walk", &[]).await;
    let list = words(&mona, "blockWords", json!(["傻逼", "바보", "傻B", "ばか", "Straße", "🖕"]), Some("MASK")).await;
    assert_eq!(
        pluck(list.at("blockWords.blockedWords"), "word"),
        ["strasse", "ばか", "傻b", "傻逼", "바보", "🖕"],
        "in the form of comparison"
    );
    for (text, masked) in [
        ("你傻逼吗", "你**吗"),
        ("傻\u{200b}逼", "**"),
        ("이 바보야", "이 **야"),
        ("你傻b", "你**"),
        ("このバカめ", "この**め"),
        ("die STRASSE", "die *******"),
        ("🖕🏽", "*"),
        ("傻 逼", "傻 逼"),
        ("Straßen", "Straßen"),
    ] {
        let id = alice.send(&chat, text).await;
        assert_eq!(alice.fetch_message(&id, "text").await["text"], masked, "{text:?}");
    }
    let left = words(&mona, "unblockWords", json!(["바보", "傻逼", "STRASSE", "バカ", "傻b"]), None).await;
    assert_eq!(left.at("unblockWords.blockedWords"), &json!([{ "word": "🖕", "action": "MASK" }]));
    let id = alice.send(&chat, "바보").await;
    assert_eq!(alice.fetch_message(&id, "text").await["text"], "바보");
}

#[engine_test]
async fn word_with_characters_that_are_not_compared_is_refused(app: &TestApp) {
    let (alice, mona) = (app.user("alice").await, moderator(app, "demo", "mona").await);
    let chat = alice.group("Walk", &[]).await;
    for word in ["a$$", "$a", "@ss", "a.b", "f*ck", "wi-fi", "傻 逼", "$$", "a\u{200b}b"] {
        for field in ["blockWords", "unblockWords"] {
            let action = (field == "blockWords").then_some("REJECT");
            words(&mona, field, json!([word]), action).await.assert_bad_input("words");
        }
    }
    assert_eq!(mona.ask("{ blockedWords { word } }").await.at("blockedWords"), &json!([]));
    alice.send(&chat, "a day").await;
    let refused = words(&mona, "blockWords", json!(["fine", "a$$"]), Some("MASK")).await;
    assert_eq!(
        refused.body["errors"][0]["message"],
        "words must each be a single word of letters, digits and emoji with at most 64 characters, unlike \"a$$\""
    );
}

#[engine_test]
async fn word_that_an_earlier_version_stored_is_blocked_and_unblocked(app: &TestApp) {
    let (alice, mona) = (app.user("alice").await, moderator(app, "demo", "mona").await);
    let chat = alice.group("Walk", &[]).await;
    let insert = "INSERT INTO blocked_words (organization_id, word, action) VALUES ('demo', 'łotr', 'reject')";
    app.database.execute(insert).await;
    alice.try_send_message(&chat, json!({ "text": "Łotr!" })).await.assert_bad_input("text");
    let changed = words(&mona, "blockWords", json!(["Łotr"]), Some("MASK")).await;
    assert_eq!(changed.at("blockWords.blockedWords"), &json!([{ "word": "lotr", "action": "MASK" }]));
    app.database.execute(insert).await;
    let left = words(&mona, "unblockWords", json!(["lotr"]), None).await;
    assert_eq!(left.at("unblockWords.blockedWords"), &json!([]));
    alice.send(&chat, "łotr").await;
}
