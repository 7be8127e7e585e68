//! Receipts: the positions up to which members have read a chat and received its messages.

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Feed, TestApp, User, engine_test, pluck};

async fn read(user: &User, chat: &str, up_to: Option<&str>, private: bool) {
    user.mutate_ok("markRead", json!({ "chatId": chat, "upToMessageId": up_to, "private": private })).await;
}

async fn deliver(user: &User, chat: &str, message: &str) {
    user.mutate_ok("markDelivered", json!({ "upTo": [{ "chatId": chat, "messageId": message }] })).await;
}

/// Returns the status of a message, and the users who have read it.
async fn receipt(user: &User, message: &str) -> Value {
    let seen = user.fetch_message(message, "status readBy { nodes { id } }").await;
    json!([seen["status"], pluck(&seen["readBy"]["nodes"], "id")])
}

/// Returns the positions of a member that another member sees.
async fn position(user: &User, chat: &str, member_id: &str) -> Value {
    let selection = "members { nodes { user { id } lastReadMessage { id } lastReadAt lastDeliveredMessage { id } } }";
    let seen = user.fetch_chat(chat, selection).await;
    let members = seen["members"]["nodes"].as_array().unwrap();
    let member = members.iter().find(|member| member["user"]["id"] == member_id).expect("a member");
    json!([member["lastReadMessage"]["id"], member["lastReadAt"].is_string(), member["lastDeliveredMessage"]["id"]])
}

#[engine_test]
async fn message_status_moves_from_sent_to_read(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let (first, second) = (alice.send(&chat, "one").await, alice.send(&chat, "two").await);
    assert_eq!(receipt(&alice, &first).await, json!(["SENT", []]), "the sender does not count as a reader");
    deliver(&bob, &chat, &first).await;
    assert_eq!(receipt(&alice, &first).await, json!(["DELIVERED", []]));
    assert_eq!(receipt(&alice, &second).await, json!(["SENT", []]));
    read(&carol, &chat, Some(&first), false).await;
    assert_eq!(receipt(&alice, &first).await, json!(["READ", ["carol"]]), "one other reader is enough");
    assert_eq!(receipt(&bob, &first).await, json!(["READ", ["carol"]]));
    read(&bob, &chat, None, false).await;
    assert_eq!(receipt(&alice, &first).await, json!(["READ", ["bob", "carol"]]));
    assert_eq!(receipt(&alice, &second).await, json!(["READ", ["bob"]]));
    let page = async |arguments: &str| {
        let selection = format!("readBy({arguments}) {{ nodes {{ id }} pageInfo {{ hasNextPage endCursor }} }}");
        alice.fetch_message(&first, &selection).await["readBy"].clone()
    };
    let one = page("first: 1").await;
    assert_eq!((&one["nodes"], &one["pageInfo"]["hasNextPage"]), (&json!([{ "id": "bob" }]), &json!(true)));
    let rest = page(&format!("first: 1, after: {}", one["pageInfo"]["endCursor"])).await;
    assert_eq!((&rest["nodes"], &rest["pageInfo"]["hasNextPage"]), (&json!([{ "id": "carol" }]), &json!(false)));
    let ask = format!("{{ message(id: \"{first}\") {{ readBy(first: 101) {{ nodes {{ id }} }} }} }}");
    alice.ask(&ask).await.assert_bad_input("first");
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert_eq!(receipt(&alice, &first).await, json!(["READ", ["bob"]]), "only current members count as readers");
    let dora = app.user("dora").await;
    alice.add_member(&chat, "dora", "MEMBER").await;
    read(&dora, &chat, None, false).await;
    assert_eq!(
        receipt(&alice, &first).await,
        json!(["READ", ["bob"]]),
        "a new member is not a reader of earlier messages"
    );
    let third = alice.send(&chat, "three").await;
    read(&dora, &chat, None, false).await;
    assert_eq!(receipt(&alice, &third).await, json!(["READ", ["dora"]]));
    bob.send(&chat, "by Bob").await;
    assert_eq!(receipt(&alice, &third).await, json!(["READ", ["bob", "dora"]]));
}

