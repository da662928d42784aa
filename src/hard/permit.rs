//! When a line may say that a part may pass.
//!
//! The line is a *permit*: it is driven only while a part may pass. So a broken wire, a dead program
//! and a board without power all read as reject.

use std::time::Duration;

use super::board::Board;
use crate::verdict::Outcome;

/// Decides for one line.
#[derive(Clone, Debug)]
pub struct Permit {
    hold_ns: u64,
    /// The part for which it was given.
    given: Option<u64>,
}

impl Permit {
    /// A permit that holds for `hold` at most.
    pub fn new(hold: Duration) -> Permit {
        let hold_ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        Permit { hold_ns, given: None }
    }

    /// The moment up to which the line is to be driven, if it is to be driven at `now_ns`. It is for a
    /// pass of the part that was triggered last, from within its deadline, until the hold is over or
    /// the board says otherwise: ask again whenever it changes.
    pub fn until(&mut self, board: &Board, now_ns: u64) -> Option<u64> {
        let shown = board.verdict(now_ns).filter(|shown| shown.outcome == Outcome::Pass);
        let Some((shown, part)) = shown.zip(board.newest()) else {
            self.given = None;
            return None;
        };
        let end_ns = shown.at_ns.saturating_add(self.hold_ns);
        // One that was given in time holds beyond the deadline; none begins after it.
        let is_given = self.given == Some(part.job_id);
        if now_ns >= end_ns || !(is_given || now_ns <= part.deadline_ns) {
            return None;
        }
        self.given = Some(part.job_id);
        Some(end_ns)
    }
}
