//! The messages of one operation, and their frames for the fast path.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::graphql::execution::response::GraphqlResponse;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::realtime::dispatch::ports::FrameSink;
use crate::realtime::sessions::Session;

/// The header of an unfragmented text message; frames of a server have no mask (RFC 6455, section 5.2).
const TEXT_FRAME_HEADER: FrameHeader =
    FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode: OpCode::Data(Data::Text), mask: None };

const NEXT: &str = "next";
const PAYLOAD: &str = r#"","payload":"#;

/// Encodes the messages of one operation, and writes those of the fast path.
#[derive(Debug)]
pub struct MessageEncoder {
    /// The client's id of the operation, which can be any text.
    pub id: String,
    /// The text with which each message begins, up to its type.
    prefix: String,
    writer: SharedTcpWriter,
    /// The session of the connection, after whose end the fast path writes nothing.
    session: Arc<Session>,
}

impl MessageEncoder {
    /// Creates the encoder of an operation on a connection.
    pub fn new(id: String, writer: SharedTcpWriter, session: Arc<Session>) -> Self {
        let prefix = format!(r#"{{"id":{},"type":""#, Value::from(&*id));
        Self { id, prefix, writer, session }
    }

    /// Encodes the message of a response, or `complete` if there is none.
    pub fn encode_message(&self, response: Option<&GraphqlResponse>) -> Utf8Bytes {
        let parts = match response {
            Some(response) if response.executed => self.next_parts(&response.body),
            Some(response) => [&self.prefix, "error", PAYLOAD, extract_errors(response), "}"],
            None => [&self.prefix, "complete", "\"}", "", ""],
        };
        parts.concat().into()
    }

    fn next_parts<'a>(&'a self, body: &'a str) -> [&'a str; 5] {
        [&self.prefix, NEXT, PAYLOAD, body, "}"]
    }
}

impl FrameSink for MessageEncoder {
    fn encode_frame(&self, body: &str, frames: &mut Vec<u8>) {
        append_text_frame(&self.next_parts(body), frames);
    }

    fn try_write(&self, frames: &[u8]) -> bool {
        !self.session.has_ended() && self.writer.try_write_frames(frames)
    }
}

/// Appends the frame of a text message that consists of several parts.
fn append_text_frame(parts: &[&str], frames: &mut Vec<u8>) {
    let length = parts.iter().map(|part| part.len() as u64).sum();
    TEXT_FRAME_HEADER.format(length, frames).expect("a write to a vector cannot fail");
    parts.iter().for_each(|part| frames.extend_from_slice(part.as_bytes()));
}

/// Returns the list of errors in a response, which is the payload of an `error` message.
fn extract_errors(response: &GraphqlResponse) -> &str {
    let body: Option<HashMap<&str, &RawValue>> = serde_json::from_str(&response.body).ok();
    body.and_then(|body| body.get("errors").map(|errors| errors.get())).unwrap_or("[]")
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::Frame;

    use super::*;

    /// The lengths are those at which the form of a frame's header changes (RFC 6455, section 5.2).
    #[test]
    fn fast_path_frame_equals_the_frame_of_the_websocket_library() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            let (start, end) = text.split_at(length / 2);
            let (mut frames, mut expected) = (Vec::new(), Vec::new());
            append_text_frame(&[start, end], &mut frames);
            Frame::message(text.clone(), OpCode::Data(Data::Text), true).format(&mut expected).unwrap();
            assert_eq!(frames, expected, "{length} bytes");
        }
    }
}
