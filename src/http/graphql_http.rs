//! GraphQL over HTTP: <https://graphql.github.io/graphql-over-http/draft/>
//!
//! The function `status` has the table of the specification's statuses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State as Extract, WebSocketUpgrade};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::admission::request::{AdmittedRequest, GraphqlRequest, RejectedRequest};
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::operation_guards::OperationGuards;
use crate::http::bearer::authenticate;
use crate::http::content_negotiation::{AcceptedFormats, MediaType, is_json};
use crate::http::event_format::EventFormat;
use crate::http::event_stream;
use crate::http::request_id::request_id;
use crate::http::session_watch;
use crate::http::state::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::upgrade;
use crate::realtime::sessions::Session;
use crate::service;
use crate::service::context::AppContext;
use crate::service::quotas::{Quota, QuotaGuard};

/// The number of bytes over a body's limit that are read and discarded.
///
/// A client that is still sending when the connection closes does not read the error.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;

/// The party that sent a request.
struct Client {
    /// `None` for a client without a token.
    viewer: Option<Arc<Viewer>>,
    /// The connection of the request.
    writer: Option<SharedTcpWriter>,
}

impl Client {
    /// Opens a session for a response that the client may still be reading when its token becomes invalid.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the token was revoked already.
    fn limit_to_session(
        self,
        app: &AppContext,
        response: &GraphqlResponse,
    ) -> Result<Option<(Arc<Session>, SharedTcpWriter)>> {
        let Some((viewer, writer)) = self.viewer.zip(self.writer) else { return Ok(None) };
        if !session_watch::is_long(response.body.as_bytes()) {
            return Ok(None);
        }
        Ok(Some((service::sessions::open_for_viewer(app, viewer)?, writer)))
    }
}

/// The outcome of a request, as far as its status and headers depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The operation was executed; fields may have failed.
    Executed,
    /// The request is well-formed, but its document, its operation or its variables are not valid.
    Rejected,
    /// The client has to send the document whose hash it sent.
    PersistedQueryNotFound,
    /// The request is not a GraphQL request.
    Malformed,
    Unauthenticated,
    MethodNotAllowed {
        allow: &'static str,
    },
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    /// Another server has the organisation.
    Moved,
    InternalError,
    Unavailable,
}

