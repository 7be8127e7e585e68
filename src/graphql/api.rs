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
use crate::graphql::admission::persisted_queries::{PersistedQueries, Unknown};
use crate::graphql::admission::variables::InputTypes;
use crate::graphql::admission::{document_limits, omitted_variables, operation, variables};
use crate::graphql::execution::errors;
use crate::graphql::execution::load_waves::{InWaves, Loads};
use crate::graphql::schema::context::{Asker, Everyone};
use crate::graphql::schema::loaders::Loaders;
use crate::graphql::schema::{Schema, builder};
use crate::graphql::subscriptions::shared_operation::{Key, Operation, Operations};
use crate::graphql::subscriptions::source::{Event, Phase};
use crate::graphql::subscriptions::stream::Subscribed;
use crate::metrics::{Counted, Field, Kind, METRICS, Timed};
use crate::service::context::App;

/// Parsed documents that are kept, by the bytes of their text: front ends send the same few over
/// and over.
const DOCUMENT_BYTES: u64 = 1024 * 1024;
/// Documents of middling size that this is.
const DOCUMENTS: usize = 500;
/// Errors that a response tells; a small document can have thousands of conflicts.
const ERRORS: usize = 50;

/// The API over one server.
pub struct Api {
    app: Arc<App>,
    schema: Schema,
    /// The same for what was checked already.
    events: Schema,
    operations: Operations,
    types: InputTypes,
    documents: Cache<Arc<str>, Arc<ExecutableDocument>, TextBytes>,
    persisted: PersistedQueries,
    limits: document_limits::Limits,
}

#[derive(Clone)]
struct TextBytes;

impl Weighter<Arc<str>, Arc<ExecutableDocument>> for TextBytes {
    fn weight(&self, text: &Arc<str>, _: &Arc<ExecutableDocument>) -> u64 {
        text.len() as u64
    }
}

/// What a client asks, as the envelope of every transport has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
    pub extensions: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A request that may run.
pub struct Admitted {
    query: Arc<str>,
    document: ExecutableDocument,
    name: Option<String>,
    variables: Variables,
    /// The variables that an event of a subscription can depend on, as JSON.
    variables_of_events: String,
    pub operation: OperationType,
    reads_schema: bool,
    /// The root field of a subscription.
    field: String,
}

/// A request that may not: what is wrong with it, in the response's form.
#[derive(Debug)]
pub struct Refused(pub Vec<ServerError>);

/// A response, written out.
#[derive(Debug, Clone)]
pub struct Answer {
    pub body: ByteString,
    /// False where nothing ran: the body has no `data`.
    pub executed: bool,
    /// The server could not tell, and who asked has to ask again.
    pub failed: bool,
}

impl Envelope {
    /// Reads the JSON of an envelope. The message says what in it is not as the specification asks.
    pub fn read(json: &[u8]) -> Result<Self, Error> {
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| Error::BadRequest(format!("not JSON: {error}")))?;
        match value {
            serde_json::Value::Array(_) => Err(Error::BadRequest("batches are not taken: send one request".into())),
            serde_json::Value::Object(_) => Self::of(value),
            _ => Err(Error::BadRequest("the request must be a JSON object".into())),
        }
    }

    /// Reads an envelope that is JSON already.
    pub fn of(value: serde_json::Value) -> Result<Self, Error> {
        serde_json::from_value(value).map_err(|error| Error::BadRequest(format!("the request is malformed: {error}")))
    }
}

impl Refused {
    fn one(error: &Error) -> Self {
        Self::under(error, "")
    }

    /// For what may be a fault of the server: the cause is logged under the request's id.
    pub fn under(error: &Error, request_id: &str) -> Self {
        Self(vec![errors::request_error(error, request_id)])
    }

    pub fn answer(self) -> Answer {
        write(&Response::from_errors(self.0), false)
    }
}

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        Self::one(error)
    }
}

impl Api {
    pub fn new(app: Arc<App>) -> Self {
        let builder = || builder().data(app.clone());
        let schema = builder().limit_complexity(app.config.limits.complexity).finish();
        Self {
            types: InputTypes::from_sdl(&schema.sdl()),
            schema,
            events: builder().validation_mode(ValidationMode::Fast).finish(),
            operations: Operations::default(),
            documents: Cache::with_weighter(DOCUMENTS, DOCUMENT_BYTES, TextBytes),
            persisted: PersistedQueries::default(),
            limits: document_limits::Limits::default(),
            app,
        }
    }

