//! One station's thread: frames in, parts out.
//!
//! The camera is never blocked: its newest frame waits in a slot. A part that finds its station's
//! share of the queue full is recorded at once as `review`, so that a slow model costs verdicts, not
//! records.

mod adopt;
mod arrivals;
mod open;
mod orders;
mod way;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use super::Stop;
use super::admission::{Admission, Admitted};
use super::camera_watch::{CameraWatch, Told};
use super::desk::{Desk, Hand, Order};
use super::eye::{EyeReader, EyeWatch};
use super::recorder::Recorder;
use super::replay::Played;
use super::view::View;
use super::vitals::Pulse;
use crate::camera::{Delivery, LossKind};
use crate::clock::{Clock, Stamp};
use crate::fault;
use crate::footage::{Clips, Film};
use crate::frame::Frame;
use crate::inspector::{Clerk, Part, Ticket};
use crate::station::Station;
use crate::telemetry;
use crate::trigger::{Event, Orders, Trigger};
use crate::verdict::{NOT_SAMPLED, Reason};
use crate::web::status::Camera;

/// How often a waiting thread looks at the stop flag.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// How often it looks whether the model has finished, where footage waits for that.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A camera with its trigger.
pub struct Line {
    station: Arc<Station>,
    clock: Arc<dyn Clock>,
    view: View,
    /// What it sees is kept there, if it is to be kept.
    film: Option<Film>,
    /// The last seconds of it, likewise.
    clips: Option<Arc<Clips>>,
    trigger: Trigger,
    /// Parts that were asked for and have no picture yet, where parts are asked for.
    orders: Option<Orders<Order>>,
    /// Parts that a photo eye has seen, where there is one.
    eye: Option<EyeWatch>,
    /// Until its thread takes it.
    eye_reader: Option<EyeReader>,
    clerk: Clerk,
    admission: Admission,
    waiting: Arc<AtomicUsize>,
    /// Where its parts go.
    way: Way,
    watch: CameraWatch,
    /// The camera delivers nothing.
    is_blind: bool,
    /// A loss while the line stood: no record of it yet.
    unrecorded_loss: Option<(LossKind, String)>,
    desk: Arc<Desk>,
    stop: Arc<Stop>,
    pulse: Arc<Pulse>,
    /// New forms of the station, from whoever holds the other end.
    changes: flume::Receiver<Change>,
    changer: flume::Sender<Change>,
    /// It was taken out of the configuration.
    leaves: bool,
}

/// How a line ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Frames that it looked at.
    pub delivered: u64,
    /// Frames that were replaced before anyone looked.
    pub dropped: u64,
    /// It was taken out of the configuration, and all its parts have been recorded.
    pub has_left: bool,
}

pub use adopt::{Change, Changer};
use way::Way;

impl Line {
    /// The station's name.
    pub fn name(&self) -> &str {
        &self.station.name
    }

    /// Runs until the camera ends, the station is taken out of the configuration, or the daemon stops.
    pub fn run(mut self, recorder: &Recorder) -> Ended {
        let Some(reader) = self.eye_reader.take() else { return self.look(recorder) };
        thread::scope(|scope| {
            scope.spawn(move || reader.run());
            self.look(recorder)
        })
    }

    fn look(mut self, recorder: &Recorder) -> Ended {
        self.tell_camera(None, recorder);
        while !self.stop.is_set() && !self.stop.all_triggered() {
            self.pulse.beat();
            self.tell_desk();
            self.take_change(recorder);
            if self.leaves {
                break;
            }
            self.take_orders(recorder);
            self.take_arrivals(recorder);
            self.pass_parts_on(recorder);
            self.wait_for_model(recorder);
            let delivery = match self.view.next(LOOK_AROUND) {
                Played::Delivery(delivery) => delivery,
                Played::Order(order) => {
                    self.order_again(&order, recorder);
                    continue;
                }
                Played::Eye(heard) => {
                    let seen = self.eye.as_mut().map(|eye| eye.hear_again(heard.signal));
                    self.pass_on(seen.unwrap_or_default(), recorder);
                    continue;
                }
            };
            match delivery {
                Delivery::Frame(frame) => self.see(&frame, recorder),
                Delivery::NoFrame => self.record_old_loss(recorder),
                // Its first frame follows, and tells.
                Delivery::Back => {
                    self.film(|film, at| film.back(at));
                    telemetry::camera_back(&self.station.name);
                }
                Delivery::Lost { kind, reason } => self.lose(kind, &reason, recorder),
                Delivery::Ended => {
                    telemetry::camera_ended(&self.station.name);
                    self.film(|film, at| film.ended(at));
                    let events = self.trigger.interrupt("the pictures ended");
                    self.handle(events, recorder);
                    if !self.goes_on() {
                        self.watch.ended(&self.clock.now());
                        self.tell_camera(Some(false), recorder);
                        break;
                    }
                }
            }
        }
        self.view.stop();
        self.give_up_orders(recorder);
        self.give_up_arrivals(recorder);
        self.send_all_parts(recorder);
        if let Some(film) = self.film.take() {
            let totals = film.end("the station stopped", self.clock.now());
            telemetry::footage_kept(&self.station.name, totals.frames, totals.dropped);
        }
        let has_left = self.leaves && self.finish_parts(recorder);
        let all = self.watch.total(self.view.counts());
        Ended { delivered: all.delivered, dropped: all.dropped, has_left }
    }

