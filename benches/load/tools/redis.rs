//! A Redis of a run's own, which keeps nothing.

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::process::Process;
use super::{PATIENCE, Result, free_address, within};

const PROGRAM: &str = "redis-server";

pub struct Redis {
    pub process: Process,
    address: SocketAddr,
}

impl Redis {
    /// Whether the PATH has it.
    pub fn is_there() -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file())
    }

    pub async fn start(folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no"]).current_dir(folder);
        let process = Process::start(PROGRAM, &mut command, folder)?;
        let answering = async {
            while !answers(address).await {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        within(PATIENCE, "the start of Redis", answering).await?;
        Ok(Self { process, address })
    }

    /// As `REDIS_URL` has it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

async fn answers(address: SocketAddr) -> bool {
    let mut answer = [0; 5];
    let ping = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_exact(&mut answer).await
    };
    ping.await.is_ok() && answer == *b"+PONG"
}
