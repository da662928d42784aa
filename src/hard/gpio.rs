//! Lines of the kernel's GPIO chips, and the one that permits a pass.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpiocdev::Request;
use gpiocdev::chip::Chip;
use gpiocdev::line::Value;

use super::eye::Edges;
use super::panel::Panel;
use super::permit::Permit;
use crate::clock::Clock;
use crate::trigger::PhotoEyeOptions;

/// Longest sleep: so often a line is driven anew, and a chip that is gone is noticed.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// From one attempt to open a chip that failed to the next.
const RETRY: Duration = Duration::from_secs(1);

/// Who uses the line, as the kernel tells others.
pub(super) const CONSUMER: &str = "inspectd";

/// A station's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The chip's device, such as `/dev/gpiochip0`.
    pub chip: PathBuf,
    /// The line that is driven while a part may pass, by its offset on the chip.
    pub pass_line: u32,
    /// Driven is low.
    pub active_low: bool,
    /// Longest time for which a pass is shown.
    pub hold: Duration,
    /// A line that changes four times a second while the station is alive.
    pub alive_line: Option<u32>,
}

impl Options {
    /// The lines that are used.
    pub fn lines(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.pass_line).chain(self.alive_line)
    }
}

/// An output that was requested. Dropped, it is given back: what it shows then is the board's affair.
pub trait Line: Send {
    /// Drives the line, or leaves it at rest.
    ///
    /// # Errors
    /// Why the chip does not take it.
    fn drive(&mut self, active: bool) -> Result<(), String>;
}

/// Where lines come from: the kernel, or a test.
pub trait Chips: Send + Sync + Debug {
    /// Requests a line as an output at rest.
    ///
    /// # Errors
    /// Why it cannot be had, with the chip's name.
    fn open(&self, chip: &Path, line: u32, active_low: bool) -> Result<Box<dyn Line>, String>;

    /// Requests the lines of a photo eye as inputs whose edges are told.
    ///
    /// # Errors
    /// Why they cannot be had, with the chip's name.
    fn watch(&self, eye: &PhotoEyeOptions) -> Result<Box<dyn Edges>, String>;
}

/// The kernel's character devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelChips;

impl Chips for KernelChips {
    fn open(&self, chip: &Path, line: u32, active_low: bool) -> Result<Box<dyn Line>, String> {
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer(CONSUMER).with_line(line);
        if active_low {
            builder.as_active_low();
        }
        let request = builder.as_output(Value::Inactive).request();
        let request = request.map_err(|why| format!("line {line} of {}: {why}", chip.display()))?;
        Ok(Box::new(request))
    }

    fn watch(&self, eye: &PhotoEyeOptions) -> Result<Box<dyn Edges>, String> {
        super::eye::open(eye)
    }
}

impl Line for Request {
    fn drive(&mut self, active: bool) -> Result<(), String> {
        let value = if active { Value::Active } else { Value::Inactive };
        self.set_lone_value(value).map_err(|why| why.to_string())
    }
}

/// Whether the chip is there and has the lines; nothing is driven, and whoever uses them goes on.
///
/// # Errors
/// What is missing.
pub fn check(options: &Options) -> Result<(), String> {
    check_chip(&options.chip, options.lines())
}

pub(super) fn check_chip(chip: &Path, mut wanted: impl Iterator<Item = u32>) -> Result<(), String> {
    let name = chip.display();
    let opened = Chip::from_path(chip).map_err(|why| format!("{name}: {why}"))?;
    let lines = opened.info().map_err(|why| format!("{name}: {why}"))?.num_lines;
    match wanted.find(|line| *line >= lines) {
        Some(line) => Err(format!("{name} has the lines 0 to {}, not {line}", lines.max(1) - 1)),
        None => Ok(()),
    }
}

/// The open lines of one station.
pub struct Pins {
    pass: Box<dyn Line>,
    alive: Option<Box<dyn Line>>,
}

impl Pins {
    /// Requests the lines, at rest.
    ///
    /// # Errors
    /// As [`Chips::open`].
    pub fn open(chips: &dyn Chips, options: &Options) -> Result<Pins, String> {
        let open = |line| chips.open(&options.chip, line, options.active_low);
        Ok(Pins {
            pass: open(options.pass_line)?,
            alive: options.alive_line.map(open).transpose()?,
        })
    }

    fn drive(&mut self, pass: bool, alive: bool) -> Result<(), String> {
        self.pass.drive(pass)?;
        self.alive.as_mut().map_or(Ok(()), |line| line.drive(alive))
    }
}

/// What drives a station's lines.
pub struct Driver<'d> {
    /// Where they come from, to be opened again.
    pub chips: &'d dyn Chips,
    /// Which they are.
    pub options: &'d Options,
    /// What they show.
    pub panel: &'d Panel,
    /// The clock of what they show.
    pub clock: &'d dyn Clock,
    /// Told when the lines can no longer be driven, and when they can be again.
    pub told: &'d dyn Fn(Result<(), &str>),
}

impl Driver<'_> {
    /// Drives `pins` as the board says until `closed`; then leaves them at rest.
    pub fn run(&self, pins: Pins, closed: &AtomicBool) {
        let mut pins = Some(pins);
        let mut permit = Permit::new(self.options.hold);
        let mut retry_ns = 0;
        while !closed.load(Ordering::SeqCst) {
            let seen = self.panel.changes();
            let now_ns = self.clock.now().monotonic_ns;
            if pins.is_none() && now_ns >= retry_ns {
                pins = Pins::open(self.chips, self.options).ok();
                retry_ns = now_ns.saturating_add(RETRY.as_nanos() as u64);
                if pins.is_some() {
                    // With this the board forgets its verdict, too: nothing is permitted late.
                    (self.told)(Ok(()));
                }
            }
            let (until_ns, alive) = self.panel.read(|board| {
                let is_alive = board.is_alive(now_ns);
                (permit.until(board, now_ns), is_alive && board.beats() % 2 == 1)
            });
            if let Some(Err(why)) = pins.as_mut().map(|pins| pins.drive(until_ns.is_some(), alive))
            {
                pins = None;
                retry_ns = now_ns.saturating_add(RETRY.as_nanos() as u64);
                (self.told)(Err(&why));
            }
            let left = until_ns.map(|end| Duration::from_nanos(end.saturating_sub(now_ns)));
            self.panel.wait(seen, left.unwrap_or(LOOK_AROUND).min(LOOK_AROUND));
        }
        if let Some(mut pins) = pins {
            // What cannot be driven any more is given back all the same.
            let _ = pins.drive(false, false);
        }
    }
}
