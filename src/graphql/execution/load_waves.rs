//! DataLoaders without a delay, whose loads run in waves.
//!
//! By default, a DataLoader waits a millisecond for more keys, on a task of its own. Here the loads of an execution
//! belong to the execution: it is polled until it cannot proceed, and then every key of this level of the query is
//! known. Now all loads of this wave run concurrently to their end, and the next wave begins. So a level of a
//! query costs one statement for each kind of key, always the same number, and no time is lost by waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::runtime::Timer;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use futures_util::task::{FutureObj, Spawn, SpawnError};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::error::Result;
use crate::graphql::execution::budgets::ExecutionBudgets;

/// The cost from which on an execution may compute for long without a pause.
///
/// A field takes about a microsecond, so cheaper executions occupy a worker of the runtime for milliseconds at most.
const LONG_EXECUTION_COST: usize = 5_000;

/// The loads that the DataLoaders of an execution have spawned and that no wave has started yet.
///
/// The lock protects the list only, and no other lock is taken under it.
#[derive(Clone, Default)]
pub struct LoadQueue(Arc<Mutex<Vec<FutureObj<'static, ()>>>>);

impl LoadQueue {
    /// Takes the loads that were spawned since the last call.
    fn drain(&self) -> Vec<FutureObj<'static, ()>> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Spawn for LoadQueue {
    fn spawn_obj(&self, load: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.lock().push(load);
        Ok(())
    }
}

/// A timer that never waits, because a wave starts when its execution cannot proceed.
pub struct NoDelay;

impl Timer for NoDelay {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

/// An execution that drives its own loads; it is a future or a stream, like the execution.
///
/// It fails as soon as the execution has exceeded a budget, and must then be dropped.
pub struct BatchedExecution<T> {
    execution: T,
    load_queue: LoadQueue,
    budgets: ExecutionBudgets,
    /// True if each poll gives the other tasks of its worker to another thread before it computes.
    leaves_worker: bool,
    current_wave: FuturesUnordered<FutureObj<'static, ()>>,
    /// The loads that were spawned while the current wave runs.
    next_wave: Vec<FutureObj<'static, ()>>,
}

impl<T> BatchedExecution<T> {
    /// Combines an execution of this cost with the queue of its DataLoaders and its budgets.
    pub fn new(execution: T, load_queue: LoadQueue, budgets: ExecutionBudgets, cost: usize) -> Self {
        Self {
            execution,
            load_queue,
            budgets,
            leaves_worker: cost > LONG_EXECUTION_COST && runs_on_worker(),
            current_wave: FuturesUnordered::new(),
            next_wave: Vec::new(),
        }
    }

    /// Polls the loads and the execution until the execution is ready or both are pending.
    fn poll_all_waves<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<Result<R>> {
        match self.leaves_worker {
            true => block_in_place(|| self.poll_in_place(cx, poll)),
            false => self.poll_in_place(cx, poll),
        }
    }

    fn poll_in_place<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<Result<R>> {
        loop {
            self.poll_wave(cx);
            // The execution is polled while a wave runs: a resolver that queries directly holds a connection for
            // which the wave may wait. Keys that it requests meanwhile belong to the next wave.
            let polled = poll(&mut self.execution, cx);
            // Resolvers beyond the response's budget stay pending, and loads beyond the read budget fail.
            if let Some(error) = self.budgets.excess() {
                return Poll::Ready(Err(error));
            }
            if let Poll::Ready(result) = polled {
                return Poll::Ready(Ok(result));
            }
            self.next_wave.extend(self.load_queue.drain());
            if !self.current_wave.is_empty() || self.next_wave.is_empty() {
                return Poll::Pending;
            }
            self.current_wave.extend(self.next_wave.drain(..));
        }
    }

    /// Polls the current wave until it is complete or pending; a load may spawn another one.
    fn poll_wave(&mut self, cx: &mut Context<'_>) {
        loop {
            let polled = self.current_wave.poll_next_unpin(cx);
            let spawned = self.load_queue.drain();
            if spawned.is_empty() && !matches!(polled, Poll::Ready(Some(()))) {
                return;
            }
            self.current_wave.extend(spawned);
        }
    }
}

/// Returns whether the current thread is a worker whose tasks another thread can take over.
fn runs_on_worker() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

impl<T: Future + Unpin> Future for BatchedExecution<T> {
    type Output = Result<T::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T::Output>> {
        self.get_mut().poll_all_waves(cx, |execution, cx| execution.poll_unpin(cx))
    }
}

impl<T: Stream + Unpin> Stream for BatchedExecution<T> {
    type Item = Result<T::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T::Item>>> {
        self.get_mut().poll_all_waves(cx, |execution, cx| execution.poll_next_unpin(cx)).map(Result::transpose)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::domain::byte_budget::ByteBudget;
    use crate::error::Error;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn budgets() -> ExecutionBudgets {
        ExecutionBudgets {
            read: Arc::new(ByteBudget::new(10)),
            response: Arc::new(ByteBudget::new(20)),
            waiting_fields: Arc::new(ByteBudget::new(usize::MAX)),
            memory: None,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_execution_leaves_its_worker_to_other_tasks() {
        let (sender, receiver) = channel();
        let work = async move { receiver.recv_timeout(TIMEOUT) }.boxed();
        let execution = BatchedExecution::new(work, LoadQueue::default(), budgets(), LONG_EXECUTION_COST + 1);
        let execution = tokio::spawn(execution);
        // This task has the same worker, which the execution blocks until it receives.
        tokio::spawn(async move { sender.send(()) });
        assert_eq!(execution.await.unwrap().unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn execution_ends_when_it_exceeds_a_budget() {
        for (exceeded, limit) in [("read", 10), ("response", 20)] {
            let budgets = budgets();
            let budget = if exceeded == "read" { budgets.read.clone() } else { budgets.response.clone() };
            let work = async move {
                budget.charge(limit + 1);
                std::future::pending::<()>().await
            };
            let execution = BatchedExecution::new(work.boxed(), LoadQueue::default(), budgets, 1);
            let result = tokio::time::timeout(TIMEOUT, execution).await.expect("an end");
            assert!(matches!(result, Err(Error::OverLimit { limit: named, .. }) if named == limit), "{exceeded}");
        }
    }
}
