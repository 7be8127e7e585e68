//! One running operation as a stream of responses: one response, or one for each event.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};

use crate::domain::ids::request_id;
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::admission::request::{AdmittedRequest, RejectedRequest};
use crate::graphql::api::GraphqlService;
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::operation_guards::OperationGuards;
use crate::graphql::subscriptions::stream::SubscriptionStream;
use crate::realtime::dispatch::ports::FrameSink;
use crate::tasks::spawn_detached;

/// A running operation of any kind.
pub struct OperationStream {
    state: OperationState,
    _guard: Option<Arc<dyn Send + Sync>>,
}

enum OperationState {
    Starting(BoxFuture<'static, Started>),
    Subscribed(Box<SubscriptionStream>),
    Finished,
}

/// The first result of an operation.
enum Started {
    Subscribed(Box<SubscriptionStream>),
    Responded(GraphqlResponse),
}

impl OperationStream {
    /// Starts an operation, or prepares the response of a rejected request.
    pub fn new(
        api: Arc<GraphqlService>,
        admitted: Result<AdmittedRequest, RejectedRequest>,
        requester: Requester,
        guards: OperationGuards,
    ) -> Self {
        let _guard = guards.operation.clone();
        let starting = match admitted {
            Ok(admitted) => Self::start(api, admitted, requester, guards),
            Err(rejected) => async { Started::Responded(rejected.into_graphql_response()) }.boxed(),
        };
        Self { state: OperationState::Starting(starting), _guard }
    }

    /// Starts the task of an operation, which holds the guards to its end.
    fn start(
        api: Arc<GraphqlService>,
        admitted: AdmittedRequest,
        requester: Requester,
        guards: OperationGuards,
    ) -> BoxFuture<'static, Started> {
        let request_id = request_id();
        let id = request_id.clone();
        // A mutation runs to its end even if the client disconnects: its commit has to be published.
        let starting = spawn_detached(async move {
            if admitted.kind() != OperationKind::Subscription {
                return Ok(Started::Responded(api.execute(admitted, requester, &request_id, guards).await));
            }
            let _guards = guards;
            Ok(match api.subscribe(admitted, requester, request_id).await {
                Ok(stream) => Started::Subscribed(Box::new(stream)),
                Err(response) => Started::Responded(response),
            })
        });
        let to_response =
            move |error| Started::Responded(RejectedRequest::with_request_id(&error, &id).into_graphql_response());
        starting.map(|started| started.unwrap_or_else(to_response)).boxed()
    }

    /// Polls for the next response; `None` at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<GraphqlResponse>> {
        loop {
            self.state = match &mut self.state {
                OperationState::Starting(starting) => match ready!(starting.poll_unpin(cx)) {
                    Started::Subscribed(stream) => OperationState::Subscribed(stream),
                    Started::Responded(response) => {
                        self.state = OperationState::Finished;
                        return Poll::Ready(Some(response));
                    }
                },
                OperationState::Subscribed(stream) => return stream.poll_next(cx),
                OperationState::Finished => return Poll::Ready(None),
            };
        }
    }

    /// Lets shared payloads be written directly to the subscriber.
    ///
    /// The conditions are those of [`SubscriptionStream::enable_fast_path`].
    pub fn enable_fast_path(&mut self, sink: &Arc<dyn FrameSink>) {
        if let OperationState::Subscribed(stream) = &mut self.state {
            stream.enable_fast_path(sink);
        }
    }
}
