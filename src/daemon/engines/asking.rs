//! The threads that ask one engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::turns::{Place, Turns};
use crate::daemon::desk::InHand;
use crate::daemon::inspecting::{Here, inspect};
use crate::daemon::recorder::Recorder;
use crate::daemon::{DaemonError, Stop};
use crate::inspector::{Clerk, Inspector, RemoteModel, SerialLedger};

/// What all who ask engines have in common.
#[derive(Clone)]
pub struct Asking {
    /// Where records go.
    pub recorder: Arc<Recorder>,
    /// Whether parts still are to be looked at.
    pub stop: Arc<Stop>,
    /// Who writes records.
    pub clerk: Clerk,
    /// Who knows of other parts with the same serial.
    pub ledger: Arc<dyn SerialLedger>,
    /// Who comes first.
    pub turns: Arc<Turns>,
}

/// One engine's queue.
pub struct Queue {
    model: RemoteModel,
    intake: Intake,
}

/// Takes the parts of one engine's queue in their order, for several threads.
struct Intake(Mutex<flume::Receiver<InHand>>);

impl Queue {
    /// The parts that come from `parts` are for `model`.
    pub fn new(model: RemoteModel, parts: flume::Receiver<InHand>) -> Queue {
        Queue { model, intake: Intake(Mutex::new(parts)) }
    }

    /// Asks with as many threads as the engine is to be asked by at once. They end when nobody can hand in a part
    /// any more. They have no pulse, as no question waits longer than its time-out.
    pub fn ask(self, asking: &Asking) -> Vec<JoinHandle<()>> {
        let queue = Arc::new(self);
        let threads = 0..queue.model.engine().options().parallel;
        threads
            .map(|_| {
                let (queue, asking) = (Arc::clone(&queue), asking.clone());
                thread::spawn(move || queue.work(&asking))
            })
            .collect()
    }

    fn work(&self, asking: &Asking) {
        let _told = Told { engine: &self.model.engine().options().name, asking };
        let Asking { recorder, stop, clerk, ledger, turns } = asking;
        let mut inspector =
            Inspector::new(self.model.clone(), clerk.clone()).with_ledger(Arc::clone(ledger));
        while let Some((part, place)) = self.intake.take(turns) {
            inspect(part, &mut inspector, &|| place.enter(), Here { recorder, stop });
        }
    }
}

impl Intake {
    /// The next part and its place in its station's order; `None` when nobody can hand in any more.
    fn take<'t>(&self, turns: &'t Turns) -> Option<(InHand, Place<'t>)> {
        // Held while it waits: the others wait for the same.
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_hand = parts.recv().ok()?;
        let place = turns.place(&in_hand.part.station.name);
        Some((in_hand, place))
    }
}

/// An engine that is asked by fewer than it should be must not go unnoticed: the service manager starts the program
/// anew.
struct Told<'a> {
    engine: &'a str,
    asking: &'a Asking,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let text = format!("engine \"{}\": a thread has ended by a panic", self.engine);
            self.asking.recorder.end_run(DaemonError::Other(text), "an engine's thread has ended");
        }
    }
}
