//! Where the part lies: a fiducial, an edge or a printed mark is looked for near its place, and the
//! regions move with it.
//!
//! The likeness of two grey pictures is their normalised cross-correlation: 1 for the same picture in
//! any light, 0 for one that has nothing to do with it. It is computed in quarter size over the whole
//! search and then in full size around the best place, where a parabola through the neighbours tells
//! the place to a part of a pixel. Regions move by whole pixels; turns are not followed.

use super::CalibrationError;
use crate::frame::Rgb8;
use crate::roi::RectPx;

/// A fiducial may have this many pixels a side: more costs time and tells nothing new.
pub const SIDE_MAX_PX: u32 = 256;
/// And must have this many.
pub const SIDE_MIN_PX: u32 = 16;
/// It is looked for at most so far from its place, in pixels.
pub const SEARCH_MAX_PX: u32 = 128;
/// How much smaller the first search is.
const COARSE: usize = 4;
/// The grey values of a fiducial must deviate so much from their mean: an even area fits everywhere.
const CONTRAST_MIN: f32 = 8.0;

/// A grey picture.
#[derive(Clone, PartialEq)]
pub struct Grey {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

/// Prints the size, not the values.
impl std::fmt::Debug for Grey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grey({}x{})", self.width, self.height)
    }
}

/// A fiducial and where it is expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Fiducial {
    /// Where it lies on the reference picture, in pixels of the corrected frame.
    pub rect: RectPx,
    /// How far from there it is looked for, in pixels.
    pub search_px: u32,
    /// The least likeness that counts as found, 0 to 1.
    pub likeness_min: f64,
    picture: Grey,
}

/// Where a fiducial was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// To the right of its place, in pixels.
    pub x: f64,
    /// Below its place, in pixels.
    pub y: f64,
    /// How much it looks like the reference, -1 to 1.
    pub likeness: f64,
}

/// Why the part's place is not known.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Lost {
    /// Nothing looks like the fiducial.
    #[error(
        "The fiducial was not found: the best place within {search_px} px is {likeness:.2} like it, \
         {likeness_min:.2} are needed."
    )]
    Unlike {
        /// How far was looked.
        search_px: u32,
        /// The best likeness.
        likeness: f64,
        /// What is needed.
        likeness_min: f64,
    },
    /// The best place is at the edge of the search: the true one may lie beyond.
    #[error("The part lies {search_px} px or more from its place, further than it is looked for.")]
    Far {
        /// How far was looked.
        search_px: u32,
    },
}

impl Grey {
    /// The grey of a picture: 0.299 red, 0.587 green, 0.114 blue.
    pub fn of(picture: &Rgb8) -> Grey {
        let grey =
            |p: &[u8]| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
        Grey {
            width: picture.width as usize,
            height: picture.height as usize,
            values: picture.data.chunks_exact(3).map(grey).collect(),
        }
    }

    /// Each `by` × `by` pixels become one; what is left over at the right and below is dropped.
    fn smaller(&self, by: usize) -> Grey {
        let (width, height) = (self.width / by, self.height / by);
        let mean = |x: usize, y: usize| {
            let line = |dy: usize| {
                let at = (y * by + dy) * self.width + x * by;
                self.values[at..at + by].iter().sum::<f32>()
            };
            (0..by).map(line).sum::<f32>() / (by * by) as f32
        };
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Grey { width, height, values: values.map(|(x, y)| mean(x, y)).collect() }
    }

    fn deviation(&self) -> f32 {
        let mean = self.values.iter().sum::<f32>() / self.values.len() as f32;
        let square = self.values.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
        (square / self.values.len() as f32).sqrt()
    }

