//! Polls: a question with options, asked in a message.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::text;
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    pub question: String,
    pub options: Vec<String>,
    pub multiple_choice: bool,
    /// Nobody learns who chose what.
    pub anonymous: bool,
    pub closes_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
}

impl Poll {
    pub const MAX_QUESTION_CHARS: usize = 300;
    pub const MAX_OPTION_CHARS: usize = 100;
    pub const MIN_OPTIONS: usize = 2;
    pub const MAX_OPTIONS: usize = 20;

    /// A poll to be asked, checked: options differ, and the time to close is to come.
    pub fn validate(self, now: DateTime<Utc>) -> Result<Self> {
        let question = text::validate_line("poll.question", &self.question, Self::MAX_QUESTION_CHARS)?;
        if !(Self::MIN_OPTIONS..=Self::MAX_OPTIONS).contains(&self.options.len()) {
            let range = format!("must be {} to {}", Self::MIN_OPTIONS, Self::MAX_OPTIONS);
            return Err(Error::bad_input("poll.options", range));
        }
        let options =
            self.options.iter().map(|option| text::validate_line("poll.options", option, Self::MAX_OPTION_CHARS));
        let options = options.collect::<Result<Vec<_>>>()?;
        let mut folded: Vec<_> = options.iter().map(|option| text::fold_case(option)).collect();
        folded.sort();
        folded.dedup();
        if folded.len() < options.len() {
            return Err(Error::bad_input("poll.options", "must differ from each other"));
        }
        if self.closes_at.is_some_and(|at| at <= now) {
            return Err(Error::bad_input("poll.closesAt", "must be in the future"));
        }
        Ok(Self { question, options, ..self })
    }

    /// Closed by hand, or by its time.
    pub fn is_closed(&self, now: DateTime<Utc>) -> bool {
        self.closed_at.is_some() || self.closes_at.is_some_and(|at| at <= now)
    }
}

/// How a poll stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollResults {
    /// The votes of each option, by its place.
    pub votes: Vec<i64>,
    /// People who voted, for however many options.
    pub voter_count: i64,
}
