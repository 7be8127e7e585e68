//! Reference servers, which run as child processes so that they are measured like Parlor.

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

/// The number of events that a slow connection can be behind without loss.
///
/// It exceeds every number in flight.
const BACKLOG: usize = 1_024;

/// A server that Parlor is compared with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reference {
    /// The minimal WebSocket server, which sends the same bytes to each subscriber.
    RawBroadcast,
    /// The stock async-graphql server with its handler for axum.
    AsyncGraphql,
}

impl Reference {
    fn name(self) -> &'static str {
        match self {
            Self::RawBroadcast => "raw-broadcast",
            Self::AsyncGraphql => "async-graphql",
        }
    }

    /// Starts the server as a child process of the same executable, and waits until it is ready.
    pub async fn start(self, folder: &Path) -> Result<(ChildProcess, SocketAddr)> {
        let address = free_addr();
        let mut command = Command::new(env::current_exe()?);
        command.args(["--reference", self.name(), "--address", &address.to_string()]);
        let mut process = ChildProcess::start(self.name(), &mut command, folder);
        process.wait_until_ready(address).await;
        Ok((process, address))
    }
}

/// Runs a reference server until the parent process kills it or ends.
///
/// A thread exits the process at the end of the standard input, which is a pipe from the parent.
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
    // Without TCP_NODELAY the kernel can delay small messages by 40 ms.
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    Ok(axum::serve(listener, router).await?)
}
