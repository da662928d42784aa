//! The target as a PNG, for a screen or a print shop that takes no PDF. It says its own resolution.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

use super::super::CalibrationError;
use super::Drawing;

/// Millimetres of an inch.
const INCH_MM: f64 = 25.4;
/// Most pixels: an A3 at 600 dpi has 70 million.
const PIXELS_MAX: f64 = 1e8;
/// Letters of the simulated labels; any would do.
const FONT: &[u8] = include_bytes!("../../simulate/assets/DejaVuSansMono.ttf");

/// The drawing as the bytes of a grey PNG at `dpi` pixels an inch.
///
/// # Errors
/// A resolution that makes no picture, or one that is too large.
pub fn write(drawing: &Drawing, dpi: u32) -> Result<Vec<u8>, CalibrationError> {
    let px_a_mm = f64::from(dpi) / INCH_MM;
    let [width, height] = drawing.size_mm.map(|side| (side * px_a_mm).round());
    if dpi < 50 || width * height > PIXELS_MAX {
        let why =
            format!("{dpi} dpi makes {width} x {height} pixels: choose a --dpi between 50 and 600");
        return Err(CalibrationError::Asked(why));
    }
    let mut page = Page { width: width as usize, height: height as usize, values: vec![] };
    page.values.resize(page.width * page.height, 0.0);
    for place in &drawing.boxes {
        page.fill(place.map(|side| side * px_a_mm));
    }
    let font = FontRef::try_from_slice(FONT).expect("the embedded font is valid, a test draws it");
    for (at, size, text) in &drawing.words {
        // The sizes are those of Helvetica; this font is wider.
        page.write(&font, at.map(|side| side * px_a_mm), (size * 0.8 * px_a_mm) as f32, text);
    }
    Ok(page.encode(dpi))
}

/// How black each pixel is, 0 to 1.
struct Page {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Page {
    /// Blackens a rectangle; a pixel that is covered in part becomes grey.
    fn fill(&mut self, [x, y, width, height]: [f64; 4]) {
        let cover = |from: f64, length: f64, at: usize| {
            let (low, high) = (from.max(at as f64), (from + length).min(at as f64 + 1.0));
            (high - low).clamp(0.0, 1.0) as f32
        };
        let end = |from: f64, length: f64, side: usize| ((from + length).ceil() as usize).min(side);
        for row in y as usize..end(y, height, self.height) {
            for column in x as usize..end(x, width, self.width) {
                let covered = cover(x, width, column) * cover(y, height, row);
                let value = &mut self.values[row * self.width + column];
                *value = (*value + covered).min(1.0);
            }
        }
    }

    fn write(&mut self, font: &FontRef<'_>, [x, y]: [f64; 2], size_px: f32, text: &str) {
        let scaled = font.as_scaled(PxScale::from(size_px));
        let mut across = x as f32;
        for character in text.chars() {
            let id = scaled.glyph_id(character);
            let glyph = id.with_scale_and_position(size_px, point(across, y as f32));
            across += scaled.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, covered| {
                let (column, row) = (bounds.min.x + dx as f32, bounds.min.y + dy as f32);
                let is_inside = column >= 0.0 && row >= 0.0;
                if is_inside && (column as usize) < self.width && (row as usize) < self.height {
                    let value = &mut self.values[row as usize * self.width + column as usize];
                    *value = value.max(covered);
                }
            });
        }
    }

    fn encode(&self, dpi: u32) -> Vec<u8> {
        let grey: Vec<u8> =
            self.values.iter().map(|black| (255.0 * (1.0 - black)).round() as u8).collect();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let a_metre = (f64::from(dpi) / INCH_MM * 1000.0).round() as u32;
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: a_metre,
            yppu: a_metre,
            unit: png::Unit::Meter,
        }));
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&grey));
        written.expect("memory takes a picture of the size that was named");
        bytes
    }
}
