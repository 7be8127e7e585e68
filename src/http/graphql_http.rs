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
use crate::graphql::api::{Answer, Envelope, Refused};
use crate::graphql::schema::context::Asker;
use crate::http::content_negotiation::{MediaType, is_json, negotiate, takes_events};
use crate::http::tcp_stream::Wire;
use crate::http::websocket::upgrade;
use crate::http::{State, request_id, sse};
use crate::service;

/// Bytes over the limit of a body that are still read, so that its sender gets to hear of the limit.
const DRAINED: usize = 64 * 1024 * 1024;
/// Longest time that a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// `/graphql`: POST and GET, and the WebSocket.
pub async fn handle(Extract(state): Extract<State>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::GET && parts.headers.contains_key("sec-websocket-key") {
        return match <(WebSocketUpgrade, ConnectInfo<Wire>)>::from_request_parts(&mut parts, &()).await {
            Ok((upgrade, ConnectInfo(wire))) => upgrade::upgrade(state, &parts.headers, upgrade, wire),
            Err(refused) => refused,
        };
    }
    let request = Request::from_parts(parts, body);
    // What is refused before an event could tell it is JSON.
    let json = takes_events(request.headers()).then_some(MediaType::Json);
    let Some(media) = negotiate(request.headers()).or(json) else {
        let error = Error::BadRequest(
            "the response can be application/graphql-response+json, application/json or text/event-stream".into(),
        );
        return refuse(MediaType::Json, StatusCode::NOT_ACCEPTABLE, &error);
    };
    match *request.method() {
        Method::POST => post(&state, request, media).await,
        Method::GET => get(&state, request, media).await,
        _ => {
            let error = Error::BadRequest("only GET and POST are served here".into());
            let mut response = refuse(media, StatusCode::METHOD_NOT_ALLOWED, &error);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            response
        }
    }
}

async fn post(state: &State, request: Request, media: MediaType) -> Response {
    let id = request_id(&request).to_owned();
    let (parts, body) = request.into_parts();
    // The body is read to its end before anything is refused: a connection closed with input unread
    // is reset, and the client never sees why.
    let body = match read_body(body, state.app.config.http.max_body_bytes).await {
        Ok(body) => body,
        Err(error @ Error::PayloadTooLarge(_)) => return refuse(media, StatusCode::PAYLOAD_TOO_LARGE, &error),
        Err(error) => return refuse(media, StatusCode::BAD_REQUEST, &error),
    };
    if !is_json(&parts.headers) {
        let error = Error::BadRequest("the body must be application/json in UTF-8".into());
        return refuse(media, StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
    }
    match Envelope::read(&body) {
        Ok(envelope) => run(state, &parts.headers, envelope, media, Method::POST, id).await,
        Err(error) => refuse(media, StatusCode::BAD_REQUEST, &error),
    }
}

async fn get(state: &State, request: Request, media: MediaType) -> Response {
    let id = request_id(&request).to_owned();
    match read_query(&request) {
        Ok(envelope) => run(state, request.headers(), envelope, media, Method::GET, id).await,
        Err(error) => refuse(media, StatusCode::BAD_REQUEST, &error),
    }
}

async fn run(
    state: &State,
    headers: &HeaderMap,
    envelope: Envelope,
    media: MediaType,
    method: Method,
    request_id: String,
) -> Response {
    // A document that is missing altogether is a malformed request, whatever its media type.
    let malformed = envelope.query.is_none()
        && envelope.extensions.as_ref().is_none_or(|extensions| !extensions.contains_key("persistedQuery"));
    let viewer = match authenticate(state, headers).await {
        Ok(viewer) => viewer,
        Err(error) => return unauthenticated(media, &error, &request_id),
    };
    let admitted = state.api.admit(envelope);
    let is_subscription = admitted.as_ref().is_ok_and(|admitted| admitted.operation == OperationType::Subscription);
    // A client that takes both means events for a subscription alone.
    if takes_events(headers) && !malformed && (is_subscription || negotiate(headers).is_none()) {
        if admitted.as_ref().is_ok_and(|admitted| admitted.operation == OperationType::Mutation)
            && method == Method::GET
        {
            return mutation_by_get(media);
        }
        let session = viewer.map(|viewer| service::sessions::hold(&state.app, viewer)).transpose();
        return match session {
            Ok(session) => sse::respond(state, admitted, session),
            Err(error) => unauthenticated(media, &error, &request_id),
        };
    }
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refused) if malformed => return respond(media, StatusCode::BAD_REQUEST, refused.answer()),
        Err(refused) => return respond_refused(media, refused),
    };
    match (admitted.operation, method) {
        (OperationType::Query, _) | (OperationType::Mutation, Method::POST) => {}
        (OperationType::Subscription, _) => {
            let error =
                Error::BadRequest("a subscription needs the WebSocket at this address, or text/event-stream".into());
            return respond_refused(media, Refused::from(&error));
        }
        (OperationType::Mutation, _) => return mutation_by_get(media),
    }
    // On a task of its own: what has begun goes on to its end though the client may go.
    let api = state.api.clone();
    let span = tracing::Span::current();
    let id = request_id.clone();
    let asker = viewer.map_or(Asker::Stranger, Asker::Viewer);
    let task = async move { api.execute(admitted, asker, &id).await };
    match tokio::spawn(tracing::Instrument::instrument(task, span)).await {
        Ok(answer) => {
            let status = if answer.executed { StatusCode::OK } else { refused_status(media) };
            respond(media, status, answer)
        }
        Err(panic) => fault(media, &Error::internal(panic), &request_id),
    }
}

