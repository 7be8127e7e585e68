//! From what a client sent to what it gets back, the same on every transport.
//!
//! A request is *admitted* first: the guard reads its document, it is parsed, its operation chosen,
//! its variables coerced. What is refused there never runs. Then it is *executed*.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Request, Response, ServerError, ValidationMode, Value, Variables};
use bytestring::ByteString;
use futures_util::stream::StreamExt;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::domain::ids::request_id;
use crate::domain::users::User;
use crate::error::{Error, Result as OurResult};
use crate::graphql::admission::persisted_queries::{PersistedQueries, PersistedQueryError};
use crate::graphql::admission::variables::InputTypes;
use crate::graphql::admission::{document_limits, omitted_variables, operation, variables};
use crate::graphql::execution::errors;
use crate::graphql::execution::load_waves::{BatchedExecution, LoadQueue};
use crate::graphql::schema::context::{Requester, SharedScope};
use crate::graphql::schema::loaders::Loaders;
use crate::graphql::schema::{Schema, schema_builder};
use crate::graphql::subscriptions::shared_operation::{OperationKey, OperationRegistry, SharedOperation};
use crate::graphql::subscriptions::source::{ResolverPhase, SubscriptionEvent};
use crate::graphql::subscriptions::stream::SubscriptionStream;
use crate::metrics::{FieldLabel, GaugeGuard, KindLabel, METRICS, TimerGuard};
use crate::service::context::AppContext;

/// Parsed documents that are kept, by the bytes of their text: front ends send the same few over
/// and over.
const MAX_CACHED_DOCUMENT_BYTES: u64 = 1024 * 1024;
/// Documents of middling size that this is.
const MAX_CACHED_DOCUMENTS: usize = 500;
/// Errors that a response tells; a small document can have thousands of conflicts.
const MAX_ERRORS: usize = 50;

/// The API over one server.
pub struct GraphqlService {
    app: Arc<AppContext>,
    schema: Schema,
    /// The same for what was checked already.
    event_schema: Schema,
    operations: OperationRegistry,
    input_types: InputTypes,
    parsed_documents: Cache<Arc<str>, Arc<ExecutableDocument>, DocumentWeighter>,
    persisted_queries: PersistedQueries,
    document_limits: document_limits::DocumentLimits,
}

#[derive(Clone)]
struct DocumentWeighter;

impl Weighter<Arc<str>, Arc<ExecutableDocument>> for DocumentWeighter {
    fn weight(&self, text: &Arc<str>, _: &Arc<ExecutableDocument>) -> u64 {
        text.len() as u64
    }
}

/// What a client asks, as the envelope of every transport has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRequest {
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
    pub extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A request that may run.
pub struct AdmittedRequest {
    query: Arc<str>,
    document: ExecutableDocument,
    operation_name: Option<String>,
    variables: Variables,
    /// The variables that an event of a subscription can depend on, as JSON.
    event_variables: String,
    pub operation_type: OperationType,
    reads_schema: bool,
    /// The root field of a subscription.
    root_field: String,
}

/// A request that may not: what is wrong with it, in the response's form.
#[derive(Debug)]
pub struct RejectedRequest(pub Vec<ServerError>);

/// A response, written out.
#[derive(Debug, Clone)]
pub struct GraphqlResponse {
    pub body: ByteString,
    /// False where nothing ran: the body has no `data`.
    pub executed: bool,
    /// The server could not tell, and who asked has to ask again.
    pub should_resubscribe: bool,
}

impl GraphqlRequest {
    /// Reads the JSON of an envelope. The message says what in it is not as the specification asks.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| Error::BadRequest(format!("not JSON: {error}")))?;
        match value {
            serde_json::Value::Array(_) => Err(Error::BadRequest("batches are not taken: send one request".into())),
            serde_json::Value::Object(_) => Self::from_value(value),
            _ => Err(Error::BadRequest("the request must be a JSON object".into())),
        }
    }

    /// Reads an envelope that is JSON already.
    pub fn from_value(value: serde_json::Value) -> Result<Self, Error> {
        serde_json::from_value(value).map_err(|error| Error::BadRequest(format!("the request is malformed: {error}")))
    }
}

