//! The databases themselves: TLS, several servers on one, and one that goes away.

use futures_util::future::join_all;
use parlor::bootstrap;
use parlor::domain::clock::Clock;
use parlor::domain::messages::{DraftBody, MessageDraft};
use serde_json::json;
use testkit::{Database, Engine, TestApp, config, postgres_test};
use tokio_postgres::NoTls;

/// Whether every connection to a database but this one is encrypted; none where there is no other.
async fn encrypted(url: &str) -> Option<bool> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    let query = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    client.query_one(query, &[]).await.expect("the statistics can be read").get(0)
}

#[postgres_test]
async fn sslmode_setting_is_honored() {
    let issuer = std::env::var("PARLOR_TEST_POSTGRES_CA").expect("tests/run sets PARLOR_TEST_POSTGRES_CA");
    let plain = Database::create(Engine::Postgres).await;
    let base = plain.url.split('?').next().expect("an address").to_owned();
    let by_number = base.replace("@localhost:", "@127.0.0.1:");
    assert_ne!(base, by_number);
    let trusted = format!("sslrootcert={issuer}");
    for (url, outcome) in [
        (format!("{base}?sslmode=disable"), Some(false)),
        (base.clone(), Some(true)),
        (format!("{base}?sslmode=prefer"), Some(true)),
        (format!("{base}?sslmode=require"), Some(true)),
        (format!("{base}?sslmode=require&{trusted}"), Some(true)),
        (format!("{base}?sslmode=verify-ca&{trusted}"), Some(true)),
        (format!("{by_number}?sslmode=verify-ca&{trusted}"), Some(true)),
        (format!("{base}?sslmode=verify-full&{trusted}"), Some(true)),
        // The certificate is localhost's.
        (format!("{by_number}?sslmode=verify-full&{trusted}"), None),
        // The system doesn't know the issuer.
        (format!("{base}?sslmode=verify-full"), None),
        (format!("{base}?sslmode=verify-ca"), None),
    ] {
        let started = bootstrap::start(&config(&url, &[("PARLOR_DATABASE_WAIT_SECONDS", "3")]), Clock::system()).await;
        match (started, outcome) {
            (Ok(app), Some(tls)) => {
                app.database.read().await.expect("a connection").ping().await.expect("an answer");
                assert_eq!(encrypted(&base).await, Some(tls), "{url}");
                app.database.close();
            }
            (Err(error), None) => assert!(error.to_string().starts_with("DATABASE_URL"), "{error}"),
            (started, _) => panic!("{url}: {:?}", started.map(|_| "started")),
        }
        // The pool's connections end before the next are counted.
        while encrypted(&base).await.is_some() {
            tokio::task::yield_now().await;
        }
    }
    plain.drop().await;
}

#[postgres_test]
async fn concurrently_started_servers_migrate_once() {
    let database = Database::create(Engine::Postgres).await;
    let shared_config = config(&database.url, &[]);
    let starts = (0..4).map(|_| bootstrap::start(&shared_config, Clock::system()));
    for started in join_all(starts).await {
        started.map(|_| ()).expect("each server starts");
    }
    let app = TestApp::start(database, &[]).await;
    let second = bootstrap::start(&config(&app.database.url, &[]), Clock::system()).await.expect("a second server");
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.direct(&bob).await;
    // Two committers on one chat: the row lock orders them.
    let sender = std::sync::Arc::new(second.authenticator.verify(&alice.token).await.expect("a token"));
    let there = (0..20).map(async |n| {
        let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text(format!("there {n}")));
        parlor::service::messages::send(&second, sender.clone(), draft).await.expect("sent")
    });
    let here = (0..20).map(async |n| alice.send(&chat, &format!("here {n}")).await);
    futures_util::join!(join_all(there), join_all(here));
    let query =
        format!("{{ chat(id: \"{chat}\") {{ version messages(last: 100) {{ totalCount nodes {{ seq }} }} }} }}");
    let reply = alice.ask(&query).await;
    assert_eq!(reply.at("chat.messages.totalCount"), 40);
    let seqs: Vec<_> =
        reply.at("chat.messages.nodes").as_array().expect("nodes").iter().map(|node| node["seq"].as_i64()).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next));
    // What the other server wrote reaches a feed here by the gap that the next change shows.
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text("unheard of"));
    parlor::service::messages::send(&second, sender.clone(), draft).await.expect("sent");
    alice.send(&chat, "heard of").await;
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "unheard of");
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "heard of");
    second.database.close();
    app.stop().await;
}

#[postgres_test]
async fn dropped_request_leaves_no_row_lock() {
    let app = TestApp::start(Database::create(Engine::Postgres).await, &[("PARLOR_DATABASE_CONNECTIONS", "2")]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let id = chat.parse().expect("an id");
    let mut conn = app.app.database.write().await.expect("a connection");
    // The transaction is given up while it holds the chat's lock.
    let holding = conn.transaction(async move |conn| {
        parlor::storage::chats::lock(conn, &[id]).await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    tokio::time::timeout(std::time::Duration::from_millis(500), holding).await.expect_err("it never ends");
    drop(conn);
    let sent = alice
        .mutate_returning("sendMessage", json!({ "chatId": chat, "text": "not locked out" }), "message { id }")
        .await;
    sent.data();
    app.stop().await;
}
