//! One station's thread: frames in, parts out.
//!
//! The camera is never blocked: its newest frame waits in a slot. A part that finds its station's
//! share of the queue full is recorded at once as `review`, so that a slow model costs verdicts, not
//! records.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::admission::{Admission, Admitted};
use super::recorder::Recorder;
use super::{DaemonError, Stop};
use crate::camera::{self, CameraHandle, Delivery};
use crate::clock::{Clock, Stamp};
use crate::frame::Frame;
use crate::inspector::{Clerk, Part, Ticket};
use crate::station::Station;
use crate::telemetry;
use crate::trigger::{Event, Trigger};
use crate::verdict::{NOT_SAMPLED, Reason};

/// How often a waiting thread looks at the stop flag.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// A camera with its trigger.
pub struct Line {
    station: Arc<Station>,
    clock: Arc<dyn Clock>,
    camera: CameraHandle,
    trigger: Trigger,
    clerk: Clerk,
    admission: Admission,
    next_job: u64,
    waiting: Arc<AtomicUsize>,
    /// Frames delivered and dropped before the camera was opened again.
    before: (u64, u64),
    stop: Arc<Stop>,
}

impl Line {
    /// Opens the station's camera. Jobs count on from `next_job`.
    pub fn open(
        station: &Arc<Station>,
        clock: &Arc<dyn Clock>,
        clerk: Clerk,
        next_job: u64,
        stop: Arc<Stop>,
    ) -> Result<Line, DaemonError> {
        let trigger = Trigger::new(&station.trigger).map_err(|error| {
            DaemonError::Other(format!("station \"{}\": {error}", station.name))
        })?;
        let camera = camera::open(&station.name, &station.camera, Arc::clone(clock))
            .map_err(|source| DaemonError::Camera { station: station.name.clone(), source })?;
        let station = Arc::clone(station);
        let clock = Arc::clone(clock);
        // A source that does not run in real time can wait; only a line cannot.
        let patient = !station.camera.realtime;
        let admission = Admission::new(station.inspect_every, station.queue_parts, patient);
        Ok(Line {
            admission,
            station,
            clock,
            camera,
            trigger,
            clerk,
            next_job,
            waiting: Arc::default(),
            before: (0, 0),
            stop,
        })
    }

    /// Parts of this station that may wait for the model.
    pub fn queue_parts(&self) -> usize {
        self.station.queue_parts
    }

    /// Runs until the camera ends or the daemon stops; answers frames delivered and dropped.
    pub fn run(mut self, parts: &flume::Sender<Part>, recorder: &Recorder) -> (u64, u64) {
        loop {
            if self.stop.is_set() || self.stop.all_triggered() {
                break;
            }
            let events = match self.camera.next(LOOK_AROUND) {
                Delivery::Frame(frame) => self.trigger.see(&frame),
                Delivery::NoFrame => continue,
                Delivery::Back => {
                    telemetry::camera_back(&self.station.name);
                    continue;
                }
                Delivery::Lost { reason } => {
                    telemetry::camera_lost(&self.station.name, &reason);
                    let events = self.trigger.interrupt(&reason);
                    self.record_loss(&reason, recorder);
                    events
                }
                Delivery::Ended => {
                    telemetry::camera_ended(&self.station.name);
                    let events = self.trigger.interrupt("the pictures ended");
                    self.handle(events, parts, recorder);
                    if self.station.camera.repeat && self.play_again() {
                        continue;
                    }
                    break;
                }
            };
            self.handle(events, parts, recorder);
        }
        self.camera.stop();
        self.counts()
    }

    /// Frames delivered and dropped, over all times that the camera was opened.
    fn counts(&self) -> (u64, u64) {
        (self.before.0 + self.camera.delivered(), self.before.1 + self.camera.dropped())
    }

    /// Opens footage again from its beginning. `false`: it is not to be had any more.
    fn play_again(&mut self) -> bool {
        let (name, options) = (&self.station.name, &self.station.camera);
        match camera::open(name, options, Arc::clone(&self.clock)) {
            Ok(camera) => {
                self.before = self.counts();
                self.camera = camera;
                true
            }
            Err(error) => {
                telemetry::camera_lost(name, &error.to_string());
                false
            }
        }
    }

    fn handle(&mut self, events: Vec<Event>, parts: &flume::Sender<Part>, recorder: &Recorder) {
        for event in events {
            if !self.stop.may_trigger() {
                return;
            }
            match event {
                Event::Inspect { frame, .. } => {
                    let part = self.part(frame.captured, Some(frame), None);
                    self.send(part, parts, recorder);
                }
                Event::Missed { frame, reason, .. } => {
                    let missed = Reason::new("part_missed", reason);
                    let part = self.part(frame.captured, Some(frame), Some(missed));
                    self.miss(&part, recorder);
                }
            }
        }
    }

    fn part(
        &mut self,
        triggered: Stamp,
        frame: Option<Arc<Frame>>,
        missed: Option<Reason>,
    ) -> Part {
        let job_id = self.next_job;
        self.next_job += 1;
        let part_id = format!("{job_id:06}");
        let station = Arc::clone(&self.station);
        Part { station, job_id, part_id, triggered, frame, missed, ticket: None }
    }

    fn send(&mut self, mut part: Part, parts: &flume::Sender<Part>, recorder: &Recorder) {
        let is_turn = self.admission.is_turn();
        if is_turn {
            part.ticket = Ticket::take(&self.waiting, self.station.queue_parts);
        }
        if let Admitted::Record(reason) = self.admission.decide(is_turn, part.ticket.is_some()) {
            part.missed = Some(reason);
            self.miss(&part, recorder);
            return;
        }
        if let Err(flume::SendError(mut part)) = parts.send(part) {
            part.missed = Some(Reason::new("stopped", "The model's thread has ended."));
            self.miss(&part, recorder);
        }
    }

    fn miss(&self, part: &Part, recorder: &Recorder) {
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
        if !recorder.record(&inspection) {
            self.stop.set("the record cannot be written");
        }
    }

    /// A loss is a record of its own: whoever reads the log must see that the line was blind.
    fn record_loss(&mut self, reason: &str, recorder: &Recorder) {
        let missed = Reason::new("camera_lost", reason);
        let mut part = self.part(self.clerk.now(), None, Some(missed));
        part.part_id = "unknown".to_owned();
        self.miss(&part, recorder);
    }
}