    /// Adds to the footage, if there is to be any.
    fn film(&self, add: impl FnOnce(&Film, Stamp)) {
        if let Some(film) = &self.film {
            add(film, self.clock.now());
        }
    }

    /// Footage that sets the time goes on when the model has nothing in hand.
    fn wait_for_model(&mut self, recorder: &Recorder) {
        let waiting = |line: &Line| line.orders.as_ref().map_or(0, Orders::waiting);
        while self.view.sets_time() && self.desk.in_hand() > waiting(self) && !self.stop.is_set() {
            self.pulse.beat();
            self.pass_parts_on(recorder);
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Whether pictures follow the end of pictures.
    fn goes_on(&mut self) -> bool {
        match &mut self.view {
            View::Footage(replay) => replay.has_more(),
            View::Camera(_) => self.station.camera.repeat && self.play_again(),
            View::Nothing => false,
        }
    }

    /// Tells how the camera is; `delivers`: where that has changed.
    fn tell_camera(&mut self, delivers: Option<bool>, recorder: &Recorder) {
        let message = self.watch.message(self.view.counts(), &self.clock.now());
        recorder.camera(&self.station.name, delivers, message);
    }

    /// Keeps what whoever looks at the daemon sees of the camera.
    fn tell_desk(&self) {
        let counts = self.watch.total(self.view.counts());
        self.desk.camera_is(Camera {
            delivers: self.watch.delivers(),
            frames: counts.brought,
            dropped: counts.dropped,
            damaged: counts.damaged,
        });
    }

    fn see(&mut self, frame: &Arc<Frame>, recorder: &Recorder) {
        fault::point(fault::FRAME_SEEN);
        if let Some(told) = self.watch.frame(&frame.captured) {
            self.tell_camera((told == Told::Change).then_some(true), recorder);
        }
        if std::mem::take(&mut self.is_blind) {
            self.unrecorded_loss = None;
            self.desk.change(|contract, now| contract.camera_back(now));
        }
        // What arrived while the frame was waited for may be older than it.
        self.take_orders(recorder);
        self.take_arrivals(recorder);
        let seen = self.eye.as_mut().map_or_else(Vec::new, |eye| eye.see(frame));
        self.pass_on(seen, recorder);
        if let Some(film) = &self.film {
            film.frame(frame);
        }
        if let Some(film) = self.film.take_if(|film| film.has_ended()) {
            let totals = film.end("", self.clock.now());
            telemetry::footage_ended(&self.station.name, &totals.ended.unwrap_or_default());
        }
        if let Some(clips) = &self.clips {
            clips.offer(frame);
        }
        let served = self.orders.as_mut().map_or_else(Vec::new, |orders| orders.see(frame));
        for (order, shot) in served {
            self.serve(order, shot, recorder);
        }
        let events = self.trigger.see(frame);
        self.handle(events, recorder);
    }

    fn lose(&mut self, kind: LossKind, reason: &str, recorder: &Recorder) {
        self.is_blind = true;
        self.film(|film, at| film.lost(kind.as_str(), reason, at));
        self.watch.lost(kind, reason, &self.clock.now());
        self.tell_camera(Some(false), recorder);
        if let Some(orders) = &mut self.orders {
            orders.forget_frame();
        }
        let events = self.trigger.interrupt(reason);
        if self.desk.change(|contract, now| contract.camera_lost(reason, now)) {
            telemetry::camera_lost(&self.station.name, kind.as_str(), reason);
            self.record_loss(reason, recorder);
        } else {
            // A line that stands still is no alarm.
            self.unrecorded_loss = Some((kind, reason.to_owned()));
        }
        self.handle(events, recorder);
    }

    /// The camera was lost while the line stood, and the line runs again without it.
    fn record_old_loss(&mut self, recorder: &Recorder) {
        if self.unrecorded_loss.is_some()
            && self.desk.is_producing()
            && let Some((kind, reason)) = self.unrecorded_loss.take()
        {
            telemetry::camera_lost(&self.station.name, kind.as_str(), &reason);
            self.record_loss(&reason, recorder);
        }
    }

    /// Opens footage again from its beginning. `false`: it is not to be had any more.
    fn play_again(&mut self) -> bool {
        match View::open(&self.station, None, &self.clock) {
            Ok(view) => {
                self.watch.opened_again(self.view.counts());
                self.view = view;
                true
            }
            Err(error) => {
                let name = &self.station.name;
                telemetry::camera_lost(name, LossKind::Failed.as_str(), &error.to_string());
                false
            }
        }
    }

    /// What the station's own trigger saw.
    fn handle(&mut self, events: Vec<Event>, recorder: &Recorder) {
        for event in events {
            if !self.desk.inspects() {
                self.desk.ignore();
                continue;
            }
            if !self.stop.may_trigger() {
                return;
            }
            let (frame, more, missed) = match event {
                Event::Inspect { frame, more, .. } => (frame, more, None),
                Event::Missed { frame, reason, .. } => {
                    (frame, Vec::new(), Some(Reason::new("part_missed", reason)))
                }
            };
            let (job_id, station, changing) = self.desk.next_job();
            // Deadlines are the clock's, whatever time it is in the footage.
            let triggered = if self.view.sets_time() { self.clock.now() } else { frame.captured };
            let mut part = Part::new(&station, job_id, format!("{job_id:06}"), triggered);
            part.show(frame, more);
            part.missed = missed.or(changing.err());
            match part.missed {
                None => self.send(part, None, recorder),
                Some(_) => self.miss(&part, None, recorder),
            }
        }
    }

    /// Sends a part to the model, or records at once why not. A part that was asked for has its place
    /// in hand already.
    fn send(&mut self, mut part: Part, hand: Option<Hand>, recorder: &Recorder) {
        let is_turn = self.admission.is_turn();
        if is_turn {
            part.ticket = self.take_place(recorder);
        }
        if let Admitted::Record(reason) = self.admission.decide(is_turn, part.ticket.is_some()) {
            part.missed = Some(reason);
            return self.miss(&part, hand.as_ref(), recorder);
        }
        let hand = hand.unwrap_or_else(|| self.desk.begin(&part));
        let closed = self.way.send(part, hand);
        self.miss_all(closed, recorder);
    }

    /// One of the station's places in the queue. Footage waits until there is one.
    fn take_place(&mut self, recorder: &Recorder) -> Option<Ticket> {
        loop {
            let place = Ticket::take(&self.waiting, self.station.queue_parts);
            if place.is_some() || !self.admission.is_patient() || self.way.is_closed() {
                self.pulse.beat();
                return place;
            }
            // It waits for the model, which has a pulse of its own.
            self.pulse.rest();
            self.pass_parts_on(recorder);
            thread::sleep(LOOK_AGAIN);
        }
    }

    fn miss(&self, part: &Part, hand: Option<&Hand>, recorder: &Recorder) {
        let inspection = self.clerk.missed(part, recorder);
        match &part.missed {
            Some(reason) if reason.code == NOT_SAMPLED => {
                telemetry::part_not_sampled(&self.station.name, &part.part_id);
            }
            reason => {
                let text = reason.as_ref().map_or("", |reason| &reason.text);
                telemetry::part_missed(&self.station.name, &part.part_id, text);
            }
        }
        match hand {
            Some(hand) => hand.record(inspection, recorder),
            None => recorder.record(&inspection),
        };
    }

    /// A loss is a record of its own: whoever reads the log must see that the line was blind.
    fn record_loss(&mut self, reason: &str, recorder: &Recorder) {
        self.record_unknown("camera_lost", reason, recorder);
    }

    /// Parts may have gone by of which nothing is known.
    fn record_unknown(&mut self, code: &'static str, text: &str, recorder: &Recorder) {
        let (job_id, station, _) = self.desk.next_job();
        let mut part = Part::new(&station, job_id, "unknown".to_owned(), self.clerk.now());
        part.missed = Some(Reason::new(code, text));
        self.miss(&part, None, recorder);
    }
}
