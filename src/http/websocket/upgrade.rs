//! graphql-transport-ws, by its protocol: <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>
//!
//! `protocol` is the rules, without I/O; `connection` is one socket that follows them, `operations` what is
//! under way on it, and `speaker` one operation's words.

use axum::extract::WebSocketUpgrade;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::config::WebOrigin;
use crate::http::HttpState;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::connection::Connection;
use crate::http::websocket::{connection, protocol};

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// Bytes read from a socket at once: what an idle connection holds. Clients say little, mostly in less.
const READ_BUFFER_BYTES: usize = 1024;
/// Bytes gathered before they are written; and most that wait where a socket takes nothing.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Takes a connection over, or refuses the origin that it comes from.
pub fn upgrade(state: HttpState, headers: &HeaderMap, upgrade: WebSocketUpgrade, wire: SharedTcpWriter) -> Response {
    if !is_origin_allowed(&state.app.config.http.cors_origins, headers) {
        return (StatusCode::FORBIDDEN, "this origin may not connect\n").into_response();
    }
    let limit = state.app.config.http.max_body_bytes;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(16 * 1024 * 1024)
        .max_message_size(limit)
        .max_frame_size(limit);
    let spoken = upgrade.selected_protocol().is_some();
    let tracker = state.sockets.clone();
    upgrade.on_upgrade(move |socket| {
        wire.enter_framed_mode();
        let serving = match spoken {
            true => Connection::new(state, socket, wire).serve().boxed(),
            false => connection::close(socket, protocol::CloseStatus::SUBPROTOCOL_NOT_ACCEPTABLE).boxed(),
        };
        tracker.track_future(serving)
    })
}

/// Browsers send cookies and whatever else with a WebSocket of any page's; where origins are set,
/// one that is told must be among them.
fn is_origin_allowed(origins: &[WebOrigin], headers: &HeaderMap) -> bool {
    match headers.get(ORIGIN) {
        None => true,
        Some(_) if origins.is_empty() || origins.iter().any(WebOrigin::is_any) => true,
        Some(origin) => origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin.as_bytes()),
    }
}
