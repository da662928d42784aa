//! Pictures for parts that a photo eye has seen: each gets the frame nearest to the moment at which it
//! is before the camera, or is given back when there is none.
//!
//! ```text
//! edge ─debounce→ front ─apart→ part ─delay | pulses→ due moment ─frames→ Seen::Part | Seen::Missed
//! ```
//!
//! Nothing here reads a clock or a line: edges bring the kernel's times, frames theirs, and both are
//! the monotonic clock's. What always holds:
//!
//! 1. Each front that is no bounce and not of the part before it is one part, named at its front, and
//!    comes back once: in order, with a frame, or with the reason why there is none.
//! 2. Parts on the way are bounded, and so are the frames that each keeps.
//! 3. What may have been missed (edges that the kernel dropped, a chip that is gone, an encoder that
//!    stands still while parts wait) is told.

mod debounce;
mod options;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Shot;
use super::burst::{Burst, Focus};
use crate::frame::Frame;
use debounce::{Debounce, Front};
pub use options::{EncoderOptions, PARTS_MAX, PhotoEyeOptions, Pull, Way};

/// An edge may reach us so long after it was made, as the thread that reads it has to wake.
const HEARD_NS: u64 = 20_000_000;

/// And a frame so long after the moment that it is stamped with.
const SHOWN_NS: u64 = 250_000_000;

/// Edges that were lost are told of so often at most: a reader that is too slow stays too slow.
const LOST_TOLD_NS: u64 = 1_000_000_000;

/// Most frames that are kept for parts of which nobody has heard yet.
const RECENT_MAX: usize = 8;

/// Which of the two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// The photo eye's.
    Eye,
    /// The encoder's.
    Encoder,
}

/// An edge as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// On which line.
    pub wire: Wire,
    /// The line rose; else it fell.
    pub is_rising: bool,
    /// When, by the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// Counts the line's edges from 1 since it was opened, those that nobody read in time, too.
    pub sequence: u32,
}

/// What comes from the lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// They were opened, or opened again; edges count anew.
    Opened,
    /// An edge.
    Edge(Edge),
    /// They tell nothing any more, and why.
    Failed(String),
}

/// What became of a part.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// Inspect it.
    Part {
        /// What it was named at the eye.
        part: T,
        /// The frame that shows it.
        shot: Shot,
        /// When it was before the camera, by the clock of frames' arrival.
        due_ns: u64,
    },
    /// It must be recorded and cannot be judged.
    Missed {
        /// What it was named at the eye.
        part: T,
        /// When it was due, or at the eye where that is not known.
        at_ns: u64,
        /// Why, as a word.
        code: &'static str,
        /// Why.
        text: String,
    },
    /// Parts may have gone by of which nothing is known.
    Unknown {
        /// Why, as a word.
        code: &'static str,
        /// Why.
        text: String,
    },
}

/// A part between eye and camera.
#[derive(Debug)]
struct OnWay<T> {
    part: T,
    front: Front,
    due: Option<Due>,
}

#[derive(Debug)]
struct Due {
    at_ns: u64,
    burst: Burst,
    is_complete: bool,
}

/// The eye of one station. `name`, wherever it is asked for, gives a part its identity: it is called
/// once for each, in the order in which they were at the eye, with the time of the part's front.
#[derive(Debug)]
pub struct PhotoEye<T> {
    options: PhotoEyeOptions,
    focus: Focus,
    level: Debounce,
    eye_edges: u32,
    encoder_edges: u32,
    pulses: u64,
    last_pulse_ns: Option<u64>,
    /// When pulses were lost, from the one before to the one after: what was counted meanwhile is wrong.
    gap_ns: (u64, u64),
    /// No stillness counts before.
    still_since_ns: u64,
    /// The front of the last part.
    last: Option<Front>,
    /// Fronts that were taken for the same part since then.
    merged: u32,
    way: VecDeque<OnWay<T>>,
    recent: VecDeque<Arc<Frame>>,
    /// Edges of the eye and of the encoder that were lost and not told of yet.
    lost: (u32, u32),
    lost_told_ns: Option<u64>,
    failed: Option<String>,
    still: Option<String>,
}

impl<T> PhotoEye<T> {
    /// An eye that has seen nothing. Where there is a choice of frames they are compared in `focus`.
    pub fn new(options: PhotoEyeOptions, focus: Focus) -> PhotoEye<T> {
        let debounce_ns = nanos(options.debounce);
        PhotoEye {
            options,
            focus,
            level: Debounce::new(debounce_ns),
            eye_edges: 0,
            encoder_edges: 0,
            pulses: 0,
            last_pulse_ns: None,
            gap_ns: (0, 0),
            still_since_ns: 0,
            last: None,
            merged: 0,
            way: VecDeque::new(),
            recent: VecDeque::new(),
            lost: (0, 0),
            lost_told_ns: None,
            failed: None,
            still: None,
        }
    }

