//! The form of a statement: the tables that it names, and the buckets that it names for each of them.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use sqlparser::ast::{
    ConflictTarget, Delete, Expr, FromTable, Insert, Join, JoinConstraint, JoinOperator, ObjectName, OnInsert, Query,
    Select, SelectItem, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
    Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::Rules;
use super::conditions::{Fact, Reach, Scope, Source, bucket_value, facts, rows};

/// The maximum length of a statement in a violation.
const MAX_SHOWN: usize = 1_500;

/// The statements that begin and end a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    Begin,
    End,
}

/// The form of a statement, whatever its parameters are.
pub struct Shape {
    sql: String,
    pub boundary: Option<Boundary>,
    /// The distributed tables that the statement names.
    pub tables: BTreeSet<String>,
    pub violations: Vec<String>,
    /// The buckets of the rows that the statement changes or locks, as texts: numbers, placeholders or arrays.
    changed: Vec<String>,
}

impl Shape {
    /// Analyses a statement.
    pub fn of(sql: &str, rules: &Rules) -> Self {
        let mut shape = Self {
            sql: sql.to_owned(),
            boundary: None,
            tables: BTreeSet::new(),
            violations: Vec::new(),
            changed: Vec::new(),
        };
        let first = sql.split_whitespace().next().unwrap_or_default().trim_end_matches(';').to_ascii_uppercase();
        match first.as_str() {
            "BEGIN" | "START" => shape.boundary = Some(Boundary::Begin),
            "COMMIT" | "ROLLBACK" | "END" | "ABORT" => shape.boundary = Some(Boundary::End),
            "SELECT" | "WITH" | "INSERT" | "UPDATE" | "DELETE" => shape.analyse(rules),
            // Settings, the definition of data and the like name no rows.
            _ => {}
        }
        shape
    }

    fn analyse(&mut self, rules: &Rules) {
        let statements = match Parser::parse_sql(&PostgreSqlDialect {}, &self.sql) {
            Ok(statements) => statements,
            Err(error) => {
                self.violations.push(self.violation(&format!("cannot be parsed ({error})")));
                return;
            }
        };
        let mut analysis =
            Analysis { rules, shape: self, scopes: Vec::new(), locks: false, rules_violated: Vec::new() };
        let ControlFlow::Continue(()) = statements.visit(&mut analysis);
        for rule in std::mem::take(&mut analysis.rules_violated) {
            self.violations.push(self.violation(&rule));
        }
    }

    /// Returns the text of a violation of a rule, such as "names no bucket of messages".
    pub fn violation(&self, rule: &str) -> String {
        let shown: String = self.sql.chars().take(MAX_SHOWN).collect();
        format!("{rule}: {shown}")
    }

    /// Returns the buckets of the rows that the statement changes or locks with these parameters.
    pub fn changed_buckets(&self, parameters: &HashMap<usize, String>) -> BTreeSet<i64> {
        let texts = self.changed.iter().filter_map(|text| match text.strip_prefix('$') {
            Some(number) => parameters.get(&number.parse().ok()?).map(String::as_str),
            None => Some(text),
        });
        // An array has the form {1,2}. A cut one ends with dots, and its last number may be cut too.
        let numbers = texts.flat_map(|text| {
            let complete = text.strip_suffix("...").map_or(text, |cut| cut.rsplit_once(',').map_or("", |(it, _)| it));
            complete.trim_matches(['{', '}']).split(',')
        });
        numbers.filter_map(|number| number.parse().ok()).collect()
    }
}

/// A walk over a statement.
///
/// Each `SELECT`, `INSERT`, `UPDATE` and `DELETE` has a scope with the tables that it reads. Subqueries see the scopes
/// around them.
struct Analysis<'a> {
    rules: &'a Rules,
    shape: &'a mut Shape,
    scopes: Vec<Scope>,
    /// True between the beginning of a query that locks rows and that of its `SELECT`.
    locks: bool,
    rules_violated: Vec<String>,
}

impl Visitor for Analysis<'_> {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.locks |= !query.locks.is_empty();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let mut block = Block::default();
        select.from.iter().for_each(|table| self.add_table(&mut block, table));
        let changes = std::mem::take(&mut self.locks).then_some(Change::Lock);
        self.enter(block, select.selection.as_ref(), changes);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &Select) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. } = factor {
            self.rules_violated.push("uses LATERAL".into());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        let mut block = Block::default();
        let selection = match statement {
            Statement::Insert(insert) => {
                self.check_insert(insert);
                None
            }
            Statement::Update(Update { table, from, selection, .. }) => {
                self.add_table(&mut block, table);
                if let Some(UpdateTableFromKind::BeforeSet(tables) | UpdateTableFromKind::AfterSet(tables)) = from {
                    tables.iter().for_each(|table| self.add_table(&mut block, table));
                }
                selection.as_ref()
            }
            Statement::Delete(Delete { from, using, selection, .. }) => {
                let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
                tables.iter().chain(using.iter().flatten()).for_each(|table| self.add_table(&mut block, table));
                selection.as_ref()
            }
            _ => None,
        };
        self.enter(block, selection, Some(Change::First));
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, _: &Statement) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }
}

