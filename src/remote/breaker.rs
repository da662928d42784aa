//! When an engine that fails is left alone, and when it is tried again. Pure: its clock is a parameter.
//!
//! ```text
//! closed ──N failures one after another──→ open ──back-off over──→ half open ──one question──→ closed
//!                                            ↑                         │ it failed: twice as long
//!                                            └─────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// When an engine is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures one after another that open it. Default 3. Fewer give up at the first hiccup; more
    /// let more parts wait for an engine that is gone.
    pub failures: u32,
    /// How long it is left alone the first time. Default 5 s.
    pub open_min: Duration,
    /// The longest, to which each failed try doubles it. Default 60 s.
    pub open_max: Duration,
}

impl Default for BreakerOptions {
    fn default() -> BreakerOptions {
        BreakerOptions {
            failures: 3,
            open_min: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
        }
    }
}

/// Counts failures and says whether an engine may be asked.
#[derive(Clone, Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: State,
    /// Failures since the last success.
    failed: u32,
    /// How long it will be left alone next time.
    next_open: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { is_tried: bool },
}

/// Whether an engine may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may.
    Ask,
    /// It may be tried, by this question alone.
    Try,
    /// Not for so long.
    Wait(Duration),
}

/// What a step changed, for whoever tells the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is left alone for so long.
    Opened(Duration),
    /// It answers again.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub fn new(options: BreakerOptions) -> Breaker {
        Breaker { options, state: State::Closed, failed: 0, next_open: options.open_min }
    }

    /// Whether a question may go out at `now`. Each `Ask` and `Try` is to be followed by exactly one
    /// of [`Breaker::succeed`], [`Breaker::fail`] and [`Breaker::forget`].
    pub fn admit(&mut self, now: Instant) -> Admitted {
        match self.state {
            State::Closed => Admitted::Ask,
            State::Open { until } if now < until => Admitted::Wait(until - now),
            State::Open { .. } | State::HalfOpen { is_tried: false } => {
                self.state = State::HalfOpen { is_tried: true };
                Admitted::Try
            }
            // Another question finds out; this one does not wait for it.
            State::HalfOpen { is_tried: true } => Admitted::Wait(Duration::ZERO),
        }
    }

    /// The engine answered. What it says may still be wrong.
    pub fn succeed(&mut self) -> Option<Change> {
        let was_closed = self.state == State::Closed;
        *self = Breaker::new(self.options);
        (!was_closed).then_some(Change::Closed)
    }

    /// The engine did not answer. `rest`: how long it wants to be left alone, if it said so.
    pub fn fail(&mut self, now: Instant, rest: Option<Duration>) -> Option<Change> {
        self.failed = self.failed.saturating_add(1);
        let is_over = self.failed >= self.options.failures;
        match self.state {
            // Questions that were under way when it opened.
            State::Open { .. } => None,
            State::Closed if !is_over && rest.is_none() => None,
            State::Closed | State::HalfOpen { .. } => Some(self.open(now, rest)),
        }
    }

    /// The question told nothing about the engine: it had no time, or was never sent.
    pub fn forget(&mut self) {
        if let State::HalfOpen { .. } = self.state {
            self.state = State::HalfOpen { is_tried: false };
        }
    }

    /// Whether questions go out as usual.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn open(&mut self, now: Instant, rest: Option<Duration>) -> Change {
        let own = self.next_open;
        let rest = match rest {
            // A server that asks for a day is asked again after the longest back-off.
            Some(rest) if self.failed < self.options.failures => rest.min(self.options.open_max),
            // One that goes on failing is not believed that a moment will do.
            told => {
                self.next_open = (own * 2).min(self.options.open_max).max(self.options.open_min);
                told.unwrap_or(own).clamp(own, self.options.open_max.max(own))
            }
        };
        self.state = State::Open { until: now + rest };
        Change::Opened(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_secs(5);
    const MAX: Duration = Duration::from_secs(12);

    fn breaker() -> Breaker {
        Breaker::new(BreakerOptions { failures: 2, open_min: MIN, open_max: MAX })
    }

    #[test]
    fn it_opens_tries_once_and_doubles() {
        let (mut breaker, start) = (breaker(), Instant::now());
        assert_eq!(breaker.fail(start, None), None);
        assert_eq!(breaker.admit(start), Admitted::Ask);
        assert_eq!(breaker.fail(start, None), Some(Change::Opened(MIN)));
        assert_eq!(breaker.admit(start + MIN / 2), Admitted::Wait(MIN / 2));
        assert_eq!(breaker.admit(start + MIN), Admitted::Try);
        assert_eq!(breaker.admit(start + MIN), Admitted::Wait(Duration::ZERO), "one only");
        let failed = start + MIN;
        assert_eq!(breaker.fail(failed, None), Some(Change::Opened(2 * MIN)));
        assert_eq!(breaker.admit(failed + 2 * MIN), Admitted::Try);
        assert_eq!(breaker.fail(failed, None), Some(Change::Opened(MAX)), "no longer than that");
        assert_eq!(breaker.admit(failed + MAX), Admitted::Try);
        assert_eq!(breaker.succeed(), Some(Change::Closed));
        assert_eq!(breaker.admit(failed), Admitted::Ask);
        assert_eq!(breaker.succeed(), None);
        assert_eq!(breaker.fail(failed, None), None, "it counts anew");
    }

    #[test]
    fn a_success_between_failures_counts_anew() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..5 {
            assert_eq!(breaker.fail(now, None), None);
            assert_eq!(breaker.succeed(), None);
        }
    }

    #[test]
    fn a_server_may_ask_to_be_left_alone_within_bounds() {
        let now = Instant::now();
        let seconds = Duration::from_secs;
        for (asked, given) in [(1, seconds(1)), (7, seconds(7)), (86_400, MAX)] {
            let mut breaker = breaker();
            assert_eq!(breaker.fail(now, Some(seconds(asked))), Some(Change::Opened(given)));
            // It said that once already.
            assert_eq!(breaker.admit(now + given), Admitted::Try);
            let told = breaker.fail(now, Some(seconds(asked)));
            assert_eq!(told, Some(Change::Opened(given.max(MIN))));
        }
    }

    #[test]
    fn a_try_that_told_nothing_may_be_repeated() {
        let (mut breaker, start) = (breaker(), Instant::now());
        breaker.fail(start, None);
        breaker.fail(start, None);
        assert_eq!(breaker.admit(start + MIN), Admitted::Try);
        breaker.forget();
        assert_eq!(breaker.admit(start + MIN), Admitted::Try);
    }

    proptest! {
        /// Whatever happens: never two tries at once, never asked while it rests, never at rest for
        /// longer than the bound, and a success always opens the way.
        #[test]
        fn it_never_locks_and_never_floods(steps in proptest::collection::vec(0..5u8, 0..200)) {
            let (mut breaker, mut now) = (breaker(), Instant::now());
            let mut trying = false;
            for step in steps {
                match step {
                    0 => match breaker.admit(now) {
                        Admitted::Try => {
                            prop_assert!(!trying);
                            trying = true;
                        }
                        Admitted::Wait(left) => prop_assert!(left <= MAX),
                        Admitted::Ask => prop_assert!(!trying),
                    },
                    1 => now += Duration::from_secs(2),
                    2 => { breaker.fail(now, None); trying = false; }
                    3 => {
                        breaker.succeed();
                        trying = false;
                        prop_assert_eq!(breaker.admit(now), Admitted::Ask);
                    }
                    _ => { breaker.forget(); trying = false; }
                }
            }
            if !trying {
                prop_assert!(!matches!(breaker.admit(now + MAX), Admitted::Wait(_)));
            }
        }
    }
}
