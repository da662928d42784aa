//! Wall and monotonic time behind one trait, so that tests can turn it.
//!
//! Order comes from sequence numbers and monotonic time; wall time is for people. A board
//! without a battery starts in 1970, so every record says whether its clock was synchronised.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One moment, told by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// UTC, as far as this machine knows.
    pub wall: jiff::Timestamp,
    /// Nanoseconds since this machine started; never steps back within one boot.
    pub monotonic_ns: u64,
}

impl Stamp {
    /// Time from `earlier` to `self` by the monotonic clock; zero if `earlier` is later.
    pub fn since(&self, earlier: &Stamp) -> Duration {
        Duration::from_nanos(self.monotonic_ns.saturating_sub(earlier.monotonic_ns))
    }

    /// The moment `monotonic_ns` of the same boot, by both clocks as they are now.
    pub fn at(&self, monotonic_ns: u64) -> Stamp {
        let off_ns = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        let off_ns = off_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        let wall = self.wall.saturating_add(jiff::SignedDuration::from_nanos(off_ns));
        Stamp { wall: wall.unwrap_or(self.wall), monotonic_ns }
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Stamp;
    /// Names this boot of the machine, so that monotonic times of two boots are not compared.
    fn boot_id(&self) -> String;
    /// Whether the kernel says that the wall clock follows a time source.
    fn synchronized(&self) -> bool;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid, writable timespec for the length of the call.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } != 0;
        assert!(!failed, "every Linux has CLOCK_MONOTONIC");
        Stamp {
            wall: jiff::Timestamp::now(),
            monotonic_ns: time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64,
        }
    }

    fn boot_id(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_else(|_| "unknown".to_owned())
    }

    fn synchronized(&self) -> bool {
        // SAFETY: all-zero is a valid timex (modes 0 = read only), and the call only writes to it.
        let state = unsafe {
            let mut timex: libc::timex = std::mem::zeroed();
            libc::adjtimex(&mut timex)
        };
        state >= 0 && state != libc::TIME_ERROR
    }
}

/// A clock that stands still until it is told to move: for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<Stamp>);

impl ManualClock {
    /// Starts at `wall`, monotonic zero.
    pub fn new(wall: jiff::Timestamp) -> ManualClock {
        ManualClock(Mutex::new(Stamp { wall, monotonic_ns: 0 }))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        now.monotonic_ns += by.as_nanos() as u64;
        now.wall = now.wall.saturating_add(by).unwrap_or(now.wall);
    }

    /// Steps the wall clock, as a person or a first time source does; the monotonic one goes on.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).wall = wall;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Stamp {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn boot_id(&self) -> String {
        "00000000-0000-0000-0000-000000000000".to_owned()
    }

    fn synchronized(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_monotonic_time_does_not_step_back() {
        let clock = SystemClock;
        let first = clock.now();
        let second = clock.now();
        assert!(second.monotonic_ns >= first.monotonic_ns);
        assert!(clock.boot_id().len() >= 7);
    }

    #[test]
    fn since_is_zero_for_a_later_moment() {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let early = clock.now();
        clock.advance(Duration::from_millis(5));
        let late = clock.now();
        assert_eq!(late.since(&early), Duration::from_millis(5));
        assert_eq!(early.since(&late), Duration::ZERO);
        assert_eq!((late.at(0), early.at(late.monotonic_ns)), (early, late));
    }
}
