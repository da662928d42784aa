//! A camera over a moving belt: parts come in from the left, one at a time, and leave to the right.

use std::collections::VecDeque;
use std::sync::Mutex;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::camera::{Exposure, Pose, Rubber, composite};
use super::canvas::{CANVAS_SIDE, Canvas};
use super::part::{Mix, Part, Placing};
use super::truth::Truth;
use super::{Error, PICTURE_SIDE, PIXELS_PER_MM};
use crate::frame::Rgb8;

/// Width of a frame, px.
pub const FRAME_WIDTH: u32 = 640;

/// Height of a frame, px.
pub const FRAME_HEIGHT: u32 = 480;

/// Frames per second.
pub const FRAMES_PER_SECOND: u32 = 30;

/// Upper left corner of the region that shows a centred part as a picture of a set would.
pub const REGION: (u32, u32) =
    ((FRAME_WIDTH - PICTURE_SIDE) / 2, (FRAME_HEIGHT - PICTURE_SIDE) / 2);

/// From one part's centre to the next, px: a frame, a part, and a gap without either.
const SPACING: f32 = 1080.0;

/// How far a part's centre may lie from its place in the row, px.
const UNEVEN: f32 = 30.0;

/// Parts that are kept painted: no frame shows more.
const PAINTED_MAX: usize = 4;

/// A defect's centre keeps this far from a vertical boundary of the 3x3 grid, px: a trigger does
/// not catch a part exactly in the middle.
const CLEARANCE: (f32, f32) = (16.0, 7.0);

/// A part on the belt, and when the camera sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct BeltPart {
    /// Which part, from 0.
    pub index: u32,
    /// The truth of the picture in [`REGION`] at `centred_at_frame`.
    pub truth: Truth,
    /// The first frame that shows some of it.
    pub enters_at_frame: u64,
    /// The frame in which it is nearest to the middle.
    pub centred_at_frame: u64,
    /// The first frame that no longer shows it.
    pub leaves_at_frame: u64,
}

/// How a belt runs that does not run evenly, and how parts lie on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// From one part's centre to the next, px: at least, and at most so much more.
    pub spacing: (f32, f32),
    /// How far the belt has moved at each frame, px; after the last one it stands.
    pub travel: Vec<f64>,
    /// The light at each frame, as a factor; after the last one it stays.
    pub light: Vec<f32>,
}

/// A belt with parts on it, filmed by one camera.
pub struct Belt {
    seed: u64,
    travel_per_frame: f32,
    /// `None`: evenly, and one part in view at a time.
    course: Option<Course>,
    rubber: Rubber,
    exposure: Exposure,
    lies: Vec<Lie>,
    parts: Vec<Part>,
    /// The parts painted last: frames come in order, and each shows few.
    painted: Mutex<VecDeque<(usize, Canvas)>>,
}

/// Where a part lies on the belt.
#[derive(Debug, Clone, Copy)]
struct Lie {
    /// Its centre in frame 0, px; negative: not yet in view.
    start: f32,
    y: f32,
    angle: f32,
}

impl Belt {
    /// A belt with the usual mix of parts. Speed in mm/s, above 0 and at most 1,000.
    pub fn new(seed: u64, parts: u32, speed_mm_per_s: f64) -> Result<Belt, Error> {
        Belt::with_mix(seed, parts, speed_mm_per_s, &Mix::default())
    }

    /// A belt with a mix of parts; `mix.empty` and `mix.crowded` do not apply.
    pub fn with_mix(seed: u64, parts: u32, speed_mm_per_s: f64, mix: &Mix) -> Result<Belt, Error> {
        Belt::laid(seed, parts, speed_mm_per_s, mix, None)
    }

    /// A belt that runs as `course` says; it is at `speed_mm_per_s` in what the truth says of frames.
    pub fn on_course(
        seed: u64,
        parts: u32,
        speed_mm_per_s: f64,
        course: Course,
    ) -> Result<Belt, Error> {
        Belt::laid(seed, parts, speed_mm_per_s, &Mix::default(), Some(course))
    }

