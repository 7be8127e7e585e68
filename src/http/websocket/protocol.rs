//! The rules of graphql-transport-ws as a state machine without I/O: messages in, actions out.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::http::websocket::close_status::{CloseCode, CloseStatus};

/// The maximum length of an operation's id, which each of its messages repeats; a UUID has 36 bytes.
const MAX_ID_BYTES: usize = 256;

/// The action that a message requires of the connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Nothing,
    Send(String),
    /// Send a ping, which the client must answer (RFC 6455, section 5.5.2).
    Ping,
    /// Check this payload, then send [`Protocol::acknowledge`] or close.
    Authenticate(Value),
    /// Start an operation under a number that no other operation of the connection has.
    Start {
        id: String,
        number: u64,
        payload: Value,
        /// The length of the whole message.
        message_bytes: usize,
    },
    /// End an operation that the client completed.
    Stop {
        number: u64,
    },
    Close(CloseStatus),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    AwaitingInit,
    Authenticating,
    Ready,
}

/// The state of one connection in the protocol; a new connection awaits `connection_init`.
#[derive(Debug, Default)]
pub struct Protocol {
    phase: Phase,
    /// The running operations: the client's id, which it may use again later, and the connection's number.
    operations: HashMap<String, u64>,
    next_number: u64,
}

impl Protocol {
    /// Returns whether the client has not sent `connection_init` yet.
    pub fn awaits_init(&self) -> bool {
        self.phase == Phase::AwaitingInit
    }

    /// Processes a message of the client.
    pub fn receive(&mut self, text: &str) -> Action {
        let mut message = match serde_json::from_str(text) {
            Ok(Value::Object(message)) => message,
            Ok(_) => return Action::Close(CloseStatus::bad_request("a message must be a JSON object")),
            Err(error) => return Action::Close(CloseStatus::bad_request(format!("a message must be JSON: {error}"))),
        };
        let id = match message.remove("id") {
            Some(Value::String(id)) if id.len() > MAX_ID_BYTES => {
                return Action::Close(CloseStatus::bad_request(format!("id must have at most {MAX_ID_BYTES} bytes")));
            }
            Some(Value::String(id)) => Some(id),
            None => None,
            Some(_) => return Action::Close(CloseStatus::bad_request("id must be a string")),
        };
        let payload = message.remove("payload");
        let kind = message.remove("type");
        match (kind.as_ref().and_then(Value::as_str), id) {
            (Some("connection_init"), _) => self.initialise(payload),
            (Some("ping"), _) => answer_ping(payload),
            (Some("pong"), _) => Action::Nothing,
            (Some("subscribe"), Some(id)) if !id.is_empty() => self.subscribe(id, payload, text.len()),
            (Some("complete"), Some(id)) if !id.is_empty() => match self.operations.remove(&id) {
                Some(number) => Action::Stop { number },
                // The operation may have ended while this message was on its way.
                None => Action::Nothing,
            },
            (Some(kind @ ("subscribe" | "complete")), _) => {
                Action::Close(CloseStatus::bad_request(format!("{kind} must have an id")))
            }
            (Some(kind), _) => Action::Close(CloseStatus::bad_request(format!("there is no message type {kind:?}"))),
            (None, _) => Action::Close(CloseStatus::bad_request("a message must have a type")),
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
            _ => Action::Close(CloseStatus::bad_request("the payload of connection_init must be an object")),
        }
    }

    /// Accepts the client after its authentication, and returns the message to send.
    pub fn acknowledge(&mut self) -> String {
        self.phase = Phase::Ready;
        json!({ "type": "connection_ack" }).to_string()
    }

    fn subscribe(&mut self, id: String, payload: Option<Value>, message_bytes: usize) -> Action {
        if self.phase != Phase::Ready {
            return Action::Close(CloseStatus::UNAUTHORIZED);
        }
        let Some(payload) = payload.filter(is_graphql_request) else {
            return Action::Close(CloseStatus::bad_request("the payload of subscribe must be a GraphQL request"));
        };
        if self.operations.contains_key(&id) {
            return Action::Close(CloseStatus::with_reason(
                CloseCode::SubscriberAlreadyExists,
                format!("Subscriber for {id} already exists"),
            ));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.operations.insert(id.clone(), number);
        Action::Start { id, number, payload, message_bytes }
    }

    /// Returns whether an operation is running under this id and number.
    pub fn is_active(&self, id: &str, number: u64) -> bool {
        self.operations.get(id) == Some(&number)
    }

    /// Records the end of an operation, whose id the client may use again.
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
        Some(_) => Action::Close(CloseStatus::bad_request("the payload of ping must be an object")),
    }
}

