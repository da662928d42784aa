//! The bare plate: brushed metal with a bevel and a shadow, and the four screws.

use rand::Rng;

use super::canvas::{CANVAS_CENTRE, CANVAS_SIDE, Canvas, Mask, Point};
use super::texture::{BRUSHES, TILE, surfaces};
use super::truth::{EMPTY_HOLE, SCREW};

/// A plate's looks.
#[derive(Debug, Clone)]
pub(super) struct Plate {
    /// Half of the side, px.
    half: f32,
    /// Radius of the corners, px.
    corner: f32,
    colour: [f32; 3],
    edge: f32,
    tile: usize,
    brush: f32,
    brush_along_x: bool,
    cloud: f32,
    offset: (usize, usize),
    screw: ScrewLooks,
}

/// What the four screws of a plate have in common.
#[derive(Debug, Clone)]
struct ScrewLooks {
    inset: f32,
    radius: f32,
    colour: f32,
    slot: f32,
    cross: bool,
    hole: f32,
    angles: [f32; 4],
}

impl Plate {
    /// Draws the looks of a plate from a random source.
    pub(super) fn roll(rng: &mut impl Rng) -> Plate {
        let base = rng.random_range(122.0..182.0);
        Plate {
            half: rng.random_range(147.0..151.0),
            corner: rng.random_range(5.0..14.0),
            colour: [0; 3].map(|_| base + rng.random_range(-8.0..8.0)),
            edge: rng.random_range(-35.0..50.0),
            tile: rng.random_range(0..BRUSHES.len()),
            brush: rng.random_range(2.0..6.5),
            brush_along_x: rng.random_bool(0.6),
            cloud: rng.random_range(1.0..5.0),
            offset: (rng.random_range(0..TILE), rng.random_range(0..TILE)),
            screw: ScrewLooks {
                inset: rng.random_range(22.0..28.0),
                radius: rng.random_range(10.5..13.0),
                colour: rng.random_range(160.0..215.0),
                slot: rng.random_range(30.0..70.0),
                cross: rng.random_bool(0.5),
                hole: rng.random_range(12.0..42.0),
                angles: [0; 4].map(|_| rng.random_range(0.0..std::f32::consts::PI)),
            },
        }
    }

    /// Half of the plate's side, px.
    pub(super) fn half(&self) -> f32 {
        self.half
    }

    /// A screw's centre: 0 upper left, 1 upper right, 2 lower left, 3 lower right.
    pub(super) fn screw_centre(&self, index: usize) -> Point {
        let out = self.half - self.screw.inset;
        let side = |positive: bool| if positive { out } else { -out };
        (CANVAS_CENTRE + side(index % 2 == 1), CANVAS_CENTRE + side(index >= 2))
    }

    /// The screws' radius with their rim, px.
    pub(super) fn screw_radius(&self) -> f32 {
        self.screw.radius + 1.5
    }

    /// Paints metal and shadow onto an empty canvas.
    ///
    /// The distance to the edge is worked out only near it: well inside, a plate is all metal.
    pub(super) fn paint(&self, canvas: &mut Canvas) {
        let surfaces = surfaces();
        let brush = if self.brush_along_x { self.tile } else { self.tile + BRUSHES.len() };
        let bulk = self.half - self.corner - 3.0;
        for y in 0..CANVAS_SIDE {
            let brushed = surfaces.brushed[brush].row(y + self.offset.1);
            let cloud = surfaces.clouds[self.tile % 3].row(y + self.offset.1);
            for x in 0..CANVAS_SIDE {
                let (dx, dy) = (x as f32 + 0.5 - CANVAS_CENTRE, y as f32 + 0.5 - CANVAS_CENTRE);
                let inside = dx.abs() < bulk && dy.abs() < bulk;
                let outside =
                    if inside { -9.0 } else { rounded_square(dx, dy, self.half, self.corner) };
                let pixel = &mut canvas.pixels[y * CANVAS_SIDE + x];
                let metal = (0.5 - outside).clamp(0.0, 1.0);
                let shadow = 0.45 * (1.0 - outside / 8.0).clamp(0.0, 1.0);
                let opacity = metal + (1.0 - metal) * shadow;
                let u = (x + self.offset.0) & (TILE - 1);
                let bevel = self.edge * (1.0 - (outside + 1.5).abs() / 1.5).clamp(0.0, 1.0);
                let grey = brushed[u] * self.brush + cloud[u] * self.cloud + bevel;
                *pixel = [
                    (self.colour[0] + grey) * metal,
                    (self.colour[1] + grey) * metal,
                    (self.colour[2] + grey) * metal,
                    opacity,
                ];
            }
        }
    }

    /// Paints the four screws, or the empty holes of those that are missing.
    pub(super) fn paint_screws(&self, canvas: &mut Canvas, missing: [bool; 4]) {
        for (index, missing) in missing.into_iter().enumerate() {
            let centre = self.screw_centre(index);
            if missing {
                self.paint_hole(canvas, centre);
            } else {
                self.paint_screw(canvas, centre, self.screw.angles[index]);
            }
        }
    }

    fn paint_screw(&self, canvas: &mut Canvas, centre: Point, angle: f32) {
        let looks = &self.screw;
        let rim = Mask::disc(centre, looks.radius + 1.0);
        canvas.paint(&rim, |c, k, _| c.map(|v| v - 50.0 * k));
        let slope = looks.colour * 0.1 / looks.radius;
        let head = Mask::disc(centre, looks.radius - 0.8);
        canvas.paint(&head, |c, k, (x, y)| {
            let lit = looks.colour - slope * ((x - centre.0) + (y - centre.1));
            c.map(|v| v + (lit - v) * k)
        });
        let arm = |a: f32| {
            let (dx, dy) = (a.cos() * (looks.radius - 3.5), a.sin() * (looks.radius - 3.5));
            [(centre.0 - dx, centre.1 - dy), (centre.0 + dx, centre.1 + dy)]
        };
        let arms = [arm(angle), arm(angle + std::f32::consts::FRAC_PI_2)];
        let count = if looks.cross { 2 } else { 1 };
        let slot = Mask::lines(arms[..count].iter().map(|ends| (&ends[..], 3.0)));
        canvas.fill(&slot, [looks.slot; 3], 1.0);
        canvas.mark(&rim, 0.5, |m| m.screw = SCREW);
    }

    fn paint_hole(&self, canvas: &mut Canvas, centre: Point) {
        let looks = &self.screw;
        let rim = Mask::disc(centre, looks.radius + 0.5);
        canvas.paint(&rim, |c, k, _| c.map(|v| v + 28.0 * k));
        let hole = Mask::disc(centre, looks.radius - 1.5);
        canvas.paint(&hole, |c, k, (x, y)| {
            // The far wall catches some light.
            let wall = ((x - centre.0 + y - centre.1) / looks.radius).max(0.0) * 14.0;
            c.map(|v| v + (looks.hole + wall - v) * k)
        });
        canvas.mark(&rim, 0.5, |m| m.screw = EMPTY_HOLE);
    }
}

/// Distance to the edge of a rounded square around the origin, negative inside, px.
fn rounded_square(x: f32, y: f32, half: f32, corner: f32) -> f32 {
    let (qx, qy) = (x.abs() - half + corner, y.abs() - half + corner);
    let (ox, oy) = (qx.max(0.0), qy.max(0.0));
    (ox * ox + oy * oy).sqrt() + qx.max(qy).min(0.0) - corner
}
