//! The address of PostgreSQL and the encryption of connections to it.
//!
//! `sslmode` has the meaning that PostgreSQL's documentation gives it (chapter 34.19, "SSL Support"): `prefer` and
//! `require` encrypt without checking the certificate, `verify-ca` requires a trusted issuer, and `verify-full`
//! requires the right host too. `sslrootcert` names a PEM file of issuers to trust in place of the system's; with it,
//! `require` means `verify-ca`.

use std::sync::Arc;

use diesel::{ConnectionError, ConnectionResult};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::storage::connection::PostgresConn;

/// A parsed PostgreSQL address.
#[derive(Clone)]
pub struct PgEndpoint {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

impl std::fmt::Debug for PgEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgEndpoint").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl PgEndpoint {
    /// Parses a `postgres://` URL and reads the certificates that it names.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the URL, as a predicate of which the setting is the subject.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut rest) = ("prefer", None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = value,
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => rest.push(pair),
            }
        }
        let (ssl_mode, check) = match (mode, roots) {
            ("disable", _) => (SslMode::Disable, None),
            ("allow" | "prefer", _) => (SslMode::Prefer, Some(CertificateCheck::Nothing)),
            ("require", None) => (SslMode::Require, Some(CertificateCheck::Nothing)),
            ("require", Some(_)) | ("verify-ca", _) => (SslMode::Require, Some(CertificateCheck::Issuer)),
            ("verify-full", _) => (SslMode::Require, Some(CertificateCheck::IssuerAndHost)),
            (other, _) => return Err(format!("has the unknown sslmode {other:?}")),
        };
        let mut config: tokio_postgres::Config = format!("{base}?{}", rest.join("&"))
            .parse()
            .map_err(|error| format!("is not a PostgreSQL address: {error}"))?;
        config.ssl_mode(ssl_mode);
        let tls = check.map(|check| client_config(check, roots).map(MakeRustlsConnect::new)).transpose()?;
        Ok(Self { config, tls })
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be reached, fails the certificate check or rejects the login.
    pub async fn connect(&self) -> ConnectionResult<PostgresConn> {
        let connection_error = |error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            ConnectionError::BadConnection(format!("{error}{cause}"))
        };
        match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(connection_error)?;
                PostgresConn::try_from_client_and_connection(client, connection).await
            }
            None => {
                let (client, connection) =
                    self.config.connect(tokio_postgres::NoTls).await.map_err(connection_error)?;
                PostgresConn::try_from_client_and_connection(client, connection).await
            }
        }
    }
}

/// The parts of the server's certificate that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CertificateCheck {
    Nothing,
    Issuer,
    IssuerAndHost,
}

fn client_config(check: CertificateCheck, roots: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let issuer_verifier = match check {
        CertificateCheck::Nothing => None,
        CertificateCheck::Issuer | CertificateCheck::IssuerAndHost => {
            let store = Arc::new(root_certificates(roots)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(store, provider.clone()).build();
            Some(verifier.map_err(|error| format!("has no trusted certificate issuer: {error}"))?)
        }
    };
    let verifier = CertificateVerifier { check, issuer_verifier, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn root_certificates(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match file {
        Some(file) => {
            let unreadable = |error| format!("has an unreadable sslrootcert {file}: {error}");
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                store.add(certificate.map_err(unreadable)?).map_err(|error| format!("sslrootcert {file}: {error}"))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

/// Checks as much of a certificate as the `sslmode` requires.
///
/// It always checks that the server has the certificate's key.
#[derive(Debug)]
struct CertificateVerifier {
    check: CertificateCheck,
    issuer_verifier: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuer_verifier) = &self.issuer_verifier else {
            return Ok(ServerCertVerified::assertion());
        };
        // The issuer is checked before the name, so a wrong name means that everything else was right.
        let result = issuer_verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match result {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == CertificateCheck::Issuer => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_only_the_documented_sslmodes() {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            assert!(PgEndpoint::parse(&format!("postgres://u:p@db/chat?sslmode={mode}")).is_ok(), "{mode}");
        }
        let error = PgEndpoint::parse("postgres://db/chat?sslmode=strict").unwrap_err();
        assert!(error.contains("strict"), "{error}");
        assert!(PgEndpoint::parse("postgres://db/chat?sslmode=verify-full&sslrootcert=/nowhere.pem").is_err());
    }
}
