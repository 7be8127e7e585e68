//! A finished response in its serialised form.

use std::io::{self, Write};

use async_graphql::{Response, ServerError, Value};
use bytestring::ByteString;
use serde::Serialize;

use crate::error::Error;
use crate::graphql::admission::cost::Cost;
use crate::graphql::execution::budgets::over_response_budget;
use crate::graphql::execution::errors;

/// The greatest number of errors in a response; a small document can have thousands of conflicts.
const MAX_ERRORS: usize = 50;

/// A serialised response, with the facts that transports need to send it.
#[derive(Debug, Clone)]
pub struct GraphqlResponse {
    /// The response as JSON.
    pub body: ByteString,
    /// True if execution began; if not, the body has no `data`.
    pub executed: bool,
    /// True if a subscription ends with this response, because the server was unable to answer.
    pub should_resubscribe: bool,
}

/// The properties that all responses of an operation have.
#[derive(Debug, Clone, Copy)]
pub struct ResponseFormat {
    /// The maximum size of a response.
    pub max_bytes: usize,
    /// The cost to report in `extensions`, if the client asked for it.
    pub cost: Option<Cost>,
}

impl GraphqlResponse {
    /// Serialises the result of an execution, after limiting its errors and giving them their codes.
    ///
    /// A result that is too large is replaced by an error.
    pub(in crate::graphql) fn from_execution(mut response: Response, request_id: &str, format: ResponseFormat) -> Self {
        // An error of a field has a path; an error before execution has none.
        let executed = response.data != Value::Null || response.errors.iter().any(|error| !error.path.is_empty());
        response.errors.truncate(MAX_ERRORS);
        errors::finalize_errors(&mut response.errors, request_id);
        let should_resubscribe = response.errors.iter().any(errors::is_unavailable);
        match serialize(&response, executed, format) {
            Some(body) => Self { body, executed, should_resubscribe },
            None => Self::from_failure(&over_response_budget(format.max_bytes), request_id, format.cost),
        }
    }

    /// Serialises the error with which an execution ended early; a subscription ends with it.
    pub(in crate::graphql) fn from_failure(error: &Error, request_id: &str, cost: Option<Cost>) -> Self {
        let errors = vec![errors::request_error(error, request_id)];
        Self { should_resubscribe: true, ..Self::from_errors(errors, true, cost) }
    }

    /// Serialises a response that consists of errors alone, with `"data": null` if `executed`.
    pub(in crate::graphql) fn from_errors(errors: Vec<ServerError>, executed: bool, cost: Option<Cost>) -> Self {
        let format = ResponseFormat { max_bytes: usize::MAX, cost };
        let body = serialize(&Response::from_errors(errors), executed, format).unwrap_or_default();
        Self { body, executed, should_resubscribe: false }
    }
}

/// Serialises a response, or returns `None` if its text is larger than the format allows.
fn serialize(response: &Response, executed: bool, format: ResponseFormat) -> Option<ByteString> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "<[ServerError]>::is_empty")]
        errors: &'a [ServerError],
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        extensions: Option<Extensions>,
    }
    #[derive(Serialize)]
    struct Extensions {
        cost: Cost,
    }
    let body = Body {
        errors: &response.errors,
        data: executed.then_some(&response.data),
        extensions: format.cost.map(|cost| Extensions { cost }),
    };
    let mut text = LimitedText { bytes: Vec::with_capacity(256), max_bytes: format.max_bytes, is_full: false };
    match serde_json::to_writer(&mut text, &body) {
        Ok(()) => Some(String::from_utf8(text.bytes).expect("JSON is UTF-8").into()),
        Err(_) if text.is_full => None,
        Err(error) => panic!("GraphQL values can be serialised as JSON: {error}"),
    }
}

/// A text that refuses bytes beyond its limit.
struct LimitedText {
    bytes: Vec<u8>,
    max_bytes: usize,
    is_full: bool,
}

impl Write for LimitedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.max_bytes - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::value;

    use super::*;

    #[test]
    fn response_is_replaced_by_an_error_beyond_its_size() {
        let data = || Response::new(value!({ "a": "\u{1}\u{2}" }));
        let fitting = r#"{"data":{"a":"\u0001\u0002"}}"#;
        let format = |max_bytes| ResponseFormat { max_bytes, cost: None };
        assert_eq!(GraphqlResponse::from_execution(data(), "", format(fitting.len())).body, fitting);
        let response = GraphqlResponse::from_execution(data(), "", format(fitting.len() - 1));
        let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
        let extensions = serde_json::json!({ "code": "BAD_USER_INPUT", "limit": fitting.len() - 1 });
        assert_eq!((&body["data"], &body["errors"][0]["extensions"]), (&serde_json::Value::Null, &extensions));
        assert!(response.executed && response.should_resubscribe);
    }

    #[test]
    fn cost_is_part_of_the_response_if_the_client_asked_for_it() {
        let cost = Some(Cost { requested: 7, limit: 9 });
        let format = ResponseFormat { max_bytes: 100, cost };
        let response = GraphqlResponse::from_execution(Response::new(value!({ "a": 1 })), "", format);
        assert_eq!(response.body, r#"{"data":{"a":1},"extensions":{"cost":{"requested":7,"limit":9}}}"#);
    }
}
