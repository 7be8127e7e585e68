//! A private Redis server without persistence.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use tempfile::TempDir;

use crate::TIMEOUT;
use crate::process::{ChildProcess, free_port};

const PROGRAM: &str = "redis-server";

/// A Redis server that is killed when this value is dropped.
pub struct RedisServer {
    port: u16,
    is_cluster: bool,
    process: Option<ChildProcess>,
    folder: TempDir,
}

impl RedisServer {
    /// Returns true if `redis-server` is in the PATH.
    pub fn is_installed() -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder: PathBuf| folder.join(PROGRAM).is_file())
    }

    /// Starts a server.
    pub fn start() -> Self {
        Self::start_in_mode(false)
    }

    /// Starts a cluster of one node, to which all slots are assigned.
    pub fn start_cluster() -> Self {
        let redis = Self::start_in_mode(true);
        redis.cli(&["cluster", "addslotsrange", "0", "16383"]);
        redis.wait_for(|redis| redis.cli(&["cluster", "info"]).contains("cluster_state:ok"));
        redis
    }

    fn start_in_mode(is_cluster: bool) -> Self {
        // The cluster bus uses the port plus 10,000.
        let port = std::iter::repeat_with(free_port).find(|port| !is_cluster || *port < 55_000).expect("a port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { port, is_cluster, process: None, folder };
        redis.restart();
        redis
    }

    /// Returns the server's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("Redis is running").kill();
    }

    /// Starts the server again on its port.
    pub fn restart(&mut self) {
        let mut command = Command::new(PROGRAM);
        let port = self.port.to_string();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.folder.path());
        if self.is_cluster {
            command.args(["--cluster-enabled", "yes"]);
        }
        self.process = Some(ChildProcess::start(PROGRAM, &mut command, self.folder.path()));
        self.wait_for(|redis| TcpStream::connect(("127.0.0.1", redis.port)).is_ok());
    }

    /// Stops the process with SIGSTOP: connections stay open, but the server does not answer.
    pub fn pause(&self) {
        self.process().signal("STOP");
    }

    /// Continues the process after [`Self::pause`].
    pub fn resume(&self) {
        self.process().signal("CONT");
    }

    /// Runs `redis-cli` with these arguments, and returns its output.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output();
        String::from_utf8_lossy(&output.expect("redis-cli in the PATH").stdout).into_owned()
    }

    fn process(&self) -> &ChildProcess {
        self.process.as_ref().expect("Redis is running")
    }

    fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < TIMEOUT, "Redis is not ready:\n{}", self.process().log_tail());
            thread::sleep(Duration::from_millis(20));
        }
    }
}
