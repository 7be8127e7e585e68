//! A running PostgreSQL: the one that we are told of, or a private one that lives as long as the run.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Url;
use tempfile::TempDir;
use tokio::time::sleep;

use super::database::connect;
use crate::tools::process::Process;
use crate::tools::{PATIENCE, Result, free_address};

/// Where distributions put the programs of each version, none of them in the PATH.
const FOLDER: &str = "/usr/lib/postgresql";

pub struct Cluster {
    url: Url,
    private: Option<Private>,
}

/// Ended before its folder is removed: fields are dropped in order.
struct Private {
    process: Process,
    _folder: TempDir,
}

impl Cluster {
    pub async fn at(url: &str) -> Result<Self> {
        let url = Url::parse(url)?;
        connect(&url).await.map_err(|error| format!("{}: {error}", host(&url)))?;
        Ok(Self { url, private: None })
    }

    /// A new one with its defaults, so with fsync, in a temporary folder.
    pub async fn private() -> Result<Self> {
        let programs = programs().ok_or("no initdb found in the PATH or in the usual folder")?;
        let folder = tempfile::Builder::new().prefix("parlor-postgres-").tempdir()?;
        let owner = owner()?;
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group))?;
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
        Process::start("initdb", &mut initdb, folder.path())?.finish().await?;

        let address = free_address()?;
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        server.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
        let process = Process::start("postgres", &mut server, folder.path())?;
        let url = answering(address).await?;
        let private = Private { process, _folder: folder };
        Ok(Self { url, private: Some(private) })
    }

    /// The address of a database in which databases may be made.
    pub fn url(&self) -> &Url {
        &self.url
    }

    pub async fn describe(&self) -> Result<String> {
        let client = connect(&self.url).await?;
        let mut settings = Vec::new();
        for name in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
            let row = client.query_one(&format!("SHOW {name}"), &[]).await?;
            settings.push(format!("{name}={}", row.get::<_, String>(0)));
        }
        let whose = match self.private {
            Some(_) => "a private cluster with its defaults",
            None => "the cluster at PARLOR_TEST_POSTGRES",
        };
        let warning = match settings.contains(&"fsync=off".into()) {
            true => " **Without fsync its figures don't compare with anything durable.**",
            false => "",
        };
        Ok(format!("PostgreSQL, {whose}: {}{warning}", settings.join(", ")))
    }

    pub async fn close(self) -> Result<()> {
        match self.private {
            // To PostgreSQL, TERM means to wait until all clients have left; INT is to end now.
            Some(private) => private.process.stop("INT").await,
            None => Ok(()),
        }
    }
}

/// Its host and port: all of an address that may be printed.
fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(5432))
}

/// The folder of the newest version's programs.
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

/// PostgreSQL refuses to run as root: who runs it then, by user and group.
fn owner() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let line = line.ok_or("root can't run PostgreSQL, and there is no user postgres")?;
    // What follows the name: a password's place, the user's number, the group's number.
    let ids: Vec<u32> = line.split(':').skip(1).take(2).map(str::parse).collect::<Result<_, _>>()?;
    let [user, group] = ids[..] else {
        return Err("the user postgres has no numbers".into());
    };
    Ok(Some((user, group)))
}

/// Waits until the cluster answers, and gives its address.
async fn answering(address: SocketAddr) -> Result<Url> {
    let url = Url::parse(&format!("postgres://postgres@{address}/postgres"))?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = connect(&url).await {
        if Instant::now() > deadline {
            return Err(error);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(url)
}
