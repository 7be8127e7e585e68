//! A finished response in its serialised form.

use async_graphql::{Response, ServerError, Value};
use bytestring::ByteString;
use serde::Serialize;

use crate::graphql::execution::errors;

/// The greatest number of errors in a response; a small document can have thousands of conflicts.
const MAX_ERRORS: usize = 50;

/// A serialised response, with the facts that transports need to send it.
#[derive(Debug, Clone)]
pub struct GraphqlResponse {
    /// The response as JSON.
    pub body: ByteString,
    /// Whether execution began; if not, the body has no `data`.
    pub executed: bool,
    /// Whether the server was temporarily unable to answer, so that a subscriber has to subscribe again.
    pub should_resubscribe: bool,
}

impl GraphqlResponse {
    /// Serialises the result of an execution, after limiting its errors and giving them their codes.
    pub(in crate::graphql) fn from_execution(mut response: Response, request_id: &str) -> Self {
        // An error of a field has a path; an error before execution has none.
        let executed = response.data != Value::Null || response.errors.iter().any(|error| !error.path.is_empty());
        response.errors.truncate(MAX_ERRORS);
        errors::finalize_errors(&mut response.errors, request_id);
        let should_resubscribe = response.errors.iter().any(errors::is_unavailable);
        Self { body: serialize(&response, executed), executed, should_resubscribe }
    }

    /// Serialises a response that consists of errors alone, with `"data": null` if `executed`.
    pub(in crate::graphql) fn from_errors(errors: Vec<ServerError>, executed: bool) -> Self {
        Self { body: serialize(&Response::from_errors(errors), executed), executed, should_resubscribe: false }
    }
}

fn serialize(response: &Response, executed: bool) -> ByteString {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "<[ServerError]>::is_empty")]
        errors: &'a [ServerError],
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    }
    let body = Body { errors: &response.errors, data: executed.then_some(&response.data) };
    serde_json::to_string(&body).expect("GraphQL values can be serialised as JSON").into()
}
