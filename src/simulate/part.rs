//! A part: everything random about it, decided before a pixel is drawn.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::camera::Pose;
use super::canvas::{CANVAS_CENTRE, Canvas, Point};
use super::defects::Flaw;
use super::label::{Damage, Label};
use super::plate::Plate;
use super::truth::{Class, Defect, Location, Severity, Truth, distance_to_cell_edge};

/// What parts a line makes: fractions of parts, each 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Parts with at least one defect. More gives fewer passes.
    pub defective: f64,
    /// Of the defective parts, those with two defects.
    pub two_defects: f64,
    /// Parts whose label nobody can read.
    pub illegible: f64,
    /// Pictures of an empty belt or of a part mostly out of view.
    pub empty: f64,
    /// Pictures of practice plates with several labels and small defects. For training only:
    /// they have no single serial, so [`Truth`] says nothing about them.
    pub crowded: f64,
    /// Parts with a patch of rust, a defect that the built-in model was not trained on. It takes
    /// the place of a second defect. At 0 no random number is spent on it, so that a set drawn
    /// without rust has the same bytes as before there was any.
    pub rust: f64,
}

impl Default for Mix {
    /// Most parts are good, as on a line that is worth running.
    fn default() -> Mix {
        Mix {
            defective: 0.5,
            two_defects: 0.4,
            illegible: 0.04,
            empty: 0.0,
            crowded: 0.0,
            rust: 0.0,
        }
    }
}

/// How a part has to lie so that its truth holds.
#[derive(Debug, Clone, Copy)]
pub struct Placing {
    /// Where the camera sees it.
    pub pose: Pose,
    /// Least distance of a defect's centre from a cell's boundary, along x and y, px.
    pub clearance: (f32, f32),
}

/// One part, ready to be painted.
#[derive(Debug, Clone)]
pub struct Part {
    plate: Plate,
    labels: Vec<Label>,
    flaws: Vec<Flaw>,
    missing: [bool; 4],
    crowded: bool,
}

impl Part {
    /// Draws a part from a random source.
    pub fn roll(rng: &mut impl Rng, mix: &Mix, placing: &Placing) -> Part {
        let plate = Plate::roll(rng);
        let damage = rng.random_bool(mix.illegible).then(|| {
            *[Damage::Smeared, Damage::Wiped, Damage::Glare, Damage::Torn]
                .choose(rng)
                .expect("the list is not empty")
        });
        let mut label = Label::roll(rng, (CANVAS_CENTRE, CANVAS_CENTRE), damage);
        label.place(rng, plate.half(), plate.screw_radius());
        let mut part = Part {
            plate,
            labels: vec![label],
            flaws: Vec::new(),
            missing: [false; 4],
            crowded: false,
        };
        let count = match rng.random_bool(mix.defective) {
            false => 0,
            true => 1 + usize::from(rng.random_bool(mix.two_defects)),
        };
        let mut classes = Class::ALL;
        classes.shuffle(rng);
        let rusty = mix.rust > 0.0 && rng.random_bool(mix.rust);
        for class in &classes[..if rusty { count.min(1) } else { count }] {
            part.add(rng, *class, placing);
        }
        if rusty {
            part.add(rng, Class::Rust, placing);
        }
        part
    }

    /// Draws a practice plate: labels in rows, up to four defects, screws missing often.
    pub fn roll_crowded(rng: &mut impl Rng, placing: &Placing) -> Part {
        let plate = Plate::roll(rng);
        let rows = rng.random_range(3..=4);
        let first = rng.random_range(78.0..86.0);
        let mut labels = Vec::new();
        for row in 0..rows {
            let y = first + row as f32 * (166.0 / (rows - 1) as f32) + rng.random_range(-3.0..3.0);
            let label = Label::roll(rng, (CANVAS_CENTRE, y), None);
            if rng.random_bool(0.88) {
                labels.push(label);
            }
        }
        let missing = [0; 4].map(|_| rng.random_bool(0.4));
        let mut part = Part { plate, labels, flaws: Vec::new(), missing, crowded: true };
        for _ in 0..rng.random_range(2..=4) {
            let class = Class::ALL[rng.random_range(0..4)];
            part.add(rng, class, placing);
        }
        for corner in (0..4).filter(|&c| missing[c]) {
            part.flaws.push(part.missing_screw(rng, corner));
        }
        part
    }

