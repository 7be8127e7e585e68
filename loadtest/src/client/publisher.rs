//! Who makes a server tell its subscribers something: requests prepared once, numbered as they go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::process::ChildProcess;

use super::api::Api;
use super::sender::SEND;
use super::subscriber_pool::mark;
use crate::tools::Result;

/// One request, of one person.
#[derive(Clone)]
pub struct Request {
    pub token: String,
    /// With the mark of message 0 wherever that of another is to be.
    pub body: String,
}

impl Request {
    pub fn new(token: &str, query: &str, input: Value) -> Self {
        let body = json!({ "query": query, "variables": { "input": input } });
        Self { token: token.into(), body: body.to_string() }
    }

    /// A message with its mark.
    pub fn send(token: &str, chat: &str) -> Self {
        let text = format!("{} The meeting moves to three, in the small room upstairs.", mark(0));
        Self::new(token, SEND, json!({ "chatId": chat, "nonce": mark(0), "text": text }))
    }
}

/// A handle, cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    api: Api,
    requests: Arc<[Request]>,
}

impl Publisher {
    /// Number n is told by request n; where there are fewer, they take turns.
    pub fn new(api: Api, requests: impl Into<Arc<[Request]>>) -> Self {
        Self { api, requests: requests.into() }
    }

    /// Gives the answer, which has no errors.
    pub async fn publish(&self, number: usize) -> Result<String> {
        let request = &self.requests[number % self.requests.len()];
        let body = request.body.replace(&mark(0), &mark(number));
        let answer = self.api.post(&request.token, body).await?;
        match answer.contains(r#""errors""#) {
            true => Err(answer.into()),
            false => Ok(answer),
        }
    }
}

/// The same requests where nobody listens: what they cost by themselves.
pub struct BaselineSender {
    publisher: Publisher,
    next: usize,
}

impl BaselineSender {
    /// `publisher` tells chats without subscribers.
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher, next: 0 }
    }

    /// Microseconds of the server's CPU for each of so many.
    pub async fn cost(&mut self, server: &ChildProcess, in_flight: usize, count: usize) -> Result<f64> {
        // First some uncounted, so that connections and caches are warm.
        self.send(in_flight, count / 10).await?;
        let cpu = server.cpu_time();
        self.send(in_flight, count).await?;
        Ok(micros(server.cpu_time() - cpu) / count as f64)
    }

    async fn send(&mut self, in_flight: usize, count: usize) -> Result<()> {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let answers = stream::iter(numbers).map(|number| self.publisher.publish(number));
        answers.buffer_unordered(in_flight).try_for_each(async |_| Ok(())).await
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
