//! The slot of one between a camera and whoever looks: the newest frame waits, what it replaces is
//! counted, and losses are told in order.
//!
//! A line does not wait for a slow model, so in real time the camera never blocks here and an old
//! picture is worth nothing. Recorded footage has the other need, every frame once; there the
//! source waits in [`Slot::put_when_free`] until the last frame was taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Delivery;
use crate::clock::Clock;
use crate::frame::{Frame, Rgb8};

/// What the slot holds. Everything in it is bounded: one frame and one reason.
#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    /// The camera's side: lost, and no frame since.
    is_down: bool,
    /// A loss that nobody has been told of yet. A second one before that replaces the reason.
    untold: Option<String>,
    /// The reader's side: told of a loss, and not yet that the camera is back.
    told_down: bool,
    is_stopped: bool,
    /// The camera's thread has left.
    is_finished: bool,
}

struct Waiting {
    frame: Arc<Frame>,
    /// It came before the loss in `untold`, so it is handed out before it.
    is_from_before: bool,
}

/// One camera's slot, shared by the camera's threads and the handle.
pub(super) struct Slot {
    camera: Arc<str>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
    brought: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    losses: AtomicU64,
    damaged: AtomicU64,
}

impl Slot {
    pub(super) fn new(camera: &str, clock: Arc<dyn Clock>) -> Arc<Slot> {
        Arc::new(Slot {
            camera: camera.into(),
            clock,
            state: Mutex::default(),
            changed: Condvar::new(),
            brought: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
        })
    }

    /// Leaves a frame, replacing one that nobody took. Never waits.
    pub(super) fn put(&self, picture: Rgb8, pipeline_ns: Option<u64>) {
        let frame = self.frame(picture, pipeline_ns);
        self.leave(&mut self.lock(), frame);
    }

    /// Leaves a frame once the last one was taken. False, and the frame is gone, when the camera is
    /// stopped meanwhile.
    pub(super) fn put_when_free(&self, picture: Rgb8, pipeline_ns: Option<u64>) -> bool {
        let mut state = self.wait_until(|state| state.waiting.is_none());
        if state.is_stopped {
            return false;
        }
        // Stamped only now: while it waited it had not reached anybody.
        let frame = self.frame(picture, pipeline_ns);
        self.leave(&mut state, frame);
        true
    }

    /// The camera is lost. Told once, until a frame comes again.
    pub(super) fn lose(&self, reason: String) {
        let mut state = self.lock();
        if state.is_down {
            tracing::debug!(camera = &*self.camera, reason, "camera still lost");
            return;
        }
        tracing::warn!(camera = &*self.camera, reason, "camera lost");
        self.losses.fetch_add(1, Ordering::Relaxed);
        state.is_down = true;
        state.untold = Some(reason);
        if let Some(waiting) = &mut state.waiting {
            waiting.is_from_before = true;
        }
        self.changed.notify_all();
    }

    /// As [`Slot::lose`], for a source that can wait: each loss is told by itself. False when the
    /// camera is stopped meanwhile.
    pub(super) fn lose_when_told(&self, reason: String) -> bool {
        self.lock().is_down = false;
        self.lose(reason);
        !self.wait_until(|state| state.untold.is_none()).is_stopped
    }