/// The tables of a scope and the conditions on them.
#[derive(Default)]
struct Block {
    sources: Vec<Source>,
    facts: Vec<Fact>,
    /// The conditions of joins, read when all tables are known: the condition, and the table to which an outer join
    /// limits its effect.
    joins: Vec<(Expr, Option<String>)>,
}

/// The rows of a scope that a statement changes or locks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The rows of all tables, by a lock that names one bucket.
    Lock,
    /// The rows of the first table.
    First,
}

impl Analysis<'_> {
    fn add_table(&self, block: &mut Block, table: &TableWithJoins) {
        self.add_factor(block, &table.relation);
        for Join { relation, join_operator, .. } in &table.joins {
            let joined = block.sources.len();
            self.add_factor(block, relation);
            let (constraint, is_outer) = match join_operator {
                JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (constraint, false),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (constraint, true),
                _ => continue,
            };
            if let JoinConstraint::On(condition) = constraint {
                let limited_to = block.sources.get(joined).filter(|_| is_outer).map(|source| source.alias.clone());
                block.joins.push((condition.clone(), limited_to));
            }
        }
    }

    fn add_factor(&self, block: &mut Block, factor: &TableFactor) {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let name = last_part(name);
                let alias = alias.as_ref().map_or_else(|| name.clone(), |alias| alias.name.value.clone());
                let is_distributed = self.rules.tables.contains(&name);
                block.sources.push(Source { alias, table: is_distributed.then_some(name), rows: None });
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let rows = rows(subquery, alias.as_ref());
                let alias = alias.as_ref().map(|alias| alias.name.value.clone()).unwrap_or_default();
                block.sources.push(Source { alias, table: None, rows });
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.add_table(block, table_with_joins),
            TableFactor::Function { alias: Some(alias), .. } | TableFactor::UNNEST { alias: Some(alias), .. } => {
                block.sources.push(Source { alias: alias.name.value.clone(), table: None, rows: None });
            }
            _ => {}
        }
    }

    /// Opens a scope, and checks that its conditions name the bucket of each distributed table.
    fn enter(&mut self, mut block: Block, selection: Option<&Expr>, change: Option<Change>) {
        let sources = std::mem::take(&mut block.sources);
        for (condition, limited_to) in &block.joins {
            let found = facts(condition, &sources);
            block.facts.extend(found.into_iter().filter(|fact| limited_to.as_ref().is_none_or(|it| *it == fact.alias)));
        }
        block.facts.extend(selection.into_iter().flat_map(|condition| facts(condition, &sources)));
        let scope = Scope::resolve(sources, &block.facts, &self.scopes);
        for (number, source) in scope.sources.iter().enumerate() {
            let Some(table) = &source.table else { continue };
            self.shape.tables.insert(table.clone());
            let bound = scope.bounds.get(&source.alias);
            let is_changed = change == Some(Change::Lock) || change == Some(Change::First) && number == 0;
            match bound.map(|bound| bound.reach) {
                None => self.rules_violated.push(format!("names no bucket of {table}")),
                Some(Reach::Every) if is_changed => {
                    self.rules_violated.push(format!("changes or locks rows of {table} in all buckets"));
                }
                Some(Reach::Every) => self.check_scan(table),
                Some(Reach::Listed) if change == Some(Change::Lock) => {
                    self.rules_violated.push(format!("locks rows of {table} without the name of one bucket"));
                }
                Some(Reach::Listed | Reach::One) => {}
            }
            if is_changed {
                self.shape.changed.extend(bound.into_iter().flat_map(|bound| bound.values.iter().cloned()));
            }
        }
        self.scopes.push(scope);
    }

    /// Checks that a statement may read the rows of all buckets.
    fn check_scan(&mut self, table: &str) {
        if !self.rules.scans.iter().any(|part| self.shape.sql.contains(part)) {
            self.rules_violated.push(format!("reads {table} in all buckets"));
        }
    }

    /// Checks that an `INSERT` sets the bucket of each row, and recognises existing rows by it.
    fn check_insert(&mut self, insert: &Insert) {
        let TableObject::TableName(name) = &insert.table else { return };
        let table = last_part(name);
        if !self.rules.tables.contains(&table) {
            return;
        }
        self.shape.tables.insert(table.clone());
        let position = insert.columns.iter().position(|column| last_part(column) == "bucket");
        let Some(position) = position else {
            self.rules_violated.push(format!("inserts into {table} without the bucket"));
            return;
        };
        if let Some(OnInsert::OnConflict(conflict)) = &insert.on
            && let Some(ConflictTarget::Columns { columns, .. }) = &conflict.conflict_target
            && columns.iter().all(|column| column.value != "bucket")
        {
            self.rules_violated.push(format!("finds conflicts in {table} without the bucket"));
        }
        let values: Vec<&Expr> = match insert.source.as_ref().map(|query| query.body.as_ref()) {
            Some(SetExpr::Values(values)) => values.rows.iter().filter_map(|row| row.get(position)).collect(),
            Some(SetExpr::Select(select)) => match select.projection.get(position) {
                Some(SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }) => vec![value],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        self.shape.changed.extend(values.into_iter().filter_map(bucket_value));
    }
}

/// Returns the name of a table or column without its schema or table.
fn last_part(name: &ObjectName) -> String {
    name.0.last().and_then(|part| part.as_ident()).map(|part| part.value.clone()).unwrap_or_default()
}
