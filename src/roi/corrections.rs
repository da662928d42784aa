//! What a calibration does to the pixels of a region: straighten, square up, even out the light.
//!
//! With corrections, a region is a rectangle of the *corrected frame*: as large as the camera's, its
//! centre at the same place and scale, but straight lines straight and, where the belt's plane is
//! known, seen squarely. Only the pixels of a region are ever computed. Where each comes from is kept
//! at every [`STEP_PX`]th pixel across and down and taken as straight between: a lens bends little
//! over eight pixels, so the place is right to some hundredths of a pixel, and the table is small,
//! at most 1/64 of the region's pixels, made once.
//!
//! A pixel is read between its four neighbours (bilinear), freed from the dark level, multiplied by
//! the gain at its source, rounded and held within 0 to 255. What lies outside of the camera's frame
//! is white, as padding is.

use super::{Area, PADDING, RectPx, Region, RoiError};
use crate::frame::Rgb8;

/// From one entry of the table to the next, in pixels.
pub const STEP_PX: u32 = 8;

/// [`STEP_PX`] as a power of two.
const STEP_SHIFT: u32 = STEP_PX.trailing_zeros();

/// Where the pixels of the corrected frame come from. Asked for the table's entries only.
pub trait Source {
    /// The place in the camera's frame that the pixel (x, y) of the corrected frame shows; `None`: no
    /// place. The centre of the upper left pixel is (0, 0).
    fn place(&self, x: f64, y: f64) -> Option<[f64; 2]>;

    /// What red, green and blue are multiplied by at a place of the camera's frame.
    fn gain(&self, place: [f64; 2]) -> [f32; 3];
}

/// One entry: the place in the camera's frame, and the gain there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    x: f32,
    y: f32,
    gain: [f32; 3],
}

impl Entry {
    /// Between two entries, `share` of the way.
    fn between(self, other: Entry, share: f32) -> Entry {
        let mix = |a: f32, b: f32| a + (b - a) * share;
        Entry {
            x: mix(self.x, other.x),
            y: mix(self.y, other.y),
            gain: std::array::from_fn(|c| mix(self.gain[c], other.gain[c])),
        }
    }
}

/// The table of one rectangle of the corrected frame.
#[derive(Clone, PartialEq)]
struct Table {
    rect: RectPx,
    columns: usize,
    entries: Vec<Entry>,
}

/// Corrections for the regions of one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrections {
    frame_px: [u32; 2],
    dark: [f32; 3],
    tables: Vec<(Region, Table)>,
}

impl Corrections {
    /// The tables of `regions` in frames of `frame_px`; each serves places up to `margin_px` beyond its
    /// region, for a part that does not lie where it should. `dark` is the level of no light.
    ///
    /// # Errors
    /// As [`Region::rect_in`].
    pub fn new(
        frame_px: [u32; 2],
        regions: &[Region],
        margin_px: u32,
        dark: [f32; 3],
        source: &dyn Source,
    ) -> Result<Corrections, RoiError> {
        let table = |region: &Region| {
            let rect = region.rect_in(frame_px[0], frame_px[1])?;
            Ok((region.clone(), Table::new(widened(rect, margin_px, frame_px), source)))
        };
        let tables = regions.iter().map(table).collect::<Result<Vec<_>, _>>()?;
        Ok(Corrections { frame_px, dark, tables })
    }

    /// Refuses a frame that is none of the camera that was calibrated.
    pub(super) fn check_size(&self, frame: &Rgb8, region: &Region) -> Result<(), RoiError> {
        if [frame.width, frame.height] == self.frame_px {
            return Ok(());
        }
        Err(RoiError::OtherSize {
            region: region.name.clone(),
            width: frame.width,
            height: frame.height,
            calibrated: self.frame_px,
        })
    }

    /// The pixels of `rect`, which lies within what was prepared for `region`.
    pub(super) fn part(
        &self,
        frame: &Rgb8,
        region: &Region,
        rect: RectPx,
    ) -> Result<Rgb8, RoiError> {
        self.check_size(frame, region)?;
        let known = self.tables.iter().find(|(known, _)| known == region);
        match known {
            Some((_, table)) if table.covers(rect) => Ok(table.fill(frame, rect, self.dark)),
            _ => Err(RoiError::NotPrepared { region: region.name.clone() }),
        }
    }

