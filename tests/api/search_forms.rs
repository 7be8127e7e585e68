//! The forms of words that searches do not tell apart, and searches without words.

use serde_json::{Value, json};
use testkit::{TestApp, User, engine_test, pluck};

const SEARCH: &str = "query($query: String!, $filter: MessageSearchFilter, $first: Int, $after: String) {
    searchMessages(query: $query, filter: $filter, first: $first, after: $after) {
        nodes { id text } edges { snippet } pageInfo { hasNextPage endCursor }
    } }";

const NOTHING: [Value; 0] = [];

async fn found_ids(user: &User, query: &str, filter: Value) -> Vec<Value> {
    let reply = user.ask_with(SEARCH, json!({ "query": query, "filter": filter })).await;
    pluck(reply.at("searchMessages.nodes"), "id")
}

async fn found(user: &User, query: &str) -> Vec<Value> {
    let reply = user.ask_with(SEARCH, json!({ "query": query })).await;
    pluck(reply.at("searchMessages.nodes"), "text")
}

async fn snippet(user: &User, query: &str) -> String {
    user.ask_with(SEARCH, json!({ "query": query })).await.text("searchMessages.edges.0.snippet")
}

/// Texts, and queries that find each text and no other.
const TEXTS: [(&str, &[&str]); 24] = [
    ("Straße nach Łódź", &["STRASSE", "strasse", "lodz", "łó"]),
    ("Ærø, Þingvellir, Đà Nẵng", &["aero", "thingvellir", "da nang"]),
    ("coop\u{ad}eration \u{2068}Zoë\u{2069}", &["cooperation", "zoe"]),
    ("Diyarbakır ve İzmir", &["diyarbakir", "izmir", "IZMIR"]),
    ("Ελλάδα και οδός", &["ελλαδα", "ΟΔΟΣ", "οδοσ"]),
    ("Ёлка и замо\u{301}к", &["елка", "ЗАМОК"]),
    ("שָׁלוֹם עולם", &["שלום", "עולמ"]),
    ("مُحَمَّد أحمد ســلام", &["محمد", "احمد", "سلام"]),
    ("کتاب فارسی ۴۲", &["كتاب", "فارسي", "42"]),
    ("क़लम और ज़रा", &["कलम", "जरा", "औ"]),
    ("আমার সোনার বাংলা", &["বাংলা", "সোনা"]),
    ("தமிழ் மொழி", &["தமிழ", "மொழி"]),
    ("ภาษาไทยง่ายมาก", &["ไทย", "งาย", "ภาษาไทย"]),
    ("ພາສາລາວງ່າຍ", &["ລາວ", "ງາຍ"]),
    ("ភាសាខ្មែរល្អ", &["ខ្មែរ"]),
    ("မြန်မာဘာသာစကား", &["ဘာသာ"]),
    ("メールサーバーが落ちた", &["サーバー", "ｻｰﾊﾞｰ", "さーばー", "\"サーバーが\"", "落"]),
    ("キヤノンのカメラ", &["キャノン", "カメラ", "ｶﾒﾗ"]),
    ("我们在东京塔见面", &["东京塔", "见面", "塔"]),
    ("메일서버가 죽었다", &["서버", "\"서버가 죽었다\"", "죽", "서ㅂ"]),
    ("თბილისი", &["ᲗᲑᲘᲚᲘᲡᲘ", "თბ"]),
    ("Երևան", &["ԵՐԵՎԱՆ", "երեւան"]),
    ("አዲስ አበባ", &["አዲስ", "አበ"]),
    ("ᏣᎳᎩ", &["ꮳꮃꭹ"]),
];

#[engine_test]
async fn text_of_any_script_is_found_by_its_plain_form(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    for (text, _) in TEXTS {
        alice.send(&chat, text).await;
    }
    for (text, queries) in TEXTS {
        for query in queries {
            assert_eq!(found(&alice, query).await, [text], "{query}");
            assert!(snippet(&alice, query).await.contains("<mark>"), "{query} in {text}");
        }
    }
    for nothing in ["サーラ", "京东", "서메", "\"메일 서버\"", "мокза", "tree"] {
        assert_eq!(found(&alice, nothing).await, NOTHING, "{nothing}");
    }
    assert_eq!(snippet(&alice, "서버").await, "메일<mark>서버</mark>가 죽었다");
    let sentence = "我们在东京塔见面然后一起吃饭再看电影最后坐地铁回家睡觉";
    alice.send(&chat, sentence).await;
    assert_eq!(found(&alice, sentence).await, [sentence], "text without spaces counts as one word");
}

