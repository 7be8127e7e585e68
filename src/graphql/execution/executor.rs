//! The executor: runs admitted requests and the events of subscriptions against the schema.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Request, Response, ValidationMode};
use futures_util::stream::StreamExt;
use tokio::time::timeout;

use crate::domain::byte_budget::ByteBudget;
use crate::domain::cursors::DatabaseEpoch;
use crate::domain::ids::request_id;
use crate::domain::users::User;
use crate::error::{Error, Result as AppResult};
use crate::graphql::admission::cost::Cost;
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::admission::request::{AdmittedRequest, RejectedRequest};
use crate::graphql::execution::budgets::{ExecutionBudgets, MemoryShare, ResponseBudget, WaitingFields, over_deadline};
use crate::graphql::execution::errors;
use crate::graphql::execution::load_waves::{BatchedExecution, LoadQueue};
use crate::graphql::execution::requester::{Requester, SharedScope};
use crate::graphql::execution::response::{GraphqlResponse, ResponseFormat};
use crate::graphql::schema::context::ExecutionStart;
use crate::graphql::schema::loaders::Loaders;
use crate::graphql::schema::{Schema, schema_builder};
use crate::graphql::settings::GraphqlSettings;
use crate::graphql::subscriptions::source::{EventSource, ResolverPhase, SubscriptionEvent};
use crate::metrics::{KindLabel, METRICS, TimerGuard};
use crate::service::context::AppContext;
use crate::storage::read_budget::with_read_budget;
use crate::storage::read_permits::as_reader;
use crate::storage::read_queue::Reader;
use crate::storage::replica_reads::allowing_replica;
use crate::storage::shared_snapshot::on_one_snapshot;

/// Executes operations with the schema and the loaders of one server.
pub struct Executor {
    app: Arc<AppContext>,
    schema: Schema,
    /// The same schema with fast validation, for operations that were validated by `schema` before.
    event_schema: Schema,
    settings: GraphqlSettings,
}

/// The selections of a subscription, to run on one event.
pub struct EventRequest {
    pub request: Request,
    pub cost: Cost,
    /// True if the response reports the cost.
    pub reports_cost: bool,
}

/// A request with everything that its execution needs.
struct PreparedRequest {
    request: Request,
    loads: LoadQueue,
    budgets: ExecutionBudgets,
    read_budget: Arc<ByteBudget>,
    reader: Option<Reader>,
}

impl Executor {
    /// Builds the schema of a server.
    pub fn new(app: Arc<AppContext>, settings: &GraphqlSettings) -> Self {
        let builder = || schema_builder().data(app.clone());
        Self {
            schema: builder().finish(),
            event_schema: builder().validation_mode(ValidationMode::Fast).finish(),
            settings: settings.clone(),
            app,
        }
    }

    /// Returns the format of an operation's responses.
    fn format(&self, reported_cost: Option<Cost>) -> ResponseFormat {
        ResponseFormat { max_bytes: self.settings.max_response_bytes, cost: reported_cost }
    }

    /// Returns the time after which the client of an operation gets an error.
    pub fn time_limit(&self, kind: OperationKind) -> Duration {
        match kind {
            OperationKind::Mutation => self.settings.mutation_timeout,
            OperationKind::Query | OperationKind::Subscription => self.settings.query_timeout,
        }
    }

    /// Returns the epoch that the cursors of feeds contain.
    pub fn epoch(&self) -> DatabaseEpoch {
        self.app.epoch
    }

    /// Returns the schema's definition.
    pub fn sdl(&self) -> String {
        self.schema.sdl()
    }

