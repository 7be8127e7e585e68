//! Tests of typing on two nodes whose messages the test delivers.

use crate::domain::buckets::Bucket;
use crate::domain::chat_events::LogSlice;
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::typing::*;

const BEYOND_TTL: Duration = Duration::from_secs(7);

fn new_chat_id() -> ChatId {
    ChatId::new(Bucket::new(7).unwrap())
}

fn start_node(clock: &Clock) -> TypingTracker {
    TypingTracker::start(EventPublisher::new(Arc::new(Hub::default()), None), clock.clone())
}

fn update_about(node: &TypingTracker, chat: ChatId, user: &UserId) -> TypingUpdate {
    let chats = node.0.lock();
    let state = chats.get(&chat).and_then(|typing| typing.users.iter().find(|known| known.user == *user));
    TypingUpdate { chat, user: user.clone(), span: state.map(|state| (state.started_at, state.expires_at)) }
}

/// Waits until the expiry loop has removed all states.
async fn wait_until_expired(node: &TypingTracker) {
    while node.0.typing_count.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK_INTERVAL).await;
    }
}

#[tokio::test]
async fn typing_users_have_the_same_order_on_all_nodes() {
    let clock = Clock::adjustable();
    let (local, remote) = (start_node(&clock), start_node(&clock));
    let chat = new_chat_id();
    let [alice, bob]: [UserId; 2] = ["alice", "bob"].map(|id| id.parse().unwrap());
    local.start_typing(chat, &bob);
    clock.advance(Duration::from_secs(1));
    remote.start_typing(chat, &alice);
    let (about_bob, about_alice) = (update_about(&local, chat, &bob), update_about(&remote, chat, &alice));
    local.apply_update(&about_alice);
    remote.apply_update(&about_bob);
    remote.apply_update(&about_bob);
    for node in [&local, &remote] {
        assert_eq!(node.typing_users(chat), [bob.clone(), alice.clone()]);
    }
    local.apply_update(&TypingUpdate { span: None, ..about_alice });
    assert_eq!(local.typing_users(chat), [bob]);
    clock.advance(BEYOND_TTL);
    for node in [&local, &remote] {
        assert!(node.typing_users(chat).is_empty());
    }
}

#[tokio::test]
async fn typing_expires_when_clock_of_remote_node_is_ahead() {
    let clock = Clock::adjustable();
    let node = start_node(&clock);
    let chat = new_chat_id();
    let ahead = clock.now() + TimeDelta::hours(1);
    node.apply_update(&TypingUpdate { chat, user: "bob".parse().unwrap(), span: Some((ahead, ahead)) });
    assert_eq!(node.typing_users(chat).len(), 1);
    clock.advance(BEYOND_TTL);
    assert!(node.typing_users(chat).is_empty());
}

#[tokio::test]
async fn expiry_loop_removes_chats_each_time_that_typing_expires() {
    let clock = Clock::adjustable();
    let node = start_node(&clock);
    for _ in 0..2 {
        node.start_typing(new_chat_id(), &"bob".parse().unwrap());
        clock.advance(BEYOND_TTL);
        wait_until_expired(&node).await;
        assert!(node.0.lock().is_empty());
    }
    let registry = Arc::downgrade(&node.0);
    drop(node);
    assert!(registry.upgrade().is_none(), "the loop must not keep the tracker alive");
}

#[tokio::test]
async fn chat_is_removed_when_its_last_subscriber_releases_it() {
    let node = start_node(&Clock::adjustable());
    let chat = new_chat_id();
    let (first, second) = (node.watch_chat(chat), node.watch_chat(chat));
    node.release_chat(chat);
    drop(first);
    assert_eq!(node.0.lock().len(), 1);
    node.release_chat(chat);
    drop(second);
    assert!(node.0.lock().is_empty());
}

#[tokio::test]
async fn typing_ends_by_a_message_that_another_node_announces() {
    let clock = Clock::adjustable();
    let node = start_node(&clock);
    let (chat, bob): (ChatId, UserId) = (new_chat_id(), "bob".parse().unwrap());
    let sent_by = |sender: &str| {
        let at = "1970-01-01T00:00:00Z";
        let message = serde_json::json!({
            "id": { "chat": chat, "seq": 1 }, "version": 1, "kind": "Text", "sender": sender, "nonce": null,
            "text": "Hello", "content": {}, "reply_to_seq": null, "thread_root_seq": null, "in_timeline": true,
            "reply_count": 0, "mentions_everyone": false, "pinned": null, "created_at": at, "edited_at": null,
            "deleted_at": null, "fingerprint": null
        });
        let change = Change::Message(Arc::new(serde_json::from_value(message).unwrap()), MessageChange::Added);
        let kind = ChatEventKind::LogChanges(LogSlice::from_commit(vec![change]));
        ChatEvent::new("demo".parse().unwrap(), chat, clock.now(), kind)
    };
    let earlier = sent_by("bob");
    clock.advance(Duration::from_millis(1));
    node.start_typing(chat, &bob);
    node.end_by_event(&earlier);
    assert_eq!(node.typing_users(chat), [bob], "the message was sent before");
    clock.advance(Duration::from_millis(1));
    node.end_by_event(&sent_by("alice"));
    assert_eq!(node.typing_users(chat).len(), 1, "somebody else sent it");
    node.end_by_event(&sent_by("bob"));
    assert!(node.typing_users(chat).is_empty());
}
