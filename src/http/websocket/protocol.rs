//! The rules of graphql-transport-ws as a state machine without I/O: messages in, steps out.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Value, json};

/// A close frame. The reason is cut to the 123 bytes that a frame may hold (RFC 6455, section 5.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseStatus {
    pub code: u16,
    pub reason: Cow<'static, str>,
}

impl CloseStatus {
    pub const UNAUTHORIZED: Self = Self::new(4401, "Unauthorized");
    pub const SUBPROTOCOL_NOT_ACCEPTABLE: Self = Self::new(4406, "Subprotocol not acceptable");
    pub const INITIALISATION_TIMEOUT: Self = Self::new(4408, "Connection initialisation timeout");
    pub const TOO_MANY_INITIALISATIONS: Self = Self::new(4429, "Too many initialisation requests");
    pub const INTERNAL: Self = Self::new(4500, "Internal server error");
    /// Clients of graphql-ws come back with a fresh token after this one.
    pub const TOKEN_EXPIRED: Self = Self::new(4403, "The token has expired");
    pub const TOKEN_REVOKED: Self = Self::new(4403, "The token was revoked");
    /// RFC 6455's registry: clients come back after these two.
    pub const RESTART: Self = Self::new(1012, "Service restart");
    pub const TRY_AGAIN: Self = Self::new(1013, "Try again later");
    pub const TOO_BIG: Self = Self::new(1009, "Message too big");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    pub fn with_reason(code: u16, reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        reason.truncate(reason.floor_char_boundary(123));
        Self { code, reason: reason.into() }
    }

    fn malformed(reason: impl Into<String>) -> Self {
        Self::with_reason(4400, reason)
    }
}

/// What the connection has to do after a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Nothing,
    Send(String),
    /// Ask whether the other side is there (RFC 6455, section 5.5.2).
    Ping,
    /// Check this payload, then say [`Protocol::acknowledge`] or close.
    Authenticate(Value),
    /// Run this operation under a number that is its own.
    Start {
        id: String,
        number: u64,
        payload: Value,
    },
    /// The client wants no more of it.
    Stop {
        number: u64,
    },
    Close(CloseStatus),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitingInit,
    Authenticating,
    Ready,
}

/// One connection's place in the protocol.
#[derive(Debug)]
pub struct Protocol {
    phase: Phase,
    /// The operations under way: the client's name, which it may use again, and our number.
    operations: HashMap<String, u64>,
    next_number: u64,
}

impl Protocol {
    pub fn new() -> Self {
        Self { phase: Phase::AwaitingInit, operations: HashMap::new(), next_number: 0 }
    }

    /// Whether the client has yet to say `connection_init`.
    pub fn awaits_init(&self) -> bool {
        self.phase == Phase::AwaitingInit
    }

    /// Takes a message of the client.
    pub fn receive(&mut self, text: &str) -> Action {
        let mut message = match serde_json::from_str(text) {
            Ok(Value::Object(message)) => message,
            Ok(_) => return Action::Close(CloseStatus::malformed("a message must be a JSON object")),
            Err(error) => return Action::Close(CloseStatus::malformed(format!("a message must be JSON: {error}"))),
        };
        let id = match message.remove("id") {
            Some(Value::String(id)) => Some(id),
            None => None,
            Some(_) => return Action::Close(CloseStatus::malformed("id must be a string")),
        };
        let payload = message.remove("payload");
        let kind = message.remove("type");
        match (kind.as_ref().and_then(Value::as_str), id) {
            (Some("connection_init"), _) => self.initialise(payload),
            (Some("ping"), _) => answer_ping(payload),
            (Some("pong"), _) => Action::Nothing,
            (Some("subscribe"), Some(id)) if !id.is_empty() => self.subscribe(id, payload),
            (Some("complete"), Some(id)) if !id.is_empty() => match self.operations.remove(&id) {
                Some(number) => Action::Stop { number },
                // It may have ended while the client's word was on its way.
                None => Action::Nothing,
            },
            (Some(kind @ ("subscribe" | "complete")), _) => {
                Action::Close(CloseStatus::malformed(format!("{kind} must have an id")))
            }
            (Some(kind), _) => Action::Close(CloseStatus::malformed(format!("there is no message type {kind:?}"))),
            (None, _) => Action::Close(CloseStatus::malformed("a message must have a type")),
        }
    }

    fn initialise(&mut self, payload: Option<Value>) -> Action {
        if self.phase != Phase::AwaitingInit {
            return Action::Close(CloseStatus::TOO_MANY_INITIALISATIONS);
        }
        match payload.unwrap_or_default() {
            payload @ (Value::Object(_) | Value::Null) => {
                self.phase = Phase::Authenticating;
                Action::Authenticate(payload)
            }
            _ => Action::Close(CloseStatus::malformed("the payload of connection_init must be an object")),
        }
    }

    /// The client is who it says: the message that tells it so.
    pub fn acknowledge(&mut self) -> String {
        self.phase = Phase::Ready;
        json!({ "type": "connection_ack" }).to_string()
    }

