//! What somebody who turns a lens wants to know of a frame: is it sharp, is it well lit, where is the
//! target.

use super::detect;
use crate::frame::Rgb8;

/// What a frame says of the lens.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Mean square of the differences of neighbouring grey values: larger is sharper, and only to be
    /// compared with other frames of the same scene and light.
    pub focus: f64,
    /// The same in the frame's corners, as a share of its centre's, in percent: what differs much is a
    /// lens or a target askew.
    pub edge_percent: f64,
    /// Mean value, 0 to 255.
    pub level: f64,
    /// Share of values of 255.
    pub white_percent: f64,
    /// Share of values of 0.
    pub black_percent: f64,
    /// The target, if it is in the frame.
    pub target: Option<Framed>,
}

/// Where the target is in a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Framed {
    /// Its corners.
    pub corners: usize,
    /// A square's side in the middle of it, in pixels.
    pub square_px: f64,
    /// Its middle as shares of the frame, 0 to 1: across, down.
    pub middle: [f64; 2],
    /// The share of the frame's area that its corners span, in percent.
    pub area_percent: f64,
}

/// Looks at a frame.
pub fn look(picture: &Rgb8) -> Seen {
    let third = |side: u32| side / 3;
    let (w, h) = (third(picture.width), third(picture.height));
    let corners = [(0, 0), (2 * w, 0), (0, 2 * h), (2 * w, 2 * h)];
    let at_corners =
        corners.iter().map(|(x, y)| sharpness(picture, *x, *y, w, h)).sum::<f64>() / 4.0;
    let centre = sharpness(picture, w, h, w, h);
    let values = picture.data.len().max(1) as f64;
    let share = |wanted: u8| {
        picture.data.iter().filter(|value| **value == wanted).count() as f64 / values * 100.0
    };
    Seen {
        focus: sharpness(picture, 0, 0, picture.width, picture.height),
        edge_percent: if centre > 0.0 { at_corners / centre * 100.0 } else { 0.0 },
        level: picture.data.iter().map(|value| u64::from(*value)).sum::<u64>() as f64 / values,
        white_percent: share(255),
        black_percent: share(0),
        target: framed(picture),
    }
}

/// Mean square of the green's differences to the right and below, within a rectangle.
fn sharpness(picture: &Rgb8, x: u32, y: u32, width: u32, height: u32) -> f64 {
    let line = picture.width as usize * 3;
    let (mut sum, mut count) = (0u64, 0u64);
    for row in y..(y + height).min(picture.height).saturating_sub(1) {
        for column in x..(x + width).min(picture.width).saturating_sub(1) {
            let at = row as usize * line + column as usize * 3 + 1;
            let here = i64::from(picture.data[at]);
            let (right, below) = (picture.data[at + 3], picture.data[at + line]);
            let squares = (i64::from(right) - here).pow(2) + (i64::from(below) - here).pow(2);
            sum += squares.unsigned_abs();
            count += 1;
        }
    }
    sum as f64 / count.max(1) as f64
}

fn framed(picture: &Rgb8) -> Option<Framed> {
    let matches = detect::corners(picture, "the frame", 1.0).ok()?;
    let sides = [f64::from(picture.width), f64::from(picture.height)];
    let span = |axis: usize| {
        let all = matches.iter().map(|one| one.pixel[axis]);
        all.fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(at), high.max(at)))
    };
    let (across, down) = (span(0), span(1));
    let steps = matches.iter().flat_map(|one| {
        let right = [one.board_mm[0] + 1.0, one.board_mm[1]];
        let next = matches.iter().find(|other| other.board_mm == right)?;
        Some((next.pixel[0] - one.pixel[0]).hypot(next.pixel[1] - one.pixel[1]))
    });
    let mut steps: Vec<f64> = steps.collect();
    steps.sort_by(f64::total_cmp);
    Some(Framed {
        corners: matches.len(),
        square_px: steps.get(steps.len() / 2).copied().unwrap_or(0.0),
        middle: [(across.0 + across.1) / 2.0 / sides[0], (down.0 + down.1) / 2.0 / sides[1]],
        area_percent: (across.1 - across.0) * (down.1 - down.0) / (sides[0] * sides[1]) * 100.0,
    })
}

impl Framed {
    /// Where it is, in words.
    pub fn place(&self) -> String {
        let word = |at: f64, low: &'static str, high: &'static str| match at {
            at if at < 0.4 => low,
            at if at > 0.6 => high,
            _ => "",
        };
        let words = [word(self.middle[1], "upper", "lower"), word(self.middle[0], "left", "right")];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let place = if words.is_empty() { "in the middle".to_owned() } else { words.join(" ") };
        format!("{place}, {:.0} % of the frame", self.area_percent)
    }
}
