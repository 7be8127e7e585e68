//! Tables that are distributed over the nodes of a Citus cluster.

use std::process::Output;

use serde_json::json;
use testkit::process::run_command;
use testkit::{Database, TestApp, citus, database, postgres_test};

/// The number of tables, by the name of their first column.
const TABLES_WITH_BUCKET: &str = "SELECT count(*) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid \
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attname = 'bucket' AND attnum = 1";
const TABLES: &str = "SELECT count(*) FROM pg_class \
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> '__diesel_schema_migrations'";

fn distribute(url: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_command(folder.path(), &[("DATABASE_URL", url)], &["migrate", "--distribute"])
}

fn refusal(url: &str) -> String {
    let output = distribute(url);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn distribution_is_a_documented_option_of_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let help = String::from_utf8(run_command(folder.path(), &[], &["migrate", "--help"]).stdout).unwrap();
    assert!(help.contains("--distribute") && help.contains("Citus"), "{help}");
}

#[test]
fn sqlite_file_is_not_distributed_and_not_migrated() {
    let database = Database::create_sqlite();
    let error = refusal(&database.url);
    assert!(error.contains("--distribute needs a PostgreSQL server with the extension citus"), "{error}");
    assert!(!database.sqlite_path().exists(), "a refusal changes nothing");
}

#[postgres_test]
async fn database_without_the_extension_is_not_distributed_and_not_migrated() {
    let server = citus::coordinator_url().unwrap_or_else(database::postgres_url);
    let database = Database::create_postgres(&server).await;
    let error = refusal(&database.url);
    assert!(error.contains("lacks") && error.contains("CREATE EXTENSION citus"), "{error}");
    assert!(error.contains("docs/SCALING.md"), "{error}");
    assert_eq!(database.query_number(TABLES).await, 0, "a refusal changes nothing");
    database.drop().await;
}

#[tokio::test]
async fn worker_of_citus_refuses_to_distribute() {
    let Some(coordinator) = citus::coordinator_or_skip("worker_of_citus_refuses_to_distribute") else { return };
    for worker in citus::worker_urls(&coordinator).await {
        let error = refusal(&worker);
        assert!(error.contains("needs the coordinator of Citus"), "{error}");
    }
}

#[tokio::test]
async fn tables_are_distributed_once_with_their_rows() {
    let Some(coordinator) = citus::coordinator_or_skip("tables_are_distributed_once_with_their_rows") else { return };
    let app = TestApp::start(Database::create_on_citus(&coordinator).await, &[]).await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let chat = alice.group("Walk", &[&bob]).await;
    alice.send(&chat, "before").await;
    let database = app.shut_down().await;
    let (with_bucket, all) = (database.query_number(TABLES_WITH_BUCKET).await, database.query_number(TABLES).await);

    for (distributed, copied) in [(with_bucket, all - with_bucket), (0, 0)] {
        let output = distribute(&database.url);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected = format!("{distributed} tables distributed by bucket, {copied} tables copied to all nodes\n");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with(&expected), "{output:?}");
    }
    let tables = |kind| format!("SELECT count(*) FROM citus_tables WHERE citus_table_type = '{kind}'");
    assert_eq!(database.query_number(&tables("distributed")).await, with_bucket);
    assert_eq!(database.query_number(&tables("reference")).await, all - with_bucket);
    let colocations = "SELECT count(DISTINCT colocationid) FROM pg_dist_partition WHERE partmethod = 'h'";
    assert_eq!(database.query_number(colocations).await, 1, "equal buckets are on the same node");
    let left = "SELECT sum(pg_relation_size(logicalrelid)) FROM pg_dist_partition WHERE partmethod = 'h'";
    assert_eq!(database.query_number(left).await, 0, "the coordinator keeps no rows");

    let app = TestApp::start(database, &[]).await;
    let alice = app.user("alice").await;
    alice.send(&chat, "after").await;
    let texts = alice.fetch_chat(&chat, "messages(last: 2) { nodes { text } }").await;
    assert_eq!(texts["messages"]["nodes"], json!([{ "text": "before" }, { "text": "after" }]));
    app.stop().await;
}

#[tokio::test]
async fn distribution_is_refused_while_tables_are_in_use() {
    let Some(coordinator) = citus::coordinator_or_skip("distribution_is_refused_while_tables_are_in_use") else {
        return;
    };
    let app = TestApp::start(Database::create_on_citus(&coordinator).await, &[]).await;
    app.user("alice").await.group("Walk", &[]).await;
    let database = app.shut_down().await;
    let session = database.postgres_client().await;
    session.batch_execute("BEGIN; LOCK TABLE chats IN ROW EXCLUSIVE MODE").await.unwrap();
    let error = refusal(&database.url);
    assert!(error.contains("stop all nodes of Parlor first"), "{error}");
    drop(session);
    assert_eq!(database.query_number("SELECT count(*) FROM pg_dist_partition").await, 0, "all tables or none");
    database.drop().await;
}
