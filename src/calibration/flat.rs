//! The light: what a camera makes of an evenly bright sheet, and of darkness.
//!
//! The mean of several pictures is taken in cells of about 1/64 of the frame; freed from the dark
//! level, each cell is made as bright as the brightest one. Between the cells' centres the gain is
//! straight, and beyond the outermost it goes on straight. The map is small and smooth, so it evens out
//! lens and lamp, not dust.
//!
//! Cameras deliver values bent for the eye (a power of the light, nearly). A factor on the light is
//! another factor on such values, so a gain evens them out as well; only near black it does not.

use super::CalibrationError;
use crate::frame::Rgb8;

/// Cells along the longer side.
const CELLS: u32 = 64;
/// Largest gain: where a quarter of the light arrives, noise is four times as loud.
pub const GAIN_MAX: f32 = 4.0;
/// Gains are kept as whole numbers of 1/8192.
pub const GAIN_UNIT: f32 = 8192.0;
/// The sheet's mean brightness must lie between these: too dark is noise, too bright is cut off.
const LEVEL: std::ops::RangeInclusive<f64> = 40.0..=235.0;
/// A dark picture may be as bright as this.
const DARK_MAX: f64 = 40.0;
/// Share of values of 255 from which a picture is cut off.
const CLIPPED_MAX: f64 = 0.001;
/// What is left after the correction, root mean square over cells; more is a sheet with something on it.
pub const RESIDUAL_MAX_PERCENT: f64 = 2.0;

/// What evens out the light: a small map of factors over the frame.
#[derive(Clone, PartialEq)]
pub struct GainMap {
    /// Cells across.
    pub columns: u32,
    /// Cells down.
    pub rows: u32,
    /// The frame that it is for, in pixels.
    pub frame_px: [u32; 2],
    /// For each cell, row by row: factors of red, green and blue.
    pub gains: Vec<[f32; 3]>,
}

/// Prints the size, not the factors.
impl std::fmt::Debug for GainMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GainMap({}x{})", self.columns, self.rows)
    }
}

/// A measured light.
#[derive(Clone, Debug, PartialEq)]
pub struct Flat {
    /// The factors.
    pub map: GainMap,
    /// What red, green and blue are without light, in the picture's values.
    pub dark: [f32; 3],
    /// By how much the darkest cell was below the brightest, in percent.
    pub falloff_percent: f64,
    /// Unevenness of the cells of a picture that took no part in the map, after the correction: root
    /// mean square, in percent of the mean.
    pub residual_percent: f64,
}

/// What is kept of one picture: little, so that twenty of a large camera fit into a small memory.
#[derive(Clone, Debug)]
pub struct Sheet {
    file: String,
    cells: Cells,
    /// The mean of all values.
    level: f64,
    /// Share of values that are cut off at white.
    clipped: f64,
}

impl Sheet {
    /// Takes down `picture`, which came from `file`.
    pub fn of(file: &str, picture: &Rgb8) -> Sheet {
        let count = picture.data.len().max(1) as f64;
        let sum = picture.data.iter().map(|value| u64::from(*value)).sum::<u64>();
        let clipped = picture.data.iter().filter(|value| **value == 255).count();
        Sheet {
            file: file.to_owned(),
            cells: Cells::of(picture),
            level: sum as f64 / count,
            clipped: clipped as f64 / count,
        }
    }
}

/// Means of a picture, cell by cell.
#[derive(Clone, Debug)]
struct Cells {
    columns: u32,
    rows: u32,
    frame_px: [u32; 2],
    means: Vec<[f64; 3]>,
}

