//! GraphQL over HTTP, by its specification.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State as Extract, WebSocketUpgrade};
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::graphql::api::{GraphqlRequest, GraphqlResponse, RejectedRequest};
use crate::graphql::schema::context::Requester;
use crate::http::content_negotiation::{MediaType, accepts_event_stream, is_json, negotiate};
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::upgrade;
use crate::http::{HttpState, request_id, sse};
use crate::service;

/// Bytes over the limit of a body that are still read, so that its sender gets to hear of the limit.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;
/// Longest time that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// `/graphql`: POST and GET, and the WebSocket.
pub async fn handle(Extract(state): Extract<HttpState>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.headers.contains_key("sec-websocket-key") {
        return match <(WebSocketUpgrade, ConnectInfo<SharedTcpWriter>)>::from_request_parts(&mut parts, &()).await {
            Ok((upgrade, ConnectInfo(wire))) => upgrade::upgrade(state, &parts.headers, upgrade, wire),
            Err(refused) => refused,
        };
    }
    let request = Request::from_parts(parts, body);
    // What is refused before an event could tell it is JSON.
    let json = accepts_event_stream(request.headers()).then_some(MediaType::Json);
    let Some(media) = negotiate(request.headers()).or(json) else {
        let error = Error::BadRequest(
            "the response can be application/graphql-response+json, application/json or text/event-stream".into(),
        );
        return reject(MediaType::Json, StatusCode::NOT_ACCEPTABLE, &error);
    };
    match *request.method() {
        Method::POST => post(&state, request, media).await,
        Method::GET => get(&state, request, media).await,
        _ => {
            let error = Error::BadRequest("only GET and POST are served here".into());
            let mut response = reject(media, StatusCode::METHOD_NOT_ALLOWED, &error);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            response
        }
    }
}

async fn post(state: &HttpState, request: Request, media: MediaType) -> Response {
    let id = request_id(&request).to_owned();
    let (parts, body) = request.into_parts();
    // The body is read to its end before anything is refused: a connection closed with input unread
    // is reset, and the client never sees why.
    let body = match read_body(body, state.app.config.http.max_body_bytes).await {
        Ok(body) => body,
        Err(error @ Error::PayloadTooLarge(_)) => return reject(media, StatusCode::PAYLOAD_TOO_LARGE, &error),
        Err(error) => return reject(media, StatusCode::BAD_REQUEST, &error),
    };
    if !is_json(&parts.headers) {
        let error = Error::BadRequest("the body must be application/json in UTF-8".into());
        return reject(media, StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
    }
    match GraphqlRequest::parse(&body) {
        Ok(envelope) => run(state, &parts.headers, envelope, media, Method::POST, id).await,
        Err(error) => reject(media, StatusCode::BAD_REQUEST, &error),
    }
}

async fn get(state: &HttpState, request: Request, media: MediaType) -> Response {
    let id = request_id(&request).to_owned();
    match read_query_string(&request) {
        Ok(envelope) => run(state, request.headers(), envelope, media, Method::GET, id).await,
        Err(error) => reject(media, StatusCode::BAD_REQUEST, &error),
    }
}

async fn run(
    state: &HttpState,
    headers: &HeaderMap,
    envelope: GraphqlRequest,
    media: MediaType,
    method: Method,
    request_id: String,
) -> Response {
    // A document that is missing altogether is a malformed request, whatever its media type.
    let malformed = envelope.query.is_none()
        && envelope.extensions.as_ref().is_none_or(|extensions| !extensions.contains_key("persistedQuery"));
    let viewer = match authenticate(state, headers).await {
        Ok(viewer) => viewer,
        Err(error) => return respond_unauthenticated(media, &error, &request_id),
    };
    let admitted = state.api.admit(envelope);
    let is_subscription =
        admitted.as_ref().is_ok_and(|admitted| admitted.operation_type == OperationType::Subscription);
    // A client that takes both means events for a subscription alone.
    if accepts_event_stream(headers) && !malformed && (is_subscription || negotiate(headers).is_none()) {
        if admitted.as_ref().is_ok_and(|admitted| admitted.operation_type == OperationType::Mutation)
            && method == Method::GET
        {
            return reject_mutation_by_get(media);
        }
        let session = viewer.map(|viewer| service::sessions::open_for_viewer(&state.app, viewer)).transpose();
        return match session {
            Ok(session) => sse::respond(state, admitted, session),
            Err(error) => respond_unauthenticated(media, &error, &request_id),
        };
    }
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refused) if malformed => return respond(media, StatusCode::BAD_REQUEST, refused.into_graphql_response()),
        Err(refused) => return respond_rejected(media, refused),
    };
    match (admitted.operation_type, method) {
        (OperationType::Query, _) | (OperationType::Mutation, Method::POST) => {}
        (OperationType::Subscription, _) => {
            let error =
                Error::BadRequest("a subscription needs the WebSocket at this address, or text/event-stream".into());
            return respond_rejected(media, RejectedRequest::from(&error));
        }
        (OperationType::Mutation, _) => return reject_mutation_by_get(media),
    }
    // On a task of its own: what has begun goes on to its end though the client may go.
    let api = state.api.clone();
    let span = tracing::Span::current();
    let id = request_id.clone();
    let asker = viewer.map_or(Requester::Anonymous, Requester::Viewer);
    let task = async move { api.execute(admitted, asker, &id).await };
    match tokio::spawn(tracing::Instrument::instrument(task, span)).await {
        Ok(answer) => {
            let status = if answer.executed { StatusCode::OK } else { rejected_status(media) };
            respond(media, status, answer)
        }
        Err(panic) => internal_error(media, &Error::internal(panic), &request_id),
    }
}

