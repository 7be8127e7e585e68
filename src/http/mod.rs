//! The outside: routes and transports. The only layer that knows axum.

pub mod content_negotiation;
pub mod graphiql;
pub mod graphql_http;
pub mod health;
pub mod server;
pub mod sse;
pub mod tcp_stream;
pub mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Request};
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::config::{HttpConfig, WebOrigin};
use crate::graphql::api::GraphqlService;

use crate::service::context::AppContext;

/// What handlers need.
#[derive(Clone)]
pub struct HttpState {
    pub app: Arc<AppContext>,
    pub api: Arc<GraphqlService>,
    /// Says that the server stops.
    pub stop: CancellationToken,
    /// The WebSockets that a stop waits for.
    pub sockets: TaskTracker,
    drain_slots: Arc<AtomicU64>,
}

impl HttpState {
    pub fn new(app: Arc<AppContext>, stop: CancellationToken) -> Self {
        let api = Arc::new(GraphqlService::new(app.clone()));
        Self { app, api, stop, sockets: TaskTracker::new(), drain_slots: Arc::default() }
    }

    /// A part of the whole, 0 to 1, for each who asks: the multiples of the golden ratio lie evenly however
    /// many there are.
    fn next_drain_fraction(&self) -> f64 {
        const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
        let number = self.drain_slots.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        (number as f64 * GOLDEN_RATIO).fract()
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every route, and what each request passes on its way.
pub fn router(state: HttpState) -> Router {
    let config = &state.app.config.http;
    let mut router = Router::new()
        .route("/graphql", any(graphql_http::handle))
        // The API alone is for other origins: GraphiQL's page has a token in it.
        .layer(cors(config))
        .route("/healthz", get(health::liveness))
        .route("/readyz", get(health::readiness));
    if state.app.config.is_development() {
        router = router.route("/", get(graphiql::page)).route("/graphiql/{*file}", get(graphiql::asset));
    }
    router
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::new())
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(request_span))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .with_state(state)
}

/// The path alone: a query string may hold what is nobody's to read.
fn request_span<B>(request: &Request<B>) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id = request_id(request))
}

/// The request's own id: the one it came with, or one made for it.
fn request_id<B>(request: &Request<B>) -> &str {
    let id = request.extensions().get::<RequestId>();
    id.and_then(|id| id.header_value().to_str().ok()).unwrap_or_default()
}

fn cors(config: &HttpConfig) -> CorsLayer {
    let origins = match config.cors_origins.as_slice() {
        [] => return CorsLayer::new(),
        origins if origins.iter().any(WebOrigin::is_any) => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID])
        .max_age(std::time::Duration::from_secs(86_400))
}
