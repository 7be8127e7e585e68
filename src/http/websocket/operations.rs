//! The operations of a WebSocket, and the messages of theirs that wait to be written.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ws::Utf8Bytes;

use crate::graphql::operation_stream::OperationStream;
use crate::http::tcp_stream::SharedTcpWriter;
use crate::http::websocket::message_encoder::MessageEncoder;
use crate::http::websocket::protocol::Protocol;
use crate::http::websocket::running_operations::RunningOperations;
use crate::realtime::dispatch::ports::{FrameSink, MAX_WRITE_BYTES};
use crate::realtime::sessions::Session;

/// The running operations of a WebSocket, with their outbox.
pub struct Operations {
    writer: SharedTcpWriter,
    /// All operations that run, including those that the client has completed.
    pub running: RunningOperations,
    active: Vec<Operation>,
    outbox: Vec<Utf8Bytes>,
}

impl Operations {
    /// Creates an empty set of operations on a connection.
    pub fn new(writer: SharedTcpWriter, running: RunningOperations) -> Self {
        Self { writer, running, active: Vec::new(), outbox: Vec::new() }
    }

    /// Ends all operations, so that neither they nor the fast path write any more.
    pub fn into_writer(self) -> SharedTcpWriter {
        self.writer
    }

    /// Adds an operation, which [`poll_outbox`](Self::poll_outbox) polls from now on.
    pub fn start(&mut self, id: String, number: u64, stream: OperationStream, session: Arc<Session>) {
        let encoder = Arc::new(MessageEncoder::new(id, self.writer.clone(), session));
        self.active.push(Operation { number, stream, encoder, has_ended: false });
    }

    /// Ends a subscription; a query or a mutation runs on, but its response is dropped.
    pub fn stop(&mut self, number: u64) {
        self.active.retain(|operation| operation.number != number);
    }

    /// Returns whether the connection must not start more operations for now.
    ///
    /// The task of the context is woken when some of those that the client completed have ended.
    pub fn pauses_input(&self, cx: &Context<'_>) -> bool {
        self.running.exceeds_limit_without(self.active.len(), cx)
    }

    /// Takes the messages that wait to be written.
    pub fn drain_outbox(&mut self) -> Vec<Utf8Bytes> {
        std::mem::take(&mut self.outbox)
    }

    /// Polls the operations until there is something to write.
    ///
    /// It gathers every ready message for one flush, or a single message if `write_blocked`, so that progress of a
    /// slow client is noticed. It is also ready while the fast path left unsent bytes on the connection. It is
    /// cancel-safe: gathered messages stay in the outbox.
    pub fn poll_outbox(&mut self, protocol: &mut Protocol, write_blocked: bool, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.poll_pending(cx).is_ready() {
            return Poll::Ready(());
        }
        let outbox = &mut self.outbox;
        let (mut gathered_bytes, mut made_progress) = (0, true);
        while made_progress && gathered_bytes < MAX_WRITE_BYTES && !(write_blocked && gathered_bytes > 0) {
            made_progress = false;
            self.active.retain_mut(|operation| match operation.poll_next(cx) {
                Poll::Pending => true,
                Poll::Ready(Some(message)) => {
                    made_progress = true;
                    gathered_bytes += message.len();
                    outbox.push(message);
                    true
                }
                Poll::Ready(None) => {
                    protocol.complete(&operation.encoder.id, operation.number);
                    false
                }
            });
        }
        if !outbox.is_empty() {
            return Poll::Ready(());
        }
        // Everything is written, so no direct write can overtake a message of the outbox.
        self.active.iter_mut().for_each(Operation::enable_fast_path);
        Poll::Pending
    }
}

struct Operation {
    number: u64,
    stream: OperationStream,
    encoder: Arc<MessageEncoder>,
    has_ended: bool,
}

impl Operation {
    /// Polls for the next message; `None` after the last.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Utf8Bytes>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let response = ready!(self.stream.poll_next(cx));
        // `complete` is the last message, and so is `error`.
        self.has_ended = response.as_ref().is_none_or(|response| !response.executed);
        Poll::Ready(Some(self.encoder.encode_message(response.as_ref())))
    }

    /// Lets shared payloads be written directly to the socket.
    fn enable_fast_path(&mut self) {
        let sink: Arc<dyn FrameSink> = self.encoder.clone();
        self.stream.enable_fast_path(&sink);
    }
}