    /// The bytes that the tables take.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|(_, table)| table.entries.len() * size_of::<Entry>()).sum()
    }
}

/// The whole corrected frame.
///
/// # Errors
/// A frame of another size than `frame_px`.
pub fn whole(
    frame: &Rgb8,
    frame_px: [u32; 2],
    dark: [f32; 3],
    source: &dyn Source,
) -> Result<Rgb8, RoiError> {
    let region = Region { name: "whole".to_owned(), area: Area::Whole };
    let regions = std::slice::from_ref(&region);
    let corrections = Corrections::new(frame_px, regions, 0, dark, source)?;
    let [width, height] = frame_px;
    corrections.part(frame, &region, RectPx { x: 0, y: 0, width, height })
}

/// `rect` with a margin, cut at the frame's edges.
fn widened(rect: RectPx, margin: u32, frame: [u32; 2]) -> RectPx {
    let (x, y) = (rect.x.saturating_sub(margin), rect.y.saturating_sub(margin));
    let right = (rect.x + rect.width).saturating_add(margin).min(frame[0]);
    let bottom = (rect.y + rect.height).saturating_add(margin).min(frame[1]);
    RectPx { x, y, width: right - x, height: bottom - y }
}

/// Prints the place, not a hundred thousand entries.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({:?})", self.rect)
    }
}

impl Table {
    fn new(rect: RectPx, source: &dyn Source) -> Table {
        // One entry beyond the last pixel, so that each pixel lies between two.
        let columns = (rect.width.div_ceil(STEP_PX) + 1) as usize;
        let rows = rect.height.div_ceil(STEP_PX) + 1;
        let entry = |row: u32, column: usize| {
            let x = f64::from(rect.x) + (column as u32 * STEP_PX) as f64;
            let y = f64::from(rect.y + row * STEP_PX);
            let nowhere = Entry { x: f32::NAN, y: f32::NAN, gain: [1.0; 3] };
            source.place(x, y).map_or(nowhere, |place| Entry {
                x: place[0] as f32,
                y: place[1] as f32,
                gain: source.gain(place),
            })
        };
        let row = |row| (0..columns).map(move |column| entry(row, column));
        let entries = (0..rows).flat_map(row).collect();
        Table { rect, columns, entries }
    }

    fn covers(&self, rect: RectPx) -> bool {
        let own = self.rect;
        let within = |at: u32, side: u32, from: u32, length: u32| {
            at >= from && at - from <= length && side <= length - (at - from)
        };
        within(rect.x, rect.width, own.x, own.width)
            && within(rect.y, rect.height, own.y, own.height)
    }

    fn fill(&self, frame: &Rgb8, rect: RectPx, dark: [f32; 3]) -> Rgb8 {
        let mut out = Rgb8::new(rect.width, rect.height);
        let first = rect.x - self.rect.x;
        let line_bytes = rect.width as usize * 3;
        for (row, line) in out.data.chunks_exact_mut(line_bytes).enumerate() {
            let y = rect.y - self.rect.y + row as u32;
            let above = (y >> STEP_SHIFT) as usize * self.columns;
            // Down first, once for the pixels between two columns of the table.
            let at = |column: usize| {
                let (top, bottom) = (above + column, above + self.columns + column);
                self.entries[top].between(self.entries[bottom], share(y))
            };
            let mut column = (first >> STEP_SHIFT) as usize;
            let (mut left, mut right) = (at(column), at(column + 1));
            for (x, pixel) in (first..).zip(line.chunks_exact_mut(3)) {
                if (x >> STEP_SHIFT) as usize != column {
                    column += 1;
                    (left, right) = (right, at(column + 1));
                }
                pixel.copy_from_slice(&sample(frame, left.between(right, share(x)), dark));
            }
        }
        out
    }
}

/// How far a pixel lies between two entries.
fn share(at: u32) -> f32 {
    (at & (STEP_PX - 1)) as f32 / STEP_PX as f32
}