#[engine_test]
async fn read_position_only_moves_forward(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(alice.send(&chat, text).await);
    }
    read(&bob, &chat, Some(&ids[1]), false).await;
    let read_at = bob.fetch_chat(&chat, "viewerMembership { lastReadAt }").await;
    let position_before = json!([ids[1], true, ids[1]]);
    assert_eq!(position(&alice, &chat, "bob").await, position_before, "a read message counts as delivered");
    read(&bob, &chat, Some(&ids[0]), false).await;
    deliver(&bob, &chat, &ids[0]).await;
    assert_eq!(position(&alice, &chat, "bob").await, position_before);
    assert_eq!(bob.fetch_chat(&chat, "viewerMembership { lastReadAt }").await, read_at);
    deliver(&bob, &chat, &ids[2]).await;
    deliver(&bob, &chat, &ids[1]).await;
    assert_eq!(position(&alice, &chat, "bob").await, json!([ids[1], true, ids[2]]));
    let other = bob.group("Run", &[]).await;
    let other_message = bob.send(&other, "in another chat").await;
    for none in [other_message.as_str(), "msg_nonsense"] {
        bob.mutate("markRead", json!({ "chatId": chat, "upToMessageId": none })).await.assert_error("NOT_FOUND");
        bob.mutate("markUnread", json!({ "chatId": chat, "fromMessageId": none })).await.assert_error("NOT_FOUND");
    }
    let eve = app.user("eve").await;
    for field in ["markRead", "markUnread"] {
        eve.mutate(field, json!({ "chatId": chat })).await.assert_error("NOT_FOUND");
    }
    let news = alice.chat("CHANNEL", "News", &[]).await;
    eve.mutate("markRead", json!({ "chatId": news })).await.assert_error("FORBIDDEN");
}

#[engine_test]
async fn private_reader_appears_nowhere(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let (first, second) = (alice.send(&chat, "one").await, alice.send(&chat, "two").await);
    read(&bob, &chat, Some(&first), false).await;
    assert_eq!(receipt(&alice, &first).await, json!(["READ", ["bob"]]));
    read(&bob, &chat, Some(&second), true).await;
    assert_eq!(position(&alice, &chat, "bob").await, json!([null, false, null]));
    assert_eq!(position(&bob, &chat, "bob").await[0], second, "the reader sees the own position");
    for message in [&first, &second] {
        assert_eq!(receipt(&alice, message).await, json!(["SENT", []]));
    }
    let unread = bob.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
    assert_eq!(unread["viewerMembership"]["unreadCount"], 0);
    deliver(&bob, &chat, &second).await;
    assert_eq!(receipt(&alice, &second).await, json!(["DELIVERED", []]), "a delivery does not make the reader visible");
    bob.send(&chat, "hello").await;
    assert_eq!(receipt(&alice, &second).await, json!(["DELIVERED", []]), "sending keeps the read position private");
    read(&bob, &chat, None, false).await;
    assert_eq!(
        receipt(&alice, &second).await,
        json!(["READ", ["bob"]]),
        "reading without the option makes the position visible"
    );
    assert_eq!(position(&alice, &chat, "bob").await[1], true);
}

