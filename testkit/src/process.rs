//! Child processes: the server's binary, and the services that it needs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::time::sleep;

use crate::{SECRET, TIMEOUT};

/// The number of clock ticks per second in `/proc`, which is 100 on every supported Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// The time limit of a start: a server may have to index a million messages before it listens.
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// A child process, which is killed when it is dropped.
pub struct ChildProcess {
    name: String,
    child: Child,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts a process, whose output and errors go to a log file in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        let (log, file) = create_log(name, folder);
        command.stdout(file.try_clone().expect("a log file"));
        Self::spawn(name, command.stderr(file), log)
    }

    /// Spawns the command with a pipe as its input, so that a child can detect the end of this process.
    fn spawn(name: &str, command: &mut Command, log: PathBuf) -> Self {
        let child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.into(), child, log }
    }

    /// Returns everything logged until now.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log file")
    }

    /// Returns the end of the log, for a message about a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Returns true if the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a process").is_none()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let signal = match name {
            "CONT" => Signal::CONT,
            "HUP" => Signal::HUP,
            "INT" => Signal::INT,
            "STOP" => Signal::STOP,
            "TERM" => Signal::TERM,
            "XFSZ" => Signal::XFSZ,
            other => panic!("no signal named {other}"),
        };
        // The standard library can only send KILL, and a minimal system has no program for others.
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.unwrap_or_else(|error| panic!("{}: {error}\n{}", self.name, self.log_tail()));
    }

    /// Limits the size to which the process's files can grow; `None` ends the limit.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, limit).expect("a process of the same user");
    }

    /// Kills the process with SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("the process ends");
    }

    /// Waits until the process has ended.
    pub async fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a process") {
                return status;
            }
            assert!(start.elapsed() < TIMEOUT, "{} did not end:\n{}", self.name, self.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the process has ended, and asserts that it succeeded.
    pub async fn finish(mut self) {
        let status = self.wait().await;
        assert!(status.success(), "{}: {status}\n{}", self.name, self.log_tail());
    }

    /// Sends a signal, such as `TERM`, and waits until the process has ended.
    pub async fn stop(mut self, signal: &str) {
        self.signal(signal);
        self.wait().await;
    }

    /// Waits until a server answers at `/readyz`.
    pub async fn wait_until_ready(&mut self, addr: SocketAddr) {
        let url = format!("http://{addr}/readyz");
        let client = crate::http_client();
        let start = Instant::now();
        loop {
            let response = client.get(&url).timeout(Duration::from_secs(5)).send().await;
            if response.is_ok_and(|response| response.status().is_success()) {
                return;
            }
            assert!(self.is_running(), "{} has ended:\n{}", self.name, self.log_tail());
            assert!(start.elapsed() < START_TIMEOUT, "{} is not ready:\n{}", self.name, self.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the user and system CPU time of all threads so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process");
        // The name in parentheses may contain spaces, so fields are counted after it.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: f64 = fields.skip(11).take(2).map(|field| field.parse::<f64>().expect("a number")).sum();
        Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
    }

    /// Returns the resident memory, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Returns the resident memory without mapped files, such as an SQLite database, in bytes.
    pub fn anonymous_memory(&self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let kibibytes = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        kibibytes.and_then(|kibibytes| kibibytes.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The server's binary, running as a child process.
pub struct ServerProcess {
    pub addr: SocketAddr,
    pub process: ChildProcess,
    lines: Receiver<String>,
}

impl ServerProcess {
    /// Starts the server in a folder with only these settings, and waits until it listens.
    pub fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_command(server_command(folder, settings), folder, settings)
    }

    /// Starts the server as [`Self::start`] does, under a limit such as `-n 256` of the shell's `ulimit`.
    pub fn start_limited(folder: &Path, settings: &[(&str, &str)], limit: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\"")]).arg(server_binary());
        command.env_clear().envs(settings.iter().copied()).current_dir(folder);
        Self::start_command(command, folder, settings)
    }

    fn start_command(mut command: Command, folder: &Path, settings: &[(&str, &str)]) -> Self {
        if !settings.iter().any(|(name, _)| *name == "PARLOR_ADDR") {
            command.env("PARLOR_ADDR", "127.0.0.1:0");
        }
        let (log, file) = create_log("parlor", folder);
        let mut process = ChildProcess::spawn("parlor", command.stdout(Stdio::piped()).stderr(file), log);
        let output = BufReader::new(process.child.stdout.take().expect("a piped output"));
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Self { addr: (Ipv4Addr::LOCALHOST, 0).into(), process, lines };
        let line = server.next_line_within(START_TIMEOUT);
        let addr = line.strip_prefix("Parlor is listening on http://").and_then(|rest| rest.strip_suffix("/graphql"));
        server.addr =
            addr.and_then(|addr| addr.parse().ok()).unwrap_or_else(|| panic!("no address in the first line: {line}"));
        server
    }

    /// Returns the next line of the standard output.
    pub fn next_line(&self) -> String {
        self.next_line_within(TIMEOUT)
    }

    /// Returns the URL of the metrics, which the next line of the standard output names.
    pub fn next_metrics_url(&self) -> String {
        let line = self.next_line();
        let url = line.strip_prefix("Metrics are at ");
        url.unwrap_or_else(|| panic!("no URL of the metrics: {line}")).to_owned()
    }

    fn next_line_within(&self, limit: Duration) -> String {
        let line = self.lines.recv_timeout(limit);
        line.unwrap_or_else(|_| panic!("no more output; the log:\n{}", self.log()))
    }

    /// Returns everything logged until now.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns true if the server has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Kills the server with SIGKILL, so that it flushes nothing and notifies no client.
    pub fn kill(self) {
        self.process.kill();
    }

    /// Waits until the server has ended.
    pub async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }

    /// Returns the resident memory, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.process.resident_memory()
    }
}

