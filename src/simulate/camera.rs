//! The camera: where a part lies in its view, how the scene is lit, and what the sensor makes of it.

use rand::Rng;

use super::canvas::{CANVAS_CENTRE, CANVAS_SIDE, Canvas, Point};
use super::texture::{TILE, surfaces};
use super::truth::Mark;
use crate::frame::Rgb8;

/// Where a part lies in the camera's view.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// The plate's centre, px from the view's left edge.
    pub x: f32,
    /// The plate's centre, px from the view's upper edge.
    pub y: f32,
    /// Turned clockwise by, radians.
    pub angle: f32,
    /// Camera pixels per canvas pixel, near 1.
    pub scale: f32,
}

impl Pose {
    /// A canvas point → the point of the view that shows it.
    pub(super) fn to_camera(self, (x, y): Point) -> Point {
        let (sin, cos) = self.angle.sin_cos();
        let (dx, dy) = ((x - CANVAS_CENTRE) * self.scale, (y - CANVAS_CENTRE) * self.scale);
        (self.x + dx * cos - dy * sin, self.y + dx * sin + dy * cos)
    }
}

/// A view before the sensor: linear colour, and what each pixel shows where that is asked for.
pub(super) struct Film {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<[f32; 3]>,
    /// Empty unless the film was made with marks.
    pub(super) marks: Vec<Mark>,
}

/// The belt's looks.
#[derive(Debug, Clone)]
pub(super) struct Rubber {
    colour: [f32; 3],
    cloud: f32,
    grain: f32,
    offset: (usize, usize),
}

impl Rubber {
    /// Draws a belt from a random source. It is always much darker than a plate.
    pub(super) fn roll(rng: &mut impl Rng) -> Rubber {
        let base = rng.random_range(28.0..62.0);
        Rubber {
            colour: [0; 3].map(|_| base + rng.random_range(-7.0..7.0)),
            cloud: rng.random_range(1.0..5.0),
            grain: rng.random_range(1.0..4.5),
            offset: (rng.random_range(0..TILE), rng.random_range(0..TILE)),
        }
    }

    /// A view of the bare belt, moved to the right by `travel` whole pixels.
    pub(super) fn film(&self, width: usize, height: usize, travel: usize, marks: bool) -> Film {
        let surfaces = surfaces();
        let start = self.offset.0 + TILE - travel % TILE;
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            let cloud = surfaces.clouds[1].row(y + self.offset.1);
            let grain = surfaces.noise.row(y + self.offset.1);
            pixels.extend((0..width).map(|x| {
                let u = (start + x) & (TILE - 1);
                let grey = cloud[u] * self.cloud + grain[u] * self.grain;
                [self.colour[0] + grey, self.colour[1] + grey, self.colour[2] + grey]
            }));
        }
        let marks = if marks { vec![Mark::default(); width * height] } else { Vec::new() };
        Film { width, height, pixels, marks }
    }
}

/// Lays a painted part into a view; bilinear between the canvas's pixels.
pub(super) fn composite(canvas: &Canvas, film: &mut Film, pose: &Pose) {
    let reach = CANVAS_CENTRE * pose.scale * (pose.angle.sin().abs() + pose.angle.cos());
    let span = |centre: f32, size: usize| {
        let cut = |v: f32| v.clamp(0.0, size as f32) as usize;
        cut(centre - reach)..cut((centre + reach).ceil())
    };
    let (sin, cos) = (pose.angle.sin() / pose.scale, pose.angle.cos() / pose.scale);
    let limit = (CANVAS_SIDE - 1) as f32;
    for y in span(pose.y, film.height) {
        let dy = y as f32 + 0.5 - pose.y;
        for x in span(pose.x, film.width) {
            let dx = x as f32 + 0.5 - pose.x;
            let u = dx * cos + dy * sin + CANVAS_CENTRE - 0.5;
            let v = dy * cos - dx * sin + CANVAS_CENTRE - 0.5;
            if !(u >= 0.0 && v >= 0.0 && u < limit && v < limit) {
                continue;
            }
            let c = sample(&canvas.pixels, u, v);
            let pixel = &mut film.pixels[y * film.width + x];
            *pixel = [0, 1, 2].map(|k| pixel[k] * (1.0 - c[3]) + c[k]);
            if !film.marks.is_empty() {
                let nearest = (v + 0.5) as i32 as usize * CANVAS_SIDE + (u + 0.5) as i32 as usize;
                film.marks[y * film.width + x] = canvas.marks[nearest];
            }
        }
    }
}

