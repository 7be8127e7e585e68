//! One TCP connection, written by the task that serves it and, between whole frames, by whoever has one for it.
//!
//! What many sockets are told alike need not wake each of their tasks: [`Wire::tell`] writes it from where it
//! was made. Only where the kernel doesn't take all of it does the rest wait here, for the connection's task.

use parking_lot::Mutex;
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
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that the kernel takes for one connection (`SO_SNDBUF`; it doubles them for its own use).
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// How much longer than `PARLOR_SOCKET_WRITE_SECONDS` what was sent may stay without an acknowledgement
/// (`TCP_USER_TIMEOUT`, RFC 5482): one who takes nothing is there yet, and is told why first.
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// Where connections come in.
pub struct TunedListener {
    pub listener: TcpListener,
    /// How long a connection may take nothing of what is written.
    pub write_timeout: Duration,
}

/// What is written to a connection.
#[derive(Debug, Clone)]
pub struct SharedTcpWriter(Arc<WriterInner>);

/// The connection, as who serves it reads and writes it.
#[derive(Debug)]
pub struct TcpIo {
    read_half: OwnedReadHalf,
    writer: SharedTcpWriter,
}

#[derive(Debug)]
struct WriterInner {
    write_state: Mutex<WriteState>,
    /// The connection's task, which writes what is left.
    flush_waker: AtomicWaker,
}

#[derive(Debug)]
struct WriteState {
    write_half: OwnedWriteHalf,
    /// What is written from now on are whole frames each time: others may write between them.
    framed: bool,
    /// What was taken and the kernel has not taken yet.
    unsent: Bytes,
}

impl SharedTcpWriter {
    /// Each write is of whole frames from now on.
    pub fn enter_framed_mode(&self) {
        self.0.write_state.lock().framed = true;
    }

    /// Writes frames at once; false where the kernel takes nothing of them now, and then nothing was written.
    pub fn try_write_frames(&self, frames: &[u8]) -> bool {
        let mut writing = self.0.write_state.lock();
        if !writing.framed || !writing.unsent.is_empty() {
            return false;
        }
        // Why it can't be written, who reads it will see too.
        let Ok(written) = writing.write_half.try_write(frames) else { return false };
        if written < frames.len() {
            writing.unsent = Bytes::copy_from_slice(&frames[written..]);
            drop(writing);
            self.0.flush_waker.wake();
        }
        true
    }

    /// Writes what is left, after the last.
    pub async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.0.write_state.lock().poll_unsent(cx)).await
    }

    /// Ready while there is something left that the connection's task has to write.
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
        // Not even the memory of what was written stays.
        self.unsent = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

impl TcpIo {
    fn new(stream: TcpStream) -> Self {
        let (reading, half) = stream.into_split();
        let writing = Mutex::new(WriteState { write_half: half, framed: false, unsent: Bytes::new() });
        Self {
            read_half: reading,
            writer: SharedTcpWriter(Arc::new(WriterInner { write_state: writing, flush_waker: AtomicWaker::new() })),
        }
    }
}

impl AsyncRead for TcpIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read_half).poll_read(cx, buf)
    }
}

impl AsyncWrite for TcpIo {
    /// Takes all or nothing once frames are written, so that no frame is cut by another's.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut writing = self.writer.0.write_state.lock();
        ready!(writing.poll_unsent(cx))?;
        let written = ready!(Pin::new(&mut writing.write_half).poll_write(cx, buf))?;
        if !writing.framed {
            return Poll::Ready(Ok(written));
        }
        writing.unsent = Bytes::copy_from_slice(&buf[written..]);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut writing = self.writer.0.write_state.lock();
        if writing.framed {
            drop(writing);
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        Pin::new(&mut writing.write_half).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.0.write_state.lock().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writing = self.writer.0.write_state.lock();
        ready!(writing.poll_unsent(cx))?;
        Pin::new(&mut writing.write_half).poll_shutdown(cx)
    }
}

impl Listener for TunedListener {
    type Io = TcpIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpIo, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = set_socket_options(&stream, self.write_timeout) {
            tracing::debug!(%error, "a connection's options can't be set");
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

/// Small frames go out at once: an answer must not wait for the acknowledgement of the one before. What
/// the kernel buffers for one who takes nothing is bounded, so that it is felt; and one who has gone
/// without a word is noticed.
fn set_socket_options(stream: &TcpStream, write_patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(write_patience + USER_TIMEOUT_MARGIN))?;
    #[cfg(not(target_os = "linux"))]
    let _ = write_patience;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A frame of these tests: who wrote it, its number, its length, and so many bytes.
    fn frame(writer: u8, number: u32, length: u32) -> Vec<u8> {
        let mut frame = vec![writer];
        frame.extend_from_slice(&number.to_be_bytes());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.resize(9 + length as usize, writer);
        frame
    }

    /// The next frame's writer and number; none at the end.
    async fn read_frame(client: &mut TcpStream) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.ok()?;
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let mut body = vec![0; number(&head[5..]) as usize];
        client.read_exact(&mut body).await.expect("a frame is whole");
        assert!(body.iter().all(|byte| *byte == head[0]), "a frame has another's bytes in it");
        Some((head[0], number(&head[1..5])))
    }

    async fn connected() -> (TcpIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut wires = TunedListener { listener, write_timeout: Duration::from_secs(10) };
        let (accepted, client) = tokio::join!(Listener::accept(&mut wires), TcpStream::connect(address));
        (accepted.0, client.unwrap())
    }

    /// The kernel's buffers are full most of the time, so that most frames are taken in pieces.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn frames_of_several_writers_arrive_whole_and_in_the_order_of_each() {
        const OWN: u32 = 300;
        let (mut stream, mut client) = connected().await;
        stream.writer.enter_framed_mode();
        let wire = stream.writer.clone();
        let mut others = tokio::task::spawn_blocking(move || {
            let taken = |number: &u32| wire.try_write_frames(&frame(2, *number, *number % 7 * 9_000));
            (0..20_000).filter(taken).collect::<Vec<_>>()
        });
        let own = tokio::spawn(async move {
            for number in 0..OWN {
                stream.write_all(&frame(1, number, number % 5 * 30_000)).await.unwrap();
            }
            // As a connection does: what others began is its to end.
            let taken = loop {
                tokio::select! {
                    () = poll_fn(|cx| stream.writer.poll_pending(cx)) => stream.flush().await.unwrap(),
                    taken = &mut others => break taken.unwrap(),
                }
            };
            stream.flush().await.unwrap();
            taken
        });
        let mut numbers = [Vec::new(), Vec::new()];
        while let Some((writer, number)) = read_frame(&mut client).await {
            numbers[usize::from(writer) - 1].push(number);
            // Slower than they write.
            if number % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let taken = own.await.unwrap();
        assert_eq!(numbers, [(0..OWN).collect(), taken], "what was taken arrives, and what was refused does not");
    }

    #[tokio::test]
    async fn nothing_is_told_before_frames_begin() {
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
