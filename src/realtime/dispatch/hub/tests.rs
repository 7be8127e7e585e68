use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use chrono::DateTime;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Semaphore;

use crate::domain::chat_events::{Change, MessageChange, Moved, MovedMember, Stretch};
use crate::domain::ids::MessageId;
use crate::domain::members::{Member, Role};
use crate::domain::messages::{Message, Notice, NoticeKind};
use crate::realtime::dispatch::fast_path::{BATCH, Outlet, Place, Sheet};
use crate::realtime::dispatch::hub::*;
use crate::realtime::dispatch::queue::{Delivery, MAILBOX, Origin};
use crate::realtime::dispatch::render_cache::Made;
use crate::realtime::dispatch::topic::Audience;

fn event(chat: ChatId, what: Happening) -> ChatEvent {
    ChatEvent::new("demo".parse().unwrap(), chat, DateTime::UNIX_EPOCH, what)
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

/// Those who are told the version of each change, as text.
#[derive(Debug)]
struct Versions {
    /// Made one at a time, each with a permit of this.
    gate: Arc<Semaphore>,
    /// Bytes of each text, or a few more.
    length: usize,
}

impl Versions {
    fn at_once() -> Self {
        Self { gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), length: 0 }
    }
}

impl Audience for Versions {
    fn id(&self) -> u64 {
        7
    }

    fn make(&self, heard: Arc<Heard>, _: i64) -> BoxFuture<'static, Option<Sheet>> {
        let (gate, length) = (self.gate.clone(), self.length);
        async move {
            gate.acquire().await.unwrap().forget();
            let Happening::Changed(stretch) = &heard.event.what else { return None };
            let body = |change: &Change| format!("{:>length$}", change.version());
            let made = |change: &Change| Some(Made { body: body(change).into(), failed: false });
            Sheet::new(&heard, stretch.changes.iter().map(made).collect())
        }
        .boxed()
    }
}

/// A socket that takes each so many times what is written, and keeps it.
#[derive(Debug)]
struct Socket {
    takes: usize,
    asked: AtomicUsize,
    told: Arc<Mutex<Vec<i64>>>,
}

impl Socket {
    /// One that refuses every `takes`-th time.
    fn new(takes: usize) -> Arc<Self> {
        Arc::new(Self { takes, asked: AtomicUsize::new(1), told: Arc::default() })
    }

    fn told(&self) -> Vec<i64> {
        lock(&self.told).clone()
    }
}

impl Outlet for Socket {
    fn frame(&self, body: &str, frames: &mut Vec<u8>) {
        frames.extend_from_slice(format!("{body} ").as_bytes());
    }

    fn write(&self, frames: &[u8]) -> bool {
        if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.takes) {
            return false;
        }
        let frames = std::str::from_utf8(frames).unwrap();
        lock(&self.told).extend(frames.split_whitespace().map(|version| version.parse::<i64>().unwrap()));
        true
    }
}

const ALWAYS: usize = usize::MAX;

fn place(position: i64) -> Place {
    Place { position, members_at: position, heard_at: DateTime::UNIX_EPOCH }
}

/// Takes the lent place back: how far it led.
fn position(listener: &Listener) -> Option<i64> {
    listener.reclaim().map(|place| place.position)
}

/// A listener among those who ask the same, who is level at this version.
fn sharer(hub: &Arc<Hub>, chat: ChatId, version: i64) -> Listener {
    sharer_of(hub, chat, version, Versions::at_once())
}

fn sharer_of(hub: &Arc<Hub>, chat: ChatId, version: i64, versions: Versions) -> Listener {
    let mut listener = hub.listen(&"alice".parse().unwrap());
    listener.attach(chat);
    let versions: Arc<dyn Audience> = Arc::new(versions);
    listener.share(&versions);
    listener.is_level(chat, version);
    listener
}

