//! A Redis of a story's own.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::{free_port, send_signal};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Redis {
    port: u16,
    is_cluster: bool,
    folder: TempDir,
    child: Option<Child>,
}

impl Redis {
    /// A server that keeps nothing.
    pub fn start() -> Self {
        Self::begin(false)
    }

    /// A cluster of one node, which has all slots.
    pub fn start_cluster() -> Self {
        let redis = Self::begin(true);
        redis.say(&["cluster", "addslotsrange", "0", "16383"]);
        redis.wait_for(|redis| redis.say(&["cluster", "info"]).contains("cluster_state:ok"));
        redis
    }

    fn begin(is_cluster: bool) -> Self {
        // A cluster's nodes speak with each other 10,000 ports further on.
        let port = std::iter::repeat_with(free_port).find(|port| !is_cluster || *port < 55_000).expect("a port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { port, is_cluster, folder, child: None };
        redis.restart();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a process to kill");
        child.wait().expect("the process ends");
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        let mut command = Command::new("redis-server");
        let port = self.port.to_string();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.folder.path());
        if self.is_cluster {
            command.args(["--cluster-enabled", "yes"]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server is on the PATH"));
        self.wait_for(|redis| TcpStream::connect(("127.0.0.1", redis.port)).is_ok());
    }

    /// SIGSTOP: connections stay, and nothing comes.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// What `redis-cli` answers.
    pub fn say(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        String::from_utf8_lossy(&output.expect("redis-cli is on the PATH").stdout).into_owned()
    }

    fn signal(&self, name: &str) {
        send_signal(self.child.as_ref().expect("it runs").id(), name);
    }

    fn wait_for(&self, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "Redis isn't there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
