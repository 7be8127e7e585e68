//! The inbox feed: everything that concerns a user across chats.

use futures_util::future::join_all;
use serde_json::{Value, json};

use parlor::realtime::feeds::catch_up::ResetReason;
use parlor::realtime::feeds::inbox::InboxEventKind;
use parlor::service::feeds::inbox_feed;
use parlor::service::sessions;
use testkit::keys::sign_with_secret;
use testkit::{Feed, Socket, TestApp, User, engine_test};

pub const CHAT: &str = "id title memberCount lastMessage { id text } viewerMembership { unreadCount draft }";

pub async fn subscribe_inbox(user: &User, after: Option<&str>) -> Feed {
    user.subscribe(&query(), json!({ "after": after })).await
}

fn query() -> String {
    format!(
        "subscription($after: String) {{ inboxFeed(after: $after) {{
            __typename
            ... on FeedEvent {{ cursor }}
            ... on ChatUpserted {{ chat {{ {CHAT} }} }}
            ... on ChatRemoved {{ chatId }}
            ... on NotificationUpserted {{ notification {{ id kind readAt chat {{ id }} message {{ text }} }} }}
            ... on SessionExpiring {{ expiresAt }}
            ... on FeedReset {{ reason }}
        }} }}"
    )
}

/// Opens an inbox feed, and returns it with its cursor when it has caught up.
pub async fn caught_up_inbox(user: &User) -> (Feed, String) {
    let mut feed = subscribe_inbox(user, None).await;
    let cursor = cursor(&feed.expect("FeedCaughtUp").await);
    (feed, cursor)
}

pub fn cursor(event: &Value) -> String {
    event["cursor"].as_str().expect("each event has a cursor").to_owned()
}

/// Skips events up to the next one that matches, and returns it.
pub async fn next_matching(feed: &mut Feed, matches: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = feed.next().await;
        if matches(&event) {
            return event;
        }
    }
}

/// Returns the events before the next one that matches.
async fn events_before(feed: &mut Feed, matches: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = feed.next().await;
        if matches(&event) {
            return events;
        }
        events.push(event);
    }
}

pub fn is_about<'a>(chat: &'a str, matches: impl Fn(&Value) -> bool + 'a) -> impl Fn(&Value) -> bool + 'a {
    move |event| event["chat"]["id"] == chat && matches(&event["chat"])
}

pub fn is_removal_of(chat: &str) -> impl Fn(&Value) -> bool {
    move |event| event["__typename"] == "ChatRemoved" && event["chatId"] == chat
}

async fn next_notification(feed: &mut Feed, kind: &str, read: bool) -> Value {
    let event = next_matching(feed, |event| {
        let notification = &event["notification"];
        notification["kind"] == kind && notification["readAt"].is_string() == read
    });
    event.await["notification"].clone()
}

/// Returns all events that the changes so far cause in the feed of a user.
///
/// The user changes a draft, and creates a chat after that. Drafts and read positions are published in batches after a
/// delay: the event about the draft shows that all earlier ones are published. The feed delivers changes in their
/// order: the event about the last chat shows that all earlier changes are delivered. Events about these markers are
/// left out.
async fn settle(feed: &mut Feed, user: &User) -> Vec<Value> {
    let marker = user.group("Marker", &[]).await;
    let mut events = events_before(feed, is_about(&marker, |_| true)).await;
    user.mutate_ok("updateMyMembership", json!({ "chatId": marker, "draft": "marker" })).await;
    events.extend(events_before(feed, is_about(&marker, |chat| chat["viewerMembership"]["draft"] == "marker")).await);
    let last = user.group("Marker", &[]).await;
    events.extend(events_before(feed, is_about(&last, |_| true)).await);
    events.retain(|event| event["chat"]["title"] != "Marker");
    events
}

/// Asserts that the changes so far cause no event in the feed of a user.
async fn assert_silent(feed: &mut Feed, user: &User) {
    assert_eq!(settle(feed, user).await, Vec::<Value>::new());
}

