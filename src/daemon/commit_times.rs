//! How long records took to be written, without keeping each.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer ones are counted as this long, in microseconds: a minute.
const MAX_US: u64 = 60_000_000;

/// Digits that are kept of a time.
const DIGITS: u8 = 2;

/// How long the commits of one run took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Half took no longer.
    pub p50_us: u64,
    /// Ninety-nine of a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Takes in the times of commits, in bounded memory.
#[derive(Debug)]
pub struct Stopwatch(Mutex<Histogram<u64>>);

impl Default for Stopwatch {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("these bounds are good");
        Stopwatch(Mutex::new(histogram))
    }
}

impl Stopwatch {
    /// Takes in one commit.
    pub fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(MAX_US);
        self.0.lock().unwrap_or_else(|lock| lock.into_inner()).saturating_record(us);
    }

    /// What was taken in so far; zeros if nothing was.
    pub fn times(&self) -> CommitTimes {
        let all = self.0.lock().unwrap_or_else(|lock| lock.into_inner());
        CommitTimes {
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            max_us: all.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_taken_in() {
        let watch = Stopwatch::default();
        assert_eq!(watch.times(), CommitTimes::default());
        for us in 1..=1000 {
            watch.took(Duration::from_micros(us));
        }
        watch.took(Duration::from_secs(3600));
        let CommitTimes { p50_us, p99_us, max_us } = watch.times();
        assert!((495..=510).contains(&p50_us), "{p50_us}");
        assert!((980..=1000).contains(&p99_us), "{p99_us}");
        assert!((MAX_US..=MAX_US * 101 / 100).contains(&max_us), "{max_us}");
    }
}
