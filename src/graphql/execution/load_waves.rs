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
pub struct BatchedExecution<T> {
    execution: T,
    load_queue: LoadQueue,
    current_wave: FuturesUnordered<FutureObj<'static, ()>>,
    /// The loads that were spawned while the current wave runs.
    next_wave: Vec<FutureObj<'static, ()>>,
}

impl<T> BatchedExecution<T> {
    /// Combines an execution with the queue of its DataLoaders.
    pub fn new(execution: T, load_queue: LoadQueue) -> Self {
        Self { execution, load_queue, current_wave: FuturesUnordered::new(), next_wave: Vec::new() }
    }

    /// Polls the loads and the execution until the execution is ready or both are pending.
    fn poll_all_waves<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        loop {
            self.poll_wave(cx);
            // The execution is polled while a wave runs: a resolver that queries directly holds a connection for
            // which the wave may wait. Keys that it requests meanwhile belong to the next wave.
            if let Poll::Ready(result) = poll(&mut self.execution, cx) {
                return Poll::Ready(result);
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

impl<T: Future + Unpin> Future for BatchedExecution<T> {
    type Output = T::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        self.get_mut().poll_all_waves(cx, |execution, cx| execution.poll_unpin(cx))
    }
}

impl<T: Stream + Unpin> Stream for BatchedExecution<T> {
    type Item = T::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.get_mut().poll_all_waves(cx, |execution, cx| execution.poll_next_unpin(cx))
    }
}