impl RejectedRequest {
    fn single(error: &Error) -> Self {
        Self::with_request_id(error, "")
    }

    /// For what may be a fault of the server: the cause is logged under the request's id.
    pub fn with_request_id(error: &Error, request_id: &str) -> Self {
        Self(vec![errors::request_error(error, request_id)])
    }

    pub fn into_graphql_response(self) -> GraphqlResponse {
        serialize_response(&Response::from_errors(self.0), false)
    }
}

impl From<&Error> for RejectedRequest {
    fn from(error: &Error) -> Self {
        Self::single(error)
    }
}

impl GraphqlService {
    pub fn new(app: Arc<AppContext>) -> Self {
        let builder = || schema_builder().data(app.clone());
        let schema = builder().limit_complexity(app.config.limits.max_complexity).finish();
        Self {
            input_types: InputTypes::from_sdl(&schema.sdl()),
            schema,
            event_schema: builder().validation_mode(ValidationMode::Fast).finish(),
            operations: OperationRegistry::default(),
            parsed_documents: Cache::with_weighter(MAX_CACHED_DOCUMENTS, MAX_CACHED_DOCUMENT_BYTES, DocumentWeighter),
            persisted_queries: PersistedQueries::default(),
            document_limits: document_limits::DocumentLimits::default(),
            app,
        }
    }

    /// Checks a request up to where it could run.
    pub fn admit(&self, envelope: GraphqlRequest) -> Result<AdmittedRequest, RejectedRequest> {
        let persisted = envelope.extensions.as_ref().and_then(|extensions| extensions.get("persistedQuery"));
        let (query, hash) = match (persisted, envelope.query) {
            (Some(extension), query) => {
                let (query, hash) =
                    self.persisted_queries.resolve(extension, query.as_deref()).map_err(persisted_query_rejection)?;
                (query, Some(hash))
            }
            (None, Some(query)) => (Arc::from(query), None),
            (None, None) => return Err(RejectedRequest::single(&Error::BadRequest("the request has no query".into()))),
        };
        let document = self.parse_document(&query)?;
        if let Some(hash) = hash {
            self.persisted_queries.store(hash, query.clone());
        }
        let name = envelope.operation_name.as_deref();
        let refused = |error: operation::OperationError| RejectedRequest(vec![rejection(error.to_string())]);
        let operation = &operation::select(&document, name).map_err(refused)?.node;
        let kind = operation.ty;
        let (depth, deepest) = (operation::depth(&document, operation), self.app.config.limits.max_depth);
        if depth > deepest {
            let message = format!("the operation is {depth} levels deep; at most {deepest} are allowed");
            return Err(RejectedRequest(vec![rejection(message)]));
        }
        operation::check_introspection(&document, operation).map_err(refused)?;
        operation::check_single_root(&document, operation).map_err(refused)?;
        let variables = Variables::from_json(serde_json::Value::Object(envelope.variables.unwrap_or_default()));
        let variables =
            self.input_types.coerce(&operation.variable_definitions, variables).map_err(variable_rejection)?;
        let mut runnable = (*document).clone();
        operation::hoist_single_root(&mut runnable, name).map_err(refused)?;
        omitted_variables::null_omitted_variables(&mut runnable, name, &variables);
        let variables_of_events = match kind {
            OperationType::Subscription => operation::event_variables(&document, operation, &variables),
            OperationType::Query | OperationType::Mutation => String::new(),
        };
        let reads_schema = operation::reads_schema(&document, operation);
        let field = match kind {
            OperationType::Subscription => operation::root_field_name(&document, operation).map_err(refused)?,
            OperationType::Query | OperationType::Mutation => String::new(),
        };
        let (document, name, operation) = (runnable, envelope.operation_name, kind);
        Ok(AdmittedRequest {
            query,
            document,
            operation_name: name,
            variables,
            event_variables: variables_of_events,
            operation_type: operation,
            reads_schema,
            root_field: field,
        })
    }

