//! Texts of one line: invisible characters in every input that takes one.

use serde_json::{Value, json};
use testkit::keys::sign_with_secret;
use testkit::{TestApp, User, engine_test};

/// Characters that no text of one line may contain, and texts that show nothing.
const REFUSED: [&str; 20] = [
    "\u{200B}",
    "\u{2800}",
    "\u{3164}",
    "\u{FE0F}",
    "\u{200D}\u{200D}",
    "a\u{200B}b",
    "a\u{200C}b",
    "a\u{200D}b",
    "a\u{202E}b",
    "a\u{2066}b",
    "a\u{200F}b",
    "a\u{2028}b",
    "a\u{2029}b",
    "a\u{00AD}b",
    "a\u{2060}b",
    "\u{FEFF}a",
    "a\u{E0041}b",
    "a\u{115F}b",
    "a\u{180E}b",
    "a\u{7F}b",
];

/// Texts whose invisible characters are part of what they show.
const ACCEPTED: [&str; 8] = [
    "👩\u{200D}👩\u{200D}👧\u{200D}👦",
    "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
    "🏳\u{FE0F}\u{200D}🌈",
    "می\u{200C}خواهم",
    "क्\u{200D}ष",
    "ශ්\u{200D}රී",
    "葛\u{E0100}城",
    "Zoë O’Neill",
];

/// A mutation with a text of one line, and the field that its error names.
type Input = (&'static str, &'static str, Box<dyn Fn(&str) -> Value + Send + Sync>);

fn inputs(chat: &str, message: &str) -> Vec<Input> {
    let (chat, message) = (chat.to_owned(), message.to_owned());
    let in_chat = move |mut input: Value| {
        input["chatId"] = chat.as_str().into();
        input
    };
    let poll = |question: &str, option: &str| json!({ "poll": { "question": question, "options": ["one", option] } });
    let [a, b, c, d, e, f, g] = std::array::from_fn(|_| in_chat.clone());
    vec![
        ("createChat", "title", Box::new(|text| json!({ "kind": "GROUP", "title": text, "memberIds": [] }))),
        (
            "createChat",
            "nonce",
            Box::new(|text| json!({ "kind": "GROUP", "title": "t", "memberIds": [], "nonce": text })),
        ),
        ("updateChat", "title", Box::new(move |text| a(json!({ "title": text })))),
        (
            "ensureResourceChat",
            "resource.type",
            Box::new(|text| json!({ "resource": { "type": text, "id": "7" }, "title": "t", "memberIds": [] })),
        ),
        (
            "ensureResourceChat",
            "resource.id",
            Box::new(|text| json!({ "resource": { "type": "t", "id": text }, "title": "t", "memberIds": [] })),
        ),
        ("sendMessage", "nonce", Box::new(move |text| b(json!({ "text": "hello", "nonce": text })))),
        ("sendMessage", "poll.question", Box::new(move |text| c(poll(text, "two")))),
        ("sendMessage", "poll.options", Box::new(move |text| d(poll("Which?", text)))),
        ("reportMessage", "reason", Box::new(move |text| json!({ "messageId": message, "reason": text }))),
        ("startCall", "deviceId", Box::new(move |text| e(json!({ "kind": "AUDIO", "deviceId": text })))),
        (
            "removeMember",
            "reason",
            Box::new(move |text| f(json!({ "userId": "bob", "ban": true, "reason": format!("r{text}") }))),
        ),
        (
            "sendMessage",
            "location.name",
            Box::new(move |text| {
                g(json!({ "location": { "latitude": 1, "longitude": 2, "name": format!("n{text}") } }))
            }),
        ),
    ]
}

const PERMISSIONS: [&str; 7] = [
    "chat.view",
    "chat.create_group",
    "chat.manage_group",
    "chat.initiate_call",
    "chat.delete",
    "organization.admin",
    "chat.moderate",
];

async fn alice(app: &TestApp) -> User {
    app.user_in("demo", "alice", Some(&PERMISSIONS)).await
}

