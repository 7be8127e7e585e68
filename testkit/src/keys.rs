//! The signing keys of a host application, and tokens with any claims.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use parlor::domain::clock::Clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A private signing key of the host application.
pub struct HostKey {
    pub kid: &'static str,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
}

impl HostKey {
    /// Returns the RSA key.
    pub fn rsa() -> Self {
        let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
        Self { kid: "rsa", algorithm: Algorithm::RS256, key }
    }

    /// Returns one of the two ECDSA keys.
    pub fn ec(number: usize) -> Self {
        let key = EncodingKey::from_ec_pem(EC[number].as_bytes()).expect("a key");
        Self { kid: ["ec-0", "ec-1"][number], algorithm: Algorithm::ES256, key }
    }

    /// Returns one of the two Ed25519 keys.
    pub fn ed(number: usize) -> Self {
        let key = EncodingKey::from_ed_pem(ED[number].as_bytes()).expect("a key");
        Self { kid: ["ed-0", "ed-1"][number], algorithm: Algorithm::EdDSA, key }
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: impl Display) -> String {
        let header = json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.kid });
        sign(&header, claims, &self.key, self.algorithm)
    }

    /// Returns the public key as a JSON Web Key.
    pub fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        jwk.common.key_id = Some(self.kid.into());
        serde_json::to_value(jwk).expect("JSON")
    }
}

/// Returns a JSON Web Key Set of these keys.
pub fn key_set(keys: &[&HostKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>() }).to_string()
}

/// Returns the time in seconds since 1970, as in the claims of tokens.
pub fn unix_seconds() -> i64 {
    Clock::system().now().timestamp()
}

/// Signs a token with the tests' shared secret.
pub fn sign_with_secret(claims: impl Display) -> String {
    let key = EncodingKey::from_secret(crate::SECRET.as_bytes());
    sign(&json!({ "alg": "HS256", "typ": "JWT" }), claims, &key, Algorithm::HS256)
}

/// Signs a token with this header and these claims, which may contradict the key.
pub fn sign(header: &Value, claims: impl Display, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).expect("a signature");
    format!("{message}.{signature}")
}

/// An HTTP server that publishes the host application's keys.
pub struct KeyServer {
    pub url: String,
    answer: Arc<Mutex<KeyAnswer>>,
    requests: Arc<AtomicUsize>,
}

/// The answer of a [`KeyServer`].
#[derive(Debug, Clone, Default)]
enum KeyAnswer {
    /// The status 503.
    #[default]
    Failure,
    /// A key set.
    Keys(String),
    /// A redirect to another address.
    Redirect(String),
    /// None, for as long as the client waits.
    Silence,
}

impl KeyServer {
    /// Starts the server without keys.
    pub async fn start() -> Self {
        let (answer, requests): (Arc<Mutex<KeyAnswer>>, Arc<AtomicUsize>) = Default::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let respond = {
            let (answer, requests) = (answer.clone(), requests.clone());
            async move || {
                requests.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().expect("no panic under this lock").clone();
                match answer {
                    KeyAnswer::Failure => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    KeyAnswer::Keys(keys) => keys.into_response(),
                    KeyAnswer::Redirect(url) => (StatusCode::FOUND, [(LOCATION, url)]).into_response(),
                    KeyAnswer::Silence => std::future::pending().await,
                }
            }
        };
        tokio::spawn(axum::serve(listener, Router::new().route("/keys", get(respond))).into_future());
        Self { url, answer, requests }
    }

    /// Replaces the published keys.
    pub fn publish(&self, keys: &[&HostKey]) {
        self.publish_text(key_set(keys));
    }

    /// Publishes a text as the key set.
    pub fn publish_text(&self, keys: String) {
        self.answer_with(KeyAnswer::Keys(keys));
    }

    /// Makes all requests fail with status 503.
    pub fn fail(&self) {
        self.answer_with(KeyAnswer::Failure);
    }

    /// Redirects all requests to another address.
    pub fn redirect(&self, url: &str) {
        self.answer_with(KeyAnswer::Redirect(url.into()));
    }

    /// Leaves all requests without an answer.
    pub fn hang(&self) {
        self.answer_with(KeyAnswer::Silence);
    }

    fn answer_with(&self, answer: KeyAnswer) {
        *self.answer.lock().expect("no panic under this lock") = answer;
    }

    /// Returns the number of requests since the last call of this function.
    pub fn request_count(&self) -> usize {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

const EC: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgz8orpahvSWQLTKZc
C9PGwJ3/HxaZesXBONThwxWGsqehRANCAARtyNlPSCoCuvT1Hgdmx2RV5T8b6j0R
tNlsIcCeDUwH5lkOnZueOQAwQYsob43NcHwADr+31nsQbk2IPrVoJypJ
-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7ZOx3DrpiFiUaDn1
+WKRm0E0vm+fBiWVowj8Nmb/l9GhRANCAATOjE41GzCjeYwazO+D48xQYBMTQk0N
YRUwWxMEEbuWmUoxIiLBOfRlU69fFlcGuUdpw7nm9Ihj1dQZbKwuG1sU
-----END PRIVATE KEY-----",
];

const ED: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJWVPF3EEC6e5hYcuIJpxMC6qVATubc/4uAtLwZdDCzx
-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEICqWNMd1d8FDke0meYTqn8WeCr0Qxr56YzVC3cHFAf+5
-----END PRIVATE KEY-----",
];

