//! What keeps a camera from being calibrated, and what to do about it.

use std::path::PathBuf;

use super::solve::{TILT_MIN_DEGREES, VIEWS_MAX, VIEWS_MIN};

/// Why a step of a calibration failed. Each message ends in the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// Too few pictures of the target, or too many.
    #[error(
        "{found} usable pictures of the target, and the lens needs {VIEWS_MIN} to {VIEWS_MAX}: take ten \
         to twenty, the target tilted to each side, near each corner of the frame"
    )]
    Views {
        /// How many there were.
        found: usize,
    },
    /// The corners of one picture determine nothing.
    #[error(
        "the corners that were found lie on one line or are too few: show more of the target, at least \
         four squares by four"
    )]
    Degenerate,
    /// The fit did not come to an end.
    #[error(
        "no lens fits the pictures ({why}): check that all are of one camera with the same focus and \
         zoom, and that the target lay flat"
    )]
    NoSolution {
        /// What the solver said.
        why: String,
    },
    /// The corners fit no lens well enough.
    #[error(
        "the corners miss the best lens by {rms_px:.2} px on average, {limit_px:.2} px allowed; the worst \
         picture is {worst} ({worst_px:.2} px): take it out if it is blurred, keep the target flat, do not \
         touch focus and zoom between pictures"
    )]
    Residual {
        /// Root mean square over all corners, in pixels.
        rms_px: f64,
        /// What was allowed, in pixels.
        limit_px: f64,
        /// The picture that fits worst.
        worst: String,
        /// Its root mean square, in pixels.
        worst_px: f64,
    },
    /// All views look at the target from one direction.
    #[error(
        "the poses are too alike: the target is tilted by {tilt_degrees:.1}° at most between two pictures, \
         and without {TILT_MIN_DEGREES:.0}° a longer lens cannot be told from a target further away; tilt \
         it by 20° to 45° to each side"
    )]
    Poses {
        /// The largest angle between two views.
        tilt_degrees: f64,
    },
    /// The focal length is not known well enough.
    #[error(
        "the pictures determine the focal length to {percent:.1} % only, 2 % are needed: take more, with \
         the target larger in the frame and tilted by 20° to 45°"
    )]
    Focal {
        /// Standard deviation as a share of it.
        percent: f64,
    },
    /// The target was not found.
    #[error(
        "{file}: {problem}; the whole target, or most of it, is to be in the picture: sharp, evenly lit, \
         with its white rim"
    )]
    Target {
        /// The picture.
        file: String,
        /// What was found instead.
        problem: String,
    },
    /// A picture of another size.
    #[error(
        "{file} has {}x{} px, and the calibration is for {}x{} px: take all pictures with the resolution \
         that the station runs with",
        found[0], found[1], wanted[0], wanted[1]
    )]
    Size {
        /// The picture.
        file: String,
        /// Its width and height in pixels.
        found: [u32; 2],
        /// Those of the calibration.
        wanted: [u32; 2],
    },
    /// A picture that cannot be read.
    #[error("{file}: {why}; take it out of the folder, or take it again")]
    Picture {
        /// The picture.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Pictures for the flat field that are not good for that.
    #[error("{problem}; {remedy}")]
    Light {
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A calibration file that cannot be used.
    #[error("{}: {problem}; {remedy}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The target or a region was asked for in a size that does not fit.
    #[error("{0}")]
    Asked(String),
}