#[engine_test]
async fn invisible_character_is_refused_in_every_line(app: &TestApp) {
    let (alice, bob) = (alice(app).await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = bob.send(&chat, "hello").await;
    for (mutation, field, input) in inputs(&chat, &message) {
        for text in REFUSED {
            alice.mutate(mutation, input(text)).await.assert_bad_input(field);
        }
    }
    for text in REFUSED {
        let input = json!({ "resource": { "type": "t", "id": "7" }, "title": text, "memberIds": [] });
        alice.mutate("ensureResourceChat", input).await.assert_bad_input("title");
        alice.mutate("blockWords", json!({ "words": [text], "action": "MASK" })).await.assert_bad_input("words");
    }
    for text in REFUSED.into_iter().filter(|text| text.contains(['a', 'b'])) {
        for (query, field) in [
            ("query($text: String) { users(search: $text) { nodes { id } } }", "search"),
            ("query($text: String) { chats(filter: { search: $text }) { nodes { id } } }", "filter.search"),
        ] {
            alice.ask_with(query, json!({ "text": text })).await.assert_bad_input(field);
        }
        let input = json!({ "chatId": chat, "description": text });
        alice.mutate("updateChat", input).await.assert_bad_input("description");
        alice.mutate("openDirectChat", json!({ "userId": text })).await.assert_error("NOT_FOUND");
    }
}

#[engine_test]
async fn invisible_character_is_kept_where_it_is_part_of_visible_text(app: &TestApp) {
    let (alice, bob) = (alice(app).await, app.user("bob").await);
    for text in ACCEPTED {
        let chat = alice.group(text, &[&bob]).await;
        assert_eq!(alice.fetch_chat(&chat, "title").await["title"], text);
        let message = bob.send(&chat, text).await;
        let input = json!({ "poll": { "question": text, "options": [text, "other"] }, "nonce": text });
        let poll = alice.send_message(&chat, input).await;
        let poll = alice.fetch_message(&poll, "poll { question options { text } }").await["poll"].clone();
        assert_eq!(poll, json!({ "question": text, "options": [{ "text": text }, { "text": "other" }] }));
        alice.mutate_ok("reportMessage", json!({ "messageId": message, "reason": text })).await;
        alice.mutate_ok("updateChat", json!({ "chatId": chat, "description": format!("{text}\n\t{text}") })).await;
        let found = alice
            .ask_with("query($t: String) { chats(filter: { search: $t }) { nodes { id } } }", json!({ "t": text }));
        assert_eq!(found.await.at("chats.nodes"), &json!([{ "id": chat }]));
        let claims = json!({ "sub": text, "org": "demo", "name": text, "exp": 4_000_000_000_u64 });
        let user = User::new(app.addr, text, sign_with_secret(claims));
        let viewer = user.ask("{ viewer { user { id name } } }").await;
        assert_eq!(viewer.at("viewer.user"), &json!({ "id": text, "name": text }));
    }
}

#[engine_test]
async fn blank_text_shows_nothing_whatever_its_characters(app: &TestApp) {
    let (alice, bob) = (alice(app).await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let message = alice.send(&chat, "hello").await;
    for blank in
        ["\u{200B}", " \u{2800}\n", "\u{3164}\u{115F}", "\u{202E}", "\u{FEFF}\u{00AD}", "\u{2028}", "\u{E0020}"]
    {
        alice.try_send_message(&chat, json!({ "text": blank })).await.assert_bad_input("text");
        alice.mutate("editMessage", json!({ "messageId": message, "text": blank })).await.assert_bad_input("text");
        // Texts that may be left out are left out.
        let input = json!({ "chatId": chat, "draft": blank });
        let saved = alice.mutate_returning("updateMyMembership", input, "member { draft }").await;
        assert_eq!(saved.at("updateMyMembership.member.draft"), &Value::Null, "{blank:?}");
        alice.mutate_ok("updateChat", json!({ "chatId": chat, "description": blank })).await;
        assert_eq!(alice.fetch_chat(&chat, "description").await["description"], Value::Null, "{blank:?}");
        let place = json!({ "location": { "latitude": 1, "longitude": 2, "name": blank, "address": blank } });
        let id = alice.send_message(&chat, place).await;
        let place = alice.fetch_message(&id, "location { name address }").await["location"].clone();
        assert_eq!(place, json!({ "name": null, "address": null }), "{blank:?}");
    }
    for options in
        [["a", "a\u{200B}"], ["é", "e\u{301}"], ["a", "Ａ"], ["a", " A "], ["❤", "❤\u{FE0F}"], ["葛", "葛\u{E0100}"]]
    {
        let poll = json!({ "poll": { "question": "Which?", "options": options } });
        alice.try_send_message(&chat, poll).await.assert_bad_input("poll.options");
    }
    // These invisible characters make a visible difference: flags, a family, the forms of letters.
    let england = "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
    let scotland = "🏴\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}";
    for options in [[england, scotland], ["👩👧", "👩\u{200D}👧"], ["میخواهم", "می\u{200C}خواهم"]]
    {
        alice.send_message(&chat, json!({ "poll": { "question": "Which?", "options": options } })).await;
    }
}

#[engine_test]
async fn token_names_and_ids_show_what_they_are(app: &TestApp) {
    let fetch = async |claims: Value| {
        User::new(app.addr, "any", sign_with_secret(claims)).ask("{ viewer { user { id name } } }").await
    };
    for (name, shown) in [
        ("A\u{200B}da\u{202E}", "Ada"),
        ("\u{200B}\u{3164}", "ada"),
        ("Ada\u{2028}Lovelace", "Ada Lovelace"),
        ("\u{2067}Ada\u{2069}", "Ada"),
    ] {
        let reply = fetch(json!({ "sub": "ada", "org": "demo", "name": name, "exp": 4_000_000_000_u64 })).await;
        assert_eq!(reply.at("viewer.user.name"), shown, "{name:?}");
    }
    for claim in ["sub", "org"] {
        for id in REFUSED.into_iter().chain([" ", " a", "a "]) {
            let mut claims = json!({ "sub": "ada", "org": "demo", "exp": 4_000_000_000_u64 });
            claims[claim] = id.into();
            let reply = fetch(claims).await;
            reply.assert_error("UNAUTHENTICATED");
            let message = reply.body["errors"][0]["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("{claim} must have 1 to 255 bytes")), "{id:?}: {message}");
        }
    }
}

#[engine_test]
async fn picture_address_is_normalised_or_refused(app: &TestApp) {
    let alice = alice(app).await;
    let chat = alice.group("Walk", &[]).await;
    let update = async |url: &str| {
        alice.mutate_returning("updateChat", json!({ "chatId": chat, "avatarUrl": url }), "chat { avatarUrl }").await
    };
    let picture = async |url: &str| {
        let claims = json!({ "sub": "ada", "org": "demo", "picture": url, "exp": 4_000_000_000_u64 });
        let ada = User::new(app.addr, "ada", sign_with_secret(claims));
        ada.ask("{ viewer { user { avatarUrl } } }").await.at("viewer.user.avatarUrl").clone()
    };
    for (url, normal) in [
        ("https://host/a.png", "https://host/a.png"),
        ("HTTPS://Host:443/a.png", "https://host/a.png"),
        (
            "https://host/\"><img src=x onerror='a'>".replace(' ', "").as_str(),
            "https://host/%22%3E%3Cimgsrc=xonerror=%27a%27%3E",
        ),
        ("https://host/?q='\"<>`{}[]", "https://host/?q=%27%22%3C%3E%60%7B%7D%5B%5D"),
        ("https://host/bücher", "https://host/b%C3%BCcher"),
    ] {
        assert_eq!(update(url).await.at("updateChat.chat.avatarUrl"), normal, "{url}");
        assert_eq!(picture(url).await, normal, "{url}");
    }
    let too_long = format!("https://host/{}", "x".repeat(2_036));
    let too_long_when_escaped = format!("https://host/{}", "ü".repeat(400));
    for url in [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://host/a",
        "//host/a",
        "/a.png",
        "https:host/a",
        "https:///a",
        "https://user@host/a",
        "https://user:password@host/a",
        "https://@host/a",
        "https://:@host/a",
        "https://host/a b",
        "https://host/\u{202E}gnp.a",
        "https://ho\u{200B}st/",
        "https://host\\@evil/",
        &too_long,
        &too_long_when_escaped,
    ] {
        assert_eq!(update(url).await.code(), "BAD_USER_INPUT", "{url}");
        assert_eq!(picture(url).await, Value::Null, "{url}");
    }
}
