//! The keys that verify tokens: their sources, their rotation, and tokens that try to choose their own key.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use jsonwebtoken::{Algorithm, EncodingKey};
use parlor::auth::jwks::UNKNOWN_KEY_WAIT;
use parlor::bootstrap;
use parlor::domain::clock::Clock;
use serde_json::{Value, json};
use testkit::keys::{HostKey, KeyServer, RSA_PUBLIC, key_set, sign, sign_with_secret};
use testkit::{Database, Engine, SECRET, ServerProcess, Socket, TestApp, User, wait_until};

use crate::transport::tokens::{assert_accepted, assert_rejected, claims, fetch_viewer};

/// Starts a host that publishes a key, and a server that has read it.
///
/// Only the test lets time pass, in which the keys are read again.
async fn start_with_key_server(key: &HostKey) -> (KeyServer, TestApp) {
    let host = KeyServer::start().await;
    host.publish(&[key]);
    let algorithm = format!("{:?}", key.algorithm);
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url), ("PARLOR_JWT_ALGORITHM", &algorithm)]).await;
    app.app.clock.pause();
    (host, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_file_supports_every_algorithm() {
    let (rsa, ec, ed) = (HostKey::rsa(), HostKey::ec(0), HostKey::ed(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    // A key set may contain keys for other algorithms.
    std::fs::write(&file, key_set(&[&rsa, &ec, &ed])).unwrap();
    for (key, algorithm) in [(&rsa, "RS256"), (&ec, "ES256"), (&ed, "EdDSA")] {
        let app =
            TestApp::sqlite(&[("PARLOR_JWKS", file.to_str().unwrap()), ("PARLOR_JWT_ALGORITHM", algorithm)]).await;
        assert_eq!(assert_accepted(&app, key.sign(claims(json!({})))).await["user"]["id"], "alice", "{algorithm}");
        let unnamed = sign(&json!({ "alg": algorithm }), claims(json!({})), &key.key, key.algorithm);
        assert_eq!(
            assert_accepted(&app, unnamed).await["user"]["id"],
            "alice",
            "the key set has one key for {algorithm}"
        );
        for other in [&rsa, &ec, &ed].into_iter().filter(|other| other.kid != key.kid) {
            assert_rejected(&app, other.sign(claims(json!({}))), "unknown key").await;
        }
        app.stop().await;
    }

    // The default algorithm of a key set is RS256.
    let app = TestApp::sqlite(&[("PARLOR_JWKS", file.to_str().unwrap())]).await;
    assert_accepted(&app, rsa.sign(claims(json!({})))).await;
    app.stop().await;

    let (old, new) = (HostKey::ed(0), HostKey::ed(1));
    let app = TestApp::sqlite(&[("PARLOR_JWKS", file.to_str().unwrap()), ("PARLOR_JWT_ALGORITHM", "EdDSA")]).await;
    let forged = sign(&json!({ "alg": "EdDSA", "kid": old.kid }), claims(json!({})), &new.key, new.algorithm);
    assert_rejected(&app, forged, "signature").await;
    std::fs::write(&file, key_set(&[&old, &new])).unwrap();
    app.app.clock.advance(Duration::from_secs(10));
    assert_accepted(&app, new.sign(claims(json!({})))).await;
    let unnamed = sign(&json!({ "alg": "EdDSA" }), claims(json!({})), &new.key, new.algorithm);
    assert_rejected(&app, unnamed, "unknown key").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_address_rotates_keys() {
    let (old, new) = (HostKey::ec(0), HostKey::ec(1));
    let (host, app) = start_with_key_server(&old).await;
    let [old_token, new_token] = [&old, &new].map(|key| key.sign(claims(json!({}))));
    for _ in 0..5 {
        assert_accepted(&app, old_token.clone()).await;
    }
    assert_eq!(host.request_count(), 1, "one request at the start");

    // The host adds the new key, and later removes the old one.
    host.publish(&[&old, &new]);
    app.app.clock.advance(Duration::from_secs(10));
    assert_accepted(&app, new_token.clone()).await;
    assert_accepted(&app, old_token.clone()).await;
    assert_eq!(host.request_count(), 1, "an unknown key causes a request");
    host.publish(&[&new]);
    app.app.clock.advance(Duration::from_secs(299));
    assert_accepted(&app, old_token.clone()).await;
    assert_eq!(host.request_count(), 0);
    // No request is needed: the set is read again in the background.
    app.app.clock.advance(Duration::from_secs(1));
    let is_withdrawn = async || fetch_viewer(&app, old_token.clone()).await.status == 401;
    wait_until("the withdrawn key stops working", is_withdrawn).await;
    assert_accepted(&app, new_token.clone()).await;
    assert_eq!(host.request_count(), 1, "keys are trusted for about five minutes");

    // While the host fails, the known keys stay valid.
    host.fail();
    app.app.clock.advance(Duration::from_secs(3_600));
    let has_failed = async || app.app.authenticator.readiness().last_error.is_some();
    wait_until("the keys were read in the background", has_failed).await;
    assert_accepted(&app, new_token.clone()).await;
    assert_rejected(&app, old_token, "unknown key").await;
    assert_eq!(host.request_count(), 1, "a failing host receives few requests");
    host.publish(&[&new]);
    app.app.clock.advance(Duration::from_secs(10));
    let is_ready = async || app.app.authenticator.readiness().last_error.is_none();
    wait_until("the keys were read again", is_ready).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_flood_causes_no_fetch_flood() {
    let (known, foreign) = (HostKey::ed(0), HostKey::ed(1));
    let (host, app) = start_with_key_server(&known).await;
    assert_eq!(host.request_count(), 1);
    let client = User::new(app.addr, "any", String::new());
    let flood = async || {
        let replies = (0..100).map(async |n| {
            let header = json!({ "alg": "EdDSA", "kid": format!("../../{n}' OR 1=1") });
            let token = sign(&header, claims(json!({})), &foreign.key, Algorithm::EdDSA);
            let reply = client.with_token(token).ask("{ viewer { user { id } } }").await;
            assert_eq!(reply.status, 401, "{}", reply.body);
        });
        // An address has a limited number of connections.
        stream::iter(replies).for_each_concurrent(20, |reply| reply).await;
        host.request_count()
    };
    assert_eq!(flood().await, 0, "the keys were fetched recently");
    app.app.clock.advance(Duration::from_secs(10));
    assert_eq!(flood().await, 1);
    assert_eq!(flood().await, 0);
    assert_accepted(&app, known.sign(claims(json!({})))).await;

    // A new key is unknown until the next fetch, so the close code lets a client retry.
    let close_code = async || {
        let mut socket = Socket::connect(app.addr).await;
        let bearer = format!("Bearer {}", foreign.sign(claims(json!({}))));
        socket.send(json!({ "type": "connection_init", "payload": { "Authorization": bearer } })).await;
        socket.expect_close().await.0
    };
    assert_eq!(close_code().await, 4403);
    app.app.clock.advance(Duration::from_secs(10));
    assert_eq!(close_code().await, 4401, "the key is not among the fetched keys");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_host_may_start_after_server() {
    let host = KeyServer::start().await;
    let key = HostKey::ed(0);
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url), ("PARLOR_JWT_ALGORITHM", "EdDSA")]).await;
    let token = key.sign(claims(json!({})));
    let reply = fetch_viewer(&app, token.clone()).await;
    reply.assert_error("UNAVAILABLE");
    assert_eq!(reply.status, 503);
    assert!(reply.body["errors"][0]["extensions"]["retryAfterMs"].as_u64().is_some(), "{}", reply.body);
    host.publish(&[&key]);
    app.app.clock.advance(Duration::from_secs(10));
    assert_accepted(&app, token).await;
    app.stop().await;
}

/// A key set that does not answer delays nobody whose key is known, and others for a limited time.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_jwks_delays_unknown_keys_only() {
    let (known, foreign) = (HostKey::ed(0), HostKey::ed(1));
    let (host, app) = start_with_key_server(&known).await;
    let known_token = known.sign(claims(json!({})));
    assert_accepted(&app, known_token.clone()).await;
    assert_eq!(host.request_count(), 1);
    host.hang();
    let users = [&known_token, &foreign.sign(claims(json!({})))].map(|token| User::new(app.addr, "any", token.clone()));
    // The set is old, so a read begins in the background, and unknown keys wait for the same read.
    app.app.clock.advance(Duration::from_secs(300));
    let started_at = Instant::now();
    let [known_user, unknown_user] = &users;
    let ask = async |user: &User, code: u16| assert_eq!(user.ask("{ viewer { user { id } } }").await.status, code);
    let unknown = async {
        join_all((0..20).map(|_| ask(unknown_user, 401))).await;
        started_at.elapsed()
    };
    let known = async {
        for _ in 0..3 {
            ask(known_user, 200).await;
        }
        started_at.elapsed()
    };
    let (unknown_took, known_took) = tokio::join!(unknown, known);
    assert!(known_took < unknown_took, "known keys do not wait: {known_took:?}, {unknown_took:?}");
    assert!(unknown_took < UNKNOWN_KEY_WAIT * 5, "the wait is bounded: {unknown_took:?}");
    assert_eq!(host.request_count(), 1, "one read at a time");
    app.stop().await;
}

/// Returns a key set with an RSA key of this many bits, and the given keys.
fn with_rsa_key(bits: usize, keys: &[&HostKey]) -> String {
    let modulus = vec![0xC5_u8; bits / 8];
    let short = json!({ "kty": "RSA", "kid": "short", "e": "AQAB",
        "n": base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(modulus) });
    let keys = keys.iter().map(|key| key.public());
    json!({ "keys": std::iter::once(short).chain(keys).collect::<Vec<_>>() }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn short_rsa_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let rsa = HostKey::rsa();
    let database = Database::create(Engine::Sqlite).await;
    let config = testkit::config(&database.url, &[("PARLOR_JWKS", file.to_str().unwrap())]);
    for (set, expected) in [
        (with_rsa_key(1_024, &[]), "has 1024 bits and must have at least 2048"),
        (with_rsa_key(1_024, &[&rsa]), "has 1024 bits and must have at least 2048"),
        (with_rsa_key(2_040, &[&rsa]), "has 2040 bits and must have at least 2048"),
    ] {
        std::fs::write(&file, set).unwrap();
        let error = bootstrap::start(&config, Clock::system()).await.map(|_| ()).expect_err("the start fails");
        assert!(error.to_string().contains(expected), "{error}");
    }
    std::fs::write(&file, with_rsa_key(2_048, &[&rsa])).unwrap();
    let app = bootstrap::start(&config, Clock::system()).await.expect("the server starts");
    app.database.close();
    database.drop().await;

    // An address may serve the keys of others too: a short key is ignored.
    let host = KeyServer::start().await;
    host.publish_text(with_rsa_key(1_024, &[]));
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url)]).await;
    let token = rsa.sign(claims(json!({})));
    fetch_viewer(&app, token.clone()).await.assert_error("UNAVAILABLE");
    let readiness = app.app.authenticator.readiness();
    assert!(!readiness.has_keys);
    assert!(readiness.last_error.is_some_and(|error| error.contains("1024 bits")));
    host.publish_text(with_rsa_key(1_024, &[&rsa]));
    app.app.clock.advance(Duration::from_secs(10));
    assert_accepted(&app, token).await;
    let short = sign(&json!({ "alg": "RS256", "kid": "short" }), claims(json!({})), &rsa.key, rsa.algorithm);
    assert_rejected(&app, short, "unknown key").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_redirect_is_not_followed() {
    let (host, other) = (KeyServer::start().await, KeyServer::start().await);
    let key = HostKey::ed(0);
    other.publish(&[&key]);
    host.redirect(&other.url);
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url), ("PARLOR_JWT_ALGORITHM", "EdDSA")]).await;
    fetch_viewer(&app, key.sign(claims(json!({})))).await.assert_error("UNAVAILABLE");
    assert_eq!(other.request_count(), 0);
    let readiness = app.app.authenticator.readiness();
    assert!(readiness.last_error.is_some_and(|error| error.contains("redirects are not followed")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_jwks_address_are_never_logged() {
    let folder = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = KeyServer::start().await;
    let address = |host: &str| format!("http://user:s3cret@{host}/keys?token=s3cret#s3cret");
    let served = address(host.url.trim_start_matches("http://").trim_end_matches("/keys"));
    for (address, cause) in [(address(&closed.to_string()), "refused"), (served.clone(), "503")] {
        let settings = [("PARLOR_JWKS", address.as_str()), ("PARLOR_LOG", "debug")];
        let server = ServerProcess::start(folder.path(), &settings);
        let user = User::new(server.addr, "alice", HostKey::rsa().sign(claims(json!({}))));
        user.ask("{ __typename viewer { user { id } } }").await.assert_error("UNAVAILABLE");
        let log = server.process.log();
        assert!(log.contains("token keys cannot be read") && log.contains("http://***@"), "{log}");
        assert!(log.contains(cause), "the cause is logged: {log}");
        assert!(!log.contains("s3cret"), "{log}");
        server.process.stop("TERM").await;
    }
    host.redirect("http://other/");
    let server = ServerProcess::start(folder.path(), &[("PARLOR_JWKS", served.as_str())]);
    let log = server.process.log();
    assert!(log.contains("redirects are not followed") && !log.contains("s3cret"), "{log}");
    server.process.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn previous_secret_verifies_and_does_not_sign() {
    const PREVIOUS: &str = "the secret before the rotation, of more than 32 bytes";
    let sign_by = |secret: &str, claims: Value| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        sign(&json!({ "alg": "HS256" }), claims, &key, Algorithm::HS256)
    };
    let app = TestApp::sqlite(&[("PARLOR_JWT_SECRET_PREVIOUS", PREVIOUS)]).await;
    for secret in [SECRET, PREVIOUS] {
        assert_accepted(&app, sign_by(secret, claims(json!({})))).await;
        let expired = sign_by(secret, claims(json!({ "exp": 1 })));
        assert_rejected(&app, expired, "expired").await;
    }
    let other = "a third secret, which also has more than 32 bytes";
    assert_rejected(&app, sign_by(other, claims(json!({}))), "signature is invalid").await;
    let issued = app.token("demo", "alice", None);
    app.stop().await;

    // After the rotation, tokens of the previous secret end, and those that the server issued do not.
    let app = TestApp::sqlite(&[]).await;
    assert_accepted(&app, issued).await;
    assert_rejected(&app, sign_by(PREVIOUS, claims(json!({}))), "signature is invalid").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_cannot_choose_its_algorithm() {
    let (rsa, ec) = (HostKey::rsa(), HostKey::ec(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, key_set(&[&rsa, &ec])).unwrap();
    let public_der = RSA_PUBLIC.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let public_der = base64::engine::general_purpose::STANDARD.decode(public_der).unwrap();
    let sign_hs256 = |secret: &[u8], header: Value| {
        sign(&header, claims(json!({})), &EncodingKey::from_secret(secret), Algorithm::HS256)
    };
    let header = |algorithm: &str| json!({ "alg": algorithm, "typ": "JWT", "kid": "rsa" });
    let unsigned = |algorithm: &str| {
        let token = sign_hs256(b"x", header(algorithm));
        token[..=token.rfind('.').unwrap()].to_owned()
    };
    let mut with_own_key = header("RS256");
    with_own_key["jwk"] = ec.public();
    with_own_key["jku"] = "http://127.0.0.1:1/keys".into();

    let app = TestApp::sqlite(&[("PARLOR_JWKS", file.to_str().unwrap())]).await;
    assert_accepted(&app, rsa.sign(claims(json!({})))).await;
    for (token, reason) in [
        (unsigned("none"), "malformed"),
        (unsigned("None"), "malformed"),
        (unsigned("NONE"), "malformed"),
        (unsigned("RS256"), "signature"),
        (sign_hs256(RSA_PUBLIC.as_bytes(), header("HS256")), "must be signed by RS256"),
        (sign_hs256(RSA_PUBLIC.trim().as_bytes(), header("HS256")), "must be signed by RS256"),
        (sign_hs256(&public_der, header("HS256")), "must be signed by RS256"),
        (sign_hs256(RSA_PUBLIC.as_bytes(), header("RS256")), "signature"),
        (sign_hs256(&public_der, header("RS256")), "signature"),
        (sign(&header("RS384"), claims(json!({})), &rsa.key, Algorithm::RS384), "must be signed by RS256"),
        (sign(&header("PS256"), claims(json!({})), &rsa.key, Algorithm::PS256), "must be signed by RS256"),
        (sign(&header("ES256"), claims(json!({})), &ec.key, Algorithm::ES256), "must be signed by RS256"),
        (sign(&with_own_key, claims(json!({})), &ec.key, Algorithm::ES256), "signature"),
        (ec.sign(claims(json!({}))), "unknown key"),
    ] {
        assert_rejected(&app, token, reason).await;
    }
    app.stop().await;

    let app = TestApp::sqlite(&[]).await;
    assert_accepted(&app, sign_with_secret(claims(json!({})))).await;
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for (token, reason) in [
        (rsa.sign(claims(json!({}))), "must be signed by HS256"),
        (unsigned("none"), "malformed"),
        (sign(&header("HS384"), claims(json!({})), &secret, Algorithm::HS384), "must be signed by HS256"),
        (sign_hs256(b"another secret, of more than 32 bytes", header("HS256")), "signature"),
        (sign_hs256(b"", header("HS256")), "signature"),
        (sign_hs256(SECRET.as_bytes(), json!({ "alg": "HS256", "crit": ["exp"] })), "critical"),
        ("nonsense".into(), "malformed"),
        ("a.b.c".into(), "malformed"),
        (format!("{}.", sign_with_secret(claims(json!({})))), "malformed"),
    ] {
        assert_rejected(&app, token, reason).await;
    }
    // A header of HTTP has no room for it, but a message of a WebSocket has.
    let mut socket = Socket::connect(app.addr).await;
    let bearer = format!("Bearer {}", sign_with_secret(claims(json!({ "padding": "x".repeat(20_000) }))));
    socket.send(json!({ "type": "connection_init", "payload": { "Authorization": bearer } })).await;
    let (code, reason) = socket.expect_close().await;
    assert!(code == 4401 && reason.contains("at most 16384 bytes"), "{code} {reason}");
    app.stop().await;
}
