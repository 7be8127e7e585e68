//! One subscriber's way through the events of its source.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};

use crate::access::EventAccess;
use crate::domain::rights::DenialReason;
use crate::error::{Error, Result};
use crate::graphql::admission::request::RejectedRequest;
use crate::graphql::execution::executor::Executor;
use crate::graphql::execution::requester::Requester;
use crate::graphql::execution::response::GraphqlResponse;
use crate::graphql::subscriptions::shared_operation::SharedOperation;
use crate::graphql::subscriptions::source::{EventSource, SubscriptionEvent};
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::dispatch::ports::FrameSink;
use crate::realtime::dispatch::render_cache::{RenderFuture, RenderedPayload};
use crate::service::quotas::QuotaGuard;
use crate::tasks::spawn_detached;

/// An open subscription, which yields a response for each event that the operation selects.
pub struct SubscriptionStream {
    executor: Arc<Executor>,
    operation: Arc<SharedOperation>,
    requester: Requester,
    source: EventSource,
    request_id: String,
    state: SubscriptionState,
    _counts: SubscriptionCounts,
}

/// The counts of open subscriptions, which end with the stream.
pub struct SubscriptionCounts {
    pub _gauge: GaugeGuard,
    pub _quota: Option<QuotaGuard>,
}

enum SubscriptionState {
    AwaitingEvent,
    /// The response that all subscribers of the operation share is being rendered.
    AwaitingShared(RenderFuture, SubscriptionEvent),
    /// The event is being executed for this subscriber only, by their access to the event's chat.
    Executing(BoxFuture<'static, Option<GraphqlResponse>>, Option<Arc<EventAccess>>),
    /// The source's error is being rendered, after which the stream ends.
    Finishing(BoxFuture<'static, Option<GraphqlResponse>>),
    Finished,
}

/// The state of the rendering that all subscribers share.
enum SharedRendering {
    Ready(RenderedPayload),
    Pending(RenderFuture),
}

impl SubscriptionStream {
    /// Creates the stream of an opened source, and counts the subscriber of the operation.
    pub fn new(
        executor: Arc<Executor>,
        operation: Arc<SharedOperation>,
        requester: Requester,
        mut source: EventSource,
        request_id: String,
        counts: SubscriptionCounts,
    ) -> Self {
        operation.add_subscriber();
        if let Some(select_event) = source.event_selector() {
            source.join_render_group(&operation.render_group(&executor, select_event));
        }
        Self {
            executor,
            operation,
            requester,
            source,
            request_id,
            state: SubscriptionState::AwaitingEvent,
            _counts: counts,
        }
    }

    /// Polls for the next response; `None` at the end.
    ///
    /// It is a state machine instead of an `async fn` because most responses are already rendered: they are
    /// returned at once, without a future of their own.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<GraphqlResponse>> {
        loop {
            self.state = match &mut self.state {
                SubscriptionState::Finished => return Poll::Ready(None),
                SubscriptionState::AwaitingEvent => match ready!(self.source.poll_next(cx)) {
                    None => SubscriptionState::Finished,
                    Some(Err(error)) => self.finish_with(error),
                    Some(Ok(event)) => match self.shared_rendering(&event) {
                        Some(SharedRendering::Ready(payload)) => return self.yield_response(payload_response(payload)),
                        Some(SharedRendering::Pending(rendering)) => {
                            SubscriptionState::AwaitingShared(rendering, event)
                        }
                        None => self.start_executing(event),
                    },
                },
                SubscriptionState::AwaitingShared(rendering, event) => match ready!(rendering.poll_unpin(cx)) {
                    Some(payload) => return self.yield_response(payload_response(payload)),
                    None => {
                        let event = event.clone();
                        self.start_executing(event)
                    }
                },
                SubscriptionState::Executing(execution, event_access) => {
                    let response = ready!(execution.poll_unpin(cx));
                    match response {
                        _ if event_access.as_ref().is_some_and(|access| access.is_lost()) => self.skip_event(),
                        // The operation selects nothing of this event.
                        None => SubscriptionState::AwaitingEvent,
                        Some(response) => return self.yield_response(response),
                    }
                }
                SubscriptionState::Finishing(execution) => {
                    let response = ready!(execution.poll_unpin(cx));
                    self.state = SubscriptionState::Finished;
                    return Poll::Ready(response);
                }
            };
        }
    }

    /// Lets shared payloads be written directly to the subscriber until the stream is polled again.
    ///
    /// The caller must have polled the stream just before, must have got `Pending`, and must have written every
    /// response of it; otherwise a payload would overtake them.
    pub fn enable_fast_path(&mut self, sink: &Arc<dyn FrameSink>) {
        if matches!(self.state, SubscriptionState::AwaitingEvent) {
            self.source.enable_fast_path(sink);
        }
    }

    /// Yields a response; the stream ends with one that the server was unable to render.
    ///
    /// The event of such a response is not lost: the client subscribes again from its cursor.
    fn yield_response(&mut self, response: GraphqlResponse) -> Poll<Option<GraphqlResponse>> {
        self.state =
            if response.should_resubscribe { SubscriptionState::Finished } else { SubscriptionState::AwaitingEvent };
        Poll::Ready(Some(response))
    }

    /// Skips an event after the membership by which it was authorised has ended.
    ///
    /// The feed of a chat ends, as none of its events may be missing. Other feeds report the removal themselves.
    fn skip_event(&self) -> SubscriptionState {
        match self.source.is_chat_feed() {
            true => self.finish_with(DenialReason::NotAMember.into()),
            false => SubscriptionState::AwaitingEvent,
        }
    }

    fn finish_with(&self, error: Error) -> SubscriptionState {
        SubscriptionState::Finishing(self.execute_individually(Err(error), None))
    }

    fn start_executing(&self, event: SubscriptionEvent) -> SubscriptionState {
        let event_access = event.authorizing_chat().map(|chat| Arc::new(EventAccess::new(chat)));
        SubscriptionState::Executing(self.execute_individually(Ok(event), event_access.clone()), event_access)
    }

    /// Returns the rendering that the operation's subscribers share; `None` if there is nothing to share.
    fn shared_rendering(&self, event: &SubscriptionEvent) -> Option<SharedRendering> {
        let (cache, version) = event.render_cache().filter(|_| self.operation.is_shared())?;
        match cache.get_completed((self.operation.id, version)) {
            Some(rendered) => rendered.map(SharedRendering::Ready),
            None => Some(SharedRendering::Pending(self.operation.render(&self.executor, event, cache, version))),
        }
    }

    /// Executes an event for this subscriber only, on a task of its own.
    ///
    /// A panic of the task becomes an internal error, after which the client has to subscribe again.
    fn execute_individually(
        &self,
        event: Result<SubscriptionEvent>,
        event_access: Option<Arc<EventAccess>>,
    ) -> BoxFuture<'static, Option<GraphqlResponse>> {
        METRICS.subscription_executions.get_or_create(&KindLabel { kind: "individual" }).inc();
        // The newest token counts: its permissions can differ from those of the first.
        let requester = self.requester.for_event(event_access);
        let (executor, operation) = (self.executor.clone(), self.operation.clone());
        let (request_id, id) = (self.request_id.clone(), self.request_id.clone());
        let execution =
            spawn_detached(
                async move { Ok(executor.execute_event(operation.to_request(), event, requester, &id).await) },
            );
        let to_response = move |error: Error| {
            Some(GraphqlResponse {
                executed: true,
                should_resubscribe: true,
                ..RejectedRequest::with_request_id(&error, &request_id).into_graphql_response()
            })
        };
        execution.map(|response| response.unwrap_or_else(to_response)).boxed()
    }
}

impl Drop for SubscriptionStream {
    fn drop(&mut self) {
        self.operation.remove_subscriber();
    }
}

fn payload_response(payload: RenderedPayload) -> GraphqlResponse {
    let RenderedPayload { body, should_resubscribe } = payload;
    GraphqlResponse { body, executed: true, should_resubscribe }
}
