//! A TCP stream that is shared by the task of its connection and the fast path.
//!
//! A payload for many sockets does not have to wake the task of each: [`SharedTcpWriter::try_write_frames`] writes it
//! from the task that rendered it, between two whole frames. Only if the kernel accepts a part of it, the rest waits
//! here for the connection's task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::http::unsent_frames::UnsentFrames;

/// The kernel's send buffer of a connection (`SO_SNDBUF`, which the kernel doubles for its own use).
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// The time by which `TCP_USER_TIMEOUT` (RFC 5482) is longer than `PARLOR_SOCKET_WRITE_SECONDS`.
///
/// A client that is connected but does not read must get a close frame before the kernel gives the connection up.
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// The write half of a connection, for the connection's task and for the fast path.
#[derive(Debug, Clone)]
pub struct SharedTcpWriter(Arc<WriterInner>);

/// The stream that the connection's task reads and writes.
#[derive(Debug)]
pub struct TcpIo {
    read_half: OwnedReadHalf,
    writer: SharedTcpWriter,
}

#[derive(Debug)]
struct WriterInner {
    /// Protects the order of writes.
    ///
    /// It is taken under the lock of a subscriber's queue, and no other lock is taken
    /// under it.
    write_state: Mutex<WriteState>,
    /// Wakes the connection's task, which writes the unsent bytes.
    flush_waker: AtomicWaker,
}

#[derive(Debug)]
struct WriteState {
    write_half: OwnedWriteHalf,
    /// True if each write consists of whole frames, so that others may write between two of them.
    framed: bool,
    /// The frames that were accepted and that the kernel has not accepted yet; empty unless `framed`.
    unsent: UnsentFrames,
    /// The last frame was accepted: everything after it is discarded.
    finished: bool,
    /// The last write had to wait for the client.
    blocked: bool,
}

impl SharedTcpWriter {
    /// Declares that each write from now on consists of whole frames.
    pub fn enter_framed_mode(&self) {
        self.0.write_state.lock().framed = true;
    }

    /// Writes frames without waiting, and returns whether they were accepted as a whole.
    ///
    /// If the kernel accepts nothing of them now, nothing is written. If it accepts a part, the connection's task
    /// writes the rest.
    pub fn try_write_frames(&self, frames: &[u8]) -> bool {
        let mut state = self.0.write_state.lock();
        if !state.framed || state.finished || !state.unsent.is_empty() {
            return false;
        }
        // An error is ignored, because the connection's task gets it too when it reads.
        let Ok(written) = state.write_half.try_write(frames) else { return false };
        if written < frames.len() {
            state.unsent = UnsentFrames::after_sending(frames, written);
            drop(state);
            self.0.flush_waker.wake();
        }
        true
    }

    /// Accepts a last frame instead of all frames that are not begun yet, and everything later.
    ///
    /// [`flush`](Self::flush) writes it.
    pub fn finish_with(&self, last_frame: &[u8]) {
        let mut state = self.0.write_state.lock();
        if !std::mem::replace(&mut state.finished, true) {
            state.unsent.replace_by(last_frame);
        }
    }

    /// Returns whether the last write of the connection's task still waits for the client to read.
    pub fn is_blocked(&self) -> bool {
        self.0.write_state.lock().blocked
    }

    /// Ends the connection when the client acknowledges no data for this time (`TCP_USER_TIMEOUT`).
    pub fn set_acknowledgement_timeout(&self, timeout: Duration) {
        let state = self.0.write_state.lock();
        let stream: &TcpStream = state.write_half.as_ref();
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(timeout)) {
            tracing::debug!(%error, "setting the timeout of a connection failed");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (stream, timeout);
    }

    /// Aborts the connection: nothing more is sent, and its task gets an error.
    pub fn abort(&self) {
        let state = self.0.write_state.lock();
        let stream: &TcpStream = state.write_half.as_ref();
        let socket = SockRef::from(stream);
        // Without lingering, closing the connection discards what the kernel has not sent.
        if let Err(error) =
            socket.set_linger(Some(Duration::ZERO)).and_then(|()| socket.shutdown(std::net::Shutdown::Both))
        {
            tracing::debug!(%error, "aborting a connection failed");
        }
    }

