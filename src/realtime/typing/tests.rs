use crate::realtime::dispatch::hub::Hub;
use crate::realtime::typing::*;

fn start_node(clock: &Clock) -> TypingTracker {
    TypingTracker::start(EventPublisher::new(Arc::new(Hub::default()), None), clock.clone())
}

fn update_about(typing: &TypingTracker, chat: ChatId, user: &UserId) -> TypingUpdate {
    let rooms = typing.0.lock();
    let typer = rooms.get(&chat).and_then(|room| room.users.iter().find(|typer| typer.user == *user));
    TypingUpdate { chat, user: user.clone(), span: typer.map(|typer| (typer.started_at, typer.expires_at)) }
}

#[tokio::test]
async fn all_nodes_know_in_one_order_who_types() {
    let clock = Clock::default();
    let (here, there) = (start_node(&clock), start_node(&clock));
    let chat = ChatId::new();
    let [alice, bob]: [UserId; 2] = ["alice", "bob"].map(|id| id.parse().unwrap());
    here.start_typing(chat, &bob);
    clock.advance(Duration::from_secs(1));
    there.start_typing(chat, &alice);
    let (of_bob, of_alice) = (update_about(&here, chat, &bob), update_about(&there, chat, &alice));
    here.apply_update(&of_alice);
    there.apply_update(&of_bob);
    there.apply_update(&of_bob);
    for node in [&here, &there] {
        assert_eq!(node.typing_users(chat), [bob.clone(), alice.clone()]);
    }
    here.apply_update(&TypingUpdate { span: None, ..of_alice });
    assert_eq!(here.typing_users(chat), [bob]);
    clock.advance(Duration::from_secs(6));
    for node in [&here, &there] {
        assert!(node.typing_users(chat).is_empty());
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_elsewhere_makes_nobody_type_for_ever() {
    let clock = Clock::default();
    let here = start_node(&clock);
    let chat = ChatId::new();
    let later = clock.now() + TimeDelta::hours(1);
    here.apply_update(&TypingUpdate { chat, user: "bob".parse().unwrap(), span: Some((later, later)) });
    assert_eq!(here.typing_users(chat).len(), 1);
    clock.advance(Duration::from_secs(6));
    assert!(here.typing_users(chat).is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_what_is_over() {
    let clock = Clock::default();
    let here = start_node(&clock);
    let chat = ChatId::new();
    here.start_typing(chat, &"bob".parse().unwrap());
    clock.advance(Duration::from_secs(7));
    while here.0.typing_count.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK_INTERVAL).await;
    }
    assert!(here.0.lock().is_empty());
    // And begins anew where somebody types again.
    here.start_typing(chat, &"bob".parse().unwrap());
    clock.advance(Duration::from_secs(7));
    while here.0.typing_count.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK_INTERVAL).await;
    }
    let rooms = Arc::downgrade(&here.0);
    drop(here);
    assert!(rooms.upgrade().is_none(), "the task keeps nothing alive");
}
