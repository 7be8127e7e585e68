//! The upgrade of a request to a WebSocket.

use std::sync::Arc;

use axum::extract::WebSocketUpgrade;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::http::settings::HttpSettings;
use crate::http::state::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::close::close;
use crate::http::websocket::close_status::CloseStatus;
use crate::http::websocket::connection::Connection;

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// The size of the read buffer, which every idle connection holds; most messages are smaller.
const READ_BUFFER_BYTES: usize = 1024;
/// The number of bytes that are gathered before a write.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// The greatest number of bytes that wait for a client that does not read.
const MAX_WRITE_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Upgrades a connection, or rejects the origin that it comes from.
///
/// The task that serves the socket ends with it. If the task panics, the connection is closed and nothing else is
/// affected.
pub fn upgrade(
    state: Arc<HttpState>,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
    writer: SharedTcpWriter,
) -> Response {
    if !is_origin_allowed(&state.settings, headers) {
        return (StatusCode::FORBIDDEN, "this origin may not connect\n").into_response();
    }
    let max_message_bytes = state.settings.max_body_bytes;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(max_message_bytes)
        .max_frame_size(max_message_bytes);
    let is_subprotocol_accepted = upgrade.selected_protocol().is_some();
    let tracker = state.sockets.clone();
    upgrade.on_upgrade(move |socket| {
        writer.enter_framed_mode();
        let serving = match is_subprotocol_accepted {
            true => Connection::new(state, socket, writer).serve().boxed(),
            false => close(socket, writer, CloseStatus::SUBPROTOCOL_NOT_ACCEPTABLE).boxed(),
        };
        tracker.track_future(serving)
    })
}

/// Returns whether a WebSocket from the request's origin is allowed.
///
/// Browsers open a WebSocket for a page of any origin, with the cookies of the target. If origins are configured, the
/// request's must be one of them; a client that is no browser sends none.
fn is_origin_allowed(settings: &HttpSettings, headers: &HeaderMap) -> bool {
    settings.cors_origins.is_empty() || headers.get(ORIGIN).is_none_or(|origin| settings.allows_origin(origin))
}
