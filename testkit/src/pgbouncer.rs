//! A private `PgBouncer` in front of the PostgreSQL server of the tests.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{ChildProcess, free_port};
use crate::{Database, wait_until};

/// A connection pooler, which is killed when this value is dropped.
pub struct PgBouncer {
    addr: SocketAddr,
    _process: ChildProcess,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts a pooler in a mode such as `transaction`, without support for prepared statements.
    pub async fn start(database: &Database, mode: &str) -> Self {
        let (server, port) = (database.postgres_addr(), free_port());
        // The setting exists since version 1.21; earlier versions keep no prepared statements.
        let statements = if keeps_statements() { "max_prepared_statements = 0\n" } else { "" };
        let settings = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 8\n\
             server_tls_sslmode = disable\n{statements}",
            server.ip(),
            server.port()
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new("pgbouncer");
        if rustix::process::getuid().is_root() {
            // It does not run as root, and reads its settings before it changes its user.
            command.args(["--user", "nobody"]);
        }
        let process = ChildProcess::start("pgbouncer", command.arg(&file), folder.path());
        let pooler = Self { addr: (Ipv4Addr::LOCALHOST, port).into(), _process: process, _folder: folder };
        let is_ready = async || tokio::net::TcpStream::connect(pooler.addr).await.is_ok();
        wait_until("PgBouncer listens", is_ready).await;
        pooler
    }

    /// Returns the address at which the pooler listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Returns true if the installed version can keep prepared statements in transaction mode.
fn keeps_statements() -> bool {
    let output = Command::new("pgbouncer").arg("--version").output().expect("pgbouncer in the PATH");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().nth(1).expect("a version");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().expect("a number"));
    (numbers.next(), numbers.next()) >= (Some(1), Some(21))
}