    fn laid(
        seed: u64,
        parts: u32,
        speed_mm_per_s: f64,
        mix: &Mix,
        course: Option<Course>,
    ) -> Result<Belt, Error> {
        if !(speed_mm_per_s > 0.0 && speed_mm_per_s <= 1000.0) {
            let expected = "above 0 and at most 1000 mm/s";
            return Err(Error::Option { name: "speed_mm_per_s", value: speed_mm_per_s, expected });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX);
        let rubber = Rubber::roll(&mut rng);
        let exposure = Exposure::roll(&mut rng);
        let mut belt = Belt {
            seed,
            travel_per_frame: speed_mm_per_s as f32 * PIXELS_PER_MM / FRAMES_PER_SECOND as f32,
            course,
            rubber,
            exposure,
            lies: Vec::new(),
            parts: Vec::new(),
            painted: Mutex::default(),
        };
        for index in 0..parts {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(u64::from(index));
            belt.load(&mut rng, mix);
        }
        Ok(belt)
    }

    /// Puts one more part onto the belt.
    fn load(&mut self, rng: &mut impl Rng, mix: &Mix) {
        let number = self.parts.len() as f32;
        let start = match &self.course {
            None => -(CANVAS_SIDE as f32) - number * SPACING - rng.random_range(0.0..UNEVEN),
            Some(course) => {
                let (least, more) = course.spacing;
                let before = self.lies.last().map_or(-(CANVAS_SIDE as f32), |lie| lie.start);
                let gap = least + more * rng.random::<f32>();
                before - if self.lies.is_empty() { 0.0 } else { gap }
            }
        };
        let lie = Lie {
            start,
            y: FRAME_HEIGHT as f32 / 2.0 + rng.random_range(-9.0..9.0),
            angle: rng.random_range(-2.5f32..2.5).to_radians(),
        };
        let pose =
            region_pose(&lie, lie.start + self.travel_per_frame * centred(self, &lie) as f32);
        self.parts.push(Part::roll(rng, mix, &Placing { pose, clearance: CLEARANCE }));
        self.lies.push(lie);
    }

    /// Frames until the last part has left, with an empty belt at the end.
    pub fn frame_count(&self) -> u64 {
        let last = self.lies.last().map_or(0.0, |lie| -lie.start);
        let way = last + FRAME_WIDTH as f32 + CANVAS_SIDE as f32;
        (way / self.travel_per_frame).ceil() as u64
    }

    /// The parts in the order in which they come.
    pub fn truths(&self) -> Vec<BeltPart> {
        let reach = CANVAS_SIDE as f32 / 2.0;
        let frames = |way: f32| (way / self.travel_per_frame).ceil().max(0.0) as u64;
        let part = |(index, (part, lie)): (usize, (&Part, &Lie))| {
            let centred_at_frame = centred(self, lie);
            let pose = region_pose(lie, self.x_at(lie, centred_at_frame));
            BeltPart {
                index: index as u32,
                truth: part.truth(&pose).expect("a belt carries no practice plates"),
                enters_at_frame: frames(-reach - lie.start),
                centred_at_frame,
                leaves_at_frame: frames(FRAME_WIDTH as f32 + reach - lie.start),
            }
        };
        self.parts.iter().zip(&self.lies).enumerate().map(part).collect()
    }

    /// Frame `index`, 640x480. Frames may be asked for in any order; in sequence is fastest.
    pub fn frame(&self, index: u64) -> Rgb8 {
        let travel = self.travel(index).max(0.0) as usize;
        let (width, height) = (FRAME_WIDTH as usize, FRAME_HEIGHT as usize);
        let mut film = self.rubber.film(width, height, travel, false);
        let reach = CANVAS_SIDE as f32 / 2.0 + 12.0;
        let in_view =
            |lie: &Lie| (-reach..FRAME_WIDTH as f32 + reach).contains(&self.x_at(lie, index));
        let mut painted = self.painted.lock().unwrap_or_else(|e| e.into_inner());
        for (number, lie) in self.lies.iter().enumerate().filter(|(_, lie)| in_view(lie)) {
            let pose = Pose { x: self.x_at(lie, index), y: lie.y, angle: lie.angle, scale: 1.0 };
            if !painted.iter().any(|(at, _)| *at == number) {
                painted.push_back((number, self.parts[number].paint()));
            }
            while painted.len() > PAINTED_MAX {
                painted.pop_front();
            }
            if let Some((_, canvas)) = painted.iter().find(|(at, _)| *at == number) {
                composite(canvas, &mut film, &pose);
            }
        }
        if let Some(light) = self.course.as_ref().and_then(|course| last_of(&course.light, index)) {
            film.pixels.iter_mut().flatten().for_each(|level| *level *= light);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x6e01_5e00);
        rng.set_stream(index);
        self.exposure.develop(&mut film, (rng.random_range(0..512), rng.random_range(0..512)))
    }

