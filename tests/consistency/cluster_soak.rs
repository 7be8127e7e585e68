//! Clusters under load while Redis or a node fails, pauses or restarts.
//!
//! Every client converges on the content of the database, in order and without duplicates.

use std::time::Duration;

use testkit::{RedisServer, postgres_test};

use crate::consistency::cluster::harness::TestCluster;
use crate::consistency::cluster::workload::Workload;

/// The time for which Redis or a node pauses: longer than a node waits for an answer of Redis.
const PAUSE: Duration = Duration::from_secs(6);

#[postgres_test]
async fn cluster_loses_nothing_when_redis_restarts() {
    let mut cluster = TestCluster::start_two().await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(100).await;
    let redis = cluster.redis.as_mut().expect("a Redis");
    redis.kill();
    workload.wait_for_messages(150).await;
    redis.restart();
    workload.wait_for_messages(150).await;
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_redis_pauses() {
    let cluster = TestCluster::start_two().await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(100).await;
    let redis = cluster.redis.as_ref().expect("a Redis");
    redis.pause();
    // The length of the pause is the scenario: there is no condition to poll.
    tokio::time::sleep(PAUSE).await;
    redis.resume();
    workload.wait_for_messages(150).await;
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_node_is_killed() {
    let mut cluster = TestCluster::start_two().await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(100).await;
    cluster.kill(1);
    workload.wait_for_messages(150).await;
    cluster.restart(1);
    workload.wait_for_messages(150).await;
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_node_pauses() {
    let cluster = TestCluster::start_two().await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(100).await;
    cluster.node(1).signal("STOP");
    // The length of the pause is the scenario: there is no condition to poll.
    tokio::time::sleep(PAUSE).await;
    cluster.node(1).signal("CONT");
    workload.wait_for_messages(150).await;
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_during_rolling_restart() {
    let mut cluster = TestCluster::start(2, Some(RedisServer::start()), &[("PARLOR_DRAIN_SECONDS", "2")]).await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(100).await;
    for number in 0..2 {
        let counts: Vec<usize> = workload.followers.iter().map(|follower| follower.disconnects().len()).collect();
        cluster.retire(number).await;
        let disconnects = workload.followers.iter().zip(counts);
        let disconnects = disconnects.flat_map(|(follower, count)| follower.disconnects().split_off(count));
        let (codes, times): (Vec<_>, Vec<_>) = disconnects.unzip();
        assert!(codes.len() >= 6 && codes.iter().all(|code| *code == Some(1012)), "{codes:?}");
        let (first, last) = (times.iter().min().expect("a disconnect"), times.iter().max().expect("a disconnect"));
        assert!(*last - *first > Duration::from_millis(500), "disconnects within only {:?}", *last - *first);
        cluster.restart(number);
        workload.wait_for_messages(100).await;
    }
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn nodes_without_redis_catch_up_from_database() {
    let cluster = TestCluster::start(2, None, &[]).await;
    let workload = Workload::start(&cluster).await;
    workload.wait_for_messages(200).await;
    workload.stop_and_assert_converged(&cluster).await;
    cluster.end().await;
}
