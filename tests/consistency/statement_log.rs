//! Every statement names the bucket of its rows, as a PostgreSQL that is distributed by bucket requires.

use std::collections::HashSet;
use std::env;
use std::fs::File;
use std::io::BufReader;

use parlor::bootstrap;
use parlor::storage::settings::MigrationMode;
use testkit::statement_log::{Findings, Rules, check};
use testkit::{Database, Engine, config};

/// Parts of the statements that may read the rows of all buckets: in the background, and at the start.
const SCANS: &[&str] = &[
    // Due calls, lapsed leases, and calls that changed.
    r#""calls"."bucket" >= 0 AND ("calls"."due_at""#,
    r#""call_participants"."bucket" >= 0 AND ("call_participants"."expires_at""#,
    r#""calls"."bucket" >= 0 AND ("calls"."changed_at""#,
    // Removals from chats that no feed needs any longer.
    r#""removals"."bucket" >= 0 AND ("removals"."removed_at""#,
    // Titles and messages whose search form is missing.
    r#""chats"."bucket" >= 0 AND ("chats"."title_search" IS NULL)"#,
    r#""chats"."bucket" >= 0 AND (("chats"."bucket" > "#,
    r#""messages"."bucket" >= 0 AND ("messages"."bucket" > "#,
    r#""messages"."bucket" >= 0 AND ("messages"."text" IS NOT NULL)"#,
    "messages WHERE bucket >= 0 AND words IS NOT NULL",
];

/// Selects the tables that are distributed by their first column.
const DISTRIBUTED_TABLES: &str = "SELECT relname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid \
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace \
    AND attnum = 1 AND attname = 'bucket'";

async fn distributed_tables() -> HashSet<String> {
    let database = Database::create(Engine::Postgres).await;
    let config = config(&database.url, &[]);
    bootstrap::migrate(&config.database, MigrationMode::Auto).await.expect("a migrated database");
    let rows = database.postgres_client().await.query(DISTRIBUTED_TABLES, &[]).await.expect("the tables");
    let tables = rows.iter().map(|row| row.get(0)).collect();
    database.drop().await;
    tables
}

#[tokio::test]
#[ignore = "tests/run runs it over the log of all other tests"]
async fn statements_of_all_tests_name_their_bucket() {
    let path = env::var("PARLOR_TEST_STATEMENT_LOG").expect("PARLOR_TEST_STATEMENT_LOG is the path of the log");
    let rules = Rules { tables: distributed_tables().await, scans: SCANS };
    let findings = check(BufReader::new(File::open(path).expect("a log")), &rules);
    println!("{} statements on distributed tables", findings.statements);
    let list: Vec<_> = findings.violations.iter().map(String::as_str).collect();
    assert!(list.is_empty(), "{} violations:\n{}", list.len(), list.join("\n"));
    let unused: Vec<_> = rules.tables.iter().filter(|table| !findings.tables.contains(*table)).collect();
    assert!(unused.is_empty(), "no test names {unused:?}");
}

/// Checks the log of one connection, whose statements have these parameters.
fn check_statements(statements: &[(&str, &[&str])]) -> Findings {
    check_log(&statements.iter().map(|(sql, parameters)| entry("parlor/node", sql, parameters)).collect::<String>())
}

/// Returns a statement as PostgreSQL logs it.
fn entry(application: &str, sql: &str, parameters: &[&str]) -> String {
    let sql = sql.replace('\n', "\n\t");
    let parameters = parameters.iter().enumerate().map(|(n, text)| format!("${} = '{text}'", n + 1));
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let detail = if parameters.is_empty() {
        String::new()
    } else {
        format!("7 {{{application}}} DETAIL:  parameters: {parameters}\n")
    };
    format!("7 {{{application}}} LOG:  execute s1: {sql}\n{detail}")
}

fn check_log(log: &str) -> Findings {
    let tables = ["chats", "messages"].map(str::to_owned).into();
    check(log.as_bytes(), &Rules { tables, scans: &["\"chats\".\"due_at\" <"] })
}

#[track_caller]
fn assert_violation(sql: &str, rule: &str) {
    let findings = check_statements(&[(sql, &[])]);
    let violations: Vec<_> = findings.violations.iter().collect();
    assert!(violations.len() == 1 && violations[0].starts_with(&format!("{rule}: ")), "{sql}: {violations:?}");
}