#[engine_test]
async fn users_and_chats_are_found_by_the_forms_of_messages(app: &TestApp) {
    let alice = app.user("alice").await;
    let pairs = [
        ("zoë", "ZOE"),
        ("łukasz", "luka"),
        ("strauß", "strauss"),
        ("шёпот", "ШЕПОТ"),
        ("カメラ", "ｶﾒﾗ"),
        ("μάγος", "ΜΑΓΟΣ"),
    ];
    for (name, _) in pairs {
        let user = app.user(name).await;
        alice.direct(&user).await;
        alice.group(&format!("Team {name}"), &[]).await;
    }
    for (name, query) in pairs {
        let ask = "query($q: String) { users(search: $q) { nodes { id } } }";
        let users = alice.ask_with(ask, json!({ "q": query })).await;
        assert_eq!(pluck(users.at("users.nodes"), "id"), [name], "{query}");
        let ask = "query($q: String) { chats(filter: { search: $q }) { nodes { kind title } } }";
        let chats = alice.ask_with(ask, json!({ "q": query })).await;
        let mut kinds = pluck(chats.at("chats.nodes"), "kind");
        kinds.sort_by_key(Value::to_string);
        assert_eq!(kinds, ["DIRECT", "GROUP"], "{query}: the group by its title, the direct chat by the user's name");
    }
    let all = alice.ask("{ users(search: \"  \") { nodes { id } } }").await;
    assert_eq!(all.at("users.nodes").as_array().unwrap().len(), pairs.len() + 1);
    for (text, wildcard) in [("%", "a wildcard of SQL"), ("_", "a wildcard of SQL"), ("\u{301}", "a mark alone")] {
        let ask = "query($q: String) { users(search: $q) { nodes { id } } }";
        let users = alice.ask_with(ask, json!({ "q": text })).await;
        assert_eq!(users.at("users.nodes"), &json!([]), "{wildcard} is in no name");
    }
}

#[engine_test]
async fn emoji_are_found_in_any_form(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let texts =
        ["done👍🏽!", "👩\u{200d}👩\u{200d}👧 at home", "🇩🇪🇫🇷", "❤\u{fe0f}", "press 1\u{fe0f}\u{20e3}", "no emoji 1"];
    for text in texts {
        alice.send(&chat, text).await;
    }
    for (query, text) in [
        ("👍", texts[0]),
        ("👍🏿", texts[0]),
        ("done 👍", texts[0]),
        ("👩\u{200d}👩\u{200d}👧", texts[1]),
        ("👧", texts[1]),
        ("🇩🇪", texts[2]),
        ("🇫🇷", texts[2]),
        ("❤", texts[3]),
        ("❤\u{fe0f}", texts[3]),
        ("1\u{fe0f}\u{20e3}", texts[4]),
    ] {
        assert_eq!(found(&alice, query).await, [text], "{query}");
    }
    for nothing in ["👎", "🇪🇫", "👧👩", "2\u{fe0f}\u{20e3}"] {
        assert_eq!(found(&alice, nothing).await, NOTHING, "{nothing}");
    }
    assert_eq!(snippet(&alice, "👧").await, "<mark>👩\u{200d}👩\u{200d}👧</mark> at home");
}

