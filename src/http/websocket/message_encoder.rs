//! One operation's words: its messages, and the frames of those that others write for it.

use std::collections::HashMap;

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::graphql::api::Answer;
use crate::http::tcp_stream::Wire;
use crate::realtime::dispatch::fast_path::Outlet;

#[derive(Debug)]
pub struct Speaker {
    /// The client's own name of the operation, any text.
    pub id: String,
    /// What each message begins with.
    head: String,
    wire: Wire,
}

/// The header of a whole message of text, as servers send it: without a mask (RFC 6455, section 5.2).
const TEXT: FrameHeader =
    FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode: OpCode::Data(Data::Text), mask: None };

/// Bytes of a name; a UUID has 36.
const BRIEF: usize = 256;

const NEXT: &str = "next";
const PAYLOAD: &str = r#"","payload":"#;

impl Speaker {
    pub fn new(id: String, wire: Wire) -> Self {
        let head = format!(r#"{{"id":{},"type":""#, Value::from(&*id));
        Self { id, head, wire }
    }

    /// Whether the client's name of it is no longer than clients make them: it is in each message, and others write
    /// these with no eye on how much it is.
    pub fn is_brief(&self) -> bool {
        self.id.len() <= BRIEF
    }

    /// The message of an answer; of the end where there is none.
    pub fn message(&self, answer: Option<&Answer>) -> Utf8Bytes {
        let parts = match answer {
            Some(answer) if answer.executed => self.next(&answer.body),
            Some(answer) => [&self.head, "error", PAYLOAD, errors(answer), "}"],
            None => [&self.head, "complete", "\"}", "", ""],
        };
        parts.concat().into()
    }

    fn next<'a>(&'a self, body: &'a str) -> [&'a str; 5] {
        [&self.head, NEXT, PAYLOAD, body, "}"]
    }
}

impl Outlet for Speaker {
    fn frame(&self, body: &str, frames: &mut Vec<u8>) {
        let parts = self.next(body);
        let length = parts.iter().map(|part| part.len() as u64).sum();
        TEXT.format(length, frames).expect("a vector takes what is written");
        parts.iter().for_each(|part| frames.extend_from_slice(part.as_bytes()));
    }

    fn write(&self, frames: &[u8]) -> bool {
        self.wire.tell(frames)
    }
}

/// The payload of an error is the list of errors alone.
fn errors(answer: &Answer) -> &str {
    let body: Option<HashMap<&str, &RawValue>> = serde_json::from_str(&answer.body).ok();
    body.and_then(|body| body.get("errors").map(|errors| errors.get())).unwrap_or("[]")
}
