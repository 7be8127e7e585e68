use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use chrono::DateTime;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::Semaphore;

use crate::domain::chat_events::{Change, LogSlice, MessageChange, UnversionedMemberUpdate, UnversionedMemberUpdates};
use crate::domain::ids::MessageId;
use crate::domain::members::{Member, Role};
use crate::domain::messages::{Message, SystemMessage, SystemMessageKind};
use crate::realtime::dispatch::fast_path::{FeedPosition, FrameSink, MAX_WRITE_BYTES, RenderedBatch};
use crate::realtime::dispatch::hub::*;
use crate::realtime::dispatch::queue::{Delivery, EventRef, QUEUE_CAPACITY};
use crate::realtime::dispatch::render_cache::RenderedPayload;
use crate::realtime::dispatch::topic::RenderGroup;

fn event(chat: ChatId, what: ChatEventKind) -> ChatEvent {
    ChatEvent::new("demo".parse().unwrap(), chat, DateTime::UNIX_EPOCH, what)
}

fn deleted(chat: ChatId) -> ChatEvent {
    event(chat, ChatEventKind::Deleted)
}

/// The making of a message with this version.
fn message_added(chat: ChatId, seq: i64) -> ChatEvent {
    let notice =
        SystemMessage { kind: SystemMessageKind::ChatCreated, actor: None, subject: None, detail: None, call: None };
    let message = Message::system(MessageId { chat, seq }, notice, DateTime::UNIX_EPOCH);
    let change = Change::Message(Arc::new(message), MessageChange::Added);
    event(chat, ChatEventKind::LogChanges(LogSlice::from_commit(vec![change])))
}

fn drain_versions(listener: &Subscriber) -> Vec<i64> {
    let version = |delivery| match delivery {
        Delivery::Event(heard) => heard.event.version_range().map_or(0, |(first, _)| first),
        Delivery::Lagged => -1,
    };
    std::iter::from_fn(|| listener.queue.pop()).map(version).collect()
}

#[tokio::test]
async fn a_listener_hears_its_chats_until_it_leaves() {
    let hub = Arc::new(Hub::default());
    let (here, elsewhere) = (ChatId::new(), ChatId::new());
    let mut listener = hub.subscriber(&"alice".parse().unwrap());
    listener.subscribe_chat(here);
    hub.deliver(deleted(elsewhere));
    hub.deliver(deleted(here));
    assert!(matches!(listener.recv().await, Delivery::Event(heard) if heard.event.chat == here));
    listener.unsubscribe_chat(here);
    hub.deliver(deleted(here));
    assert!(listener.queue.pop().is_none());
    listener.subscribe_chat(elsewhere);
    drop(listener);
    assert!(hub.topic_versions().is_empty(), "nothing is left of a listener that has gone");
}

#[tokio::test]
async fn a_slow_listener_is_told_once_that_it_missed_something() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let mut listener = hub.subscriber(&"alice".parse().unwrap());
    listener.subscribe_chat(chat);
    for _ in 0..=QUEUE_CAPACITY {
        hub.deliver(deleted(chat));
    }
    assert!(matches!(listener.recv().await, Delivery::Lagged));
    assert!(listener.queue.pop().is_none());
    hub.deliver(deleted(chat));
    assert!(matches!(listener.recv().await, Delivery::Event(_)));
}

#[test]
fn what_comes_too_early_waits_for_what_is_missing() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let mut listener = hub.subscriber(&"alice".parse().unwrap());
    listener.subscribe_chat(chat);
    listener.mark_caught_up(chat, 4);
    for version in [5, 7, 8, 6, 9, 9, 3] {
        hub.deliver(message_added(chat, version));
    }
    assert_eq!(drain_versions(&listener), [5, 6, 7, 8, 9, 9, 3], "and what is old is for listeners to drop");
    assert!(hub.take_gaps().is_empty(), "a gap that closed by itself needs no mending");
    hub.deliver(message_added(chat, 12));
    assert!(drain_versions(&listener).is_empty());
    assert_eq!(hub.take_gaps(), [(chat, Some(9))]);
    hub.flush_reorder_buffer(chat);
    assert_eq!(drain_versions(&listener), [12]);
    assert_eq!(hub.topic_versions(), [(chat, Some(12))]);
}

