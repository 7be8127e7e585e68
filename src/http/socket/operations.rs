//! The operations of a socket, in the messages that tell of them.

use std::collections::HashMap;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::protocol::Protocol;
use crate::graphql::execute::Answer;
use crate::graphql::running::Running;

/// Bytes that are gathered for one flush.
const BATCH: usize = 16 * 1024;

/// The operations under way on a socket, and what they said that is to be written.
#[derive(Default)]
pub struct Operations {
    running: Vec<Operation>,
    said: Vec<Utf8Bytes>,
}

impl Operations {
    /// Starts an operation, which is polled from now on.
    pub fn start(&mut self, id: String, number: u64, running: Running) {
        self.running.push(Operation::new(id, number, running));
    }

    /// Ends a subscription; another operation goes on to its end unheard.
    pub fn stop(&mut self, number: u64) {
        self.running.retain(|operation| operation.number != number);
    }

    pub fn take_said(&mut self) -> Vec<Utf8Bytes> {
        std::mem::take(&mut self.said)
    }

    /// Gathers what operations have to say: all that is ready, for one flush; or one message, where the
    /// other side is slow, so that it is seen to take something.
    pub fn poll_said(&mut self, protocol: &mut Protocol, one: bool, cx: &mut Context<'_>) -> Poll<()> {
        let (said, mut gathered, mut spoke) = (&mut self.said, 0, true);
        while spoke && gathered < BATCH && !(one && gathered > 0) {
            spoke = false;
            self.running.retain_mut(|operation| match operation.poll_next(cx) {
                Poll::Pending => true,
                Poll::Ready(Some(text)) => {
                    spoke = true;
                    gathered += text.len();
                    said.push(text);
                    true
                }
                Poll::Ready(None) => {
                    protocol.finish(&operation.id, operation.number);
                    false
                }
            });
        }
        if said.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

struct Operation {
    id: String,
    number: u64,
    running: Running,
    /// What each of its messages begins with; the id is the client's own and any text.
    head: String,
    ended: bool,
}

impl Operation {
    fn new(id: String, number: u64, running: Running) -> Self {
        let head = format!(r#"{{"id":{},"type":""#, Value::from(&*id));
        Self { id, number, running, head, ended: false }
    }

    /// The next message; nothing after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Utf8Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = ready!(self.running.poll_next(cx));
        let text = match answer {
            Some(answer) if answer.executed => self.message("next", Some(&answer.body)),
            Some(answer) => {
                self.ended = true;
                self.message("error", Some(errors(&answer)))
            }
            None => {
                self.ended = true;
                self.message("complete", None)
            }
        };
        Poll::Ready(Some(text))
    }

    fn message(&self, kind: &str, payload: Option<&str>) -> Utf8Bytes {
        const PAYLOAD: &str = r#"","payload":"#;
        let payload_length = payload.map_or(0, |payload| PAYLOAD.len() + payload.len());
        let mut text = String::with_capacity(self.head.len() + kind.len() + payload_length + 2);
        text.push_str(&self.head);
        text.push_str(kind);
        match payload {
            Some(payload) => {
                text.push_str(PAYLOAD);
                text.push_str(payload);
                text.push('}');
            }
            None => text.push_str("\"}"),
        }
        text.into()
    }
}

/// The payload of an error is the list of errors alone.
fn errors(answer: &Answer) -> &str {
    let body: Option<HashMap<&str, &RawValue>> = serde_json::from_str(&answer.body).ok();
    body.and_then(|body| body.get("errors").map(|errors| errors.get())).unwrap_or("[]")
}