#[engine_test]
async fn inbox_feed_delivers_every_list_change_to_all_devices(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let all = ["chat.view", "chat.create_group", "chat.manage_group", "chat.delete"];
    let alice = app.user_in("demo", &alice.id, Some(&all)).await;
    let walk = alice.group("Walk", &[&bob]).await;
    let (mut phone, _) = caught_up_inbox(&bob).await;
    let (mut desk, _) = caught_up_inbox(&bob).await;
    let (mut carol_inbox, _) = caught_up_inbox(&carol).await;
    let run = alice.group("Run", &[&bob]).await;
    let hello = alice.send(&walk, "hello").await;
    for feed in [&mut phone, &mut desk] {
        next_matching(feed, is_about(&run, |chat| chat["title"] == "Run")).await;
        let event = next_matching(feed, is_about(&walk, |chat| chat["lastMessage"]["id"] == hello)).await;
        assert_eq!(event["chat"]["viewerMembership"]["unreadCount"], 1);
    }
    alice.mutate_ok("editMessage", json!({ "messageId": hello, "text": "hello all" })).await;
    next_matching(&mut phone, is_about(&walk, |chat| chat["lastMessage"]["text"] == "hello all")).await;
    alice.delete_message(&hello).await;
    next_matching(&mut phone, is_about(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 0)).await;
    alice.mutate_ok("updateChat", json!({ "chatId": walk, "title": "Stroll" })).await;
    next_matching(&mut phone, is_about(&walk, |chat| chat["title"] == "Stroll")).await;
    alice.add_member(&walk, "carol", "MEMBER").await;
    next_matching(&mut phone, is_about(&walk, |chat| chat["memberCount"] == 3)).await;
    next_matching(&mut carol_inbox, is_about(&walk, |chat| chat["title"] == "Stroll")).await;

    // Changes made on one device are delivered to the other one.
    alice.send(&walk, "to be read").await;
    next_matching(&mut desk, is_about(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 1)).await;
    bob.mutate_ok("markRead", json!({ "chatId": walk })).await;
    next_matching(&mut desk, is_about(&walk, |chat| chat["viewerMembership"]["unreadCount"] == 0)).await;
    bob.mutate_ok("updateMyMembership", json!({ "chatId": walk, "draft": "I", "pinned": true })).await;
    next_matching(&mut desk, is_about(&walk, |chat| chat["viewerMembership"]["draft"] == "I")).await;

    // Leaving a chat, being removed, being added again, and the deletion of a chat.
    alice.mutate_ok("removeMember", json!({ "chatId": walk, "userId": "bob" })).await;
    for feed in [&mut phone, &mut desk] {
        next_matching(feed, is_removal_of(&walk)).await;
    }
    alice.send(&walk, "without Bob").await;
    alice.add_member(&walk, "bob", "MEMBER").await;
    let added = next_matching(&mut phone, is_about(&walk, |_| true)).await;
    assert_eq!(added["chat"]["memberCount"], 3);
    alice.send(&walk, "with Bob").await;
    next_matching(&mut phone, is_about(&walk, |chat| chat["lastMessage"]["text"] == "with Bob")).await;
    bob.mutate_ok("leaveChat", json!({ "chatId": walk })).await;
    next_matching(&mut phone, is_removal_of(&walk)).await;
    alice.mutate_ok("deleteChat", json!({ "chatId": run })).await;
    next_matching(&mut phone, is_removal_of(&run)).await;
    let news = alice.chat("CHANNEL", "News", &[]).await;
    bob.mutate_ok("joinChannel", json!({ "chatId": news })).await;
    next_matching(&mut phone, is_about(&news, |chat| chat["title"] == "News")).await;
}

#[engine_test]
async fn inbox_feed_skips_changes_no_list_shows(app: &TestApp) {
    let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
    let chat = alice.group("Walk", &[&bob]).await;
    let id = alice.send(&chat, "hello").await;
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    let (mut feed, _) = caught_up_inbox(&bob).await;
    let (mut carol_feed, _) = caught_up_inbox(&carol).await;
    // The read position is published after a delay.
    settle(&mut feed, &bob).await;
    bob.mutate_ok("addReaction", json!({ "messageId": id, "emoji": "👍" })).await;
    alice.mutate_ok("markRead", json!({ "chatId": chat })).await;
    alice.mutate_ok("updateMyMembership", json!({ "chatId": chat, "draft": "by Alice" })).await;
    alice.send_message(&chat, json!({ "text": "in the thread", "threadRootId": id })).await;
    assert_silent(&mut feed, &bob).await;
    alice.send(&chat, "visible").await;
    next_matching(&mut feed, is_about(&chat, |chat| chat["lastMessage"]["text"] == "visible")).await;
    assert_silent(&mut carol_feed, &carol).await;
    // Users with the same id in two organizations are different users.
    let other_bob = app.user_in("other", "bob", None).await;
    let (mut other_bob_feed, _) = caught_up_inbox(&other_bob).await;
    alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })).await;
    next_notification(&mut feed, "MENTION", false).await;
    assert_silent(&mut other_bob_feed, &other_bob).await;
}

