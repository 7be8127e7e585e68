//! Databases: TLS, permissions of files, several servers, and abandoned transactions.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use futures_util::future::join_all;
use parlor::bootstrap;
use parlor::domain::clock::Clock;
use parlor::domain::messages::{DraftBody, MessageDraft};
use serde_json::json;
use tempfile::TempDir;
use testkit::postgres::PostgresServer;
use testkit::{Database, Engine, SECRET, ServerProcess, TestApp, config, postgres_test, wait_until};
use tokio_postgres::NoTls;

/// Returns whether an application's connections to a database are encrypted; `None` if it has none.
async fn are_connections_encrypted(url: &str, application: &str) -> Option<bool> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let query = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE datname = current_database() AND application_name = $1 AND backend_type = 'client backend'";
    client.query_one(query, &[&application]).await.expect("the statistics").get(0)
}

#[postgres_test]
async fn sslmode_setting_is_honored() {
    let issuer = std::env::var("PARLOR_TEST_POSTGRES_CA").expect("tests/run sets PARLOR_TEST_POSTGRES_CA");
    let plain = Database::create(Engine::Postgres).await;
    let base = plain.url.split('?').next().expect("an address").to_owned();
    let by_ip_address = base.replace("@localhost:", "@127.0.0.1:");
    assert_ne!(base, by_ip_address);
    let trusted = format!("sslrootcert={issuer}");
    let cases = [
        (format!("{base}?sslmode=disable"), Some(false)),
        (base.clone(), Some(true)),
        (format!("{base}?sslmode=prefer"), Some(true)),
        (format!("{base}?sslmode=require"), Some(true)),
        (format!("{base}?sslmode=require&{trusted}"), Some(true)),
        (format!("{base}?sslmode=verify-ca&{trusted}"), Some(true)),
        (format!("{by_ip_address}?sslmode=verify-ca&{trusted}"), Some(true)),
        (format!("{base}?sslmode=verify-full&{trusted}"), Some(true)),
        // The certificate is for `localhost`.
        (format!("{by_ip_address}?sslmode=verify-full&{trusted}"), None),
        // The system does not trust the issuer.
        (format!("{base}?sslmode=verify-full"), None),
        (format!("{base}?sslmode=verify-ca"), None),
    ];
    for (number, (url, expected)) in cases.into_iter().enumerate() {
        // The name tells the connections of this case from late ones of the case before.
        let application = format!("case-{number}");
        let url = format!("{url}{}application_name={application}", if url.contains('?') { '&' } else { '?' });
        let started = bootstrap::start(&config(&url, &[("PARLOR_DATABASE_WAIT_SECONDS", "3")]), Clock::system()).await;
        match (started, expected) {
            (Ok(app), Some(tls)) => {
                app.database.read().await.expect("a connection").check_alive().await.expect("a reply");
                assert_eq!(are_connections_encrypted(&base, &application).await, Some(tls), "{url}");
                app.database.close();
            }
            (Err(error), None) => assert!(error.to_string().starts_with("DATABASE_URL"), "{error}"),
            (started, _) => panic!("{url}: {:?}", started.map(|_| "started")),
        }
        let has_ended = async || are_connections_encrypted(&base, &application).await.is_none();
        wait_until("the pool's connections have ended", has_ended).await;
    }
    plain.drop().await;
}

