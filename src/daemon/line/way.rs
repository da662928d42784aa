//! A line's way to whoever looks at its parts: the device's own model, or an engine elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use super::{LOOK_AGAIN, Line};
use crate::daemon::desk::{Hand, InHand};
use crate::daemon::recorder::Recorder;
use crate::inspector::Part;
use crate::verdict::Reason;

/// A way that may become another one while parts are on it: those that come later wait until those have been
/// recorded, as a controller expects results in the order of its triggers.
pub struct Way {
    parts: flume::Sender<InHand>,
    /// Each part that is on it has a clone.
    on_it: Arc<()>,
    /// Of the way before, while parts are on that.
    before: Option<Arc<()>>,
    /// Parts that wait for that. Each has its place in the queue and its deadline.
    held: VecDeque<(Part, Hand)>,
}

/// Nobody is at its end any more.
pub struct Closed {
    /// The part.
    pub part: Part,
    /// Its place in hand.
    pub hand: Hand,
}

impl Way {
    /// Where nothing is on it yet.
    pub fn new(parts: &flume::Sender<InHand>) -> Way {
        let on_it = Arc::default();
        Way { parts: parts.clone(), on_it, before: None, held: VecDeque::new() }
    }

    /// Parts that come now go to `parts`.
    pub fn turn(&mut self, parts: &flume::Sender<InHand>) {
        if self.parts.same_channel(parts) {
            return;
        }
        self.parts = parts.clone();
        let was = std::mem::take(&mut self.on_it);
        // Where some are on the way before this one, none has begun this one.
        self.before.get_or_insert(was);
    }

    /// Sends one part, behind those that wait. Answers the parts that cannot be sent any more.
    #[must_use]
    pub fn send(&mut self, part: Part, hand: Hand) -> Vec<Closed> {
        self.held.push_back((part, hand));
        self.pass_on()
    }

    /// Sends the parts that need not wait any more; answers as [`Way::send`] does.
    #[must_use]
    pub fn pass_on(&mut self) -> Vec<Closed> {
        if self.before.as_ref().is_some_and(|on_it| Arc::strong_count(on_it) > 1) {
            return Vec::new();
        }
        self.pass_all()
    }

    /// Sends all parts, whoever comes first; answers as [`Way::send`] does.
    #[must_use]
    pub fn pass_all(&mut self) -> Vec<Closed> {
        self.before = None;
        let mut closed = Vec::new();
        for (part, hand) in self.held.drain(..) {
            let on_way = Arc::clone(&self.on_it);
            if let Err(flume::SendError(left)) = self.parts.send(InHand { part, hand, on_way }) {
                closed.push(Closed { part: left.part, hand: left.hand });
            }
        }
        closed
    }

    /// Whether parts wait for those before them.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether nobody is at its end any more.
    pub fn is_closed(&self) -> bool {
        self.parts.is_disconnected()
    }
}

impl Line {
    /// Sends the parts that have waited for those on another way, and need not any more.
    pub(super) fn pass_parts_on(&mut self, recorder: &Recorder) {
        let closed = self.way.pass_on();
        self.miss_all(closed, recorder);
    }

    /// Sends all parts: the line ends.
    pub(super) fn send_all_parts(&mut self, recorder: &Recorder) {
        let ends = |line: &Line| line.stop.is_set() && !line.stop.all_triggered();
        // It waits for the model, which has a pulse of its own.
        self.pulse.rest();
        while self.way.holds() && !ends(self) {
            thread::sleep(LOOK_AGAIN);
            self.pass_parts_on(recorder);
        }
        let closed = self.way.pass_all();
        self.miss_all(closed, recorder);
    }

    pub(super) fn miss_all(&self, closed: Vec<Closed>, recorder: &Recorder) {
        for Closed { mut part, hand } in closed {
            part.missed = Some(Reason::new("stopped", "The model's thread has ended."));
            self.miss(&part, Some(&hand), recorder);
        }
    }
}
