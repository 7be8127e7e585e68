use chrono::DateTime;

use super::mailbox::MAILBOX;
use super::*;
use crate::domain::changes::{Change, MessageChange, Stretch};
use crate::domain::ids::MessageId;
use crate::domain::messages::{Message, Notice, NoticeKind};

fn event(chat: ChatId, what: Happening) -> ChatEvent {
    ChatEvent { organization: "demo".parse().unwrap(), chat, at: DateTime::UNIX_EPOCH, what }
}

fn deleted(chat: ChatId) -> ChatEvent {
    event(chat, Happening::Deleted)
}

/// The making of a message with this version.
fn made(chat: ChatId, seq: i64) -> ChatEvent {
    let notice = Notice { kind: NoticeKind::ChatCreated, actor: None, subject: None, detail: None, call: None };
    let message = Message::notice(MessageId { chat, seq }, notice, DateTime::UNIX_EPOCH);
    let change = Change::Message(Arc::new(message), MessageChange::Added);
    event(chat, Happening::Changed(Stretch::of_commit(vec![change])))
}

fn heard(listener: &Listener) -> Vec<i64> {
    let version = |delivery| match delivery {
        Delivery::Event(heard) => heard.event.versions().map_or(0, |(first, _)| first),
        Delivery::Overflow => -1,
    };
    std::iter::from_fn(|| listener.mailbox.take()).map(version).collect()
}

#[tokio::test]
async fn a_listener_hears_its_chats_until_it_leaves() {
    let hub = Arc::new(Hub::default());
    let (here, elsewhere) = (ChatId::new(), ChatId::new());
    let mut listener = hub.listen(&"alice".parse().unwrap());
    listener.attach(here);
    hub.deliver(deleted(elsewhere));
    hub.deliver(deleted(here));
    assert!(matches!(listener.next().await, Delivery::Event(heard) if heard.event.chat == here));
    listener.detach(here);
    hub.deliver(deleted(here));
    assert!(listener.mailbox.take().is_none());
    listener.attach(elsewhere);
    drop(listener);
    assert!(hub.topics().is_empty(), "nothing is left of a listener that has gone");
}

#[tokio::test]
async fn a_slow_listener_is_told_once_that_it_missed_something() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let mut listener = hub.listen(&"alice".parse().unwrap());
    listener.attach(chat);
    for _ in 0..=MAILBOX {
        hub.deliver(deleted(chat));
    }
    assert!(matches!(listener.next().await, Delivery::Overflow));
    assert!(listener.mailbox.take().is_none());
    hub.deliver(deleted(chat));
    assert!(matches!(listener.next().await, Delivery::Event(_)));
}

#[test]
fn what_comes_too_early_waits_for_what_is_missing() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let mut listener = hub.listen(&"alice".parse().unwrap());
    listener.attach(chat);
    listener.is_level(chat, 4);
    for version in [5, 7, 8, 6, 9, 9, 3] {
        hub.deliver(made(chat, version));
    }
    assert_eq!(heard(&listener), [5, 6, 7, 8, 9, 9, 3], "and what is old is for listeners to drop");
    assert!(hub.gaps().is_empty(), "a gap that closed by itself needs no mending");
    hub.deliver(made(chat, 12));
    assert!(heard(&listener).is_empty());
    assert_eq!(hub.gaps(), [(chat, Some(9))]);
    hub.release(chat);
    assert_eq!(heard(&listener), [12]);
    assert_eq!(hub.topics(), [(chat, Some(12))]);
}

#[test]
fn what_is_heard_by_one_alone_is_not_kept_for_others() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (mut one, mut other) = (hub.listen(&"alice".parse().unwrap()), hub.listen(&"alice".parse().unwrap()));
    one.attach(chat);
    hub.deliver(made(chat, 1));
    other.attach(chat);
    hub.deliver(made(chat, 2));
    let kept = |delivery| matches!(delivery, Some(Delivery::Event(heard)) if Origin::new(&heard, 0).memo().is_some());
    assert!(!kept(one.mailbox.take()));
    assert!(kept(one.mailbox.take()) && kept(other.mailbox.take()));
}
