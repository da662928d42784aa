//! The printed label: eight characters on paper, legible or unmistakably not.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use rand::Rng;

use super::canvas::{Canvas, Mask, Point, mix};
use super::texture::{TILE, surfaces};
use super::truth::ILLEGIBLE;
use super::{SERIAL_ALPHABET, SERIAL_LENGTH};

/// Paper around the characters, px.
const MARGIN: (f32, f32) = (9.0, 8.0);

/// What makes a label illegible.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Damage {
    /// Ink drawn along the paper.
    Smeared,
    /// Ink dissolved and wiped away.
    Wiped,
    /// A reflection over the whole label.
    Glare,
    /// Nearly all of the paper gone.
    Torn,
}

/// A label's text, place and looks.
#[derive(Debug, Clone)]
pub(super) struct Label {
    /// Indices into [`SERIAL_ALPHABET`].
    pub(super) text: [usize; SERIAL_LENGTH],
    pub(super) damage: Option<Damage>,
    centre: Point,
    angle: f32,
    /// Distance from one character to the next, px.
    pitch: f32,
    /// Height of a capital, px.
    capital: f32,
    bold: bool,
    paper: [f32; 3],
    ink: [f32; 3],
    offset: (usize, usize),
    torn_at: f32,
}

impl Label {
    /// Draws a label from a random source. `centre` is where it sits on the canvas.
    pub(super) fn roll(rng: &mut impl Rng, centre: Point, damage: Option<Damage>) -> Label {
        let paper = rng.random_range(190.0..246.0);
        let ink = rng.random_range(12.0..70.0);
        Label {
            text: [0; SERIAL_LENGTH].map(|_| rng.random_range(0..SERIAL_ALPHABET.len())),
            damage,
            centre,
            angle: rng.random_range(-1.2f32..1.2).to_radians(),
            pitch: rng.random_range(28.6..30.6),
            capital: rng.random_range(27.0..35.0),
            bold: rng.random_bool(0.5),
            paper: [0.0, 0.0, -1.0].map(|warm| paper + rng.random_range(-5.0..5.0) + warm * 6.0),
            ink: [0; 3].map(|_| ink + rng.random_range(-8.0..8.0)),
            offset: (rng.random_range(0..TILE), rng.random_range(0..TILE)),
            torn_at: rng.random_range(0.02..0.10),
        }
    }

    /// Moves the label to a random place between the screws of a plate.
    pub(super) fn place(&mut self, rng: &mut impl Rng, plate_half: f32, screw_radius: f32) {
        let (half_x, half_y) = self.half();
        let free_x = plate_half - 6.0 - half_x;
        let free_y = plate_half - 26.0 - screw_radius - 8.0 - half_y;
        self.centre.0 += rng.random_range(-free_x..free_x);
        self.centre.1 += rng.random_range(-free_y..free_y);
    }

    /// Half of the paper's width and height, px.
    pub(super) fn half(&self) -> (f32, f32) {
        let (width, height) = self.paper_size();
        (width / 2.0, height / 2.0)
    }

    /// The label's serial as text.
    pub(super) fn serial(&self) -> String {
        self.text.iter().map(|&i| SERIAL_ALPHABET[i] as char).collect()
    }

    /// Whether a disc touches the paper.
    pub(super) fn touches(&self, centre: Point, radius: f32) -> bool {
        let (u, v) = self.along_text(centre);
        let (half_x, half_y) = self.half();
        (u.abs() - half_x).max(v.abs() - half_y) < radius
    }

    fn paper_size(&self) -> (f32, f32) {
        (SERIAL_LENGTH as f32 * self.pitch + 2.0 * MARGIN.0, self.capital + 2.0 * MARGIN.1)
    }

    /// Canvas coordinates → offsets from the label's centre, along and across the text.
    fn along_text(&self, (x, y): Point) -> Point {
        let (dx, dy) = (x - self.centre.0, y - self.centre.1);
        let (sin, cos) = self.angle.sin_cos();
        (dx * cos + dy * sin, dy * cos - dx * sin)
    }

