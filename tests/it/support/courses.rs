//! Belts that do not run evenly, and what a trigger makes of them. Beside the tests, which draw such belts,
//! `examples/triggers.rs` uses it, which films them with the simulated camera.

use std::sync::Arc;

use inspectd::clock::Stamp;
use inspectd::frame::{Frame, Picture};
use inspectd::simulate::PIXELS_PER_MM;
use inspectd::simulate::belt::{Course, FRAMES_PER_SECOND};
use inspectd::trigger::{Event, Options, PresenceOptions, Trigger};

/// Farthest from the middle that a part may be inspected, px of 640: the presence trigger's own tolerance,
/// and a cell of its strip.
const TOLERANCE_PX: f32 = 0.12 * 640.0 + 4.0;

/// What is not as usual on a belt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One part in view at a time.
    Usual,
    /// Parts follow each other so closely that two are in view at a time.
    TwoInView,
    /// The gap between two parts is hardly wider than the shortest that a trigger is set up for.
    NarrowGaps,
    /// The belt stops every now and then, wherever parts are, and goes on.
    Stops,
    /// The belt goes back a little every now and then, and on again.
    GoesBack,
    /// The light fades and comes back, by a third.
    LightDrifts,
    /// One frame in six is lost.
    LostFrames,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 7] = [
        Scenario::Usual,
        Scenario::TwoInView,
        Scenario::NarrowGaps,
        Scenario::Stops,
        Scenario::GoesBack,
        Scenario::LightDrifts,
        Scenario::LostFrames,
    ];

    /// From centre to centre, px, and how much more at most. A plate is about 300 px long.
    fn spacing(self) -> (f32, f32) {
        match self {
            Scenario::TwoInView => (400.0, 90.0),
            Scenario::NarrowGaps => (334.0, 12.0),
            Scenario::Stops | Scenario::GoesBack => (480.0, 160.0),
            Scenario::Usual | Scenario::LightDrifts | Scenario::LostFrames => (700.0, 200.0),
        }
    }

    /// How a belt of `parts` parts runs, in frames of 640 px and 3 px a millimetre.
    pub fn course(self, seed: u64, parts: u32, speed_mm_per_s: f64) -> Course {
        let step = speed_mm_per_s * f64::from(PIXELS_PER_MM) / f64::from(FRAMES_PER_SECOND);
        let (least, more) = self.spacing();
        let end = f64::from(parts) * f64::from(least + more) + 1400.0;
        let mut travel = vec![0.0];
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut until_next = 40.0;
        while travel.last().is_some_and(|at| *at < end) {
            let at = travel.last().copied().unwrap_or(0.0);
            if at < until_next {
                travel.push(at + step);
                continue;
            }
            until_next = at + 200.0 + roll(500) as f64;
            match self {
                // Half a second to three, with a belt that slows down and gathers speed.
                Scenario::Stops => {
                    let slow = [0.7, 0.4, 0.15];
                    slow.iter().for_each(|share| push(&mut travel, step * share));
                    (0..15 + roll(75)).for_each(|_| push(&mut travel, 0.0));
                    slow.iter().rev().for_each(|share| push(&mut travel, step * share));
                }
                // Up to 60 px, as a belt does that is stopped and started anew.
                Scenario::GoesBack => {
                    let back = 10.0 + roll(50) as f64;
                    push(&mut travel, step * 0.3);
                    (0..4).for_each(|_| push(&mut travel, -back / 4.0));
                    (0..5 + roll(10)).for_each(|_| push(&mut travel, 0.0));
                    push(&mut travel, step * 0.3);
                }
                _ => travel.push(at + step),
            }
        }
        let frames = travel.len() as u64;
        let light = match self {
            Scenario::LightDrifts => {
                (0..frames).map(|i| 0.85 + 0.15 * (i as f32 / 60.0).cos()).collect()
            }
            _ => vec![1.0],
        };
        Course { spacing: self.spacing(), travel, light }
    }
}