#[postgres_test]
async fn certificate_that_is_not_checked_may_be_of_any_version_and_kind() {
    let certificates = [
        // X.509 version 1, which libraries for certificates of the web do not read.
        (include_str!("certificates/v1.crt"), include_str!("certificates/v1.key")),
        // A key on the curve P-521, whose signatures the library cannot verify.
        (include_str!("certificates/p521.crt"), include_str!("certificates/p521.key")),
    ];
    for (certificate, key) in certificates {
        let server = PostgresServer::start_with_certificate(certificate, key).await;
        let cases = [
            ("", Some(true)),
            ("?sslmode=allow", Some(true)),
            ("?sslmode=prefer", Some(true)),
            ("?sslmode=require", Some(true)),
            ("?sslmode=disable", Some(false)),
            ("?sslmode=verify-ca", None),
            ("?sslmode=verify-full", None),
        ];
        for (query, expected) in cases {
            let url = format!("{}{query}", server.url());
            match (bootstrap::start(&config(&url, &[("PARLOR_NODE_NAME", "tls")]), Clock::system()).await, expected) {
                (Ok(app), Some(tls)) => {
                    app.database.read().await.expect("a connection").check_alive().await.expect("a reply");
                    let query = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                                 WHERE application_name LIKE 'parlor/tls%' AND ssl = $1";
                    let (client, connection) =
                        tokio_postgres::connect(server.url(), NoTls).await.expect("a connection");
                    tokio::spawn(connection);
                    let count = async |tls: bool| -> i64 {
                        client.query_one(query, &[&tls]).await.expect("the statistics").get(0)
                    };
                    assert!(count(tls).await > 0, "{url}");
                    assert_eq!(count(!tls).await, 0, "{url}");
                    app.database.close();
                    drop(app);
                    let have_ended = async || count(tls).await == 0;
                    wait_until("the pool's connections have ended", have_ended).await;
                }
                (Err(error), None) => assert!(error.to_string().starts_with("DATABASE_URL"), "{error}"),
                (started, _) => panic!("{url}: {:?}", started.map(|_| "started")),
            }
        }
        server.stop().await;
    }
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
    // Both servers write to one chat: the row lock orders their messages.
    let sender = std::sync::Arc::new(second.authenticator.verify(&alice.token).await.expect("a token"));
    let second_sends = (0..20).map(async |n| {
        let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text(format!("second {n}")));
        parlor::service::messages::send(&second, sender.clone(), draft).await.expect("sent")
    });
    let first_sends = (0..20).map(async |n| alice.send(&chat, &format!("first {n}")).await);
    futures_util::join!(join_all(second_sends), join_all(first_sends));
    let chat_content = alice.fetch_chat(&chat, "messages(last: 100) { totalCount nodes { seq } }").await;
    let messages = &chat_content["messages"];
    assert_eq!(messages["totalCount"], 40);
    let seqs: Vec<_> = messages["nodes"].as_array().expect("nodes").iter().map(|node| node["seq"].as_i64()).collect();
    assert!(seqs.is_sorted_by(|earlier, later| earlier < later));
    // The feed of the first server shows a message of the second one when the next change reveals a gap in versions.
    let mut feed = alice.feed(&chat, None, None).await;
    feed.expect("FeedCaughtUp").await;
    let draft = MessageDraft::new(chat.parse().expect("an id"), DraftBody::text("not published"));
    parlor::service::messages::send(&second, sender.clone(), draft).await.expect("sent");
    alice.send(&chat, "published").await;
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "not published");
    assert_eq!(feed.expect("MessageUpserted").await["message"]["text"], "published");
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
    // The transaction is dropped while it holds the lock on the chat.
    let transaction = conn.transaction(async move |conn| {
        parlor::storage::chats::lock_one(conn, id).await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    tokio::time::timeout(std::time::Duration::from_millis(500), transaction).await.expect_err("a timeout");
    drop(conn);
    let sent =
        alice.mutate_returning("sendMessage", json!({ "chatId": chat, "text": "not blocked" }), "message { id }").await;
    sent.data();
    app.stop().await;
}

/// Returns the permissions of each file below a folder, by name.
fn permissions(folder: &Path) -> BTreeMap<String, u32> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file"));
    files
        .map(|file| {
            let mode = file.metadata().expect("metadata").permissions().mode();
            (file.file_name().to_string_lossy().into_owned(), mode & 0o777)
        })
        .collect()
}

#[tokio::test]
async fn files_that_the_server_creates_belong_to_its_user_only() {
    let folder = tempfile::tempdir().expect("a folder");
    // A development server, with the default place of the database.
    let mut server = ServerProcess::start(folder.path(), &[]);
    server.process.wait_until_ready(server.addr).await;
    let data = folder.path().join("data");
    assert_eq!(std::fs::metadata(&data).expect("a folder").permissions().mode() & 0o777, 0o700);
    let files = permissions(&data);
    let expected = ["development-secret", "parlor.db", "parlor.db-lock", "parlor.db-shm", "parlor.db-wal"];
    assert_eq!(files.keys().collect::<Vec<_>>(), expected);
    assert!(files.values().all(|mode| *mode == 0o600), "{files:?}");
}

#[tokio::test]
async fn second_server_on_a_sqlite_file_is_noticed_while_the_first_one_runs() {
    const WARNING: &str = "another process serves this database too";
    let database = Database::create_sqlite();
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let settings = [("DATABASE_URL", database.url.as_str()), ("PARLOR_JWT_SECRET", SECRET)];
    let start = async |folder: &TempDir| {
        let mut server = ServerProcess::start(folder.path(), &settings);
        server.process.wait_until_ready(server.addr).await;
        server
    };
    let first = start(&folders[0]).await;
    assert!(!first.log().contains(WARNING), "{}", first.log());
    let second = start(&folders[1]).await;
    assert!(second.log().contains(WARNING), "{}", second.log());
    // However a server ends, its lock ends with it.
    first.kill();
    second.kill();
    let third = start(&folders[2]).await;
    assert!(!third.log().contains(WARNING), "{}", third.log());
    third.kill();
    database.drop().await;
}
