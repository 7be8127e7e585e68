//! Nodes of one server: real processes over one PostgreSQL database, and over one Redis.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use parlor::domain::clock::Clock;
use serde_json::json;
use tempfile::TempDir;
use testkit::keys::sign_with_secret;
use testkit::process::free_port;
use testkit::{Database, Engine, RedisServer, SECRET, ServerProcess, User};
use tokio::sync::{Mutex, MutexGuard};

/// Stories with several processes are told one after the other: they would take the machine from each
/// other.
static ONE_BY_ONE: Mutex<()> = Mutex::const_new(());

pub struct TestCluster {
    nodes: Vec<Node>,
    pub redis: Option<RedisServer>,
    database: Database,
    settings: Vec<(String, String)>,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

struct Node {
    addr: SocketAddr,
    process: Option<ServerProcess>,
    starts: usize,
}

impl TestCluster {
    pub async fn start(number: usize, redis: Option<RedisServer>, settings: &[(&str, &str)]) -> Self {
        let turn = ONE_BY_ONE.lock().await;
        let database = Database::create(Engine::Postgres).await;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self { nodes: Vec::new(), redis, database, settings, folder, _turn: turn };
        for _ in 0..number {
            cluster.grow();
        }
        cluster
    }

    /// Two nodes and a Redis.
    pub async fn start_two() -> Self {
        Self::start(2, Some(RedisServer::start()), &[]).await
    }

    /// One node more.
    pub fn grow(&mut self) {
        let addr = ([127, 0, 0, 1], free_port()).into();
        self.nodes.push(Node { addr, process: None, starts: 0 });
        self.restart(self.nodes.len() - 1);
    }

    /// Starts a node where it was, by its name of before.
    pub fn restart(&mut self, number: usize) {
        let folder = self.folder(number, self.nodes[number].starts);
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
        node.starts += 1;
    }

    fn folder(&self, number: usize, start: usize) -> PathBuf {
        self.folder.path().join(format!("node-{number}-{start}"))
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.addr).collect()
    }

    pub fn node(&self, number: usize) -> &ServerProcess {
        self.nodes[number].process.as_ref().expect("the node runs")
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self, number: usize) {
        drop(self.nodes[number].process.take());
    }

    /// SIGTERM, and the end.
    pub async fn retire(&mut self, number: usize) {
        let mut process = self.nodes[number].process.take().expect("the node runs");
        process.signal("TERM");
        assert_eq!(process.wait().await.code(), Some(0), "{}", process.log());
    }

    /// Somebody at a node, whom the server has seen.
    pub async fn user_at(&self, number: usize, id: &str) -> User {
        self.user_with(number, id, json!({})).await
    }

    /// The same with more in their token.
    pub async fn user_with(&self, number: usize, id: &str, more: serde_json::Value) -> User {
        let mut claims = json!({ "sub": id, "org": "demo", "name": id, "exp": 4_000_000_000_u64, "iat": now() });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let user = User::new(self.nodes[number].addr, id, sign_with_secret(claims));
        user.ask("{ viewer { user { id } } }").await.data();
        user
    }

    /// The same person at another node.
    pub fn at(&self, number: usize, who: &User) -> User {
        who.at(self.nodes[number].addr)
    }

    /// Waits until each node says that it is connected to Redis, in its newest log.
    pub async fn wait_until_connected(&self) {
        for node in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            eventually("a node is connected to Redis", async || node.log().contains("connected to Redis")).await;
        }
    }

    pub async fn end(mut self) {
        self.nodes.clear();
        self.redis = None;
        self.database.drop().await;
    }
}

pub fn now() -> i64 {
    Clock::system().now().timestamp()
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