/// Returns the status of a response.
///
/// | Outcome                                | `application/graphql-response+json` | `application/json` |
/// |----------------------------------------|-------------------------------------|--------------------|
/// | executed, even with errors of fields   | 200                                 | 200                |
/// | document or variables are not valid    | 400                                 | 200                |
/// | no GraphQL request, such as broken JSON| 400                                 | 400                |
/// | persisted query is not known           | 200                                 | 200                |
///
/// The first three rows are those of the specification (sections "application/json" and
/// "application/graphql-response+json"). Clients of persisted queries expect the fourth: they take the
/// error as a result and send the document. All other outcomes are those of HTTP itself (RFC 9110, section 15).
fn status(outcome: Outcome, media_type: MediaType) -> StatusCode {
    match (outcome, media_type) {
        (Outcome::Executed | Outcome::PersistedQueryNotFound, _) => StatusCode::OK,
        (Outcome::Rejected, MediaType::Json) => StatusCode::OK,
        (Outcome::Rejected, MediaType::GraphqlResponse) => StatusCode::BAD_REQUEST,
        (Outcome::Malformed, _) => StatusCode::BAD_REQUEST,
        (Outcome::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Outcome::MethodNotAllowed { .. }, _) => StatusCode::METHOD_NOT_ALLOWED,
        (Outcome::NotAcceptable, _) => StatusCode::NOT_ACCEPTABLE,
        (Outcome::PayloadTooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (Outcome::UnsupportedMediaType, _) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (Outcome::TooManyRequests, _) => StatusCode::TOO_MANY_REQUESTS,
        (Outcome::Moved, _) => StatusCode::MISDIRECTED_REQUEST,
        (Outcome::InternalError, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (Outcome::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Handles `/graphql`: POST, GET, and the upgrade to a WebSocket.
pub async fn handle(Extract(state): Extract<Arc<HttpState>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.headers.contains_key("sec-websocket-key") {
        return match <(WebSocketUpgrade, ConnectInfo<SharedTcpWriter>)>::from_request_parts(&mut parts, &()).await {
            Ok((upgrade, ConnectInfo(writer))) => upgrade::upgrade(state, &parts.headers, upgrade, writer),
            Err(rejection) => rejection,
        };
    }
    let accepted = AcceptedFormats::from_headers(&parts.headers);
    // An error that occurs before the first event is sent as JSON.
    let for_events = accepted.event_format.map(|_| MediaType::Json);
    let Some(media_type) = accepted.media_type.or(for_events) else {
        let error = Error::BadRequest(
            "the response can be application/graphql-response+json, application/json, text/event-stream or \
             multipart/mixed with subscriptionSpec=1.0"
                .into(),
        );
        return respond_error(MediaType::Json, Outcome::NotAcceptable, &error);
    };
    let request = match parts.method {
        Method::POST => read_post(&state, &parts.headers, body).await,
        Method::GET => read_query_string(&parts.uri).map_err(|error| (Outcome::Malformed, error)),
        _ => {
            let error = Error::BadRequest("only GET and POST are served here".into());
            Err((Outcome::MethodNotAllowed { allow: "GET, POST" }, error))
        }
    };
    match request {
        Ok(request) => run(&state, &parts, request, accepted, media_type).await,
        Err((outcome, error)) => respond_error(media_type, outcome, &error),
    }
}

/// Responds that the server has not started yet.
pub async fn starting() -> Response {
    let error = Error::unavailable("the server is starting");
    let response = respond_error(MediaType::Json, Outcome::Unavailable, &error);
    ([(RETRY_AFTER, HeaderValue::from_static("1"))], response).into_response()
}

/// Reads the request in the body of a POST.
async fn read_post(state: &HttpState, headers: &HeaderMap, body: Body) -> Result<GraphqlRequest, (Outcome, Error)> {
    // The body is read to its end before the request is rejected: a connection that is closed with unread
    // input is reset, and the client never reads the error.
    let body = read_body(body, state.settings.max_body_bytes, state.settings.body_timeout).await;
    let body = body.map_err(|error| match error {
        Error::PayloadTooLarge(_) => (Outcome::PayloadTooLarge, error),
        _ => (Outcome::Malformed, error),
    })?;
    if !is_json(headers) {
        let error = Error::BadRequest("the body must be application/json in UTF-8".into());
        return Err((Outcome::UnsupportedMediaType, error));
    }
    GraphqlRequest::parse(&body).map_err(|error| (Outcome::Malformed, error))
}

/// Authenticates, admits and executes a request.
async fn run(
    state: &Arc<HttpState>,
    parts: &Parts,
    request: GraphqlRequest,
    accepted: AcceptedFormats,
    media_type: MediaType,
) -> Response {
    let request_id = request_id(&parts.extensions);
    // A request without a document is malformed, unlike a request with a document that is not valid.
    let is_malformed = !request.has_document();
    let viewer = match authenticate(&state.app, &parts.headers).await {
        Ok(viewer) => viewer,
        Err(error) => return respond_authentication_error(media_type, &error, request_id),
    };
    let client =
        Client { viewer, writer: parts.extensions.get().map(|ConnectInfo(writer)| SharedTcpWriter::clone(writer)) };
    let guards = match acquire(&state.app.quotas.operations, &client) {
        Ok(execution) => OperationGuards { execution, operation: None },
        Err(error) => return respond_quota_error(media_type, &error),
    };
    let admitted = state.api.admit(request, client.viewer.is_some());
    let kind = admitted.as_ref().ok().map(AdmittedRequest::kind);
    // A client that accepts events and JSON gets events for a subscription only.
    let wants_events = !is_malformed && (kind == Some(OperationKind::Subscription) || accepted.media_type.is_none());
    let event_format = accepted.event_format.filter(|_| wants_events);
    match (kind, event_format) {
        (Some(OperationKind::Mutation), _) if parts.method == Method::GET => {
            let error = Error::BadRequest("a mutation can't be run by GET".into());
            return respond_error(media_type, Outcome::MethodNotAllowed { allow: "POST" }, &error);
        }
        (_, Some(format)) => {
            return respond_events(state, format, admitted, client, guards, media_type, request_id);
        }
        (Some(OperationKind::Subscription), None) => {
            let error = Error::BadRequest(
                "a subscription needs the WebSocket at this address, text/event-stream, or multipart/mixed with \
                 subscriptionSpec=1.0"
                    .into(),
            );
            return respond_error(media_type, Outcome::Rejected, &error);
        }
        (_, None) => {}
    }
    match admitted {
        Ok(admitted) => execute(state, admitted, client, guards, media_type, request_id).await,
        Err(rejected) => {
            let outcome = match () {
                () if is_malformed => Outcome::Malformed,
                () if rejected.is_persisted_query_not_found() => Outcome::PersistedQueryNotFound,
                () => Outcome::Rejected,
            };
            respond(media_type, outcome, rejected.into_graphql_response())
        }
    }
}

/// Executes a query or a mutation on a task of its own, which a disconnect of the client does not end.
///
/// A panic of the task becomes an internal error. The result of a query is discarded if the token has become invalid
/// meanwhile; that of a mutation is not unless it is long, as the client has to know what was changed.
async fn execute(
    state: &HttpState,
    admitted: AdmittedRequest,
    client: Client,
    guards: OperationGuards,
    media_type: MediaType,
    request_id: &str,
) -> Response {
    let (api, kind) = (state.api.clone(), admitted.kind());
    let id = request_id.to_owned();
    let requester = client.viewer.clone().map_or(Requester::Anonymous, Requester::Viewer);
    let execution = async move { api.execute(admitted, requester, &id, guards).await };
    match tokio::spawn(tracing::Instrument::instrument(execution, tracing::Span::current())).await {
        Ok(response) => {
            let outcome = if response.executed { Outcome::Executed } else { Outcome::Rejected };
            let result = match &client.viewer {
                Some(viewer) if kind == OperationKind::Query => service::users::require_valid(&state.app, viewer),
                _ => Ok(()),
            };
            match result.and_then(|()| client.limit_to_session(&state.app, &response)) {
                Ok(session) => respond_in_session(media_type, outcome, response, session),
                Err(error) => respond_authentication_error(media_type, &error, request_id),
            }
        }
        Err(panic) => respond_server_error(media_type, Outcome::InternalError, &Error::internal(panic), request_id),
    }
}

/// Responds with the events of an operation, on a session that ends with the token.
fn respond_events(
    state: &Arc<HttpState>,
    format: EventFormat,
    admitted: Result<AdmittedRequest, RejectedRequest>,
    client: Client,
    guards: OperationGuards,
    media_type: MediaType,
    request_id: &str,
) -> Response {
    let quota = match acquire(&state.app.quotas.event_streams, &client) {
        Ok(quota) => quota,
        Err(error) => return respond_quota_error(media_type, &error),
    };
    let Client { viewer, writer } = client;
    let session = viewer.map(|viewer| service::sessions::open_for_viewer(&state.app, viewer)).transpose();
    match session {
        Ok(session) => event_stream::respond(state, format, admitted, session, writer, quota, guards),
        Err(error) => respond_authentication_error(media_type, &error, request_id),
    }
}

/// Holds one of a quota for the client's viewer; an anonymous client has no quotas.
fn acquire(quota: &Arc<Quota>, client: &Client) -> Result<Option<QuotaGuard>> {
    client.viewer.as_ref().map(|viewer| quota.acquire(&viewer.key())).transpose()
}

/// Reads a body up to its limit, and discards a bounded number of bytes beyond it.
async fn read_body(body: Body, limit: usize, timeout: Duration) -> Result<Bytes> {
    let too_large = || Error::PayloadTooLarge(format!("the body is larger than {limit} bytes"));
    let mut body = Limited::new(body, limit.saturating_add(MAX_DISCARDED_BYTES));
    let reading = async {
        let (mut bytes, mut length) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| match length > limit {
                true => too_large(),
                false => Error::BadRequest("the body ended early".into()),
            })?;
            let Ok(chunk) = frame.into_data() else { continue };
            length += chunk.len();
            if length <= limit {
                bytes.extend_from_slice(&chunk);
            }
        }
        if length > limit { Err(too_large()) } else { Ok(bytes.into()) }
    };
    let result = tokio::time::timeout(timeout, reading).await;
    result
        .unwrap_or_else(|_| Err(Error::BadRequest(format!("the body took longer than {} seconds", timeout.as_secs()))))
}

/// Reads a GET request, whose `variables` and `extensions` are JSON objects.
///
/// A parameter without a value counts as missing, as in the forms of some clients. An empty document does not.
fn read_query_string(uri: &Uri) -> Result<GraphqlRequest> {
    let Query(mut pairs) = Query::<HashMap<String, String>>::try_from_uri(uri)
        .map_err(|error| Error::BadRequest(format!("the query string can't be read: {error}")))?;
    let mut parameter = |name: &str| pairs.remove(name).filter(|value| !value.trim().is_empty());
    let mut object = |name: &str| match parameter(name) {
        None => Ok(None),
        Some(json) => serde_json::from_str(&json)
            .map_err(|error| Error::BadRequest(format!("{name} must be a JSON object: {error}"))),
    };
    let (variables, extensions) = (object("variables")?, object("extensions")?);
    Ok(GraphqlRequest {
        operation_name: parameter("operationName"),
        query: pairs.remove("query"),
        variables,
        extensions,
    })
}

fn respond_authentication_error(media_type: MediaType, error: &Error, request_id: &str) -> Response {
    let outcome = match error {
        Error::Unauthenticated { .. } => Outcome::Unauthenticated,
        Error::Moved { .. } => Outcome::Moved,
        Error::Unavailable { .. } => Outcome::Unavailable,
        _ => Outcome::InternalError,
    };
    respond_server_error(media_type, outcome, error, request_id)
}

/// Responds that a quota is used up, with the seconds after which to try again.
fn respond_quota_error(media_type: MediaType, error: &Error) -> Response {
    let mut response = respond_error(media_type, Outcome::TooManyRequests, error);
    if let Error::RateLimited { retry_after, .. } = error {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    }
    response
}

/// Responds with an error of the client.
fn respond_error(media_type: MediaType, outcome: Outcome, error: &Error) -> Response {
    respond(media_type, outcome, RejectedRequest::from(error).into_graphql_response())
}

/// Responds with an error whose cause is logged under the request's id if it is internal.
fn respond_server_error(media_type: MediaType, outcome: Outcome, error: &Error, request_id: &str) -> Response {
    respond(media_type, outcome, RejectedRequest::with_request_id(error, request_id).into_graphql_response())
}

/// Responds, and breaks off when the session of a long response ends.
fn respond_in_session(
    media_type: MediaType,
    outcome: Outcome,
    response: GraphqlResponse,
    session: Option<(Arc<Session>, SharedTcpWriter)>,
) -> Response {
    let Some((session, writer)) = session else { return respond(media_type, outcome, response) };
    let body = response.body.into_bytes();
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type.content_type())),
        (CONTENT_LENGTH, HeaderValue::from(body.len())),
    ];
    (status(outcome, media_type), headers, session_watch::long_body(body, session, writer)).into_response()
}

fn respond(media_type: MediaType, outcome: Outcome, response: GraphqlResponse) -> Response {
    let content_type = [(CONTENT_TYPE, HeaderValue::from_static(media_type.content_type()))];
    let mut response = (status(outcome, media_type), content_type, response.body.into_bytes()).into_response();
    let header = match outcome {
        Outcome::MethodNotAllowed { allow } => Some((ALLOW, allow)),
        Outcome::Unauthenticated => Some((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")),
        _ => None,
    };
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