/// Returns the path of the server's binary.
///
/// The environment variable `PARLOR_TEST_BINARY` selects it, so that builds can be compared. By default it is the
/// binary in the same Cargo profile folder as this executable.
///
/// # Panics
///
/// Panics if there is no such file.
pub fn server_binary() -> PathBuf {
    if let Some(path) = env::var_os("PARLOR_TEST_BINARY") {
        // The server runs in another folder, so a relative path must be resolved here.
        return fs::canonicalize(&path)
            .unwrap_or_else(|error| panic!("PARLOR_TEST_BINARY={}: {error}", path.display()));
    }
    let executable = env::current_exe().expect("a path");
    // Cargo puts test executables into `deps`, below the folder of the binaries.
    let folders = executable.ancestors().skip(1).take(2);
    let mut binaries = folders.map(|folder| folder.join("parlor")).filter(|binary| binary.is_file());
    binaries.next().expect("the server's binary; build it by: cargo build --bin parlor")
}

/// Returns the command that runs the server in a folder with only these settings.
pub fn server_command(folder: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(server_binary());
    command.env_clear().envs(settings.iter().copied()).current_dir(folder).stdin(Stdio::null());
    command
}

/// Returns a token of a user, which the server's binary signs with the tests' shared secret.
pub fn issue_token(folder: &Path, user: &str) -> String {
    let output = run_command(folder, &[("PARLOR_JWT_SECRET", SECRET)], &["token", "--user", user]);
    String::from_utf8(output.stdout).expect("a text").trim().to_owned()
}

/// Runs a command of the server's binary to its end.
pub fn run_command(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    server_command(folder, settings).args(arguments).output().expect("the binary runs")
}

/// Returns a free port.
pub fn free_port() -> u16 {
    free_addr().port()
}

/// Returns a loopback address with a free port.
pub fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

fn create_log(name: &str, folder: &Path) -> (PathBuf, File) {
    let path = folder.join(format!("{name}.log"));
    let file = File::create(&path).expect("a file for the log");
    (path, file)
}
