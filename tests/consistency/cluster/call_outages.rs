//! Calls between users at different nodes while Redis is down.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Feed, postgres_test};

use crate::consistency::cluster::harness::TestCluster;

/// The time in which a call rings at other nodes and its end reaches them without Redis.
const OUTAGE_RING_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a signal reaches another node without Redis.
const OUTAGE_SIGNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until a call has a status in a user's inbox.
async fn wait_for_call(inbox: &mut Feed, call: &str, status: &str) {
    loop {
        let event = inbox.next_of_type("CallUpserted").await;
        if event["call"]["id"] == call && event["call"]["status"] == status {
            return;
        }
    }
}

#[postgres_test]
async fn calls_ring_connect_and_end_on_other_nodes_without_redis() {
    let mut cluster = TestCluster::start_two().await;
    let (alice, bob) = (cluster.user_at(0, "alice").await, cluster.user_at(1, "bob").await);
    let chat = alice.direct(&bob).await;
    cluster.wait_until_connected().await;
    let mut inbox = bob.inbox_feed(None).await;
    inbox.catch_up().await;
    cluster.redis.as_mut().expect("a Redis").kill();
    for ended_by in [&alice, &bob] {
        let start = Instant::now();
        let a = alice.start_call(&chat).await;
        wait_for_call(&mut inbox, &a.call, "RINGING").await;
        assert!(start.elapsed() < OUTAGE_RING_TIMEOUT, "{:?}", start.elapsed());
        let b = bob.join_call(&a.call).await;
        let (mut alice_feed, mut bob_feed) = (alice.caught_up_call_feed(&a).await, bob.caught_up_call_feed(&b).await);
        let mut delays = Vec::new();
        for number in 0..5 {
            let start = Instant::now();
            alice.send_signal(&a, &b, "RENEGOTIATE", json!({ "number": number })).await;
            assert_eq!(bob_feed.next_signal().await[2], json!({ "number": number }));
            delays.push(start.elapsed());
        }
        // The median, because the machine of the test may stop for a while.
        delays.sort_unstable();
        assert!(delays[2] < OUTAGE_SIGNAL_TIMEOUT, "{delays:?}");
        let start = Instant::now();
        ended_by.mutate_ok("endCall", json!({ "callId": a.call })).await;
        for feed in [&mut alice_feed, &mut bob_feed] {
            assert!(feed.drain().await.iter().any(|event| event["call"]["endReason"] == "COMPLETED"));
        }
        wait_for_call(&mut inbox, &a.call, "ENDED").await;
        assert!(start.elapsed() < OUTAGE_RING_TIMEOUT, "{:?}", start.elapsed());
    }
    // A call that is taken back stops ringing.
    let a = alice.start_call(&chat).await;
    wait_for_call(&mut inbox, &a.call, "RINGING").await;
    let start = Instant::now();
    alice.try_leave_call(&a).await.data();
    wait_for_call(&mut inbox, &a.call, "ENDED").await;
    assert!(start.elapsed() < OUTAGE_RING_TIMEOUT, "{:?}", start.elapsed());
    cluster.end().await;
}