    /// Asks the camera to stop and frees whoever waits.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        state.waiting = None;
        self.changed.notify_all();
    }

    /// The camera's thread leaves: no frame will come any more.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.is_finished = true;
        self.changed.notify_all();
    }

    /// Waits until the camera's thread has left; false if it has not after `limit`.
    pub(super) fn wait_finished(&self, limit: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.is_finished)
            .unwrap_or_else(PoisonError::into_inner);
        state.is_finished
    }

    /// Sleeps for `time` or until the camera is stopped, whichever is first. True if stopped.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, time, |state| !state.is_stopped)
            .unwrap_or_else(PoisonError::into_inner);
        state.is_stopped
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// A frame came that is not whole. It leaves a hole in the sequence.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn spoil(&self) {
        self.brought.fetch_add(1, Ordering::Relaxed);
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames that the camera brought so far, taken or not.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn brought(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The next thing to know, in the order in which it happened; waits for `timeout` at most.
    pub(super) fn next(&self, timeout: Duration) -> Delivery {
        // A limit too far for the clock to hold is no limit in practice; a day serves.
        let day = Duration::from_secs(86_400);
        let limit = Instant::now() + timeout.min(day);
        let mut state = self.lock();
        loop {
            if let Some(delivery) = self.take(&mut state) {
                self.changed.notify_all();
                return delivery;
            }
            let left = limit.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Delivery::NoFrame;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, state: &mut State) -> Option<Delivery> {
        if state.is_stopped {
            return Some(Delivery::Ended);
        }
        let frame_is_next = match &state.waiting {
            Some(waiting) => state.untold.is_none() || waiting.is_from_before,
            None => false,
        };
        if !frame_is_next && let Some(reason) = state.untold.take() {
            state.told_down = true;
            return Some(Delivery::Lost { reason });
        }
        if frame_is_next && std::mem::take(&mut state.told_down) {
            return Some(Delivery::Back);
        }
        if let Some(waiting) = state.waiting.take() {
            self.delivered.fetch_add(1, Ordering::Relaxed);
            return Some(Delivery::Frame(waiting.frame));
        }
        state.is_finished.then_some(Delivery::Ended)
    }

    fn leave(&self, state: &mut State, frame: Frame) {
        let waiting = Waiting { frame: Arc::new(frame), is_from_before: false };
        if state.is_stopped {
            return;
        }
        if state.waiting.replace(waiting).is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        state.is_down = false;
        self.changed.notify_all();
    }

    fn frame(&self, picture: Rgb8, pipeline_ns: Option<u64>) -> Frame {
        let sequence = self.brought.fetch_add(1, Ordering::Relaxed) + 1;
        let camera = Arc::clone(&self.camera);
        Frame { sequence, camera, captured: self.clock.now(), pipeline_ns, picture }
    }

    /// Waits until `ready` or stopped.
    fn wait_until(&self, ready: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed
            .wait_while(self.lock(), |state| !ready(state) && !state.is_stopped)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic elsewhere leaves nothing half-written here: each change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const NOW: Duration = Duration::ZERO;

    fn slot() -> Arc<Slot> {
        Slot::new("press", Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)))
    }

    fn sequence(delivery: Delivery) -> u64 {
        match delivery {
            Delivery::Frame(frame) => frame.sequence,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    #[test]
    fn the_newest_frame_replaces_the_waiting_one_and_is_counted() {
        let slot = slot();
        for _ in 0..5 {
            slot.put(Rgb8::new(2, 2), None);
        }
        assert_eq!(sequence(slot.next(NOW)), 5);
        assert_eq!((slot.dropped(), slot.delivered(), slot.brought()), (4, 1, 5));
        assert!(matches!(slot.next(NOW), Delivery::NoFrame));
    }

    #[test]
    fn a_loss_is_told_once_between_the_frames_around_it() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose("cable".into());
        slot.lose("cable again".into());
        assert_eq!(sequence(slot.next(NOW)), 1);
        assert!(matches!(slot.next(NOW), Delivery::Lost { reason } if reason == "cable"));
        assert!(matches!(slot.next(NOW), Delivery::NoFrame));
        slot.put(Rgb8::new(2, 2), None);
        assert!(matches!(slot.next(NOW), Delivery::Back));
        assert_eq!(sequence(slot.next(NOW)), 2);
        assert_eq!(slot.losses(), 1);
    }

    #[test]
    fn a_loss_that_ended_before_anyone_looked_is_still_told() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose("first".into());
        slot.put(Rgb8::new(2, 2), None);
        slot.lose("second".into());
        slot.put(Rgb8::new(2, 2), None);
        assert!(matches!(slot.next(NOW), Delivery::Lost { reason } if reason == "second"));
        assert!(matches!(slot.next(NOW), Delivery::Back));
        assert_eq!(sequence(slot.next(NOW)), 3);
        assert_eq!((slot.losses(), slot.dropped()), (2, 2));
    }

    #[test]
    fn the_end_comes_after_what_was_before_it_and_stays() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose("torn".into());
        slot.finish();
        assert_eq!(sequence(slot.next(NOW)), 1);
        assert!(matches!(slot.next(NOW), Delivery::Lost { .. }));
        assert!(matches!(slot.next(NOW), Delivery::Ended));
        assert!(matches!(slot.next(Duration::MAX), Delivery::Ended));
    }

    #[test]
    fn a_source_that_waits_loses_nothing_and_stop_frees_it() {
        let slot = slot();
        let source = Arc::clone(&slot);
        let thread = std::thread::spawn(move || {
            let mut put = 0;
            while source.put_when_free(Rgb8::new(2, 2), None) {
                put += 1;
            }
            put
        });
        for expected in 1..=50 {
            assert_eq!(sequence(slot.next(Duration::from_secs(60))), expected);
        }
        slot.stop();
        let put: u64 = thread.join().expect("no panic");
        assert!((50..=51).contains(&put), "{put}");
        assert_eq!(slot.dropped(), 0);
        assert!(matches!(slot.next(NOW), Delivery::Ended));
    }
}