impl Cells {
    fn of(picture: &Rgb8) -> Cells {
        let frame_px = [picture.width, picture.height];
        let longest = picture.width.max(picture.height);
        let count = |side: u32| (side * CELLS).div_ceil(longest).clamp(2, side.max(2));
        let (columns, rows) = (count(picture.width), count(picture.height));
        let mut sums = vec![([0u64; 3], 0u64); (columns * rows) as usize];
        let column_of: Vec<u32> =
            (0..picture.width).map(|x| cell(x, picture.width, columns)).collect();
        let line_bytes = picture.width as usize * 3;
        for (y, line) in picture.data.chunks_exact(line_bytes).enumerate() {
            let row = cell(y as u32, picture.height, rows) * columns;
            for (x, pixel) in line.chunks_exact(3).enumerate() {
                let (sum, count) = &mut sums[(row + column_of[x]) as usize];
                (0..3).for_each(|c| sum[c] += u64::from(pixel[c]));
                *count += 1;
            }
        }
        let mean = |(sum, count): &([u64; 3], u64)| sum.map(|s| s as f64 / (*count).max(1) as f64);
        Cells { columns, rows, frame_px, means: sums.iter().map(mean).collect() }
    }

    fn mean_of(all: &[Cells]) -> Option<Cells> {
        let mut mean = all.first()?.clone();
        for (at, cell) in mean.means.iter_mut().enumerate() {
            *cell = std::array::from_fn(|c| {
                all.iter().map(|cells| cells.means[at][c]).sum::<f64>() / all.len() as f64
            });
        }
        Some(mean)
    }

    fn level(&self) -> [f64; 3] {
        let count = self.means.len() as f64;
        std::array::from_fn(|c| self.means.iter().map(|cell| cell[c]).sum::<f64>() / count)
    }
}

fn cell(at: u32, side: u32, cells: u32) -> u32 {
    (u64::from(at) * u64::from(cells) / u64::from(side)) as u32
}

/// Measures the light from pictures of an evenly bright sheet, and of darkness if there are any.
///
/// # Errors
/// [`CalibrationError::Light`] for a sheet that is too dark, too bright or not even; sizes that differ.
pub fn measure(sheets: &[Sheet], darks: &[Sheet]) -> Result<Flat, CalibrationError> {
    let Some(first) = sheets.first() else {
        return Err(light("there is no picture of the sheet", "give a folder with some"));
    };
    let wanted = first.cells.frame_px;
    for sheet in sheets.iter().chain(darks) {
        let found = sheet.cells.frame_px;
        if found != wanted {
            return Err(CalibrationError::Size { file: sheet.file.clone(), found, wanted });
        }
    }
    let dark = dark_level(darks)?;
    sheets.iter().try_for_each(check_sheet)?;
    let cells: Vec<Cells> = sheets.iter().map(|sheet| sheet.cells.clone()).collect();
    // The residual is that of a picture the map has not seen, where there are two.
    let (last, others) = cells.split_last().expect("there is a first");
    let trial = if others.is_empty() { &cells } else { others };
    let trial = gains(&Cells::mean_of(trial).expect("not empty"), dark)?;
    let residual_percent = unevenness(last, dark, Some(&trial)) * 100.0;
    if residual_percent > RESIDUAL_MAX_PERCENT {
        return Err(light(
            &format!(
                "{residual_percent:.1} % of unevenness is left after the correction, \
                 {RESIDUAL_MAX_PERCENT:.0} % is allowed"
            ),
            "photograph an even sheet, out of focus, moved between the pictures, with the lamp of the line",
        ));
    }
    let mean = Cells::mean_of(&cells).expect("not empty");
    let map = gains(&mean, dark)?;
    let largest = map.gains.iter().flatten().fold(1.0f32, |a, b| a.max(*b));
    let falloff_percent = (1.0 - 1.0 / f64::from(largest)) * 100.0;
    Ok(Flat { map, dark, falloff_percent, residual_percent })
}

fn dark_level(darks: &[Sheet]) -> Result<[f32; 3], CalibrationError> {
    let cells: Vec<Cells> = darks.iter().map(|dark| dark.cells.clone()).collect();
    let Some(mean) = Cells::mean_of(&cells) else { return Ok([0.0; 3]) };
    let level = mean.level();
    if level.iter().any(|value| *value > DARK_MAX) {
        return Err(light(
            &format!(
                "the dark pictures are {:.0} of 255 bright",
                level.iter().copied().fold(0.0, f64::max)
            ),
            "put the cap on the lens, and keep exposure and gain as for the sheet",
        ));
    }
    Ok(level.map(|value| value as f32))
}

