//! Emphasis, strong and strikethrough: which runs of `*`, `_` and `~` belong together.
//!
//! The rules are those of CommonMark 0.31, section 6.2, with the CommonMark CJK-friendly amendments, which this module
//! extends to all scripts that separate no words by spaces. `_` and a single `~` do nothing within words, so that
//! `snake_case` and `10~20` stay as they are; no run does anything between two digits, as in `2*3*4`.

use crate::domain::characters::is_variation_selector;
use crate::domain::markdown::classes::{is_of_script_without_spaces, is_punctuation};

/// The variation selector that makes the character before it an emoji.
const EMOJI_SELECTOR: char = '\u{FE0F}';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Emphasis,
    Strong,
    Strikethrough,
}

/// A run of equal characters that may open or close marks.
#[derive(Debug)]
pub struct Run {
    character: char,
    len: usize,
    can_open: bool,
    can_close: bool,
    is_paired: bool,
    /// The number of characters that are not used by a mark and are shown.
    pub unused: usize,
    /// The marks that end before the unused characters, from the innermost.
    pub closed: Vec<Mark>,
    /// The marks that begin after the unused characters, from the innermost.
    pub opened: Vec<Mark>,
}

/// The number of kinds of closing runs, as [`Run::closing_kind`] returns them.
const CLOSING_KINDS: usize = 18;

impl Run {
    /// Returns the run at a position of a text.
    pub fn at(text: &str, position: usize) -> Self {
        let (before, rest) = text.split_at(position);
        let character = rest.chars().next().unwrap_or_default();
        let len = rest.len() - rest.trim_start_matches(character).len();
        let before = before.chars().rev().find(|character| !is_text_variation_selector(*character));
        let mut following = rest[len..].chars();
        let after = following.next();
        let (mut can_open, mut can_close) = flanking(character, len, before, after);
        if character == '_' {
            // Names of files have parts such as `/__init__.py`.
            can_open &= before != Some('/');
            can_close &= !(matches!(after, Some('.' | '/')) && following.next().is_some_and(char::is_alphanumeric));
        }
        Self {
            character,
            len,
            can_open,
            can_close,
            is_paired: false,
            unused: len,
            closed: Vec::new(),
            opened: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn character(&self) -> char {
        self.character
    }

    /// Returns whether this run and a later one can be the ends of a mark.
    fn opens_for(&self, closer: &Self) -> bool {
        if self.character != closer.character {
            return false;
        }
        if self.character == '~' {
            return self.len == closer.len;
        }
        let is_ambiguous = self.can_close || closer.can_open;
        let are_multiples_of_3 = self.len.is_multiple_of(3) && closer.len.is_multiple_of(3);
        !is_ambiguous || !(self.len + closer.len).is_multiple_of(3) || are_multiples_of_3
    }

    /// Returns a number that two closing runs share if the same runs open for both.
    fn closing_kind(&self) -> usize {
        let character = match self.character {
            '*' => 0,
            '_' => 1,
            _ => 2,
        };
        (character * 2 + usize::from(self.can_open)) * 3 + self.len % 3
    }
}

/// Returns whether a run can open and whether it can close a mark.
fn flanking(character: char, len: usize, before: Option<char>, after: Option<char>) -> (bool, bool) {
    let is_digit = |character: Option<char>| character.is_some_and(|character| character.is_ascii_digit());
    if (character == '~' && len > 2) || (is_digit(before) && is_digit(after)) {
        return (false, false);
    }
    let is_space = |character: Option<char>| character.is_none_or(char::is_whitespace);
    let is_unspaced = |character: Option<char>| character.is_some_and(is_of_script_without_spaces);
    let is_any_punctuation = |character: Option<char>| character.is_some_and(is_punctuation);
    let is_spaced_punctuation = |character| is_any_punctuation(character) && !is_unspaced(character);
    let is_boundary = |character| is_space(character) || is_spaced_punctuation(character) || is_unspaced(character);
    let is_left_flanking = !is_space(after) && (!is_spaced_punctuation(after) || is_boundary(before));
    let is_right_flanking = !is_space(before) && (!is_spaced_punctuation(before) || is_boundary(after));
    let works_within_words = character == '*' || (character == '~' && len == 2);
    if works_within_words {
        return (is_left_flanking, is_right_flanking);
    }
    (
        is_left_flanking && (!is_right_flanking || is_any_punctuation(before)),
        is_right_flanking && (!is_left_flanking || is_any_punctuation(after)),
    )
}

/// Returns whether a character selects a variant of the character before it that is not an emoji.
fn is_text_variation_selector(character: char) -> bool {
    is_variation_selector(character) && character != EMOJI_SELECTOR
}

/// Pairs the runs of a text, except those that already were.
///
/// Takes linear time: a closing run does not look again at openers that did not fit another one of its kind.
pub fn pair(runs: &mut [Run]) {
    let mut openers: Vec<usize> = Vec::new();
    let mut examined = [0; CLOSING_KINDS];
    for closer in 0..runs.len() {
        if std::mem::replace(&mut runs[closer].is_paired, true) {
            continue;
        }
        while runs[closer].can_close && runs[closer].unused > 0 {
            let kind = runs[closer].closing_kind();
            let candidates = examined[kind]..openers.len();
            let found = candidates.rev().find(|&index| runs[openers[index]].opens_for(&runs[closer]));
            let Some(found) = found else {
                examined[kind] = openers.len();
                break;
            };
            let opener = openers[found];
            mark(runs, opener, closer);
            openers.truncate(if runs[opener].unused == 0 { found } else { found + 1 });
            examined = examined.map(|count| count.min(openers.len()));
        }
        if runs[closer].can_open && runs[closer].unused > 0 {
            openers.push(closer);
        }
    }
}

/// Makes a mark of two runs.
fn mark(runs: &mut [Run], opener: usize, closer: usize) {
    let is_double = runs[opener].unused >= 2 && runs[closer].unused >= 2;
    let (mark, used) = match (runs[opener].character, is_double) {
        ('~', _) => (Mark::Strikethrough, runs[opener].unused),
        (_, true) => (Mark::Strong, 2),
        (_, false) => (Mark::Emphasis, 1),
    };
    runs[opener].unused -= used;
    runs[opener].opened.push(mark);
    runs[closer].unused -= used;
    runs[closer].closed.push(mark);
}