    fn subscribe(&mut self, id: String, payload: Option<Value>) -> Action {
        if self.phase != Phase::Ready {
            return Action::Close(CloseStatus::UNAUTHORIZED);
        }
        let Some(payload) = payload.filter(is_graphql_request) else {
            return Action::Close(CloseStatus::malformed("the payload of subscribe must be a GraphQL request"));
        };
        if self.operations.contains_key(&id) {
            return Action::Close(CloseStatus::with_reason(4409, format!("Subscriber for {id} already exists")));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.operations.insert(id.clone(), number);
        Action::Start { id, number, payload }
    }

    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    /// Whether what an operation has to say is still wanted.
    pub fn is_active(&self, id: &str, number: u64) -> bool {
        self.operations.get(id) == Some(&number)
    }

    /// An operation ended by itself; its name is free again.
    pub fn complete(&mut self, id: &str, number: u64) {
        if self.is_active(id, number) {
            self.operations.remove(id);
        }
    }
}

fn answer_ping(payload: Option<Value>) -> Action {
    match payload {
        None => Action::Send(json!({ "type": "pong" }).to_string()),
        Some(payload @ (Value::Object(_) | Value::Null)) => {
            Action::Send(json!({ "type": "pong", "payload": payload }).to_string())
        }
        Some(_) => Action::Close(CloseStatus::malformed("the payload of ping must be an object")),
    }
}

/// Whether a value has the shape of a request, as graphql-ws checks it.
fn is_graphql_request(payload: &Value) -> bool {
    let Value::Object(request) = payload else { return false };
    let is =
        |name: &str, shape: fn(&Value) -> bool| request.get(name).is_none_or(|value| value.is_null() || shape(value));
    let has_document = request.get("query").is_some_and(Value::is_string)
        || request.get("extensions").is_some_and(|extensions| extensions.get("persistedQuery").is_some());
    has_document
        && is("query", Value::is_string)
        && is("operationName", Value::is_string)
        && is("variables", Value::is_object)
        && is("extensions", Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = r#"{"type":"connection_init"}"#;
    const SUBSCRIBE: &str = r#"{"type":"subscribe","id":"1","payload":{"query":"{ a }"}}"#;

    fn ready() -> Protocol {
        let mut protocol = Protocol::new();
        assert_eq!(protocol.receive(INIT), Action::Authenticate(Value::Null));
        protocol.acknowledge();
        protocol
    }

    fn code(step: Action) -> u16 {
        match step {
            Action::Close(close) => {
                assert!(close.reason.len() <= 123);
                close.code
            }
            step => panic!("not closed: {step:?}"),
        }
    }

    #[test]
    fn a_malformed_message_closes_with_4400() {
        let long = format!(r#"{{"type":"{}"}}"#, "ü".repeat(300));
        for text in [
            "",
            "nonsense",
            "[]",
            "7",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"start","id":"1"}"#,
            r#"{"type":"connection_init","payload":7}"#,
            r#"{"type":"ping","payload":"x"}"#,
            r#"{"type":"subscribe","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":7,"payload":{"query":"{ a }"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":7}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{ a }","variables":[]}}"#,
            r#"{"type":"complete"}"#,
            long.as_str(),
        ] {
            let mut protocol = if text.contains("connection_init") { Protocol::new() } else { ready() };
            assert_eq!(code(protocol.receive(text)), 4400, "{text}");
        }
    }

    #[test]
    fn nothing_runs_before_the_acknowledgement() {
        let mut protocol = Protocol::new();
        assert_eq!(code(protocol.receive(SUBSCRIBE)), 4401);
        protocol.receive(INIT);
        assert_eq!(code(protocol.receive(SUBSCRIBE)), 4401);
    }

    #[test]
    fn one_initialisation_is_enough() {
        let mut waiting = Protocol::new();
        waiting.receive(INIT);
        assert_eq!(code(waiting.receive(INIT)), 4429);
        assert_eq!(code(ready().receive(INIT)), 4429);
    }

    #[test]
    fn an_id_is_taken_until_its_operation_ends_from_either_side() {
        let mut protocol = ready();
        let Action::Start { id, number, .. } = protocol.receive(SUBSCRIBE) else { panic!() };
        assert!(protocol.is_active(&id, number));
        assert_eq!(code(protocol.receive(SUBSCRIBE)), 4409);
        assert_eq!(protocol.receive(r#"{"type":"complete","id":"1"}"#), Action::Stop { number });
        assert!(!protocol.is_active(&id, number));
        assert_eq!(protocol.receive(r#"{"type":"complete","id":"1"}"#), Action::Nothing);
        let Action::Start { number: second, .. } = protocol.receive(SUBSCRIBE) else { panic!() };
        assert!(!protocol.is_active(&id, number), "the first one's last words are not the second's");
        protocol.complete(&id, number);
        assert_eq!(protocol.operation_count(), 1);
        protocol.complete(&id, second);
        assert_eq!(protocol.operation_count(), 0);
    }

    #[test]
    fn a_ping_is_answered_at_any_time_with_its_payload() {
        for mut protocol in [Protocol::new(), ready()] {
            assert_eq!(protocol.receive(r#"{"type":"ping"}"#), Action::Send(r#"{"type":"pong"}"#.into()));
            let step = protocol.receive(r#"{"type":"ping","payload":{"a":1}}"#);
            assert_eq!(step, Action::Send(r#"{"payload":{"a":1},"type":"pong"}"#.into()));
            assert_eq!(protocol.receive(r#"{"type":"pong"}"#), Action::Nothing);
        }
    }
}
