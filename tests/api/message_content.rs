//! The content of messages: text, emoji and locations, and their limits.

use serde_json::{Value, json};
use testkit::{TestApp, engine_test};

#[engine_test]
async fn emoji_only_text_has_own_kind(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for (text, kind) in [
        ("👍", "EMOJI"),
        ("👍👍🏽 🎉", "EMOJI"),
        (" ❤\n", "EMOJI"),
        ("👩‍👩‍👧", "EMOJI"),
        ("👍!", "TEXT"),
        ("ok 👍", "TEXT"),
        ("1", "TEXT"),
        (":-)", "TEXT"),
    ] {
        let id = alice.send(&chat, text).await;
        assert_eq!(alice.fetch_message(&id, "kind text").await, json!({ "kind": kind, "text": text }));
    }
    let id = alice.send(&chat, "👍").await;
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "good" })).await;
    assert_eq!(alice.fetch_message(&id, "kind").await["kind"], "TEXT");
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "🎉" })).await;
    assert_eq!(alice.fetch_message(&id, "kind").await["kind"], "EMOJI");
}

#[engine_test]
async fn location_coordinates_are_validated(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let location_message =
        |latitude: Value, longitude: Value| json!({ "location": { "latitude": latitude, "longitude": longitude } });
    for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0), (47.497_912, 19.040_235)] {
        let id = alice.send_message(&chat, location_message(json!(latitude), json!(longitude))).await;
        let seen =
            alice.fetch_message(&id, "kind text html viewerCanEdit location { latitude longitude name address }").await;
        let location = json!({ "latitude": latitude, "longitude": longitude, "name": null, "address": null });
        assert_eq!(
            seen,
            json!({ "kind": "LOCATION", "text": null, "html": null, "viewerCanEdit": false, "location": location })
        );
        alice.mutate("editMessage", json!({ "messageId": id, "text": "there" })).await.assert_error("FORBIDDEN");
    }
    for (latitude, longitude, field) in [
        (json!(90.000_001), json!(0), "location.latitude"),
        (json!(-90.000_001), json!(0), "location.latitude"),
        (json!(0), json!(180.000_001), "location.longitude"),
        (json!(0), json!(-181), "location.longitude"),
    ] {
        alice.try_send_message(&chat, location_message(latitude, longitude)).await.assert_bad_input(field);
    }
    for number in ["NaN", "1e999"] {
        let input = format!("{{ chatId: \"{chat}\", location: {{ latitude: {number}, longitude: 0 }} }}");
        let reply = alice.ask(&format!("mutation {{ sendMessage(input: {input}) {{ message {{ id }} }} }}")).await;
        reply.assert_error("BAD_USER_INPUT");
    }
    for (field, text, is_rejected) in [
        ("name", "ü".repeat(500), false),
        ("address", "ü".repeat(500), false),
        ("name", "ü".repeat(501), true),
        ("address", "ü".repeat(501), true),
        ("name", "a\nb".into(), true),
        ("address", "a\u{0}b".into(), true),
    ] {
        let mut input = location_message(json!(1), json!(2));
        input["location"][field] = text.into();
        let reply = alice.try_send_message(&chat, input).await;
        if is_rejected {
            reply.assert_bad_input(&format!("location.{field}"));
        } else {
            reply.data();
        }
    }
    let mut blank_name = location_message(json!(1), json!(2));
    blank_name["location"]["name"] = "  ".into();
    let id = alice.send_message(&chat, blank_name).await;
    assert_eq!(alice.fetch_message(&id, "location { name }").await["location"]["name"], Value::Null);
}

#[engine_test]
async fn text_combines_with_location_but_location_not_with_poll(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let location = json!({ "latitude": 1.5, "longitude": 2.5, "name": "Home", "address": "Main Street 1" });
    let poll = json!({ "question": "Where to?", "options": ["hill", "lake"] });
    let id = alice.send_message(&chat, json!({ "text": "*here*", "location": location })).await;
    let seen = alice.fetch_message(&id, "kind text html location { latitude longitude name address }").await;
    assert_eq!(
        seen,
        json!({ "kind": "LOCATION", "text": "*here*", "html": "<p><em>here</em></p>", "location": location })
    );
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "👍" })).await;
    let seen = alice.fetch_message(&id, "kind text location { name }").await;
    assert_eq!(
        seen,
        json!({ "kind": "LOCATION", "text": "👍", "location": { "name": "Home" } }),
        "an edit keeps the location"
    );
    alice.try_send_message(&chat, json!({ "location": location, "poll": poll })).await.assert_bad_input("poll");
    alice.try_send_message(&chat, json!({})).await.assert_bad_input("text");
    alice.try_send_message(&chat, json!({ "mentionIds": ["alice"] })).await.assert_bad_input("text");
    alice.try_send_message(&chat, json!({ "text": "", "location": location })).await.assert_bad_input("text");
    alice.try_send_message(&chat, json!({ "text": " \n", "poll": poll })).await.assert_bad_input("text");
    let same = json!({ "text": "here", "location": location, "nonce": "n" });
    assert_eq!(alice.send_message(&chat, same.clone()).await, alice.send_message(&chat, same.clone()).await);
    let mut other = same;
    other["location"]["latitude"] = 1.6.into();
    alice.try_send_message(&chat, other).await.assert_error("CONFLICT");
    alice.delete_message(&id).await;
    assert_eq!(alice.fetch_message(&id, "location { name } html").await, json!({ "location": null, "html": null }));
}

#[engine_test]
async fn markdown_renders_to_inert_html(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for (text, html) in [
        ("hello", "<p>hello</p>"),
        ("*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <del>c</del> <code>d</code></p>"),
        ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("> a\nb", "<blockquote><p>a<br>b</p></blockquote>"),
        ("```\n<b>\n```", "<pre><code>&lt;b&gt;\n</code></pre>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
    ] {
        let id = alice.send(&chat, text).await;
        assert_eq!(alice.fetch_message(&id, "html").await["html"], html, "{text}");
    }
    let id = alice.send(&chat, "[here](https://example.org/a?b=1&c=2)").await;
    let html = alice.fetch_message(&id, "html").await["html"].as_str().unwrap().to_owned();
    for part in ["href=\"https://example.org/a?b=1&amp;c=2\"", "noopener", ">here</a>"] {
        assert!(html.contains(part), "{html}");
    }
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "**there**" })).await;
    assert_eq!(alice.fetch_message(&id, "html").await["html"], "<p><strong>there</strong></p>");
    alice.delete_message(&id).await;
    assert_eq!(alice.fetch_message(&id, "html").await["html"], Value::Null);
}

#[engine_test(settings = [("PARLOR_MESSAGE_CHARACTERS", "10")])]
async fn message_text_limit_follows_setting(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let location = json!({ "latitude": 1.5, "longitude": 2.5 });
    let id = alice.send(&chat, &"👍".repeat(10)).await;
    alice.try_send_message(&chat, json!({ "text": "ü".repeat(11) })).await.assert_bad_input("text");
    alice
        .try_send_message(&chat, json!({ "text": "ü".repeat(11), "location": location }))
        .await
        .assert_bad_input("text");
    alice.mutate("editMessage", json!({ "messageId": id, "text": "ü".repeat(11) })).await.assert_bad_input("text");
    alice.mutate_ok("editMessage", json!({ "messageId": id, "text": "ü".repeat(10) })).await;
}

#[engine_test]
async fn message_text_has_at_most_8000_characters_by_default(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    alice.send(&chat, &"ü".repeat(8_000)).await;
    alice.try_send_message(&chat, json!({ "text": "ü".repeat(8_001) })).await.assert_bad_input("text");
}
