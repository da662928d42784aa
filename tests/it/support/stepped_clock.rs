//! The machine's clock with a wall time that a test steps, as a person or a time source does; the monotonic
//! time goes on as it is.

use std::sync::atomic::{AtomicI64, Ordering};

use inspectd::clock::{Clock, Stamp, SystemClock};
use jiff::SignedDuration;

/// Stepped by nothing at first.
#[derive(Debug, Default)]
pub struct SteppedClock {
    off_ms: AtomicI64,
}

impl SteppedClock {
    /// Sets the wall time `off` away from the machine's.
    pub fn set_off(&self, off: SignedDuration) {
        let ms = i64::try_from(off.as_millis()).expect("a sensible step");
        self.off_ms.store(ms, Ordering::SeqCst);
    }

    /// Sets the wall time to `wall`.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        self.set_off(wall.duration_since(SystemClock.now().wall));
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Stamp {
        let now = SystemClock.now();
        let off = SignedDuration::from_millis(self.off_ms.load(Ordering::SeqCst));
        Stamp { wall: now.wall.checked_add(off).expect("within the calendar"), ..now }
    }

    fn boot_id(&self) -> String {
        SystemClock.boot_id()
    }

    fn synchronized(&self) -> bool {
        true
    }
}
