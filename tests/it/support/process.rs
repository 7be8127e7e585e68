//! The real server, as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Process {
    pub addr: SocketAddr,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

/// The binary, which finds itself in this folder with these settings alone.
fn command(folder: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.env_clear().envs(settings.iter().copied()).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a command of the binary's to its end.
pub fn run(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    command(folder, settings).args(arguments).output().expect("the binary runs")
}

pub fn send_signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

impl Process {
    /// Starts the server, and waits until it says where it listens.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let log = folder.join("log");
        let mut command = command(folder, settings);
        if !settings.iter().any(|(name, _)| *name == "PARLOR_ADDR") {
            command.env("PARLOR_ADDR", "127.0.0.1:0");
        }
        let file = File::create(&log).expect("a file for the log");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the server starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (say, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut server = Self { addr: ([127, 0, 0, 1], 0).into(), child, lines, log };
        let line = server.line();
        let addr = line.strip_prefix("Parlor is listening on http://").and_then(|rest| rest.strip_suffix("/graphql"));
        server.addr = addr.and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"));
        server
    }

    /// The next line of its standard output.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it says nothing more; its log:\n{}", self.log()))
    }

    /// What it has logged until now.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a process").is_none()
    }

    /// Sends a signal, such as TERM.
    pub fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }

    /// The memory that it has, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        resident.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a process") {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
