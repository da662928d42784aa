//! Hard outputs: what a machine reads that trusts no broker. Registers by Modbus TCP, and a line of a
//! GPIO chip that permits a part to pass.
//!
//! ```text
//! desk ─what happened→ Panel(Board) ─registers→ modbus::answer ─TCP→ controller
//!                                   └─Permit→ gpio::Line
//! ```
//!
//! One rule holds for both: a pass is shown only while everything that it rests on is known to hold,
//! and whatever is not known reads as reject. [`Board`] and [`Permit`] are pure: they read no clock,
//! no socket and no pin.
//!
//! The one hard input is a photo eye ([`eye`]): its edges go to `trigger::photo_eye`, which is pure, too.

pub mod board;
pub mod eye;
pub mod gpio;
pub mod modbus;
pub mod panel;
pub mod permit;
pub mod registers;

pub use board::Board;
pub use panel::Panel;
pub use permit::Permit;

/// Which hard outputs a station has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// The first of the station's registers; `None`: it has none.
    pub modbus_base: Option<u16>,
    /// Its line; `None`: it has none.
    pub gpio: Option<gpio::Options>,
}

impl Outputs {
    /// Whether there is any.
    pub fn is_any(&self) -> bool {
        self.modbus_base.is_some() || self.gpio.is_some()
    }
}
