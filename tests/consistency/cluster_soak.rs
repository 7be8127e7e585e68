//! Nodes under load while Redis goes, a node dies, is stopped, is replaced: every client comes to hold
//! what the database holds, in order, and nothing twice.

use std::time::Duration;

use crate::consistency::cluster::harness::TestCluster;
use crate::consistency::cluster::workload::Load;

#[postgres_test]
async fn cluster_loses_nothing_when_redis_restarts() {
    let mut cluster = TestCluster::start_two().await;
    let load = Load::start(&cluster).await;
    load.goes_on(100).await;
    let redis = cluster.redis.as_mut().expect("a Redis");
    redis.kill();
    load.goes_on(150).await;
    redis.restart();
    load.goes_on(150).await;
    load.ends_level(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_redis_pauses() {
    let cluster = TestCluster::start_two().await;
    let load = Load::start(&cluster).await;
    load.goes_on(100).await;
    let redis = cluster.redis.as_ref().expect("a Redis");
    redis.pause();
    tokio::time::sleep(Duration::from_secs(6)).await;
    redis.resume();
    load.goes_on(150).await;
    load.ends_level(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_node_is_killed() {
    let mut cluster = TestCluster::start_two().await;
    let load = Load::start(&cluster).await;
    load.goes_on(100).await;
    cluster.kill(1);
    load.goes_on(150).await;
    cluster.restart(1);
    load.goes_on(150).await;
    load.ends_level(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_when_node_pauses() {
    let cluster = TestCluster::start_two().await;
    let load = Load::start(&cluster).await;
    load.goes_on(100).await;
    cluster.node(1).signal("STOP");
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.node(1).signal("CONT");
    load.goes_on(150).await;
    load.ends_level(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn cluster_loses_nothing_during_rolling_restart() {
    let mut cluster = TestCluster::start(2, Some(RedisServer::start()), &[("PARLOR_DRAIN_SECONDS", "2")]).await;
    let load = Load::start(&cluster).await;
    load.goes_on(100).await;
    for number in 0..2 {
        let before: Vec<usize> = load.followers.iter().map(|follower| follower.ends().len()).collect();
        cluster.retire(number).await;
        let ends = load.followers.iter().zip(before).flat_map(|(follower, before)| follower.ends().split_off(before));
        let (codes, moments): (Vec<_>, Vec<_>) = ends.unzip();
        assert!(codes.len() >= 6 && codes.iter().all(|code| *code == Some(1012)), "{codes:?}");
        let (first, last) = (moments.iter().min().expect("an end"), moments.iter().max().expect("an end"));
        assert!(*last - *first > Duration::from_millis(500), "spread over the time: {:?}", *last - *first);
        cluster.restart(number);
        load.goes_on(100).await;
    }
    load.ends_level(&cluster).await;
    cluster.end().await;
}

#[postgres_test]
async fn nodes_without_redis_catch_up_from_database() {
    let cluster = TestCluster::start(2, None, &[]).await;
    let load = Load::start(&cluster).await;
    load.goes_on(200).await;
    load.ends_level(&cluster).await;
    cluster.end().await;
}
use testkit::{RedisServer, postgres_test};
