//! A TCP stream that is shared by the task of its connection and the fast path.
//!
//! A payload for many sockets does not have to wake the task of each: [`SharedTcpWriter::try_write_frames`] writes it
//! from the task that rendered it, between two whole frames. Only if the kernel accepts a part of it, the rest waits
//! here for the connection's task.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The kernel's send buffer of a connection (`SO_SNDBUF`, which the kernel doubles for its own use).
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// The time by which `TCP_USER_TIMEOUT` (RFC 5482) is longer than `PARLOR_SOCKET_WRITE_SECONDS`.
///
/// A client that is connected but does not read must get a close frame before the kernel gives the connection up.
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// A listener that sets the options of each connection that it accepts.
pub struct TunedListener {
    pub listener: TcpListener,
    /// The longest time for which a client may read nothing that is written.
    pub write_timeout: Duration,
}

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
    /// Whether each write consists of whole frames, so that others may write between two of them.
    framed: bool,
    /// The bytes that were accepted and that the kernel has not accepted yet.
    unsent: Bytes,
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
        if !state.framed || !state.unsent.is_empty() {
            return false;
        }
        // An error is ignored, because the connection's task gets it too when it reads.
        let Ok(written) = state.write_half.try_write(frames) else { return false };
        if written < frames.len() {
            state.unsent = Bytes::copy_from_slice(&frames[written..]);
            drop(state);
            self.0.flush_waker.wake();
        }
        true
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
            let written = ready!(Pin::new(&mut self.write_half).poll_write(cx, &self.unsent))?;
            self.unsent.advance(written);
        }
        // Replaced, so that an idle connection does not hold the memory of its last write.
        self.unsent = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

impl TcpIo {
    fn new(stream: TcpStream) -> Self {
        let (read_half, write_half) = stream.into_split();
        let write_state = Mutex::new(WriteState { write_half, framed: false, unsent: Bytes::new() });
        let writer = SharedTcpWriter(Arc::new(WriterInner { write_state, flush_waker: AtomicWaker::new() }));
        Self { read_half, writer }
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
        ready!(state.poll_unsent(cx))?;
        let written = ready!(Pin::new(&mut state.write_half).poll_write(cx, buf))?;
        if !state.framed {
            return Poll::Ready(Ok(written));
        }
        state.unsent = Bytes::copy_from_slice(&buf[written..]);
        Poll::Ready(Ok(buf.len()))
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
        Pin::new(&mut state.write_half).poll_write_vectored(cx, bufs)
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

impl Listener for TunedListener {
    type Io = TcpIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpIo, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = set_socket_options(&stream, self.write_timeout) {
            tracing::debug!(%error, "setting the options of a connection failed");
        }
        (TcpIo::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, TunedListener>> for SharedTcpWriter {
    fn connect_info(stream: IncomingStream<'_, TunedListener>) -> Self {
        stream.io().writer.clone()
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

    use super::*;

    /// A frame of these tests: the writer, the frame's number, its length, and that many bytes.
    fn frame(writer: u8, number: u32, length: u32) -> Vec<u8> {
        let mut frame = vec![writer];
        frame.extend_from_slice(&number.to_be_bytes());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.resize(9 + length as usize, writer);
        frame
    }

    /// Reads the next frame's writer and number; `None` at the end.
    async fn read_frame(client: &mut TcpStream) -> Option<(u8, u32)> {
        let mut header = [0; 9];
        client.read_exact(&mut header).await.ok()?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let mut body = vec![0; number(&header[5..]) as usize];
        client.read_exact(&mut body).await.expect("the frame is complete");
        assert!(body.iter().all(|byte| *byte == header[0]), "a frame contains bytes of another frame");
        Some((header[0], number(&header[1..5])))
    }

    async fn connected() -> (TcpIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = TunedListener { listener, write_timeout: Duration::from_secs(10) };
        let (accepted, client) = tokio::join!(Listener::accept(&mut listener), TcpStream::connect(address));
        (accepted.0, client.unwrap())
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
