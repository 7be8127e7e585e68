//! Polls: creating them, voting, and closing.

use serde_json::{Value, json};
use testkit::{Reply, TestApp, User, engine_test, pluck};

const FIELDS: &str = "poll { question multipleChoice anonymous closed closesAt voterCount
    options { id text voteCount viewerVoted voters { id } } }";

fn hill_or_lake() -> Value {
    json!({ "question": "Where to?", "options": ["hill", "lake", "sea"] })
}

async fn send_poll(user: &User, chat: &str, poll: Value) -> String {
    user.send_message(chat, json!({ "poll": poll })).await
}

async fn options(user: &User, poll: &str) -> Vec<Value> {
    pluck(&user.fetch_message(poll, "poll { options { id } }").await["poll"]["options"], "id")
}

async fn vote(user: &User, poll: &str, options: &[&Value]) -> Reply {
    let input = json!({ "messageId": poll, "optionIds": options });
    user.mutate_returning("votePoll", input, &format!("message {{ {FIELDS} }}")).await
}

/// Returns the number of votes for each option, the number of voters, and the viewer's choices.
fn tally(poll: &Value) -> Value {
    let options = &poll["options"];
    json!([pluck(options, "voteCount"), poll["voterCount"], pluck(options, "viewerVoted")])
}

async fn fetch_tally(user: &User, poll: &str) -> Value {
    tally(&user.fetch_message(poll, FIELDS).await["poll"])
}