#[engine_test]
async fn chat_can_be_marked_unread_again(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(alice.send(&chat, text).await);
    }
    let own = "member { unreadCount markedUnread lastReadMessage { id } }";
    let unread = async |from: Option<&str>| {
        let reply = bob.mutate_returning("markUnread", json!({ "chatId": chat, "fromMessageId": from }), own).await;
        let member = reply.at("markUnread.member");
        json!([member["unreadCount"], member["markedUnread"], member["lastReadMessage"]["id"]])
    };
    read(&bob, &chat, None, false).await;
    assert_eq!(unread(None).await, json!([0, true, ids[2]]), "the chat is marked, but no message becomes unread");
    let listed =
        bob.ask("{ chats(filter: { unreadOnly: true }) { nodes { id } } viewer { unread { chats messages } } }").await;
    assert_eq!(listed.at("chats.nodes"), &json!([{ "id": chat }]));
    assert_eq!(listed.at("viewer.unread"), &json!({ "chats": 1, "messages": 0 }));
    assert_eq!(unread(Some(&ids[1])).await, json!([2, true, ids[0]]));
    assert_eq!(receipt(&alice, &ids[1]).await, json!(["DELIVERED", []]), "the message is no longer read");
    assert_eq!(unread(Some(&ids[2])).await, json!([2, true, ids[0]]), "the position only moves backwards");
    assert_eq!(unread(Some(&ids[0])).await[0], 3);
    let others = alice.fetch_chat(&chat, "members { nodes { markedUnread } }").await;
    assert_eq!(pluck(&others["members"]["nodes"], "markedUnread"), [false, false]);
    read(&bob, &chat, Some(&ids[2]), false).await;
    let after = bob.fetch_chat(&chat, "viewerMembership { unreadCount markedUnread }").await;
    assert_eq!(after["viewerMembership"], json!({ "unreadCount": 0, "markedUnread": false }));
}

#[engine_test]
async fn delivered_message_stays_delivered_when_it_is_marked_unread(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        ids.push(alice.send(&chat, text).await);
    }
    let unread_from = json!({ "chatId": chat, "fromMessageId": ids[0] });
    read(&bob, &chat, Some(&ids[1]), false).await;
    bob.mutate_ok("markUnread", unread_from.clone()).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for id in &ids {
            statuses.push(receipt(&alice, id).await[0].clone());
        }
        statuses
    };
    assert_eq!(statuses().await, ["DELIVERED", "DELIVERED", "SENT"]);
    assert_eq!(position(&alice, &chat, "bob").await[2], ids[1]);
    deliver(&bob, &chat, &ids[2]).await;
    read(&bob, &chat, Some(&ids[0]), false).await;
    bob.mutate_ok("markUnread", unread_from.clone()).await;
    assert_eq!(statuses().await, ["DELIVERED"; 3], "a later delivery is kept");
    bob.mutate_ok("markUnread", unread_from.clone()).await;
    assert_eq!(statuses().await, ["DELIVERED"; 3]);
    read(&carol, &chat, None, true).await;
    carol.mutate_ok("markUnread", unread_from).await;
    assert_eq!(position(&alice, &chat, "carol").await, json!([null, false, null]), "a private reader shows nothing");
}

#[engine_test]
async fn read_position_is_a_message_of_the_timeline(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let last = alice.send(&chat, "to the lake").await;
    let reply = alice.send_message(&chat, json!({ "text": "or there", "threadRootId": root })).await;
    let later = alice.send(&chat, "later").await;
    read(&bob, &chat, Some(&reply), false).await;
    deliver(&bob, &chat, &reply).await;
    assert_eq!(position(&alice, &chat, "bob").await, json!([last, true, last]));
    let unread = bob.fetch_chat(&chat, "viewerMembership { unreadCount }").await;
    assert_eq!(unread["viewerMembership"]["unreadCount"], 1, "the message after the reply is unread");
    let echoed = json!({ "text": "both", "threadRootId": root, "alsoInChat": true });
    let echoed = alice.send_message(&chat, echoed).await;
    read(&bob, &chat, Some(&later), false).await;
    assert_eq!(position(&alice, &chat, "bob").await[0], later);
    read(&bob, &chat, Some(&echoed), false).await;
    assert_eq!(position(&alice, &chat, "bob").await, json!([echoed, true, echoed]));
}

#[engine_test]
async fn status_of_a_thread_reply_follows_the_thread(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let root = alice.send(&chat, "where to?").await;
    let reply = alice.send_message(&chat, json!({ "text": "to the lake", "threadRootId": root })).await;
    alice.send(&chat, "later").await;
    deliver(&bob, &chat, &reply).await;
    assert_eq!(receipt(&alice, &reply).await, json!(["DELIVERED", []]));
    read(&bob, &chat, None, false).await;
    assert_eq!(receipt(&alice, &root).await, json!(["READ", ["bob"]]));
    assert_eq!(receipt(&alice, &reply).await, json!(["DELIVERED", []]), "reading the chat does not read the thread");
    bob.mutate_ok("markThreadRead", json!({ "threadRootId": root })).await;
    assert_eq!(receipt(&alice, &reply).await, json!(["READ", ["bob"]]));
    read(&bob, &chat, None, true).await;
    assert_eq!(receipt(&alice, &reply).await, json!(["DELIVERED", []]), "a private reader hides threads too");
}