/// Returns whether a payload has the shape of a request, by the checks of graphql-ws.
fn is_graphql_request(payload: &Value) -> bool {
    let Value::Object(request) = payload else { return false };
    let is_optional = |name: &str, has_type: fn(&Value) -> bool| {
        request.get(name).is_none_or(|value| value.is_null() || has_type(value))
    };
    let has_document = request.get("query").is_some_and(Value::is_string)
        || request.get("extensions").is_some_and(|extensions| extensions.get("persistedQuery").is_some());
    has_document
        && is_optional("query", Value::is_string)
        && is_optional("operationName", Value::is_string)
        && is_optional("variables", Value::is_object)
        && is_optional("extensions", Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = r#"{"type":"connection_init"}"#;
    const SUBSCRIBE: &str = r#"{"type":"subscribe","id":"1","payload":{"query":"{ a }"}}"#;

    fn ready() -> Protocol {
        let mut protocol = Protocol::default();
        assert_eq!(protocol.receive(INIT), Action::Authenticate(Value::Null));
        protocol.acknowledge();
        protocol
    }

    fn close_code(action: Action) -> u16 {
        match action {
            Action::Close(close) => {
                assert!(close.reason.len() <= 123);
                close.code.as_u16()
            }
            action => panic!("not closed: {action:?}"),
        }
    }

    #[test]
    fn malformed_message_closes_with_4400() {
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
            let mut protocol = if text.contains("connection_init") { Protocol::default() } else { ready() };
            assert_eq!(close_code(protocol.receive(text)), 4400, "{text}");
        }
    }

    #[test]
    fn subscribe_before_the_acknowledgement_closes_with_4401() {
        let mut protocol = Protocol::default();
        assert_eq!(close_code(protocol.receive(SUBSCRIBE)), 4401);
        protocol.receive(INIT);
        assert_eq!(close_code(protocol.receive(SUBSCRIBE)), 4401);
    }

    #[test]
    fn second_initialisation_closes_with_4429() {
        let mut waiting = Protocol::default();
        waiting.receive(INIT);
        assert_eq!(close_code(waiting.receive(INIT)), 4429);
        assert_eq!(close_code(ready().receive(INIT)), 4429);
    }

    #[test]
    fn operation_id_is_reserved_until_either_side_ends_the_operation() {
        let mut protocol = ready();
        let Action::Start { id, number, .. } = protocol.receive(SUBSCRIBE) else { panic!() };
        assert!(protocol.is_active(&id, number));
        assert_eq!(close_code(protocol.receive(SUBSCRIBE)), 4409);
        assert_eq!(protocol.receive(r#"{"type":"complete","id":"1"}"#), Action::Stop { number });
        assert!(!protocol.is_active(&id, number));
        assert_eq!(protocol.receive(r#"{"type":"complete","id":"1"}"#), Action::Nothing);
        let Action::Start { number: second, .. } = protocol.receive(SUBSCRIBE) else { panic!() };
        assert!(!protocol.is_active(&id, number), "messages of the first operation must not be sent for the second");
        protocol.complete(&id, number);
        assert!(protocol.is_active(&id, second));
        protocol.complete(&id, second);
        assert!(!protocol.is_active(&id, second));
    }

    #[test]
    fn operation_id_has_at_most_256_bytes() {
        for kind in ["subscribe", "complete"] {
            let message = |id: &str| json!({ "type": kind, "id": id, "payload": { "query": "{ a }" } }).to_string();
            assert!(!matches!(ready().receive(&message(&"x".repeat(256))), Action::Close(_)));
            for id in ["x".repeat(257), "ü".repeat(129), "x".repeat(126_000)] {
                assert_eq!(close_code(ready().receive(&message(&id))), 4400);
            }
        }
    }

    #[test]
    fn ping_is_answered_in_every_phase_with_its_payload() {
        for mut protocol in [Protocol::default(), ready()] {
            assert_eq!(protocol.receive(r#"{"type":"ping"}"#), Action::Send(r#"{"type":"pong"}"#.into()));
            let action = protocol.receive(r#"{"type":"ping","payload":{"a":1}}"#);
            assert_eq!(action, Action::Send(r#"{"payload":{"a":1},"type":"pong"}"#.into()));
            assert_eq!(protocol.receive(r#"{"type":"pong"}"#), Action::Nothing);
        }
    }
}
