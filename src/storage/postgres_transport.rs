//! The byte stream of a connection to PostgreSQL: whether it is encrypted, and how errors on it are observed.

use std::convert::Infallible;
use std::io;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::either::Either;

use crate::storage::sqlstate::{LastSqlState, ObservedStream};

/// The message `SSLRequest`: its length, and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The answer of a server that continues with TLS.
const TLS_ACCEPTED: u8 = b'S';
/// The answer of a server that continues without TLS.
const TLS_REFUSED: u8 = b'N';

/// The encryption of connections to PostgreSQL.
#[derive(Clone)]
pub enum Encryption {
    /// Connections are not encrypted.
    Disabled,
    /// Connections are encrypted if the server can do so.
    Preferred(MakeRustlsConnect),
    /// Connections are encrypted, or fail.
    Required(MakeRustlsConnect),
    /// Connections begin with the handshake of TLS, without a request for it (`sslnegotiation=direct`).
    Direct(MakeRustlsConnect),
}

/// Negotiates the encryption of a connection, and observes its errors.
///
/// tokio-postgres calls it at the very beginning of a connection, because the endpoint asks for direct negotiation.
/// Left to itself, tokio-postgres would not let unencrypted connections pass through here.
#[derive(Clone)]
pub struct PgTransport {
    encryption: Encryption,
    host: String,
    last_error: LastSqlState,
}

/// A plain or encrypted stream whose errors are observed.
pub type PgStream<S> = ObservedStream<Either<S, RustlsStream<S>>>;

type RustlsStream<S> = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;

impl PgTransport {
    /// Returns a transport whose connections report their errors to `last_error`.
    pub fn new(encryption: Encryption, last_error: LastSqlState) -> Self {
        Self { encryption, host: String::new(), last_error }
    }

    async fn open<S>(self, mut stream: S) -> io::Result<PgStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tls = match self.encryption {
            Encryption::Disabled => None,
            Encryption::Direct(tls) => Some(tls),
            Encryption::Preferred(tls) => request_tls(&mut stream).await?.then_some(tls),
            Encryption::Required(tls) => match request_tls(&mut stream).await? {
                true => Some(tls),
                false => return Err(io::Error::other("the server does not support TLS")),
            },
        };
        let stream = match tls {
            None => Either::Left(stream),
            Some(mut tls) => {
                let Ok(connect) = MakeTlsConnect::<S>::make_tls_connect(&mut tls, &self.host);
                Either::Right(connect.connect(stream).await?)
            }
        };
        Ok(ObservedStream::new(stream, self.last_error))
    }
}

/// Asks the server for TLS and returns its answer.
///
/// Exactly one byte is read, so that nothing that an attacker adds in plain text is taken for a part of the session.
async fn request_tls<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<bool> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        TLS_ACCEPTED => Ok(true),
        TLS_REFUSED => Ok(false),
        _ => Err(io::Error::other("the server's answer to the request for TLS is not one of PostgreSQL")),
    }
}

impl<S, T> TlsStream for ObservedStream<Either<S, T>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: TlsStream + Unpin,
{
    fn channel_binding(&self) -> ChannelBinding {
        match self.get_ref() {
            Either::Left(_) => ChannelBinding::none(),
            Either::Right(stream) => stream.channel_binding(),
        }
    }
}

impl<S> MakeTlsConnect<S> for PgTransport
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = PgStream<S>;
    type TlsConnect = Self;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self, Infallible> {
        Ok(Self { host: host.to_owned(), ..self.clone() })
    }
}

impl<S> TlsConnect<S> for PgTransport
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = PgStream<S>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<PgStream<S>>>;

    fn connect(self, stream: S) -> Self::Future {
        self.open(stream).boxed()
    }
}