#[engine_test]
async fn mark_delivered_applies_to_all_chats_or_none(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (walk, run) = (alice.group("Walk", &[&bob]).await, alice.group("Run", &[&bob]).await);
    let (walk_message, run_message) = (alice.send(&walk, "hello").await, alice.send(&run, "hello").await);
    let up_to = |chat: &str, message: &str| json!({ "chatId": chat, "messageId": message });
    let foreign_chat = alice.group("Own", &[]).await;
    let foreign_message = alice.send(&foreign_chat, "hello").await;
    for invalid in [
        up_to(&foreign_chat, &foreign_message),
        up_to(&run, &walk_message),
        up_to(&run, "msg_nonsense"),
        up_to("chat_x", &run_message),
    ] {
        bob.mutate("markDelivered", json!({ "upTo": [up_to(&walk, &walk_message), invalid] }))
            .await
            .assert_error("NOT_FOUND");
    }
    assert_eq!(receipt(&alice, &walk_message).await, json!(["SENT", []]));
    bob.mutate("markDelivered", json!({ "upTo": [] })).await.assert_bad_input("upTo");
    let too_many: Vec<Value> = (0..101).map(|_| up_to(&walk, &walk_message)).collect();
    bob.mutate("markDelivered", json!({ "upTo": too_many })).await.assert_bad_input("upTo");
    bob.mutate_ok("markDelivered", json!({ "upTo": too_many[1..] })).await;
    let both = json!({ "upTo": [up_to(&run, &run_message), up_to(&walk, &walk_message)] });
    let reply =
        bob.mutate_returning("markDelivered", both, "members { chat { title } lastDeliveredMessage { id } }").await;
    let members = reply.at("markDelivered.members").as_array().unwrap();
    assert_eq!(members.len(), 2);
    for (title, id) in [("Walk", &walk_message), ("Run", &run_message)] {
        assert!(
            members.contains(&json!({ "chat": { "title": title }, "lastDeliveredMessage": { "id": id } })),
            "{members:?}"
        );
    }
    assert_eq!(receipt(&alice, &run_message).await, json!(["DELIVERED", []]));
}

const FEED: &str = "subscription($chat: ID!, $after: String) { chatFeed(chatId: $chat, after: $after) { __typename
    ... on FeedEvent { cursor }
    ... on MemberUpserted { member { user { id } lastReadMessage { id } draft } } } }";

/// Returns the user, the last read message and the cursor of the next event about a member.
async fn next_position(feed: &mut Feed) -> (String, Value, String) {
    loop {
        let event = feed.next().await;
        if event["__typename"] == "MemberUpserted" {
            let member = &event["member"];
            let user = member["user"]["id"].as_str().unwrap().to_owned();
            return (user, member["lastReadMessage"]["id"].clone(), event["cursor"].as_str().unwrap().to_owned());
        }
    }
}

