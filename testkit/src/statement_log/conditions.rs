//! The buckets that the conditions of a statement name.

use std::collections::HashMap;

use sqlparser::ast::{BinaryOperator, Expr, InTarget, Query, SetExpr, TableAlias, TableFactor, Value};

/// The column by which tables are distributed.
const BUCKET: &str = "bucket";

/// The reach of a condition: the buckets that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// All buckets, by a condition that is always true.
    Every,
    /// The buckets of a list.
    Listed,
    One,
}

/// The buckets that a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub reach: Reach,
    /// The numbers and placeholders of the buckets, as far as the statement has them.
    pub values: Vec<String>,
}

/// The rows of a `VALUES` list, with the names of their columns.
#[derive(Debug, Clone)]
pub struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Expr>>,
}

/// A table, or something that is read like one.
#[derive(Debug, Clone)]
pub struct Source {
    pub alias: String,
    /// The name, if the table is distributed.
    pub table: Option<String>,
    /// The rows, if they are listed in the statement.
    pub rows: Option<Rows>,
}

/// A condition that names the bucket of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub alias: String,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Bound(Bound),
    /// The bucket equals a column of another source.
    Column {
        alias: String,
        column: String,
    },
}

/// The sources of a `SELECT` or of a change, with the buckets that are named for them.
#[derive(Debug)]
pub struct Scope {
    pub sources: Vec<Source>,
    pub bounds: HashMap<String, Bound>,
}

impl Scope {
    /// Finds the buckets that the facts name, through equal buckets of other sources and of the scopes around.
    pub fn resolve(sources: Vec<Source>, facts: &[Fact], outer: &[Self]) -> Self {
        let mut scope = Self { sources, bounds: HashMap::new() };
        loop {
            let mut has_changed = false;
            for fact in facts {
                let bound = match &fact.target {
                    Target::Bound(bound) => Some(bound.clone()),
                    Target::Column { alias, column } => scope
                        .bound_of_column(alias, column)
                        .or_else(|| outer.iter().rev().find_map(|outer| outer.bound_of_column(alias, column))),
                };
                if let Some(bound) = bound
                    && scope.bounds.get(&fact.alias).is_none_or(|known| known.reach < bound.reach)
                {
                    scope.bounds.insert(fact.alias.clone(), bound);
                    has_changed = true;
                }
            }
            if !has_changed {
                return scope;
            }
        }
    }

    /// Returns the buckets that a column of a source can have.
    fn bound_of_column(&self, alias: &str, column: &str) -> Option<Bound> {
        let source = self.sources.iter().find(|source| source.alias == alias)?;
        if source.table.is_some() {
            return self.bounds.get(alias).filter(|_| column == BUCKET).cloned();
        }
        // The result of a subquery, or of a table that every machine has.
        let values = source.rows.as_ref().map(|rows| rows.values(column)).unwrap_or_default();
        Some(Bound { reach: Reach::Listed, values })
    }
}

impl Rows {
    fn values(&self, column: &str) -> Vec<String> {
        let Some(position) = self.columns.iter().position(|name| name == column) else { return Vec::new() };
        self.rows.iter().filter_map(|row| bucket_value(row.get(position)?)).collect()
    }
}

/// Returns the rows of a query that is a `VALUES` list.
pub fn rows(query: &Query, alias: Option<&TableAlias>) -> Option<Rows> {
    let SetExpr::Values(values) = query.body.as_ref() else { return None };
    let rows: Vec<Vec<Expr>> = values.rows.iter().map(|row| row.content.clone()).collect();
    let names = alias.map(|alias| alias.columns.iter().map(|column| column.name.value.clone()).collect());
    let names = names.filter(|names: &Vec<_>| !names.is_empty());
    let width = rows.first().map_or(0, Vec::len);
    let columns = names.unwrap_or_else(|| (1..=width).map(|number| format!("column{number}")).collect());
    Some(Rows { columns, rows })
}

