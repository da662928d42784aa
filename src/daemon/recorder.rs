//! Commits records, wakes the publisher, tells the operator.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::commit_times::{CommitTimes, Stopwatch};
use super::heads::{self, Heads};
use super::keeper::{Call, EndsKeeping};
use super::roster::Roster;
use super::vitals::Vitals;
use super::{DaemonError, Stop, thumbnail};
use crate::fault;
use crate::footage::index::Mark;
use crate::frame::Rgb8;
use crate::inspection::Inspection;
use crate::inspector::{Clerk, EvidenceKeeper};
use crate::publish::PublisherHandle;
use crate::publish::outgoing::NotTaken;
use crate::publish::topics::Kind;
use crate::sparkplug::{EdgeHandle, StationState};
use crate::store::{EventKind, ReserveState, Store, StoreError, events};
use crate::telemetry::{self, metrics::METRICS};
use crate::traces::{Commit, Traces};

/// How long a record waits for a database that another program holds, beyond what SQLite itself waits: to
/// stop would cost the parts in hand. Short enough for a service that is to end within half a minute.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// From one try to the next, where SQLite did not wait.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Where every record passes, whoever decided.
pub struct Recorder {
    store: Store,
    publisher: Option<PublisherHandle>,
    edge: Option<EdgeHandle>,
    traces: Option<Traces>,
    keeper: flume::Sender<Call>,
    heads: Heads,
    commits: Stopwatch,
    lines: bool,
    colour: bool,
    roster: Arc<Roster>,
    clerk: Clerk,
    stop: Arc<Stop>,
    vitals: Arc<Vitals>,
    /// What runs, until its start is in the record.
    run: Mutex<Option<events::Run>>,
    records: AtomicU64,
    failure: Mutex<Option<DaemonError>>,
}

/// Who has to do with records.
pub struct Office {
    /// Where they go.
    pub store: Store,
    /// Who is woken by them.
    pub publisher: Option<PublisherHandle>,
    /// The Sparkplug edge node, which is woken, too.
    pub edge: Option<EdgeHandle>,
    /// Who sends traces of them.
    pub traces: Option<Traces>,
    /// Who is called when space is short.
    pub keeper: flume::Sender<Call>,
    /// Whose they are, and who is told of them.
    pub roster: Arc<Roster>,
    /// Who writes them.
    pub clerk: Clerk,
    /// What ends the run when one cannot be written.
    pub stop: Arc<Stop>,
    /// Who sees to it that records are written, or not.
    pub vitals: Arc<Vitals>,
    /// What runs, for the record of the start.
    pub run: events::Run,
    /// Whether a line is printed for each part.
    pub lines: bool,
}