    /// Likeness of `small` with what lies at (x, y).
    fn likeness(&self, small: &Grey, x: usize, y: usize) -> f64 {
        let (mut own, mut others, mut own2, mut others2, mut both) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for row in 0..small.height {
            let at = (y + row) * self.width + x;
            let line = &self.values[at..at + small.width];
            let other = &small.values[row * small.width..(row + 1) * small.width];
            let mut sums = [0.0f32; 5];
            for (a, b) in line.iter().zip(other) {
                let each = [*a, *b, a * a, b * b, a * b];
                (0..5).for_each(|i| sums[i] += each[i]);
            }
            own += f64::from(sums[0]);
            others += f64::from(sums[1]);
            own2 += f64::from(sums[2]);
            others2 += f64::from(sums[3]);
            both += f64::from(sums[4]);
        }
        let count = small.values.len() as f64;
        let spread = (own2 - own * own / count) * (others2 - others * others / count);
        // An even area is like nothing.
        if spread <= 1e-3 { 0.0 } else { (both - own * others / count) / spread.sqrt() }
    }

    /// The best place of `small` among `xs` and `ys`.
    fn best(
        &self,
        small: &Grey,
        xs: std::ops::Range<usize>,
        ys: std::ops::Range<usize>,
    ) -> (usize, usize, f64) {
        let mut best = (xs.start, ys.start, f64::MIN);
        for y in ys {
            for x in xs.clone() {
                let likeness = self.likeness(small, x, y);
                if likeness > best.2 {
                    best = (x, y, likeness);
                }
            }
        }
        best
    }
}

impl Fiducial {
    /// The fiducial that `picture` shows, which was cut at `rect`.
    ///
    /// # Errors
    /// Sizes beyond the limits, an area without contrast.
    pub fn new(
        picture: &Rgb8,
        rect: RectPx,
        search_px: u32,
        likeness_min: f64,
    ) -> Result<Fiducial, CalibrationError> {
        let refuse = |why: String| Err(CalibrationError::Asked(why));
        let is_side = |side: &u32| (SIDE_MIN_PX..=SIDE_MAX_PX).contains(side);
        if !is_side(&rect.width) || !is_side(&rect.height) {
            return refuse(format!(
                "the fiducial is {}x{} px: each side must have {SIDE_MIN_PX} to {SIDE_MAX_PX}",
                rect.width, rect.height
            ));
        }
        if [picture.width, picture.height] != [rect.width, rect.height] {
            return refuse("the fiducial's picture has not the size of its place".to_owned());
        }
        if !(1..=SEARCH_MAX_PX).contains(&search_px) || !(0.0..=1.0).contains(&likeness_min) {
            return refuse(format!(
                "a fiducial is looked for within 1 to {SEARCH_MAX_PX} px, with a likeness of 0 to 1"
            ));
        }
        let picture = Grey::of(picture);
        if picture.deviation() < CONTRAST_MIN {
            return refuse(
                "the fiducial is an even area, which fits everywhere: choose one with an edge or a mark \
                 in both directions"
                    .to_owned(),
            );
        }
        Ok(Fiducial { rect, search_px, likeness_min, picture })
    }

    /// The area that is searched, cut at the edges of a frame of `frame_px`.
    pub fn area(&self, frame_px: [u32; 2]) -> RectPx {
        let (rect, by) = (self.rect, self.search_px);
        let (x, y) = (rect.x.saturating_sub(by), rect.y.saturating_sub(by));
        let right = (rect.x + rect.width + by).min(frame_px[0]);
        let bottom = (rect.y + rect.height + by).min(frame_px[1]);
        RectPx { x, y, width: right.saturating_sub(x), height: bottom.saturating_sub(y) }
    }

