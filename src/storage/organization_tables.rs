//! The tables with the rows of an organisation, as `schema.rs` declares them.
//!
//! The declarations are read as text, because they are the only list of all columns: a column that is added there is
//! copied with its organisation, and a test fails for a table that is in no list here.

use std::sync::LazyLock;

/// The tables in the order of their references: a row refers to rows of earlier tables only.
const COPIED: [&str; 18] = [
    "users",
    "blocked_words",
    "chats",
    "deleted_chats",
    "members",
    "chat_bans",
    "messages",
    "revisions",
    "reactions",
    "mentions",
    "thread_members",
    "votes",
    "calls",
    "call_participants",
    "call_signals",
    "notifications",
    "reports",
    "removals",
];

/// The tables that describe the database, and not an organisation, or the organisation itself.
pub const NOT_COPIED: [&str; 5] =
    ["organizations", "schema_version", "database_epoch", "cluster_state", "search_reindexing"];

/// The tables whose rows change only with the version of their chat.
const VERSIONED: [&str; 5] = ["messages", "revisions", "reactions", "mentions", "votes"];

/// The maximum number of rows that are read or written at once.
const BATCH: usize = 1_000;
/// The same number for signals of calls, which are up to 256 KiB large.
const SIGNAL_BATCH: usize = 50;

/// The kind of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
pub enum ColumnKind {
    Text,
    Integer,
    BigInt,
    Bool,
    Double,
    Binary,
    Jsonb,
    #[strum(serialize = "SqlUuid")]
    Uuid,
    #[strum(serialize = "SqlTimestamp")]
    Timestamp,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: &'static str,
    pub kind: ColumnKind,
}

/// A table with rows of organisations.
#[derive(Debug, Clone)]
pub struct OrganizationTable {
    pub name: &'static str,
    pub columns: Vec<TableColumn>,
    /// The columns of the primary key.
    pub primary_key: Vec<&'static str>,
    /// True if rows change only with the version of their chat, whose id begins their keys.
    pub is_versioned: bool,
    /// The maximum number of rows that are read or written at once.
    pub batch: usize,
}

impl OrganizationTable {
    /// Returns the positions of the key's columns that tell the rows of one organisation apart.
    pub fn key(&self) -> Vec<usize> {
        let parts = self.primary_key.iter().filter(|name| !["bucket", "organization_id"].contains(name));
        parts.filter_map(|part| self.columns.iter().position(|column| column.name == *part)).collect()
    }

    /// Returns whether the table has a column.
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|known| known.name == column)
    }
}

/// Returns the tables, those to which others refer first.
pub fn organization_tables() -> &'static [OrganizationTable] {
    static TABLES: LazyLock<Vec<OrganizationTable>> = LazyLock::new(|| {
        let declared = declared_tables(include_str!("schema.rs"));
        COPIED.iter().filter_map(|name| declared.iter().find(|table| table.name == *name).cloned()).collect()
    });
    &TABLES
}

/// Reads the declarations of tables.
fn declared_tables(source: &'static str) -> Vec<OrganizationTable> {
    let mut tables: Vec<OrganizationTable> = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some((name, key)) = line.strip_suffix(") {").and_then(|line| line.split_once(" (")) {
            tables.push(OrganizationTable {
                name,
                columns: Vec::new(),
                primary_key: key.split(", ").collect(),
                is_versioned: VERSIONED.contains(&name),
                batch: if name == "call_signals" { SIGNAL_BATCH } else { BATCH },
            });
        } else if let Some((name, kind)) = line.split_once(" -> ")
            && let Some(table) = tables.last_mut()
        {
            let kind = kind.trim_end_matches(',');
            let kind = kind.strip_prefix("Nullable<").map_or(kind, |kind| kind.trim_end_matches('>'));
            // A kind that is not known would lose the column, so it loses the table, which a test notices.
            match kind.parse() {
                Ok(kind) => table.columns.push(TableColumn { name, kind }),
                Err(_) => drop(tables.pop()),
            }
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_table_of_the_schema_is_copied_with_all_columns_or_named_as_not_copied() {
        let source = include_str!("schema.rs");
        let declared: BTreeSet<_> = declared_tables(source).into_iter().map(|table| table.name).collect();
        let listed: BTreeSet<_> = COPIED.into_iter().chain(NOT_COPIED).collect();
        assert_eq!(declared, listed, "a new table belongs into one of the two lists");
        assert_eq!(source.matches("table! {").count(), listed.len());
        let columns: usize = declared_tables(source).iter().map(|table| table.columns.len()).sum();
        assert_eq!(columns, source.matches(" -> ").count());
        assert_eq!(organization_tables().len(), COPIED.len());
    }

    #[test]
    fn key_within_an_organization_leaves_out_bucket_and_organization() {
        let keys: Vec<_> = organization_tables()
            .iter()
            .map(|table| {
                let key = table.key().into_iter().map(|at| table.columns[at].name);
                format!("{} {}", table.name, key.collect::<Vec<_>>().join(" "))
            })
            .collect();
        for expected in ["users id", "chats id", "messages chat_id seq", "removals user_id removed_at chat_id"] {
            assert!(keys.iter().any(|key| key == expected), "{expected}: {keys:?}");
        }
        for table in organization_tables().iter().filter(|table| table.is_versioned) {
            assert_eq!(table.columns[table.key()[0]].name, "chat_id", "{}", table.name);
        }
    }

    #[test]
    fn each_table_leads_to_its_organization() {
        for table in organization_tables() {
            let leads = ["organization_id", "chat_id", "call_id"].iter().any(|column| table.has(column));
            assert!(leads, "{}", table.name);
        }
    }
}
