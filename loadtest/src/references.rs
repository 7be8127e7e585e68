//! Servers to compare with, each a child process of its own so that it is measured like Parlor.

mod async_graphql_reference;
mod raw_broadcast;

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, exit};
use std::thread;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use clap::ValueEnum;
use testkit::process::{ChildProcess, free_addr};
use tokio::net::TcpListener;

use crate::tools::Result;

/// Events that a slow connection may fall behind before it loses some: more than are ever under way.
const BACKLOG: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reference {
    /// The least that a WebSocket server can do: the same bytes to each.
    RawBroadcast,
    /// What one gets from async-graphql and its handler for axum as they come.
    AsyncGraphql,
}

impl Reference {
    fn name(self) -> &'static str {
        match self {
            Self::RawBroadcast => "raw-broadcast",
            Self::AsyncGraphql => "async-graphql",
        }
    }

    /// Starts it as a child: this same program, told to be that server.
    pub async fn start(self, folder: &Path) -> Result<(ChildProcess, SocketAddr)> {
        let address = free_addr();
        let mut command = Command::new(env::current_exe()?);
        command.args(["--reference", self.name(), "--address", &address.to_string()]);
        let mut process = ChildProcess::start(self.name(), &mut command, folder);
        process.wait_until_ready(address).await;
        Ok((process, address))
    }
}

/// Is that server, until the parent ends it or has gone.
pub async fn serve(reference: Reference, address: SocketAddr) -> Result<()> {
    thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        exit(0);
    });
    let router: Router = match reference {
        Reference::RawBroadcast => raw_broadcast::router(),
        Reference::AsyncGraphql => async_graphql_reference::router(),
    };
    let router = router.route("/readyz", get(async || "ready"));
    // As any server of small messages should: else the kernel holds them back for 40 ms at times.
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    Ok(axum::serve(listener, router).await?)
}
