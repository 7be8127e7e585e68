//! A PostgreSQL server of its own, with its defaults, for runs that are not given one.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::TIMEOUT;
use crate::database::connect_postgres;
use crate::process::{ChildProcess, free_addr};

/// The folder in which distributions keep the programs of each version, outside the PATH.
const FOLDER: &str = "/usr/lib/postgresql";

/// A server that lives as long as this value.
pub struct PostgresServer {
    url: String,
    /// Ended before its folder is removed: fields are dropped in order.
    process: ChildProcess,
    _folder: TempDir,
}

impl PostgresServer {
    /// Returns whether its programs are installed.
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    /// Starts a server with its defaults, so with fsync, in a temporary folder.
    pub async fn start() -> Self {
        let programs = programs().expect("initdb is in the PATH or in the usual folder");
        let folder = tempfile::Builder::new().prefix("parlor-postgres-").tempdir().expect("a temporary folder");
        let owner = owner();
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).expect("a folder for PostgreSQL's user");
        }
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            command.current_dir(folder.path());
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.path().join("data");
        let mut initdb = command("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--pgdata").arg(&data);
        ChildProcess::start("initdb", &mut initdb, folder.path()).finish().await;

        let addr = free_addr();
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        server.args(["-h", "127.0.0.1", "-p", &addr.port().to_string()]);
        let process = ChildProcess::start("postgres", &mut server, folder.path());
        let url = format!("postgres://postgres@{addr}/postgres");
        let start = Instant::now();
        while let Err(error) = connect_postgres(&url).await {
            assert!(start.elapsed() < TIMEOUT, "PostgreSQL: {error}\n{}", process.log_tail());
            sleep(Duration::from_millis(50)).await;
        }
        Self { url, process, _folder: folder }
    }

    /// The address of a database in which databases can be created.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn stop(self) {
        // To PostgreSQL, TERM means to wait until all clients have left; INT is to end now.
        self.process.stop("INT").await;
    }
}

/// Returns the folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    folders.extend(versions.into_iter().map(|version| version.join("bin")));
    folders.into_iter().find(|folder| folder.join("initdb").is_file())
}

/// Returns the ids of the user and group that run PostgreSQL where this process is root's, which it refuses.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users of this machine");
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let line = line.expect("root can't run PostgreSQL, and there is no user postgres");
    // The fields after the name: a password's place, the user's number, the group's number.
    let mut numbers = line.split(':').skip(1).map(|number| number.parse().expect("a number"));
    Some((numbers.next().expect("a user's number"), numbers.next().expect("a group's number")))
}
