//! A station that becomes another while it runs, or ends: what differs is made anew, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::{Admission, LOOK_AGAIN, Line, View};
use crate::daemon::desk::InHand;
use crate::daemon::engines::Ways;
use crate::daemon::recorder::Recorder;
use crate::station::Station;
use crate::trigger::{self, Focus, Trigger};

/// Longest wait for a station's thread: it looks several times a second, and may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a change: nobody has begun it, its line has, or nobody will.
const OPEN: u8 = 0;
const BEGUN: u8 = 1;
const REVOKED: u8 = 2;

/// A new form of a line's station, or its end.
pub struct Change {
    /// `None`: it is to be no station any more.
    becomes: Option<Becomes>,
    state: Arc<AtomicU8>,
    done: flume::Sender<Result<(), String>>,
}

/// What a line's station becomes, and where its parts go then.
type Becomes = (Arc<Station>, flume::Sender<InHand>);

/// Brings new forms of its station to a line, from another thread.
#[derive(Clone)]
pub struct Changer(flume::Sender<Change>);

impl Changer {
    /// Lets the line be as `station` says, with one of these `ways`, and waits until it is. `Ok(false)`: the line has
    /// ended, and there is nothing to change.
    ///
    /// # Errors
    /// Why the station could not become that; then it is as it was.
    pub fn change(&self, station: &Arc<Station>, ways: &Ways) -> Result<bool, String> {
        self.bring(Some((Arc::clone(station), ways.of(station).clone())))
    }

    /// Lets the line end, and waits until it has closed its camera. Its parts in hand are finished, and then its thread
    /// ends. `Ok(false)`: it had ended before.
    ///
    /// # Errors
    /// It did not look; then it goes on.
    pub fn dismiss(&self) -> Result<bool, String> {
        self.bring(None)
    }

    fn bring(&self, becomes: Option<Becomes>) -> Result<bool, String> {
        let (done, answer) = flume::bounded(1);
        let state = Arc::new(AtomicU8::new(OPEN));
        let change = Change { becomes, state: Arc::clone(&state), done };
        if self.0.send(change).is_err() {
            return Ok(false);
        }
        loop {
            match answer.recv_timeout(PATIENCE) {
                Ok(told) => return told.map(|()| true),
                Err(flume::RecvTimeoutError::Disconnected) => return Ok(false),
                Err(flume::RecvTimeoutError::Timeout) => {
                    if claim(&state, REVOKED) {
                        return Err(format!("it was busy for {} s", PATIENCE.as_secs()));
                    }
                    // It has begun, and will answer.
                }
            }
        }
    }
}

/// Whether `state` was open, and is now `claimed`.
fn claim(state: &AtomicU8, claimed: u8) -> bool {
    state.compare_exchange(OPEN, claimed, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

impl Line {
    /// Who brings changes to this line.
    pub fn changer(&self) -> Changer {
        Changer(self.changer.clone())
    }

    /// Takes a new form of the station, if there is one.
    pub(super) fn take_change(&mut self, recorder: &Recorder) {
        let Ok(Change { becomes, state, done }) = self.changes.try_recv() else { return };
        if claim(&state, BEGUN) {
            let told = match becomes {
                Some((station, parts)) => {
                    let adopted = self.adopt(station, recorder);
                    adopted.map(|()| self.way.turn(&parts))
                }
                None => {
                    self.leave(recorder);
                    Ok(())
                }
            };
            // Nobody waits any more if the whole program ends.
            let _ = done.send(told);
        }
    }

    /// No part is taken any more, and the camera is free for others. What is seen of a part and not decided is
    /// `review`.
    fn leave(&mut self, recorder: &Recorder) {
        let events = self.trigger.interrupt("the station was taken out of the configuration");
        self.handle(events, recorder);
        self.view.stop();
        self.watch.opened_again(self.view.counts());
        self.view = View::Nothing;
        self.give_up_orders(recorder);
        self.give_up_arrivals(recorder);
        self.leaves = true;
    }

    /// Waits until the parts in hand have been recorded; `false`: the run ends before.
    pub(super) fn finish_parts(&mut self, recorder: &Recorder) -> bool {
        self.watch.ended(&self.clock.now());
        self.tell_camera(Some(false), recorder);
        // It waits for the model, which has a pulse of its own.
        self.pulse.rest();
        while self.desk.in_hand() > 0 && !self.stop.is_set() {
            thread::sleep(LOOK_AGAIN);
        }
        self.desk.in_hand() == 0
    }

    fn adopt(&mut self, new: Arc<Station>, recorder: &Recorder) -> Result<(), String> {
        let old = Arc::clone(&self.station);
        let mut trigger = None;
        if new.trigger != old.trigger {
            trigger = Some(Trigger::new(&new.trigger).map_err(|why| why.to_string())?);
        }
        if new.camera != old.camera && !self.view.is_footage() {
            self.change_camera(&old, &new, recorder)?;
        } else if trigger.is_some() {
            let events = self.trigger.interrupt("the trigger was set up anew");
            self.handle(events, recorder);
        }
        if let Some(trigger) = trigger {
            self.trigger = trigger;
        }
        let focus = || Focus::around(&new.regions);
        if let (Some(orders), trigger::Options::Command(options)) = (&mut self.orders, &new.trigger)
        {
            orders.adopt(*options, focus());
        }
        if let Some(eye) = &mut self.eye {
            eye.refocus(focus());
        }
        let patient = !new.camera.realtime;
        let counts = |station: &Station| {
            (station.inspect_every, station.queue_parts, station.camera.realtime)
        };
        if counts(&new) != counts(&old) {
            self.admission = Admission::new(new.inspect_every, new.queue_parts, patient);
        }
        self.desk.adopt(&new);
        self.station = new;
        Ok(())
    }

    /// Opens the camera as `new` names it; where that fails, as `old` does. A device may be one that
    /// can be open only once, so the first is closed before.
    fn change_camera(
        &mut self,
        old: &Station,
        new: &Station,
        recorder: &Recorder,
    ) -> Result<(), String> {
        let events = self.trigger.interrupt("the camera was set up anew");
        self.handle(events, recorder);
        if let Some(orders) = &mut self.orders {
            orders.forget_frame();
        }
        self.view.stop();
        self.watch.opened_again(self.view.counts());
        self.view = View::Nothing;
        let opened = View::open(new, None, &self.clock);
        let (view, result) = match opened {
            Ok(view) => (view, Ok(())),
            Err(why) => {
                let view = View::open(old, None, &self.clock).map_err(|again| {
                    // Blind for good: the service manager starts the program anew.
                    self.stop.set("a camera cannot be opened any more");
                    format!("{why}; and not as it was either: {again}")
                })?;
                (view, Err(why.to_string()))
            }
        };
        self.view = view;
        result
    }
}
