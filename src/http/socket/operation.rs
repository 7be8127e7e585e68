//! One operation of a socket, in the messages that tell of it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::graphql::execute::Answer;
use crate::graphql::running::Running;

/// What an operation says.
pub struct Saying {
    pub id: Arc<str>,
    pub number: u64,
    pub text: Utf8Bytes,
    /// The last of this operation.
    pub last: bool,
}

struct Operation {
    id: Arc<str>,
    number: u64,
    running: Running,
    /// What each of its messages begins with; the id is the client's own and any text.
    head: String,
    ended: bool,
}

/// All that an operation says, under the number that is its own.
pub fn sayings(id: Arc<str>, number: u64, running: Running) -> BoxStream<'static, Saying> {
    let head = format!(r#"{{"id":{},"type":""#, Value::from(&*id));
    let operation = Operation { id, number, running, head, ended: false };
    stream::unfold(operation, async |mut operation| {
        let saying = operation.next().await?;
        Some((saying, operation))
    })
    .boxed()
}

impl Operation {
    async fn next(&mut self) -> Option<Saying> {
        if self.ended {
            return None;
        }
        let text = match self.running.next().await {
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
        Some(Saying { id: self.id.clone(), number: self.number, text, last: self.ended })
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
