//! The ways in which a WebSocket ends, and the closing handshake (RFC 6455, section 7).

use std::error::Error;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use futures_util::SinkExt;
use tokio::time::{sleep, timeout};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;

use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::close_status::CloseStatus;

/// The time that a client gets to read what is before the close frame.
const LAST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// The time that a client gets for its part of the handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The reason for which a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The server closes, and the client answers with a close frame of its own.
    SendClose(CloseStatus),
    /// The server closes, and the rest of the client's input cannot be read.
    SendCloseUnread(CloseStatus),
    /// The client closes; its close frame has to be answered.
    PeerClosed,
    /// The client is gone, or broke the framing, so that no handshake is possible.
    Disconnected,
}

/// Classifies the failure of a write: the client is gone.
impl From<axum::Error> for CloseReason {
    fn from(_: axum::Error) -> Self {
        Self::Disconnected
    }
}

impl CloseReason {
    /// Classifies the failure of a read.
    ///
    /// The client gets a close code for a frame that is too big or is not valid text; any other error leaves the
    /// connection unusable.
    pub fn from_read_error(error: &axum::Error) -> Self {
        // axum wraps tungstenite's error without naming its type.
        match error.source().and_then(|source| source.downcast_ref::<tungstenite::Error>()) {
            Some(tungstenite::Error::Capacity(_) | tungstenite::Error::Protocol(ProtocolError::ControlFrameTooBig)) => {
                Self::SendCloseUnread(CloseStatus::MESSAGE_TOO_BIG)
            }
            Some(tungstenite::Error::Utf8(_)) => Self::SendCloseUnread(CloseStatus::INVALID_UTF8),
            _ => Self::Disconnected,
        }
    }
}

/// Ends a connection for a reason.
///
/// `writer` must not be used by operations any more: no data may follow a close frame (RFC 6455, section 5.5.1).
pub async fn end(socket: WebSocket, writer: SharedTcpWriter, reason: CloseReason) {
    match reason {
        CloseReason::SendClose(status) => close(socket, writer, status).await,
        CloseReason::SendCloseUnread(status) => close_unread(writer, status).await,
        CloseReason::PeerClosed => answer_close(socket, writer).await,
        CloseReason::Disconnected => {}
    }
}

/// Sends a close frame, and reads until the client has closed too.
///
/// A connection that is closed with unread input is reset, and the client never reads the close frame.
pub async fn close(mut socket: WebSocket, writer: SharedTcpWriter, status: CloseStatus) {
    if send_close(&writer, &status).await {
        let closed_by_client = async { while let Some(Ok(_)) = socket.recv().await {} };
        timeout(CLOSE_TIMEOUT, closed_by_client).await.ok();
    }
}

/// Sends a close frame where no more input can be read.
///
/// The connection stays open for a while, so that the client reads the close frame before the reset.
async fn close_unread(writer: SharedTcpWriter, status: CloseStatus) {
    if send_close(&writer, &status).await {
        sleep(CLOSE_TIMEOUT).await;
    }
}

/// Flushes the close frame with which tungstenite answers the client's.
async fn answer_close(mut socket: WebSocket, writer: SharedTcpWriter) {
    let answer = async move {
        socket.close().await.ok();
        writer.flush().await.ok();
    };
    timeout(CLOSE_TIMEOUT, answer).await.ok();
}

/// Sends a close frame instead of all output that is not begun yet.
///
/// Returns whether the kernel accepted it in time.
///
/// Messages that wait for a slow client must not be delivered after the end of its session.
async fn send_close(writer: &SharedTcpWriter, status: &CloseStatus) -> bool {
    tracing::debug!(code = status.code.as_u16(), reason = %status.reason, "closing a WebSocket");
    let close = CloseFrame { code: status.code.as_u16().into(), reason: (&*status.reason).into() };
    let mut frame = Vec::new();
    Frame::close(Some(close)).format(&mut frame).expect("a write to a vector cannot fail");
    writer.finish_with(&frame);
    matches!(timeout(LAST_FRAME_TIMEOUT, writer.flush()).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use tungstenite::error::CapacityError;

    use super::*;

    #[test]
    fn read_error_closes_with_the_code_of_its_type() {
        let too_long = CapacityError::MessageTooLong { size: 2, max_size: 1 };
        for (error, expected) in [
            (tungstenite::Error::Capacity(too_long), CloseReason::SendCloseUnread(CloseStatus::MESSAGE_TOO_BIG)),
            (
                tungstenite::Error::Protocol(ProtocolError::ControlFrameTooBig),
                CloseReason::SendCloseUnread(CloseStatus::MESSAGE_TOO_BIG),
            ),
            (tungstenite::Error::Utf8("too big".into()), CloseReason::SendCloseUnread(CloseStatus::INVALID_UTF8)),
            (tungstenite::Error::Protocol(ProtocolError::UnmaskedFrameFromClient), CloseReason::Disconnected),
            (tungstenite::Error::ConnectionClosed, CloseReason::Disconnected),
        ] {
            assert_eq!(CloseReason::from_read_error(&axum::Error::new(error)), expected);
        }
    }
}
