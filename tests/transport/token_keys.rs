//! The keys that verify tokens: their sources, their rotation, and tokens that try to choose their own key.

use std::time::Duration;

use base64::Engine as _;
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use testkit::keys::{HostKey, KeyServer, RSA_PUBLIC, key_set, sign, sign_with_secret};
use testkit::{SECRET, Socket, TestApp};

use crate::transport::tokens::{assert_accepted, assert_rejected, claims, fetch_viewer};

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
    let host = KeyServer::start().await;
    let (old, new) = (HostKey::ec(0), HostKey::ec(1));
    host.publish(&[&old]);
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url), ("PARLOR_JWT_ALGORITHM", "ES256")]).await;
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
    app.app.clock.advance(Duration::from_secs(1));
    assert_rejected(&app, old_token.clone(), "unknown key").await;
    assert_accepted(&app, new_token.clone()).await;
    assert_eq!(host.request_count(), 1, "keys are trusted for at most five minutes");

    // While the host fails, the known keys stay valid.
    host.fail();
    app.app.clock.advance(Duration::from_secs(3_600));
    assert_accepted(&app, new_token.clone()).await;
    assert_accepted(&app, new_token.clone()).await;
    assert_rejected(&app, old_token, "unknown key").await;
    assert_eq!(host.request_count(), 1, "a failing host receives few requests");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_key_flood_causes_no_fetch_flood() {
    let host = KeyServer::start().await;
    let (known, foreign) = (HostKey::ed(0), HostKey::ed(1));
    host.publish(&[&known]);
    let app = TestApp::sqlite(&[("PARLOR_JWKS", &host.url), ("PARLOR_JWT_ALGORITHM", "EdDSA")]).await;
    // However long the floods take, only this test lets the time between two fetches pass.
    app.app.clock.pause();
    assert_eq!(host.request_count(), 1);
    let flood = async || {
        let tokens = (0..100).map(|n| {
            let header = json!({ "alg": "EdDSA", "kid": format!("../../{n}' OR 1=1") });
            sign(&header, claims(json!({})), &foreign.key, Algorithm::EdDSA)
        });
        join_all(tokens.map(|token| assert_rejected(&app, token, "unknown key"))).await;
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
        (sign_with_secret(claims(json!({ "padding": "x".repeat(20_000) }))), "at most 16384 bytes"),
    ] {
        assert_rejected(&app, token, reason).await;
    }
    app.stop().await;
}