    /// Writes the unsent bytes.
    ///
    /// It is cancel-safe: bytes that were not written stay unsent.
    ///
    /// # Errors
    ///
    /// Returns the I/O error if the connection is broken.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.0.write_state.lock().poll_unsent(cx)).await
    }

    /// Polls for unsent bytes that the connection's task has to write.
    pub fn poll_pending(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.flush_waker.register(cx.waker());
        if self.0.write_state.lock().unsent.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl WriteState {
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.write_half).poll_write(cx, self.unsent.as_slice()))?;
            self.unsent.advance(written);
        }
        // Replaced, so that an idle connection does not hold the memory of its last write.
        self.unsent = UnsentFrames::default();
        Poll::Ready(Ok(()))
    }

    /// Writes frames after the unsent bytes.
    ///
    /// It accepts all of them or none, so that no frame is cut by another one.
    fn poll_write_frames(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        if !self.finished {
            ready!(self.poll_unsent(cx))?;
            let written = ready!(Pin::new(&mut self.write_half).poll_write(cx, frames))?;
            self.unsent = UnsentFrames::after_sending(frames, written);
        }
        Poll::Ready(Ok(frames.len()))
    }
}

impl TcpIo {
    /// Takes an accepted connection and sets its options.
    ///
    /// A client may read nothing that is written for at most `write_timeout`.
    pub fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        if let Err(error) = set_socket_options(&stream, write_timeout) {
            tracing::debug!(%error, "setting the options of a connection failed");
        }
        let (read_half, write_half) = stream.into_split();
        let write_state = Mutex::new(WriteState {
            write_half,
            framed: false,
            unsent: UnsentFrames::default(),
            finished: false,
            blocked: false,
        });
        let writer = SharedTcpWriter(Arc::new(WriterInner { write_state, flush_waker: AtomicWaker::new() }));
        Self { read_half, writer }
    }

    /// Returns the write half, for the fast path.
    pub fn writer(&self) -> SharedTcpWriter {
        self.writer.clone()
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read_half).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpIo {
    /// Writes bytes; in framed mode it accepts all of them or none, so that no frame is cut by another one.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.writer.0.write_state.lock();
        if state.framed {
            return state.poll_write_frames(cx, buf);
        }
        let written = Pin::new(&mut state.write_half).poll_write(cx, buf);
        state.blocked = written.is_pending();
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.writer.0.write_state.lock();
        if state.framed {
            drop(state);
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        let written = Pin::new(&mut state.write_half).poll_write_vectored(cx, bufs);
        state.blocked = written.is_pending();
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.0.write_state.lock().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.writer.0.write_state.lock();
        ready!(state.poll_unsent(cx))?;
        Pin::new(&mut state.write_half).poll_shutdown(cx)
    }
}

