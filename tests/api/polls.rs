//! Polls: asking, voting, closing.

use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test, pluck};

const SHOWN: &str = "poll { question multipleChoice anonymous closed closesAt voterCount
    options { id text voteCount viewerVoted voters { id } } }";

fn hill_or_lake() -> Value {
    json!({ "question": "Where to?", "options": ["hill", "lake", "sea"] })
}

async fn ask(who: &User, chat: &str, poll: Value) -> String {
    who.send_message(chat, json!({ "poll": poll })).await
}

async fn options(who: &User, poll: &str) -> Vec<Value> {
    pluck(&who.fetch_message(poll, "poll { options { id } }").await["poll"]["options"], "id")
}

async fn vote(who: &User, poll: &str, options: &[&Value]) -> Reply {
    let input = json!({ "messageId": poll, "optionIds": options });
    who.mutate_returning("votePoll", input, &format!("message {{ {SHOWN} }}")).await
}

/// How many chose each option, how many voted, and what the viewer chose.
fn tally(poll: &Value) -> Value {
    let options = &poll["options"];
    json!([pluck(options, "voteCount"), poll["voterCount"], pluck(options, "viewerVoted")])
}

async fn stands(who: &User, poll: &str) -> Value {
    tally(&who.fetch_message(poll, SHOWN).await["poll"])
}