fn check_sheet(sheet: &Sheet) -> Result<(), CalibrationError> {
    let Sheet { file, level, clipped, .. } = sheet;
    let remedy = "set exposure so that the sheet is between 120 and 220 of 255, and leave it so";
    if *clipped > CLIPPED_MAX {
        return Err(light(&format!("{file} is cut off at white"), remedy));
    }
    if !LEVEL.contains(level) {
        return Err(light(&format!("{file} is {level:.0} of 255 bright on average"), remedy));
    }
    Ok(())
}

fn light(problem: &str, remedy: &str) -> CalibrationError {
    CalibrationError::Light { problem: problem.to_owned(), remedy: remedy.to_owned() }
}

fn gains(cells: &Cells, dark: [f32; 3]) -> Result<GainMap, CalibrationError> {
    let net: Vec<[f64; 3]> = cells
        .means
        .iter()
        .map(|cell| std::array::from_fn(|c| cell[c] - f64::from(dark[c])))
        .collect();
    let total = |cell: &[f64; 3]| cell.iter().sum::<f64>();
    let brightest = net.iter().max_by(|a, b| total(a).total_cmp(&total(b))).copied();
    let brightest = brightest.unwrap_or([1.0; 3]);
    let gain =
        |cell: &[f64; 3]| -> [f32; 3] { std::array::from_fn(|c| (brightest[c] / cell[c]) as f32) };
    let gains: Vec<[f32; 3]> = net.iter().map(gain).collect();
    let is_good = |gain: &f32| gain.is_finite() && (1.0 / GAIN_MAX..=GAIN_MAX).contains(gain);
    if !gains.iter().flatten().all(is_good) {
        return Err(light(
            &format!(
                "the darkest part of the frame gets less than 1/{GAIN_MAX} of the brightest one's light"
            ),
            "light it better, or open a smaller aperture: no arithmetic brings back what is not there",
        ));
    }
    let Cells { columns, rows, frame_px, .. } = *cells;
    Ok(GainMap { columns, rows, frame_px, gains })
}

/// Root mean square deviation of the cells from their mean, as a share of it, the worst channel's;
/// after the correction by `map` if there is one.
fn unevenness(cells: &Cells, dark: [f32; 3], map: Option<&GainMap>) -> f64 {
    let value = |at: usize, c: usize| {
        let gain = map.map_or(1.0, |map| f64::from(map.gains[at][c]));
        (cells.means[at][c] - f64::from(dark[c])) * gain
    };
    let count = cells.means.len();
    let channel = |c: usize| {
        let mean = (0..count).map(|at| value(at, c)).sum::<f64>() / count as f64;
        let square = (0..count).map(|at| (value(at, c) - mean).powi(2)).sum::<f64>() / count as f64;
        square.sqrt() / mean
    };
    (0..3).map(channel).fold(0.0, f64::max)
}

impl GainMap {
    /// The factors at a place of the frame; the centre of the upper left pixel is (0, 0).
    pub fn at(&self, place: [f64; 2]) -> [f32; 3] {
        let sides = [self.columns, self.rows];
        let [(x, across), (y, down)] = std::array::from_fn(|axis| {
            let cells = sides[axis];
            let side = f64::from(self.frame_px[axis]);
            // Pixel 0 begins at -0.5; the first cell's centre lies half a cell further.
            let at = (place[axis] + 0.5) * f64::from(cells) / side - 0.5;
            let from = (at.floor().max(0.0) as u32).min(cells - 2);
            (from as usize, (at - f64::from(from)) as f32)
        });
        let columns = self.columns as usize;
        let corner = |dx: usize, dy: usize| self.gains[(y + dy) * columns + x + dx];
        let (a, b, c, d) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
        std::array::from_fn(|i| {
            let upper = a[i] + (b[i] - a[i]) * across;
            let lower = c[i] + (d[i] - c[i]) * across;
            (upper + (lower - upper) * down).clamp(1.0 / GAIN_MAX, GAIN_MAX)
        })
    }

