//! The check of PostgreSQL's certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The parts of the server's certificate that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateCheck {
    /// Nothing is checked, so the encryption keeps out those who only listen.
    Nothing,
    /// The issuer has to be trusted.
    Issuer,
    /// The issuer has to be trusted, and the certificate has to name the host.
    IssuerAndHost,
}

/// Returns the settings of TLS; `roots` names a file of issuers to trust in place of the system's.
///
/// # Errors
///
/// Returns what is wrong with the issuers, as a predicate of which the setting is the subject.
pub fn client_config(check: CertificateCheck, roots: Option<&str>) -> Result<ClientConfig, String> {
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

/// Kinds of signatures that cannot be verified here, and need not be where nothing is checked.
const UNVERIFIABLE_SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// Checks as much of a certificate as the `sslmode` requires.
///
/// Without a check of the issuer, the proof that the server has the certificate's key is not checked either: it says
/// nothing about a certificate that anybody can make, and rustls reads only certificates of X.509 version 3 with some
/// kinds of keys, while PostgreSQL's own client takes all.
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
        if self.issuer_verifier.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.issuer_verifier.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        if self.issuer_verifier.is_none() {
            schemes.extend(UNVERIFIABLE_SCHEMES.iter().filter(|scheme| !schemes.contains(scheme)).collect::<Vec<_>>());
        }
        schemes
    }
}
