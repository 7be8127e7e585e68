//! Server processes: started, waited for, looked at from outside, and ended by their own id.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Error, PATIENCE, Result, within};

/// How many of the ticks in `/proc` make a second: the same on every Linux that we know.
const TICKS_A_SECOND: f64 = 100.0;

/// A child that is killed when it is dropped before it was stopped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it writes goes to a file in `folder`. Its input ends when this process does.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// Waits until it answers at `/readyz`.
    pub async fn ready(&mut self, address: SocketAddr) -> Result<()> {
        let url = format!("http://{address}/readyz");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        // A server that finds a million messages without an index makes it first.
        let deadline = Instant::now() + 10 * PATIENCE;
        loop {
            let answer = client.get(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.complaint(&status.to_string()));
            }
            if Instant::now() > deadline {
                return Err(self.complaint("not ready in time"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it ends by itself, well.
    pub async fn finish(mut self) -> Result<()> {
        let status = self.ended(PATIENCE).await?;
        if status.success() { Ok(()) } else { Err(self.complaint(&status.to_string())) }
    }

    /// Asks it to end (`TERM`, or the signal that means so to it) and waits until it has.
    pub async fn stop(mut self, signal: &str) -> Result<()> {
        // The standard library sends no signal but KILL; every shell can.
        let id = self.child.id().to_string();
        Command::new("sh").args(["-c", r#"kill -"$0" "$1""#, signal, &id]).status()?;
        self.ended(PATIENCE).await?;
        Ok(())
    }

    async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        within(limit, &format!("the end of {name}"), async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// The CPU time that it has used so far, with its threads and in the kernel.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold anything, so the fields are counted after it.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<f64>() / TICKS_A_SECOND))
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// What of that is its own, and not a file's: an SQLite database is mapped into memory.
    pub fn anonymous(&self) -> Result<f64> {
        self.memory("RssAnon:")
    }

    fn memory(&self, what: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib: f64 = line.unwrap_or_default().trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0)
    }

    fn complaint(&self, what: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("{}: {what}\n{tail}", self.name).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