    /// Frames are compared in another focus from now on.
    pub fn refocus(&mut self, focus: Focus) {
        self.focus = focus;
    }

    /// Why no part can be seen or followed now, if none can.
    pub fn trouble(&self) -> Option<&str> {
        self.failed.as_deref().or(self.still.as_deref())
    }

    /// Takes what came from the lines.
    pub fn hear(&mut self, signal: Signal, mut name: impl FnMut(u64) -> T) -> Vec<Seen<T>> {
        let mut seen = Vec::new();
        match signal {
            Signal::Opened => {
                (self.eye_edges, self.encoder_edges) = (0, 0);
                self.failed = None;
            }
            Signal::Failed(why) => self.fail(why, &mut seen),
            Signal::Edge(edge) => {
                // They come in order: what has held until now counts.
                let held = self.level.pass(edge.at_ns);
                self.arrive(held, edge.at_ns, &mut name, &mut seen);
                match edge.wire {
                    Wire::Eye => self.hear_eye(edge, &mut name, &mut seen),
                    Wire::Encoder => self.hear_pulse(edge, &mut seen),
                }
            }
        }
        seen
    }

    /// Looks at the next frame.
    pub fn see(&mut self, frame: &Arc<Frame>) -> Vec<Seen<T>> {
        for on_way in &mut self.way {
            if let Some(due) = &mut on_way.due {
                due.offer(frame, &self.options, &self.focus);
            }
        }
        self.recent.push_back(Arc::clone(frame));
        let needed_ns = self.needed_ns(frame.captured.monotonic_ns);
        let is_over = |old: &Arc<Frame>| old.captured.monotonic_ns < needed_ns;
        while self.recent.len() > RECENT_MAX || self.recent.front().is_some_and(is_over) {
            self.recent.pop_front();
        }
        let mut seen = Vec::new();
        self.settle(0, &mut seen);
        seen
    }

    /// It is `now_ns` by the monotonic clock. `stands`: the line is known to stand, so that a belt
    /// without a pulse is none that fails.
    pub fn pass_time(
        &mut self,
        now_ns: u64,
        stands: bool,
        mut name: impl FnMut(u64) -> T,
    ) -> Vec<Seen<T>> {
        let mut seen = Vec::new();
        let heard_ns = now_ns.saturating_sub(HEARD_NS);
        let held = self.level.pass(heard_ns);
        self.arrive(held, heard_ns, &mut name, &mut seen);
        if stands {
            self.still_since_ns = now_ns;
        }
        self.give_up_still(now_ns, &mut seen);
        self.tell_lost(now_ns, &mut seen);
        self.settle(now_ns, &mut seen);
        seen
    }

    /// No frame will come any more: all that are on their way.
    pub fn give_up(&mut self) -> Vec<T> {
        self.way.drain(..).map(|on_way| on_way.part).collect()
    }

    fn hear_eye(&mut self, edge: Edge, name: &mut impl FnMut(u64) -> T, seen: &mut Vec<Seen<T>>) {
        let lost = missing(&mut self.eye_edges, edge.sequence);
        if lost > 0 {
            self.level.forget();
            self.lost.0 = self.lost.0.saturating_add(lost);
            self.tell_lost(edge.at_ns, seen);
        }
        let front = Front { at_ns: edge.at_ns, pulses: self.pulses };
        let held = self.level.edge(edge.is_rising == self.options.is_rising, front);
        self.arrive(held, edge.at_ns, name, seen);
    }

    fn hear_pulse(&mut self, edge: Edge, seen: &mut Vec<Seen<T>>) {
        let Way::Encoder(encoder) = &self.options.way else { return };
        let needed = encoder.pulses(encoder.distance_mm);
        let lost = missing(&mut self.encoder_edges, edge.sequence);
        let before_ns = self.last_pulse_ns.replace(edge.at_ns).unwrap_or(0);
        self.still = None;
        self.pulses += u64::from(lost);
        if lost > 0 {
            self.gap_ns = (before_ns, edge.at_ns);
            let pulses = self.pulses;
            // Where it was meanwhile, or when it was due, is not known.
            let is_doubtful = |on_way: &OnWay<T>| {
                on_way.due.is_none()
                    && (on_way.front.at_ns > before_ns || on_way.front.pulses + needed <= pulses)
            };
            let text = "Pulses of the encoder were lost: when it was due is not known.";
            self.give_back("edges_lost", text, is_doubtful, seen);
            self.lost.1 = self.lost.1.saturating_add(lost);
            self.tell_lost(edge.at_ns, seen);
        }
        self.pulses += 1;
        for on_way in &mut self.way {
            if on_way.due.is_none() && on_way.front.pulses + needed <= self.pulses {
                let due_ns = edge.at_ns.saturating_add(nanos(self.options.camera_latency));
                on_way.due = Some(Due::new(due_ns, &self.recent, &self.options, &self.focus));
            }
        }
    }