#[engine_test]
async fn inbox_feed_delivers_new_and_read_notifications(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (mut feed, _) = caught_up_inbox(&bob).await;
    let (mut alice_feed, _) = caught_up_inbox(&alice).await;
    let chat = alice.group("Walk", &[&bob]).await;
    let added = next_notification(&mut feed, "ADDED_TO_CHAT", false).await;
    assert_eq!(added["chat"]["id"], chat);
    let own = bob.send(&chat, "mine").await;
    assert_eq!(
        next_notification(&mut feed, "ADDED_TO_CHAT", true).await["id"],
        added["id"],
        "sending marks the chat as read"
    );

    alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })).await;
    let mention = next_notification(&mut feed, "MENTION", false).await;
    assert_eq!(mention["message"]["text"], "Bob!");
    bob.mutate_ok("markRead", json!({ "chatId": chat })).await;
    assert_eq!(next_notification(&mut feed, "MENTION", true).await["id"], mention["id"]);

    let reply = alice.send_message(&chat, json!({ "text": "yes", "replyToId": own })).await;
    let unread = next_notification(&mut feed, "REPLY", false).await;
    bob.mutate_ok("markNotificationsRead", json!({ "ids": [unread["id"]] })).await;
    assert_eq!(next_notification(&mut feed, "REPLY", true).await["id"], unread["id"]);
    alice.mutate_ok("addReaction", json!({ "messageId": own, "emoji": "👍" })).await;
    let reaction = next_notification(&mut feed, "REACTION", false).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    assert_eq!(next_notification(&mut feed, "REACTION", true).await["id"], reaction["id"]);
    alice.delete_message(&reply).await;
    let deleted = alice.send_message(&chat, json!({ "text": "deleted", "replyToId": own })).await;
    let unread = next_notification(&mut feed, "REPLY", false).await;
    alice.delete_message(&deleted).await;
    assert_eq!(
        next_notification(&mut feed, "REPLY", true).await["id"],
        unread["id"],
        "the deletion of a message marks its notification as read"
    );

    // No notification was for Alice.
    alice.send(&chat, "the end").await;
    loop {
        let event = alice_feed.next().await;
        assert_eq!(event["__typename"], "ChatUpserted", "{event}");
        if event["chat"]["lastMessage"]["text"] == "the end" {
            break;
        }
    }
}

#[engine_test]
async fn large_notification_batch_is_loaded_from_database(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    for _ in 0..12 {
        join_all((0..10).map(|_| alice.send_message(&chat, json!({ "text": "Bob!", "mentionIds": ["bob"] })))).await;
    }
    let (mut feed, _) = caught_up_inbox(&bob).await;
    bob.mutate_ok("markNotificationsRead", json!({})).await;
    let mut read = std::collections::BTreeSet::new();
    while read.len() < 121 {
        let event = feed.next().await;
        if event["notification"]["readAt"].is_string() {
            read.insert(event["notification"]["id"].to_string());
        }
    }
}

