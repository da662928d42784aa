//! What is known of a station's camera: its lens, the plane of the belt, its light, where the part is
//! expected.
//!
//! ```text
//! target (printed) ─pictures→ detect ─corners→ solve ─→ Lens ─┐
//!                    picture on the belt ─corners→ plane ─→ Plane ─┤
//!                    pictures of white paper, of darkness ─→ flat ─┼→ file ─→ InUse ─→ roi::Corrections
//!                    picture of a good part ─→ align, references ──┘
//! ```
//!
//! `lens`, `homography`, `solve`, `plane`, `flat` and `align` compute; `detect` finds the target in a
//! picture; `target` draws it; `file` alone reads and writes.

pub mod align;
pub mod assist;
pub mod detect;
mod error;
pub mod file;
pub mod flat;
pub mod homography;
mod in_use;
pub mod lens;
pub mod plane;
pub mod solve;
pub mod target;

pub use error::CalibrationError;
pub use file::Calibration;
pub use in_use::InUse;
pub use lens::Lens;