    /// Runs a query or a mutation to its end.
    ///
    /// A mutation has to run on a task of its own: if this future is dropped after the commit, its event is
    /// not published.
    pub async fn execute(&self, admitted: AdmittedRequest, requester: Requester, request_id: &str) -> GraphqlResponse {
        if let Some(response) = self.reject_introspection(&admitted, &requester) {
            return response;
        }
        if let Some(response) = self.reject_change(&admitted, &requester, request_id) {
            return response;
        }
        let _timer = TimerGuard::start(&METRICS.graphql_operation_duration, admitted.kind.as_str());
        let AdmittedRequest { kind, cost, needs_snapshot, .. } = admitted;
        let format = self.format(admitted.reported_cost());
        let prepared = self.prepare(admitted.into_request(), kind, requester, Vec::new());
        let PreparedRequest { request, loads, budgets, read_budget, reader } = prepared;
        let execution = std::pin::pin!(self.schema.execute(request));
        let execution = BatchedExecution::new(execution, loads, budgets, cost.requested);
        let execution = self.read_as(reader, read_budget, execution);
        let response = match kind {
            _ if needs_snapshot => on_one_snapshot(execution).await,
            OperationKind::Query => allowing_replica(execution).await,
            OperationKind::Mutation | OperationKind::Subscription => execution.await,
        };
        respond(response, request_id, format)
    }

    /// Runs a subscription's resolver, which authorises the requester and opens the source of events.
    ///
    /// # Errors
    ///
    /// Returns the response to send if validation or the resolver fails.
    pub async fn open_subscription(
        &self,
        admitted: &AdmittedRequest,
        requester: Requester,
        request_id: &str,
    ) -> Result<EventSource, GraphqlResponse> {
        let _timer = TimerGuard::start(&METRICS.graphql_operation_duration, admitted.kind.as_str());
        let phase = ResolverPhase::subscribe();
        let request = admitted.to_request().data(phase.clone());
        let prepared = self.prepare(request, admitted.kind, requester, Vec::new());
        let response = self.run_to_first_response(&self.schema, prepared, admitted.cost).await;
        match (response, phase.take_source()) {
            (Some(response), _) => Err(respond(response, request_id, self.format(admitted.reported_cost()))),
            (None, Some(source)) => Ok(source),
            (None, None) => {
                let error = Error::internal("the resolver of a subscription opened no event source");
                Err(RejectedRequest::with_request_id(&error, request_id).into_graphql_response())
            }
        }
    }

    /// Runs a subscription's selections on one event; `None` if the operation selects nothing of it.
    pub async fn execute_event(
        &self,
        operation: EventRequest,
        event: AppResult<SubscriptionEvent>,
        requester: Requester,
        request_id: &str,
    ) -> Option<GraphqlResponse> {
        let EventRequest { request, cost, reports_cost } = operation;
        // A shared execution starts when the event is published, so the senders in it are current. An
        // individual one can start later, after a sender has changed their name.
        let preloaded_users = match (&requester, &event) {
            (Requester::Shared(_), Ok(event)) => event.referenced_users().to_vec(),
            _ => Vec::new(),
        };
        let request = request.data(ResolverPhase::event(event));
        let prepared = self.prepare(request, OperationKind::Subscription, requester, preloaded_users);
        let response = self.run_to_first_response(&self.event_schema, prepared, cost).await?;
        Some(respond(response, request_id, self.format(reports_cost.then_some(cost))))
    }

    /// Runs a subscription's selections on one event for all subscribers of the same operation.
    ///
    /// Returns `None` if the operation selects nothing of the event, or if the result depends on the viewer.
    pub async fn execute_event_shared(
        &self,
        operation: EventRequest,
        event: SubscriptionEvent,
        scope: Arc<SharedScope>,
    ) -> Option<GraphqlResponse> {
        let requester = Requester::Shared(scope.clone());
        let response = self.execute_event(operation, Ok(event), requester, &request_id()).await;
        let kind = if scope.is_tainted() { "discarded" } else { "shared" };
        METRICS.subscription_executions.get_or_create(&KindLabel { kind }).inc();
        response.filter(|_| !scope.is_tainted())
    }

