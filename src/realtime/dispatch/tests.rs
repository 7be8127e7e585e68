//! The hub, its topics, queues and the fast path together.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use chrono::DateTime;
use futures_util::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use crate::domain::buckets::Bucket;
use crate::domain::chat_events::{
    Change, ChatEvent, ChatEventKind, LogSlice, MessageChange, UnversionedMemberUpdate, UnversionedMemberUpdates,
};
use crate::domain::ids::{ChatId, MessageId};
use crate::domain::members::{Member, Role};
use crate::domain::messages::{Message, SystemMessage, SystemMessageKind};
use crate::realtime::dispatch::hub::Hub;
use crate::realtime::dispatch::ports::{FeedPosition, FrameSink, MAX_WRITE_BYTES, RenderGroup};
use crate::realtime::dispatch::queue::{Delivery, QUEUE_CAPACITY};
use crate::realtime::dispatch::render_cache::RenderedPayload;
use crate::realtime::dispatch::shared_event::{EventRef, RenderedBatch, SharedEvent};
use crate::realtime::dispatch::subscriber::Subscriber;

fn new_chat_id() -> ChatId {
    ChatId::new(Bucket::new(7).unwrap())
}

fn event(chat: ChatId, kind: ChatEventKind) -> ChatEvent {
    ChatEvent::new("demo".parse().unwrap(), chat, DateTime::UNIX_EPOCH, kind)
}

fn deleted(chat: ChatId) -> ChatEvent {
    event(chat, ChatEventKind::Deleted { version: 1 })
}

/// A new message, which takes version `seq`.
fn message_added(chat: ChatId, seq: i64) -> ChatEvent {
    let system_message = SystemMessage::new(SystemMessageKind::ChatCreated);
    let message = Message::system(MessageId { chat, seq }, system_message, DateTime::UNIX_EPOCH);
    let change = Change::Message(Arc::new(message), MessageChange::Added);
    event(chat, ChatEventKind::LogChanges(LogSlice::from_commit(vec![change])))
}

/// A change of a member's own settings, which no other member sees.
fn member_update(chat: ChatId, user: &str, as_of_version: i64) -> ChatEvent {
    let member = Member::new_member(chat, user.parse().unwrap(), Role::Member, 0, DateTime::UNIX_EPOCH);
    let update =
        UnversionedMemberUpdate { member: Arc::new(member), visible_to_others: false, read_threads: Vec::new() };
    event(chat, ChatEventKind::MembersUpdated(UnversionedMemberUpdates { members: vec![update], as_of_version }))
}

fn subscriber_of(hub: &Arc<Hub>, user: &str, chat: ChatId) -> Subscriber {
    let mut subscriber = Subscriber::new(hub.clone(), &user.parse().unwrap());
    subscriber.subscribe_chat(chat);
    subscriber
}

/// Takes all queued deliveries and returns the first version of each event.
///
/// An event without versions counts as 0, and `Lagged` as -1.
fn drain_versions(subscriber: &mut Subscriber) -> Vec<i64> {
    let version = |delivery| match delivery {
        Delivery::Event(shared) => shared.event.version_range().map_or(0, |(first, _)| first),
        Delivery::Lagged => -1,
    };
    std::iter::from_fn(|| subscriber.try_recv()).map(version).collect()
}

/// A render group whose renderings are the versions of the changes, as text.
#[derive(Debug)]
struct VersionRenderGroup {
    /// Each rendering takes one permit.
    gate: Arc<Semaphore>,
    /// The least number of bytes of each text.
    min_bytes: usize,
}

impl VersionRenderGroup {
    fn unblocked() -> Self {
        Self { gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), min_bytes: 0 }
    }

    fn with_gate(gate: &Arc<Semaphore>) -> Self {
        Self { gate: gate.clone(), min_bytes: 0 }
    }
}

impl RenderGroup for VersionRenderGroup {
    fn id(&self) -> u64 {
        7
    }

