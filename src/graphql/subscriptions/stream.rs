//! One subscription on its way through the events of its source.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};

use crate::error::Result;
use crate::graphql::api::{GraphqlResponse, GraphqlService, RejectedRequest};
use crate::graphql::schema::context::Requester;
use crate::graphql::subscriptions::shared_operation::SharedOperation;
use crate::graphql::subscriptions::source::{EventSource, SubscriptionEvent};
use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::realtime::dispatch::fast_path::FrameSink;
use crate::realtime::dispatch::render_cache::{RenderFuture, RenderedPayload};
use crate::tasks::spawn_detached;

pub struct SubscriptionStream {
    api: Arc<GraphqlService>,
    operation: Arc<SharedOperation>,
    requester: Requester,
    source: EventSource,
    request_id: String,
    state: SubscriptionState,
    _gauge: GaugeGuard,
}

enum SubscriptionState {
    AwaitingEvent,
    /// What all who ask the same are told of an event is being made.
    AwaitingShared(RenderFuture, SubscriptionEvent),
    /// What this one alone is told.
    Executing(BoxFuture<'static, Option<GraphqlResponse>>),
    /// The same, and it is the last.
    Finishing(BoxFuture<'static, Option<GraphqlResponse>>),
    Finished,
}

/// What all who ask the same are told.
enum SharedRendering {
    Ready(RenderedPayload),
    Pending(RenderFuture),
}

impl SubscriptionStream {
    pub fn new(
        api: Arc<GraphqlService>,
        operation: Arc<SharedOperation>,
        asker: Requester,
        mut source: EventSource,
        request_id: String,
        counted: GaugeGuard,
    ) -> Self {
        operation.add_subscriber();
        source.join_render_group(&api, &operation);
        Self {
            api,
            operation,
            requester: asker,
            source,
            request_id,
            state: SubscriptionState::AwaitingEvent,
            _gauge: counted,
        }
    }

    /// What the subscriber is told next; nothing at the end. Polled by hand, for most that is told was made
    /// already and is only handed on.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<GraphqlResponse>> {
        loop {
            self.state = match &mut self.state {
                SubscriptionState::Finished => return Poll::Ready(None),
                SubscriptionState::AwaitingEvent => match ready!(self.source.poll_next(cx)) {
                    None => SubscriptionState::Finished,
                    Some(Err(error)) => SubscriptionState::Finishing(self.execute_individually(Err(error))),
                    Some(Ok(event)) => match self.shared_rendering(&event) {
                        Some(SharedRendering::Ready(RenderedPayload { body, should_resubscribe: failed })) => {
                            self.state =
                                if failed { SubscriptionState::Finished } else { SubscriptionState::AwaitingEvent };
                            return Poll::Ready(Some(GraphqlResponse {
                                body,
                                executed: true,
                                should_resubscribe: failed,
                            }));
                        }
                        Some(SharedRendering::Pending(making)) => SubscriptionState::AwaitingShared(making, event),
                        None => SubscriptionState::Executing(self.execute_individually(Ok(event))),
                    },
                },
                SubscriptionState::AwaitingShared(making, event) => match ready!(making.poll_unpin(cx)) {
                    Some(RenderedPayload { body, should_resubscribe: failed }) => {
                        self.state =
                            if failed { SubscriptionState::Finished } else { SubscriptionState::AwaitingEvent };
                        return Poll::Ready(Some(GraphqlResponse { body, executed: true, should_resubscribe: failed }));
                    }
                    None => {
                        let event = event.clone();
                        SubscriptionState::Executing(self.execute_individually(Ok(event)))
                    }
                },
                SubscriptionState::Executing(telling) => match ready!(telling.poll_unpin(cx)) {
                    // The operation says nothing of this event.
                    None => SubscriptionState::AwaitingEvent,
                    Some(answer) => {
                        // What could not be told is not lost: the client goes on from its cursor.
                        self.state = if answer.should_resubscribe {
                            SubscriptionState::Finished
                        } else {
                            SubscriptionState::AwaitingEvent
                        };
                        return Poll::Ready(Some(answer));
                    }
                },
                SubscriptionState::Finishing(telling) => {
                    let answer = ready!(telling.poll_unpin(cx));
                    self.state = SubscriptionState::Finished;
                    return Poll::Ready(answer);
                }
            };
        }
    }

    /// Lets what all are told go straight to the subscriber, until it is polled again: for one that has just been
    /// polled and was pending, and whose answers were all written.
    pub fn enable_fast_path(&mut self, outlet: &Arc<dyn FrameSink>) {
        if matches!(self.state, SubscriptionState::AwaitingEvent) {
            self.source.enable_fast_path(outlet);
        }
    }

    /// What all who ask the same are told of it, if there are others and it is the same for all.
    fn shared_rendering(&self, event: &SubscriptionEvent) -> Option<SharedRendering> {
        let (memo, position) = event.render_cache().filter(|_| self.operation.is_shared())?;
        match memo.get_completed((self.operation.id, position)) {
            Some(made) => made.map(SharedRendering::Ready),
            None => Some(SharedRendering::Pending(self.operation.render(&self.api, event, memo, position))),
        }
    }

    fn execute_individually(&self, event: Result<SubscriptionEvent>) -> BoxFuture<'static, Option<GraphqlResponse>> {
        METRICS.subscription_executions.get_or_create(&KindLabel { kind: "alone" }).inc();
        // By the newest token, which may allow other things than the first.
        let asker = match &self.requester {
            Requester::Session(session, _) => Requester::from_session(session.clone()),
            asker => asker.clone(),
        };
        let (api, operation, request_id) = (self.api.clone(), self.operation.clone(), self.request_id.clone());
        let id = request_id.clone();
        let telling = spawn_detached(async move { Ok(api.execute_event(&operation, event, asker, &id).await) });
        let failed = move |error| {
            Some(GraphqlResponse {
                executed: true,
                should_resubscribe: true,
                ..RejectedRequest::with_request_id(&error, &request_id).into_graphql_response()
            })
        };
        telling.map(|told| told.unwrap_or_else(failed)).boxed()
    }
}

impl Drop for SubscriptionStream {
    fn drop(&mut self) {
        self.operation.remove_subscriber();
    }
}