    /// Paints paper and text, and marks each character's cell.
    pub(super) fn paint(&self, canvas: &mut Canvas) {
        let (half_x, half_y) = self.half();
        let mut ink = Ink::print(self);
        match self.damage {
            Some(Damage::Smeared) => ink.smear(),
            Some(Damage::Wiped) => ink.wipe(self.offset),
            _ => {}
        }
        let mut paper = Mask::over(
            (self.centre.0 - half_x - 2.0, self.centre.1 - half_y - 8.0),
            (self.centre.0 + half_x + 2.0, self.centre.1 + half_y + 8.0),
        );
        paper.set(|x, y| {
            let (u, v) = self.along_text((x, y));
            let inside = (0.5 - (u.abs() - half_x).max(v.abs() - half_y)).clamp(0.0, 1.0);
            if self.damage == Some(Damage::Torn) { inside * self.kept(u, v) } else { inside }
        });
        let noise = &surfaces().noise;
        canvas.paint(&paper, |c, k, (x, y)| {
            let (u, v) = self.along_text((x, y));
            let grain = noise.at(x as usize + self.offset.0, y as usize + self.offset.1) * 1.5;
            let sheet = self.paper.map(|p| p + grain);
            mix(c, mix(sheet, self.ink, ink.at(u + half_x, v + half_y)), k)
        });
        if self.damage == Some(Damage::Glare) {
            self.paint_glare(canvas);
        }
        self.mark_cells(canvas);
    }

    /// How much of the paper a tear has left at an offset from the label's centre: strips at both ends.
    fn kept(&self, u: f32, v: f32) -> f32 {
        let (half_x, half_y) = self.half();
        let ragged = |side: usize| {
            surfaces().clouds[0].at((v + half_y) as usize * 4 + side, self.offset.0) * 4.0
        };
        let width = half_x * 2.0 * self.torn_at;
        let left = width + ragged(0) - (u + half_x);
        let right = width * 0.5 + ragged(99) - (half_x - u);
        left.max(right).clamp(0.0, 1.0)
    }

    /// A white reflection that covers the whole text.
    fn paint_glare(&self, canvas: &mut Canvas) {
        let (half_x, half_y) = (self.half().0 * 1.06, self.half().1 * 1.35);
        let mut glare = Mask::over(
            (self.centre.0 - half_x - 14.0, self.centre.1 - half_y - 14.0),
            (self.centre.0 + half_x + 14.0, self.centre.1 + half_y + 14.0),
        );
        glare.set(|x, y| {
            let (u, v) = self.along_text((x, y));
            let (a, b) = (u / half_x, v / half_y);
            let r = (a * a * a * a + b * b * b * b).sqrt();
            ((1.35 - r) * 1.8).clamp(0.0, 1.0)
        });
        canvas.paint(&glare, |c, k, _| c.map(|v| v + (262.0 - v) * k));
    }

    /// Marks the cell of each character, blank around the ink included.
    fn mark_cells(&self, canvas: &mut Canvas) {
        let (half_x, half_y) = self.half();
        let mut cells = Mask::over(
            (self.centre.0 - half_x, self.centre.1 - half_y - 8.0),
            (self.centre.0 + half_x, self.centre.1 + half_y + 8.0),
        );
        // The mask's value is the place in the serial.
        cells.set(|x, y| {
            let (u, v) = self.along_text((x, y));
            let place = ((u + half_x - MARGIN.0) / self.pitch).floor();
            let beside = v.abs() > self.capital / 2.0 + 3.0;
            if beside || !(0.0..SERIAL_LENGTH as f32).contains(&place) { 0.0 } else { place + 1.0 }
        });
        cells.each(|x, y, place| {
            let mark = &mut canvas.marks[y * super::canvas::CANVAS_SIDE + x];
            if self.damage.is_some() {
                mark.glyph = ILLEGIBLE;
            } else {
                mark.glyph = self.text[place as usize - 1] as u8 + 1;
                mark.place = place as u8;
            }
        });
    }
}

