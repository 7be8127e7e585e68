//! A cluster of nodes: server processes that share a PostgreSQL database and a Redis.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use testkit::keys::{sign_with_secret, unix_seconds};
use testkit::process::free_port;
use testkit::{Database, Engine, RedisServer, SECRET, ServerProcess, User, wait_until};
use tokio::sync::{Mutex, MutexGuard};

/// The lock under which clusters run one after another: they would compete for the cores.
static CLUSTER_LOCK: Mutex<()> = Mutex::const_new(());

pub struct TestCluster {
    nodes: Vec<Node>,
    pub redis: Option<RedisServer>,
    database: Database,
    settings: Vec<(String, String)>,
    folder: TempDir,
    _lock: MutexGuard<'static, ()>,
}

struct Node {
    addr: SocketAddr,
    process: Option<ServerProcess>,
    start_count: usize,
}

impl TestCluster {
    /// Starts a cluster of this many nodes, with these settings in addition to the required ones.
    pub async fn start(node_count: usize, redis: Option<RedisServer>, settings: &[(&str, &str)]) -> Self {
        let lock = CLUSTER_LOCK.lock().await;
        let database = Database::create(Engine::Postgres).await;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self { nodes: Vec::new(), redis, database, settings, folder, _lock: lock };
        for _ in 0..node_count {
            cluster.add_node();
        }
        cluster
    }

    /// Starts two nodes and a Redis.
    pub async fn start_two() -> Self {
        Self::start(2, Some(RedisServer::start()), &[]).await
    }

    /// Changes a setting of the nodes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts a further node, which has no Redis.
    pub fn add_node_without_redis(&mut self) {
        let redis = self.redis.take();
        self.add_node();
        self.redis = redis;
    }

    /// Starts a further node.
    pub fn add_node(&mut self) {
        let addr = ([127, 0, 0, 1], free_port()).into();
        self.nodes.push(Node { addr, process: None, start_count: 0 });
        self.restart(self.nodes.len() - 1);
    }

    /// Starts a node at its former address and with its former name.
    pub fn restart(&mut self, number: usize) {
        let folder = self.folder(number, self.nodes[number].start_count);
        std::fs::create_dir(&folder).expect("a folder");
        let (addr, name) = (self.nodes[number].addr.to_string(), format!("node-{number}"));
        let redis = self.redis.as_ref().map(RedisServer::url);
        let mut settings = vec![
            ("DATABASE_URL", self.database.url.as_str()),
            ("PARLOR_ADDR", &addr),
            ("PARLOR_JWT_SECRET", SECRET),
            ("PARLOR_NODE_NAME", &name),
            ("PARLOR_CATCH_UP_CHANGES", "100000"),
        ];
        settings.extend(redis.as_deref().map(|url| ("REDIS_URL", url)));
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let process = ServerProcess::start(&folder, &settings);
        let node = &mut self.nodes[number];
        node.process = Some(process);
        node.start_count += 1;
    }

    fn folder(&self, number: usize, start: usize) -> PathBuf {
        self.folder.path().join(format!("node-{number}-{start}"))
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn node(&self, number: usize) -> &ServerProcess {
        self.nodes[number].process.as_ref().expect("a running node")
    }

    /// Kills a node with SIGKILL: it flushes nothing and notifies no other node.
    pub fn kill(&mut self, number: usize) {
        drop(self.nodes[number].process.take());
    }

    /// Stops a node with SIGTERM, and waits until it has ended.
    pub async fn retire(&mut self, number: usize) {
        let mut process = self.nodes[number].process.take().expect("a running node");
        process.signal("TERM");
        assert_eq!(process.wait().await.code(), Some(0), "{}", process.log());
    }

    /// Returns a user at a node, after a first request that registers the user.
    pub async fn user_at(&self, number: usize, id: &str) -> User {
        self.user_with(number, id, json!({})).await
    }

    /// Returns a registered user at a node, with additional claims in the token.
    pub async fn user_with(&self, number: usize, id: &str, additional_claims: serde_json::Value) -> User {
        let mut claims =
            json!({ "sub": id, "org": "demo", "name": id, "exp": 4_000_000_000_u64, "iat": unix_seconds() });
        for (name, value) in additional_claims.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let user = User::new(self.nodes[number].addr, id, sign_with_secret(claims));
        user.ask("{ viewer { user { id } } }").await.data();
        user
    }

    /// Returns the same user at another node.
    pub fn at(&self, number: usize, user: &User) -> User {
        user.at(self.nodes[number].addr)
    }

    /// Waits until each node has logged, since its start, that it is connected to Redis.
    pub async fn wait_until_connected(&self) {
        for node in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            wait_until("a node is connected to Redis", async || node.log().contains("connected to Redis")).await;
        }
    }

    /// Kills all nodes, ends Redis, and drops the database.
    pub async fn end(mut self) {
        self.nodes.clear();
        self.redis = None;
        self.database.drop().await;
    }
}
