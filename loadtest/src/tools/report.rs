//! Markdown tables, aligned so that they are readable as plain text.

use std::fmt::{self, Display, Formatter};

/// A table whose first row is its header.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with this header.
    pub fn new<T: ToString>(header: &[T]) -> Self {
        let header = header.iter().map(T::to_string).collect();
        Self { rows: vec![header] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    match column {
                        0 => write!(f, "|{}|", "-".repeat(width + 2))?,
                        _ => write!(f, "{}:|", "-".repeat(width + 1))?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Formats a number without decimals and with thousands separators, such as 12,345.
pub fn whole(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with about three significant digits.
pub fn number(number: f64) -> String {
    match number.abs() {
        100.0.. => whole(number),
        10.0.. => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Formats the ratio of a value to a reference, such as 1.25x.
pub fn ratio(value: f64, reference: f64) -> String {
    if reference == 0.0 { "-".into() } else { format!("{}x", number(value / reference)) }
}

/// Formats a part of a whole as a percentage.
pub fn share(part: f64, whole: f64) -> String {
    if whole == 0.0 { "-".into() } else { format!("{}%", number(100.0 * part / whole)) }
}
