//! An operation under way: one answer, or one for each event.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_graphql::parser::types::OperationType;
use futures_util::future::{BoxFuture, FutureExt};

use crate::domain::ids::request_id;
use crate::graphql::api::{AdmittedRequest, GraphqlResponse, GraphqlService, RejectedRequest};
use crate::graphql::schema::context::Requester;
use crate::graphql::subscriptions::stream::SubscriptionStream;
use crate::realtime::dispatch::fast_path::FrameSink;
use crate::tasks::spawn_detached;

/// An operation of any kind on its way.
pub enum OperationStream {
    Starting(BoxFuture<'static, Started>),
    Subscribed(Box<SubscriptionStream>),
    Finished,
}

/// What an operation began with.
pub enum Started {
    Subscribed(Box<SubscriptionStream>),
    Responded(GraphqlResponse),
}

impl OperationStream {
    pub fn new(api: Arc<GraphqlService>, admitted: Result<AdmittedRequest, RejectedRequest>, asker: Requester) -> Self {
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                return Self::Starting(async { Started::Responded(refused.into_graphql_response()) }.boxed());
            }
        };
        let request_id = request_id();
        let id = request_id.clone();
        // What changes something goes on to its end though nobody waits for it: what it commits has to be
        // told.
        let begun = spawn_detached(async move {
            if admitted.operation_type != OperationType::Subscription {
                return Ok(Started::Responded(api.execute(admitted, asker, &request_id).await));
            }
            Ok(match api.subscribe(admitted, asker, request_id).await {
                Ok(subscribed) => Started::Subscribed(Box::new(subscribed)),
                Err(answer) => Started::Responded(answer),
            })
        });
        let failed =
            move |error| Started::Responded(RejectedRequest::with_request_id(&error, &id).into_graphql_response());
        Self::Starting(begun.map(|begun| begun.unwrap_or_else(failed)).boxed())
    }

    /// The next answer; nothing at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<GraphqlResponse>> {
        loop {
            match self {
                Self::Starting(beginning) => match ready!(beginning.poll_unpin(cx)) {
                    Started::Subscribed(subscribed) => *self = Self::Subscribed(subscribed),
                    Started::Responded(answer) => {
                        *self = Self::Finished;
                        return Poll::Ready(Some(answer));
                    }
                },
                Self::Subscribed(subscribed) => return subscribed.poll_next(cx),
                Self::Finished => return Poll::Ready(None),
            }
        }
    }

    /// Lets what all are told go straight to the subscriber, as [`Subscribed::lend`] has it.
    pub fn enable_fast_path(&mut self, outlet: &Arc<dyn FrameSink>) {
        if let Self::Subscribed(subscribed) = self {
            subscribed.enable_fast_path(outlet);
        }
    }
}