#[engine_test]
async fn poll_vote_can_be_changed_and_withdrawn(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let poll = send_poll(&alice, &chat, hill_or_lake()).await;
    let seen = bob.fetch_message(&poll, &format!("kind text {FIELDS}")).await;
    assert_eq!((&seen["kind"], &seen["text"]), (&json!("POLL"), &Value::Null));
    assert_eq!(seen["poll"]["question"], "Where to?");
    assert_eq!(pluck(&seen["poll"]["options"], "text"), ["hill", "lake", "sea"]);
    assert_eq!((&seen["poll"]["closed"], &seen["poll"]["closesAt"]), (&json!(false), &Value::Null));
    let options = options(&bob, &poll).await;
    let voted = vote(&bob, &poll, &[&options[1]]).await;
    let (none, second) = (json!([false, false, false]), json!([false, true, false]));
    assert_eq!(tally(voted.at("votePoll.message.poll")), json!([[0, 1, 0], 1, second]));
    assert_eq!(voted.at("votePoll.message.poll.options.1.voters"), &json!([{ "id": "bob" }]));
    assert_eq!(fetch_tally(&alice, &poll).await, json!([[0, 1, 0], 1, none]));
    vote(&alice, &poll, &[&options[1]]).await.data();
    let version = alice.fetch_chat(&chat, "version").await;
    vote(&alice, &poll, &[&options[1], &options[1]]).await.data();
    assert_eq!(alice.fetch_chat(&chat, "version").await, version, "a vote for the same option has no effect");
    let voters = bob.fetch_message(&poll, "poll { options { voters { id } first: voters(first: 1) { id } } }").await;
    let voters = &voters["poll"]["options"][1];
    assert_eq!(voters, &json!({ "voters": [{ "id": "bob" }, { "id": "alice" }], "first": [{ "id": "bob" }] }));
    vote(&bob, &poll, &[&options[0]]).await.data();
    assert_eq!(
        fetch_tally(&bob, &poll).await,
        json!([[1, 1, 0], 2, [true, false, false]]),
        "the new vote replaces the old one"
    );
    vote(&bob, &poll, &[]).await.data();
    assert_eq!(fetch_tally(&bob, &poll).await, json!([[0, 1, 0], 1, none]), "an empty vote withdraws the old one");
    alice.delete_message(&poll).await;
    assert_eq!(alice.fetch_message(&poll, "poll { question }").await["poll"], Value::Null);
    vote(&bob, &poll, &[&options[0]]).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn multiple_votes_need_multiple_choice_poll(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let single = send_poll(&alice, &chat, hill_or_lake()).await;
    let single_options = options(&bob, &single).await;
    vote(&bob, &single, &[&single_options[0], &single_options[1]]).await.assert_bad_input("optionIds");
    let mut multiple_choice = hill_or_lake();
    multiple_choice["multipleChoice"] = true.into();
    let multiple = send_poll(&alice, &chat, multiple_choice).await;
    let multiple_options = options(&bob, &multiple).await;
    vote(&bob, &multiple, &[&multiple_options[2], &multiple_options[0]]).await.data();
    assert_eq!(
        fetch_tally(&bob, &multiple).await,
        json!([[1, 0, 1], 1, [true, false, true]]),
        "each voter counts once"
    );
    vote(&alice, &multiple, &[&multiple_options[0]]).await.data();
    vote(&bob, &multiple, &[&multiple_options[0], &multiple_options[1]]).await.data();
    assert_eq!(fetch_tally(&bob, &multiple).await, json!([[2, 1, 0], 2, [true, true, false]]));
    vote(&bob, &multiple, &[&single_options[0]]).await.assert_bad_input("optionIds");
    vote(&bob, &multiple, &[&multiple_options[0], &json!("option_nonsense")]).await.assert_bad_input("optionIds");
    let text = alice.send(&chat, "no poll").await;
    bob.mutate("votePoll", json!({ "messageId": text, "optionIds": [] })).await.assert_bad_input("messageId");
    alice.mutate("closePoll", json!({ "messageId": text })).await.assert_bad_input("messageId");
    let eve = app.user("eve").await;
    vote(&eve, &multiple, &[&multiple_options[0]]).await.assert_error("NOT_FOUND");
    assert_eq!(fetch_tally(&bob, &multiple).await, json!([[2, 1, 0], 2, [true, true, false]]));
}

#[engine_test]
async fn anonymous_poll_hides_voters(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut anonymous = hill_or_lake();
    anonymous["anonymous"] = true.into();
    let poll = send_poll(&alice, &chat, anonymous).await;
    let options = options(&bob, &poll).await;
    let voted = vote(&bob, &poll, &[&options[0]]).await;
    assert_eq!(tally(voted.at("votePoll.message.poll")), json!([[1, 0, 0], 1, [true, false, false]]));
    for user in [&alice, &bob] {
        let seen = user.fetch_message(&poll, FIELDS).await;
        assert_eq!(seen["poll"]["anonymous"], true);
        assert_eq!(pluck(&seen["poll"]["options"], "voters"), [json!([]), json!([]), json!([])]);
    }
}

#[engine_test]
async fn poll_closes_at_deadline_or_by_author(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut timed_input = hill_or_lake();
    timed_input["closesAt"] = app.time_in(600).into();
    let timed_poll = send_poll(&bob, &chat, timed_input.clone()).await;
    let poll_options = options(&bob, &timed_poll).await;
    app.advance(540);
    vote(&carol, &timed_poll, &[&poll_options[0]]).await.data();
    app.advance(60);
    assert_eq!(carol.fetch_message(&timed_poll, "poll { closed }").await["poll"]["closed"], true);
    vote(&carol, &timed_poll, &[&poll_options[1]]).await.assert_error("FORBIDDEN");
    vote(&carol, &timed_poll, &[]).await.assert_error("FORBIDDEN");
    assert_eq!(fetch_tally(&carol, &timed_poll).await, json!([[1, 0, 0], 1, [true, false, false]]));
    for past in [app.time_in(0), app.time_in(-60)] {
        timed_input["closesAt"] = past.into();
        bob.try_send_message(&chat, json!({ "poll": timed_input })).await.assert_bad_input("poll.closesAt");
    }
    let close = async |user: &User, poll: &str| {
        user.mutate_returning("closePoll", json!({ "messageId": poll }), "message { poll { closed } }").await
    };
    let open_poll = send_poll(&bob, &chat, hill_or_lake()).await;
    close(&carol, &open_poll).await.assert_error("FORBIDDEN");
    app.user("eve").await.mutate("closePoll", json!({ "messageId": open_poll })).await.assert_error("NOT_FOUND");
    assert_eq!(close(&bob, &open_poll).await.at("closePoll.message.poll.closed"), true);
    let version = alice.fetch_chat(&chat, "version").await;
    close(&bob, &open_poll).await.data();
    close(&bob, &timed_poll).await.data();
    assert_eq!(alice.fetch_chat(&chat, "version").await, version, "a second closing has no effect");
    let poll_options = options(&bob, &open_poll).await;
    vote(&carol, &open_poll, &[&poll_options[0]]).await.assert_error("FORBIDDEN");
    let carol_poll = send_poll(&carol, &chat, hill_or_lake()).await;
    close(&bob, &carol_poll).await.assert_error("FORBIDDEN");
    alice.mutate_ok("changeMemberRole", json!({ "chatId": chat, "userId": "bob", "role": "MODERATOR" })).await;
    assert_eq!(close(&bob, &carol_poll).await.at("closePoll.message.poll.closed"), true);
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
    let poll = send_poll(&alice, &chat, hill_or_lake()).await;
    let options = options(&bob, &poll).await;
    let query = "subscription($chat: ID!) { chatFeed(chatId: $chat) { __typename ... on MessageUpserted {
            change message { poll { closed voterCount options { viewerVoted } } } } } }";
    let mut feed = alice.subscribe(query, json!({ "chat": chat })).await;
    feed.expect("FeedCaughtUp").await;
    vote(&bob, &poll, &[&options[0]]).await.data();
    let event = feed.next_non_member_event().await;
    let seen = &event["message"]["poll"];
    assert_eq!((&event["change"], &seen["voterCount"], &seen["closed"]), (&json!("POLL"), &json!(1), &json!(false)));
    assert_eq!(seen["options"][0]["viewerVoted"], false, "the event shows the vote from the viewpoint of its receiver");
    alice.mutate_ok("closePoll", json!({ "messageId": poll })).await;
    let event = feed.next_non_member_event().await;
    assert_eq!((&event["change"], &event["message"]["poll"]["closed"]), (&json!("POLL"), &json!(true)));
}
