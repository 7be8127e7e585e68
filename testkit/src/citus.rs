//! Databases whose tables are distributed over the nodes of a Citus cluster.
//!
//! `PARLOR_TEST_CITUS` is the URL of a database of the coordinator in which the workers are registered, with a user who
//! can create databases and extensions on all nodes. With it, tests on PostgreSQL run on distributed tables. Tests that
//! need an empty database, or one that they can stop, run without it.

use std::env;
use std::io::Write as _;

use parlor::storage::distribution::distribute;
use parlor::storage::engine::Engine;
use parlor::storage::migrations;
use parlor::storage::settings::MigrationMode;

use crate::database::connect_postgres;

const CITUS: &str = "PARLOR_TEST_CITUS";

/// The number of shards of each table. A test needs no more than some per worker.
const SHARD_COUNT: u32 = 4;

/// Returns the URL of the coordinator, or `None` if the tests have no Citus cluster.
pub fn coordinator_url() -> Option<String> {
    env::var(CITUS).ok()
}

/// Returns the URL of the coordinator for a test that needs one; without it, says that the test is skipped.
pub fn coordinator_or_skip(test: &str) -> Option<String> {
    let url = coordinator_url();
    if url.is_none() {
        // The test harness captures `eprintln!`, but not a direct write.
        std::io::stderr().write_all(format!("{CITUS} is not set: {test} is skipped\n").as_bytes()).ok();
    }
    url
}

/// Returns the URLs of the workers.
pub async fn worker_urls(coordinator: &str) -> Vec<String> {
    let client = connect_postgres(coordinator).await.expect("the coordinator answers");
    let workers = "SELECT nodename || ':' || nodeport FROM pg_dist_node WHERE groupid <> 0 ORDER BY nodeid";
    let workers = client.query(workers, &[]).await.expect("workers are registered");
    let (user, address) = coordinator.rsplit_once('@').expect("a URL with a user");
    let (_, name) = address.split_once('/').expect("a URL with a database");
    workers.iter().map(|row| format!("{user}@{}/{name}", row.get::<_, String>(0))).collect()
}

/// Adds the extension to a database of the coordinator and to the databases of the workers, and registers them.
pub async fn connect_nodes(coordinator: &str, workers: &[String]) {
    for url in workers.iter().map(String::as_str).chain([coordinator]) {
        execute(url, "CREATE EXTENSION citus").await;
    }
    for worker in workers {
        let (_, address) = worker.rsplit_once('@').expect("a URL with a user");
        let (host, port) =
            address.split_once('/').and_then(|(node, _)| node.split_once(':')).expect("a host and a port");
        execute(coordinator, &format!("SELECT citus_add_node('{host}', {port})")).await;
    }
}

/// Runs the migrations and distributes the tables.
pub async fn migrate_and_distribute(url: &str) {
    let engine = Engine::parse(url).expect("the URL of a database");
    migrations::run(&engine, MigrationMode::Auto).await.expect("the migrations run");
    distribute(&engine, SHARD_COUNT).await.expect("the tables are distributed");
}

async fn execute(url: &str, sql: &str) {
    connect_postgres(url).await.expect("the node answers").batch_execute(sql).await.expect(sql);
}
