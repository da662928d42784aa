//! A simulated production line: plates with a serial label and, on some of them, defects, drawn
//! so that every picture comes with the truth about itself.
//!
//! The line exists for three readers. The built-in model is trained on it, `simulate` writes
//! labelled sets and footage from it, and the tests use it where a camera would stand. One
//! picture is made in four steps, one file each:
//!
//! ```text
//! seed ─part::Part─► paint (canvas, plate, label, defects) ─► camera::composite ─► camera::develop
//! ```
//!
//! * [`part`]: everything random about a part, as plain data, decided before a pixel is drawn;
//! * `canvas`, `plate`, `label`, `defects`: the part seen squarely, in its own coordinates;
//! * [`camera`]: where the part lies, how it is lit, blur, noise, and the step to eight bits;
//! * [`truth`]: what a perfect inspector would answer, and the per-pixel truth behind it;
//! * [`set`]: a folder of pictures with `truth.jsonl`; [`belt`]: a camera over a moving belt;
//!   [`footage`]: what that camera would record.
//!
//! Everything follows from one seed: the same seed gives the same bytes. Picture `i` of a set has
//! its own random stream, so it does not depend on how many pictures come before it.

pub mod belt;
pub mod camera;
mod canvas;
mod defects;
pub mod footage;
mod label;
pub mod part;
pub mod picture;
mod plate;
pub mod set;
mod texture;
pub mod truth;

pub use belt::{Belt, BeltPart};
pub use part::Mix;
pub use picture::{Picture, picture};
pub use set::{SetOptions, write_set};
pub use truth::{Class, Defect, Location, Severity, Truth, Verdict};

/// Side of a picture in pixels: what the model's vision tower takes.
pub const PICTURE_SIDE: u32 = 336;

/// Pixels per millimetre of the simulated camera, on a set's pictures and on the belt alike.
pub const PIXELS_PER_MM: f32 = 3.0;

/// The characters of a serial: letters and digits that nobody takes for one another
/// (S without 5, 2 without Z, 6 without G, and neither B nor 8, O nor 0, I nor 1).
pub const SERIAL_ALPHABET: &[u8; 26] = b"ACDEFHJKLMNPQRSTUWXY234679";

/// Characters in a serial.
pub const SERIAL_LENGTH: usize = 8;

/// Why a set or a belt could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A fraction or a speed that makes no sense.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// Which option.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What it should have been.
        expected: &'static str,
    },
    /// A file that could not be written.
    #[error("could not write {path}: {source}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A picture that could not be coded.
    #[error("could not code {path} as PNG: {source}")]
    Png {
        /// The file.
        path: std::path::PathBuf,
        /// What the coder answered.
        source: image::ImageError,
    },
}
