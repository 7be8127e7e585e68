//! The operations of a socket, in the messages that tell of them.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Utf8Bytes;

use crate::graphql::operation_stream::OperationStream;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::message_encoder::MessageEncoder;
use crate::http::websocket::protocol::Protocol;
use crate::realtime::dispatch::fast_path::{FrameSink, MAX_WRITE_BYTES};

/// The operations under way on a socket, and what they said that is to be written.
pub struct Operations {
    writer: SharedTcpWriter,
    active: Vec<Operation>,
    outbox: Vec<Utf8Bytes>,
}

impl Operations {
    pub fn new(wire: SharedTcpWriter) -> Self {
        Self { writer: wire, active: Vec::new(), outbox: Vec::new() }
    }

    /// Ends all of them, after which nothing more is told by whatever way.
    pub fn into_writer(self) -> SharedTcpWriter {
        self.writer
    }

    /// Starts an operation, which is polled from now on.
    pub fn start(&mut self, id: String, number: u64, running: OperationStream) {
        let speaker = Arc::new(MessageEncoder::new(id, self.writer.clone()));
        self.active.push(Operation { number, stream: running, encoder: speaker, ended: false });
    }

    /// Ends a subscription; another operation goes on to its end unheard.
    pub fn stop(&mut self, number: u64) {
        self.active.retain(|operation| operation.number != number);
    }

    pub fn drain_outbox(&mut self) -> Vec<Utf8Bytes> {
        std::mem::take(&mut self.outbox)
    }

    /// Gathers what operations have to say: all that is ready, for one flush; or one message, where the
    /// other side is slow, so that it is seen to take something. Ready for what others began to write, too.
    pub fn poll_outbox(&mut self, protocol: &mut Protocol, one: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.poll_pending(cx).is_ready() {
            return Poll::Ready(());
        }
        let (said, mut gathered, mut spoke) = (&mut self.outbox, 0, true);
        while spoke && gathered < MAX_WRITE_BYTES && !(one && gathered > 0) {
            spoke = false;
            self.active.retain_mut(|operation| match operation.poll_next(cx) {
                Poll::Pending => true,
                Poll::Ready(Some(text)) => {
                    spoke = true;
                    gathered += text.len();
                    said.push(text);
                    true
                }
                Poll::Ready(None) => {
                    protocol.complete(&operation.encoder.id, operation.number);
                    false
                }
            });
        }
        if !said.is_empty() {
            return Poll::Ready(());
        }
        // All that they had to say is written.
        self.active
            .iter_mut()
            .filter(|operation| operation.encoder.fits_fast_path())
            .for_each(Operation::enable_fast_path);
        Poll::Pending
    }
}

struct Operation {
    number: u64,
    stream: OperationStream,
    encoder: Arc<MessageEncoder>,
    ended: bool,
}

impl Operation {
    /// The next message; nothing after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Utf8Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let answer = ready!(self.stream.poll_next(cx));
        self.ended = answer.as_ref().is_none_or(|answer| !answer.executed);
        Poll::Ready(Some(self.encoder.encode_message(answer.as_ref())))
    }

    /// Lets what others make for it go straight to the socket.
    fn enable_fast_path(&mut self) {
        let outlet: Arc<dyn FrameSink> = self.encoder.clone();
        self.stream.enable_fast_path(&outlet);
    }
}