    /// The map as a PNG of 16 bits a channel, in units of 1/8192.
    pub fn to_png(&self) -> Vec<u8> {
        let whole = |gain: &f32| (gain * GAIN_UNIT).round() as u16;
        let values: Vec<u16> = self.gains.iter().flatten().map(whole).collect();
        let picture: Option<image::ImageBuffer<image::Rgb<u16>, _>> =
            image::ImageBuffer::from_raw(self.columns, self.rows, values);
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture
            .expect("three values a cell")
            .write_to(&mut bytes, image::ImageFormat::Png)
            .expect("memory takes a small picture");
        bytes.into_inner()
    }

    /// Reads what [`GainMap::to_png`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_png(bytes: &[u8], frame_px: [u32; 2]) -> Result<GainMap, String> {
        let mut reader =
            image::ImageReader::with_format(std::io::Cursor::new(bytes), image::ImageFormat::Png);
        let mut limits = image::Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(CELLS), Some(CELLS));
        limits.max_alloc = Some(1 << 20);
        reader.limits(limits);
        let image::DynamicImage::ImageRgb16(picture) =
            reader.decode().map_err(|why| why.to_string())?
        else {
            return Err("it is no picture of 16 bits a channel".to_owned());
        };
        let (columns, rows) = picture.dimensions();
        if columns < 2 || rows < 2 {
            return Err(format!("it has {columns}x{rows} cells"));
        }
        let gain = |value: u16| f32::from(value) / GAIN_UNIT;
        let gains: Vec<[f32; 3]> = picture.pixels().map(|pixel| pixel.0.map(gain)).collect();
        if gains.iter().flatten().any(|gain| !(1.0 / GAIN_MAX..=GAIN_MAX).contains(gain)) {
            return Err(format!("it holds a gain beyond {GAIN_MAX}"));
        }
        Ok(GainMap { columns, rows, frame_px, gains })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> GainMap {
        let gains = vec![[1.0; 3], [2.0; 3], [1.5; 3], [2.5; 3]];
        GainMap { columns: 2, rows: 2, frame_px: [20, 10], gains }
    }

    #[test]
    fn gains_are_straight_between_cells_and_beyond() {
        assert_eq!(map().at([4.5, 2.0]), [1.0; 3], "a cell's centre");
        assert_eq!(map().at([9.5, 2.0]), [1.5; 3], "half-way");
        assert_eq!(map().at([-0.5, 2.0]), [0.5; 3], "as far beyond the first centre");
        assert_eq!(map().at([9.5, 4.5]), [1.75; 3]);
    }

    #[test]
    fn a_map_comes_back_from_its_file() {
        let bytes = map().to_png();
        assert_eq!(GainMap::from_png(&bytes, [20, 10]).expect("its own file"), map());
        assert!(GainMap::from_png(&bytes[..bytes.len() / 2], [20, 10]).is_err(), "half of it");
        assert!(GainMap::from_png(b"", [20, 10]).is_err());
    }

    #[test]
    fn a_bad_sheet_is_refused_with_what_to_do() {
        let even = |value: u8| {
            let mut picture = Rgb8::new(64, 48);
            picture.data.fill(value);
            picture
        };
        let one = |picture: Rgb8| [Sheet::of("sheet.png", &picture)];
        for (picture, word) in [(even(255), "white"), (even(20), "exposure")] {
            let why = measure(&one(picture), &[]).expect_err("no good sheet").to_string();
            assert!(why.contains("sheet.png") && why.contains(word), "{why}");
        }
        let bright = measure(&one(even(150)), &one(even(90))).expect_err("no darkness").to_string();
        assert!(bright.contains("cap"), "{bright}");
        let flat = measure(&one(even(150)), &one(even(10))).expect("even");
        assert_eq!((flat.dark, flat.residual_percent), ([10.0; 3], 0.0));
        assert!(measure(&[], &[]).is_err());
    }
}
