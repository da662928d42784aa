//! The hard outputs beside the daemon's other threads: opened before it is ready, told by the desks, and
//! a fault of their stations when they fail.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use tokio::sync::watch;

use super::DaemonError;
use super::desk::Desk;
use crate::clock::Clock;
use crate::hard::gpio::{self, Chips, Driver, Pins};
use crate::hard::modbus::{Bank, Block, Options, server};
use crate::telemetry;

/// From one beat to the next: several within the time for which one counts.
const BEAT: Duration = Duration::from_millis(250);

/// What went wrong with Modbus stays wrong until a restart, what goes wrong with a line may pass.
const MODBUS: &str = "modbus";
const GPIO: &str = "gpio";

/// All hard outputs of the device.
pub struct Outputs {
    desks: Vec<Arc<Desk>>,
    clock: Arc<dyn Clock>,
    chips: Arc<dyn Chips>,
    /// Until its thread takes it.
    registers: Mutex<Option<(TcpListener, Arc<Bank>)>>,
    /// Until their threads take them.
    lines: Mutex<Vec<(Arc<Desk>, gpio::Options, Pins)>>,
    is_modbus_dead: AtomicBool,
    is_closed: AtomicBool,
    stop: watch::Sender<bool>,
}

impl Outputs {
    /// Opens the outputs that the stations have: lines at rest, registers that show no part.
    ///
    /// # Errors
    /// [`DaemonError::Output`] for an address or a line that cannot be had.
    pub fn open(
        modbus: Option<&Options>,
        desks: &[Arc<Desk>],
        chips: Arc<dyn Chips>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Outputs, DaemonError> {
        let desks: Vec<Arc<Desk>> =
            desks.iter().filter(|it| it.panel().is_some()).cloned().collect();
        let mut lines = Vec::new();
        for desk in &desks {
            let Some(options) = &desk.first().outputs.gpio else { continue };
            let pins = Pins::open(&*chips, options).map_err(|why| no_line(desk.name(), &why))?;
            lines.push((Arc::clone(desk), options.clone(), pins));
        }
        let registers = modbus.map(|modbus| open_registers(modbus, &desks)).transpose()?;
        Ok(Outputs {
            desks,
            clock: Arc::clone(clock),
            chips,
            registers: Mutex::new(registers),
            lines: Mutex::new(lines),
            is_modbus_dead: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        })
    }

    /// Starts the threads, which run until [`Outputs::close`].
    pub fn run<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.desks.is_empty() && lock(&self.registers).is_none() {
            return;
        }
        scope.spawn(|| self.beat());
        if let Some((listener, bank)) = lock(&self.registers).take() {
            scope.spawn(move || self.serve(listener, &bank));
        }
        for (desk, options, pins) in lock(&self.lines).drain(..) {
            scope.spawn(move || self.drive(&desk, &options, pins));
        }
    }

    /// Ends the threads: lines go to rest, connections are closed.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.stop.send_replace(true);
    }

    /// Says that the desks are alive. Without this thread nobody is, and nothing passes.
    fn beat(&self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            self.desks.iter().for_each(|desk| desk.beat_panel());
            thread::sleep(BEAT);
        }
    }

    fn serve(&self, listener: TcpListener, bank: &Arc<Bank>) {
        let _watch = OnPanic(|| self.modbus_died("its thread has ended"));
        if let Err(why) = server::serve(listener, bank, &self.clock, self.stop.subscribe()) {
            self.modbus_died(&why.to_string());
        }
    }

    fn modbus_died(&self, why: &str) {
        self.is_modbus_dead.store(true, Ordering::SeqCst);
        let shown = |desk: &&Arc<Desk>| desk.first().outputs.modbus_base.is_some();
        self.desks.iter().filter(shown).for_each(|desk| fail(desk, MODBUS, why));
    }

    fn drive(&self, desk: &Desk, options: &gpio::Options, pins: Pins) {
        let _watch = OnPanic(|| fail(desk, GPIO, "its thread has ended"));
        let told = |how: Result<(), &str>| match how {
            Err(why) => fail(desk, GPIO, why),
            Ok(()) => {
                telemetry::output_back(desk.name(), GPIO);
                let has_registers = desk.first().outputs.modbus_base.is_some();
                if !(has_registers && self.is_modbus_dead.load(Ordering::SeqCst)) {
                    desk.change(|contract, now| contract.output_back(now));
                }
            }
        };
        let Some(panel) = desk.panel() else { return };
        let (chips, clock) = (&*self.chips, &*self.clock);
        Driver { chips, options, panel, clock, told: &told }.run(pins, &self.is_closed);
    }
}

fn open_registers(
    modbus: &Options,
    desks: &[Arc<Desk>],
) -> Result<(TcpListener, Arc<Bank>), DaemonError> {
    let listener = server::bind(modbus.listen).map_err(|why| {
        let text = format!("Modbus cannot listen on {}: {why}", modbus.listen);
        let remedy = "write a `listen` in [modbus] that is an address of this device and a free port \
                      from 1024 on";
        DaemonError::Output(format!("{text}; {remedy}"))
    })?;
    // The port that was chosen, where 0 asked for any.
    let address = listener.local_addr().map_or(modbus.listen, |address| address);
    telemetry::modbus_serves(&address.to_string());
    let block = |desk: &Arc<Desk>| {
        let (base, panel) = (desk.first().outputs.modbus_base?, Arc::clone(desk.panel()?));
        Some(Block { base, panel })
    };
    let blocks = desks.iter().filter_map(block).collect();
    Ok((listener, Arc::new(Bank::new(modbus.unit_id, blocks))))
}

fn no_line(station: &str, why: &str) -> DaemonError {
    let remedy = "correct [gpio] in the station's file (`gpioinfo` lists chips and lines), let the \
                  user of the service open the chip, or remove [gpio]";
    DaemonError::Output(format!("station \"{station}\": {why}; {remedy}"))
}

/// The station takes no parts any more, and says why.
fn fail(desk: &Desk, output: &str, why: &str) {
    telemetry::output_failed(desk.name(), output, why);
    desk.change(|contract, now| contract.output_failed(&format!("{output}: {why}"), now));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something when its thread dies of a panic.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}
