//! Defects on metal: scratch, dent, stain, crack and rust. (A missing screw belongs to the plate.)

use std::f32::consts::{PI, TAU};

use rand::Rng;

use super::canvas::{Canvas, Mask, Point};
use super::truth::{Class, Severity};

/// One defect, decided but not yet painted.
#[derive(Debug, Clone)]
pub(super) struct Flaw {
    pub(super) class: Class,
    pub(super) severity: Severity,
    /// What its location is read from, canvas px.
    pub(super) centre: Point,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    /// The main line and its branches, each with a width.
    Lines {
        lines: Vec<(Vec<Point>, f32)>,
        tone: f32,
        shadow: f32,
    },
    Dent {
        radius: f32,
        stretch: f32,
        light: f32,
        depth: f32,
        dark: f32,
    },
    Stain {
        radius: f32,
        phases: [f32; 3],
        softness: f32,
        taken: [f32; 3],
    },
    /// Specks, each with its radius and how strongly it colours.
    Specks {
        radius: f32,
        specks: Vec<(Point, f32, f32)>,
        taken: [f32; 3],
    },
    /// The plate paints it.
    Hole {
        radius: f32,
    },
}

impl Flaw {
    /// Draws a defect of a class from a random source, centred at `centre`.
    pub(super) fn roll(
        rng: &mut impl Rng,
        class: Class,
        severity: Severity,
        centre: Point,
    ) -> Flaw {
        let major = severity == Severity::Major;
        let shape = match class {
            Class::Scratch => scratch(rng, centre, major),
            Class::Crack => crack(rng, centre, major),
            Class::Dent => Shape::Dent {
                radius: if major {
                    rng.random_range(20.0..27.0)
                } else {
                    rng.random_range(9.0..13.0)
                },
                stretch: rng.random_range(0.8..1.25),
                light: rng.random_range(0.0..TAU),
                depth: rng.random_range(80.0..130.0),
                dark: rng.random_range(5.0..20.0),
            },
            Class::Stain => {
                let strength: f32 = rng.random_range(0.32..0.52);
                let warm: f32 = rng.random_range(0.0..0.14);
                Shape::Stain {
                    radius: if major {
                        rng.random_range(21.0..28.0)
                    } else {
                        rng.random_range(9.0..13.0)
                    },
                    phases: [0; 3].map(|_| rng.random_range(0.0..TAU)),
                    softness: rng.random_range(1.0..2.4),
                    taken: [strength - warm, strength, strength + warm],
                }
            }
            Class::MissingScrew => Shape::Hole { radius: 14.0 },
            Class::Rust => rust(rng, centre, major),
        };
        Flaw { class, severity, centre, shape }
    }

    /// Discs that together cover the defect: what must lie free on the plate.
    pub(super) fn footprint(&self) -> Vec<(Point, f32)> {
        match &self.shape {
            Shape::Lines { lines, .. } => {
                lines.iter().flat_map(|(points, _)| points.iter().map(|&p| (p, 4.0))).collect()
            }
            Shape::Dent { radius, .. } => vec![(self.centre, radius * 1.25)],
            Shape::Stain { radius, .. } => vec![(self.centre, radius * 1.3)],
            Shape::Specks { radius, .. } => vec![(self.centre, radius + 3.0)],
            Shape::Hole { radius } => vec![(self.centre, *radius)],
        }
    }

    /// Paints the defect; its pixels are marked with `number` (index + 1 into the part's flaws).
    pub(super) fn paint(&self, canvas: &mut Canvas, number: u8) {
        let mask = match &self.shape {
            Shape::Lines { lines, tone, shadow } => {
                let mask = Mask::lines(lines.iter().map(|(points, width)| (&points[..], *width)));
                if self.class == Class::Scratch {
                    canvas.paint(&mask.moved(1, 1), |c, k, _| c.map(|v| v - shadow * k));
                    canvas.paint(&mask, |c, k, _| c.map(|v| v + (tone + shadow * 0.5) * k));
                } else {
                    canvas.fill(&mask, [*tone; 3], 0.9);
                }
                mask
            }
            Shape::Dent { radius, stretch, light, depth, dark } => {
                let (a, b, (sin, cos)) = (radius * stretch, radius / stretch, light.sin_cos());
                let bowl = Mask::around(self.centre, radius * 2.2, |dx, dy| {
                    (-(dx * dx / (a * a) + dy * dy / (b * b)) * 1.3).exp() - 0.01
                });
                let (cx, cy) = self.centre;
                canvas.paint(&bowl, |c, k, (x, y)| {
                    let slope = (x - cx) / a * cos + (y - cy) / b * sin;
                    c.map(|v| v + slope * k * depth - k * dark)
                });
                Mask::around(self.centre, radius * 1.4, |dx, dy| {
                    f32::from(u8::from(dx * dx / (a * a) + dy * dy / (b * b) < 1.2))
                })
            }
            Shape::Stain { radius, phases, softness, taken } => {
                let blot = Mask::around(self.centre, radius * 1.6 + 4.0, |dx, dy| {
                    let (angle, distance) = (dy.atan2(dx), (dx * dx + dy * dy).sqrt());
                    let edge = radius
                        * (1.0
                            + 0.17 * (2.0 * angle + phases[0]).sin()
                            + 0.11 * (3.0 * angle + phases[1]).sin()
                            + 0.07 * (5.0 * angle + phases[2]).sin());
                    let inside = (distance - edge) / softness;
                    if inside > 6.0 { 0.0 } else { 1.0 / (1.0 + inside.exp()) }
                });
                canvas.paint(&blot, |c, k, _| {
                    [0, 1, 2].map(|channel| c[channel] * (1.0 - k * taken[channel]))
                });
                blot
            }
            Shape::Specks { radius, specks, taken } => {
                for (at, size, strength) in specks {
                    canvas.paint(&Mask::disc(*at, *size), |c, k, _| {
                        [0, 1, 2].map(|channel| c[channel] * (1.0 - k * strength * taken[channel]))
                    });
                }
                Mask::disc(self.centre, *radius)
            }
            Shape::Hole { radius } => Mask::disc(self.centre, *radius - 2.0),
        };
        canvas.mark(&mask, 0.4, |m| m.flaw = number);
    }
}

