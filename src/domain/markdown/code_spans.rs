//! Spans of code between runs of backticks of the same length.

use std::collections::HashMap;
use std::iter::Peekable;
use std::vec::IntoIter;

/// The runs of backticks of a text, in their order.
pub struct CodeSpans {
    runs: Peekable<IntoIter<BacktickRun>>,
}

struct BacktickRun {
    start: usize,
    /// The position of the next run of the same length.
    next_equal: Option<usize>,
}

impl CodeSpans {
    pub fn new(text: &str) -> Self {
        let mut runs = Vec::new();
        let mut next_by_len = HashMap::new();
        let mut end = text.len();
        while let Some(last) = text[..end].rfind('`') {
            let start = text[..last].trim_end_matches('`').len();
            let next_equal = next_by_len.insert(last + 1 - start, start);
            runs.push(BacktickRun { start, next_equal });
            end = start;
        }
        runs.reverse();
        Self { runs: runs.into_iter().peekable() }
    }

    /// Returns where the code ends that begins after the run at a position.
    ///
    /// The positions have to increase from call to call, so that all calls together take linear time.
    pub fn end(&mut self, start: usize) -> Option<usize> {
        while self.runs.next_if(|run| run.start < start).is_some() {}
        self.runs.next_if(|run| run.start == start)?.next_equal
    }
}