/// The canvas between four pixels; (u, v) lies within the canvas's outermost pixel centres.
fn sample(pixels: &[[f32; 4]], u: f32, v: f32) -> [f32; 4] {
    // By way of i32: the conversion that the processor has.
    let (i, j) = (u as i32, v as i32);
    let (fu, fv) = (u - i as f32, v - j as f32);
    let at = j as usize * CANVAS_SIDE + i as usize;
    let (a, b) = (pixels[at], pixels[at + 1]);
    let (c, d) = (pixels[at + CANVAS_SIDE], pixels[at + CANVAS_SIDE + 1]);
    std::array::from_fn(|k| {
        let upper = a[k] + (b[k] - a[k]) * fu;
        let lower = c[k] + (d[k] - c[k]) * fu;
        upper + (lower - upper) * fv
    })
}

/// Light and sensor: fixed to the camera, so all frames of one belt share them.
#[derive(Debug, Clone)]
pub(super) struct Exposure {
    gain: [f32; 3],
    slope: (f32, f32),
    lift: f32,
    /// Weight of each of the two neighbours in the three-tap blur, 0..1/3.
    blur: f32,
    noise: f32,
}

impl Exposure {
    /// Draws light and sensor from a random source.
    pub(super) fn roll(rng: &mut impl Rng) -> Exposure {
        let gain = rng.random_range(0.84..1.14);
        let warm: f32 = rng.random_range(-0.045..0.045);
        Exposure {
            gain: [gain * (1.0 + warm), gain, gain * (1.0 - warm)],
            slope: (rng.random_range(-0.13..0.13), rng.random_range(-0.13..0.13)),
            lift: rng.random_range(-8.0..9.0),
            blur: if rng.random_bool(0.7) { rng.random_range(0.02..0.27) } else { 0.0 },
            noise: rng.random_range(1.0..5.5),
        }
    }

    /// Turns a film into the picture that the camera delivers. `grain` picks the noise.
    pub(super) fn develop(&self, film: &mut Film, grain: (usize, usize)) -> Rgb8 {
        if self.blur > 0.0 {
            blur(film, self.blur);
        }
        let mut picture = Rgb8::new(film.width as u32, film.height as u32);
        let noise = &surfaces().noise;
        let rows = film.pixels.chunks_exact(film.width);
        for (y, (row, out)) in rows.zip(picture.data.chunks_exact_mut(film.width * 3)).enumerate() {
            let across = y as f32 / film.height as f32 - 0.5;
            let (common, own) = (noise.row(y + grain.1), noise.row(y + grain.1 + 251));
            for (x, (pixel, out)) in row.iter().zip(out.chunks_exact_mut(3)).enumerate() {
                let along = x as f32 / film.width as f32 - 0.5;
                let light = 1.0 + self.slope.0 * along + self.slope.1 * across;
                let shared = common[(x + grain.0) & (TILE - 1)] * 0.8;
                for (k, out) in out.iter_mut().enumerate() {
                    let speck = shared + own[(x + grain.0 + 97 * k) & (TILE - 1)] * 0.6;
                    let value = pixel[k] * self.gain[k] * light + self.lift + speck * self.noise;
                    // The conversion clamps to 0..=255 by itself.
                    *out = (value + 0.5) as u8;
                }
            }
        }
        picture
    }
}

/// Blurs by (side, 1 - 2 side, side) along x and y; the outermost pixels stay.
fn blur(film: &mut Film, side: f32) {
    let (width, middle) = (film.width, 1.0 - 2.0 * side);
    let tap = |a: [f32; 3], b: [f32; 3], c: [f32; 3]| {
        [0, 1, 2].map(|k| b[k] * middle + (a[k] + c[k]) * side)
    };
    for row in film.pixels.chunks_exact_mut(width) {
        let mut before = row[0];
        for x in 1..width - 1 {
            let here = row[x];
            row[x] = tap(before, here, row[x + 1]);
            before = here;
        }
    }
    let mut before = film.pixels[..width].to_vec();
    for y in 1..film.height - 1 {
        let (upper, lower) = film.pixels.split_at_mut((y + 1) * width);
        let here = &mut upper[y * width..];
        for ((here, before), below) in here.iter_mut().zip(&mut before).zip(&lower[..width]) {
            let old = *here;
            *here = tap(*before, old, *below);
            *before = old;
        }
    }
}
