//! One operation's words: its messages, and the frames of those that others write for it.

use std::collections::HashMap;

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::graphql::api::GraphqlResponse;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::realtime::dispatch::fast_path::FrameSink;

#[derive(Debug)]
pub struct MessageEncoder {
    /// The client's own name of the operation, any text.
    pub id: String,
    /// What each message begins with.
    prefix: String,
    writer: SharedTcpWriter,
}

/// The header of a whole message of text, as servers send it: without a mask (RFC 6455, section 5.2).
const TEXT_FRAME_HEADER: FrameHeader =
    FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode: OpCode::Data(Data::Text), mask: None };

/// Bytes of a name; a UUID has 36.
const MAX_FAST_PATH_ID_BYTES: usize = 256;

const NEXT: &str = "next";
const PAYLOAD: &str = r#"","payload":"#;

impl MessageEncoder {
    pub fn new(id: String, wire: SharedTcpWriter) -> Self {
        let head = format!(r#"{{"id":{},"type":""#, Value::from(&*id));
        Self { id, prefix: head, writer: wire }
    }

    /// Whether the client's name of it is no longer than clients make them: it is in each message, and others write
    /// these with no eye on how much it is.
    pub fn fits_fast_path(&self) -> bool {
        self.id.len() <= MAX_FAST_PATH_ID_BYTES
    }

    /// The message of an answer; of the end where there is none.
    pub fn encode_message(&self, answer: Option<&GraphqlResponse>) -> Utf8Bytes {
        let parts = match answer {
            Some(answer) if answer.executed => self.next_parts(&answer.body),
            Some(answer) => [&self.prefix, "error", PAYLOAD, extract_errors(answer), "}"],
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
        let parts = self.next_parts(body);
        let length = parts.iter().map(|part| part.len() as u64).sum();
        TEXT_FRAME_HEADER.format(length, frames).expect("a vector takes what is written");
        parts.iter().for_each(|part| frames.extend_from_slice(part.as_bytes()));
    }

    fn try_write(&self, frames: &[u8]) -> bool {
        self.writer.try_write_frames(frames)
    }
}

/// The payload of an error is the list of errors alone.
fn extract_errors(answer: &GraphqlResponse) -> &str {
    let body: Option<HashMap<&str, &RawValue>> = serde_json::from_str(&answer.body).ok();
    body.and_then(|body| body.get("errors").map(|errors| errors.get())).unwrap_or("[]")
}
