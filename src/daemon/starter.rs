//! Lets lines run, each on a thread of its own: those of the start, and those that a reload brings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use super::engines::Engines;
use super::line::{Ended, Line};
use super::outputs::Outputs;
use super::recorder::Recorder;
use super::roster::Roster;
use super::{DaemonError, Stop};
use crate::telemetry;

/// Where lines that come later are handed in.
pub struct Joining {
    lines: flume::Sender<Line>,
    /// Held while others may be handed in yet, though none runs any more.
    more: Arc<Mutex<()>>,
}

impl Joining {
    /// While this is held, the run does not end for want of lines.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.more.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more line run. `false`: the run has ended.
    pub fn start(&self, line: Line) -> bool {
        self.lines.send(line).is_ok()
    }
}

/// Starts lines, and knows when the last one has ended.
pub struct Starter {
    roster: Arc<Roster>,
    stop: Arc<Stop>,
    later: flume::Receiver<Line>,
    /// So that its end does not look like the end of all who could hand in.
    _open: flume::Sender<Line>,
    more: Arc<Mutex<()>>,
}

type Running<'s> = BTreeMap<usize, (String, ScopedJoinHandle<'s, Ended>)>;

impl Starter {
    /// One who has started nothing yet, and where lines are handed in to it.
    pub fn new(roster: &Arc<Roster>, stop: &Arc<Stop>) -> (Starter, Joining) {
        let (lines, later) = flume::unbounded();
        let more = Arc::new(Mutex::new(()));
        let joining = Joining { lines: lines.clone(), more: Arc::clone(&more) };
        let (roster, stop) = (Arc::clone(roster), Arc::clone(stop));
        (Starter { roster, stop, later, _open: lines, more }, joining)
    }

    /// Runs `lines` and those that come later, until all have ended; answers the frames delivered and dropped.
    /// Then nobody holds a way to a model any more.
    pub fn run<'s, 'e>(
        self,
        scope: &'s Scope<'s, 'e>,
        lines: Vec<Line>,
        engines: &Engines,
        (recorder, outputs): (&'e Recorder, &'e Outputs),
    ) -> (u64, u64) {
        let Starter { roster, stop, later, _open, more } = self;
        let _closed = Closes(engines);
        let (tell, told) = flume::unbounded();
        let mut running = Running::new();
        let mut number = 0;
        let mut start = |line: Line, running: &mut Running<'s>| {
            number += 1;
            let says = Says { number, tell: tell.clone() };
            let name = line.name().to_owned();
            let run = move || {
                let _says = says;
                line.run(recorder)
            };
            running.insert(number, (name, scope.spawn(run)));
            outputs.run_lines(scope);
        };
        lines.into_iter().for_each(|line| start(line, &mut running));
        let mut seen = (0, 0);
        loop {
            while let Ok(line) = later.try_recv() {
                start(line, &mut running);
            }
            if running.is_empty() {
                let last = wait_for_more(&more, &stop);
                if later.is_empty() {
                    // Nobody can hand in any more once this is dropped.
                    drop(later);
                    drop(last);
                    return seen;
                }
                continue;
            }
            let next = flume::Selector::new()
                .recv(&told, |number| number.map_or(Next::Nothing, Next::Ended))
                .recv(&later, |line| line.map_or(Next::Nothing, |line| Next::Line(Box::new(line))))
                .wait();
            match next {
                Next::Line(line) => start(*line, &mut running),
                Next::Ended(number) => {
                    let Some((name, line)) = running.remove(&number) else { continue };
                    let ended = line.join().unwrap_or_else(|_| died(&name, recorder));
                    seen = (seen.0 + ended.delivered, seen.1 + ended.dropped);
                    if ended.has_left {
                        roster.remove(&name);
                        telemetry::station_left(&name);
                    }
                }
                Next::Nothing => {}
            }
        }
    }
}

/// Waits until nobody is about to hand in a line; nobody can, as long as the answer is held.
fn wait_for_more<'m>(more: &'m Mutex<()>, stop: &Stop) -> Option<MutexGuard<'m, ()>> {
    // A run that was asked to end does not wait for anybody.
    (!stop.is_set()).then(|| more.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whoever holds no line hands in no part.
struct Closes<'e>(&'e Engines);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What happens next.
enum Next {
    Line(Box<Line>),
    Ended(usize),
    Nothing,
}

/// Says that its thread has ended, be it by a panic.
struct Says {
    number: usize,
    tell: flume::Sender<usize>,
}

impl Drop for Says {
    fn drop(&mut self) {
        // Nobody listens any more when all is over.
        let _ = self.tell.send(self.number);
    }
}

/// A line must not be silent: the service manager starts the program anew.
fn died(name: &str, recorder: &Recorder) -> Ended {
    let text = format!("station \"{name}\": its thread has ended by a panic");
    recorder.end_run(DaemonError::Other(text), "a station's thread has ended");
    Ended::default()
}