    /// Adds a defect of a class, if a free place for it is found.
    fn add(&mut self, rng: &mut impl Rng, class: Class, placing: &Placing) {
        if class == Class::MissingScrew {
            let corner = rng.random_range(0..4);
            self.missing[corner] = true;
            self.flaws.push(self.missing_screw(rng, corner));
            return;
        }
        let major = rng.random_bool(if self.crowded { 0.25 } else { 0.5 });
        let severity = if major { Severity::Major } else { Severity::Minor };
        let reach = self.plate.half() - 14.0;
        for _ in 0..150 {
            let at = |rng: &mut _| CANVAS_CENTRE + Rng::random_range(rng, -reach..reach);
            let centre = (at(rng), at(rng));
            let seen = placing.pose.to_camera(centre);
            if distance_to_cell_edge(seen.0) < placing.clearance.0
                || distance_to_cell_edge(seen.1) < placing.clearance.1
            {
                continue;
            }
            let flaw = Flaw::roll(rng, class, severity, centre);
            if flaw.footprint().iter().all(|&(p, r)| self.is_free(p, r)) {
                self.flaws.push(flaw);
                return;
            }
        }
    }

    fn missing_screw(&self, rng: &mut impl Rng, corner: usize) -> Flaw {
        let centre = self.plate.screw_centre(corner);
        Flaw::roll(rng, Class::MissingScrew, Severity::Major, centre)
    }

    /// Whether a disc lies on bare metal.
    fn is_free(&self, (x, y): Point, radius: f32) -> bool {
        let inside = self.plate.half() - 5.0 - radius;
        let near = |q: Point, r: f32| (x - q.0).hypot(y - q.1) < r;
        (x - CANVAS_CENTRE).abs() < inside
            && (y - CANVAS_CENTRE).abs() < inside
            && (0..4).all(|i| {
                !near(self.plate.screw_centre(i), self.plate.screw_radius() + radius + 2.0)
            })
            && self.labels.iter().all(|l| !l.touches((x, y), radius + 1.0))
            && self.flaws.iter().flat_map(Flaw::footprint).all(|(q, r)| !near(q, r + radius + 8.0))
    }

    /// Paints the part.
    pub(super) fn paint(&self) -> Canvas {
        let mut canvas = Canvas::new();
        self.plate.paint(&mut canvas);
        self.plate.paint_screws(&mut canvas, self.missing);
        for (index, flaw) in self.flaws.iter().enumerate() {
            flaw.paint(&mut canvas, index as u8 + 1);
        }
        self.labels.iter().for_each(|label| label.paint(&mut canvas));
        canvas
    }

    /// The defects as seen from a pose, in the order of [`super::truth::Mark::flaw`].
    pub fn defects(&self, pose: &Pose) -> Vec<Defect> {
        let named = |flaw: &Flaw| {
            let (x, y) = pose.to_camera(flaw.centre);
            Defect { class: flaw.class, severity: flaw.severity, location: Location::of(x, y) }
        };
        self.flaws.iter().map(named).collect()
    }

    /// The truth about the part as seen from a pose. A practice plate has none: `None`.
    pub fn truth(&self, pose: &Pose) -> Option<Truth> {
        if self.crowded {
            return None;
        }
        let label = &self.labels[0];
        let serial = label.damage.is_none().then(|| label.serial());
        Some(Truth::new(serial, self.defects(pose), true))
    }
}