    fn render(&self, shared: Arc<SharedEvent>, _: i64) -> BoxFuture<'static, Option<RenderedBatch>> {
        let (gate, width) = (self.gate.clone(), self.min_bytes);
        async move {
            gate.acquire().await.unwrap().forget();
            let ChatEventKind::LogChanges(slice) = &shared.event.kind else { return None };
            let payload = |change: &Change| {
                let body = format!("{:>width$}", change.version());
                Some(RenderedPayload { body: body.into(), should_resubscribe: false })
            };
            RenderedBatch::new(&shared, slice.changes.iter().map(payload).collect())
        }
        .boxed()
    }
}

/// A socket that keeps what is written and refuses every n-th write.
#[derive(Debug)]
struct RecordingSink {
    refusal_interval: usize,
    write_attempts: AtomicUsize,
    written_versions: Arc<Mutex<Vec<i64>>>,
}

const NEVER_REFUSE: usize = usize::MAX;

impl RecordingSink {
    fn new(refusal_interval: usize) -> Arc<Self> {
        Arc::new(Self { refusal_interval, write_attempts: AtomicUsize::new(1), written_versions: Arc::default() })
    }

    fn versions(&self) -> Vec<i64> {
        self.written_versions.lock().clone()
    }

    fn record(&self, versions: impl IntoIterator<Item = i64>) {
        self.written_versions.lock().extend(versions);
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
        self.record(frames.split_whitespace().map(|version| version.parse::<i64>().unwrap()));
        true
    }
}

fn enable_fast_path(subscriber: &Subscriber, version: i64, sink: &Arc<RecordingSink>) {
    let position = FeedPosition { version, member_version: version, as_of: DateTime::UNIX_EPOCH };
    let sink: Arc<dyn FrameSink> = sink.clone();
    subscriber.enable_fast_path(position, &sink);
}

/// Ends the fast path and returns the version that it reached.
fn disable_fast_path(subscriber: &Subscriber) -> Option<i64> {
    subscriber.disable_fast_path().map(|position| position.version)
}

/// A subscriber of a render group that is caught up at `version`.
fn group_subscriber(hub: &Arc<Hub>, chat: ChatId, version: i64) -> Subscriber {
    group_subscriber_of(hub, chat, version, VersionRenderGroup::unblocked())
}

fn group_subscriber_of(hub: &Arc<Hub>, chat: ChatId, version: i64, group: VersionRenderGroup) -> Subscriber {
    let mut subscriber = subscriber_of(hub, "alice", chat);
    let group: Arc<dyn RenderGroup> = Arc::new(group);
    subscriber.join_render_group(&group);
    subscriber.mark_caught_up(chat, version);
    subscriber
}

/// Waits until every event is written or queued.
async fn wait_until_idle(hub: &Hub) {
    while hub.is_busy() {
        yield_now().await;
    }
}

#[tokio::test]
async fn subscriber_receives_events_of_its_chats_until_it_unsubscribes() {
    let hub = Arc::new(Hub::default());
    let (chat, other_chat) = (new_chat_id(), new_chat_id());
    let mut subscriber = subscriber_of(&hub, "alice", chat);
    hub.deliver(deleted(other_chat));
    hub.deliver(deleted(chat));
    assert!(matches!(subscriber.recv().await, Delivery::Event(shared) if shared.event.chat == chat));
    subscriber.unsubscribe_chat(chat);
    hub.deliver(deleted(chat));
    assert!(subscriber.try_recv().is_none());
    subscriber.subscribe_chat(other_chat);
    drop(subscriber);
    assert!(hub.topic_versions().is_empty(), "a dropped subscriber leaves no topic behind");
}

#[tokio::test]
async fn overflowed_queue_delivers_one_lagged_event() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let mut subscriber = subscriber_of(&hub, "alice", chat);
    for _ in 0..=QUEUE_CAPACITY {
        hub.deliver(deleted(chat));
    }
    assert!(matches!(subscriber.recv().await, Delivery::Lagged));
    assert!(subscriber.try_recv().is_none());
    hub.deliver(deleted(chat));
    assert!(matches!(subscriber.recv().await, Delivery::Event(_)));
}

