//! The façade of the GraphQL layer: transports admit a request, then execute or subscribe.

use std::sync::Arc;

use crate::graphql::admission::pipeline::AdmissionPipeline;
use crate::graphql::admission::request::{AdmittedRequest, GraphqlRequest, RejectedRequest};
use crate::graphql::execution::executor::Executor;
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::settings::GraphqlSettings;
use crate::graphql::subscriptions::shared_operation::{OperationKey, OperationRegistry};
use crate::graphql::subscriptions::stream::SubscriptionStream;
use crate::metrics::{FieldLabel, GaugeGuard, METRICS};
use crate::service::context::AppContext;

/// The GraphQL API of one server.
pub struct GraphqlService {
    admission: AdmissionPipeline,
    executor: Arc<Executor>,
    operations: OperationRegistry,
}

impl GraphqlService {
    /// Builds the schema and the caches of the API.
    pub fn new(app: Arc<AppContext>, settings: &GraphqlSettings) -> Self {
        let executor = Executor::new(app, settings);
        Self {
            admission: AdmissionPipeline::new(&executor.sdl(), settings.max_depth),
            executor: Arc::new(executor),
            operations: OperationRegistry::default(),
        }
    }

    /// Checks a request up to the point where it could run.
    ///
    /// # Errors
    ///
    /// Returns the rejection to send if the request has no document, or if its document, its
    /// operation or its variables break a rule.
    pub fn admit(&self, request: GraphqlRequest) -> Result<AdmittedRequest, RejectedRequest> {
        self.admission.admit(request)
    }

    /// Runs a query or a mutation to its end.
    ///
    /// A mutation has to run on a task of its own: if this future is dropped after the commit, its event is
    /// not published.
    pub async fn execute(&self, admitted: AdmittedRequest, requester: Requester, request_id: &str) -> GraphqlResponse {
        self.executor.execute(&admitted, requester, request_id).await
    }

    /// Opens a subscription.
    ///
    /// # Errors
    ///
    /// Returns the response to send if validation or the resolver fails.
    pub async fn subscribe(
        &self,
        admitted: AdmittedRequest,
        requester: Requester,
        request_id: String,
    ) -> Result<SubscriptionStream, GraphqlResponse> {
        let source = self.executor.open_subscription(&admitted, requester.clone(), &request_id).await?;
        let organization = match requester.organization() {
            Ok(organization) => organization.clone(),
            Err(error) => return Err(RejectedRequest::with_request_id(&error, &request_id).into_graphql_response()),
        };
        let AdmittedRequest { query, document, operation_name, variables, event_variables, root_field: field, .. } =
            admitted;
        let key = OperationKey { organization, query, operation_name, variables: event_variables };
        let operation = self.operations.get_or_insert(key, document, variables);
        let gauge = GaugeGuard::increment(&METRICS.subscriptions.get_or_create(&FieldLabel { field }));
        Ok(SubscriptionStream::new(self.executor.clone(), operation, requester, source, request_id, gauge))
    }
}
