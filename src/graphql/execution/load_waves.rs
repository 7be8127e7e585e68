//! DataLoaders without a delay, in waves.
//!
//! The stock way to batch is to wait a millisecond for more keys, on a task of its own. Here the
//! loads of an execution belong to the execution: it is polled until it can go no further, which is
//! when every key of this level is known; then all loads run, together, to their end, and the next
//! ones after them. So a level of a query costs one statement for each kind of key, always the same
//! number, and no time is waited away.

use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::runtime::Timer;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use futures_util::task::{FutureObj, Spawn, SpawnError};

/// Takes the loads that DataLoaders spawn.
#[derive(Clone, Default)]
pub struct LoadQueue(Arc<Mutex<Vec<FutureObj<'static, ()>>>>);

impl LoadQueue {
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

/// A load begins when its execution can go no further: there is nothing to wait for.
pub struct NoDelay;

impl Timer for NoDelay {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

/// An execution with its loads.
pub struct BatchedExecution<T> {
    execution: T,
    load_queue: LoadQueue,
    current_wave: FuturesUnordered<FutureObj<'static, ()>>,
    /// What was asked for while a wave was under way.
    next_wave: Vec<FutureObj<'static, ()>>,
}

impl<T> BatchedExecution<T> {
    pub fn new(execution: T, loads: LoadQueue) -> Self {
        Self { execution, load_queue: loads, current_wave: FuturesUnordered::new(), next_wave: Vec::new() }
    }

    /// Polls loads and execution until one is ready or both have to wait.
    fn poll_all_waves<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        loop {
            self.poll_wave(cx);
            // The execution goes on while a wave is under way: a resolver that reads by itself holds a
            // connection, for which the wave may wait. What it asks for now is for the next wave.
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

    /// Polls the wave until it has ended or has to wait. A load may spawn another.
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