const RSA: &str = "-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC3gzRgMeAdN5QH
InYq45eamx1Ct1R3i96DBej0oIah57WJeVd1yS+g1KL5YA+sdgDaXPfgfXxEmfmN
ELg/gOzO4IjBDYKJutdahb6uiF1sw/bq6eHElWv30QFHY8UjaYDV3hB8xxGNAL8M
P8cQadpZdVlL+CVoZC57L6cQr6dHWIjrt543rPhi4hY5ldu+l70aRZ+/MrVVuhGv
d1I3lpZyaZqfAZ33Thfgwp1L6QUNh/S6pjNu/PRgrf2dUw67EmDb7CHrji2KZMaM
FP5MTe6Laz5f2+qf0oWXaegVmwj1iufrKeD84TfemDb2RNdRSqO0zgOU6GIV+llQ
VvChB4XvAgMBAAECggEAL/xmCLViBiHPWmI/hg2HSg0/hH+N3ci8QYSdGsKTEekW
BkGthgY6pxKTHyRoVM9yf6cJxjDp+sJMh/+UPj7HLX13JQwUU1GBGJGaf+b2jwdb
HKhVueLcnauQawuCtDTVVJdBtm8TfsxwKJLQydD0IKpX1E6p8Xco1FtskydrVXM2
AuxIbPuSOkbchNDNMTPh1xaMlSK3rREt/y0eWMcpd4Jl9dPjTNo5vAaotZnRFaHm
dZ05i9as9PcQAIP0JGV57+uR9EWSrlHqTASC/6VzkoMrK4GM8ygaeCXgWy+gMmLC
oWX5kXuofMevv2JLVapc7cwoMXjZb6pE+fuxlHKX+QKBgQD0oyeRhSmUYQ6GVq3S
u2O020y4eUoH1NKxA3JWiarNIv9n4An7njH209jFnYdjZkWjQ3REZhRaJ55IqC2I
iDlmXhpJoxU0hRKMmngLHd4kKO1LzZA8hdCrfcADRJRjmrkCIU35INx7H1lCldf4
bz9Xs/qxq4GPnmYXtovHJgSezQKBgQDACT/Li/ywB/b78N55eBDG4DZCr6OAKyjK
xjwVTONm+bM5qLnr7HwR5iwVX3+h7jOxLvUd8MebQk7WUknUaTqrvrwNMoj49m8A
5Rj39ZbWHKid0M1eaM6Dni1nfz0ATL+grlGEOmk+WK0O1OJ8M0TYhtY/f4hFSotM
bWbIQlE/qwKBgQCZACGTJZFnt3v6EOQN1Bz709wb09+1HinXg6xS6y7jtWu/b6NO
txXQpZYBohA23pPXFCz3SlCYQgcAsg4oQeqEV35hZ5mvizqarVE+wqNYQjCHJD19
XMOxPaiFYrLbyLzE1EeL9D1w055jwoucWRdopqu3yufxBsQbOJQbLW/eUQKBgHLK
VJcQo8h5ylqJfgMwER9AUU8FfH+VzPmBC9NTta8NXeP+hryPDQ8J/pn8Dug14jJs
tlriXf7h4Qxd/gH5sPeOuQxOg/AGJw5q48T8yeBNG0HS2aAwmBm3CL8QIN+4AOhE
qzeWTujUywXNnWDOqL2hxBoK2uNIjwHtd34HnlenAoGBAKGZKnbq7IqSvJsx2Vry
EukyZPXWv9DQkJB+V0OSzsuyhms+H03XKyWP+r4CPYx/qbvzF/C31I62GgvlDbDV
ebEMeBAAO+zT2zuEOXejU0w2UJnf0rJcvVzwbw26pOlX0AMl9ldlPVNjImEJlC+3
8gAZSyehPQEkwuVxX6Hw/Meo
-----END PRIVATE KEY-----";

pub const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAt4M0YDHgHTeUByJ2KuOX
mpsdQrdUd4vegwXo9KCGoee1iXlXdckvoNSi+WAPrHYA2lz34H18RJn5jRC4P4Ds
zuCIwQ2CibrXWoW+rohdbMP26unhxJVr99EBR2PFI2mA1d4QfMcRjQC/DD/HEGna
WXVZS/glaGQuey+nEK+nR1iI67eeN6z4YuIWOZXbvpe9GkWfvzK1VboRr3dSN5aW
cmmanwGd904X4MKdS+kFDYf0uqYzbvz0YK39nVMOuxJg2+wh644timTGjBT+TE3u
i2s+X9vqn9KFl2noFZsI9Yrn6yng/OE33pg29kTXUUqjtM4DlOhiFfpZUFbwoQeF
7wIDAQAB
-----END PUBLIC KEY-----
";
