//! The SQLSTATE of PostgreSQL's errors, which diesel hides, read from the messages that the server sends.
//!
//! diesel 2.3 exposes only the text of an error, in the server's language, and diesel-async keeps the client of
//! tokio-postgres to itself. So the connection's byte stream is watched for error messages: each message is a tag, a
//! length and a body, and the body of an error has its code in the field `C` (PostgreSQL's documentation, chapter
//! "Frontend/Backend Protocol", sections "Message Formats" and "Error and Notice Message Fields").

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of a message's tag and length.
const HEADER_BYTES: usize = 5;
/// The part of an error message that is kept. The code is its third field, after two short ones.
const MAX_ERROR_BYTES: usize = 256;
/// The length of a SQLSTATE.
const CODE_BYTES: usize = 5;

/// The SQLSTATE of the last error that the server sent on a connection.
///
/// Statements of a connection run one after the other, so after a failed statement it is the code of that failure.
#[derive(Debug, Clone, Default)]
pub struct LastSqlState(Arc<AtomicU64>);

impl LastSqlState {
    /// Returns the code, or an empty text if the server has sent no error.
    pub fn get(&self) -> String {
        let bytes = self.0.load(Ordering::Acquire).to_be_bytes();
        String::from_utf8_lossy(&bytes).trim_matches('\0').to_owned()
    }

    fn set(&self, code: &[u8]) {
        if code.len() == CODE_BYTES {
            let number = code.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            self.0.store(number, Ordering::Release);
        }
    }
}

/// A byte stream from PostgreSQL whose error messages set a [`LastSqlState`].
pub struct ObservedStream<S> {
    stream: S,
    scanner: MessageScanner,
}

impl<S> ObservedStream<S> {
    /// Observes a stream from the first message on.
    pub fn new(stream: S, last_error: LastSqlState) -> Self {
        Self { stream, scanner: MessageScanner { last_error, header: Vec::new(), remaining: 0, error: None } }
    }

    /// Returns the stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let length_before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.scanner.scan(buf.filled().get(length_before..).unwrap_or_default());
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The position in a stream of messages.
struct MessageScanner {
    last_error: LastSqlState,
    /// The first bytes of a header that has not arrived completely.
    header: Vec<u8>,
    /// The number of bytes of the current message's body that have not arrived.
    remaining: usize,
    /// The beginning of the body if the current message is an error.
    error: Option<Vec<u8>>,
}

impl MessageScanner {
    fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.remaining == 0 {
                let (header, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                if let [tag, length @ ..] = &*self.header
                    && let Ok(length) = length.try_into().map(u32::from_be_bytes)
                {
                    // The length counts itself.
                    self.remaining = (length as usize).saturating_sub(HEADER_BYTES - 1);
                    self.error = (*tag == b'E').then(Vec::new);
                    self.header.clear();
                }
            } else {
                let (body, rest) = bytes.split_at(bytes.len().min(self.remaining));
                bytes = rest;
                self.remaining -= body.len();
                if let Some(error) = &mut self.error {
                    error.extend(body.iter().take(MAX_ERROR_BYTES - error.len()));
                    if self.remaining == 0 {
                        self.last_error.set(code_of(error));
                    }
                }
            }
        }
    }
}

/// Returns the field `C` of an error's body: fields of a letter and a text, each ended by a zero.
fn code_of(body: &[u8]) -> &[u8] {
    let mut fields = body.split(|byte| *byte == 0);
    fields.find_map(|field| field.strip_prefix(b"C")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], &length.to_be_bytes()[..], body].concat()
    }

    async fn last_error_of(bytes: &[u8], chunk: usize) -> String {
        let last_error = LastSqlState::default();
        let mut stream = ObservedStream::new(bytes, last_error.clone());
        let mut buffer = vec![0; chunk];
        while stream.read(&mut buffer).await.unwrap() > 0 {}
        last_error.get()
    }

    #[tokio::test]
    async fn last_sqlstate_is_read_whatever_the_language_and_the_pieces() {
        let german = "SFEHLER\0VERROR\0C40P01\0MVerklemmung entdeckt\0\0".as_bytes();
        let stream =
            [message(b'Z', b"I"), message(b'D', b"E\0\0\0\x05C99999\0"), message(b'E', german), message(b'C', b"X\0")];
        let stream = stream.concat();
        for chunk in [1, 2, 3, 7, stream.len()] {
            assert_eq!(last_error_of(&stream, chunk).await, "40P01", "{chunk} bytes at once");
        }
    }

    #[tokio::test]
    async fn last_sqlstate_is_that_of_the_last_error() {
        let stream = [message(b'E', b"SERROR\0C23505\0\0"), message(b'1', b""), message(b'E', b"SERROR\0C57014\0\0")];
        assert_eq!(last_error_of(&stream.concat(), 4).await, "57014");
    }

    #[tokio::test]
    async fn last_sqlstate_is_empty_without_an_error() {
        assert_eq!(last_error_of(&message(b'N', b"SNOTICE\0C00000\0\0"), 64).await, "");
        assert_eq!(last_error_of(&message(b'E', b"SERROR\0CX\0\0"), 64).await, "");
    }

    #[tokio::test]
    async fn last_sqlstate_is_read_before_a_long_text() {
        let body = [b"SERROR\0VERROR\0C53100\0M".as_slice(), &[b'x'; 100_000], b"\0\0"].concat();
        assert_eq!(last_error_of(&[message(b'E', &body), message(b'Z', b"I")].concat(), 999).await, "53100");
    }
}