#[test]
fn what_is_heard_by_one_alone_is_not_kept_for_others() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (mut one, mut other) = (hub.subscriber(&"alice".parse().unwrap()), hub.subscriber(&"alice".parse().unwrap()));
    one.subscribe_chat(chat);
    hub.deliver(message_added(chat, 1));
    other.subscribe_chat(chat);
    hub.deliver(message_added(chat, 2));
    let kept = |delivery| matches!(delivery, Some(Delivery::Event(heard)) if EventRef::new(&heard, 0).render_cache().is_some());
    assert!(!kept(one.queue.pop()));
    assert!(kept(one.queue.pop()) && kept(other.queue.pop()));
}

/// Those who are told the version of each change, as text.
#[derive(Debug)]
struct VersionRenderGroup {
    /// Made one at a time, each with a permit of this.
    gate: Arc<Semaphore>,
    /// Bytes of each text, or a few more.
    length: usize,
}

impl VersionRenderGroup {
    fn unblocked() -> Self {
        Self { gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), length: 0 }
    }
}

impl RenderGroup for VersionRenderGroup {
    fn id(&self) -> u64 {
        7
    }

    fn render(&self, heard: Arc<SharedEvent>, _: i64) -> BoxFuture<'static, Option<RenderedBatch>> {
        let (gate, length) = (self.gate.clone(), self.length);
        async move {
            gate.acquire().await.unwrap().forget();
            let ChatEventKind::LogChanges(stretch) = &heard.event.kind else { return None };
            let body = |change: &Change| format!("{:>length$}", change.version());
            let made = |change: &Change| Some(RenderedPayload { body: body(change).into(), should_resubscribe: false });
            RenderedBatch::new(&heard, stretch.changes.iter().map(made).collect())
        }
        .boxed()
    }
}

/// A socket that takes each so many times what is written, and keeps it.
#[derive(Debug)]
struct RecordingSink {
    refusal_interval: usize,
    write_attempts: AtomicUsize,
    written_versions: Arc<Mutex<Vec<i64>>>,
}

impl RecordingSink {
    /// One that refuses every `takes`-th time.
    fn new(takes: usize) -> Arc<Self> {
        Arc::new(Self {
            refusal_interval: takes,
            write_attempts: AtomicUsize::new(1),
            written_versions: Arc::default(),
        })
    }

    fn versions(&self) -> Vec<i64> {
        self.written_versions.lock().clone()
    }
}

impl FrameSink for RecordingSink {
    fn encode_frame(&self, body: &str, frames: &mut Vec<u8>) {
        frames.extend_from_slice(format!("{body} ").as_bytes());
    }

    fn try_write(&self, frames: &[u8]) -> bool {
        if self.write_attempts.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.refusal_interval) {
            return false;
        }
        let frames = std::str::from_utf8(frames).unwrap();
        self.written_versions.lock().extend(frames.split_whitespace().map(|version| version.parse::<i64>().unwrap()));
        true
    }
}

const NEVER_REFUSE: usize = usize::MAX;

fn position_at(position: i64) -> FeedPosition {
    FeedPosition { version: position, member_version: position, as_of: DateTime::UNIX_EPOCH }
}

/// Takes the lent place back: how far it led.
fn reclaimed_version(listener: &Subscriber) -> Option<i64> {
    listener.disable_fast_path().map(|place| place.version)
}

/// A listener among those who ask the same, who is level at this version.
fn group_subscriber(hub: &Arc<Hub>, chat: ChatId, version: i64) -> Subscriber {
    group_subscriber_of(hub, chat, version, VersionRenderGroup::unblocked())
}

fn group_subscriber_of(hub: &Arc<Hub>, chat: ChatId, version: i64, versions: VersionRenderGroup) -> Subscriber {
    let mut listener = hub.subscriber(&"alice".parse().unwrap());
    listener.subscribe_chat(chat);
    let versions: Arc<dyn RenderGroup> = Arc::new(versions);
    listener.join_render_group(&versions);
    listener.mark_caught_up(chat, version);
    listener
}

