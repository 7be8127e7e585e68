//! An operation under way: one answer, or one for each event.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_graphql::parser::types::OperationType;
use futures_util::future::{BoxFuture, FutureExt};

use crate::domain::ids::request_id;
use crate::graphql::api::{Admitted, Answer, Api, Refused};
use crate::graphql::schema::context::Asker;
use crate::graphql::subscriptions::stream::Subscribed;
use crate::realtime::dispatch::fast_path::Outlet;
use crate::tasks::aside;

/// An operation of any kind on its way.
pub enum Running {
    Beginning(BoxFuture<'static, Begun>),
    Subscribed(Box<Subscribed>),
    Over,
}

/// What an operation began with.
pub enum Begun {
    Subscribed(Box<Subscribed>),
    Answered(Answer),
}

impl Running {
    pub fn new(api: Arc<Api>, admitted: Result<Admitted, Refused>, asker: Asker) -> Self {
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => return Self::Beginning(async { Begun::Answered(refused.answer()) }.boxed()),
        };
        let request_id = request_id();
        let id = request_id.clone();
        // What changes something goes on to its end though nobody waits for it: what it commits has to be
        // told.
        let begun = aside(async move {
            if admitted.operation != OperationType::Subscription {
                return Ok(Begun::Answered(api.execute(admitted, asker, &request_id).await));
            }
            Ok(match api.subscribe(admitted, asker, request_id).await {
                Ok(subscribed) => Begun::Subscribed(Box::new(subscribed)),
                Err(answer) => Begun::Answered(answer),
            })
        });
        let failed = move |error| Begun::Answered(Refused::under(&error, &id).answer());
        Self::Beginning(begun.map(|begun| begun.unwrap_or_else(failed)).boxed())
    }

    /// The next answer; nothing at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            match self {
                Self::Beginning(beginning) => match ready!(beginning.poll_unpin(cx)) {
                    Begun::Subscribed(subscribed) => *self = Self::Subscribed(subscribed),
                    Begun::Answered(answer) => {
                        *self = Self::Over;
                        return Poll::Ready(Some(answer));
                    }
                },
                Self::Subscribed(subscribed) => return subscribed.poll_next(cx),
                Self::Over => return Poll::Ready(None),
            }
        }
    }

    /// Lets what all are told go straight to the subscriber, as [`Subscribed::lend`] has it.
    pub fn lend(&mut self, outlet: &Arc<dyn Outlet>) {
        if let Self::Subscribed(subscribed) = self {
            subscribed.lend(outlet);
        }
    }
}
