//! The slot of one between a camera and whoever looks: the newest frame waits, what it replaces is
//! counted, and losses are told in order.
//!
//! A line does not wait for a slow model, so in real time the camera never blocks here and an old
//! picture is worth nothing. Recorded footage has the other need, every frame once; there the
//! source waits in [`Slot::put_when_free`] until the last frame was taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Delivery, LossKind};
use crate::clock::Clock;
use crate::frame::{Frame, Picture};

/// What the slot holds. Everything in it is bounded: one frame and one reason.
#[derive(Default)]
struct State {
    waiting: Option<Waiting>,
    /// The camera's side: lost, and no frame since.
    is_down: bool,
    /// A loss that nobody has been told of yet. A second one before that replaces the reason.
    untold: Option<(LossKind, String)>,
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

/// What a camera has brought since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Frames, whole or not.
    pub brought: u64,
    /// Frames that were handed out.
    pub delivered: u64,
    /// Frames that were replaced in the slot before anyone looked.
    pub dropped: u64,
    /// Frames that their decoder called damaged; they are not handed out.
    pub damaged: u64,
    /// Frames of which a part was missing; they are not handed out.
    pub partial: u64,
    /// How often it was lost, in each way.
    pub losses: [(LossKind, u64); LossKind::ALL.len()],
}

impl Counts {
    /// Nothing came.
    pub fn none() -> Counts {
        let losses = LossKind::ALL.map(|kind| (kind, 0));
        Counts { brought: 0, delivered: 0, dropped: 0, damaged: 0, partial: 0, losses }
    }
}

impl Counts {
    /// How often it was lost, in whichever way.
    pub fn lost(&self) -> u64 {
        self.losses.iter().map(|(_, count)| count).sum()
    }
}

/// One camera's slot, shared by the camera's threads and the handle.
pub(super) struct Slot {
    camera: Arc<str>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
    brought: AtomicU64,
    whole: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    losses: [AtomicU64; LossKind::ALL.len()],
    damaged: AtomicU64,
    partial: AtomicU64,
}

impl Slot {
    pub(super) fn new(camera: &str, clock: Arc<dyn Clock>) -> Arc<Slot> {
        Arc::new(Slot {
            camera: camera.into(),
            clock,
            state: Mutex::default(),
            changed: Condvar::new(),
            brought: AtomicU64::new(0),
            whole: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            losses: Default::default(),
            damaged: AtomicU64::new(0),
            partial: AtomicU64::new(0),
        })
    }

    /// Leaves a frame, replacing one that nobody took. Never waits.
    pub(super) fn put(&self, picture: impl Into<Picture>, pipeline_ns: Option<u64>) {
        let frame = self.frame(picture.into(), pipeline_ns);
        self.leave(&mut self.lock(), frame);
    }

    /// Leaves a frame once the last one was taken. False, and the frame is gone, when the camera is
    /// stopped meanwhile.
    pub(super) fn put_when_free(
        &self,
        picture: impl Into<Picture>,
        pipeline_ns: Option<u64>,
    ) -> bool {
        let mut state = self.wait_until(|state| state.waiting.is_none());
        if state.is_stopped {
            return false;
        }
        // Stamped only now: while it waited it had not reached anybody.
        let frame = self.frame(picture.into(), pipeline_ns);
        self.leave(&mut state, frame);
        true
    }

    /// The camera is lost. Told once, until a frame comes again.
    pub(super) fn lose(&self, kind: LossKind, reason: String) {
        let mut state = self.lock();
        if state.is_down {
            tracing::debug!(camera = &*self.camera, reason, "camera still lost");
            return;
        }
        tracing::warn!(camera = &*self.camera, kind = kind.as_str(), reason, "camera lost");
        self.losses[kind as usize].fetch_add(1, Ordering::Relaxed);
        state.is_down = true;
        state.untold = Some((kind, reason));
        if let Some(waiting) = &mut state.waiting {
            waiting.is_from_before = true;
        }
        self.changed.notify_all();
    }

    /// As [`Slot::lose`], for a source that can wait: each loss is told by itself. False when the
    /// camera is stopped meanwhile.
    pub(super) fn lose_when_told(&self, kind: LossKind, reason: String) -> bool {
        self.lock().is_down = false;
        self.lose(kind, reason);
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

    /// A frame came that its decoder calls damaged. It leaves a hole in the sequence.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn spoil(&self) {
        self.brought.fetch_add(1, Ordering::Relaxed);
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// A frame came of which a part is missing. It leaves a hole in the sequence.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn spoil_partial(&self) {
        self.brought.fetch_add(1, Ordering::Relaxed);
        self.partial.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames that came whole so far, taken or not.
    #[cfg_attr(not(feature = "gst"), allow(dead_code))]
    pub(super) fn whole(&self) -> u64 {
        self.whole.load(Ordering::Relaxed)
    }

    /// What came so far.
    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            brought: read(&self.brought),
            delivered: read(&self.delivered),
            dropped: read(&self.dropped),
            damaged: read(&self.damaged),
            partial: read(&self.partial),
            losses: LossKind::ALL.map(|kind| (kind, read(&self.losses[kind as usize]))),
        }
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
        if !frame_is_next && let Some((kind, reason)) = state.untold.take() {
            state.told_down = true;
            return Some(Delivery::Lost { kind, reason });
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

    fn frame(&self, picture: Picture, pipeline_ns: Option<u64>) -> Frame {
        let sequence = self.brought.fetch_add(1, Ordering::Relaxed) + 1;
        self.whole.fetch_add(1, Ordering::Relaxed);
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
    use crate::frame::Rgb8;

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
        let counts = slot.counts();
        assert_eq!((counts.dropped, counts.delivered, counts.brought), (4, 1, 5));
        assert!(matches!(slot.next(NOW), Delivery::NoFrame));
    }

    #[test]
    fn a_loss_is_told_once_between_the_frames_around_it() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose(LossKind::Failed, "cable".into());
        slot.lose(LossKind::Failed, "cable again".into());
        assert_eq!(sequence(slot.next(NOW)), 1);
        assert!(matches!(slot.next(NOW), Delivery::Lost { reason, .. } if reason == "cable"));
        assert!(matches!(slot.next(NOW), Delivery::NoFrame));
        slot.put(Rgb8::new(2, 2), None);
        assert!(matches!(slot.next(NOW), Delivery::Back));
        assert_eq!(sequence(slot.next(NOW)), 2);
        assert_eq!(slot.counts().losses[0], (LossKind::Failed, 1));
    }

    #[test]
    fn a_loss_that_ended_before_anyone_looked_is_still_told() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose(LossKind::Failed, "first".into());
        slot.put(Rgb8::new(2, 2), None);
        slot.lose(LossKind::Failed, "second".into());
        slot.put(Rgb8::new(2, 2), None);
        assert!(matches!(slot.next(NOW), Delivery::Lost { reason, .. } if reason == "second"));
        assert!(matches!(slot.next(NOW), Delivery::Back));
        assert_eq!(sequence(slot.next(NOW)), 3);
        assert_eq!(slot.counts().losses[0], (LossKind::Failed, 2));
        assert_eq!(slot.counts().dropped, 2);
    }

    #[test]
    fn the_end_comes_after_what_was_before_it_and_stays() {
        let slot = slot();
        slot.put(Rgb8::new(2, 2), None);
        slot.lose(LossKind::Failed, "torn".into());
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
        assert_eq!(slot.counts().dropped, 0);
        assert!(matches!(slot.next(NOW), Delivery::Ended));
    }
}
