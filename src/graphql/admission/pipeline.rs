//! The checks that a request passes before execution, in their order.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::parser::{Error as ParseError, parse_query};
use async_graphql::{Pos, ServerError, Variables};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::error::Error;
use crate::graphql::admission::cost::{Cost, CostTable};
use crate::graphql::admission::document_limits::{self, DocumentError, DocumentLimits};
use crate::graphql::admission::lexer::SyntaxError;
use crate::graphql::admission::omitted_variables;
use crate::graphql::admission::operation::{self, OperationError};
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::admission::other_operations;
use crate::graphql::admission::persisted_queries::{PersistedQueries, PersistedQueryError};
use crate::graphql::admission::request::{AdmittedRequest, GraphqlRequest, RejectedRequest};
use crate::graphql::admission::schema_independence::is_schema_independent;
use crate::graphql::admission::syntax;
use crate::graphql::admission::variables::{CoercionError, InputTypes};
use crate::graphql::execution::errors;
use crate::graphql::settings::GraphqlSettings;
use crate::metrics::{KindLabel, METRICS};

/// The greatest total size of the texts whose parsed documents are cached.
///
/// Front ends send the same few documents over and over.
const MAX_CACHED_DOCUMENT_BYTES: u64 = 1024 * 1024;
/// The number of documents of ordinary size that fit [`MAX_CACHED_DOCUMENT_BYTES`].
const MAX_CACHED_DOCUMENTS: usize = 500;

/// The admission of requests, with the caches that it keeps between them.
pub struct AdmissionPipeline {
    input_types: InputTypes,
    costs: CostTable,
    max_depth: usize,
    max_cost: usize,
    is_introspection_public: bool,
    parsed_documents: Cache<Arc<str>, Arc<ExecutableDocument>, DocumentWeighter>,
    persisted_queries: PersistedQueries,
    document_limits: DocumentLimits,
}

/// Weighs a cached document by the length of its text.
#[derive(Clone)]
struct DocumentWeighter;

impl Weighter<Arc<str>, Arc<ExecutableDocument>> for DocumentWeighter {
    fn weight(&self, text: &Arc<str>, _: &Arc<ExecutableDocument>) -> u64 {
        text.len() as u64
    }
}

impl AdmissionPipeline {
    /// Creates the admission for a schema, given its definition.
    pub fn new(sdl: &str, settings: &GraphqlSettings) -> Self {
        Self {
            input_types: InputTypes::from_sdl(sdl),
            costs: CostTable::from_sdl(sdl),
            max_depth: settings.max_depth,
            max_cost: settings.max_complexity,
            is_introspection_public: settings.is_introspection_public,
            parsed_documents: Cache::with_weighter(MAX_CACHED_DOCUMENTS, MAX_CACHED_DOCUMENT_BYTES, DocumentWeighter),
            persisted_queries: PersistedQueries::default(),
            document_limits: DocumentLimits::default(),
        }
    }

    /// Checks a request up to the point where it could run.
    ///
    /// `has_token` is false for a client without a valid token. Where it must not see the schema, no document of it is
    /// compared with the schema: the differences between the errors would reveal it.
    ///
    /// # Errors
    ///
    /// Returns the rejection to send if the request has no document, or if its document, its
    /// operation or its variables break a rule.
    pub fn admit(&self, request: GraphqlRequest, has_token: bool) -> Result<AdmittedRequest, RejectedRequest> {
        let reports_cost = request.asks_for_cost();
        let (query, document) = self.resolve_document(&request, has_token || self.is_introspection_public)?;
        let operation_name = request.operation_name;
        let name = operation_name.as_deref();
        let selected = operation::select(&document, name).map_err(operation_rejection)?;
        let (operation, pos) = (&selected.node, selected.pos);
        let at_operation = |error: OperationError| rejection_at(error.to_string(), pos);
        let kind = OperationKind::from(operation.ty);
        let depth = operation::depth(&document, operation);
        if depth > self.max_depth {
            let message = format!("the operation is {depth} levels deep; at most {} are allowed", self.max_depth);
            return Err(rejection_at(message, pos));
        }
        operation::check_introspection(&document, operation).map_err(at_operation)?;
        operation::check_single_root(&document, operation).map_err(at_operation)?;
        let variables = Variables::from_json(serde_json::Value::Object(request.variables.unwrap_or_default()));
        let variables =
            self.input_types.coerce(&operation.variable_definitions, variables).map_err(variable_rejection)?;
        let cost =
            Cost { requested: self.costs.operation_cost(&document, operation, &variables), limit: self.max_cost };
        if cost.requested > cost.limit {
            METRICS.operations_rejected.get_or_create(&KindLabel { kind: "cost" }).inc();
            return Err(RejectedRequest::too_complex(cost, reports_cost));
        }
        let mut executable = (*document).clone();
        operation::hoist_single_root(&mut executable, name).map_err(operation_rejection)?;
        omitted_variables::null_omitted_variables(&mut executable, name, &variables);
        other_operations::separate_variables(&mut executable, name);
        let (event_variables, root_field) = match kind {
            OperationKind::Subscription => (
                operation::event_variables(&document, operation, &variables),
                operation::root_field_name(&document, operation).map_err(operation_rejection)?,
            ),
            OperationKind::Query | OperationKind::Mutation => Default::default(),
        };
        let reads_schema = operation::reads_schema(&document, operation);
        let needs_snapshot = kind == OperationKind::Query && operation::reads_feed_cursor(&document, operation);
        Ok(AdmittedRequest {
            query,
            document: executable,
            operation_name,
            variables,
            event_variables,
            kind,
            reads_schema,
            needs_snapshot,
            root_field,
            cost,
            reports_cost,
        })
    }

