//! One subscription on its way through the events of its source.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};

use crate::error::Result;
use crate::graphql::api::{Answer, Api, Refused};
use crate::graphql::schema::context::Asker;
use crate::graphql::subscriptions::shared_operation::Operation;
use crate::graphql::subscriptions::source::{Event, Source};
use crate::metrics::{Counted, Kind, METRICS};
use crate::realtime::dispatch::fast_path::Outlet;
use crate::realtime::dispatch::render_cache::{Made, Making};
use crate::tasks::aside;

pub struct Subscribed {
    api: Arc<Api>,
    operation: Arc<Operation>,
    asker: Asker,
    source: Source,
    request_id: String,
    state: State,
    _counted: Counted,
}

enum State {
    Listening,
    /// What all who ask the same are told of an event is being made.
    Making(Making, Event),
    /// What this one alone is told.
    Telling(BoxFuture<'static, Option<Answer>>),
    /// The same, and it is the last.
    Ending(BoxFuture<'static, Option<Answer>>),
    Ended,
}

/// What all who ask the same are told.
enum Shared {
    Made(Made),
    Making(Making),
}

impl Subscribed {
    pub fn new(
        api: Arc<Api>,
        operation: Arc<Operation>,
        asker: Asker,
        mut source: Source,
        request_id: String,
        counted: Counted,
    ) -> Self {
        operation.enter();
        source.share(&api, &operation);
        Self { api, operation, asker, source, request_id, state: State::Listening, _counted: counted }
    }

    /// What the subscriber is told next; nothing at the end. Polled by hand, for most that is told was made
    /// already and is only handed on.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            self.state = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Listening => match ready!(self.source.poll_next(cx)) {
                    None => State::Ended,
                    Some(Err(error)) => State::Ending(self.alone(Err(error))),
                    Some(Ok(event)) => match self.shared(&event) {
                        Some(Shared::Made(Made { body, failed })) => {
                            self.state = if failed { State::Ended } else { State::Listening };
                            return Poll::Ready(Some(Answer { body, executed: true, failed }));
                        }
                        Some(Shared::Making(making)) => State::Making(making, event),
                        None => State::Telling(self.alone(Ok(event))),
                    },
                },
                State::Making(making, event) => match ready!(making.poll_unpin(cx)) {
                    Some(Made { body, failed }) => {
                        self.state = if failed { State::Ended } else { State::Listening };
                        return Poll::Ready(Some(Answer { body, executed: true, failed }));
                    }
                    None => {
                        let event = event.clone();
                        State::Telling(self.alone(Ok(event)))
                    }
                },
                State::Telling(telling) => match ready!(telling.poll_unpin(cx)) {
                    // The operation says nothing of this event.
                    None => State::Listening,
                    Some(answer) => {
                        // What could not be told is not lost: the client goes on from its cursor.
                        self.state = if answer.failed { State::Ended } else { State::Listening };
                        return Poll::Ready(Some(answer));
                    }
                },
                State::Ending(telling) => {
                    let answer = ready!(telling.poll_unpin(cx));
                    self.state = State::Ended;
                    return Poll::Ready(answer);
                }
            };
        }
    }

    /// Lets what all are told go straight to the subscriber, until it is polled again: for one that has just been
    /// polled and was pending, and whose answers were all written.
    pub fn lend(&mut self, outlet: &Arc<dyn Outlet>) {
        if matches!(self.state, State::Listening) {
            self.source.lend(outlet);
        }
    }

    /// What all who ask the same are told of it, if there are others and it is the same for all.
    fn shared(&self, event: &Event) -> Option<Shared> {
        let (memo, position) = event.memo().filter(|_| self.operation.is_shared())?;
        match memo.made((self.operation.id, position)) {
            Some(made) => made.map(Shared::Made),
            None => Some(Shared::Making(self.operation.make(&self.api, event, memo, position))),
        }
    }

    fn alone(&self, event: Result<Event>) -> BoxFuture<'static, Option<Answer>> {
        METRICS.executions.get_or_create(&Kind { kind: "alone" }).inc();
        // By the newest token, which may allow other things than the first.
        let asker = match &self.asker {
            Asker::Session(session, _) => Asker::on(session.clone()),
            asker => asker.clone(),
        };
        let (api, operation, request_id) = (self.api.clone(), self.operation.clone(), self.request_id.clone());
        let id = request_id.clone();
        let telling = aside(async move { Ok(api.tell(&operation, event, asker, &id).await) });
        let failed =
            move |error| Some(Answer { executed: true, failed: true, ..Refused::under(&error, &request_id).answer() });
        telling.map(|told| told.unwrap_or_else(failed)).boxed()
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.operation.leave();
    }
}
