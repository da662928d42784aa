//! What is live and what is backlog, and how fast backlog may go.
//!
//! A result is live for `live_for` after its commit; then it is backlog. The age is told by row
//! numbers that were the newest a while ago, not by the wall clock, which may be set. What a process
//! finds in the outbox when it starts is backlog.
//!
//! Live results go at once. Backlog goes at a limited rate, in at most half of the window, and has a
//! turn after every [`LIVE_RUN`] live results: neither keeps the other from the line for ever.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Live results in a row, while backlog waits that may go.
pub(super) const LIVE_RUN: usize = 8;

/// Most of a second's backlog that may go at once.
const BURST_S: f64 = 0.1;

/// How often the newest row number is noted at the most, for each `live_for`.
const MARKS: u32 = 16;

#[derive(Debug)]
pub(super) struct Pace {
    live_for: Duration,
    /// Rows up to this one are backlog.
    boundary: i64,
    /// Which row was the newest when, oldest first.
    marks: VecDeque<(Instant, i64)>,
    per_s: f64,
    allowance: f64,
    filled: Instant,
}

impl Pace {
    /// Rows up to `newest` are backlog from the start.
    pub(super) fn new(live_for: Duration, per_s: u32, newest: i64, now: Instant) -> Pace {
        let per_s = f64::from(per_s);
        let mut pace = Pace {
            live_for,
            boundary: newest,
            marks: VecDeque::new(),
            per_s,
            allowance: 0.0,
            filled: now,
        };
        pace.allowance = pace.burst();
        pace
    }

    /// Notes that `newest` is the newest row now. `true`: more rows are backlog than before.
    pub(super) fn note(&mut self, newest: i64, now: Instant) -> bool {
        let recent = self.marks.back().is_some_and(|(at, _)| now < *at + self.live_for / MARKS);
        if !recent {
            self.marks.push_back((now, newest));
        }
        let before = self.boundary;
        while let Some(&(at, row)) = self.marks.front()
            && at + self.live_for <= now
        {
            self.boundary = self.boundary.max(row);
            self.marks.pop_front();
        }
        self.boundary > before
    }

    /// The newest row that is backlog.
    pub(super) fn boundary(&self) -> i64 {
        self.boundary
    }

    /// How many rows of backlog may go now.
    pub(super) fn allowed(&mut self, now: Instant) -> usize {
        let filled = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_s;
        self.allowance = (self.allowance + filled).min(self.burst());
        self.filled = now;
        self.allowance as usize
    }

    /// So many rows of backlog went.
    pub(super) fn spend(&mut self, rows: usize) {
        self.allowance -= rows as f64;
    }

    /// When one more may go.
    pub(super) fn next(&self) -> Instant {
        let missing = (1.0 - self.allowance).max(0.0);
        // A millisecond more, or rounding might wake us just before it.
        self.filled + Duration::from_secs_f64(missing / self.per_s) + Duration::from_millis(1)
    }

    fn burst(&self) -> f64 {
        (self.per_s * BURST_S).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_live_for_its_time_and_then_backlog() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut pace = Pace::new(Duration::from_secs(10), 50, 7, start);
        assert_eq!(pace.boundary(), 7, "what was there before us");
        for second in 0..10 {
            assert!(!pace.note(8 + second, at(second.unsigned_abs())));
        }
        assert!(pace.note(18, at(10)));
        assert_eq!(pace.boundary(), 8);
        assert!(pace.note(18, at(15)));
        assert_eq!(pace.boundary(), 13);
        // However often it is noted, the memory is bounded.
        for ms in 0..20_000 {
            pace.note(18, at(15) + Duration::from_millis(ms));
            assert!(pace.marks.len() <= MARKS as usize + 1);
        }
        assert_eq!(pace.boundary(), 18);
    }

    #[test]
    fn backlog_goes_at_its_rate_and_no_faster() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(10), 50, 0, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(2) {
            let rows = pace.allowed(now);
            pace.spend(rows);
            sent += rows;
            now = pace.next();
        }
        assert!((90..=106).contains(&sent), "{sent} in two seconds at 50 a second");
        let mut slow = Pace::new(Duration::from_secs(10), 1, 0, start);
        assert_eq!(slow.allowed(start), 1);
        slow.spend(1);
        assert_eq!(slow.allowed(start + Duration::from_millis(999)), 0);
        assert_eq!(slow.allowed(slow.next()), 1);
    }
}
