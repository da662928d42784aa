//! From measures to what is wrong with them.
//!
//! A limit is absolute, or holds against a reference where there is one. All checks are answered,
//! and not only those that fail, as a value that nears its limit is told as drift.

use super::{DIRECTIONS_DEG, Measures, Reference, Shift, rounded};

/// What pictures of a region must be. What is out of reach switches a check off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A region that shows nothing at all goes on as if it did.
    pub allow_blank: bool,
    /// Least and greatest mean luma, in levels.
    pub luma_min: f64,
    /// See `luma_min`.
    pub luma_max: f64,
    /// By what factor the mean luma may be above or below the reference's.
    pub luma_ratio_max: f64,
    /// Least difference between the bright and the dark parts, in levels.
    pub contrast_min: f64,
    /// Largest share that is too dark to show anything.
    pub dark_share_max: f64,
    /// Largest share that is too bright to.
    pub bright_share_max: f64,
    /// Largest connected area of the latter that is not expected, as a share.
    pub glare_share_max: f64,
    /// Widest edges, in pixels, in the direction in which they are sharpest.
    pub edge_width_max_px: f64,
    /// Least sharpness, as a share of the reference's.
    pub focus_share_min: f64,
    /// Longest motion, in pixels, beyond what the reference shows.
    pub motion_max_px: f64,
}

/// What a fixed area must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedLimits {
    /// Farthest shift, in pixels.
    pub shift_max_px: f64,
    /// Least likeness.
    pub correlation_min: f64,
}

/// What is checked, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// There is nothing to be seen.
    Blank,
    /// The region has another size, or the fixed area another place, than when its reference was made.
    Place,
    /// The mean luma, against what is too dark.
    LumaLow,
    /// The same, against what is too bright.
    LumaHigh,
    /// [`Measures::contrast`].
    Contrast,
    /// [`Measures::dark_share`].
    DarkShare,
    /// [`Measures::bright_share`].
    BrightShare,
    /// [`Measures::glare_share`].
    GlareShare,
    /// [`super::EdgeWidths::sharpest_px`].
    EdgeWidth,
    /// [`Measures::focus_share`].
    FocusShare,
    /// [`Measures::motion`].
    Motion,
    /// [`Shift::px`].
    Shift,
    /// [`Shift::correlation`].
    Correlation,
}

/// One value against one limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// What was looked at.
    pub what: What,
    /// What it is; `None`: it could not be measured where it must be, which is out of limits.
    pub value: Option<f64>,
    /// What it may be at most, or must be at least.
    pub limit: f64,
    /// What it was in the reference, if there is one.
    pub reference: Option<f64>,
    /// Of a motion: its direction.
    pub along_deg: Option<u16>,
}

impl Default for Limits {
    /// Only what shows nothing is refused, and with a reference what is far from it. Without one no
    /// figure is right for every station.
    fn default() -> Limits {
        Limits {
            allow_blank: false,
            luma_min: 0.0,
            luma_max: 255.0,
            luma_ratio_max: 2.0,
            contrast_min: 0.0,
            dark_share_max: 1.0,
            bright_share_max: 1.0,
            glare_share_max: 1.0,
            edge_width_max_px: f64::INFINITY,
            focus_share_min: 0.5,
            motion_max_px: f64::INFINITY,
        }
    }
}

impl Default for FixedLimits {
    fn default() -> FixedLimits {
        FixedLimits { shift_max_px: 3.0, correlation_min: 0.4 }
    }
}