#[test]
fn statements_that_name_their_bucket_are_accepted() {
    for sql in [
        r#"SELECT "chats"."id" FROM "chats" WHERE (("chats"."bucket" = $1) AND ("chats"."id" = $2)) FOR UPDATE"#,
        r#"SELECT c.id FROM chats AS c WHERE c.bucket = ANY($1) AND c.title = $2"#,
        r#"SELECT id FROM chats WHERE bucket = $1 AND id = $2"#,
        r#"SELECT 1 FROM chats WHERE (chats.bucket, chats.id) IN (SELECT column1, column2 FROM (VALUES ($1, $2)) AS k)"#,
        r#"SELECT 1 FROM chats WHERE (chats.bucket = $1 AND chats.id = $2) OR (chats.bucket = $3 AND chats.id = $4)"#,
        r#"SELECT 1 FROM chats JOIN messages ON chats.bucket = messages.bucket AND chats.id = messages.chat_id
           WHERE messages.bucket = $1"#,
        r#"SELECT 1 FROM chats LEFT JOIN messages ON messages.bucket = chats.bucket WHERE chats.bucket = $1"#,
        r#"SELECT 1 FROM chats WHERE chats.bucket = $1 AND EXISTS (SELECT 1 FROM messages m
           WHERE m.bucket = chats.bucket AND m.chat_id = chats.id)"#,
        r#"(SELECT 1 FROM messages WHERE messages.bucket = $1 LIMIT 3) UNION ALL
           (SELECT 1 FROM messages WHERE messages.bucket = $2 LIMIT 3)"#,
        r#"WITH newest AS (SELECT bucket, id FROM chats WHERE bucket = $1)
           SELECT 1 FROM messages JOIN newest ON messages.bucket = newest.bucket"#,
        r#"INSERT INTO "messages" ("bucket", "chat_id") VALUES ($1, $2), ($1, $3)
           ON CONFLICT ("bucket", "chat_id") DO UPDATE SET seq = 1"#,
        r#"UPDATE chats SET title = v.title FROM (VALUES ($1, $2, $3)) AS v (bucket, id, title)
           WHERE chats.bucket = v.bucket AND chats.id = v.id"#,
        r#"DELETE FROM messages WHERE messages.bucket = $1 AND messages.chat_id = $2"#,
        r#"SELECT 1 FROM "chats" WHERE "chats"."bucket" >= 0 AND "chats"."due_at" < $1"#,
        "SELECT 1 FROM chats WHERE (1 = 0 AND (chats.title IS NULL))",
        "SELECT 1 FROM users",
        "SET statement_timeout = 1",
    ] {
        let findings = check_statements(&[(sql, &["1", "2", "2", "2"])]);
        assert!(findings.violations.is_empty(), "{sql}: {:?}", findings.violations);
    }
}

#[test]
fn statements_without_a_bucket_are_violations() {
    for (sql, rule) in [
        ("SELECT 1 FROM chats WHERE chats.id = $1", "names no bucket of chats"),
        ("SELECT 1 FROM chats", "names no bucket of chats"),
        ("SELECT 1 FROM chats WHERE chats.bucket = $1 OR chats.id = $2", "names no bucket of chats"),
        ("SELECT 1 FROM chats WHERE NOT (chats.bucket = $1)", "names no bucket of chats"),
        ("SELECT 1 FROM chats WHERE chats.bucket NOT IN ($1)", "names no bucket of chats"),
        ("SELECT 1 FROM chats WHERE chats.bucket > $1", "names no bucket of chats"),
        (
            "SELECT 1 FROM chats JOIN messages ON chats.id = messages.chat_id WHERE chats.bucket = $1",
            "names no bucket of messages",
        ),
        (
            "SELECT 1 FROM chats LEFT JOIN messages ON chats.bucket = messages.bucket WHERE messages.bucket = $1",
            "names no bucket of chats",
        ),
        (
            "SELECT 1 FROM chats WHERE chats.bucket = $1 AND EXISTS (SELECT 1 FROM messages m WHERE m.chat_id = chats.id)",
            "names no bucket of messages",
        ),
        (
            "SELECT 1 FROM users WHERE id IN (SELECT user_id FROM messages WHERE chat_id = $1)",
            "names no bucket of messages",
        ),
        ("SELECT 1 FROM chats WHERE chats.bucket >= 0", "reads chats in all buckets"),
        ("UPDATE chats SET title = $1 WHERE chats.id = $2", "names no bucket of chats"),
        ("DELETE FROM chats WHERE id = $1", "names no bucket of chats"),
        ("DELETE FROM chats WHERE bucket >= 0", "changes or locks rows of chats in all buckets"),
        ("INSERT INTO messages (chat_id) VALUES ($1)", "inserts into messages without the bucket"),
        (
            "INSERT INTO messages (bucket, chat_id) VALUES ($1, $2) ON CONFLICT (chat_id) DO NOTHING",
            "finds conflicts in messages without the bucket",
        ),
        (
            "SELECT 1 FROM chats WHERE (bucket, id) IN (SELECT column1, column2 FROM (VALUES ($1, $2)) AS k) FOR UPDATE",
            "locks rows of chats without the name of one bucket",
        ),
        ("SELECT 1 FROM (VALUES (1)) AS v, LATERAL (SELECT 1 FROM chats WHERE chats.bucket = 1) AS t", "uses LATERAL"),
    ] {
        assert_violation(sql, rule);
    }
    let findings = check_statements(&[("SELECT 1 FROM chats WHERE (", &[])]);
    assert!(findings.violations.iter().all(|violation| violation.starts_with("cannot be parsed")));
    assert_eq!(findings.violations.len(), 1);
}

