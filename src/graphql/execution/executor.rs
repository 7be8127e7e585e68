//! The executor: runs admitted requests and the events of subscriptions against the schema.

use std::sync::Arc;

use async_graphql::{Request, ValidationMode};
use futures_util::stream::StreamExt;

use crate::domain::ids::request_id;
use crate::domain::users::User;
use crate::error::{Error, Result as AppResult};
use crate::graphql::admission::request::{AdmittedRequest, RejectedRequest};
use crate::graphql::execution::errors;
use crate::graphql::execution::load_waves::{BatchedExecution, LoadQueue};
use crate::graphql::execution::requester::{Requester, SharedScope};
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::schema::loaders::Loaders;
use crate::graphql::schema::{Schema, schema_builder};
use crate::graphql::settings::GraphqlSettings;
use crate::graphql::subscriptions::source::{EventSource, ResolverPhase, SubscriptionEvent};
use crate::metrics::{KindLabel, METRICS, TimerGuard};
use crate::service::context::AppContext;

/// Executes operations with the schema and the loaders of one server.
pub struct Executor {
    app: Arc<AppContext>,
    schema: Schema,
    /// The same schema with fast validation, for operations that were validated by `schema` before.
    event_schema: Schema,
    is_introspection_public: bool,
}

impl Executor {
    /// Builds the schema of a server.
    pub fn new(app: Arc<AppContext>, settings: &GraphqlSettings) -> Self {
        let builder = || schema_builder().data(app.clone());
        Self {
            schema: builder().limit_complexity(settings.max_complexity).finish(),
            event_schema: builder().validation_mode(ValidationMode::Fast).finish(),
            is_introspection_public: settings.is_introspection_public,
            app,
        }
    }

    /// Returns the schema's definition.
    pub fn sdl(&self) -> String {
        self.schema.sdl()
    }

    /// Runs a query or a mutation to its end.
    ///
    /// A mutation has to run on a task of its own: if this future is dropped after the commit, its event is
    /// not published.
    pub async fn execute(&self, admitted: &AdmittedRequest, requester: Requester, request_id: &str) -> GraphqlResponse {
        if let Some(response) = self.reject_introspection(admitted, &requester) {
            return response;
        }
        let _timer = TimerGuard::start(&METRICS.graphql_operation_duration, admitted.kind.as_str());
        let (request, loads) = self.prepare(admitted.to_request(), requester, Vec::new());
        let execution = std::pin::pin!(self.schema.execute(request));
        GraphqlResponse::from_execution(BatchedExecution::new(execution, loads).await, request_id)
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
        let (request, loads) = self.prepare(admitted.to_request().data(phase.clone()), requester, Vec::new());
        let response = BatchedExecution::new(self.schema.execute_stream(request), loads).next().await;
        match (response, phase.take_source()) {
            (Some(response), _) => Err(GraphqlResponse::from_execution(response, request_id)),
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
        request: Request,
        event: AppResult<SubscriptionEvent>,
        requester: Requester,
        request_id: &str,
    ) -> Option<GraphqlResponse> {
        // A shared execution starts when the event is published, so the senders in it are current. An
        // individual one can start later, after a sender has changed their name.
        let preloaded_users = match (&requester, &event) {
            (Requester::Shared(_), Ok(event)) => event.referenced_users().to_vec(),
            _ => Vec::new(),
        };
        let request = request.data(ResolverPhase::event(event));
        let (request, loads) = self.prepare(request, requester, preloaded_users);
        let response = BatchedExecution::new(self.event_schema.execute_stream(request), loads).next().await;
        response.map(|response| GraphqlResponse::from_execution(response, request_id))
    }

    /// Runs a subscription's selections on one event for all subscribers of the same operation.
    ///
    /// Returns `None` if the operation selects nothing of the event, or if the result depends on the viewer.
    pub async fn execute_event_shared(
        &self,
        request: Request,
        event: SubscriptionEvent,
        scope: Arc<SharedScope>,
    ) -> Option<GraphqlResponse> {
        let requester = Requester::Shared(scope.clone());
        let response = self.execute_event(request, Ok(event), requester, &request_id()).await;
        let kind = if scope.is_tainted() { "discarded" } else { "shared" };
        METRICS.subscription_executions.get_or_create(&KindLabel { kind }).inc();
        response.filter(|_| !scope.is_tainted())
    }

    /// Returns whether a requester must not introspect: without a token, only in development mode.
    fn hides_introspection_from(&self, requester: &Requester) -> bool {
        requester.is_anonymous() && !self.is_introspection_public
    }

    /// Returns the error of a request that reads `__schema` without a token, as a field's error.
    fn reject_introspection(&self, admitted: &AdmittedRequest, requester: &Requester) -> Option<GraphqlResponse> {
        (admitted.reads_schema && self.hides_introspection_from(requester)).then(|| {
            let error = Error::unauthenticated("a token is needed to read the schema");
            GraphqlResponse::from_errors(vec![errors::request_error(&error, "")], true)
        })
    }

    /// Adds the data that resolvers need to a request.
    fn prepare(&self, request: Request, requester: Requester, preloaded_users: Vec<User>) -> (Request, LoadQueue) {
        let loads = LoadQueue::default();
        // With introspection disabled, `__type` resolves to null.
        let request = if self.hides_introspection_from(&requester) { request.disable_introspection() } else { request };
        let loaders = Loaders::data_loader(self.app.clone(), requester.clone(), preloaded_users, loads.clone());
        (request.data(requester).data(loaders), loads)
    }
}
