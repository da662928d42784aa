//! The printable target: a checkerboard with rulers beside it, exact in millimetres.
//!
//! Printers scale pages to fit and drag paper; so the page holds two rulers of 100 mm. Whoever has
//! printed it measures both, and gives the true side of a square to the commands that follow.

pub mod pdf;
pub mod png;

use super::CalibrationError;

/// White around the squares, in millimetres.
const MARGIN_MM: f64 = 20.0;
/// A ruler's length in millimetres, on paper that is large enough.
const RULER_MM: f64 = 100.0;
/// Height of the words: so small that they fit an A5.
const WORDS_MM: f64 = 3.2;
/// Fewest squares along a side: fewer leave too few corners.
const SQUARES_MIN: u32 = 5;
/// Most: a corner every 5 px of a large camera.
const SQUARES_MAX: u32 = 400;

/// A size of paper, lying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    /// 420 x 297 mm.
    A3,
    /// 297 x 210 mm.
    A4,
    /// 210 x 148 mm.
    A5,
    /// 11 x 8.5 inches.
    Letter,
}

impl Paper {
    /// Width and height in millimetres, lying.
    pub fn size_mm(self) -> [f64; 2] {
        match self {
            Paper::A3 => [420.0, 297.0],
            Paper::A4 => [297.0, 210.0],
            Paper::A5 => [210.0, 148.0],
            Paper::Letter => [279.4, 215.9],
        }
    }
}

/// A checkerboard on paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// The paper, lying.
    pub paper: Paper,
    /// Side of a square in millimetres.
    pub square_mm: f64,
    /// Squares across.
    pub columns: u32,
    /// Squares down.
    pub rows: u32,
}

/// Black on white, in millimetres from the upper left corner of the paper.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Width and height of the paper.
    pub size_mm: [f64; 2],
    /// Left, top, width and height of each black rectangle.
    pub boxes: Vec<[f64; 4]>,
    /// Words: where their base line begins, the height of their letters' body, and what they say.
    pub words: Vec<([f64; 2], f64, String)>,
}

impl Target {
    /// As many squares of `square_mm` as fit on `paper`.
    ///
    /// # Errors
    /// Squares so large or so small that there is no good number of them.
    pub fn fitting(paper: Paper, square_mm: f64) -> Result<Target, CalibrationError> {
        let fits = |side: f64| ((side - 2.0 * MARGIN_MM) / square_mm + 1e-9).floor();
        let [columns, rows] = paper.size_mm().map(fits);
        let (least, most) = (f64::from(SQUARES_MIN), f64::from(SQUARES_MAX));
        let is_good = |count: f64| (least..=most).contains(&count);
        if !(square_mm.is_finite() && square_mm > 0.0 && is_good(columns) && is_good(rows)) {
            let [width, height] = paper.size_mm();
            return Err(CalibrationError::Asked(format!(
                "squares of {square_mm} mm do not fit a paper of {width} x {height} mm at least \
                 {SQUARES_MIN} and at most {SQUARES_MAX} times along each side: choose another \
                 --square-mm or --paper"
            )));
        }
        Ok(Target { paper, square_mm, columns: columns as u32, rows: rows as u32 })
    }

    /// What is to be printed.
    pub fn draw(&self) -> Drawing {
        let size_mm = self.paper.size_mm();
        let side = |count: u32| f64::from(count) * self.square_mm;
        let left = (size_mm[0] - side(self.columns)) / 2.0;
        let top = (size_mm[1] - side(self.rows)) / 2.0;
        let mut boxes = Vec::new();
        for row in 0..self.rows {
            for column in (row % 2..self.columns).step_by(2) {
                let at = [left + side(column), top + side(row)];
                boxes.push([at[0], at[1], self.square_mm, self.square_mm]);
            }
        }
        let mut words = vec![(
            [left, 9.0],
            WORDS_MM,
            format!(
                "inspectd: checkerboard, {} x {} squares of {} mm. Print at 100 %, without \"fit to page\". \
                 Keep the white rim.",
                self.columns, self.rows, self.square_mm
            ),
        )];
        let length =
            |room: f64| if room >= RULER_MM { RULER_MM } else { (room / 10.0).floor() * 10.0 };
        let across = length(side(self.columns));
        let down = length(side(self.rows));
        let below = size_mm[1] - 9.0;
        ruler(across).iter().for_each(|[at, width, tick]| {
            boxes.push([left + at - width / 2.0, below - tick, *width, *tick]);
        });
        boxes.push([left, below, across, 0.2]);
        let beside = 9.0;
        ruler(down).iter().for_each(|[at, width, tick]| {
            boxes.push([beside, top + at - width / 2.0, *tick, *width]);
        });
        boxes.push([beside - 0.2, top, 0.2, down]);
        let text = format!("{across} mm. Measure it, and the {down} mm at the left.");
        words.push(([left + across + 3.0, below], WORDS_MM, text));
        Drawing { size_mm, boxes, words }
    }
}

/// The ticks of a ruler: place, width, length.
fn ruler(length_mm: f64) -> Vec<[f64; 3]> {
    let tick = |at: u32| {
        let long = if at.is_multiple_of(10) {
            5.0
        } else if at.is_multiple_of(5) {
            3.5
        } else {
            2.0
        };
        [f64::from(at), 0.15, long]
    };
    (0..=length_mm as u32).map(tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_fill_the_paper_and_lie_on_it() {
        let target = Target::fitting(Paper::A4, 10.0).expect("fits");
        assert_eq!((target.columns, target.rows), (25, 17));
        let drawing = target.draw();
        let squares = drawing.boxes.iter().filter(|b| b[2] == 10.0 && b[3] == 10.0).count();
        assert_eq!(squares, 25 * 17 / 2 + 1);
        for [x, y, width, height] in &drawing.boxes {
            assert!(*x >= 0.0 && *y >= 0.0 && x + width <= 297.0 && y + height <= 210.0);
        }
    }

    #[test]
    fn squares_that_do_not_fit_are_refused() {
        for side in [60.0, 0.1, 0.0, -1.0, f64::NAN] {
            let why = Target::fitting(Paper::A4, side).expect_err("does not fit").to_string();
            assert!(why.contains("--square-mm"), "{why}");
        }
    }
}
