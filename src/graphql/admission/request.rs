//! A request as a transport receives it, and the two possible results of its admission.

use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, ServerError, Variables};
use serde::Deserialize;

use crate::error::Error;
use crate::graphql::admission::cost::Cost;
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::execution::errors;
use crate::graphql::execution::response::GraphqlResponse;

/// A GraphQL request in the JSON form that every transport uses.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRequest {
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
    pub extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A request that passed every check before execution.
pub struct AdmittedRequest {
    /// The document's text as the client sent it, or as its hash names it.
    pub(in crate::graphql) query: Arc<str>,
    pub(in crate::graphql) document: ExecutableDocument,
    pub(in crate::graphql) operation_name: Option<String>,
    pub(in crate::graphql) variables: Variables,
    /// The variables that an event of a subscription can depend on, as JSON.
    pub(in crate::graphql) event_variables: String,
    pub(in crate::graphql) kind: OperationKind,
    /// True if the operation selects `__schema`.
    pub(in crate::graphql) reads_schema: bool,
    /// True for a query with the cursor of a feed, so that all of its reads have to see the same state.
    pub(in crate::graphql) needs_snapshot: bool,
    /// The root field of a subscription; empty for other operations.
    pub(in crate::graphql) root_field: String,
    pub(in crate::graphql) cost: Cost,
    /// True if each response reports the cost.
    pub(in crate::graphql) reports_cost: bool,
}

/// A request that must not run, with the errors to return.
#[derive(Debug)]
pub struct RejectedRequest {
    reason: RejectionReason,
    errors: Vec<ServerError>,
    /// The cost to report in the response.
    cost: Option<Cost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectionReason {
    /// The client named a document by a hash that the server does not know.
    PersistedQueryNotFound,
    Other,
}

impl GraphqlRequest {
    /// Parses the JSON text of a request.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadRequest`] if the text is not a JSON object with the members that the
    /// specification of GraphQL over HTTP defines.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        // A receiver may ignore a byte order mark, which some libraries write (RFC 8259, section 8.1).
        let json = json.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(json);
        let value: serde_json::Value = serde_json::from_slice(json)
            .map_err(|error| Error::BadRequest(format!("the request is not valid JSON: {error}")))?;
        match value {
            serde_json::Value::Array(_) => {
                Err(Error::BadRequest("batched requests are not supported: send one request".into()))
            }
            serde_json::Value::Object(_) => Self::from_value(value),
            _ => Err(Error::BadRequest("the request must be a JSON object".into())),
        }
    }

    /// Reads a request from parsed JSON.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadRequest`] if a member of the request has the wrong type.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Error> {
        serde_json::from_value(value).map_err(|error| Error::BadRequest(format!("the request is malformed: {error}")))
    }

    /// Returns whether the request names a document, by its text or by its hash.
    pub fn has_document(&self) -> bool {
        self.query.is_some() || self.persisted_query().is_some()
    }

    /// Returns whether the client asks for the cost of the operation: `extensions.cost` is true.
    pub fn asks_for_cost(&self) -> bool {
        let cost = self.extensions.as_ref().and_then(|extensions| extensions.get("cost"));
        cost.is_some_and(|cost| cost == true)
    }

    /// Returns the extension by which a request names a document by its hash.
    pub fn persisted_query(&self) -> Option<&serde_json::Value> {
        self.extensions.as_ref().and_then(|extensions| extensions.get("persistedQuery"))
    }
}

impl AdmittedRequest {
    /// Returns the kind of the operation that runs.
    pub fn kind(&self) -> OperationKind {
        self.kind
    }

    /// Returns the length of the document's text.
    pub fn document_bytes(&self) -> usize {
        self.query.len()
    }

    /// Returns the cost if each response reports it.
    pub(in crate::graphql) fn reported_cost(&self) -> Option<Cost> {
        self.reports_cost.then_some(self.cost)
    }

    /// Builds the request that async-graphql executes.
    pub(in crate::graphql) fn into_request(self) -> Request {
        build_request(self.document, self.operation_name, self.variables)
    }

    /// Builds the request that async-graphql executes, for an operation that is needed afterwards.
    pub(in crate::graphql) fn to_request(&self) -> Request {
        build_request(self.document.clone(), self.operation_name.clone(), self.variables.clone())
    }
}

impl RejectedRequest {
    /// Creates a rejection with several errors in the form of a response.
    pub(in crate::graphql) fn from_errors(errors: Vec<ServerError>) -> Self {
        Self { reason: RejectionReason::Other, errors, cost: None }
    }

    /// Creates the rejection of a hash that the server does not know.
    ///
    /// Apollo Client's link and urql's exchange look for this message and this code, and then send
    /// the document with its hash.
    pub(in crate::graphql) fn persisted_query_not_found() -> Self {
        let mut error = errors::bad_request("PersistedQueryNotFound".into());
        error.extensions.get_or_insert_default().set("code", "PERSISTED_QUERY_NOT_FOUND");
        Self { reason: RejectionReason::PersistedQueryNotFound, errors: vec![error], cost: None }
    }

    /// Creates the rejection of an operation whose cost is beyond the limit.
    pub(in crate::graphql) fn too_complex(cost: Cost, reports_cost: bool) -> Self {
        let rejection = Self::from_errors(vec![errors::too_complex(cost)]);
        Self { cost: reports_cost.then_some(cost), ..rejection }
    }

    /// Creates a rejection for an error that may be a fault of the server.
    ///
    /// The cause of such a fault is logged under the request's id and is not in the response.
    pub fn with_request_id(error: &Error, request_id: &str) -> Self {
        Self::from_errors(vec![errors::request_error(error, request_id)])
    }

    /// Returns whether the client is expected to repeat the request with its document.
    pub fn is_persisted_query_not_found(&self) -> bool {
        self.reason == RejectionReason::PersistedQueryNotFound
    }

    /// Serialises the errors as a response without `data`.
    pub fn into_graphql_response(self) -> GraphqlResponse {
        GraphqlResponse::from_errors(self.errors, false, self.cost)
    }
}

impl From<&Error> for RejectedRequest {
    fn from(error: &Error) -> Self {
        Self::with_request_id(error, "")
    }
}

/// Builds async-graphql's request from a parsed document and coerced variables.
pub(in crate::graphql) fn build_request(
    document: ExecutableDocument,
    operation_name: Option<String>,
    variables: Variables,
) -> Request {
    let mut request = Request::new(String::new()).variables(variables);
    request.operation_name = operation_name;
    request.set_parsed_query(document);
    request
}