#[test]
fn topic_holds_back_early_events_until_the_gap_is_filled() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let mut subscriber = subscriber_of(&hub, "alice", chat);
    subscriber.mark_caught_up(chat, 4);
    for version in [5, 7, 8, 6, 9, 9, 3] {
        hub.deliver(message_added(chat, version));
    }
    assert_eq!(drain_versions(&mut subscriber), [5, 6, 7, 8, 9, 9, 3], "subscribers drop old events themselves");
    assert!(hub.take_gaps().is_empty(), "a gap that closed by itself needs no repair");
    hub.deliver(message_added(chat, 12));
    assert!(drain_versions(&mut subscriber).is_empty());
    assert_eq!(hub.take_gaps(), [(chat, Some(9))]);
    hub.flush_reorder_buffer(chat);
    assert_eq!(drain_versions(&mut subscriber), [12]);
    assert_eq!(hub.topic_versions(), [(chat, Some(12))]);
}

#[test]
fn event_has_render_caches_only_with_several_subscribers() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let mut first = subscriber_of(&hub, "alice", chat);
    hub.deliver(message_added(chat, 1));
    let mut second = subscriber_of(&hub, "alice", chat);
    hub.deliver(message_added(chat, 2));
    let has_cache = |delivery| match delivery {
        Some(Delivery::Event(shared)) => EventRef::new(&shared, 0).render_cache().is_some(),
        _ => false,
    };
    assert!(!has_cache(first.try_recv()));
    assert!(has_cache(first.try_recv()) && has_cache(second.try_recv()));
}

#[tokio::test]
async fn fast_path_writes_to_the_socket_and_bypasses_the_queue() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let (mut fast, mut queued) = (group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4));
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&fast, 4, &sink);
    for version in [5, 6] {
        hub.deliver(message_added(chat, version));
        wait_until_idle(&hub).await;
    }
    assert_eq!(sink.versions(), [5, 6]);
    assert_eq!(drain_versions(&mut fast), [0; 0], "a written event is not queued");
    assert_eq!(drain_versions(&mut queued), [5, 6], "without the fast path events are queued");
    assert_eq!(disable_fast_path(&fast), Some(6));
    hub.deliver(message_added(chat, 7));
    wait_until_idle(&hub).await;
    assert_eq!((sink.versions(), drain_versions(&mut fast)), (vec![5, 6], vec![7]), "after disabling, too");
}

#[tokio::test]
async fn fast_path_stops_at_a_gap_and_after_a_refused_write() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let (mut behind, _other) = (group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4));
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&behind, 3, &sink);
    hub.deliver(message_added(chat, 5));
    wait_until_idle(&hub).await;
    assert_eq!(
        (sink.versions(), drain_versions(&mut behind), disable_fast_path(&behind)),
        (vec![], vec![5], Some(3)),
        "version 4 is missing"
    );

    let (mut slow, slow_sink) = (group_subscriber(&hub, chat, 5), RecordingSink::new(2));
    enable_fast_path(&slow, 5, &slow_sink);
    for version in 6..=9 {
        hub.deliver(message_added(chat, version));
        wait_until_idle(&hub).await;
    }
    assert_eq!(
        (slow_sink.versions(), drain_versions(&mut slow), disable_fast_path(&slow)),
        (vec![6], vec![7, 8, 9], Some(6)),
        "after a refusal nothing is written before the subscriber's task has run"
    );

    hub.deliver(message_added(chat, 10));
    wait_until_idle(&hub).await;
    enable_fast_path(&slow, 9, &slow_sink);
    assert_eq!(disable_fast_path(&slow), None, "the fast path does not open past a queued event");
}