/// All that was delivered is told or waits in mailboxes.
async fn settled(hub: &Hub) {
    let topics: Vec<_> = lock(&hub.chats).values().cloned().collect();
    for topic in topics {
        while lock(&topic.0).is_busy() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn who_is_level_is_told_without_a_detour() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (one, other) = (sharer(&hub, chat, 4), sharer(&hub, chat, 4));
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    one.lend(place(4), &outlet);
    for version in [5, 6] {
        hub.deliver(made(chat, version));
        settled(&hub).await;
    }
    assert_eq!(socket.told(), [5, 6]);
    assert_eq!(heard(&one), [0; 0], "what was told does not wait");
    assert_eq!(heard(&other), [5, 6], "who lent nothing finds it in the mailbox");
    assert_eq!(position(&one), Some(6));
    hub.deliver(made(chat, 7));
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&one)), (vec![5, 6], vec![7]), "and so does who took the place back");
}

#[tokio::test]
async fn what_does_not_follow_waits_and_so_does_all_after_it() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (behind, _other) = (sharer(&hub, chat, 4), sharer(&hub, chat, 4));
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    behind.lend(place(3), &outlet);
    hub.deliver(made(chat, 5));
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&behind), position(&behind)), (vec![], vec![5], Some(3)));

    // A socket that takes nothing once is not asked again before its task has seen to it.
    let (slow, slow_socket) = (sharer(&hub, chat, 5), Socket::new(2));
    let outlet: Arc<dyn Outlet> = slow_socket.clone();
    slow.lend(place(5), &outlet);
    for version in 6..=9 {
        hub.deliver(made(chat, version));
        settled(&hub).await;
    }
    assert_eq!((slow_socket.told(), heard(&slow), position(&slow)), (vec![6], vec![7, 8, 9], Some(6)));

    // Nor is a place lent past what waits.
    hub.deliver(made(chat, 10));
    settled(&hub).await;
    slow.lend(place(9), &outlet);
    assert_eq!(position(&slow), None);
}

#[tokio::test]
async fn what_is_more_than_a_write_holds_waits_and_what_is_several_writes_is_told_in_several() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let large = Versions { length: BATCH + 1, ..Versions::at_once() };
    let (one, _other) = (sharer_of(&hub, chat, 0, large), sharer(&hub, chat, 0));
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    one.lend(place(0), &outlet);
    hub.deliver(made(chat, 1));
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&one)), (vec![], vec![1]));

    let gate = Arc::new(Semaphore::new(1));
    let middling = Versions { length: BATCH / 3, gate: gate.clone() };
    let chat = ChatId::new();
    let (one, _other) = (sharer_of(&hub, chat, 0, middling), sharer(&hub, chat, 0));
    one.lend(place(0), &outlet);
    // The rest comes while the first is made, and is told together.
    (1..=9).for_each(|version| hub.deliver(made(chat, version)));
    gate.add_permits(9);
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&one)), ((1..=9).collect(), vec![]));
    assert!(socket.asked.load(Ordering::Relaxed) > 4, "in writes of a bounded size");
}

/// One who was alone for a moment is no audience, though there is another when it is made.
#[tokio::test]
async fn what_one_alone_heard_takes_no_short_way() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let gate = Arc::new(Semaphore::new(0));
    let (stays, goes) = (sharer_of(&hub, chat, 0, Versions { gate: gate.clone(), length: 0 }), sharer(&hub, chat, 0));
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    stays.lend(place(0), &outlet);
    hub.deliver(made(chat, 1));
    tokio::task::yield_now().await;
    drop(goes);
    hub.deliver(made(chat, 2));
    let comes = sharer(&hub, chat, 1);
    gate.add_permits(2);
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&stays)), (vec![1], vec![2]));
    assert_eq!(heard(&comes), [1, 2]);
}

/// A member's row that only they are told of.
fn moved(chat: ChatId, user: &str, as_of: i64) -> ChatEvent {
    let member = Member::joining(chat, user.parse().unwrap(), Role::Member, 0, DateTime::UNIX_EPOCH);
    let member = MovedMember { member: Arc::new(member), shown: false };
    event(chat, Happening::Moved(Moved { members: vec![member], as_of }))
}