    /// Returns whether a requester must not introspect: without a token, only in development mode.
    fn hides_introspection_from(&self, requester: &Requester) -> bool {
        requester.is_anonymous() && !self.settings.is_introspection_public
    }

    /// Returns the error of a request that reads `__schema` without a token, as a field's error.
    fn reject_introspection(&self, admitted: &AdmittedRequest, requester: &Requester) -> Option<GraphqlResponse> {
        (admitted.reads_schema && self.hides_introspection_from(requester)).then(|| {
            let error = Error::unauthenticated("a token is needed to read the schema");
            GraphqlResponse::from_errors(vec![errors::request_error(&error, "")], true, admitted.reported_cost())
        })
    }

    /// Returns the error of a mutation in an organisation that is on its way to another server.
    fn reject_change(
        &self,
        admitted: &AdmittedRequest,
        requester: &Requester,
        request_id: &str,
    ) -> Option<GraphqlResponse> {
        let organization = requester.organization().ok().filter(|_| admitted.kind == OperationKind::Mutation)?;
        let error = self.app.organization_moves.require_writable(organization).err()?;
        Some(GraphqlResponse::from_failure(&error, request_id, admitted.reported_cost()))
    }

    /// Runs the operation of a subscription to its first response, to its end or to its deadline.
    async fn run_to_first_response(
        &self,
        schema: &Schema,
        prepared: PreparedRequest,
        cost: Cost,
    ) -> Option<AppResult<Response>> {
        let PreparedRequest { request, loads, budgets, read_budget, reader } = prepared;
        let mut execution = BatchedExecution::new(schema.execute_stream(request), loads, budgets, cost.requested);
        let limit = self.time_limit(OperationKind::Subscription);
        let response = timeout(limit, self.read_as(reader, read_budget, execution.next())).await;
        response.unwrap_or_else(|_| Some(Err(over_deadline(OperationKind::Subscription, limit))))
    }

    /// Runs an execution whose reads count as those of the reader, and towards a budget.
    async fn read_as<T>(
        &self,
        reader: Option<Reader>,
        read_budget: Arc<ByteBudget>,
        execution: impl Future<Output = T>,
    ) -> T {
        let execution = with_read_budget(read_budget, execution);
        match reader {
            Some(reader) => as_reader(self.app.reads.clone(), reader, execution).await,
            None => execution.await,
        }
    }

    /// Adds the data that resolvers need to a request.
    fn prepare(
        &self,
        request: Request,
        kind: OperationKind,
        requester: Requester,
        preloaded_users: Vec<User>,
    ) -> PreparedRequest {
        let loads = LoadQueue::default();
        let reader = requester.reader();
        let user = reader.as_ref().and_then(|reader| Some((reader.organization.clone(), reader.user.clone()?)));
        let memory = user.map(|user| MemoryShare::new(self.app.quotas.operation_memory.clone(), user, kind));
        let budgets = ExecutionBudgets::new(&self.settings, memory);
        let read_budget = budgets.read.clone();
        // With introspection disabled, `__type` resolves to null.
        let request = if self.hides_introspection_from(&requester) { request.disable_introspection() } else { request };
        let loaders = Loaders::data_loader(self.app.clone(), requester.clone(), preloaded_users, loads.clone());
        let request = request.data(requester).data(loaders).data(ResponseBudget(budgets.response.clone()));
        let request = request.data(WaitingFields(budgets.waiting_fields.clone()));
        let start = (kind != OperationKind::Subscription).then(|| self.app.clock.now());
        let request = request.data(ExecutionStart(start));
        PreparedRequest { request, loads, budgets, read_budget, reader }
    }
}

/// Serialises the result of an execution, or the error with which it ended early.
fn respond(result: AppResult<Response>, request_id: &str, format: ResponseFormat) -> GraphqlResponse {
    match result {
        Ok(response) => GraphqlResponse::from_execution(response, request_id, format),
        Err(error) => GraphqlResponse::from_failure(&error, request_id, format.cost),
    }
}
