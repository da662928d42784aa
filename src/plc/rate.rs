//! Not more than so many commands: a bucket of tokens that fills with time.

use std::time::Duration;

/// One token a command. Time is monotonic nanoseconds, so that it can be tried without waiting.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Time in which one token comes.
    step_ns: u64,
    /// Time in which the empty bucket fills: a full one holds this much.
    depth_ns: u64,
    /// What is in it, in time.
    filled_ns: u64,
    /// When that was counted.
    counted_ns: u64,
}

impl Bucket {
    /// A full bucket: `burst` commands at once, and `per_s` a second for ever.
    pub fn new(per_s: u32, burst: u32) -> Bucket {
        let second = Duration::from_secs(1).as_nanos() as u64;
        let step_ns = second / u64::from(per_s.max(1));
        let depth_ns = step_ns * u64::from(burst.max(1));
        Bucket { step_ns, depth_ns, filled_ns: depth_ns, counted_ns: 0 }
    }

    /// Takes a token at `now_ns`. `false`: there is none.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let passed = now_ns.saturating_sub(self.counted_ns);
        self.counted_ns = self.counted_ns.max(now_ns);
        self.filled_ns = self.filled_ns.saturating_add(passed).min(self.depth_ns);
        let has_token = self.filled_ns >= self.step_ns;
        if has_token {
            self.filled_ns -= self.step_ns;
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let mut bucket = Bucket::new(10, 3);
        let at = |bucket: &mut Bucket, ms: u64| bucket.take(ms * 1_000_000);
        assert_eq!([0; 4].map(|ms| at(&mut bucket, ms)), [true, true, true, false]);
        assert_eq!([99, 100, 101, 200].map(|ms| at(&mut bucket, ms)), [false, true, false, true]);
        assert!(!at(&mut bucket, 0), "a clock that steps back brings no tokens");
    }

    proptest! {
        /// In no stretch of time pass more than the burst and the rate allow.
        #[test]
        fn never_more_than_the_rate(
            gaps in proptest::collection::vec(0..2_000_000_000u64, 1..200),
            per_s in 1..50u32,
            burst in 1..20u32,
        ) {
            let mut bucket = Bucket::new(per_s, burst);
            let mut now = 0;
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.take(now) {
                    passed.push(now);
                }
            }
            for (at, first) in passed.iter().enumerate() {
                for (n, last) in passed[at..].iter().enumerate() {
                    let allowed = u64::from(burst)
                        + (last - first) * u64::from(per_s) / 1_000_000_000 + 1;
                    prop_assert!((n as u64) < allowed);
                }
            }
        }
    }
}