    /// Checks a request up to where it could run.
    pub fn admit(&self, envelope: Envelope) -> Result<Admitted, Refused> {
        let persisted = envelope.extensions.as_ref().and_then(|extensions| extensions.get("persistedQuery"));
        let (query, hash) = match (persisted, envelope.query) {
            (Some(extension), query) => {
                let (query, hash) = self.persisted.resolve(extension, query.as_deref()).map_err(not_persisted)?;
                (query, Some(hash))
            }
            (None, Some(query)) => (Arc::from(query), None),
            (None, None) => return Err(Refused::one(&Error::BadRequest("the request has no query".into()))),
        };
        let document = self.document(&query)?;
        if let Some(hash) = hash {
            self.persisted.remember(hash, query.clone());
        }
        let name = envelope.operation_name.as_deref();
        let refused = |error: operation::Refusal| Refused(vec![refusal(error.to_string())]);
        let operation = &operation::select(&document, name).map_err(refused)?.node;
        let kind = operation.ty;
        let (depth, deepest) = (operation::depth(&document, operation), self.app.config.limits.depth);
        if depth > deepest {
            let message = format!("the operation is {depth} levels deep; at most {deepest} are allowed");
            return Err(Refused(vec![refusal(message)]));
        }
        operation::check_introspection(&document, operation).map_err(refused)?;
        operation::check_single_root(&document, operation).map_err(refused)?;
        let variables = Variables::from_json(serde_json::Value::Object(envelope.variables.unwrap_or_default()));
        let variables = self.types.coerce(&operation.variable_definitions, variables).map_err(wrong_variables)?;
        let mut runnable = (*document).clone();
        operation::hoist_single_root(&mut runnable, name).map_err(refused)?;
        omitted_variables::default_to_null(&mut runnable, name, &variables);
        let variables_of_events = match kind {
            OperationType::Subscription => operation::variables_of_events(&document, operation, &variables),
            OperationType::Query | OperationType::Mutation => String::new(),
        };
        let reads_schema = operation::reads_schema(&document, operation);
        let field = match kind {
            OperationType::Subscription => operation::single_root(&document, operation).map_err(refused)?,
            OperationType::Query | OperationType::Mutation => String::new(),
        };
        let (document, name, operation) = (runnable, envelope.operation_name, kind);
        Ok(Admitted { query, document, name, variables, variables_of_events, operation, reads_schema, field })
    }

    /// A document that the guard let through, parsed.
    fn document(&self, query: &Arc<str>) -> Result<Arc<ExecutableDocument>, Refused> {
        if let Some(document) = self.documents.get(query) {
            return Ok(document);
        }
        let admitted: Cow<'_, str> = document_limits::admit(query, &self.limits)
            .map_err(|refused| Refused(vec![refusal(refused.to_string())]))?;
        let parsed = parse_query(&*admitted).map_err(|error| {
            let mut error = ServerError::from(error);
            errors::finish(std::slice::from_mut(&mut error), "");
            Refused(vec![error])
        })?;
        self.types.check(&parsed).map_err(wrong_variables)?;
        let parsed = Arc::new(parsed);
        self.documents.insert(query.clone(), parsed.clone());
        Ok(parsed)
    }

    /// Runs a query or a mutation to its end.
    pub async fn execute(&self, admitted: Admitted, asker: Asker, request_id: &str) -> Answer {
        if let Some(answer) = self.hides_schema(&admitted, &asker) {
            return answer;
        }
        let _timed = Timed::of(&METRICS.requests, kind_of(admitted.operation));
        let (request, loads) = self.prepare(admitted.request(), asker, Vec::new());
        let execution = std::pin::pin!(self.schema.execute(request));
        finish(InWaves::new(execution, loads).await, request_id)
    }

    /// Attaches a subscription, or says why not.
    pub async fn subscribe(
        self: &Arc<Self>,
        admitted: Admitted,
        asker: Asker,
        request_id: String,
    ) -> Result<Subscribed, Answer> {
        let _timed = Timed::of(&METRICS.requests, kind_of(admitted.operation));
        let phase = Phase::attach();
        let (request, loads) = self.prepare(admitted.request().data(phase.clone()), asker.clone(), Vec::new());
        let refused = InWaves::new(self.schema.execute_stream(request), loads).next().await;
        match (refused, phase.source()) {
            (Some(response), _) => Err(finish(response, &request_id)),
            (None, None) => {
                let error = Error::internal("a subscription listens to nothing");
                Err(Refused::under(&error, &request_id).answer())
            }
            (None, Some(source)) => {
                let Admitted { query, document, name, variables, variables_of_events, field, .. } = admitted;
                let organization = match asker.organization() {
                    Ok(organization) => organization.clone(),
                    Err(error) => return Err(Refused::under(&error, &request_id).answer()),
                };
                let key = Key { organization, query, name, variables: variables_of_events };
                let operation = self.operations.join(key, document, variables);
                let counted = Counted::in_gauge(&METRICS.subscriptions.get_or_create(&Field { field }));
                Ok(Subscribed::new(self.clone(), operation, asker, source, request_id, counted))
            }
        }
    }

