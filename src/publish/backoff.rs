//! How long to wait before the next dial.

use std::time::Duration;

/// Doubles from a shortest to a longest wait. Each wait is drawn from the upper half of its step,
/// so that a hundred devices do not all come back to a restarted broker in the same instant.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// Waits from `min` up to `max`.
    pub fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, step: min }
    }

    /// The next wait; `share` is a random number from 0 to 1.
    pub fn next(&mut self, share: f64) -> Duration {
        let step = self.step.min(self.max);
        self.step = step.saturating_mul(2).min(self.max);
        step.mul_f64(0.5 + 0.5 * share.clamp(0.0, 1.0))
    }

    /// Starts again from the shortest wait: something was delivered.
    pub fn reset(&mut self) {
        self.step = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let waits: Vec<u64> = (0..5).map(|_| backoff.next(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(500));
    }
}
