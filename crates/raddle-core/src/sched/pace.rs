//! How long items take.

/// The weight of the newest time in the mean: one eighth. After a change of pace the mean has gone half of the
/// way in five items, and nine tenths in seventeen; one outlier moves it by an eighth of its distance.
const WEIGHT: f64 = 1.0 / 8.0;

/// The exponentially weighted mean of the time an item takes, and how many items make up a given time.
///
/// # Examples
///
/// ```
/// use raddle_core::sched::Pace;
///
/// let mut pace = Pace::new();
/// assert_eq!(pace.window(1_000_000, 1, 512), 1, "nothing is known yet");
/// pace.record(20_000);
/// assert_eq!(pace.window(1_000_000, 1, 512), 50);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    mean: Option<f64>,
}

impl Pace {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self { mean: None }
    }

    /// An item has taken `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        let ns = ns as f64;
        self.mean = Some(match self.mean {
            None => ns,
            Some(mean) => mean + (ns - mean) * WEIGHT,
        });
    }

    /// The mean in nanoseconds, or `None` before the first item.
    pub fn mean_ns(&self) -> Option<u64> {
        self.mean.map(|mean| mean.round() as u64)
    }

    /// How many items make up `target_ns` of work, at least `min` and at most `max`.
    ///
    /// `min` before the first item. Where `min` is larger than `max`, `min` counts.
    pub fn window(&self, target_ns: u64, min: usize, max: usize) -> usize {
        let count = match self.mean {
            None => min,
            // Items that take no time at all: as many as are allowed. A float becomes the nearest usize.
            Some(mean) => (target_ns as f64 / mean.max(f64::MIN_POSITIVE)) as usize,
        };
        count.min(max).max(min)
    }
}