    /// A part's front counts, as is known when all edges up to `known_ns` are.
    fn arrive(
        &mut self,
        front: Option<Front>,
        known_ns: u64,
        name: &mut impl FnMut(u64) -> T,
        seen: &mut Vec<Seen<T>>,
    ) {
        let Some(front) = front else { return };
        if self.is_same_part(front) {
            self.merged = self.merged.saturating_add(1);
            return;
        }
        (self.last, self.merged) = (Some(front), 0);
        let (part, at_ns) = (name(front.at_ns), front.at_ns);
        let count = self.way.len();
        if count >= self.options.parts_max {
            let text = format!("{count} parts were between the photo eye and the camera already.");
            return seen.push(Seen::Missed { part, at_ns, code: "queue_full", text });
        }
        if (self.gap_ns.0.saturating_add(1)..self.gap_ns.1).contains(&at_ns) {
            let text = "Pulses of the encoder were lost while it was at the photo eye.".to_owned();
            return seen.push(Seen::Missed { part, at_ns, code: "edges_lost", text });
        }
        let latency_ns = nanos(self.options.camera_latency);
        let due_ns = self.due_ns(front, known_ns).map(|ns| ns.saturating_add(latency_ns));
        let due = due_ns.map(|ns| Due::new(ns, &self.recent, &self.options, &self.focus));
        self.way.push_back(OnWay { part, front, due });
    }

    fn is_same_part(&self, front: Front) -> bool {
        let Some(last) = self.last else { return false };
        match &self.options.way {
            Way::Time { apart, .. } => front.at_ns.saturating_sub(last.at_ns) < nanos(*apart),
            Way::Encoder(encoder) => {
                front.pulses.saturating_sub(last.pulses) < encoder.pulses(encoder.apart_mm)
            }
        }
    }

    /// When a part is before the camera, if that is known already.
    fn due_ns(&self, front: Front, known_ns: u64) -> Option<u64> {
        match &self.options.way {
            Way::Time { delay, .. } => Some(front.at_ns.saturating_add(nanos(*delay))),
            Way::Encoder(encoder) => {
                let needed = encoder.pulses(encoder.distance_mm);
                let counted = self.pulses.saturating_sub(front.pulses);
                // It went by while its front was held to be a bounce: the belt ran evenly for so short.
                (counted >= needed).then(|| {
                    let held_ns = known_ns.saturating_sub(front.at_ns);
                    let share = needed as f64 / counted.max(1) as f64;
                    front.at_ns.saturating_add((held_ns as f64 * share) as u64)
                })
            }
        }
    }

    /// Frames from before this moment serve no part that is not known yet.
    fn needed_ns(&self, newest_ns: u64) -> u64 {
        let unheard_ns = HEARD_NS.saturating_add(nanos(self.options.debounce));
        let delay_ns = match &self.options.way {
            Way::Time { delay, .. } => nanos(*delay),
            Way::Encoder(_) => 0,
        };
        let latency_ns = nanos(self.options.camera_latency);
        let first_ns = newest_ns.saturating_add(delay_ns).saturating_add(latency_ns);
        first_ns.saturating_sub(unheard_ns.saturating_add(nanos(self.options.frame_within)))
    }

    /// Answers the parts whose frames are there, the first one first; at `now_ns` those whose frames
    /// will not come either.
    fn settle(&mut self, now_ns: u64, seen: &mut Vec<Seen<T>>) {
        let within_ns = nanos(self.options.frame_within);
        let is_over = |due: &Due| now_ns > due.at_ns.saturating_add(within_ns + SHOWN_NS);
        let is_settled = |due: &Due| due.is_complete || is_over(due);
        while self.way.front().and_then(|next| next.due.as_ref()).is_some_and(is_settled) {
            let Some(OnWay { part, due: Some(due), .. }) = self.way.pop_front() else { return };
            seen.push(match due.burst.choose() {
                Some(shot) => Seen::Part { part, shot, due_ns: due.at_ns },
                None => {
                    let ms = self.options.frame_within.as_millis();
                    let text = format!(
                        "No picture was taken within {ms} ms of the moment at which the part was due."
                    );
                    Seen::Missed { part, at_ns: due.at_ns, code: "frame_lost", text }
                }
            });
        }
    }

