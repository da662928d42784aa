//! A station's photo eye: a thread that reads its lines, and what the station's own thread makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::desk::Desk;
use crate::clock::Stamp;
use crate::frame::Frame;
use crate::hard::eye::Edges;
use crate::hard::gpio::Chips;
use crate::station::Station;
use crate::telemetry;
use crate::trigger::photo_eye::{Seen, Signal};
use crate::trigger::{Focus, PhotoEye, PhotoEyeOptions};

/// Longest wait for edges: so often the thread looks whether it is to end.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// From one attempt to open a chip that failed to the next, in looks.
const RETRY_LOOKS: u32 = 10;

/// Edges on their way to the station's thread. When they are that many the kernel keeps the next ones,
/// and says when it could not.
const EDGES_MAX: usize = 4096;

/// A part that was at the eye.
pub struct Arrival {
    /// The number of its job.
    pub job_id: u64,
    /// The station with the recipe that was active when it was there.
    pub station: Arc<Station>,
}

/// A photo eye as the station's thread sees it.
pub struct EyeWatch {
    desk: Arc<Desk>,
    eye: PhotoEye<Arrival>,
    /// `None`: footage is heard in its place.
    signals: Option<flume::Receiver<Signal>>,
    /// What the controller was told of it.
    told: Option<String>,
    is_closed: Arc<AtomicBool>,
}

/// Reads the lines, on a thread of its own.
pub struct EyeReader {
    chips: Arc<dyn Chips>,
    options: PhotoEyeOptions,
    edges: Box<dyn Edges>,
    signals: flume::Sender<Signal>,
    is_closed: Arc<AtomicBool>,
}

impl EyeWatch {
    /// Opens the lines of the eye that the desk's station has.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub fn open(
        desk: &Arc<Desk>,
        options: &PhotoEyeOptions,
        chips: &Arc<dyn Chips>,
    ) -> Result<(EyeWatch, EyeReader), String> {
        let edges = chips.watch(options)?;
        let (sender, signals) = flume::bounded(EDGES_MAX);
        let watch = EyeWatch::new(desk, options, Some(signals));
        let is_closed = Arc::clone(&watch.is_closed);
        let (chips, options) = (Arc::clone(chips), options.clone());
        Ok((watch, EyeReader { chips, options, edges, signals: sender, is_closed }))
    }

    /// The eye of a station that sees footage: what it tells comes by [`EyeWatch::hear_again`].
    pub fn of_footage(desk: &Arc<Desk>, options: &PhotoEyeOptions) -> EyeWatch {
        EyeWatch::new(desk, options, None)
    }

    fn new(
        desk: &Arc<Desk>,
        options: &PhotoEyeOptions,
        signals: Option<flume::Receiver<Signal>>,
    ) -> EyeWatch {
        let eye = PhotoEye::new(options.clone(), Focus::around(&desk.first().regions));
        let desk = Arc::clone(desk);
        EyeWatch { desk, eye, signals, told: None, is_closed: Arc::default() }
    }

    /// Takes what was told once; answers what became of parts.
    pub fn hear_again(&mut self, signal: Signal) -> Vec<Seen<Arrival>> {
        let seen = self.take(signal);
        self.tell();
        seen
    }

    /// Takes what the lines have told until `now`, and lets `keep` hear of it; answers what became of
    /// parts.
    pub fn hear(&mut self, now: &Stamp, keep: &mut dyn FnMut(&Signal)) -> Vec<Seen<Arrival>> {
        let mut seen = Vec::new();
        while let Some(signals) = &self.signals {
            match signals.try_recv() {
                Ok(signal) => {
                    keep(&signal);
                    seen.extend(self.take(signal));
                }
                Err(flume::TryRecvError::Empty) => break,
                Err(flume::TryRecvError::Disconnected) => {
                    let why = "the thread that reads them has ended".to_owned();
                    seen.extend(self.take(Signal::Failed(why)));
                    break;
                }
            }
        }
        let desk = &self.desk;
        let is_idle = !desk.is_producing();
        seen.extend(self.eye.pass_time(now.monotonic_ns, is_idle, |_| arrive(desk)));
        self.tell();
        seen
    }

    fn take(&mut self, signal: Signal) -> Vec<Seen<Arrival>> {
        let desk = &self.desk;
        self.eye.hear(signal, |_| arrive(desk))
    }

    /// Looks at the next frame; answers what became of parts.
    pub fn see(&mut self, frame: &Arc<Frame>) -> Vec<Seen<Arrival>> {
        self.eye.see(frame)
    }

    /// The station's regions are others from now on.
    pub fn refocus(&mut self, focus: Focus) {
        self.eye.refocus(focus);
    }

    /// The parts that are still on their way.
    pub fn give_up(&mut self) -> Vec<Arrival> {
        self.eye.give_up()
    }

    /// Lets the controller know when parts are no longer seen, and when they are again.
    fn tell(&mut self) {
        let now = self.eye.trouble();
        if now == self.told.as_deref() {
            return;
        }
        match now {
            Some(why) => {
                telemetry::trigger_failed(self.desk.name(), why);
                self.desk.change(|contract, now| contract.trigger_failed(why, now));
            }
            None => {
                telemetry::trigger_back(self.desk.name());
                self.desk.change(|contract, now| contract.trigger_back(now));
            }
        }
        self.told = now.map(str::to_owned);
    }
}

/// The next part of the station, as it is when the part is at the eye.
fn arrive(desk: &Desk) -> Arrival {
    Arrival { job_id: desk.number_part(), station: desk.active().0 }
}

impl Drop for EyeWatch {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}

impl EyeReader {
    /// Reads until its [`EyeWatch`] is gone. A chip that fails is opened again.
    pub fn run(self) {
        let EyeReader { chips, options, edges, signals, is_closed } = self;
        let mut edges = Some(edges);
        let mut looks = 0;
        while !is_closed.load(Ordering::SeqCst) {
            let told = match &mut edges {
                Some(open) => match open.read(LOOK_AROUND) {
                    Ok(read) => read.into_iter().try_for_each(|it| signals.send(Signal::Edge(it))),
                    Err(why) => {
                        edges = None;
                        signals.send(Signal::Failed(why))
                    }
                },
                None => {
                    thread::sleep(LOOK_AROUND);
                    looks += 1;
                    if looks % RETRY_LOOKS == 0 {
                        edges = chips.watch(&options).ok();
                    }
                    edges.as_ref().map_or(Ok(()), |_| signals.send(Signal::Opened))
                }
            };
            if told.is_err() {
                // Nobody listens any more.
                return;
            }
        }
    }
}