    /// What is told of an event; nothing where the operation says nothing of it.
    pub async fn tell(
        &self,
        operation: &Operation,
        event: OurResult<Event>,
        asker: Asker,
        request_id: &str,
    ) -> Option<Answer> {
        // What is told to all is told at once; one alone may hear later, when people may be called otherwise.
        let people = match (&asker, &event) {
            (Asker::Everyone(_), Ok(event)) => event.people().to_vec(),
            _ => Vec::new(),
        };
        let request = operation.request().data(Phase::tell(event));
        let (request, loads) = self.prepare(request, asker, people);
        let response = InWaves::new(self.events.execute_stream(request), loads).next().await;
        response.map(|response| finish(response, request_id))
    }

    /// What all who ask the same are told of an event; nothing where that depends on who asks.
    pub async fn tell_everyone(&self, operation: &Operation, event: Event, everyone: Arc<Everyone>) -> Option<Answer> {
        let asker = Asker::Everyone(everyone.clone());
        let answer = self.tell(operation, Ok(event), asker, &request_id()).await;
        let kind = if everyone.is_tainted() { "tainted" } else { "shared" };
        METRICS.executions.get_or_create(&Kind { kind }).inc();
        answer.filter(|_| !everyone.is_tainted())
    }

    /// A stranger reads the schema of a development server only.
    fn is_hidden_from(&self, asker: &Asker) -> bool {
        asker.is_stranger() && !self.app.config.is_development()
    }

    /// The answer to who asks for the schema and may not: that of any field that needs a token.
    fn hides_schema(&self, admitted: &Admitted, asker: &Asker) -> Option<Answer> {
        (admitted.reads_schema && self.is_hidden_from(asker)).then(|| {
            let error = Error::unauthenticated("a token is needed to read the schema");
            write(&Response::from_errors(vec![errors::request_error(&error, "")]), true)
        })
    }

    fn prepare(&self, request: Request, asker: Asker, people: Vec<User>) -> (Request, Loads) {
        let loads = Loads::default();
        // `__type` finds nothing then.
        let request = if self.is_hidden_from(&asker) { request.disable_introspection() } else { request };
        let loaders = Loaders::batching(self.app.clone(), asker.clone(), people, loads.clone());
        (request.data(asker).data(loaders), loads)
    }
}

impl Admitted {
    fn request(&self) -> Request {
        request(&self.document, self.name.as_deref(), &self.variables)
    }
}

/// A request of what was parsed and coerced already.
pub fn request(document: &ExecutableDocument, name: Option<&str>, variables: &Variables) -> Request {
    let mut request = Request::new(String::new()).variables(variables.clone());
    request.operation_name = name.map(ToOwned::to_owned);
    request.set_parsed_query(document.clone());
    request
}

fn kind_of(operation: OperationType) -> &'static str {
    match operation {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}

fn not_persisted(unknown: Unknown) -> Refused {
    match unknown {
        Unknown::Malformed(why) => Refused::one(&Error::BadRequest(why.into())),
        Unknown::NotFound => {
            // The words and the code that Apollo's link and urql's exchange look for.
            let mut error = refusal("PersistedQueryNotFound".into());
            error.extensions.get_or_insert_default().set("code", "PERSISTED_QUERY_NOT_FOUND");
            Refused(vec![error])
        }
    }
}

fn wrong_variables(refusals: Vec<variables::Refusal>) -> Refused {
    let error = |wrong: variables::Refusal| ServerError { locations: vec![wrong.pos], ..refusal(wrong.message) };
    Refused(refusals.into_iter().map(error).collect())
}

fn refusal(message: String) -> ServerError {
    errors::request_error(&Error::BadRequest(message), "")
}

fn finish(mut response: Response, request_id: &str) -> Answer {
    // What fails in a field has a path; what fails before any field runs has none.
    let executed = response.data != Value::Null || response.errors.iter().any(|error| !error.path.is_empty());
    response.errors.truncate(ERRORS);
    errors::finish(&mut response.errors, request_id);
    let failed = response.errors.iter().any(errors::is_unavailable);
    Answer { failed, ..write(&response, executed) }
}

fn write(response: &Response, executed: bool) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "<[ServerError]>::is_empty")]
        errors: &'a [ServerError],
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Value>,
    }
    let body = Body { errors: &response.errors, data: executed.then_some(&response.data) };
    let body = serde_json::to_string(&body).expect("GraphQL values are JSON");
    Answer { body: body.into(), executed, failed: false }
}