    /// Finds the text of a request's document, and parses it.
    fn resolve_document(
        &self,
        request: &GraphqlRequest,
        may_see_schema: bool,
    ) -> Result<(Arc<str>, Arc<ExecutableDocument>), RejectedRequest> {
        match (request.persisted_query(), request.query.as_deref()) {
            (Some(extension), query) => {
                let (query, hash) =
                    self.persisted_queries.resolve(extension, query).map_err(persisted_query_rejection)?;
                let document = self.parse_document(&query, may_see_schema)?;
                // Only now: a document that is rejected must not take a valid one's place in the cache.
                self.persisted_queries.store(hash, query.clone());
                Ok((query, document))
            }
            (None, Some(query)) => {
                let query = Arc::from(query);
                let document = self.parse_document(&query, may_see_schema)?;
                Ok((query, document))
            }
            (None, None) => Err(RejectedRequest::from(&Error::BadRequest("the request has no query".into()))),
        }
    }

    /// Parses a document within the limits, or returns it from the cache.
    fn parse_document(
        &self,
        query: &Arc<str>,
        may_see_schema: bool,
    ) -> Result<Arc<ExecutableDocument>, RejectedRequest> {
        let check_visibility = |document: &ExecutableDocument| match may_see_schema || is_schema_independent(document) {
            true => Ok(()),
            false => Err(RejectedRequest::from(&Error::unauthenticated("a token is needed"))),
        };
        if let Some(document) = self.parsed_documents.get(query) {
            check_visibility(&document)?;
            return Ok(document);
        }
        let text: Cow<'_, str> = document_limits::check(query, &self.document_limits)
            .map_err(|DocumentError { reason, pos }| rejection_at(reason.to_string(), pos))?;
        let document = parse_query(&*text).map_err(|error| parse_rejection(query, &error))?;
        check_visibility(&document)?;
        self.input_types.check_variable_types(&document).map_err(variable_rejection)?;
        let document = Arc::new(document);
        self.parsed_documents.insert(query.clone(), document.clone());
        Ok(document)
    }
}

/// Rejects a request for a part of its document.
fn rejection_at(message: String, pos: Pos) -> RejectedRequest {
    RejectedRequest::from_errors(vec![ServerError { locations: vec![pos], ..errors::bad_request(message) }])
}

/// Rejects a document that async-graphql cannot parse, in the words of graphql-js.
fn parse_rejection(query: &str, error: &ParseError) -> RejectedRequest {
    let (message, pos) = match error {
        ParseError::MultipleOperations { anonymous, .. } => {
            ("This anonymous operation must be the only defined operation.".to_owned(), *anonymous)
        }
        ParseError::OperationDuplicated { operation, second, .. } => {
            (format!("There can be only one operation named \"{operation}\"."), *second)
        }
        ParseError::FragmentDuplicated { fragment, second, .. } => {
            (format!("There can be only one fragment named \"{fragment}\"."), *second)
        }
        ParseError::MissingOperation => ("Must provide an operation.".to_owned(), Pos { line: 1, column: 1 }),
        _ => match syntax::first_error(query) {
            Some(SyntaxError { message, pos }) => (message, pos),
            // async-graphql does not support every form of the specification.
            None => {
                let pos = error.positions().next().unwrap_or(Pos { line: 1, column: 1 });
                ("Syntax Error: this form is not supported.".to_owned(), pos)
            }
        },
    };
    rejection_at(message, pos)
}

fn operation_rejection(error: OperationError) -> RejectedRequest {
    RejectedRequest::from_errors(vec![errors::bad_request(error.to_string())])
}

fn persisted_query_rejection(error: PersistedQueryError) -> RejectedRequest {
    match error {
        PersistedQueryError::Malformed(message) => RejectedRequest::from(&Error::BadRequest(message.into())),
        PersistedQueryError::NotFound => RejectedRequest::persisted_query_not_found(),
    }
}

fn variable_rejection(coercion_errors: Vec<CoercionError>) -> RejectedRequest {
    let to_server_error =
        |error: CoercionError| ServerError { locations: vec![error.pos], ..errors::bad_request(error.message) };
    RejectedRequest::from_errors(coercion_errors.into_iter().map(to_server_error).collect())
}
