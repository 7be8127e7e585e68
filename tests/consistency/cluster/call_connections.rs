//! Connections of a call whose devices are at different nodes.

use serde_json::json;
use testkit::calls::sdp;
use testkit::postgres_test;

use crate::consistency::cluster::start_with_alice_and_bob;

#[postgres_test]
async fn take_over_at_another_node_replaces_connection() {
    let (cluster, alice, bob, chat) = start_with_alice_and_bob().await;
    let a = alice.start_call(&chat).await;
    let phone = bob.join_call(&a.call).await;
    let mut alice_feed = alice.caught_up_call_feed(&a).await;
    let mut phone_feed = bob.caught_up_call_feed(&phone).await;
    // Bob's laptop is at Alice's node, his phone at the other one.
    let bob_at_laptop = cluster.at(0, &bob);
    let laptop = bob_at_laptop.take_over_call(&a.call, "laptop").await;
    let mut laptop_feed = bob_at_laptop.caught_up_call_feed(&laptop).await;
    alice.send_signal(&a, &laptop, "OFFER", sdp("offer", "for the laptop")).await;
    let phone_events = phone_feed.drain().await;
    assert_eq!(phone_events.last().expect("an event")["endReason"], "REPLACED", "{phone_events:?}");
    assert!(phone_events.iter().all(|event| event["__typename"] != "SignalReceived"), "{phone_events:?}");
    assert_eq!(laptop_feed.next_signal().await[2], sdp("offer", "for the laptop"));
    let moved = alice_feed.wait_for_participant("bob", "JOINED").await;
    assert_eq!(moved["participant"]["connectionId"], json!(laptop.connection));
    // Each node refuses the former connection.
    let at_phone = bob.try_send_signal(&phone, &a.connection, "RENEGOTIATE", json!({})).await;
    let at_alice = alice.try_send_signal(&a, &phone.connection, "RENEGOTIATE", json!({})).await;
    for refused in [at_phone, at_alice] {
        assert_eq!(refused.conflict()[0], "STALE_CONNECTION", "{}", refused.body);
    }
    cluster.end().await;
}
