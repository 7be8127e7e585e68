//! HTTP/1.1 on one connection, within the limits of its place in the table of connections.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::http::connections::{ConnectionSlot, RequestGuard};
use crate::http::routes::Routes;
use crate::http::tcp_stream::{SharedTcpWriter, TcpIo};

/// The maximum size of a request's line and headers together.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The maximum size of each of a connection's two buffers, for reading and for writing.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// The error that ends a connection which the table has closed, without executing its request.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
struct ConnectionClosed;

/// Serves the requests of a connection until it ends, is upgraded, or is closed by the table.
///
/// After `stop` is cancelled the connection ends with the request that runs. The task of the connection calls this
/// function; a panic closes this connection only.
pub async fn serve(io: TcpIo, slot: Arc<ConnectionSlot>, routes: Arc<Routes>, stop: CancellationToken) {
    let (served_slot, writer) = (slot.clone(), io.writer());
    let service = service_fn(move |request| respond(request, served_slot.clone(), routes.clone(), writer.clone()));
    let connection = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(CountedIo { io, slot: slot.clone() }), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // An error of the connection is the end of one client, and nothing to report.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = slot.closed() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = slot.closed() => {}
    }
}

/// Passes a request to the routes, unless the table has closed the connection.
async fn respond(
    request: Request<Incoming>,
    slot: Arc<ConnectionSlot>,
    routes: Arc<Routes>,
    writer: SharedTcpWriter,
) -> Result<Response<GuardedBody>, ConnectionClosed> {
    let guard = slot.begin_request().ok_or(ConnectionClosed)?;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(writer));
    let response = routes.current().oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    let guard = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            guard.upgrade();
            None
        }
        _ => Some(guard),
    };
    Ok(response.map(|body| GuardedBody { body, _guard: guard }))
}

/// The stream of a connection, which holds its place in the table and reports what happens.
struct CountedIo {
    io: TcpIo,
    slot: Arc<ConnectionSlot>,
}

impl AsyncRead for CountedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > filled {
            self.slot.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        if written.is_pending() {
            self.slot.write_blocked();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if written.is_pending() {
            self.slot.write_blocked();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.slot.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A body of a response, whose request ends when the last frame has been taken from it.
struct GuardedBody {
    body: Body,
    _guard: Option<RequestGuard>,
}

impl hyper::body::Body for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
