//! One subscription on its way through the events of its source.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::context::Asker;
use super::execute::{Answer, Api, Refused};
use super::sharing::{Event, Operation, Source};
use crate::error::Result;
use crate::live::aside;
use crate::live::memo::Made;

pub struct Subscribed {
    api: Arc<Api>,
    operation: Arc<Operation>,
    asker: Asker,
    source: Source,
    request_id: String,
    ended: bool,
}

impl Subscribed {
    pub fn new(api: Arc<Api>, operation: Arc<Operation>, asker: Asker, source: Source, request_id: String) -> Self {
        Self { api, operation, asker, source, request_id, ended: false }
    }

    /// What the subscriber is told next; nothing at the end. Safe to drop and call again as long as it
    /// waits for an event.
    pub async fn next(&mut self) -> Option<Answer> {
        loop {
            if self.ended {
                return None;
            }
            let event = self.source.next().await?;
            self.ended = event.is_err();
            let told = match self.shared(&event).await {
                Some(answer) => Some(answer),
                None => self.alone(event).await,
            };
            if let Some(answer) = told {
                // What could not be told is not lost: the client goes on from its cursor.
                self.ended |= answer.failed;
                return Some(answer);
            }
        }
    }

    /// What all who ask the same are told of it, if there are others and it is the same for all.
    async fn shared(&self, event: &Result<Event>) -> Option<Answer> {
        let event = event.as_ref().ok()?;
        let (memo, position) = event.memo().filter(|_| self.operation.is_shared())?;
        let making = memo.of((self.operation.id, position), || self.make(event.clone()));
        let made = match making.peek() {
            Some(made) => made.clone(),
            None => making.await,
        };
        made.map(|made| Answer { body: made.body, executed: true, failed: made.failed })
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

    async fn alone(&self, event: Result<Event>) -> Option<Answer> {
        // By the newest token, which may allow other things than the first.
        let asker = match &self.asker {
            Asker::Session(session, _) => Asker::on(session.clone()),
            asker => asker.clone(),
        };
        let (api, operation, request_id) = (self.api.clone(), self.operation.clone(), self.request_id.clone());
        let telling = aside(async move { Ok(api.tell(&operation, event, asker, &request_id).await) });
        match telling.await {
            Ok(told) => told,
            Err(error) => {
                Some(Answer { executed: true, failed: true, ..Refused::under(&error, &self.request_id).answer() })
            }
        }
    }
}
