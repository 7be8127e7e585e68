//! Polls: a question with options, asked in a message.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::domain::characters::is_variation_selector;
use crate::domain::text;
use crate::error::{Error, Result};

/// A poll as its message stores it, without the votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    pub question: String,
    pub options: Vec<String>,
    pub multiple_choice: bool,
    /// True if votes are not shown with their users.
    pub anonymous: bool,
    pub closes_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
}

impl Poll {
    /// The maximum length of a question, in characters.
    pub const MAX_QUESTION_CHARS: usize = 300;
    /// The maximum length of an option, in characters.
    pub const MAX_OPTION_CHARS: usize = 100;
    pub const MIN_OPTIONS: usize = 2;
    pub const MAX_OPTIONS: usize = 20;

    /// Returns a new poll with its texts trimmed.
    ///
    /// # Errors
    ///
    /// Returns [`Error::BadUserInput`] if a text or the number of options is out of range, options are equal, or the
    /// poll would close in the past.
    pub fn validate(self, now: DateTime<Utc>) -> Result<Self> {
        let question = text::validate_line("poll.question", &self.question, Self::MAX_QUESTION_CHARS)?;
        if !(Self::MIN_OPTIONS..=Self::MAX_OPTIONS).contains(&self.options.len()) {
            let message = format!("must have {} to {} options", Self::MIN_OPTIONS, Self::MAX_OPTIONS);
            return Err(Error::bad_input("poll.options", message));
        }
        let options =
            self.options.iter().map(|option| text::validate_line("poll.options", option, Self::MAX_OPTION_CHARS));
        let options = options.collect::<Result<Vec<_>>>()?;
        let mut folded: Vec<_> = options.iter().map(|option| folded_option(option)).collect();
        folded.sort();
        folded.dedup();
        if folded.len() < options.len() {
            return Err(Error::bad_input("poll.options", "must not have equal options (case is ignored)"));
        }
        if self.closes_at.is_some_and(|closes_at| closes_at <= now) {
            return Err(Error::bad_input("poll.closesAt", "must be in the future"));
        }
        Ok(Self { question, options, ..self })
    }

    /// Returns whether the poll was closed by a user or has reached its closing time.
    pub fn is_closed(&self, now: DateTime<Utc>) -> bool {
        self.closed_at.is_some() || self.closes_at.is_some_and(|closes_at| closes_at <= now)
    }
}

/// Returns the form in which options are equal that look the same.
///
/// Compositions, compatible forms and variants of a character look the same.
fn folded_option(option: &str) -> String {
    let plain: String = option.chars().filter(|character| !is_variation_selector(*character)).nfkc().collect();
    text::fold_case(&plain)
}

/// The results of a poll.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollResults {
    /// The number of votes for each option, by its index.
    pub votes: Vec<i64>,
    /// The number of users who voted, for any number of options.
    pub voter_count: i64,
}