#[engine_test]
async fn receipts_are_coalesced_and_private_ones_stay_private(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.send(&chat, &n.to_string()).await);
    }
    let mut feed = alice.subscribe(FEED, json!({ "chat": chat })).await;
    let mut bob_feed = bob.subscribe(FEED, json!({ "chat": chat })).await;
    for feed in [&mut feed, &mut bob_feed] {
        feed.expect("FeedCaughtUp").await;
    }
    let version = alice.fetch_chat(&chat, "version").await;
    join_all(ids.iter().map(|id| read(&bob, &chat, Some(id), false))).await;
    let mut times = 0;
    let cursor = loop {
        let (user, at, cursor) = next_position(&mut feed).await;
        times += u32::from(user == "bob");
        if user == "bob" && at == ids[19] {
            break cursor;
        }
    };
    assert!((1..20).contains(&times), "{times} events for 20 changes");
    assert_eq!(alice.fetch_chat(&chat, "version").await, version, "reading does not change the version of the chat");
    // Others see once that the position became private. Later changes are delivered to the reader only.
    read(&bob, &chat, None, true).await;
    loop {
        let (user, at, _) = next_position(&mut feed).await;
        if user == "bob" && at.is_null() {
            break;
        }
        assert!(user != "bob" || at == json!(ids[19]), "the last state may be repeated, but no older one");
    }
    // A feed that reads a gap repeats positions that changed within the last seconds. These changes are older.
    app.advance(16);
    let last = alice.send(&chat, "last").await;
    while next_position(&mut feed).await.1 != json!(last) {}
    read(&bob, &chat, None, true).await;
    while next_position(&mut bob_feed).await.1 != json!(last) {}
    read(&carol, &chat, None, false).await;
    loop {
        let (user, at, _) = next_position(&mut feed).await;
        assert!(user != "bob", "the position of {user} is {at}");
        if user == "carol" && at == json!(last) {
            break;
        }
    }
    // A feed that resumes delivers the positions that changed meanwhile.
    let mut resumed = alice.subscribe(FEED, json!({ "chat": chat, "after": cursor })).await;
    let mut positions = Vec::new();
    loop {
        let event = resumed.next().await;
        match event["__typename"].as_str().unwrap() {
            "FeedCaughtUp" => break,
            "MemberUpserted" => {
                positions.push(json!([event["member"]["user"]["id"], event["member"]["lastReadMessage"]["id"]]))
            }
            _ => {}
        }
    }
    assert!(
        positions.contains(&json!(["carol", last])) && positions.contains(&json!(["alice", last])),
        "{positions:?}"
    );
    assert!(positions.iter().all(|each| each[0] != "bob" || each[1].is_null()), "{positions:?}");
}

#[engine_test(settings = [("PARLOR_RECEIPT_MEMBERS", "2")])]
async fn large_chat_delivers_only_own_receipts(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob, &carol]).await;
    let (mut feed, mut bob_feed) =
        (alice.subscribe(FEED, json!({ "chat": chat })).await, bob.subscribe(FEED, json!({ "chat": chat })).await);
    for feed in [&mut feed, &mut bob_feed] {
        feed.expect("FeedCaughtUp").await;
    }
    let id = alice.send(&chat, "hello").await;
    read(&bob, &chat, None, false).await;
    deliver(&carol, &chat, &id).await;
    assert_eq!(receipt(&alice, &id).await, json!(["SENT", []]));
    assert_eq!(next_position(&mut bob_feed).await.0, "bob");
    alice.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": "and then" })).await;
    loop {
        let event = feed.next().await;
        if event["__typename"] == "MemberUpserted" {
            assert_eq!(event["member"]["user"]["id"], "alice", "{event}");
            if event["member"]["draft"] == "and then" {
                break;
            }
        }
    }
    carol.mutate_ok("leaveChat", json!({ "chatId": chat })).await;
    assert_eq!(receipt(&alice, &id).await, json!(["READ", ["bob"]]), "the chat is small enough again");
}

#[engine_test]
async fn feed_cut_during_catch_up_misses_no_receipt(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let mut feed = alice.subscribe(FEED, json!({ "chat": chat })).await;
    let cursor = feed.expect("FeedCaughtUp").await["cursor"].clone();
    let id = alice.send(&chat, "hello").await;
    read(&bob, &chat, None, false).await;
    // More than the time within which positions are repeated.
    app.advance(60);
    let mut interrupted = alice.subscribe(FEED, json!({ "chat": chat, "after": cursor })).await;
    let first = interrupted.next().await;
    assert_eq!(first["__typename"], "MessageUpserted");
    let mut resumed = alice.subscribe(FEED, json!({ "chat": chat, "after": first["cursor"] })).await;
    loop {
        let event = resumed.next().await;
        assert_ne!(event["__typename"], "FeedCaughtUp", "the position of Bob was not delivered");
        let member = &event["member"];
        if member["user"]["id"] == "bob" && member["lastReadMessage"]["id"] == id {
            break;
        }
    }
}