/// All that was delivered is told or waits in mailboxes.
async fn wait_until_idle(hub: &Hub) {
    let topics: Vec<_> = hub.chat_topics.lock().values().cloned().collect();
    for topic in topics {
        while topic.0.lock().is_busy() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn who_is_level_is_told_without_a_detour() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (one, other) = (group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4));
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    one.enable_fast_path(position_at(4), &outlet);
    for version in [5, 6] {
        hub.deliver(message_added(chat, version));
        wait_until_idle(&hub).await;
    }
    assert_eq!(socket.versions(), [5, 6]);
    assert_eq!(drain_versions(&one), [0; 0], "what was told does not wait");
    assert_eq!(drain_versions(&other), [5, 6], "who lent nothing finds it in the mailbox");
    assert_eq!(reclaimed_version(&one), Some(6));
    hub.deliver(message_added(chat, 7));
    wait_until_idle(&hub).await;
    assert_eq!((socket.versions(), drain_versions(&one)), (vec![5, 6], vec![7]), "and so does who took the place back");
}

#[tokio::test]
async fn what_does_not_follow_waits_and_so_does_all_after_it() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (behind, _other) = (group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4));
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    behind.enable_fast_path(position_at(3), &outlet);
    hub.deliver(message_added(chat, 5));
    wait_until_idle(&hub).await;
    assert_eq!((socket.versions(), drain_versions(&behind), reclaimed_version(&behind)), (vec![], vec![5], Some(3)));

    // A socket that takes nothing once is not asked again before its task has seen to it.
    let (slow, slow_socket) = (group_subscriber(&hub, chat, 5), RecordingSink::new(2));
    let outlet: Arc<dyn FrameSink> = slow_socket.clone();
    slow.enable_fast_path(position_at(5), &outlet);
    for version in 6..=9 {
        hub.deliver(message_added(chat, version));
        wait_until_idle(&hub).await;
    }
    assert_eq!(
        (slow_socket.versions(), drain_versions(&slow), reclaimed_version(&slow)),
        (vec![6], vec![7, 8, 9], Some(6))
    );

    // Nor is a place lent past what waits.
    hub.deliver(message_added(chat, 10));
    wait_until_idle(&hub).await;
    slow.enable_fast_path(position_at(9), &outlet);
    assert_eq!(reclaimed_version(&slow), None);
}

#[tokio::test]
async fn what_is_more_than_a_write_holds_waits_and_what_is_several_writes_is_told_in_several() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let large = VersionRenderGroup { length: MAX_WRITE_BYTES + 1, ..VersionRenderGroup::unblocked() };
    let (one, _other) = (group_subscriber_of(&hub, chat, 0, large), group_subscriber(&hub, chat, 0));
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    one.enable_fast_path(position_at(0), &outlet);
    hub.deliver(message_added(chat, 1));
    wait_until_idle(&hub).await;
    assert_eq!((socket.versions(), drain_versions(&one)), (vec![], vec![1]));

    let gate = Arc::new(Semaphore::new(1));
    let middling = VersionRenderGroup { length: MAX_WRITE_BYTES / 3, gate: gate.clone() };
    let chat = ChatId::new();
    let (one, _other) = (group_subscriber_of(&hub, chat, 0, middling), group_subscriber(&hub, chat, 0));
    one.enable_fast_path(position_at(0), &outlet);
    // The rest comes while the first is made, and is told together.
    (1..=9).for_each(|version| hub.deliver(message_added(chat, version)));
    gate.add_permits(9);
    wait_until_idle(&hub).await;
    assert_eq!((socket.versions(), drain_versions(&one)), ((1..=9).collect(), vec![]));
    assert!(socket.write_attempts.load(Ordering::Relaxed) > 4, "in writes of a bounded size");
}

/// One who was alone for a moment is no audience, though there is another when it is made.
#[tokio::test]
async fn what_one_alone_heard_takes_no_short_way() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let gate = Arc::new(Semaphore::new(0));
    let (stays, goes) = (
        group_subscriber_of(&hub, chat, 0, VersionRenderGroup { gate: gate.clone(), length: 0 }),
        group_subscriber(&hub, chat, 0),
    );
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    stays.enable_fast_path(position_at(0), &outlet);
    hub.deliver(message_added(chat, 1));
    tokio::task::yield_now().await;
    drop(goes);
    hub.deliver(message_added(chat, 2));
    let comes = group_subscriber(&hub, chat, 1);
    gate.add_permits(2);
    wait_until_idle(&hub).await;
    assert_eq!((socket.versions(), drain_versions(&stays)), (vec![1], vec![2]));
    assert_eq!(drain_versions(&comes), [1, 2]);
}