/// Returns the facts that hold for each row that meets a condition.
pub fn facts(condition: &Expr, sources: &[Source]) -> Vec<Fact> {
    let bound = |alias, reach, values| Fact { alias, target: Target::Bound(Bound { reach, values }) };
    match condition {
        Expr::Nested(inner) => facts(inner, sources),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            [facts(left, sources), facts(right, sources)].concat()
        }
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            let others = facts(right, sources);
            facts(left, sources).iter().filter_map(|fact| fact.or(&others)).collect()
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (left.as_ref(), right.as_ref()) {
            (Expr::Tuple(lefts), Expr::Tuple(rights)) => {
                lefts.iter().zip(rights).flat_map(|(left, right)| equality(left, right, sources)).collect()
            }
            // No row meets the condition, which therefore reads no bucket.
            (left, right) if are_different_numbers(left, right) => {
                sources.iter().map(|source| bound(source.alias.clone(), Reach::One, Vec::new())).collect()
            }
            (left, right) => equality(left, right, sources),
        },
        Expr::BinaryOp { left, op: BinaryOperator::GtEq, right } => {
            let is_always_true = bucket_value(right).as_deref() == Some("0");
            let alias = bucket_of(left, sources).filter(|_| is_always_true);
            alias.map(|alias| bound(alias, Reach::Every, Vec::new())).into_iter().collect()
        }
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
            let values = || bucket_value(right).into_iter().collect();
            bucket_of(left, sources).map(|alias| bound(alias, Reach::Listed, values())).into_iter().collect()
        }
        Expr::In { expr, target, negated: false, .. } => {
            let columns = match expr.as_ref() {
                Expr::Tuple(columns) => columns.as_slice(),
                column => std::slice::from_ref(column),
            };
            let found = columns
                .iter()
                .enumerate()
                .find_map(|(position, column)| Some((bucket_of(column, sources)?, listed_values(target, position))));
            found.map(|(alias, values)| bound(alias, Reach::Listed, values)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

impl Fact {
    /// Returns the fact that holds if this one or one of the others does.
    fn or(&self, others: &[Self]) -> Option<Self> {
        let other = others.iter().find(|other| other.alias == self.alias)?;
        let target = match (&self.target, &other.target) {
            (one, other) if one == other => one.clone(),
            (Target::Bound(one), Target::Bound(other)) => {
                let values = [one.values.clone(), other.values.clone()].concat();
                Target::Bound(Bound { reach: Reach::Listed.min(one.reach).min(other.reach), values })
            }
            _ => return None,
        };
        Some(Self { alias: self.alias.clone(), target })
    }
}

/// Returns the facts that two equal expressions state.
fn equality(left: &Expr, right: &Expr, sources: &[Source]) -> Vec<Fact> {
    let fact = |one: &Expr, other: &Expr| {
        let alias = bucket_of(one, sources)?;
        let target = match column_of(other, sources) {
            Some((alias, column)) => Target::Column { alias, column },
            None => Target::Bound(Bound { reach: Reach::One, values: bucket_value(other).into_iter().collect() }),
        };
        Some(Fact { alias, target })
    };
    [fact(left, right), fact(right, left)].into_iter().flatten().collect()
}

/// Returns whether two expressions are different numbers, as in `1 = 0`.
fn are_different_numbers(left: &Expr, right: &Expr) -> bool {
    let number = |expression| bucket_value(expression).filter(|value| !value.starts_with('$'));
    number(left).zip(number(right)).is_some_and(|(left, right)| left != right)
}

/// Returns the source whose bucket an expression is.
fn bucket_of(expression: &Expr, sources: &[Source]) -> Option<String> {
    let (alias, _) = column_of(expression, sources).filter(|(_, column)| column == BUCKET)?;
    sources.iter().any(|source| source.alias == alias).then_some(alias)
}

/// Returns the source and the name of a column. A name alone belongs to the only source.
fn column_of(expression: &Expr, sources: &[Source]) -> Option<(String, String)> {
    match (expression, sources) {
        (Expr::Nested(inner), _) => column_of(inner, sources),
        (Expr::CompoundIdentifier(parts), _) => match parts.as_slice() {
            [.., alias, column] => Some((alias.value.clone(), column.value.clone())),
            _ => None,
        },
        (Expr::Identifier(column), [source]) => Some((source.alias.clone(), column.value.clone())),
        (Expr::Identifier(column), _) => Some((String::new(), column.value.clone())),
        _ => None,
    }
}

/// Returns the values at one position of a list, or of a subquery that selects from a `VALUES` list.
fn listed_values(target: &InTarget, position: usize) -> Vec<String> {
    match target {
        InTarget::List(items) => {
            let items = items.iter().map(|item| match item {
                Expr::Tuple(values) => values.get(position),
                value => Some(value).filter(|_| position == 0),
            });
            items.filter_map(|item| bucket_value(item?)).collect()
        }
        InTarget::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.from.first().map(|table| &table.relation) {
                Some(TableFactor::Derived { subquery, .. }) => {
                    rows(subquery, None).map(|rows| rows.values(&format!("column{}", position + 1))).unwrap_or_default()
                }
                _ => Vec::new(),
            },
            SetExpr::Values(_) => {
                rows(query, None).map(|rows| rows.values(&format!("column{}", position + 1))).unwrap_or_default()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Returns the text of a number or a placeholder.
pub fn bucket_value(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => bucket_value(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => Some(number.clone()),
            Value::Placeholder(placeholder) => Some(placeholder.clone()),
            _ => None,
        },
        _ => None,
    }
}