#[tokio::test]
async fn fast_path_bounds_the_bytes_of_each_write() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let too_large = VersionRenderGroup { min_bytes: MAX_WRITE_BYTES + 1, ..VersionRenderGroup::unblocked() };
    let (mut fast, _other) = (group_subscriber_of(&hub, chat, 0, too_large), group_subscriber(&hub, chat, 0));
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&fast, 0, &sink);
    hub.deliver(message_added(chat, 1));
    wait_until_idle(&hub).await;
    assert_eq!((sink.versions(), drain_versions(&mut fast)), (vec![], vec![1]), "larger than one write");

    let gate = Arc::new(Semaphore::new(1));
    let third_of_a_write = VersionRenderGroup { min_bytes: MAX_WRITE_BYTES / 3, gate: gate.clone() };
    let chat = new_chat_id();
    let (mut fast, _other) = (group_subscriber_of(&hub, chat, 0, third_of_a_write), group_subscriber(&hub, chat, 0));
    enable_fast_path(&fast, 0, &sink);
    // Events 2 to 9 arrive while event 1 is rendered, and are delivered together.
    (1..=9).for_each(|version| hub.deliver(message_added(chat, version)));
    gate.add_permits(9);
    wait_until_idle(&hub).await;
    assert_eq!((sink.versions(), drain_versions(&mut fast)), ((1..=9).collect(), vec![]));
    assert!(sink.write_attempts.load(Ordering::Relaxed) > 4, "in several writes");
}

#[tokio::test]
async fn fast_path_is_not_used_for_an_event_with_a_single_subscriber() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let gate = Arc::new(Semaphore::new(0));
    let mut staying = group_subscriber_of(&hub, chat, 0, VersionRenderGroup::with_gate(&gate));
    let leaving = group_subscriber(&hub, chat, 0);
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&staying, 0, &sink);
    hub.deliver(message_added(chat, 1));
    yield_now().await;
    drop(leaving);
    hub.deliver(message_added(chat, 2));
    // The group has two subscribers again when event 2 is rendered.
    let mut joining = group_subscriber(&hub, chat, 1);
    gate.add_permits(2);
    wait_until_idle(&hub).await;
    assert_eq!((sink.versions(), drain_versions(&mut staying)), (vec![1], vec![2]));
    assert_eq!(drain_versions(&mut joining), [1, 2]);
}

#[tokio::test]
async fn private_event_keeps_its_order_and_does_not_block_the_fast_path_of_others() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let gate = Arc::new(Semaphore::new(0));
    let mut alice = group_subscriber_of(&hub, chat, 0, VersionRenderGroup::with_gate(&gate));
    let _other = group_subscriber(&hub, chat, 0);
    let mut bob = subscriber_of(&hub, "bob", chat);
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&alice, 0, &sink);
    hub.deliver(message_added(chat, 1));
    hub.deliver(member_update(chat, "bob", 1));
    hub.deliver(message_added(chat, 2));
    gate.add_permits(9);
    wait_until_idle(&hub).await;
    hub.deliver(member_update(chat, "alice", 2));
    hub.deliver(message_added(chat, 3));
    wait_until_idle(&hub).await;
    assert_eq!(
        (sink.versions(), drain_versions(&mut alice)),
        (vec![1, 2], vec![0, 3]),
        "message 3 does not overtake Alice's own update"
    );
    assert_eq!(drain_versions(&mut bob), [1, 0, 2, 3]);
}

#[tokio::test]
async fn fast_path_writes_nothing_after_the_subscriber_is_dropped() {
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let dropped = group_subscriber(&hub, chat, 4);
    let _others = [group_subscriber(&hub, chat, 4), group_subscriber(&hub, chat, 4)];
    let sink = RecordingSink::new(NEVER_REFUSE);
    enable_fast_path(&dropped, 4, &sink);
    hub.deliver(message_added(chat, 5));
    drop(dropped);
    wait_until_idle(&hub).await;
    assert_eq!(sink.versions(), [0; 0]);
}

/// Runs a feed that enables the fast path whenever it is pending.
///
/// The feed obeys the conditions of [`Subscriber::enable_fast_path`].
async fn run_feed(hub: Arc<Hub>, mut subscriber: Subscriber, sink: Arc<RecordingSink>, last_version: i64) {
    let mut version = 0;
    while version < last_version {
        let delivery = poll_fn(|cx| {
            version = disable_fast_path(&subscriber).unwrap_or(version);
            if version == last_version {
                return Poll::Ready(None);
            }
            let delivery = subscriber.poll_recv(cx);
            if delivery.is_pending() {
                enable_fast_path(&subscriber, version, &sink);
                // The fast path does not wake the feed, which has to notice that it reached the last version.
                cx.waker().wake_by_ref();
            }
            delivery.map(Some)
        });
        match delivery.await {
            Some(Delivery::Event(shared)) => {
                let (first, last) = shared.event.version_range().unwrap();
                assert!(first <= version + 1, "a gap between {version} and {first}");
                if last > version {
                    sink.record(version + 1..=last);
                    version = last;
                }
            }
            Some(Delivery::Lagged) => {
                let published = hub.topic_versions()[0].1.unwrap();
                sink.record(version + 1..=published);
                version = version.max(published);
            }
            None => break,
        }
        yield_now().await;
    }
}

