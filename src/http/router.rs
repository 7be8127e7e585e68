//! The routes, and the layers that every request passes.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method, Request};
use axum::routing::{any, get};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::http::request_id::{REQUEST_ID, request_id};
use crate::http::settings::{HttpSettings, WebOrigin};
use crate::http::state::HttpState;
use crate::http::{graphiql, graphql_http, health};

/// How long a browser may cache the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(86_400);

/// Builds the router of the public address.
pub fn router(state: HttpState) -> Router {
    let settings = &state.settings;
    let mut router = Router::new()
        .route("/graphql", any(graphql_http::handle))
        // Only the API is open to other origins: the page of GraphiQL contains a token.
        .layer(cors(settings))
        .route("/healthz", get(health::liveness))
        .route("/readyz", get(health::readiness));
    if settings.serves_graphiql {
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

/// Creates the span of a request, with the path only: a query string can contain confidential data.
fn request_span<B>(request: &Request<B>) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id = request_id(request))
}

fn cors(settings: &HttpSettings) -> CorsLayer {
    let origins = match settings.cors_origins.as_slice() {
        [] => return CorsLayer::new(),
        origins if origins.iter().any(WebOrigin::is_any) => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID])
        .max_age(PREFLIGHT_MAX_AGE)
}