    /// A part's centre in a frame, px.
    fn x_at(&self, lie: &Lie, frame: u64) -> f32 {
        (f64::from(lie.start) + self.travel(frame)) as f32
    }

    /// How far the belt has moved at a frame, px.
    fn travel(&self, frame: u64) -> f64 {
        match &self.course {
            Some(course) => last_of(&course.travel, frame).unwrap_or(0.0),
            None => frame as f64 * f64::from(self.travel_per_frame),
        }
    }

    /// How far each part's centre is from the middle of a frame, px.
    pub fn offsets(&self, frame: u64) -> Vec<f32> {
        let offset = |lie: &Lie| self.x_at(lie, frame) - FRAME_WIDTH as f32 / 2.0;
        self.lies.iter().map(offset).collect()
    }
}

/// What is said for a frame, or for the last one of which anything is.
fn last_of<N: Copy>(each: &[N], frame: u64) -> Option<N> {
    each.get(frame as usize).or(each.last()).copied()
}

/// The frame in which a part is nearest to the middle.
fn centred(belt: &Belt, lie: &Lie) -> u64 {
    ((FRAME_WIDTH as f32 / 2.0 - lie.start) / belt.travel_per_frame).round() as u64
}

/// A part's pose in [`REGION`] when its centre is at `x` in the frame.
fn region_pose(lie: &Lie, x: f32) -> Pose {
    Pose { x: x - REGION.0 as f32, y: lie.y - REGION.1 as f32, angle: lie.angle, scale: 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belt() -> Belt {
        Belt::new(5, 3, 300.0).unwrap()
    }

    /// Mean of the green channel over the whole frame.
    fn brightness(frame: &Rgb8) -> f32 {
        let sum: u64 = frame.data.chunks_exact(3).map(|p| u64::from(p[1])).sum();
        sum as f32 / (frame.data.len() / 3) as f32
    }

    #[test]
    fn parts_come_one_at_a_time_with_an_empty_belt_between() {
        let belt = belt();
        let parts = belt.truths();
        assert_eq!(parts.len(), 3);
        for part in &parts {
            assert!(part.enters_at_frame < part.centred_at_frame);
            assert!(part.centred_at_frame < part.leaves_at_frame);
        }
        for pair in parts.windows(2) {
            assert!(pair[0].leaves_at_frame < pair[1].enters_at_frame);
            let gap = brightness(&belt.frame(pair[0].leaves_at_frame));
            let full = brightness(&belt.frame(pair[0].centred_at_frame));
            assert!(full > gap + 15.0, "a part of {full} on a belt of {gap}");
        }
        assert!(parts[2].leaves_at_frame < belt.frame_count());
    }

    #[test]
    fn a_centred_part_lies_in_the_region_as_on_a_picture() {
        let belt = belt();
        for part in belt.truths() {
            let frame = belt.frame(part.centred_at_frame);
            let green =
                |x: u32, y: u32| u32::from(frame.data[((y * FRAME_WIDTH + x) * 3 + 1) as usize]);
            // The plate's four sides are some 18 px inside the region; 30 px outside it is belt.
            let (left, upper) = REGION;
            let (right, lower) = (left + PICTURE_SIDE, upper + PICTURE_SIDE);
            let (cx, cy) = (FRAME_WIDTH / 2, FRAME_HEIGHT / 2);
            for (inside, outside) in [
                ((left + 40, cy + 90), (left - 30, cy)),
                ((right - 40, cy + 90), (right + 30, cy)),
                ((cx, upper + 36), (cx, upper - 30)),
                ((cx, lower - 36), (cx, lower + 30)),
            ] {
                assert!(green(inside.0, inside.1) > green(outside.0, outside.1) + 20);
            }
        }
    }

    #[test]
    fn frames_do_not_depend_on_their_order() {
        let (a, b) = (belt(), belt());
        let late = a.truths()[2].centred_at_frame;
        let first = a.frame(late);
        let _ = b.frame(b.truths()[0].centred_at_frame);
        assert_eq!(first.data, b.frame(late).data);
        assert_eq!(a.truths(), b.truths());
    }

    #[test]
    fn an_impossible_speed_is_refused() {
        assert!(Belt::new(1, 1, 0.0).is_err());
        assert!(Belt::new(1, 1, f64::NAN).is_err());
    }
}
