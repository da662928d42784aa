//! One frame at a time.

use std::time::Duration;

use crate::clock::Stamp;
use crate::frame::Frame;

/// Finds the frames that are at least `every` apart.
#[derive(Debug)]
pub(super) struct Interval {
    every: Duration,
    last: Option<Stamp>,
}

impl Interval {
    pub(super) fn new(every: Duration) -> Interval {
        Interval { every, last: None }
    }

    /// Whether this frame is the next one. The interval runs from the last due moment, not from the
    /// frame that answered it, so that the frames' own raster does not make it longer each time.
    pub(super) fn is_due(&mut self, frame: &Frame) -> bool {
        let Some(last) = self.last else {
            self.last = Some(frame.captured);
            return true;
        };
        let passed = frame.captured.since(&last);
        if passed < self.every {
            return false;
        }
        let every_ns = self.every.as_nanos().max(1);
        let surplus_ns = (passed.as_nanos() % every_ns) as u64;
        let monotonic_ns = frame.captured.monotonic_ns - surplus_ns;
        self.last = Some(Stamp { wall: frame.captured.wall, monotonic_ns });
        true
    }
}