#[test]
fn changes_of_several_buckets_are_violations() {
    const INSERT: &str = "INSERT INTO messages (bucket, chat_id) VALUES ($1, $2), ($3, $4)";
    const UPDATE: &str = "UPDATE chats SET title = '' FROM (VALUES ($1, $2), ($3, $4)) AS v (bucket, id) \
                          WHERE chats.bucket = v.bucket AND chats.id = v.id";
    const DELETE: &str = "DELETE FROM chats WHERE chats.bucket = ANY($1)";
    for (sql, one, several) in [
        (INSERT, &["7", "a", "7", "b"][..], &["7", "a", "8", "b"][..]),
        (UPDATE, &["7", "a", "7", "b"], &["7", "a", "8", "b"]),
        (DELETE, &["{7,7}"], &["{7,8}"]),
    ] {
        let findings = check_statements(&[(sql, one)]);
        assert!(findings.violations.is_empty(), "{sql}: {:?}", findings.violations);
        let findings = check_statements(&[(sql, several)]);
        let violations: Vec<_> = findings.violations.iter().collect();
        assert!(violations[0].starts_with("changes or locks rows of several buckets: "), "{sql}: {violations:?}");
    }
}

#[test]
fn transactions_over_several_buckets_are_violations() {
    const LOCK: &str = "SELECT 1 FROM chats WHERE chats.bucket = $1 AND chats.id = $2 FOR UPDATE SKIP LOCKED";
    const READ: &str = "SELECT 1 FROM chats WHERE chats.bucket = $1";
    const WRITE: &str = "UPDATE messages SET text = $2 WHERE messages.bucket = $1";
    let begin = ("BEGIN", &[][..]);
    let commit = ("COMMIT", &[][..]);
    let of_seven: [(&str, &[&str]); 6] =
        [begin, (LOCK, &["7", "a"]), (READ, &["8"]), (WRITE, &["7", "it''s $1 = ''8''"]), commit, (WRITE, &["8", "b"])];
    assert_eq!(check_statements(&of_seven).violations.len(), 0);
    let of_two: [(&str, &[&str]); 3] = [begin, (LOCK, &["7", "a"]), (WRITE, &["8", "b"])];
    let findings = check_statements(&of_two);
    let rule = "changes or locks rows of another bucket than earlier statements of its transaction: UPDATE";
    assert!(findings.violations.iter().all(|violation| violation.starts_with(rule)), "{:?}", findings.violations);
    assert_eq!((findings.violations.len(), findings.statements), (1, 2));
}

#[test]
fn statements_of_servers_only_are_checked() {
    let sql = "SELECT 1\nFROM chats";
    for (application, statements) in [("parlor/node", 1), ("psql", 0), ("[unknown]", 0)] {
        let findings = check_log(&entry(application, sql, &[]));
        assert_eq!((findings.statements, findings.violations.len()), (statements, statements), "{application}");
    }
    let noise =
        "a line\n7 {parlor/node} ERROR:  no\n7 {parlor/node} STATEMENT:  SELECT 1 FROM chats\n\tLOG:  execute\n";
    let findings = check_log(noise);
    assert_eq!((findings.statements, findings.violations.len()), (0, 0));
}