impl Recorder {
    /// A recorder that has recorded nothing yet.
    pub fn new(office: Office) -> Recorder {
        let Office { store, publisher, edge, keeper, roster, clerk, stop, .. } = office;
        let Office { vitals, run, lines, traces, .. } = office;
        let colour = io::stdout().is_terminal();
        if lines {
            // A closed standard output must not stop a line: the record is what counts.
            let _ = telemetry::print_heading(&mut io::stdout());
        }
        Recorder {
            store,
            publisher,
            edge,
            traces,
            keeper,
            heads: Heads::default(),
            commits: Stopwatch::default(),
            lines,
            colour,
            roster,
            clerk,
            stop,
            vitals,
            run: Mutex::new(Some(run)),
            records: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Records the start, once, and tells the operator what is wrong with the end before it. It names
    /// the model, so it waits for the model's digest; no other record comes before it.
    pub fn begin(&self) {
        let mut run = self.run.lock().unwrap_or_else(|lock| lock.into_inner());
        let Some(mut what) = run.take() else { return };
        what.model_sha256 = self.clerk.model_or_unknown();
        match self.patiently(|| self.store.record_start(&what)) {
            Ok(start) => {
                if start.unclean {
                    telemetry::unclean_start();
                }
                if let Some(how) = &start.heads_differ {
                    telemetry::heads_differ(how);
                }
                self.tell_head_if_due();
            }
            Err(error) => {
                telemetry::record_failed(&error.to_string());
                self.end_run(error.into(), "the record cannot be written");
            }
        }
    }

    /// Commits one record with its message. `false`: it could not be written. That, and a clerk who
    /// cannot say any more what decides, ends the run.
    pub fn record(&self, inspection: &Inspection) -> bool {
        let pulse = self.vitals.pulse("record");
        pulse.beat();
        self.begin();
        let messages: Vec<_> = self
            .publisher
            .iter()
            .map(|publisher| {
                publisher.result(inspection, self.thumbnail(publisher, inspection).as_deref())
            })
            .collect();
        let member = self.roster.find(&inspection.station);
        let desk = member.as_ref().map(|member| &member.desk);
        let _in_order = desk.map(|desk| desk.commits());
        let started = Instant::now();
        let begun = self.clerk.now();
        let committed = self.patiently(|| self.store.commit(inspection, &messages));
        let took = started.elapsed();
        let commit = Commit { begun, ended: self.clerk.now() };
        self.commits.took(took);
        let is_written = committed.is_ok();
        match committed {
            Ok(sequence) => {
                self.records.fetch_add(1, Ordering::SeqCst);
                METRICS.recorded(inspection, took.as_secs_f64());
                if let Some(publisher) = &self.publisher {
                    publisher.wake();
                }
                if let Some(edge) = &self.edge {
                    edge.wake();
                }
                fault::point(fault::RECORD_TOLD);
                if let Some(desk) = desk {
                    // Hard outputs show verdicts without a broker, too.
                    let payload = messages.first().map_or(&[][..], |message| &message.payload);
                    desk.recorded(inspection, sequence, payload);
                }
                if let Some(clips) = member.as_ref().and_then(|member| member.clips.as_ref()) {
                    clips.mark(inspection.verdict.outcome, || mark(inspection));
                }
                if let Some(traces) = &self.traces {
                    traces.part(inspection, &commit);
                }
                self.tell(inspection, sequence);
                self.tell_head_if_due();
                self.look_for_room();
            }
            Err(error) => {
                telemetry::record_failed(&error.to_string());
                if let Some(desk) = desk {
                    desk.change(|contract, now| contract.record_failed(&error.to_string(), now));
                }
                self.end_run(error.into(), "the record cannot be written");
            }
        }
        if let Some(why) = self.clerk.failure() {
            self.end_run(DaemonError::Model(why), "the model cannot be named in a record");
        }
        is_written
    }

    /// Adds an event to the audit log, behind the start. One that cannot be written is told in the
    /// log: it decides nothing, and the next record fails by itself if the log is broken.
    pub fn record_event(&self, kind: EventKind, body: &impl Serialize) {
        self.begin();
        if let Err(error) = self.patiently(|| self.store.append_event(kind, body)) {
            telemetry::event_not_recorded(&error.to_string());
        }
    }

    fn patiently<T>(&self, write: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        patiently(LOCK_PATIENCE, || self.stop.is_set(), write)
    }

    /// Ends the run for `error`, unless it ends for another one; `why`, in a few words, is what the log tells.
    pub fn end_run(&self, error: DaemonError, why: &'static str) {
        self.failure.lock().unwrap_or_else(|lock| lock.into_inner()).get_or_insert(error);
        self.stop.set(why);
    }

    /// Tells how the camera of `station` is: whether it delivers, and the message about it.
    pub fn camera(&self, station: &str, delivers: Option<bool>, message: Vec<u8>) {
        if let (Some(edge), Some(delivers)) = (&self.edge, delivers) {
            edge.set_state(station, StationState::of_camera(delivers));
        }
        let Some(publisher) = &self.publisher else { return };
        if let Err(why) = publisher.publish_state(Kind::Camera, Some(station), message)
            && why != NotTaken::NotConnected
        {
            telemetry::not_told(station, &why.to_string());
        }
    }

    /// A small picture of the first evidence, if results carry one. Without it the result goes.
    fn thumbnail(&self, publisher: &PublisherHandle, inspection: &Inspection) -> Option<Vec<u8>> {
        let px = publisher.thumbnail_px();
        let first = inspection.evidence.first().filter(|_| px > 0)?;
        let made = thumbnail::make(&self.store.evidence_path(&first.sha256), px);
        if let Err(error) = &made {
            tracing::warn!(%error, sha256 = first.sha256, "no thumbnail could be made");
        }
        made.ok()
    }

    fn tell_head_if_due(&self) {
        if let Some(publisher) = &self.publisher {
            self.heads.tell_if_due(publisher, &self.store, self.records(), self.clerk.now());
        }
    }

    /// Tells the head of the chain as it is now, be it due or not.
    pub fn tell_head(&self) {
        if let Some(publisher) = &self.publisher {
            heads::tell(publisher, &self.store);
        }
    }

    /// Ends the run if another record would find no room. What is left then is for the parts in hand.
    fn look_for_room(&self) {
        match self.store.reserve() {
            ReserveState::Whole => {}
            ReserveState::InUse => self.call_keeper(),
            ReserveState::Spent => {
                let path = self.store.path().to_owned();
                let error = StoreError::Full { doing: "record more parts", path };
                telemetry::record_failed(&error.to_string());
                self.end_run(error.into(), "the disk has no room for more records");
            }
        }
    }

    /// A call that finds another one waiting is one with it.
    fn call_keeper(&self) {
        let _ = self.keeper.try_send(Call::Look);
    }

    /// Lets the keeper's thread end when it is dropped, be it by a panic.
    pub fn keeping(&self) -> EndsKeeping {
        EndsKeeping(self.keeper.clone())
    }

    /// Records committed by this run.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::SeqCst)
    }

    /// How long these took to be written.
    pub fn commit_times(&self) -> CommitTimes {
        self.commits.times()
    }

    /// The first reason for which the run had to end, once.
    pub fn failure(&self) -> Option<DaemonError> {
        self.failure.lock().unwrap_or_else(|lock| lock.into_inner()).take()
    }

    fn tell(&self, inspection: &Inspection, sequence: i64) {
        if self.lines {
            // As above: a reader that went away is no reason to stop.
            let _ = telemetry::print_part(&mut io::stdout().lock(), inspection, self.colour);
        } else {
            telemetry::decided(inspection, sequence);
        }
    }
}

/// What a clip says of the record that it is kept for.
fn mark(inspection: &Inspection) -> Mark {
    Mark {
        result_id: inspection.result_id.to_string(),
        job_id: inspection.job_id,
        part_id: inspection.part_id.clone(),
        verdict: inspection.verdict.outcome.as_str().to_owned(),
        frame_sequence: inspection.frame_sequence,
        // The picture's moment: a trigger may be long before it, and a verdict long after.
        at: inspection.times.captured.unwrap_or(inspection.times.triggered),
    }
}

/// Writes again as long as another program holds the database, for `patience` and until the daemon
/// `is_ending`.
fn patiently<T>(
    patience: Duration,
    is_ending: impl Fn() -> bool,
    mut write: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let since = Instant::now();
    loop {
        match write() {
            Err(why @ StoreError::Locked { .. }) if since.elapsed() < patience && !is_ending() => {
                telemetry::record_waits(&why.to_string());
                thread::sleep(LOCK_PAUSE);
            }
            told => return told,
        }
    }
}

impl EvidenceKeeper for Recorder {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        self.store.put_evidence(picture).map_err(|error| {
            self.call_keeper();
            error.to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_until_patience_or_the_daemon_ends() {
        let locked = || StoreError::Locked { doing: "try", path: "x.db".into() };
        let long = Duration::from_secs(600);
        let mut tries = 0;
        let told = patiently(
            long,
            || false,
            || {
                tries += 1;
                if tries < 3 { Err(locked()) } else { Ok(tries) }
            },
        );
        assert_eq!(told.expect("written in the end"), 3);
        for (patience, is_ending) in [(Duration::ZERO, false), (long, true)] {
            let told = patiently(patience, || is_ending, || Err::<(), _>(locked()));
            assert!(matches!(told, Err(StoreError::Locked { .. })));
        }
        let full = || StoreError::Full { doing: "try", path: "x.db".into() };
        let told = patiently(long, || false, || Err::<(), _>(full()));
        assert!(matches!(told, Err(StoreError::Full { .. })), "no other error goes by waiting");
    }
}
