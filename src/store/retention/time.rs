//! Which time retention believes.
//!
//! A clock that jumps years ahead would make every picture old at once. So time that is believed
//! moves on with the clock as long as both are close, and slowly when the clock has jumped: the
//! device was switched off for long, or the clock is wrong and a person has days to see it.

use std::time::Duration;

const DAY_MS: i64 = 86_400_000;

/// A clock that is ahead by no more than this is believed at once.
pub const STEP_MAX_MS: i64 = 7 * DAY_MS;

/// After a larger step, believed time runs so many times faster than time: a year takes 15 days.
const CATCH_UP: i64 = 24;

/// The time that is believed when the clock says `now_ms`, `elapsed` after `last_ms` was believed.
/// A clock that was set back is believed at once: it makes everything younger.
pub fn believe(last_ms: i64, now_ms: i64, elapsed: Duration) -> i64 {
    if now_ms <= last_ms.saturating_add(STEP_MAX_MS) {
        return now_ms;
    }
    let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
    now_ms.min(last_ms.saturating_add(elapsed_ms.saturating_mul(CATCH_UP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_is_close_is_believed_and_so_is_one_that_was_set_back() {
        for now in [10 * DAY_MS, 10 * DAY_MS + 1, 17 * DAY_MS, 0, -5] {
            assert_eq!(believe(10 * DAY_MS, now, Duration::ZERO), now);
        }
    }

    #[test]
    fn a_jump_of_a_year_takes_two_weeks_of_running_to_be_believed() {
        let (mut believed, mut hours) = (0, 0);
        let jumped = 365 * DAY_MS;
        assert_eq!(believe(0, jumped, Duration::ZERO), 0, "a restart alone moves nothing");
        while believed < jumped {
            let next = believe(believed, jumped, HOUR);
            assert!(next > believed);
            (believed, hours) = (next, hours + 1);
        }
        assert_eq!(hours, 358 + 1, "a day for each hour, and the last week at once");
    }

    #[test]
    fn no_time_overflows() {
        assert_eq!(believe(i64::MAX, i64::MAX, HOUR), i64::MAX);
        assert_eq!(
            believe(i64::MIN, i64::MAX, Duration::MAX),
            believe(i64::MIN, i64::MAX, Duration::MAX)
        );
    }
}