#[engine_test]
async fn poll_vote_can_be_changed_and_withdrawn(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let poll = ask(&alice, &chat, hill_or_lake()).await;
    let seen = bob.fetch_message(&poll, &format!("kind text {SHOWN}")).await;
    assert_eq!((&seen["kind"], &seen["text"]), (&json!("POLL"), &Value::Null));
    assert_eq!(seen["poll"]["question"], "Where to?");
    assert_eq!(pluck(&seen["poll"]["options"], "text"), ["hill", "lake", "sea"]);
    assert_eq!((&seen["poll"]["closed"], &seen["poll"]["closesAt"]), (&json!(false), &Value::Null));
    let options = options(&bob, &poll).await;
    let voted = vote(&bob, &poll, &[&options[1]]).await;
    let (none, second) = (json!([false, false, false]), json!([false, true, false]));
    assert_eq!(tally(voted.at("votePoll.message.poll")), json!([[0, 1, 0], 1, second]));
    assert_eq!(voted.at("votePoll.message.poll.options.1.voters"), &json!([{ "id": "bob" }]));
    assert_eq!(stands(&alice, &poll).await, json!([[0, 1, 0], 1, none]));
    vote(&alice, &poll, &[&options[1]]).await.data();
    let version = alice.fetch_chat(&chat, "version").await;
    vote(&alice, &poll, &[&options[1], &options[1]]).await.data();
    assert_eq!(alice.fetch_chat(&chat, "version").await, version, "the same choice is no change");
    let voters = bob.fetch_message(&poll, "poll { options { voters { id } first: voters(first: 1) { id } } }").await;
    let voters = &voters["poll"]["options"][1];
    assert_eq!(voters, &json!({ "voters": [{ "id": "bob" }, { "id": "alice" }], "first": [{ "id": "bob" }] }));
    vote(&bob, &poll, &[&options[0]]).await.data();
    assert_eq!(stands(&bob, &poll).await, json!([[1, 1, 0], 2, [true, false, false]]), "in place of the other");
    vote(&bob, &poll, &[]).await.data();
    assert_eq!(stands(&bob, &poll).await, json!([[0, 1, 0], 1, none]), "taken back");
    alice.delete_message(&poll).await;
    assert_eq!(alice.fetch_message(&poll, "poll { question }").await["poll"], Value::Null);
    vote(&bob, &poll, &[&options[0]]).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn multiple_votes_need_multiple_choice_poll(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let single = ask(&alice, &chat, hill_or_lake()).await;
    let of_single = options(&bob, &single).await;
    vote(&bob, &single, &[&of_single[0], &of_single[1]]).await.assert_bad_input("optionIds");
    let mut several = hill_or_lake();
    several["multipleChoice"] = true.into();
    let multiple = ask(&alice, &chat, several).await;
    let of_multiple = options(&bob, &multiple).await;
    vote(&bob, &multiple, &[&of_multiple[2], &of_multiple[0]]).await.data();
    assert_eq!(stands(&bob, &multiple).await, json!([[1, 0, 1], 1, [true, false, true]]), "each person counts once");
    vote(&alice, &multiple, &[&of_multiple[0]]).await.data();
    vote(&bob, &multiple, &[&of_multiple[0], &of_multiple[1]]).await.data();
    assert_eq!(stands(&bob, &multiple).await, json!([[2, 1, 0], 2, [true, true, false]]));
    vote(&bob, &multiple, &[&of_single[0]]).await.assert_bad_input("optionIds");
    vote(&bob, &multiple, &[&of_multiple[0], &json!("option_nonsense")]).await.assert_bad_input("optionIds");
    let text = alice.send(&chat, "no poll").await;
    bob.mutate("votePoll", json!({ "messageId": text, "optionIds": [] })).await.assert_bad_input("messageId");
    alice.mutate("closePoll", json!({ "messageId": text })).await.assert_bad_input("messageId");
    let eve = app.user("eve").await;
    vote(&eve, &multiple, &[&of_multiple[0]]).await.assert_error("NOT_FOUND");
    assert_eq!(stands(&bob, &multiple).await, json!([[2, 1, 0], 2, [true, true, false]]));
}

#[engine_test]
async fn anonymous_poll_hides_voters(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut secret = hill_or_lake();
    secret["anonymous"] = true.into();
    let poll = ask(&alice, &chat, secret).await;
    let options = options(&bob, &poll).await;
    let voted = vote(&bob, &poll, &[&options[0]]).await;
    assert_eq!(tally(voted.at("votePoll.message.poll")), json!([[1, 0, 0], 1, [true, false, false]]));
    for who in [&alice, &bob] {
        let seen = who.fetch_message(&poll, SHOWN).await;
        assert_eq!(seen["poll"]["anonymous"], true);
        assert_eq!(pluck(&seen["poll"]["options"], "voters"), [json!([]), json!([]), json!([])]);
    }
}

#[engine_test]
async fn poll_closes_at_deadline_or_by_author(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut timed = hill_or_lake();
    timed["closesAt"] = app.time_in(600).into();
    let by_time = ask(&bob, &chat, timed.clone()).await;
    let options_of = options(&bob, &by_time).await;
    app.advance(540);
    vote(&carol, &by_time, &[&options_of[0]]).await.data();
    app.advance(60);
    assert_eq!(carol.fetch_message(&by_time, "poll { closed }").await["poll"]["closed"], true);
    vote(&carol, &by_time, &[&options_of[1]]).await.assert_error("FORBIDDEN");
    vote(&carol, &by_time, &[]).await.assert_error("FORBIDDEN");
    assert_eq!(stands(&carol, &by_time).await, json!([[1, 0, 0], 1, [true, false, false]]));
    for past in [app.time_in(0), app.time_in(-60)] {
        timed["closesAt"] = past.into();
        bob.try_send_message(&chat, json!({ "poll": timed })).await.assert_bad_input("poll.closesAt");
    }
    let close = async |who: &User, poll: &str| {
        who.mutate_returning("closePoll", json!({ "messageId": poll }), "message { poll { closed } }").await
    };
    let by_hand = ask(&bob, &chat, hill_or_lake()).await;
    close(&carol, &by_hand).await.assert_error("FORBIDDEN");
    app.user("eve").await.mutate("closePoll", json!({ "messageId": by_hand })).await.assert_error("NOT_FOUND");
    assert_eq!(close(&bob, &by_hand).await.at("closePoll.message.poll.closed"), true);
    let version = alice.fetch_chat(&chat, "version").await;
    close(&bob, &by_hand).await.data();
    close(&bob, &by_time).await.data();
    assert_eq!(alice.fetch_chat(&chat, "version").await, version, "closed once stays closed");
    let options_of = options(&bob, &by_hand).await;
    vote(&carol, &by_hand, &[&options_of[0]]).await.assert_error("FORBIDDEN");
    let of_carol = ask(&carol, &chat, hill_or_lake()).await;
    close(&bob, &of_carol).await.assert_error("FORBIDDEN");
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" })).await;
    assert_eq!(close(&bob, &of_carol).await.at("closePoll.message.poll.closed"), true);
}

#[engine_test]
async fn poll_input_limits_are_enforced(app: &TestApp) {
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let numbered = |count: usize| (0..count).map(|n| json!(format!("option {n}"))).collect::<Value>();
    let with = |field: &str, value: Value| {
        let mut poll = hill_or_lake();
        poll[field] = value;
        json!({ "poll": poll })
    };
    for (field, value) in [
        ("question", json!("")),
        ("question", json!("a\nb")),
        ("question", json!("ü".repeat(301))),
        ("options", json!([])),
        ("options", json!(["only"])),
        ("options", numbered(21)),
        ("options", json!(["hill", " "])),
        ("options", json!(["hill", "a\nb"])),
        ("options", json!(["hill", "ü".repeat(101)])),
        ("options", json!(["hill", "hill"])),
        ("options", json!(["hill", " Hill "])),
    ] {
        alice.try_send_message(&chat, with(field, value)).await.assert_bad_input(&format!("poll.{field}"));
    }
    for (field, value) in [
        ("question", json!("ü".repeat(300))),
        ("options", json!(["no", "yes"])),
        ("options", numbered(20)),
        ("options", json!(["hill", "ü".repeat(100)])),
    ] {
        alice.send_message(&chat, with(field, value)).await;
    }
    let mut with_text = with("options", json!(["no", "yes"]));
    with_text["text"] = "please *vote*".into();
    let id = alice.send_message(&chat, with_text).await;
    let seen = alice.fetch_message(&id, "kind text poll { options { text } }").await;
    assert_eq!((&seen["kind"], &seen["text"]), (&json!("POLL"), &json!("please *vote*")));
}

#[engine_test]
async fn chat_feed_delivers_votes_and_poll_closing(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let poll = ask(&alice, &chat, hill_or_lake()).await;
    let options = options(&bob, &poll).await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted {
            change message { poll { closed voterCount options { viewerVoted } } } } } }";
    let mut feed = alice.subscribe(query, json!({ "chat": chat })).await;
    feed.expect("FeedCaughtUp").await;
    vote(&bob, &poll, &[&options[0]]).await.data();
    let event = feed.next_non_member_event().await;
    let seen = &event["message"]["poll"];
    assert_eq!((&event["change"], &seen["voterCount"], &seen["closed"]), (&json!("POLL"), &json!(1), &json!(false)));
    assert_eq!(seen["options"][0]["viewerVoted"], false, "as the one sees it who hears of it");
    alice.mutate_ok("closePoll", json!({ "messageId": poll })).await;
    let event = feed.next_non_member_event().await;
    assert_eq!((&event["change"], &event["message"]["poll"]["closed"]), (&json!("POLL"), &json!(true)));
}