/// Ink on a label, 0..1 per pixel of the paper.
struct Ink {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Ink {
    /// Prints the label's text.
    fn print(label: &Label) -> Ink {
        let (paper_x, paper_y) = label.paper_size();
        let (width, height) = (paper_x.ceil() as usize + 1, paper_y.ceil() as usize + 1);
        let mut ink = Ink { width, height, values: vec![0.0; width * height] };
        let font = &fonts()[usize::from(label.bold)];
        // DejaVu Sans Mono: capitals are 0.729 em high, and every character is 0.602 em wide.
        let units = font.units_per_em().unwrap_or(2048.0);
        let em = font.height_unscaled() / units;
        let scale = PxScale { x: label.pitch * 1.04 / 0.602 * em, y: label.capital / 0.729 * em };
        let font = font.as_scaled(scale);
        let baseline = MARGIN.1 + label.capital;
        for (place, &index) in label.text.iter().enumerate() {
            let id = font.glyph_id(SERIAL_ALPHABET[index] as char);
            let middle = MARGIN.0 + (place as f32 + 0.5) * label.pitch;
            let left = middle - font.h_advance(id) / 2.0;
            let glyph = id.with_scale_and_position(scale, point(left, baseline));
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, coverage| {
                let (x, y) = (corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y));
                if (0..width as i64).contains(&x) && (0..height as i64).contains(&y) {
                    let value = &mut ink.values[y as usize * width + x as usize];
                    *value = value.max(coverage.min(1.0));
                }
            });
        }
        ink
    }

    /// The ink at a point of the paper, px from its upper left corner; bilinear.
    fn at(&self, u: f32, v: f32) -> f32 {
        let (u, v) = (u - 0.5, v - 0.5);
        if u < 0.0 || v < 0.0 {
            return 0.0;
        }
        let (x, y) = (u as usize, v as usize);
        if x + 1 >= self.width || y + 1 >= self.height {
            return 0.0;
        }
        let (fx, fy) = (u - x as f32, v - y as f32);
        let row = &self.values[y * self.width + x..];
        let upper = row[0] + (row[1] - row[0]) * fx;
        let lower = row[self.width] + (row[self.width + 1] - row[self.width]) * fx;
        upper + (lower - upper) * fy
    }

    /// Draws the ink along the paper, and a little across it, until no character is left.
    fn smear(&mut self) {
        for row in self.values.chunks_exact_mut(self.width) {
            let source = row.to_vec();
            for (x, value) in row.iter_mut().enumerate() {
                let (from, to) = (x.saturating_sub(44), (x + 16).min(source.len()));
                *value = source[from..to].iter().sum::<f32>() / 60.0 * 1.15;
            }
        }
        let source = self.values.clone();
        for (y, row) in self.values.chunks_exact_mut(self.width).enumerate() {
            let (from, to) = (y.saturating_sub(5), (y + 6).min(self.height));
            for (x, value) in row.iter_mut().enumerate() {
                let column = source.iter().skip(from * self.width + x).step_by(self.width);
                *value = column.take(to - from).sum::<f32>() / (to - from) as f32;
            }
        }
    }

    /// Takes nearly all the ink away and leaves a grey haze.
    fn wipe(&mut self, offset: (usize, usize)) {
        let cloud = &surfaces().clouds[0];
        for (i, value) in self.values.iter_mut().enumerate() {
            let (x, y) = (i % self.width, i / self.width);
            let haze = 0.10 + 0.05 * cloud.at(x + offset.0, y * 3 + offset.1);
            *value = *value * 0.012 + haze.clamp(0.0, 0.3);
        }
    }
}

/// DejaVu Sans Mono, regular and bold.
fn fonts() -> &'static [FontRef<'static>; 2] {
    static FONTS: OnceLock<[FontRef<'static>; 2]> = OnceLock::new();
    const REGULAR: &[u8] = include_bytes!("assets/DejaVuSansMono.ttf");
    const BOLD: &[u8] = include_bytes!("assets/DejaVuSansMono-Bold.ttf");
    FONTS.get_or_init(|| {
        [REGULAR, BOLD].map(|bytes| {
            FontRef::try_from_slice(bytes).expect("the embedded fonts are valid, a test draws them")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_fonts_draw_every_character_of_the_alphabet() {
        for font in fonts() {
            for &character in SERIAL_ALPHABET {
                let id = font.glyph_id(character as char);
                assert_ne!(id.0, 0, "{} is not in the font", character as char);
                assert!(font.outline(id).is_some());
            }
        }
    }
}
