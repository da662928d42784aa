//! The hard outputs beside the daemon's other threads: opened before a station runs, told by the desks, and
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
    clock: Arc<dyn Clock>,
    chips: Arc<dyn Chips>,
    /// Until its thread takes it.
    listener: Mutex<Option<TcpListener>>,
    /// `None`: there is no [modbus].
    bank: Option<Arc<Bank>>,
    held: Mutex<Vec<Held>>,
    is_modbus_dead: AtomicBool,
    is_closed: AtomicBool,
    stop: watch::Sender<bool>,
}

/// What one station has.
struct Held {
    desk: Arc<Desk>,
    base: Option<u16>,
    /// Until their thread takes them.
    lines: Option<(gpio::Options, Pins)>,
    end: Arc<End>,
}

/// The end of the thread that drives a station's lines.
#[derive(Default)]
struct End {
    is_near: AtomicBool,
    /// Held by the thread as long as it has the lines.
    lines: Mutex<()>,
}

/// A station's outputs: given back when it is dropped, with its lines at rest.
pub struct OutputsOf {
    outputs: Arc<Outputs>,
    desk: Arc<Desk>,
}

impl Drop for OutputsOf {
    fn drop(&mut self) {
        self.outputs.give_back(&self.desk);
    }
}

impl Outputs {
    /// Listens where `modbus` says; no station has outputs yet.
    ///
    /// # Errors
    /// [`DaemonError::Output`] for an address that cannot be had.
    pub fn open(
        modbus: Option<&Options>,
        chips: Arc<dyn Chips>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Outputs, DaemonError> {
        Ok(Outputs {
            clock: Arc::clone(clock),
            chips,
            listener: Mutex::new(modbus.map(listen).transpose()?),
            bank: modbus.map(|modbus| Arc::new(Bank::new(modbus.unit_id))),
            held: Mutex::default(),
            is_modbus_dead: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        })
    }

    /// Opens the outputs of the desk's station, if it has any: lines at rest, registers that show no part.
    ///
    /// # Errors
    /// [`DaemonError::Output`] for lines or registers that cannot be had.
    pub fn open_for(
        self: &Arc<Outputs>,
        desk: &Arc<Desk>,
    ) -> Result<Option<OutputsOf>, DaemonError> {
        let Some(panel) = desk.panel() else { return Ok(None) };
        let options = desk.first().outputs.clone();
        if options.modbus_base.is_some() && self.is_modbus_dead.load(Ordering::SeqCst) {
            let text = "Modbus has failed, and nobody can read its registers before a restart";
            return Err(DaemonError::Output(format!("station \"{}\": {text}", desk.name())));
        }
        let lines = match options.gpio {
            None => None,
            Some(gpio) => {
                let pins =
                    Pins::open(&*self.chips, &gpio).map_err(|why| no_line(desk.name(), &why))?;
                Some((gpio, pins))
            }
        };
        if let (Some(bank), Some(base)) = (&self.bank, options.modbus_base) {
            bank.add(Block { base, panel: Arc::clone(panel) }).map_err(|why| {
                DaemonError::Output(format!("station \"{}\": {why}", desk.name()))
            })?;
        }
        let desk = Arc::clone(desk);
        let held =
            Held { desk: Arc::clone(&desk), base: options.modbus_base, lines, end: Arc::default() };
        lock(&self.held).push(held);
        // The first beat takes back what was shown before it.
        desk.beat_panel();
        Ok(Some(OutputsOf { outputs: Arc::clone(self), desk }))
    }

    fn give_back(&self, desk: &Arc<Desk>) {
        let gone = {
            let mut held = lock(&self.held);
            let at = held.iter().position(|one| Arc::ptr_eq(&one.desk, desk));
            at.map(|at| held.remove(at))
        };
        let Some(gone) = gone else { return };
        if let (Some(bank), Some(base)) = (&self.bank, gone.base) {
            bank.remove(base);
        }
        gone.end.is_near.store(true, Ordering::SeqCst);
        // Its thread looks several times a second; then the lines are free for others.
        drop(lock(&gone.end.lines));
    }

    /// Starts the threads that all stations have in common, which run until [`Outputs::close`].
    pub fn run<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        scope.spawn(|| self.beat());
        if let (Some(listener), Some(bank)) = (lock(&self.listener).take(), &self.bank) {
            scope.spawn(move || self.serve(listener, bank));
        }
    }

    /// Starts a thread for the lines of each station that has none yet.
    pub fn run_lines<'s, 'e>(&'e self, scope: &'s Scope<'s, 'e>) {
        for held in lock(&self.held).iter_mut() {
            let Some((options, pins)) = held.lines.take() else { continue };
            let (desk, end) = (Arc::clone(&held.desk), Arc::clone(&held.end));
            scope.spawn(move || {
                let _lines = lock(&end.lines);
                self.drive(&desk, &options, pins, &end.is_near);
            });
        }
    }

    /// Ends the threads: lines go to rest, connections are closed.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.stop.send_replace(true);
        lock(&self.held).iter().for_each(|held| held.end.is_near.store(true, Ordering::SeqCst));
    }

    fn desks(&self) -> Vec<Arc<Desk>> {
        lock(&self.held).iter().map(|held| Arc::clone(&held.desk)).collect()
    }

    /// Says that the desks are alive. Without this thread nobody is, and nothing passes.
    fn beat(&self) {
        while !self.is_closed.load(Ordering::SeqCst) {
            self.desks().iter().for_each(|desk| desk.beat_panel());
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
        self.desks().iter().filter(shown).for_each(|desk| fail(desk, MODBUS, why));
    }

    fn drive(&self, desk: &Desk, options: &gpio::Options, pins: Pins, is_over: &AtomicBool) {
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
        Driver { chips, options, panel, clock, told: &told }.run(pins, is_over);
    }
}

fn listen(modbus: &Options) -> Result<TcpListener, DaemonError> {
    let listener = server::bind(modbus.listen).map_err(|why| {
        let text = format!("Modbus cannot listen on {}: {why}", modbus.listen);
        let remedy = "write a `listen` in [modbus] that is an address of this device and a free port \
                      from 1024 on";
        DaemonError::Output(format!("{text}; {remedy}"))
    })?;
    // The port that was chosen, where 0 asked for any.
    let address = listener.local_addr().map_or(modbus.listen, |address| address);
    telemetry::modbus_serves(&address.to_string());
    Ok(listener)
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