    /// Looks for the fiducial in `searched`, which was cut at `area`.
    ///
    /// # Errors
    /// It is not there, or at the edge of the search.
    pub fn find(&self, searched: &Rgb8, area: RectPx) -> Result<Found, Lost> {
        let large = Grey::of(searched);
        let small = &self.picture;
        let unlike = |likeness| Lost::Unlike {
            search_px: self.search_px,
            likeness,
            likeness_min: self.likeness_min,
        };
        if large.width < small.width || large.height < small.height {
            return Err(unlike(0.0));
        }
        // Places that there are, from 0 to this.
        let (last_x, last_y) = (large.width - small.width, large.height - small.height);
        let (coarse, coarse_small) = (large.smaller(COARSE), small.smaller(COARSE));
        let (x, y, _) = coarse.best(
            &coarse_small,
            0..coarse.width - coarse_small.width + 1,
            0..coarse.height - coarse_small.height + 1,
        );
        let around = |at: usize, last: usize| {
            let at = (at * COARSE).min(last);
            at.saturating_sub(COARSE + 1)..(at + COARSE + 1).min(last) + 1
        };
        let (x, y, likeness) = large.best(small, around(x, last_x), around(y, last_y));
        if likeness < self.likeness_min || likeness.is_nan() {
            return Err(unlike(likeness));
        }
        if x == 0 || y == 0 || x == last_x || y == last_y {
            return Err(Lost::Far { search_px: self.search_px });
        }
        let at = |dx: usize, dy: usize| large.likeness(small, x + dx - 1, y + dy - 1);
        Ok(Found {
            x: f64::from(area.x) + x as f64 + peak(at(0, 1), likeness, at(2, 1))
                - f64::from(self.rect.x),
            y: f64::from(area.y) + y as f64 + peak(at(1, 0), likeness, at(1, 2))
                - f64::from(self.rect.y),
            likeness,
        })
    }
}

/// Where a parabola through three neighbours has its top, from the middle one: -0.5 to 0.5.
fn peak(before: f64, here: f64, after: f64) -> f64 {
    let bend = before - 2.0 * here + after;
    if bend >= 0.0 { 0.0 } else { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright cross on a textured ground, its centre at (x, y), drawn with soft edges.
    fn scene(x: f64, y: f64, light: f64) -> Rgb8 {
        let mut picture = Rgb8::new(160, 120);
        for (i, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
            let (px, py) = ((i % 160) as f64, (i / 160) as f64);
            let soft = |distance: f64| (2.5 - distance).clamp(0.0, 1.0);
            let (dx, dy) = ((px - x).abs(), (py - y).abs());
            let arm = |along: f64, across: f64| if along < 12.0 { soft(across) } else { 0.0 };
            let cross = arm(dx, dy).max(arm(dy, dx));
            let ground = 60.0 + 6.0 * ((px * 0.7).sin() + (py * 0.9).cos());
            pixel.fill(((ground + 120.0 * cross) * light) as u8);
        }
        picture
    }

    fn fiducial() -> Fiducial {
        let rect = RectPx { x: 60, y: 40, width: 40, height: 40 };
        let picture = crate::roi::copy_rect(&scene(80.0, 60.0, 1.0), rect);
        Fiducial::new(&picture, rect, 24, 0.8).expect("a fiducial")
    }

    #[test]
    fn a_moved_part_is_found_to_a_part_of_a_pixel_in_any_light() {
        let fiducial = fiducial();
        let area = fiducial.area([160, 120]);
        for (dx, dy, light) in [(0.0, 0.0, 1.0), (7.4, -3.3, 0.6), (-18.0, 11.7, 1.2)] {
            let frame = scene(80.0 + dx, 60.0 + dy, light);
            let searched = crate::roi::copy_rect(&frame, area);
            let found = fiducial.find(&searched, area).expect("found");
            assert!(
                (found.x - dx).abs() < 0.3 && (found.y - dy).abs() < 0.3,
                "{found:?} {dx} {dy}"
            );
        }
    }

    #[test]
    fn a_part_that_is_away_or_too_far_is_lost() {
        let fiducial = fiducial();
        let area = fiducial.area([160, 120]);
        let away = crate::roi::copy_rect(&scene(-50.0, -50.0, 1.0), area);
        assert!(matches!(fiducial.find(&away, area), Err(Lost::Unlike { .. })));
        let far = crate::roi::copy_rect(&scene(104.0, 60.0, 1.0), area);
        assert!(matches!(fiducial.find(&far, area), Err(Lost::Far { .. })));
        let even = Rgb8::new(40, 40);
        let why = Fiducial::new(&even, fiducial.rect, 24, 0.8).expect_err("even").to_string();
        assert!(why.contains("even area"), "{why}");
    }
}