/// Holds the measures of a region against its limits, and its reference if it has one.
pub fn judge(measures: &Measures, limits: &Limits, reference: Option<&Reference>) -> Vec<Check> {
    if measures.is_blank {
        // Whatever else could be said of it follows from that.
        let blank = Check::new(What::Blank, None, 0.0, None);
        return if limits.allow_blank { vec![] } else { vec![blank] };
    }
    let known = reference.map(|reference| &reference.measures);
    let of_reference = |value: fn(&Measures) -> f64| known.map(value);
    let mean = of_reference(|known| known.luma_mean);
    let at_least = mean.map_or(0.0, |mean| mean / limits.luma_ratio_max).max(limits.luma_min);
    let at_most = mean.map_or(255.0, |mean| mean * limits.luma_ratio_max).min(limits.luma_max);
    let luma = Some(measures.luma_mean);
    let mut checks = vec![
        Check::new(What::LumaLow, luma, at_least, mean),
        Check::new(What::LumaHigh, luma, at_most, mean),
    ];
    let mut check = |what, value: fn(&Measures) -> f64, limit| {
        checks.push(Check::new(what, Some(value(measures)), limit, of_reference(value)));
    };
    check(What::Contrast, |m| f64::from(m.contrast()), limits.contrast_min);
    check(What::DarkShare, |m| m.dark_share, limits.dark_share_max);
    check(What::BrightShare, |m| m.bright_share, limits.bright_share_max);
    check(What::GlareShare, |m| m.glare_share, limits.glare_share_max);
    checks.extend(edge_width(measures, limits, known));
    checks.extend(known.and_then(|known| focus(measures, limits, known)));
    checks.extend(motion(measures, limits, known));
    checks
}

/// Edges that are nowhere to be seen are as good as blurred.
fn edge_width(measures: &Measures, limits: &Limits, known: Option<&Measures>) -> Option<Check> {
    let reference = known.and_then(|known| known.edge_widths_px.sharpest_px());
    let width = measures.edge_widths_px.sharpest_px();
    let is_on = limits.edge_width_max_px.is_finite();
    is_on.then(|| Check::new(What::EdgeWidth, width, limits.edge_width_max_px, reference))
}

/// A reference without edges asks for none.
fn focus(measures: &Measures, limits: &Limits, known: &Measures) -> Option<Check> {
    let is_on = limits.focus_share_min > 0.0 && known.edge_widths_px.sharpest_px().is_some();
    let share = measures.focus_share(known);
    is_on.then(|| Check::new(What::FocusShare, share, limits.focus_share_min, Some(1.0)))
}

/// Without edges in two directions motion cannot be told from anything else, and focus tells of both.
fn motion(measures: &Measures, limits: &Limits, known: Option<&Measures>) -> Option<Check> {
    let motion = measures.motion(known).filter(|_| limits.motion_max_px.is_finite())?;
    let reference = known.map(|_| 0.0);
    let check = Check::new(What::Motion, Some(motion.px), limits.motion_max_px, reference);
    Some(Check { along_deg: Some(motion.along_deg), ..check })
}

/// Holds the shift of a fixed area against its limits; `None`: it could not be compared.
pub fn judge_shift(shift: Option<&Shift>, limits: &FixedLimits) -> Vec<Check> {
    let Some(shift) = shift else { return vec![Check::new(What::Place, None, 0.0, None)] };
    let correlation = Some(shift.correlation);
    let alike = Check::new(What::Correlation, correlation, limits.correlation_min, Some(1.0));
    if alike.is_out() {
        // What is not there has no place.
        return vec![alike];
    }
    vec![Check::new(What::Shift, Some(shift.px()), limits.shift_max_px, Some(0.0)), alike]
}

impl Check {
    pub(super) fn new(what: What, value: Option<f64>, limit: f64, reference: Option<f64>) -> Check {
        Check { what, value: value.map(rounded), limit, reference, along_deg: None }
    }

    /// Whether the picture is not to be judged by. What is not a number is.
    pub fn is_out(&self) -> bool {
        match (self.value, self.what.has_most()) {
            (None, _) => true,
            (Some(value), true) => value.is_nan() || value > self.limit,
            (Some(value), false) => value.is_nan() || value < self.limit,
        }
    }

