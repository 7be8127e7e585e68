//! The operations of a socket, in the messages that tell of them.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Utf8Bytes;

use crate::graphql::operation_stream::Running;
use crate::http::tcp_stream::Wire;
use crate::http::websocket::message_encoder::Speaker;
use crate::http::websocket::protocol::Protocol;
use crate::realtime::dispatch::fast_path::{BATCH, Outlet};

/// The operations under way on a socket, and what they said that is to be written.
pub struct Operations {
    wire: Wire,
    running: Vec<Operation>,
    said: Vec<Utf8Bytes>,
}

impl Operations {
    pub fn new(wire: Wire) -> Self {
        Self { wire, running: Vec::new(), said: Vec::new() }
    }

    /// Ends all of them, after which nothing more is told by whatever way.
    pub fn end(self) -> Wire {
        self.wire
    }

    /// Starts an operation, which is polled from now on.
    pub fn start(&mut self, id: String, number: u64, running: Running) {
        let speaker = Arc::new(Speaker::new(id, self.wire.clone()));
        self.running.push(Operation { number, running, speaker, ended: false });
    }

    /// Ends a subscription; another operation goes on to its end unheard.
    pub fn stop(&mut self, number: u64) {
        self.running.retain(|operation| operation.number != number);
    }

    pub fn take_said(&mut self) -> Vec<Utf8Bytes> {
        std::mem::take(&mut self.said)
    }

    /// Gathers what operations have to say: all that is ready, for one flush; or one message, where the
    /// other side is slow, so that it is seen to take something. Ready for what others began to write, too.
    pub fn poll_said(&mut self, protocol: &mut Protocol, one: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.wire.poll_left(cx).is_ready() {
            return Poll::Ready(());
        }
        let (said, mut gathered, mut spoke) = (&mut self.said, 0, true);
        while spoke && gathered < BATCH && !(one && gathered > 0) {
            spoke = false;
            self.running.retain_mut(|operation| match operation.poll_next(cx) {
                Poll::Pending => true,
                Poll::Ready(Some(text)) => {
                    spoke = true;
                    gathered += text.len();
                    said.push(text);
                    true
                }
                Poll::Ready(None) => {
                    protocol.finish(&operation.speaker.id, operation.number);
                    false
                }
            });
        }
        if !said.is_empty() {
            return Poll::Ready(());
        }
        // All that they had to say is written.
        self.running.iter_mut().filter(|operation| operation.speaker.is_brief()).for_each(Operation::lend);
        Poll::Pending
    }
}

struct Operation {
    number: u64,
    running: Running,
    speaker: Arc<Speaker>,
    ended: bool,
}

impl Operation {
    /// The next message; nothing after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Utf8Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = ready!(self.running.poll_next(cx));
        self.ended = answer.as_ref().is_none_or(|answer| !answer.executed);
        Poll::Ready(Some(self.speaker.message(answer.as_ref())))
    }

    /// Lets what others make for it go straight to the socket.
    fn lend(&mut self) {
        let outlet: Arc<dyn Outlet> = self.speaker.clone();
        self.running.lend(&outlet);
    }
}