fn sample(frame: &Rgb8, entry: Entry, dark: [f32; 3]) -> [u8; 3] {
    let (right, bottom) = ((frame.width - 1) as f32, (frame.height - 1) as f32);
    // Half a pixel beyond the outermost centres belongs to the outermost pixels. No number is outside.
    let inside =
        entry.x >= -0.5 && entry.x <= right + 0.5 && entry.y >= -0.5 && entry.y <= bottom + 0.5;
    if !inside {
        return [PADDING; 3];
    }
    let (x, y) = (entry.x.clamp(0.0, right), entry.y.clamp(0.0, bottom));
    // The last pixel is all of the right one of the last two: a region is never one pixel wide.
    let (left, top) =
        ((x as usize).min(frame.width as usize - 2), (y as usize).min(frame.height as usize - 2));
    let (across, down) = (x - left as f32, y - top as f32);
    let width = frame.width as usize;
    let at = (top * width + left) * 3;
    let upper: &[u8] = &frame.data[at..at + 6];
    let lower: &[u8] = &frame.data[at + width * 3..at + width * 3 + 6];
    let mut out = [0; 3];
    for channel in 0..3 {
        let mix = |line: &[u8]| {
            let (one, next) = (f32::from(line[channel]), f32::from(line[channel + 3]));
            one + (next - one) * across
        };
        let (above, below) = (mix(upper), mix(lower));
        let read = above + (below - above) * down;
        // `as` holds the number within 0 to 255.
        out[channel] = ((read - dark[channel]) * entry.gain[channel] + 0.5) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Source for Plain {
        fn place(&self, x: f64, y: f64) -> Option<[f64; 2]> {
            Some([x, y])
        }

        fn gain(&self, _: [f64; 2]) -> [f32; 3] {
            [1.0; 3]
        }
    }

    struct Moved(f64, f64);

    impl Source for Moved {
        fn place(&self, x: f64, y: f64) -> Option<[f64; 2]> {
            (x < 40.0).then_some([x + self.0, y + self.1])
        }

        fn gain(&self, _: [f64; 2]) -> [f32; 3] {
            [2.0, 1.0, 1.0]
        }
    }

    fn ramp() -> Rgb8 {
        let mut frame = Rgb8::new(64, 48);
        for (i, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
            pixel.copy_from_slice(&[(i % 64) as u8, (i / 64) as u8 * 4, 9]);
        }
        frame
    }

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        let area = Area::Pixels(RectPx { x, y, width, height });
        Region { name: "label".into(), area }
    }

    #[test]
    fn a_correction_that_changes_nothing_changes_no_byte() {
        let frame = ramp();
        let same = whole(&frame, [64, 48], [0.0; 3], &Plain).expect("same size");
        assert_eq!(same, frame);
    }

    #[test]
    fn half_a_pixel_is_the_mean_of_two_and_outside_is_white() {
        let moved = Moved(-0.5, 0.0);
        let out = whole(&ramp(), [64, 48], [1.0, 0.0, 0.0], &moved).expect("same size");
        assert_eq!(out.pixel(11, 5), [19, 20, 9], "(10.5 - 1) * 2");
        assert_eq!(out.pixel(0, 5), [0, 20, 9], "the outermost pixel reaches half a pixel further");
        assert_eq!(out.pixel(63, 5), [255; 3], "no place");
        let out = whole(&ramp(), [64, 48], [0.0; 3], &Moved(-0.6, 0.0)).expect("same size");
        assert_eq!(out.pixel(0, 5), [255; 3]);
    }

    #[test]
    fn a_region_moves_within_its_margin_and_no_further() {
        let (frame, label) = (ramp(), region(16, 16, 16, 14));
        let corrections =
            Corrections::new([64, 48], std::slice::from_ref(&label), 3, [0.0; 3], &Plain)
                .expect("inside");
        let rect = |x, y| RectPx { x, y, width: 16, height: 14 };
        let part = corrections.part(&frame, &label, rect(13, 19)).expect("within the margin");
        assert_eq!(part.pixel(0, 0), frame.pixel(13, 19));
        assert_eq!(part.pixel(15, 13), frame.pixel(28, 32));
        for far in [rect(12, 16), rect(16, 20)] {
            let why = corrections.part(&frame, &label, far).expect_err("beyond");
            assert!(matches!(why, RoiError::NotPrepared { .. }));
        }
        let other = corrections.part(&Rgb8::new(32, 48), &label, rect(16, 16)).expect_err("size");
        let words = other.to_string();
        assert!(words.contains("32x48") && words.contains("64x48"), "{words}");
    }
}