fn mutation_by_get(media: MediaType) -> Response {
    let error = Error::BadRequest("a mutation can't be run by GET".into());
    let mut response = refuse(media, StatusCode::METHOD_NOT_ALLOWED, &error);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes> {
    let too_large = || Error::PayloadTooLarge(format!("the body is larger than {limit} bytes"));
    // What is over the limit is read and dropped, within bounds.
    let mut body = Limited::new(body, limit.saturating_add(DRAINED));
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

fn read_query(request: &Request) -> Result<Envelope> {
    let bad = |why: String| Error::BadRequest(why);
    let Query(mut pairs) = Query::<HashMap<String, String>>::try_from_uri(request.uri())
        .map_err(|error| bad(format!("the query string can't be read: {error}")))?;
    let mut object = |name: &str| match pairs.remove(name) {
        None => Ok(None),
        Some(json) => serde_json::from_str(&json).map_err(|error| bad(format!("{name} is no JSON object: {error}"))),
    };
    let (variables, extensions) = (object("variables")?, object("extensions")?);
    Ok(Envelope { query: pairs.remove("query"), operation_name: pairs.remove("operationName"), variables, extensions })
}

/// Who asks, by the bearer token (RFC 6750); nobody where there is none.
async fn authenticate(state: &State, headers: &HeaderMap) -> Result<Option<Arc<Viewer>>> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = given.next() else {
        return Ok(None);
    };
    // Which of two is meant, nobody can say.
    let token = header.to_str().ok().and_then(bearer).filter(|_| given.next().is_none());
    let token = token.ok_or_else(|| Error::unauthenticated("the Authorization header must be Bearer and a token"))?;
    let viewer = service::users::authenticate(&state.app, token).await?;
    Ok(Some(Arc::new(viewer)))
}

/// The token of `Bearer <token>`; the scheme's case doesn't matter.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

fn unauthenticated(media: MediaType, error: &Error, request_id: &str) -> Response {
    match error {
        Error::Unauthenticated { .. } => {
            let mut response = refuse(media, StatusCode::UNAUTHORIZED, error);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
            response
        }
        Error::Unavailable { .. } => refuse(media, StatusCode::SERVICE_UNAVAILABLE, error),
        error => fault(media, error, request_id),
    }
}

/// The status of a well-formed request that didn't run.
fn refused_status(media: MediaType) -> StatusCode {
    match media {
        MediaType::GraphqlResponse => StatusCode::BAD_REQUEST,
        MediaType::Json => StatusCode::OK,
    }
}

fn respond_refused(media: MediaType, refused: Refused) -> Response {
    // A client of persisted queries takes the refusal as an answer and sends the document.
    let not_found = refused.0.iter().any(|error| error.message == "PersistedQueryNotFound");
    let status = if not_found { StatusCode::OK } else { refused_status(media) };
    respond(media, status, refused.answer())
}

fn refuse(media: MediaType, status: StatusCode, error: &Error) -> Response {
    respond(media, status, Refused::from(error).answer())
}

fn fault(media: MediaType, error: &Error, request_id: &str) -> Response {
    respond(media, StatusCode::INTERNAL_SERVER_ERROR, Refused::under(error, request_id).answer())
}

fn respond(media: MediaType, status: StatusCode, answer: Answer) -> Response {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(media.content_type()))];
    (status, headers, answer.body.into_bytes()).into_response()
}