fn reject_mutation_by_get(media: MediaType) -> Response {
    let error = Error::BadRequest("a mutation can't be run by GET".into());
    let mut response = reject(media, StatusCode::METHOD_NOT_ALLOWED, &error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes> {
    let too_large = || Error::PayloadTooLarge(format!("the body is larger than {limit} bytes"));
    // What is over the limit is read and dropped, within bounds.
    let mut body = Limited::new(body, limit.saturating_add(MAX_DISCARDED_BYTES));
    let reading = async {
        let (mut bytes, mut length) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| match length > limit {
                true => too_large(),
                false => Error::BadRequest("the body broke off".into()),
            })?;
            let Ok(chunk) = frame.into_data() else { continue };
            length += chunk.len();
            if length <= limit {
                bytes.extend_from_slice(&chunk);
            }
        }
        if length > limit { Err(too_large()) } else { Ok(bytes.into()) }
    };
    let timed = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    timed.unwrap_or_else(|_| Err(Error::BadRequest("the body took too long".into())))
}

fn read_query_string(request: &Request) -> Result<GraphqlRequest> {
    let bad = |why: String| Error::BadRequest(why);
    let Query(mut pairs) = Query::<HashMap<String, String>>::try_from_uri(request.uri())
        .map_err(|error| bad(format!("the query string can't be read: {error}")))?;
    let mut object = |name: &str| match pairs.remove(name) {
        None => Ok(None),
        Some(json) => serde_json::from_str(&json).map_err(|error| bad(format!("{name} is no JSON object: {error}"))),
    };
    let (variables, extensions) = (object("variables")?, object("extensions")?);
    Ok(GraphqlRequest {
        query: pairs.remove("query"),
        operation_name: pairs.remove("operationName"),
        variables,
        extensions,
    })
}

/// Who asks, by the bearer token (RFC 6750); nobody where there is none.
async fn authenticate(state: &HttpState, headers: &HeaderMap) -> Result<Option<Arc<Viewer>>> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = given.next() else {
        return Ok(None);
    };
    // Which of two is meant, nobody can say.
    let token = header.to_str().ok().and_then(bearer_token).filter(|_| given.next().is_none());
    let token = token.ok_or_else(|| Error::unauthenticated("the Authorization header must be Bearer and a token"))?;
    let viewer = service::users::authenticate(&state.app, token).await?;
    Ok(Some(Arc::new(viewer)))
}

/// The token of `Bearer <token>`; the scheme's case doesn't matter.
pub fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

fn respond_unauthenticated(media: MediaType, error: &Error, request_id: &str) -> Response {
    match error {
        Error::Unauthenticated { .. } => {
            let mut response = reject(media, StatusCode::UNAUTHORIZED, error);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            response
        }
        Error::Unavailable { .. } => reject(media, StatusCode::SERVICE_UNAVAILABLE, error),
        error => internal_error(media, error, request_id),
    }
}

/// The status of a well-formed request that didn't run.
fn rejected_status(media: MediaType) -> StatusCode {
    match media {
        MediaType::GraphqlResponse => StatusCode::BAD_REQUEST,
        MediaType::Json => StatusCode::OK,
    }
}

fn respond_rejected(media: MediaType, refused: RejectedRequest) -> Response {
    // A client of persisted queries takes the refusal as an answer and sends the document.
    let not_found = refused.0.iter().any(|error| error.message == "PersistedQueryNotFound");
    let status = if not_found { StatusCode::OK } else { rejected_status(media) };
    respond(media, status, refused.into_graphql_response())
}

fn reject(media: MediaType, status: StatusCode, error: &Error) -> Response {
    respond(media, status, RejectedRequest::from(error).into_graphql_response())
}

fn internal_error(media: MediaType, error: &Error, request_id: &str) -> Response {
    respond(
        media,
        StatusCode::INTERNAL_SERVER_ERROR,
        RejectedRequest::with_request_id(error, request_id).into_graphql_response(),
    )
}

fn respond(media: MediaType, status: StatusCode, answer: GraphqlResponse) -> Response {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(media.content_type()))];
    (status, headers, answer.body.into_bytes()).into_response()
}
