//! The check of the SQL that servers sent to PostgreSQL: every statement names the bucket of its rows.
//!
//! A distributed PostgreSQL routes a statement by the buckets that it names, and locks rows of one bucket only. A test
//! run on a single PostgreSQL does not notice a statement without a bucket, so its log is checked afterwards.

mod conditions;
mod reader;
mod shape;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::BufRead;
use std::rc::Rc;

use reader::{Entry, entries};
use shape::{Boundary, Shape};

/// The rules of a check.
pub struct Rules {
    /// The tables that are distributed by their column `bucket`.
    pub tables: HashSet<String>,
    /// Parts of the statements that may read the rows of all buckets.
    pub scans: &'static [&'static str],
}

/// The findings of a check.
#[derive(Debug, Default)]
pub struct Findings {
    /// The number of statements on distributed tables.
    pub statements: usize,
    /// The distributed tables that they named.
    pub tables: BTreeSet<String>,
    /// The rules that statements violate, each with the statement, once for all statements of one text.
    pub violations: BTreeSet<String>,
}

/// Checks the statements in a log of PostgreSQL.
///
/// It was written with `log_statement=all`, `log_line_prefix='%p {%a} '` and any `log_parameter_max_length` but zero.
pub fn check(log: impl BufRead, rules: &Rules) -> Findings {
    let mut findings = Findings::default();
    let mut shapes: HashMap<String, Rc<Shape>> = HashMap::new();
    // The buckets in which the open transaction of each process has written or locked rows.
    let mut transactions: HashMap<String, BTreeSet<i64>> = HashMap::new();
    for Entry { process, sql, parameters } in entries(log) {
        let shape = shapes.entry(sql).or_insert_with_key(|sql| Rc::new(Shape::of(sql, rules))).clone();
        match shape.boundary {
            Some(Boundary::Begin) => drop(transactions.insert(process, BTreeSet::new())),
            Some(Boundary::End) => drop(transactions.remove(&process)),
            None if shape.tables.is_empty() => findings.violations.extend(shape.violations.iter().cloned()),
            None => {
                findings.statements += 1;
                findings.tables.extend(shape.tables.iter().cloned());
                findings.violations.extend(shape.violations.iter().cloned());
                let changed = shape.changed_buckets(&parameters);
                if changed.len() > 1 {
                    findings.violations.insert(shape.violation("changes or locks rows of several buckets"));
                }
                if let Some(transaction) = transactions.get_mut(&process)
                    && !changed.is_subset(transaction)
                {
                    if !transaction.is_empty() {
                        let rule = "changes or locks rows of another bucket than earlier statements of its transaction";
                        findings.violations.insert(shape.violation(rule));
                    }
                    transaction.extend(&changed);
                }
            }
        }
    }
    findings
}