#[engine_test]
async fn search_by_filter_needs_no_words(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    let secret = alice.group("Secret", &[]).await;
    let first = alice.send(&walk, "first").await;
    app.advance(10);
    let middle = app.time_in(0);
    let second = bob.send(&walk, "…").await;
    let third = alice.send_message(&run, json!({ "text": "third", "mentionIds": ["bob"] })).await;
    let poll = alice.send_message(&run, json!({ "poll": { "question": "Where?", "options": ["hill", "lake"] } })).await;
    alice.send(&secret, "hidden").await;
    let deleted = alice.send(&walk, "deleted").await;
    alice.delete_message(&deleted).await;
    for (filter, expected) in [
        (json!({ "chatId": walk }), vec![&second, &first]),
        (json!({ "senderId": "alice" }), vec![&poll, &third, &first]),
        (json!({ "kinds": ["POLL"] }), vec![&poll]),
        (json!({ "kinds": [] }), vec![]),
        (json!({ "hasAttachment": false }), vec![&poll, &third, &second, &first]),
        (json!({ "hasAttachment": true }), vec![]),
        (json!({ "mentionsMe": true }), vec![&third]),
        (json!({ "since": middle }), vec![&poll, &third, &second]),
        (json!({ "until": middle }), vec![&first]),
        (json!({ "chatId": secret }), vec![]),
    ] {
        for empty in ["", "  \n"] {
            let expected: Vec<_> = expected.iter().map(|id| json!(id)).collect();
            assert_eq!(found_ids(&bob, empty, filter.clone()).await, expected, "{filter}");
        }
    }
    for filter in [Value::Null, json!({}), json!({ "mentionsMe": false })] {
        let reply = bob.ask_with(SEARCH, json!({ "query": "", "filter": filter })).await;
        reply.assert_bad_input("query");
    }
    let unsearchable = json!({ "query": "…", "filter": { "chatId": walk } });
    bob.ask_with(SEARCH, unsearchable).await.assert_bad_input("query");
    let page = json!({ "query": "", "filter": { "senderId": "alice" }, "first": 2 });
    let page = bob.ask_with(SEARCH, page).await;
    assert_eq!(pluck(page.at("searchMessages.edges"), "snippet"), ["Where? hill lake", "third"]);
    let after = page.at("searchMessages.pageInfo.endCursor");
    let rest = json!({ "query": "", "filter": { "senderId": "alice" }, "first": 2, "after": after });
    let rest = bob.ask_with(SEARCH, rest).await;
    assert_eq!(pluck(rest.at("searchMessages.nodes"), "id"), [first]);
    assert_eq!(rest.at("searchMessages.pageInfo.hasNextPage"), &json!(false));
}

#[engine_test]
async fn polls_and_locations_are_found_by_their_texts(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let question = json!({ "question": "Où manger?", "options": ["Crêperie du port", "Sushi 東京屋"] });
    let poll = alice.send_message(&chat, json!({ "text": "friday", "poll": question })).await;
    let place = json!({ "latitude": 1.5, "longitude": 2.5, "name": "Café Łódź", "address": "Hauptstraße 7" });
    let location = alice.send_message(&chat, json!({ "location": place })).await;
    for (query, id) in [
        ("ou manger", &poll),
        ("creperie", &poll),
        ("\"crêperie du port\"", &poll),
        ("京屋", &poll),
        ("friday port sushi", &poll),
        ("cafe lodz", &location),
        ("HAUPTSTRASSE 7", &location),
    ] {
        assert_eq!(found_ids(&alice, query, Value::Null).await, [id.as_str()], "{query}");
    }
    for across in ["\"manger crêperie\"", "\"port sushi\"", "\"friday ou\"", "\"lodz hauptstraße\""] {
        assert_eq!(found_ids(&alice, across, Value::Null).await, NOTHING, "{across}");
    }
    assert_eq!(snippet(&alice, "creperie").await, "friday Où manger? <mark>Crêperie</mark> du port Sushi 東京屋");
    assert_eq!(snippet(&alice, "lodz").await, "Café <mark>Łódź</mark> Hauptstraße 7");
    alice.mutate_ok("editMessage", json!({ "messageId": poll, "text": "saturday" })).await;
    assert_eq!(found_ids(&alice, "friday", Value::Null).await, NOTHING);
    assert_eq!(found_ids(&alice, "saturday creperie", Value::Null).await, [poll.as_str()]);
    let other = alice.group("Run", &[]).await;
    alice.mutate_ok("forwardMessage", json!({ "messageId": location, "toChatId": other })).await;
    assert_eq!(found_ids(&alice, "lodz", Value::Null).await.len(), 2);
    alice.delete_message(&poll).await;
    assert_eq!(found_ids(&alice, "creperie", Value::Null).await, NOTHING);
}
