//! Budgets of bytes that one operation may use.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes, and how many of them have been used.
///
/// Several parts of an operation charge the same budget. Only the sum matters, so the updates are without order.
#[derive(Debug)]
pub struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    /// Creates an unused budget.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Returns the number of bytes that may be used.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Counts bytes as used, and returns whether the budget covers everything that was counted.
    pub fn charge(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        used <= self.limit
    }

    /// Returns the number of bytes that were counted.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether more bytes were counted than may be used.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::ByteBudget;

    #[test]
    fn budget_is_exceeded_by_the_first_byte_beyond_its_limit() {
        let budget = ByteBudget::new(10);
        assert!(budget.charge(4) && budget.charge(6));
        assert!(!budget.is_exceeded());
        assert!(!budget.charge(1));
        assert!(budget.is_exceeded());
    }
}