    /// Why, in words for a person, of the region or fixed area called `name`.
    pub fn text(&self, name: &str) -> String {
        let limit = match self.what.has_most() {
            true => format!("{} at most", figure(self.limit)),
            false => format!("{} at least", figure(self.limit)),
        };
        let reference = match (self.what, self.reference) {
            (What::FocusShare | What::Motion | What::Shift | What::Correlation, _) | (_, None) => {
                String::new()
            }
            (_, Some(reference)) => format!(", {} in the reference", figure(reference)),
        };
        let held = format!("({limit}{reference})");
        let Some(value) = self.value.map(figure) else { return self.unmeasured(name) };
        match self.what {
            What::Blank | What::Place => self.unmeasured(name),
            What::LumaLow => {
                format!("\"{name}\" is too dark: mean luma {value} of 255 {held}.")
            }
            What::LumaHigh => {
                format!("\"{name}\" is too bright: mean luma {value} of 255 {held}.")
            }
            What::Contrast => {
                format!("\"{name}\" has little contrast: {value} levels of 255 {held}.")
            }
            What::DarkShare => format!("\"{name}\" is black for a share of {value} {held}."),
            What::BrightShare => format!("\"{name}\" is white for a share of {value} {held}."),
            What::GlareShare => format!("\"{name}\" has glare on a share of {value} {held}."),
            What::EdgeWidth => {
                format!("\"{name}\" is out of focus: edges are {value} px wide {held}.")
            }
            What::FocusShare => {
                format!("\"{name}\" is out of focus: {value} as sharp as the reference {held}.")
            }
            What::Motion => {
                let along = self.along_deg.map_or("", direction);
                format!("\"{name}\" is blurred by motion: about {value} px {along} {held}.")
            }
            What::Shift => {
                format!("The camera moved: fixed area \"{name}\" lies {value} px off {held}.")
            }
            What::Correlation => format!(
                "Fixed area \"{name}\" is not to be seen where it was: likeness {value} {held}."
            ),
        }
    }

    fn unmeasured(&self, name: &str) -> String {
        match self.what {
            What::Blank => {
                format!("\"{name}\" shows nothing: it is black, white or of one level throughout.")
            }
            What::Place => format!(
                "\"{name}\" has another place or size in the frame than its reference: calibrate the \
                 station again."
            ),
            _ => format!("\"{name}\" is out of focus: there are no edges to measure."),
        }
    }
}

impl What {
    /// Whether the limit is the most that may be; else the least.
    pub fn has_most(self) -> bool {
        !matches!(self, What::LumaLow | What::Contrast | What::FocusShare | What::Correlation)
    }

    /// The reason's code in a verdict.
    pub fn code(self) -> &'static str {
        match self {
            What::Blank => "picture_blank",
            What::Place => "picture_reference_unfit",
            What::LumaLow => "picture_too_dark",
            What::LumaHigh => "picture_too_bright",
            What::Contrast => "picture_low_contrast",
            What::DarkShare => "picture_dark_clipped",
            What::BrightShare => "picture_bright_clipped",
            What::GlareShare => "picture_glare",
            What::EdgeWidth | What::FocusShare => "picture_out_of_focus",
            What::Motion => "picture_motion_blur",
            What::Shift => "picture_camera_moved",
            What::Correlation => "picture_fixed_area_hidden",
        }
    }

    /// The measure's name, in events.
    pub fn name(self) -> &'static str {
        match self {
            What::Blank => "blank",
            What::Place => "place",
            What::LumaLow | What::LumaHigh => "luma_mean",
            What::Contrast => "contrast",
            What::DarkShare => "dark_share",
            What::BrightShare => "bright_share",
            What::GlareShare => "glare_share",
            What::EdgeWidth => "edge_width_px",
            What::FocusShare => "focus_share",
            What::Motion => "motion_px",
            What::Shift => "shift_px",
            What::Correlation => "correlation",
        }
    }
}

/// What every reason about a picture's quality begins with.
pub const CODE_PREFIX: &str = "picture_";

/// To two digits behind the point, less where they are noughts.
fn figure(number: f64) -> String {
    format!("{}", (number * 100.0).round() / 100.0)
}

fn direction(along_deg: u16) -> &'static str {
    match DIRECTIONS_DEG.iter().position(|deg| *deg == along_deg) {
        Some(0) => "across",
        Some(1) => "from the upper left to the lower right",
        Some(2) => "up or down",
        _ => "from the upper right to the lower left",
    }
}
