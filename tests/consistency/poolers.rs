//! A real connection pooler between the server and PostgreSQL.

use parlor::bootstrap;
use parlor::domain::clock::Clock;
use testkit::pgbouncer::PgBouncer;
use testkit::{Database, Engine, TestApp, config, postgres_test};

#[postgres_test]
async fn pooler_that_loses_prepared_statements_is_refused_at_the_start() {
    let database = Database::create(Engine::Postgres).await;
    let pooler = PgBouncer::start(&database, "transaction").await;
    let started = bootstrap::start(&config(&database.url_at(pooler.addr()), &[]), Clock::system()).await;
    let error = started.map(|_| ()).expect_err("a pooler that loses statements").to_string();
    assert!(error.starts_with("DATABASE_URL") && error.contains("prepared statements"), "{error}");
    database.drop().await;
}

#[postgres_test]
async fn pooler_in_session_mode_serves_every_request() {
    let database = Database::create(Engine::Postgres).await;
    let pooler = PgBouncer::start(&database, "session").await;
    let url = database.url_at(pooler.addr());
    let app = TestApp::start(database, &[("DATABASE_URL", &*url), ("PARLOR_DATABASE_CONNECTIONS", "4")]).await;
    let alice = app.user("alice").await;
    let chat = alice.group("Walk", &[]).await;
    let texts = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    futures_util::future::join_all(texts.map(|text| alice.send(&chat, text))).await;
    let messages = alice.fetch_chat(&chat, "messages(last: 20) { nodes { text } }").await;
    let nodes = messages["messages"]["nodes"].as_array().expect("nodes");
    for text in texts {
        assert_eq!(nodes.iter().filter(|node| node["text"] == text).count(), 1, "{text}");
    }
    app.stop().await;
}
