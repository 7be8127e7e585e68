//! One subscription on its way through the events of its source.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{BoxFuture, FutureExt};

use super::context::Asker;
use super::execute::{Answer, Api, Refused};
use super::sharing::{Event, Operation, Source};
use crate::error::Result;
use crate::live::aside;
use crate::live::memo::{Made, Making};

pub struct Subscribed {
    api: Arc<Api>,
    operation: Arc<Operation>,
    asker: Asker,
    source: Source,
    request_id: String,
    state: State,
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

impl Subscribed {
    pub fn new(api: Arc<Api>, operation: Arc<Operation>, asker: Asker, source: Source, request_id: String) -> Self {
        Self { api, operation, asker, source, request_id, state: State::Listening }
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
                        Some(making) => State::Making(making, event),
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

    /// What all who ask the same are told of it, if there are others.
    fn shared(&self, event: &Event) -> Option<Making> {
        let (memo, position) = event.memo().filter(|_| self.operation.is_shared())?;
        Some(memo.of((self.operation.id, position), || self.make(event.clone())))
    }

    fn make(&self, event: Event) -> BoxFuture<'static, Option<Made>> {
        let (api, operation, asker) = (self.api.clone(), self.operation.clone(), self.asker.clone());
        let making = aside(async move {
            let everyone = Arc::new(event.everyone(asker.viewer()?.organization()));
            let answer = api.tell_everyone(&operation, event, everyone).await;
            Ok(answer.map(|answer| Made { body: answer.body, failed: answer.failed }))
        });
        // Each finds out by themselves what is wrong.
        making.map(|made| made.ok().flatten()).boxed()
    }

    fn alone(&self, event: Result<Event>) -> BoxFuture<'static, Option<Answer>> {
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
