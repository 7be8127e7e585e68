//! A private PostgreSQL server with default settings, for runs without `PARLOR_TEST_POSTGRES`.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::TIMEOUT;
use crate::database::connect_postgres;
use crate::process::{ChildProcess, free_addr};

/// The folder, outside the PATH, in which distributions install the programs of each version.
const FOLDER: &str = "/usr/lib/postgresql";

/// A PostgreSQL server that is killed when this value is dropped.
pub struct PostgresServer {
    url: String,
    addr: SocketAddr,
    /// The process must end before its folder is removed, and fields are dropped in order.
    process: ChildProcess,
    _folder: TempDir,
}

impl PostgresServer {
    /// Returns true if PostgreSQL's programs are installed.
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    /// Starts a server in a temporary folder. Its default settings include fsync.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server that offers TLS with a certificate and its key, both in PEM.
    pub async fn start_with_certificate(certificate: &str, key: &str) -> Self {
        Self::start_with(Some((certificate, key))).await
    }

    /// Starts a streaming replica of this server, which the server's settings allow from this machine.
    pub async fn start_replica(&self) -> Self {
        let folder = create_folder();
        let mut backup = command("pg_basebackup", folder.path());
        backup.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--write-recovery-conf"]);
        backup.args(["--dbname", &self.url]);
        backup.arg("--pgdata").arg(folder.path().join("data"));
        ChildProcess::start("pg_basebackup", &mut backup, folder.path()).finish().await;
        // The primary has everything that the replica could lose.
        Self::serve(folder, &["fsync=off".to_owned()]).await
    }

    async fn start_with(certificate: Option<(&str, &str)>) -> Self {
        let folder = create_folder();
        let mut initdb = command("initdb", folder.path());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        initdb.arg("--pgdata").arg(folder.path().join("data"));
        ChildProcess::start("initdb", &mut initdb, folder.path()).finish().await;

        let mut settings = Vec::new();
        if let Some((certificate, key)) = certificate {
            for (name, text, setting) in [("tls.crt", certificate, "ssl_cert_file"), ("tls.key", key, "ssl_key_file")] {
                let path = folder.path().join(name);
                fs::write(&path, text).expect("a writable folder");
                // PostgreSQL refuses a key that others can read.
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("an own file");
                if let Some((user, group)) = owner() {
                    chown(&path, Some(user), Some(group)).expect("root can change the owner of a file");
                }
                settings.push(format!("{setting}={}", path.display()));
            }
            settings.push("ssl=on".to_owned());
        }
        Self::serve(folder, &settings).await
    }

    /// Starts the server of the data in a folder, and waits until it answers.
    async fn serve(folder: TempDir, settings: &[String]) -> Self {
        let addr = free_addr();
        let mut server = command("postgres", folder.path());
        server.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
        server.args(["-h", "127.0.0.1", "-p", &addr.port().to_string()]);
        for setting in settings {
            server.args(["-c", setting]);
        }
        let process = ChildProcess::start("postgres", &mut server, folder.path());
        let url = format!("postgres://postgres@{addr}/postgres");
        let start = Instant::now();
        while let Err(error) = connect_postgres(&url).await {
            assert!(start.elapsed() < TIMEOUT, "PostgreSQL: {error}\n{}", process.log_tail());
            sleep(Duration::from_millis(50)).await;
        }
        Self { url, addr, process, _folder: folder }
    }

    /// Returns the address at which the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the URL of a database whose user can create databases.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server.
    pub async fn stop(self) {
        // On TERM, PostgreSQL waits for its clients to disconnect; on INT it disconnects them.
        self.process.stop("INT").await;
    }
}

/// Creates a folder that belongs to the user who runs PostgreSQL's programs.
fn create_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("parlor-postgres-").tempdir().expect("a temporary folder");
    if let Some((user, group)) = owner() {
        chown(folder.path(), Some(user), Some(group)).expect("root can change the owner of a folder");
    }
    folder
}

/// Returns the command that runs a program of PostgreSQL in a folder, as the folder's owner.
fn command(program: &str, folder: &Path) -> Command {
    let programs = programs().expect("initdb in the PATH or below /usr/lib/postgresql");
    let mut command = Command::new(programs.join(program));
    command.current_dir(folder);
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
    command
}

/// Returns the folder with `initdb`: the first in the PATH, otherwise that of the newest version.
///
/// If the PATH has a link to it, the folder is that of the file itself, which has the other programs too.
fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    folders.extend(versions.into_iter().map(|version| version.join("bin")));
    let initdb = folders.into_iter().find_map(|folder| fs::canonicalize(folder.join("initdb")).ok())?;
    initdb.parent().map(Path::to_owned)
}

/// Returns the ids of the user and group `postgres` if this process runs as root.
///
/// PostgreSQL refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users of this machine");
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let line = line.expect("a user named postgres, because PostgreSQL refuses to run as root");
    // Fields of a passwd line: name, password, user id, group id.
    let mut numbers = line.split(':').skip(1).map(|number| number.parse().expect("a number"));
    Some((numbers.next().expect("a user id"), numbers.next().expect("a group id")))
}