/// A slightly bent line.
fn scratch(rng: &mut impl Rng, (cx, cy): Point, major: bool) -> Shape {
    let length: f32 =
        if major { rng.random_range(70.0..112.0) } else { rng.random_range(26.0..44.0) };
    let (sin, cos) = rng.random_range(0.0..PI).sin_cos();
    let bend: f32 = rng.random_range(-0.15..0.15);
    let points = (0..9)
        .map(|i| {
            let t = i as f32 / 8.0 - 0.5;
            let (along, across) = (length * t, length * bend * (t * t - 0.125));
            (cx + along * cos - across * sin, cy + along * sin + across * cos)
        })
        .collect();
    Shape::Lines {
        lines: vec![(points, rng.random_range(1.4..2.8))],
        tone: rng.random_range(45.0..90.0),
        shadow: rng.random_range(15.0..40.0),
    }
}

/// Specks strewn over a disc, denser towards its middle. They take blue and green from the metal
/// and leave the red, where a stain darkens all three nearly alike.
fn rust(rng: &mut impl Rng, centre: Point, major: bool) -> Shape {
    let radius: f32 =
        if major { rng.random_range(20.0..27.0) } else { rng.random_range(9.0..13.0) };
    // One speck for every 14 square pixels: they touch in the middle and stand alone at the rim.
    let count = (PI * radius * radius / 14.0) as usize;
    let specks = (0..count)
        .map(|_| {
            let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
            let away = radius * rng.random_range(0.0f32..1.0).powf(0.65);
            let at = (centre.0 + away * cos, centre.1 + away * sin);
            (at, rng.random_range(0.7..2.2), rng.random_range(0.5..1.0))
        })
        .collect();
    let depth: f32 = rng.random_range(0.8..1.0);
    Shape::Specks { radius, specks, taken: [0.10, 0.45, 0.75].map(|v| v * depth) }
}

/// A jagged line with one or two branches, moved so that the box around it is centred.
fn crack(rng: &mut impl Rng, centre: Point, major: bool) -> Shape {
    let length: f32 =
        if major { rng.random_range(75.0..112.0) } else { rng.random_range(28.0..44.0) };
    let heading = rng.random_range(0.0..TAU);
    let count = (length / 6.0) as usize;
    let mut walk = |from: Point, heading: f32, count: usize, wander: f32| {
        let mut points = vec![from];
        for i in 0..count {
            // A walk that swings back, so that its length stays near the length asked for.
            let turn = heading + rng.random_range(-wander..wander);
            let last = points[i];
            points.push((last.0 + 6.2 * turn.cos(), last.1 + 6.2 * turn.sin()));
        }
        points
    };
    let main = walk((0.0, 0.0), heading, count, 0.95);
    let mut lines = vec![(main.clone(), 2.2)];
    for branch in 0..if major { 2 } else { 1 } {
        let from = main[(count * (branch + 1)) / 3 + 1];
        let side = if branch == 0 { 1.0 } else { -1.0 };
        lines.push((walk(from, heading + side * 0.85, 3, 0.5), 1.3));
    }
    let fold = |pick: fn(&Point) -> f32| {
        let values = main.iter().map(pick);
        let (min, max) = values.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        (min + max) / 2.0
    };
    let (mx, my) = (fold(|p| p.0), fold(|p| p.1));
    for (points, _) in &mut lines {
        points.iter_mut().for_each(|p| *p = (p.0 - mx + centre.0, p.1 - my + centre.1));
    }
    Shape::Lines { lines, tone: rng.random_range(10.0..34.0), shadow: 0.0 }
}
