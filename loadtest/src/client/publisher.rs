//! Publishers: prepared requests, each of which makes the server deliver a numbered message to its subscribers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::process::ChildProcess;

use super::api::Api;
use super::sender::SEND;
use super::subscriber_pool::mark;
use crate::tools::Result;

/// A prepared request of one user.
#[derive(Clone)]
pub struct Request {
    pub token: String,
    /// The JSON body, with the mark of message 0 wherever a message's mark belongs.
    pub body: String,
}

impl Request {
    /// Prepares a mutation.
    pub fn new(token: &str, query: &str, input: Value) -> Self {
        let body = json!({ "query": query, "variables": { "input": input } });
        Self { token: token.into(), body: body.to_string() }
    }

    /// Prepares a `sendMessage` whose text contains the mark.
    pub fn send(token: &str, chat: &str) -> Self {
        let text = format!("{} The meeting moves to three, in the small room upstairs.", mark(0));
        Self::new(token, SEND, json!({ "chatId": chat, "nonce": mark(0), "text": text }))
    }
}

/// Requests that are sent with successive message numbers; cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    api: Api,
    requests: Arc<[Request]>,
}

impl Publisher {
    /// Creates a publisher that uses the requests in turn, by message number.
    pub fn new(api: Api, requests: impl Into<Arc<[Request]>>) -> Self {
        Self { api, requests: requests.into() }
    }

    /// Sends the request for a message number and returns the response, which has no errors.
    pub async fn publish(&self, number: usize) -> Result<String> {
        let request = &self.requests[number % self.requests.len()];
        let body = request.body.replace(&mark(0), &mark(number));
        let response = self.api.post(&request.token, body).await?;
        match response.contains(r#""errors""#) {
            true => Err(response.into()),
            false => Ok(response),
        }
    }
}

/// A publisher in chats without subscribers, which measures the cost of the requests themselves.
pub struct BaselineSender {
    publisher: Publisher,
    next: usize,
}

impl BaselineSender {
    /// Creates a sender from a publisher whose chats have no subscribers.
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher, next: 0 }
    }

    /// Returns the server's CPU time per request in microseconds, measured over this number of requests.
    pub async fn cost(&mut self, server: &ChildProcess, in_flight: usize, count: usize) -> Result<f64> {
        // A warm-up opens connections and fills caches.
        self.send(in_flight, count / 10).await?;
        let cpu = server.cpu_time();
        self.send(in_flight, count).await?;
        Ok(micros(server.cpu_time() - cpu) / count as f64)
    }

    async fn send(&mut self, in_flight: usize, count: usize) -> Result<()> {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let responses = stream::iter(numbers).map(|number| self.publisher.publish(number));
        responses.buffer_unordered(in_flight).try_for_each(async |_| Ok(())).await
    }
}

/// Returns a duration in microseconds.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
