//! How far apart looks are, so that looking and drawing take no more than a share of one processor.
//!
//! The first look finds everything for the first time and says nothing about those that follow.

/// At most this share of one processor.
const SHARE: f64 = 0.05;

/// How far apart looks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// What was asked for, in seconds.
    interval: f64,
    /// What a look costs of late, in seconds of a processor.
    cost: f64,
    looks: u32,
}

impl Pace {
    pub(crate) fn new(interval: f64) -> Self {
        Self { interval, cost: 0.0, looks: 0 }
    }

    /// A look and its drawing have cost so much.
    pub(crate) fn spent(&mut self, cost: f64) {
        self.cost = match self.looks {
            0 => 0.0,
            1 => cost,
            _ => (3.0 * self.cost + cost) / 4.0,
        };
        self.looks = self.looks.saturating_add(1);
    }

    /// Seconds from one look to the next.
    pub(crate) fn seconds(&self) -> f64 {
        self.interval.max(self.cost / SHARE)
    }

    /// Whether that is more than was asked for.
    pub(crate) fn is_slowed(&self) -> bool {
        self.cost / SHARE > self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_looks_are_as_far_apart_as_was_asked_for() {
        let mut pace = Pace::new(0.5);
        for cost in [1.0, 0.002, 0.004] {
            pace.spent(cost);
        }
        assert_eq!((pace.seconds(), pace.is_slowed()), (0.5, false));
    }

    #[test]
    fn looks_that_cost_much_take_no_more_than_the_share() {
        let mut pace = Pace::new(0.01);
        for _ in 0..50 {
            pace.spent(0.1);
        }
        assert!((pace.seconds() - 2.0).abs() < 1e-9 && pace.is_slowed());
        for _ in 0..50 {
            pace.spent(0.0);
        }
        assert!(!pace.is_slowed());
    }
}
