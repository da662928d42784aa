//! The part seen squarely: colour, opacity and marks, in the part's own coordinates, 1 px = 1/3 mm.

use super::truth::Mark;

/// Side of a canvas in pixels: a plate and its shadow.
pub(super) const CANVAS_SIDE: usize = 328;

/// The plate's centre on the canvas.
pub(super) const CANVAS_CENTRE: f32 = CANVAS_SIDE as f32 / 2.0;

/// A point of the canvas, px.
pub(super) type Point = (f32, f32);

/// A part, painted. Pixel (x, y) covers the square from (x, y) to (x + 1, y + 1).
pub(super) struct Canvas {
    /// Red, green, blue in 0..255, multiplied by the opacity, and the opacity in 0..1.
    pub(super) pixels: Vec<[f32; 4]>,
    /// What each pixel shows.
    pub(super) marks: Vec<Mark>,
}

impl Canvas {
    /// A canvas on which there is nothing yet.
    pub(super) fn new() -> Canvas {
        let count = CANVAS_SIDE * CANVAS_SIDE;
        Canvas { pixels: vec![[0.0; 4]; count], marks: vec![Mark::default(); count] }
    }

    /// Changes the opaque pixels under a mask: `shade` gets the colour, the mask's value and the pixel's place.
    pub(super) fn paint(&mut self, mask: &Mask, shade: impl Fn([f32; 3], f32, Point) -> [f32; 3]) {
        mask.each(|x, y, coverage| {
            let p = &mut self.pixels[y * CANVAS_SIDE + x];
            let place = (x as f32 + 0.5, y as f32 + 0.5);
            let c = shade([p[0], p[1], p[2]], coverage, place);
            *p = [c[0], c[1], c[2], p[3]];
        });
    }

    /// Lays one colour over what is under the mask.
    pub(super) fn fill(&mut self, mask: &Mask, colour: [f32; 3], strength: f32) {
        self.paint(mask, |c, coverage, _| mix(c, colour, coverage * strength));
    }

    /// Changes the marks where the mask covers at least `threshold`.
    pub(super) fn mark(&mut self, mask: &Mask, threshold: f32, change: impl Fn(&mut Mark)) {
        mask.each(|x, y, coverage| {
            if coverage >= threshold {
                change(&mut self.marks[y * CANVAS_SIDE + x]);
            }
        });
    }
}

/// `a` and `b` in the proportion `t` of `b`.
pub(super) fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// How much of each pixel a shape covers, over the shape's bounding box.
pub(super) struct Mask {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Mask {
    /// An empty mask over a box, cut at the canvas's edges.
    pub(super) fn over(min: Point, max: Point) -> Mask {
        let cut = |v: f32| v.clamp(0.0, CANVAS_SIDE as f32);
        let (x, y) = (cut(min.0.floor()) as usize, cut(min.1.floor()) as usize);
        let width = cut(max.0.ceil()) as usize - x;
        let height = cut(max.1.ceil()) as usize - y;
        Mask { x, y, width, height, values: vec![0.0; width * height] }
    }

    /// A shape within `reach` of `centre`; `coverage` gets the pixel's offset from the centre.
    pub(super) fn around(centre: Point, reach: f32, coverage: impl Fn(f32, f32) -> f32) -> Mask {
        let mut mask =
            Mask::over((centre.0 - reach, centre.1 - reach), (centre.0 + reach, centre.1 + reach));
        mask.set(|x, y| coverage(x - centre.0, y - centre.1));
        mask
    }

    /// A disc with a soft edge of one pixel.
    pub(super) fn disc(centre: Point, radius: f32) -> Mask {
        Mask::around(centre, radius + 1.0, |dx, dy| {
            (radius + 0.5 - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0)
        })
    }

    /// Lines through points, each with its own width, px.
    pub(super) fn lines<'a>(lines: impl Iterator<Item = (&'a [Point], f32)> + Clone) -> Mask {
        let (mut min, mut max) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
        for (points, width) in lines.clone() {
            for p in points {
                min = (min.0.min(p.0 - width - 2.0), min.1.min(p.1 - width - 2.0));
                max = (max.0.max(p.0 + width + 2.0), max.1.max(p.1 + width + 2.0));
            }
        }
        let mut mask = Mask::over(min, max);
        for (points, width) in lines {
            points.windows(2).for_each(|ends| mask.add_segment(ends[0], ends[1], width));
        }
        mask
    }

    /// Adds one straight piece, looking only at the pixels near it.
    fn add_segment(&mut self, a: Point, b: Point, width: f32) {
        let reach = width / 2.0 + 1.0;
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length2 = (dx * dx + dy * dy).max(1e-6);
        let clip =
            |v: f32, start: usize, size: usize| (v - start as f32).clamp(0.0, size as f32) as usize;
        let (x0, x1) = (
            clip(a.0.min(b.0) - reach, self.x, self.width),
            clip((a.0.max(b.0) + reach).ceil(), self.x, self.width),
        );
        let (y0, y1) = (
            clip(a.1.min(b.1) - reach, self.y, self.height),
            clip((a.1.max(b.1) + reach).ceil(), self.y, self.height),
        );
        for j in y0..y1 {
            for i in x0..x1 {
                let (px, py) = ((self.x + i) as f32 + 0.5 - a.0, (self.y + j) as f32 + 0.5 - a.1);
                let along = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                let value = (width / 2.0 + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                let old = &mut self.values[j * self.width + i];
                *old = old.max(value);
            }
        }
    }

    /// Sets every value from the pixel's centre.
    pub(super) fn set(&mut self, coverage: impl Fn(f32, f32) -> f32) {
        for j in 0..self.height {
            for i in 0..self.width {
                let (x, y) = ((self.x + i) as f32 + 0.5, (self.y + j) as f32 + 0.5);
                self.values[j * self.width + i] = coverage(x, y);
            }
        }
    }

    /// The same shape moved by whole pixels, cut at the canvas's edges by [`Mask::each`].
    pub(super) fn moved(&self, dx: usize, dy: usize) -> Mask {
        Mask { x: self.x + dx, y: self.y + dy, values: self.values.clone(), ..*self }
    }

    /// Calls `visit` with every pixel that the shape covers at all.
    pub(super) fn each(&self, mut visit: impl FnMut(usize, usize, f32)) {
        for (j, row) in self.values.chunks_exact(self.width.max(1)).enumerate() {
            for (i, &value) in row.iter().enumerate() {
                let (x, y) = (self.x + i, self.y + j);
                if value > 0.0 && x < CANVAS_SIDE && y < CANVAS_SIDE {
                    visit(x, y, value);
                }
            }
        }
    }
}