#[engine_test]
async fn overflowed_inbox_queue_delivers_each_chat_once(app: &TestApp) {
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let mut chats = Vec::new();
    for n in 0..4 {
        chats.push(alice.group(&n.to_string(), &[&bob]).await);
    }
    let marker = alice.group("Marker", &[&bob]).await;
    app.advance(60);
    let viewer = sessions::open(&app.app, &bob.token).await.expect("a session").viewer();
    // Fewer events than the delivery queue holds, and more.
    for sends in [10, 50] {
        let mut feed = inbox_feed(&app.app, viewer.clone(), None, None).expect("a feed");
        let mut next = async || feed.recv().await.expect("an event").expect("no error").kind;
        assert!(matches!(next().await, InboxEventKind::CaughtUp));
        let removed = chats.pop().expect("a chat");
        for n in 0..sends {
            join_all(chats.iter().map(|chat| alice.send_message(chat, json!({ "text": n.to_string() })))).await;
        }
        alice.mutate_ok("removeMember", json!({ "chatId": removed, "userId": "bob" })).await;
        let mut delivered = Vec::new();
        for _ in 0..=chats.len() {
            delivered.push(match next().await {
                InboxEventKind::Chat(chat) => chat.id.to_string(),
                InboxEventKind::ChatRemoved(chat) => format!("not {chat}"),
                other => panic!("{other:?}"),
            });
        }
        let mut expected: Vec<String> = chats.iter().cloned().chain([format!("not {removed}")]).collect();
        delivered.sort();
        expected.sort();
        assert_eq!(delivered, expected);
        // The next event is about a later change, so each chat was delivered once.
        alice.send(&marker, "marker").await;
        let event = next().await;
        assert!(matches!(&event, InboxEventKind::Chat(chat) if chat.id.to_string() == marker), "{event:?}");
        app.advance(60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_feed_warns_before_token_expires() {
    let app = TestApp::sqlite(&[("PARLOR_JWT_LEEWAY_SECONDS", "0")]).await;
    let token = |seconds: i64| {
        let expires_at = app.app.clock.now().timestamp() + seconds;
        let claims = json!({ "sub": "alice", "org": "demo", "name": "Alice", "exp": expires_at });
        (sign_with_secret(claims), expires_at)
    };
    let open = async |token: &str| {
        let mut socket = Socket::connect(app.addr).await;
        socket.init(token).await;
        socket.subscribe("feed", &query(), json!({})).await;
        Feed::new(socket)
    };
    let announced_expiry = |event: &Value| {
        let expires_at = event["expiresAt"].as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>();
        expires_at.expect("a time").timestamp()
    };
    let alice = app.user("alice").await;
    // The warning comes at once if the token expires within a minute.
    let (short, expires_at) = token(50);
    let mut feed = open(&short).await;
    feed.expect("FeedCaughtUp").await;
    assert_eq!(announced_expiry(&feed.expect("SessionExpiring").await), expires_at);

    // Otherwise the warning comes a minute before the expiry, once. The connection ends at the expiry.
    let (long, expires_at) = token(600);
    let mut feed = open(&long).await;
    feed.expect("FeedCaughtUp").await;
    assert_silent(&mut feed, &alice).await;
    app.advance(545);
    // A marker chat may be delivered again, because its receipts are published later than the chat.
    let warning = next_matching(&mut feed, |event| event["__typename"] == "SessionExpiring").await;
    assert_eq!(announced_expiry(&warning), expires_at);
    // The server compares all sessions with the clock when a session is opened.
    drop(alice.socket().await);
    assert_silent(&mut feed, &alice).await;
    app.advance(60);
    assert_eq!(feed.socket.expect_close().await.0, 4403);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_feed_reports_changed_permissions_after_renewal() {
    let app = TestApp::sqlite(&[]).await;
    let alice = app.user("alice").await;
    let token = |permissions: &[&str]| app.token("demo", "alice", Some(permissions));
    let session = sessions::open(&app.app, &token(&["chat.view"])).await.expect("a session");
    let mut feed = inbox_feed(&app.app, session.viewer(), Some(session.clone()), None).expect("a feed");
    let mut next = async || feed.recv().await.expect("an event").expect("no error").kind;
    assert!(matches!(next().await, InboxEventKind::CaughtUp));
    sessions::renew(&app.app, &session, &token(&["chat.view"])).await.expect("a token with the same permissions");
    sessions::renew(&app.app, &session, &token(&["chat.view", "chat.delete"]))
        .await
        .expect("a token with more permissions");
    assert!(matches!(next().await, InboxEventKind::Reset(ResetReason::AccessChanged)));
    // The next event is about a later change, so the change of permissions was reported once.
    let marker = alice.group("Marker", &[]).await;
    let event = next().await;
    assert!(matches!(&event, InboxEventKind::Chat(chat) if chat.id.to_string() == marker), "{event:?}");
    app.stop().await;
}