/// Sets the options of an accepted connection.
///
/// - `TCP_NODELAY`: a response must not wait for the acknowledgement of the one before.
/// - `SO_SNDBUF`: a small buffer makes it noticeable soon that a client does not read.
/// - `TCP_USER_TIMEOUT`: a client that vanished without closing the connection is noticed.
fn set_socket_options(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(write_timeout + USER_TIMEOUT_MARGIN))?;
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tungstenite::protocol::frame::Frame;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;

    /// Returns a frame with its number and, `length` times and once more, its writer's byte.
    fn frame(writer: u8, number: u32, length: u32) -> Vec<u8> {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(5 + length as usize, writer);
        let mut frame = Vec::new();
        Frame::message(payload, OpCode::Data(Data::Binary), true).format(&mut frame).unwrap();
        frame
    }

    /// Reads the next frame's writer and number; `None` at the end.
    async fn read_frame(client: &mut TcpStream) -> Option<(u8, u32)> {
        let mut header = [0; 2];
        client.read_exact(&mut header).await.ok()?;
        let length = match header[1] {
            126 => client.read_u16().await.unwrap().into(),
            127 => client.read_u64().await.unwrap(),
            length => length.into(),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        client.read_exact(&mut payload).await.expect("the frame is complete");
        let (number, body) = payload.split_first_chunk::<4>().unwrap();
        assert!(body.iter().all(|byte| *byte == body[0]), "a frame contains bytes of another frame");
        Some((body[0], u32::from_be_bytes(*number)))
    }

    async fn connected() -> (TcpIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, client) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (TcpIo::new(accepted.unwrap().0, Duration::from_secs(10)), client.unwrap())
    }

    /// The kernel's buffers are full most of the time, so most frames are accepted in parts.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_frames_arrive_whole_and_in_order_of_each_writer() {
        const OWN: u32 = 300;
        let (mut stream, mut client) = connected().await;
        stream.writer.enter_framed_mode();
        let writer = stream.writer.clone();
        let mut fast_path = tokio::task::spawn_blocking(move || {
            let is_accepted = |number: &u32| writer.try_write_frames(&frame(2, *number, *number % 7 * 9_000));
            (0..20_000).filter(is_accepted).collect::<Vec<_>>()
        });
        let connection_task = tokio::spawn(async move {
            for number in 0..OWN {
                stream.write_all(&frame(1, number, number % 5 * 30_000)).await.unwrap();
            }
            // Like a connection, the task writes the unsent bytes of the fast path.
            let accepted = loop {
                tokio::select! {
                    () = poll_fn(|cx| stream.writer.poll_pending(cx)) => stream.flush().await.unwrap(),
                    accepted = &mut fast_path => break accepted.unwrap(),
                }
            };
            stream.flush().await.unwrap();
            accepted
        });
        let mut numbers = [Vec::new(), Vec::new()];
        while let Some((writer, number)) = read_frame(&mut client).await {
            numbers[usize::from(writer) - 1].push(number);
            // The client reads more slowly than the writers write.
            if number % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let accepted = connection_task.await.unwrap();
        assert_eq!(numbers, [(0..OWN).collect(), accepted], "exactly the accepted frames arrive");
    }

    /// The client reads nothing until the output has ended.
    #[tokio::test]
    async fn last_frame_follows_the_frame_in_flight() {
        let (stream, mut client) = connected().await;
        stream.writer.enter_framed_mode();
        let batch = |first: u32| (first..first + 100).map(|number| frame(2, number, 900)).collect::<Vec<_>>().concat();
        let batches = (0..10_000).take_while(|number| stream.writer.try_write_frames(&batch(*number * 100)));
        let accepted = u32::try_from(batches.count()).unwrap() * 100;
        stream.writer.finish_with(&frame(3, 0, 1));
        assert!(!stream.writer.try_write_frames(&batch(accepted)), "nothing follows the last frame");
        let flushing = tokio::spawn(async move { stream.writer.flush().await.unwrap() });
        let mut numbers = Vec::new();
        while let Some((writer, number)) = read_frame(&mut client).await {
            numbers.push((writer, number));
        }
        flushing.await.unwrap();
        assert_eq!(numbers.pop(), Some((3, 0)));
        let begun = u32::try_from(numbers.len()).unwrap();
        assert!(begun < accepted, "the frames that were not begun are discarded");
        assert_eq!(numbers, (0..begun).map(|number| (2, number)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn aborted_connection_ends_a_write_that_waits() {
        let (mut stream, client) = connected().await;
        let writer = stream.writer.clone();
        let writing = tokio::spawn(async move { while stream.write_all(&[0; 100_000]).await.is_ok() {} });
        while !writer.is_blocked() {
            tokio::task::yield_now().await;
        }
        writer.abort();
        writing.await.unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn fast_path_writes_nothing_before_framed_mode() {
        let (stream, mut client) = connected().await;
        poll_fn(|cx| Pin::new(&mut stream.writer.0.write_state.lock().write_half).poll_write(cx, b"HTTP"))
            .await
            .unwrap();
        assert!(!stream.writer.try_write_frames(b"frame"));
        stream.writer.enter_framed_mode();
        assert!(stream.writer.try_write_frames(b"frame"));
        drop(stream);
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "HTTPframe");
    }
}