/// A member's row that only they are told of.
fn member_update(chat: ChatId, user: &str, as_of: i64) -> ChatEvent {
    let member = Member::new_member(chat, user.parse().unwrap(), Role::Member, 0, DateTime::UNIX_EPOCH);
    let member = UnversionedMemberUpdate { member: Arc::new(member), visible_to_others: false };
    event(chat, ChatEventKind::MembersUpdated(UnversionedMemberUpdates { members: vec![member], as_of_version: as_of }))
}

#[tokio::test]
async fn what_is_ones_own_keeps_its_place_and_bars_the_way_of_nobody_else() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let gate = Arc::new(Semaphore::new(0));
    let (alice, _other) = (
        group_subscriber_of(&hub, chat, 0, VersionRenderGroup { gate: gate.clone(), length: 0 }),
        group_subscriber(&hub, chat, 0),
    );
    let mut bob = hub.subscriber(&"bob".parse().unwrap());
    bob.subscribe_chat(chat);
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    alice.enable_fast_path(position_at(0), &outlet);
    hub.deliver(message_added(chat, 1));
    hub.deliver(member_update(chat, "bob", 1));
    hub.deliver(message_added(chat, 2));
    gate.add_permits(9);
    wait_until_idle(&hub).await;
    hub.deliver(member_update(chat, "alice", 2));
    hub.deliver(message_added(chat, 3));
    wait_until_idle(&hub).await;
    assert_eq!(
        (socket.versions(), drain_versions(&alice)),
        (vec![1, 2], vec![0, 3]),
        "nothing overtakes what is her own"
    );
    assert_eq!(drain_versions(&bob), [1, 0, 2, 3]);
}

#[tokio::test]
async fn who_left_is_told_nothing_more() {
    let hub = Arc::new(Hub::default());
    let chat = ChatId::new();
    let (gone, _one, _other) =
        (group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4));
    let socket = RecordingSink::new(NEVER_REFUSE);
    let outlet: Arc<dyn FrameSink> = socket.clone();
    gone.enable_fast_path(position_at(4), &outlet);
    hub.deliver(message_added(chat, 5));
    drop(gone);
    wait_until_idle(&hub).await;
    assert_eq!(socket.versions(), [0; 0]);
}

/// A feed by the rules of [`Listener::lend`]: it tells what it finds, and lends its place in between.
async fn run_feed(mut listener: Subscriber, socket: Arc<RecordingSink>, until: i64) {
    let outlet: Arc<dyn FrameSink> = socket.clone();
    let mut position = 0;
    while position < until {
        let delivery = poll_fn(|cx| {
            if let Some(place) = listener.disable_fast_path() {
                position = place.version;
            }
            if position == until {
                return Poll::Ready(None);
            }
            let delivery = listener.poll_recv(cx);
            if delivery.is_pending() {
                listener.enable_fast_path(position_at(position), &outlet);
                // It is not told when others have moved its place: it looks now and then.
                cx.waker().wake_by_ref();
            }
            delivery.map(Some)
        });
        match delivery.await {
            Some(Delivery::Event(heard)) => {
                let (first, last) = heard.event.version_range().unwrap();
                assert!(first <= position + 1, "a gap");
                if last > position {
                    socket.written_versions.lock().extend(position + 1..=last);
                    position = last;
                }
            }
            // The database has them.
            Some(Delivery::Lagged) => {
                let known = listener.hub.topic_versions()[0].1.unwrap();
                socket.written_versions.lock().extend(position + 1..=known);
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
    let listeners: Vec<_> = (0..150).map(|_| group_subscriber(&hub, chat, 0)).collect();
    let mut sockets = Vec::new();
    let mut following = tokio::task::JoinSet::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let socket = RecordingSink::new([NEVER_REFUSE, 2, 3, 10][number % 4]);
        following.spawn(run_feed(listener, socket.clone(), LAST));
        sockets.push(socket);
    }
    for version in (1..=LAST).step_by(2) {
        let passing = group_subscriber(&hub, chat, version - 1);
        for version in [version + 1, version] {
            hub.deliver(message_added(chat, version));
        }
        tokio::task::yield_now().await;
        drop(passing);
    }
    let all = tokio::time::timeout(std::time::Duration::from_secs(60), following.join_all());
    all.await.expect("everybody is told everything");
    for socket in sockets {
        assert_eq!(socket.versions(), (1..=LAST).collect::<Vec<_>>());
    }
}