    /// Gives up the parts that wait for an encoder that stands still.
    fn give_up_still(&mut self, now_ns: u64, seen: &mut Vec<Seen<T>>) {
        let Way::Encoder(encoder) = &self.options.way else { return };
        let Some(first) = self.way.iter().find(|on_way| on_way.due.is_none()) else { return };
        let last_ns = self.last_pulse_ns.unwrap_or(0);
        let since_ns = last_ns.max(first.front.at_ns).max(self.still_since_ns);
        if now_ns.saturating_sub(since_ns) <= nanos(encoder.still) {
            return;
        }
        let how = match self.last_pulse_ns {
            Some(_) => format!("gave no pulse for {} ms", encoder.still.as_millis()),
            None => "has never given a pulse".to_owned(),
        };
        let more = match self.merged {
            0 => String::new(),
            merged => {
                format!(" {merged} more fronts came meanwhile, which may be parts of their own.")
            }
        };
        let text = format!("The encoder {how} while parts were on their way.{more}");
        self.give_back("encoder_still", &text, |on_way| on_way.due.is_none(), seen);
        self.still = Some(text);
        // What comes next is a part of its own, wherever the belt is.
        self.last = None;
    }

    fn tell_lost(&mut self, now_ns: u64, seen: &mut Vec<Seen<T>>) {
        let told_ns = self.lost_told_ns.map_or(0, |told| told.saturating_add(LOST_TOLD_NS));
        if self.lost == (0, 0) || now_ns < told_ns {
            return;
        }
        let (eye, encoder) = std::mem::take(&mut self.lost);
        self.lost_told_ns = Some(now_ns);
        let text = format!(
            "Edges were lost before they were read: {eye} of the photo eye, {encoder} of the encoder."
        );
        seen.push(Seen::Unknown { code: "edges_lost", text });
    }

    fn fail(&mut self, why: String, seen: &mut Vec<Seen<T>>) {
        let text = format!("The lines of the photo eye tell nothing any more: {why}.");
        self.level.forget();
        self.last = None;
        // Those whose moment is known are served all the same.
        self.give_back("trigger_failed", &text, |on_way| on_way.due.is_none(), seen);
        if self.failed.replace(why).is_none() {
            seen.push(Seen::Unknown { code: "trigger_failed", text });
        }
    }

    /// Gives back the parts that are so, each as missed.
    fn give_back(
        &mut self,
        code: &'static str,
        text: &str,
        is_so: impl Fn(&OnWay<T>) -> bool,
        seen: &mut Vec<Seen<T>>,
    ) {
        let (back, stay) = self.way.drain(..).partition(is_so);
        self.way = stay;
        let back: VecDeque<OnWay<T>> = back;
        for OnWay { part, front, .. } in back {
            let text = text.to_owned();
            seen.push(Seen::Missed { part, at_ns: front.at_ns, code, text });
        }
    }
}

impl Due {
    fn new(
        at_ns: u64,
        recent: &VecDeque<Arc<Frame>>,
        options: &PhotoEyeOptions,
        focus: &Focus,
    ) -> Due {
        let burst = Burst::new(options.burst_frames);
        let mut due = Due { at_ns, burst, is_complete: false };
        recent.iter().for_each(|frame| due.offer(frame, options, focus));
        due
    }

    /// Takes the next frame, if it is near enough; then looks whether a later one could be nearer.
    fn offer(&mut self, frame: &Arc<Frame>, options: &PhotoEyeOptions, focus: &Focus) {
        if self.is_complete {
            return;
        }
        let shown_ns = frame.captured.monotonic_ns;
        let off_ns = shown_ns.abs_diff(self.at_ns);
        let is_near = off_ns <= nanos(options.frame_within);
        let is_kept = is_near && self.burst.offer(off_ns as f64, frame, || focus.rect_in(frame));
        let is_later = |frame: &Arc<Frame>| frame.captured.monotonic_ns >= self.at_ns;
        self.is_complete = shown_ns >= self.at_ns
            && (!is_kept || self.burst.is_full() && self.burst.farthest().is_some_and(is_later));
    }
}

/// How many numbers are missing before `sequence`, which counts from 1 on.
fn missing(known: &mut u32, sequence: u32) -> u32 {
    let before = std::mem::replace(known, sequence);
    sequence.wrapping_sub(before).wrapping_sub(1)
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
