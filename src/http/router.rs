//! The routes, and the layers that every request passes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, Request, Response};
use axum::routing::{any, get};
use tower::ServiceBuilder;
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
pub fn router(state: Arc<HttpState>) -> Router {
    let settings = &state.settings;
    let mut router = Router::new()
        .route("/graphql", any(graphql_http::handle))
        .layer(
            ServiceBuilder::new()
                // A response depends on the media types that the client accepts, and on the token.
                .layer(SetResponseHeaderLayer::appending(VARY, HeaderValue::from(ACCEPT)))
                .layer(SetResponseHeaderLayer::appending(VARY, HeaderValue::from(AUTHORIZATION)))
                // Only the API is open to other origins: the page of GraphiQL contains a token.
                .layer(cors(settings)),
        )
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

/// Adds the layers of every route.
///
/// They are one stack, because each layer that a router gets on its own takes an allocation for every request.
fn with_common_layers(router: Router) -> Router {
    // A compressed part would wait in the compressor for more data. The default excepts Server-Sent Events.
    let is_compressed = DefaultPredicate::new().and(NotForContentType::const_new("multipart/mixed"));
    // The first layer is the outermost one.
    let layers = ServiceBuilder::new()
        .map_request(remove_invalid_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        // The cause of a failure is logged where it is known, and an outage needs no line for each request.
        .layer(TraceLayer::new_for_http().make_span_with(request_span).on_failure(()))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .map_response(with_default_headers)
        .layer(CatchPanicLayer::new())
        .layer(CompressionLayer::new().compress_when(is_compressed));
    router.layer(layers)
}

/// Sets the headers that a response has unless it has its own, as one that may be cached and a page do.
fn with_default_headers<B>(mut response: Response<B>) -> Response<B> {
    let default_headers = [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, DEFAULT_SECURITY_POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in default_headers {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Creates the span of a request, with the path only: a query string can contain confidential data.
fn request_span<B>(request: &Request<B>) -> Span {
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id = request_id(request.extensions()))
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
