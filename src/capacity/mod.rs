//! What a model costs on this machine, and whether its line can be kept up with.
//!
//! ```text
//! model card + station ─cost→ tokens ─┐
//! machine, model card ─estimate→ speed ┼→ seconds a part ─fit→ remarks
//! engine ─measure→ speed ─keep─────────┘
//! model card, machine ─footprint→ bytes → admitted or not
//! ```
//!
//! `cost`, `footprint`, `estimate` and `fit` are pure: figures in, figures out. `machine` alone
//! reads what the system says of itself, `measure` alone computes, `kept` alone writes.

pub mod cost;
pub mod estimate;
pub mod fit;
pub mod footprint;
pub mod kept;
pub mod machine;
pub mod measure;

pub use cost::{QuestionCost, StationCost};
pub use estimate::{Origin, Speed};
pub use fit::{Demand, Remark};
pub use footprint::Footprint;
pub use kept::Kept;
pub use machine::{Machine, Resident};
pub use measure::Measurement;
