use crate::realtime::dispatch::hub::Hub;
use crate::realtime::typing::*;

fn node(clock: &Clock) -> Typing {
    Typing::start(Bus::new(Arc::new(Hub::default()), None), clock.clone())
}

fn word(typing: &Typing, chat: ChatId, user: &UserId) -> TypingWord {
    let rooms = typing.0.lock();
    let typer = rooms.get(&chat).and_then(|room| room.typers.iter().find(|typer| typer.user == *user));
    TypingWord { chat, user: user.clone(), span: typer.map(|typer| (typer.since, typer.until)) }
}

#[tokio::test]
async fn all_nodes_know_in_one_order_who_types() {
    let clock = Clock::default();
    let (here, there) = (node(&clock), node(&clock));
    let chat = ChatId::new();
    let [alice, bob]: [UserId; 2] = ["alice", "bob"].map(|id| id.parse().unwrap());
    here.begin(chat, &bob);
    clock.advance(Duration::from_secs(1));
    there.begin(chat, &alice);
    let (of_bob, of_alice) = (word(&here, chat, &bob), word(&there, chat, &alice));
    here.hear(&of_alice);
    there.hear(&of_bob);
    there.hear(&of_bob);
    for node in [&here, &there] {
        assert_eq!(node.now(chat), [bob.clone(), alice.clone()]);
    }
    here.hear(&TypingWord { span: None, ..of_alice });
    assert_eq!(here.now(chat), [bob]);
    clock.advance(Duration::from_secs(6));
    for node in [&here, &there] {
        assert!(node.now(chat).is_empty());
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_elsewhere_makes_nobody_type_for_ever() {
    let clock = Clock::default();
    let here = node(&clock);
    let chat = ChatId::new();
    let later = clock.now() + TimeDelta::hours(1);
    here.hear(&TypingWord { chat, user: "bob".parse().unwrap(), span: Some((later, later)) });
    assert_eq!(here.now(chat).len(), 1);
    clock.advance(Duration::from_secs(6));
    assert!(here.now(chat).is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_what_is_over() {
    let clock = Clock::default();
    let here = node(&clock);
    let chat = ChatId::new();
    here.begin(chat, &"bob".parse().unwrap());
    clock.advance(Duration::from_secs(7));
    while here.0.number.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK).await;
    }
    assert!(here.0.lock().is_empty());
    // And begins anew where somebody types again.
    here.begin(chat, &"bob".parse().unwrap());
    clock.advance(Duration::from_secs(7));
    while here.0.number.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK).await;
    }
    let rooms = Arc::downgrade(&here.0);
    drop(here);
    assert!(rooms.upgrade().is_none(), "the task keeps nothing alive");
}