#[tokio::test]
async fn what_is_ones_own_keeps_its_place_and_bars_the_way_of_nobody_else() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let gate = Arc::new(Semaphore::new(0));
    let (alice, _other) = (sharer_of(&hub, chat, 0, Versions { gate: gate.clone(), length: 0 }), sharer(&hub, chat, 0));
    let mut bob = hub.listen(&"bob".parse().unwrap());
    bob.attach(chat);
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    alice.lend(place(0), &outlet);
    hub.deliver(made(chat, 1));
    hub.deliver(moved(chat, "bob", 1));
    hub.deliver(made(chat, 2));
    gate.add_permits(9);
    settled(&hub).await;
    hub.deliver(moved(chat, "alice", 2));
    hub.deliver(made(chat, 3));
    settled(&hub).await;
    assert_eq!((socket.told(), heard(&alice)), (vec![1, 2], vec![0, 3]), "nothing overtakes what is her own");
    assert_eq!(heard(&bob), [1, 0, 2, 3]);
}

#[tokio::test]
async fn who_left_is_told_nothing_more() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (gone, _one, _other) = (sharer(&hub, chat, 4), sharer(&hub, chat, 4), sharer(&hub, chat, 4));
    let socket = Socket::new(ALWAYS);
    let outlet: Arc<dyn Outlet> = socket.clone();
    gone.lend(place(4), &outlet);
    hub.deliver(made(chat, 5));
    drop(gone);
    settled(&hub).await;
    assert_eq!(socket.told(), [0; 0]);
}

/// A feed by the rules of [`Listener::lend`]: it tells what it finds, and lends its place in between.
async fn follow(mut listener: Listener, socket: Arc<Socket>, until: i64) {
    let outlet: Arc<dyn Outlet> = socket.clone();
    let mut position = 0;
    while position < until {
        let delivery = poll_fn(|cx| {
            if let Some(place) = listener.reclaim() {
                position = place.position;
            }
            if position == until {
                return Poll::Ready(None);
            }
            let delivery = listener.poll_next(cx);
            if delivery.is_pending() {
                listener.lend(place(position), &outlet);
                // It is not told when others have moved its place: it looks now and then.
                cx.waker().wake_by_ref();
            }
            delivery.map(Some)
        });
        match delivery.await {
            Some(Delivery::Event(heard)) => {
                let (first, last) = heard.event.versions().unwrap();
                assert!(first <= position + 1, "a gap");
                if last > position {
                    lock(&socket.told).extend(position + 1..=last);
                    position = last;
                }
            }
            // The database has them.
            Some(Delivery::Overflow) => {
                let known = listener.hub.topics()[0].1.unwrap();
                lock(&socket.told).extend(position + 1..=known);
                position = position.max(known);
            }
            None => break,
        }
        tokio::task::yield_now().await;
    }
}

/// Listeners come and go, sockets refuse now and then, events overtake each other: by whatever way, each is told
/// each version once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_ways_together_lose_double_and_disorder_nothing() {
    const LAST: i64 = 500;
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let listeners: Vec<_> = (0..150).map(|_| sharer(&hub, chat, 0)).collect();
    let mut sockets = Vec::new();
    let mut following = tokio::task::JoinSet::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let socket = Socket::new([ALWAYS, 2, 3, 10][number % 4]);
        following.spawn(follow(listener, socket.clone(), LAST));
        sockets.push(socket);
    }
    for version in (1..=LAST).step_by(2) {
        let passing = sharer(&hub, chat, version - 1);
        for version in [version + 1, version] {
            hub.deliver(made(chat, version));
        }
        tokio::task::yield_now().await;
        drop(passing);
    }
    let all = tokio::time::timeout(std::time::Duration::from_secs(60), following.join_all());
    all.await.expect("everybody is told everything");
    for socket in sockets {
        assert_eq!(socket.told(), (1..=LAST).collect::<Vec<_>>());
    }
}