/// Subscribers come and go, sockets refuse writes and events overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fast_path_and_queue_together_deliver_each_version_once_and_in_order() {
    const LAST: i64 = 500;
    let hub = Arc::new(Hub::default());
    let chat = new_chat_id();
    let subscribers: Vec<_> = (0..150).map(|_| group_subscriber(&hub, chat, 0)).collect();
    let mut sinks = Vec::new();
    let mut feeds = JoinSet::new();
    for (index, subscriber) in subscribers.into_iter().enumerate() {
        let sink = RecordingSink::new([NEVER_REFUSE, 2, 3, 10][index % 4]);
        feeds.spawn(run_feed(hub.clone(), subscriber, sink.clone(), LAST));
        sinks.push(sink);
    }
    for version in (1..=LAST).step_by(2) {
        let passing = group_subscriber(&hub, chat, version - 1);
        for version in [version + 1, version] {
            hub.deliver(message_added(chat, version));
        }
        yield_now().await;
        drop(passing);
    }
    let all_done = tokio::time::timeout(Duration::from_secs(60), feeds.join_all());
    all_done.await.expect("every feed receives every version");
    for sink in sinks {
        assert_eq!(sink.versions(), (1..=LAST).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn member_update_waits_for_the_changes_before_it() {
    let (hub, chat) = (Arc::<Hub>::default(), new_chat_id());
    let mut subscriber = subscriber_of(&hub, "alice", chat);
    subscriber.mark_caught_up(chat, 10);
    hub.deliver(member_update(chat, "alice", 12));
    hub.deliver(member_update(chat, "alice", 11));
    assert_eq!(drain_versions(&mut subscriber), [0; 0], "the changes 11 and 12 would replace it by older state");
    assert_eq!(hub.take_gaps(), [(chat, Some(10))], "the missing changes are read if they do not arrive");
    hub.deliver(message_added(chat, 12));
    assert_eq!(drain_versions(&mut subscriber), [0; 0]);
    hub.deliver(message_added(chat, 11));
    assert_eq!(drain_versions(&mut subscriber), [11, 12, 0, 0]);
    hub.deliver(member_update(chat, "alice", 12));
    assert_eq!(drain_versions(&mut subscriber), [0]);
    hub.deliver(member_update(chat, "alice", 14));
    hub.deliver(deleted(chat));
    hub.flush_reorder_buffer(chat);
    assert_eq!(drain_versions(&mut subscriber), [0, 0], "an update does not wait for ever");
}

#[test]
fn event_is_no_newer_than_the_events_that_have_all_arrived() {
    let (hub, chat) = (Arc::<Hub>::default(), new_chat_id());
    let mut subscriber = subscriber_of(&hub, "alice", chat);
    let (complete_until, later) =
        (DateTime::from_timestamp(1_000, 0).unwrap(), DateTime::from_timestamp(2_000, 0).unwrap());
    let mut time_of = |published_at| {
        hub.deliver(ChatEvent { published_at, ..deleted(chat) });
        match subscriber.try_recv() {
            Some(Delivery::Event(shared)) => shared.event.published_at,
            other => panic!("no event: {other:?}"),
        }
    };
    assert_eq!(time_of(later), later, "a server of one node misses nothing");
    hub.set_complete_until(complete_until);
    assert_eq!(time_of(later), complete_until);
    assert_eq!(time_of(DateTime::UNIX_EPOCH), DateTime::UNIX_EPOCH);
}
