//! The numbers of the envelopes that were received from one node on one channel.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// The time that a missing envelope has to arrive; envelopes overtake each other by less.
const REORDER_GRACE: Duration = Duration::from_secs(2);
/// The number of envelopes that are remembered beyond a missing one.
const MAX_AHEAD: usize = 4_096;

/// The numbers of the envelopes that were received from one node on one channel.
///
/// A number that was received before, or is older than everything that is remembered, is rejected. So nobody can repeat
/// a message, and a message that does not arrive is noticed.
#[derive(Debug)]
pub struct ReceivedSequence {
    /// Every number up to this one was received, or is not expected.
    contiguous: u64,
    /// The received numbers beyond a missing one.
    ahead: BTreeSet<u64>,
    /// The largest number that the node is known to have sent.
    known: u64,
    /// The time since when the number after `contiguous` is missing.
    missing_since: Option<Instant>,
    /// Numbers were skipped since [`Self::take_lost`] was last called.
    has_lost: bool,
}

impl ReceivedSequence {
    /// Begins after a number. It and earlier ones are not expected.
    pub fn after(number: u64) -> Self {
        Self { contiguous: number, ahead: BTreeSet::new(), known: number, missing_since: None, has_lost: false }
    }

    /// Adds a number, and returns false if its message must be dropped.
    pub fn accept(&mut self, number: u64, now: Instant) -> bool {
        if number <= self.contiguous || !self.ahead.insert(number) {
            return false;
        }
        self.known = self.known.max(number);
        let advanced = self.advance();
        self.update_missing(advanced, now);
        if self.ahead.len() > MAX_AHEAD {
            self.skip();
        }
        true
    }

    /// Expects a number that the node is known to have sent, and all before it.
    pub fn expect(&mut self, number: u64, now: Instant) {
        self.known = self.known.max(number);
        self.update_missing(false, now);
    }

    fn update_missing(&mut self, advanced: bool, now: Instant) {
        if self.contiguous >= self.known {
            self.missing_since = None;
        } else if advanced || self.missing_since.is_none() {
            self.missing_since = Some(now);
        }
    }

    /// Returns true if messages were lost since the last call: they did not arrive in time.
    pub fn take_lost(&mut self, now: Instant) -> bool {
        if self.missing_since.is_some_and(|since| now.duration_since(since) > REORDER_GRACE) {
            self.skip();
        }
        std::mem::take(&mut self.has_lost)
    }

    /// Returns true if every message up to the newest one was received.
    pub fn is_complete(&self) -> bool {
        self.missing_since.is_none() && !self.has_lost
    }

    /// Stops to expect what is missing.
    fn skip(&mut self) {
        self.contiguous = self.known;
        self.ahead.clear();
        self.missing_since = None;
        self.has_lost = true;
    }

    /// Moves `contiguous` over received numbers, and returns whether it moved.
    fn advance(&mut self) -> bool {
        let before = self.contiguous;
        while self.ahead.remove(&(self.contiguous + 1)) {
            self.contiguous += 1;
        }
        self.contiguous > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_accepted_once_in_any_order() {
        let now = Instant::now();
        let mut sequence = ReceivedSequence::after(6);
        assert!(sequence.accept(7, now));
        assert!(!sequence.accept(7, now), "the first number again");
        assert!(!sequence.accept(6, now), "a number from before the first");
        for number in [9, 8, 11] {
            assert!(sequence.accept(number, now));
            assert!(!sequence.accept(number, now));
        }
        assert!(!sequence.is_complete());
        assert!(sequence.accept(10, now));
        assert!(sequence.is_complete());
    }

    #[test]
    fn missing_number_is_lost_after_a_grace_period() {
        let start = Instant::now();
        let late = start + REORDER_GRACE + Duration::from_millis(1);
        let mut sequence = ReceivedSequence::after(1);
        assert!(sequence.accept(3, start));
        assert!(!sequence.take_lost(start));
        assert!(sequence.take_lost(late));
        assert!(!sequence.take_lost(late), "a loss is reported once");
        assert!(!sequence.accept(2, late), "the loss was handled already");
        assert!(sequence.accept(4, late) && sequence.is_complete());
    }

    #[test]
    fn number_that_only_a_heartbeat_names_is_lost_after_a_grace_period() {
        let start = Instant::now();
        let late = start + REORDER_GRACE + Duration::from_millis(1);
        let mut sequence = ReceivedSequence::after(1);
        sequence.expect(1, start);
        assert!(sequence.is_complete());
        sequence.expect(3, start);
        assert!(!sequence.is_complete());
        assert!(sequence.accept(2, start) && sequence.accept(3, start) && sequence.is_complete());
        sequence.expect(4, start);
        assert!(sequence.take_lost(late), "the last number did not arrive");
        assert!(!sequence.accept(4, late), "the loss was handled already");
        assert!(sequence.accept(5, late) && sequence.is_complete());
    }

    #[test]
    fn memory_beyond_a_missing_number_is_bounded() {
        let now = Instant::now();
        let mut sequence = ReceivedSequence::after(1);
        for number in 0..=MAX_AHEAD as u64 {
            assert!(sequence.accept(3 + number, now));
        }
        assert!(sequence.ahead.is_empty());
        assert!(sequence.take_lost(now));
    }
}