fn push(travel: &mut Vec<f64>, by: f64) {
    let at = travel.last().copied().unwrap_or(0.0);
    travel.push(at + by);
}

/// What became of the parts of some belts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Parts on the belt.
    pub parts: usize,
    /// Parts that were inspected.
    pub found: usize,
    /// Parts that were recorded as missed, and not inspected: `review`.
    pub missed: usize,
    /// Parts of which there is no record.
    pub lost: usize,
    /// Records beyond the first of a part.
    pub doubled: usize,
    /// Inspections of a picture in which no part is near the middle.
    pub wrong: usize,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, more: Count) {
        self.parts += more.parts;
        self.found += more.found;
        self.missed += more.missed;
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.wrong += more.wrong;
    }
}

/// Shows the presence trigger a belt of `frames` frames. `film`: what a frame shows; `offsets`: how far each
/// part is from the middle then, px of 640.
pub fn count(
    scenario: Scenario,
    seed: u64,
    frames: usize,
    options: &PresenceOptions,
    film: impl Fn(u64) -> Picture,
    offsets: impl Fn(u64) -> Vec<f32>,
) -> Count {
    let options = Options::Presence(options.clone());
    let mut trigger = Trigger::new(&options).expect("good options");
    let mut events = Vec::new();
    for index in 0..frames as u64 {
        let is_lost = scenario == Scenario::LostFrames && (index * 7 + seed).is_multiple_of(6);
        if !is_lost {
            events.extend(trigger.see(&as_frame(index, film(index))));
        }
    }
    let parts = offsets(0).len();
    events.extend(trigger.interrupt("the belt ended"));
    let (mut inspected, mut missed) = (vec![0; parts], vec![0; parts]);
    let mut wrong = 0;
    for event in &events {
        let (Event::Inspect { frame, .. } | Event::Missed { frame, .. }) = event;
        let offsets = offsets(frame.sequence - 1);
        let nearest = |is_asked: &dyn Fn(usize) -> bool| {
            let asked = (0..parts).filter(|part| is_asked(*part));
            asked.min_by(|a, b| offsets[*a].abs().total_cmp(&offsets[*b].abs()))
        };
        let shown = nearest(&|_| true).expect("there are parts");
        // What is missed may have a part beside it that is nearer to the middle, and was told before.
        let is_open =
            |part: usize| inspected[part] + missed[part] == 0 && is_in_view(offsets[part]);
        let open = nearest(&is_open).unwrap_or(shown);
        match event {
            Event::Inspect { .. } if offsets[shown].abs() > TOLERANCE_PX => wrong += 1,
            Event::Inspect { .. } => inspected[shown] += 1,
            Event::Missed { .. } => missed[open] += 1,
        }
        if std::env::var_os("TRIGGERS_VERBOSE").is_some() {
            eprintln!("{scenario:?} seed {seed}: {offsets:.0?}: {event:?}");
        }
    }
    let told = |part: &usize| (inspected[*part], missed[*part]);
    let all = 0..parts;
    Count {
        parts,
        found: all.clone().filter(|part| told(part).0 > 0).count(),
        missed: all.clone().filter(|part| told(part).0 == 0 && told(part).1 > 0).count(),
        lost: all.clone().filter(|part| told(part) == (0, 0)).count(),
        doubled: all.map(|part| (inspected[part] + missed[part]).max(1) - 1).sum(),
        wrong,
    }
}

/// Whether any of a part can be in a frame in which its centre is so far from the middle.
fn is_in_view(offset: f32) -> bool {
    offset.abs() < 320.0 + 164.0
}

/// Frame `index`, as a camera of 30 frames a second delivers it.
pub fn as_frame(index: u64, picture: Picture) -> Arc<Frame> {
    let sequence = index + 1;
    let monotonic_ns = sequence * 1_000_000_000 / u64::from(FRAMES_PER_SECOND);
    let captured = Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns };
    Arc::new(Frame { sequence, camera: "belt".into(), captured, pipeline_ns: None, picture })
}