    /// A document that the guard let through, parsed.
    fn parse_document(&self, query: &Arc<str>) -> Result<Arc<ExecutableDocument>, RejectedRequest> {
        if let Some(document) = self.parsed_documents.get(query) {
            return Ok(document);
        }
        let admitted: Cow<'_, str> = document_limits::check(query, &self.document_limits)
            .map_err(|refused| RejectedRequest(vec![rejection(refused.to_string())]))?;
        let parsed = parse_query(&*admitted).map_err(|error| {
            let mut error = ServerError::from(error);
            errors::finalize_errors(std::slice::from_mut(&mut error), "");
            RejectedRequest(vec![error])
        })?;
        self.input_types.check_variable_types(&parsed).map_err(variable_rejection)?;
        let parsed = Arc::new(parsed);
        self.parsed_documents.insert(query.clone(), parsed.clone());
        Ok(parsed)
    }

    /// Runs a query or a mutation to its end.
    pub async fn execute(&self, admitted: AdmittedRequest, asker: Requester, request_id: &str) -> GraphqlResponse {
        if let Some(answer) = self.reject_introspection(&admitted, &asker) {
            return answer;
        }
        let _timed = TimerGuard::start(&METRICS.graphql_operation_duration, operation_kind(admitted.operation_type));
        let (request, loads) = self.prepare(admitted.to_request(), asker, Vec::new());
        let execution = std::pin::pin!(self.schema.execute(request));
        finalize_response(BatchedExecution::new(execution, loads).await, request_id)
    }

    /// Attaches a subscription, or says why not.
    pub async fn subscribe(
        self: &Arc<Self>,
        admitted: AdmittedRequest,
        asker: Requester,
        request_id: String,
    ) -> Result<SubscriptionStream, GraphqlResponse> {
        let _timed = TimerGuard::start(&METRICS.graphql_operation_duration, operation_kind(admitted.operation_type));
        let phase = ResolverPhase::subscribe();
        let (request, loads) = self.prepare(admitted.to_request().data(phase.clone()), asker.clone(), Vec::new());
        let refused = BatchedExecution::new(self.schema.execute_stream(request), loads).next().await;
        match (refused, phase.take_source()) {
            (Some(response), _) => Err(finalize_response(response, &request_id)),
            (None, None) => {
                let error = Error::internal("a subscription listens to nothing");
                Err(RejectedRequest::with_request_id(&error, &request_id).into_graphql_response())
            }
            (None, Some(source)) => {
                let AdmittedRequest {
                    query,
                    document,
                    operation_name: name,
                    variables,
                    event_variables: variables_of_events,
                    root_field: field,
                    ..
                } = admitted;
                let organization = match asker.organization() {
                    Ok(organization) => organization.clone(),
                    Err(error) => {
                        return Err(RejectedRequest::with_request_id(&error, &request_id).into_graphql_response());
                    }
                };
                let key = OperationKey { organization, query, operation_name: name, variables: variables_of_events };
                let operation = self.operations.get_or_insert(key, document, variables);
                let counted = GaugeGuard::increment(&METRICS.subscriptions.get_or_create(&FieldLabel { field }));
                Ok(SubscriptionStream::new(self.clone(), operation, asker, source, request_id, counted))
            }
        }
    }

    /// What is told of an event; nothing where the operation says nothing of it.
    pub async fn execute_event(
        &self,
        operation: &SharedOperation,
        event: OurResult<SubscriptionEvent>,
        asker: Requester,
        request_id: &str,
    ) -> Option<GraphqlResponse> {
        // What is told to all is told at once; one alone may hear later, when people may be called otherwise.
        let people = match (&asker, &event) {
            (Requester::Shared(_), Ok(event)) => event.referenced_users().to_vec(),
            _ => Vec::new(),
        };
        let request = operation.to_request().data(ResolverPhase::event(event));
        let (request, loads) = self.prepare(request, asker, people);
        let response = BatchedExecution::new(self.event_schema.execute_stream(request), loads).next().await;
        response.map(|response| finalize_response(response, request_id))
    }

