//! The routes, and the layers that every request passes.

use std::time::Duration;

use axum::Router;
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, Request};
use axum::middleware::map_request;
use axum::routing::{any, get};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::http::health::{self, StartProgress};
use crate::http::request_id::{REQUEST_ID, remove_invalid_id, request_id};
use crate::http::settings::{HttpSettings, WebOrigin};
use crate::http::state::HttpState;
use crate::http::{graphiql, graphql_http};

/// How long a browser may cache the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(86_400);
/// The policy of responses that are no pages: nothing may be loaded by them or embed them.
const DEFAULT_SECURITY_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Builds the router of the public address.
pub fn router(state: HttpState) -> Router {
    let settings = &state.settings;
    let mut router = Router::new()
        .route("/graphql", any(graphql_http::handle))
        // Only the API is open to other origins: the page of GraphiQL contains a token.
        .layer(cors(settings))
        // A response depends on the token, and on the media types that the client accepts.
        .layer(SetResponseHeaderLayer::appending(VARY, HeaderValue::from(AUTHORIZATION)))
        .layer(SetResponseHeaderLayer::appending(VARY, HeaderValue::from(ACCEPT)))
        .route("/healthz", get(health::liveness))
        .route("/readyz", get(health::readiness));
    if settings.is_development {
        router = router
            .route("/", get(graphiql::page))
            .route("/graphiql/cdn", get(graphiql::cdn_page))
            .route("/graphiql/{*file}", get(graphiql::asset));
    }
    with_common_layers(router.with_state(state))
}

/// Builds the router of a server that starts: it reports the health and asks to retry.
pub fn starting(settings: &HttpSettings, progress: StartProgress) -> Router {
    let router = Router::new()
        .route("/healthz", get(health::liveness))
        .route("/readyz", get(health::starting))
        .with_state(progress)
        .fallback(graphql_http::starting)
        .layer(cors(settings));
    with_common_layers(router)
}

/// Builds the router of the address for operators.
pub fn metrics() -> Router {
    with_common_layers(Router::new().route("/metrics", get(health::metrics)))
}

fn with_common_layers(router: Router) -> Router {
    // A response that may be cached, and a page, has a header of its own.
    let default_headers = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, DEFAULT_SECURITY_POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    // A compressed part would wait in the compressor for more data. The default excepts Server-Sent Events.
    let is_compressed = DefaultPredicate::new().and(NotForContentType::const_new("multipart/mixed"));
    let compression = CompressionLayer::new().compress_when(is_compressed);
    let router = router.layer(compression).layer(CatchPanicLayer::new());
    let router = default_headers.into_iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)))
    });
    router
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // The cause of a failure is logged where it is known, and an outage needs no line for each request.
        .layer(TraceLayer::new_for_http().make_span_with(request_span).on_failure(()))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(map_request(async |request: axum::extract::Request| remove_invalid_id(request)))
}

/// Creates the span of a request, with the path only: a query string can contain confidential data.
fn request_span<B>(request: &Request<B>) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id = request_id(request))
}

fn cors(settings: &HttpSettings) -> CorsLayer {
    let origins = match settings.cors_origins.as_slice() {
        [] if !settings.is_development => return CorsLayer::new(),
        origins if origins.iter().any(WebOrigin::is_any) => AllowOrigin::any(),
        _ => {
            let settings = settings.clone();
            AllowOrigin::predicate(move |origin, _| settings.allows_origin(origin))
        }
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID])
        .max_age(PREFLIGHT_MAX_AGE)
}
