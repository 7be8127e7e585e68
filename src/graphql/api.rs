//! The façade of the GraphQL layer: transports admit a request, then execute or subscribe.

use std::sync::Arc;

use futures_util::future::FutureExt;
use tokio::time::timeout;

use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::admission::pipeline::AdmissionPipeline;
use crate::graphql::admission::request::{AdmittedRequest, GraphqlRequest, RejectedRequest};
use crate::graphql::execution::budgets::over_deadline;
use crate::graphql::execution::executor::Executor;
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::operation_guards::OperationGuards;
use crate::graphql::settings::GraphqlSettings;
use crate::graphql::subscriptions::shared_operation::{OperationKey, OperationRegistry};
use crate::graphql::subscriptions::stream::{SubscriptionCounts, SubscriptionStream};
use crate::metrics::{FieldLabel, GaugeGuard, METRICS};
use crate::service::context::AppContext;
use crate::service::quotas::Quotas;
use crate::tasks::spawn_detached;

/// The GraphQL API of one server.
pub struct GraphqlService {
    admission: AdmissionPipeline,
    executor: Arc<Executor>,
    operations: OperationRegistry,
    quotas: Arc<Quotas>,
}

impl GraphqlService {
    /// Builds the schema and the caches of the API.
    pub fn new(app: Arc<AppContext>, settings: &GraphqlSettings) -> Self {
        let quotas = app.quotas.clone();
        let executor = Executor::new(app, settings);
        Self {
            admission: AdmissionPipeline::new(&executor.sdl(), settings),
            executor: Arc::new(executor),
            operations: OperationRegistry::default(),
            quotas,
        }
    }

    /// Checks a request up to the point where it could run; see [`AdmissionPipeline::admit`].
    ///
    /// # Errors
    ///
    /// Returns the rejection to send if the request has no document, or if its document, its
    /// operation or its variables break a rule.
    pub fn admit(&self, request: GraphqlRequest, has_token: bool) -> Result<AdmittedRequest, RejectedRequest> {
        self.admission.admit(request, has_token)
    }

    /// Runs a query or a mutation to its end or to its deadline.
    ///
    /// A query ends with its deadline. A mutation continues without its client, because its commit has to be published.
    /// It has to run on a task of its own: if this future is dropped after the commit, its event is not published.
    /// The guards are held as long as the execution continues.
    pub async fn execute(
        &self,
        admitted: AdmittedRequest,
        requester: Requester,
        request_id: &str,
        guards: OperationGuards,
    ) -> GraphqlResponse {
        let (kind, cost) = (admitted.kind, admitted.reported_cost());
        let (executor, id) = (self.executor.clone(), request_id.to_owned());
        let execution = async move {
            let _guards = guards;
            executor.execute(admitted, requester, &id).await
        };
        let mut execution = execution.boxed();
        let limit = self.executor.time_limit(kind);
        if let Ok(response) = timeout(limit, &mut execution).await {
            return response;
        }
        if kind == OperationKind::Mutation {
            drop(spawn_detached(execution.map(Ok)));
        }
        GraphqlResponse::from_failure(&over_deadline(kind, limit), request_id, cost)
    }

    /// Opens a subscription.
    ///
    /// # Errors
    ///
    /// Returns the response to send if validation or the resolver fails, or if the quota of subscriptions is used up.
    pub async fn subscribe(
        &self,
        admitted: AdmittedRequest,
        requester: Requester,
        request_id: String,
    ) -> Result<SubscriptionStream, GraphqlResponse> {
        let reject = |error| RejectedRequest::with_request_id(&error, &request_id).into_graphql_response();
        // The resolver rejects a requester without a viewer.
        let viewer = requester.viewer().ok();
        let quota = viewer.map(|viewer| self.quotas.subscriptions.acquire(&viewer.key()));
        let quota = quota.transpose().map_err(reject)?;
        let source = self.executor.open_subscription(&admitted, requester.clone(), &request_id).await?;
        let organization = requester.organization().map_err(reject)?.clone();
        let AdmittedRequest { query, document, operation_name, variables, event_variables, .. } = admitted;
        let AdmittedRequest { cost, reports_cost, root_field: field, .. } = admitted;
        let key = OperationKey { organization, query, operation_name, variables: event_variables, reports_cost };
        let operation = self.operations.get_or_insert(key, document, variables, cost);
        let gauge = GaugeGuard::increment(&METRICS.subscriptions.get_or_create(&FieldLabel { field }));
        let counts = SubscriptionCounts { _gauge: gauge, _quota: quota };
        Ok(SubscriptionStream::new(self.executor.clone(), operation, requester, source, request_id, counts))
    }
}