    /// What all who ask the same are told of an event; nothing where that depends on who asks.
    pub async fn execute_event_shared(
        &self,
        operation: &SharedOperation,
        event: SubscriptionEvent,
        everyone: Arc<SharedScope>,
    ) -> Option<GraphqlResponse> {
        let asker = Requester::Shared(everyone.clone());
        let answer = self.execute_event(operation, Ok(event), asker, &request_id()).await;
        let kind = if everyone.is_tainted() { "tainted" } else { "shared" };
        METRICS.subscription_executions.get_or_create(&KindLabel { kind }).inc();
        answer.filter(|_| !everyone.is_tainted())
    }

    /// A stranger reads the schema of a development server only.
    fn hides_introspection_from(&self, asker: &Requester) -> bool {
        asker.is_anonymous() && !self.app.config.is_development()
    }

    /// The answer to who asks for the schema and may not: that of any field that needs a token.
    fn reject_introspection(&self, admitted: &AdmittedRequest, asker: &Requester) -> Option<GraphqlResponse> {
        (admitted.reads_schema && self.hides_introspection_from(asker)).then(|| {
            let error = Error::unauthenticated("a token is needed to read the schema");
            serialize_response(&Response::from_errors(vec![errors::request_error(&error, "")]), true)
        })
    }

    fn prepare(&self, request: Request, asker: Requester, people: Vec<User>) -> (Request, LoadQueue) {
        let loads = LoadQueue::default();
        // `__type` finds nothing then.
        let request = if self.hides_introspection_from(&asker) { request.disable_introspection() } else { request };
        let loaders = Loaders::data_loader(self.app.clone(), asker.clone(), people, loads.clone());
        (request.data(asker).data(loaders), loads)
    }
}

impl AdmittedRequest {
    fn to_request(&self) -> Request {
        build_request(&self.document, self.operation_name.as_deref(), &self.variables)
    }
}

/// A request of what was parsed and coerced already.
pub fn build_request(document: &ExecutableDocument, name: Option<&str>, variables: &Variables) -> Request {
    let mut request = Request::new(String::new()).variables(variables.clone());
    request.operation_name = name.map(ToOwned::to_owned);
    request.set_parsed_query(document.clone());
    request
}

fn operation_kind(operation: OperationType) -> &'static str {
    match operation {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

fn persisted_query_rejection(unknown: PersistedQueryError) -> RejectedRequest {
    match unknown {
        PersistedQueryError::Malformed(why) => RejectedRequest::single(&Error::BadRequest(why.into())),
        PersistedQueryError::NotFound => {
            // The words and the code that Apollo's link and urql's exchange look for.
            let mut error = rejection("PersistedQueryNotFound".into());
            error.extensions.get_or_insert_default().set("code", "PERSISTED_QUERY_NOT_FOUND");
            RejectedRequest(vec![error])
        }
    }
}

fn variable_rejection(refusals: Vec<variables::CoercionError>) -> RejectedRequest {
    let error =
        |wrong: variables::CoercionError| ServerError { locations: vec![wrong.pos], ..rejection(wrong.message) };
    RejectedRequest(refusals.into_iter().map(error).collect())
}

fn rejection(message: String) -> ServerError {
    errors::request_error(&Error::BadRequest(message), "")
}

fn finalize_response(mut response: Response, request_id: &str) -> GraphqlResponse {
    // What fails in a field has a path; what fails before any field runs has none.
    let executed = response.data != Value::Null || response.errors.iter().any(|error| !error.path.is_empty());
    response.errors.truncate(MAX_ERRORS);
    errors::finalize_errors(&mut response.errors, request_id);
    let failed = response.errors.iter().any(errors::is_unavailable);
    GraphqlResponse { should_resubscribe: failed, ..serialize_response(&response, executed) }
}

fn serialize_response(response: &Response, executed: bool) -> GraphqlResponse {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "<[ServerError]>::is_empty")]
        errors: &'a [ServerError],
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    }
    let body = Body { errors: &response.errors, data: executed.then_some(&response.data) };
    let body = serde_json::to_string(&body).expect("GraphQL values are JSON");
    GraphqlResponse { body: body.into(), executed, should_resubscribe: false }
}
