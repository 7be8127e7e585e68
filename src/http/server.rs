//! The server: listens, reports its health from the beginning, and stops in an orderly way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::connections::{ConnectionLimits, ConnectionTable};
use crate::http::health::StartProgress;
use crate::http::listener::HttpListener;
use crate::http::routes::Routes;
use crate::http::settings::HttpSettings;
use crate::http::shutdown::Shutdown;
use crate::http::state::HttpState;
use crate::http::{descriptors, graphiql, router};

/// The shortest time that open requests get when the configured times are zero.
const MIN_SHUTDOWN_TIME: Duration = Duration::from_millis(100);
/// The maximum number of connections to the address of the metrics, which few programs read.
const MAX_METRICS_CONNECTIONS: usize = 32;

/// An address that is not available.
#[derive(Debug, thiserror::Error)]
#[error("{setting}={addr}: {source}")]
pub struct ListenError {
    /// The setting that contains the address.
    pub setting: &'static str,
    /// The configured address.
    pub addr: SocketAddr,
    /// The cause.
    pub source: io::Error,
}

/// The bound addresses of a server.
pub struct Listeners {
    api: TcpListener,
    metrics: Option<TcpListener>,
    /// The address of the API.
    pub addr: SocketAddr,
    /// The address of the metrics, if they are served.
    pub metrics_addr: Option<SocketAddr>,
}

/// A server that listens. Until [`Self::serve`] is called it reports its health only.
pub struct Server {
    routes: Arc<Routes>,
    api: JoinHandle<()>,
    /// Ends the metrics' listener, which serves until the server has stopped.
    stop_metrics: CancellationToken,
}

impl Listeners {
    /// Binds the configured addresses.
    ///
    /// # Errors
    ///
    /// Fails with the setting whose address is not available.
    pub async fn bind(settings: &HttpSettings) -> Result<Self, ListenError> {
        let (api, addr) = bind("PARLOR_ADDR", settings.addr).await?;
        let (metrics, metrics_addr) = match settings.metrics_addr {
            Some(addr) => Some(bind("PARLOR_METRICS_ADDR", addr).await?).unzip(),
            None => (None, None),
        };
        Ok(Self { api, metrics, addr, metrics_addr })
    }
}

async fn bind(setting: &'static str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound = async {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        Ok((listener, local_addr))
    };
    bound.await.map_err(|source| ListenError { setting, addr, source })
}

impl Server {
    /// Accepts connections, and reports at `/healthz` and `/readyz` that the server starts.
    ///
    /// `database_descriptors` is the number of file descriptors that the database may use. The tasks of the listeners
    /// end with `shutdown`; if one panics, its address is not served any longer.
    pub fn start(
        listeners: Listeners,
        settings: &HttpSettings,
        database_descriptors: usize,
        progress: &StartProgress,
        shutdown: &Shutdown,
    ) -> Self {
        let write_timeout = settings.socket_write_timeout;
        let reserved = database_descriptors + MAX_METRICS_CONNECTIONS;
        let max_connections = descriptors::available_connections(settings.connections.max_connections, reserved);
        let limits = ConnectionLimits { max_connections, ..settings.connections.clone() };
        let routes = Arc::new(Routes::new(router::starting(settings, progress.clone())));
        let api = HttpListener {
            listener: listeners.api,
            connections: ConnectionTable::start(limits),
            routes: routes.clone(),
            write_timeout,
        };
        let stop_metrics = CancellationToken::new();
        if let Some(listener) = listeners.metrics {
            let max_connections = MAX_METRICS_CONNECTIONS;
            let max_address_connections = MAX_METRICS_CONNECTIONS;
            let limits = ConnectionLimits { max_connections, max_address_connections, ..settings.connections.clone() };
            let connections = ConnectionTable::start(limits);
            let metrics =
                HttpListener { listener, connections, routes: Arc::new(Routes::new(router::metrics())), write_timeout };
            tokio::spawn(metrics.serve(stop_metrics.clone()));
        }
        Self { routes, api: tokio::spawn(api.serve(shutdown.stop.clone())), stop_metrics }
    }

    /// Serves all routes from now on, and returns a future that ends when the server has stopped.
    ///
    /// A stop has these steps: no connection is accepted; WebSockets and event streams close over the drain
    /// period, so that their clients reconnect to other nodes; running requests get the shutdown timeout to end; and
    /// the presence of this node's users, its departure and the database are flushed.
    pub fn serve(self, state: HttpState) -> impl Future<Output = ()> + Send + 'static {
        let state = Arc::new(state);
        if state.settings.is_development && !graphiql::is_built() {
            tracing::warn!("GraphiQL was not built into this binary: its page loads from a CDN");
        }
        self.routes.replace(router::router(state.clone()));
        async move {
            let served = async {
                if let Err(error) = self.api.await {
                    tracing::error!(%error, "the listener failed");
                }
                state.sockets.close();
                state.sockets.wait().await;
            };
            let shutdown_time = state.settings.drain_period + state.settings.shutdown_timeout;
            let timed_out = async {
                state.stop.cancelled().await;
                tokio::time::sleep(shutdown_time.max(MIN_SHUTDOWN_TIME)).await;
            };
            tokio::select! {
                () = served => {}
                () = timed_out => tracing::warn!("the shutdown timed out with requests or sockets still open"),
            }
            let app = &state.app;
            app.presence.shutdown(&app.database).await;
            app.publisher.announce_shutdown().await;
            app.database.close();
            self.stop_metrics.cancel();
        }
    }
}
