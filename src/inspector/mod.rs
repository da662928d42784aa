//! One part in, one inspection out: the only place where the steps meet.
//!
//! Whatever goes wrong on the way becomes data: a `review` with its reason, and a record. The
//! inspector is synchronous: one runs on the thread that owns the model, and one on each of the threads
//! that ask an engine elsewhere.

mod adapters;
mod clerk;
mod decider;
mod engine_model;
mod look;
mod remote_model;
mod serials;
mod sight;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use clerk::Clerk;
pub use decider::Decider;
pub use engine_model::{EngineModel, PrepareError, Questions};
pub use remote_model::{LocalAsker, NoModel, RemoteModel, RemoteQuestion};
pub use serials::{Asking, SerialLedger, look_up};
pub use sight::golden_crop;

use crate::clock::Stamp;
use crate::frame::{Frame, Rgb8};
use crate::inspection::{ForeignId, Inspection};
use crate::remote::AnsweredBy;
use crate::roi::Crop;
use crate::station::{Question, Station};
use crate::verdict::{self, Finding, Outcome, Reason, Verdict, agree};
use crate::vlm::ask::Answer;
use look::Look;
use sight::Sight;

/// The reason's code for a question that the device's own model could not answer.
const QUESTION_FAILED: &str = "question_failed";

/// A part that a trigger asked to look at.
#[derive(Debug)]
pub struct Part {
    /// Where.
    pub station: Arc<Station>,
    /// Which trigger of the station.
    pub job_id: u64,
    /// The part's name.
    pub part_id: String,
    /// What the controller called its trigger, if one asked for the look.
    pub trigger_id: Option<ForeignId>,
    /// When the trigger fired.
    pub triggered: Stamp,
    /// From the trigger to the moment by which the verdict must stand.
    pub deadline: Duration,
    /// The picture; `None` if it was lost.
    pub frame: Option<Arc<Frame>>,
    /// More pictures of it, for stations whose frames vote.
    pub more_frames: Vec<Arc<Frame>>,
    /// Why the part is not to be looked at, if it is not.
    pub missed: Option<Reason>,
    /// Its place in the queue, given back when the part is dropped.
    pub ticket: Option<Ticket>,
}

impl Part {
    /// A part that the station's own trigger found at `triggered`; there is no picture of it yet.
    pub fn new(station: &Arc<Station>, job_id: u64, part_id: String, triggered: Stamp) -> Part {
        Part {
            station: Arc::clone(station),
            job_id,
            part_id,
            trigger_id: None,
            triggered,
            deadline: station.deadline,
            frame: None,
            more_frames: Vec::new(),
            missed: None,
            ticket: None,
        }
    }
}

impl Part {
    /// What shows it: the best frame, and as many of the others as its station's vote asks for.
    pub fn show(&mut self, frame: Arc<Frame>, mut more: Vec<Arc<Frame>>) {
        more.truncate(self.station.vote.frames.saturating_sub(1));
        (self.frame, self.more_frames) = (Some(frame), more);
    }
}

/// One of a bounded number of places in a station's queue.
#[derive(Debug)]
pub struct Ticket(Arc<AtomicUsize>);

impl Ticket {
    /// Takes one of `places`, or answers `None` when all are taken.
    pub fn take(taken: &Arc<AtomicUsize>, places: usize) -> Option<Ticket> {
        let free = |count: usize| (count < places).then_some(count + 1);
        let took = taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free);
        took.is_ok().then(|| Ticket(Arc::clone(taken)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a model makes of one question.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The prompt as it was put.
    pub prompt: String,
    /// The answer, or what went wrong.
    pub answer: Result<Answer, NoAnswer>,
    /// The engine elsewhere that was asked; `None`: the device's own model.
    pub answered_by: Option<AnsweredBy>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// The reason's code.
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

impl Reply {
    /// What the device's own model makes of a question.
    pub fn new(prompt: impl Into<String>, answer: Result<Answer, String>) -> Reply {
        let answer = answer.map_err(|text| NoAnswer { code: QUESTION_FAILED, text });
        Reply { prompt: prompt.into(), answer, answered_by: None }
    }
}

/// Answers questions about crops. The engine is one; tests script another.
pub trait Model {
    /// Puts `question` about `crops`, and gives up at `deadline`.
    fn ask(
        &mut self,
        station: &Station,
        question: &Question,
        crops: &[&Crop],
        deadline: Instant,
    ) -> Reply;
}

impl<M: Model + ?Sized> Model for Box<M> {
    fn ask(
        &mut self,
        station: &Station,
        question: &Question,
        crops: &[&Crop],
        deadline: Instant,
    ) -> Reply {
        (**self).ask(station, question, crops, deadline)
    }
}

/// Keeps crops as evidence; the store does.
pub trait EvidenceKeeper {
    /// Keeps `picture` and answers the SHA-256 of its file, or why it could not be kept.
    fn keep(&self, picture: &Rgb8) -> Result<String, String>;
}

/// Carries out inspections.
pub struct Inspector<M> {
    model: M,
    clerk: Clerk,
    ledger: Arc<dyn SerialLedger>,
}

impl<M: Model> Inspector<M> {
    /// An inspector that asks `model` and writes records in the clerk's form. Serials that have to be
    /// looked up go to review, see [`Inspector::with_ledger`].
    pub fn new(model: M, clerk: Clerk) -> Self {
        Inspector { model, clerk, ledger: Arc::new(serials::NoLedger) }
    }

    /// The same, which looks serials up in `ledger`.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Arc<dyn SerialLedger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// Who writes the records.
    pub fn clerk(&self) -> &Clerk {
        &self.clerk
    }

    /// Looks at one part. Never fails: what goes wrong is the verdict's reason.
    pub fn inspect(&mut self, part: &Part, keeper: &dyn EvidenceKeeper) -> Inspection {
        self.inspect_telling(part, keeper, &mut |_| false)
    }

    /// As [`Inspector::inspect`], and offers `early` a record once the verdict stands before every
    /// question has been asked, where the station asks for that. `early` answers whether it told
    /// anybody: then the full record is an update of what was told in time.
    pub fn inspect_telling(
        &mut self,
        part: &Part,
        keeper: &dyn EvidenceKeeper,
        early: &mut dyn FnMut(Inspection) -> bool,
    ) -> Inspection {
        self.inspect_in_turn(part, keeper, early, &mut || ())
    }

    /// As [`Inspector::inspect_telling`], for several inspectors at once: what was asked is done when
    /// `turn` is called, and what depends on earlier records follows. Whoever holds `turn` until the
    /// record is committed keeps two parts from passing with one serial.
    pub fn inspect_in_turn(
        &mut self,
        part: &Part,
        keeper: &dyn EvidenceKeeper,
        early: &mut dyn FnMut(Inspection) -> bool,
        turn: &mut dyn FnMut(),
    ) -> Inspection {
        let (Some(_), None) = (&part.frame, &part.missed) else {
            let missed = self.clerk.missed(part, keeper);
            turn();
            return missed;
        };
        let taken = self.clerk.now();
        let mut look = Look::default();
        look.timings.queued_ms = millis(taken.since(&part.triggered));
        let was_told = self.look(part, &taken, keeper, &mut look, early);
        self.clerk.prove(&mut look);
        turn();
        self.look_up_serials(part, &mut look);
        let decided = self.clerk.now();
        let latency = decided.since(&part.triggered);
        look.timings.latency_ms = millis(latency);
        let verdict = conclude(&part.station, &look);
        let mut inspection = self.clerk.record(part, look, verdict, decided);
        if was_told {
            inspection.timeliness.deadline_met = Some(true);
            inspection
        } else if latency > part.deadline {
            inspection.into_late(late(part, latency))
        } else {
            inspection
        }
    }

    /// Answers whether the verdict was told early.
    fn look(
        &mut self,
        part: &Part,
        taken: &Stamp,
        keeper: &dyn EvidenceKeeper,
        look: &mut Look,
        early: &mut dyn FnMut(Inspection) -> bool,
    ) -> bool {
        let station = &*part.station;
        let deadline = Instant::now() + time_left(part, taken);
        let sights = look.see(station, part);
        let tells_early = station.plc.as_ref().is_some_and(|plc| plc.partial);
        let (mut was_offered, mut was_told) = (false, false);
        for sight in sights.iter().filter(|sight| sight.is_asked) {
            for (at, question) in station.questions.iter().enumerate() {
                if look.ballots[at].is_settled {
                    continue;
                }
                let started = Instant::now();
                self.ask(station, (at, question), sight, deadline, look);
                look.timings.model_ms += millis(started.elapsed());
                look.settle(at, &station.vote);
                if tells_early
                    && !was_offered
                    && look.ballots.iter().any(|ballot| !ballot.is_settled)
                    && let Some(verdict) = verdict::decided(&look.findings, &station.rules)
                {
                    was_offered = true;
                    look.keep(&sights, keeper);
                    let partial = self.partial(part, look, verdict);
                    was_told = partial.is_some_and(&mut *early);
                }
            }
        }
        look.close(&station.vote);
        look.keep(&sights, keeper);
        was_told
    }

    /// The record of a verdict that stands already; `None` if it is too late for that.
    fn partial(&self, part: &Part, look: &Look, verdict: Verdict) -> Option<Inspection> {
        let mut so_far = look.clone();
        self.clerk.prove(&mut so_far);
        if self.clerk.failure().is_some() {
            return None;
        }
        let decided = self.clerk.now();
        let latency = decided.since(&part.triggered);
        so_far.timings.latency_ms = millis(latency);
        let mut inspection = self.clerk.record(part, so_far, verdict, decided);
        inspection.timeliness.is_partial = true;
        (latency <= part.deadline).then_some(inspection)
    }

    /// Puts one question about one frame: once, or about each tile.
    fn ask(
        &mut self,
        station: &Station,
        (at, question): (usize, &Question),
        sight: &Sight,
        deadline: Instant,
        look: &mut Look,
    ) {
        let mut findings = Vec::new();
        for names in &question.looks {
            // A region that could not be cut has already given its reason.
            let Some(shown) = sight.shown(question, names) else { continue };
            // Nor is anybody asked about what shows nothing: every answer would be made up.
            if names.iter().any(|name| sight.blank.contains(name)) {
                continue;
            }
            let reply = if Instant::now() >= deadline {
                let late = "not asked: the deadline had passed".to_owned();
                Reply::new("", Err(late))
            } else {
                self.model.ask(station, question, &shown, deadline)
            };
            findings.append(&mut look.take_reply(question, names, &shown, sight, reply));
        }
        if question.looks.len() > 1 {
            findings = agree::join_tiles(findings);
        }
        look.ballots[at].votes.push(findings);
    }
}

/// How long the model may work on a part that was taken out of the queue at `taken`. One that is late
/// already is not asked about: it would only make the next ones late. One that becomes late meanwhile
/// may be finished, where the station gives time for that.
fn time_left(part: &Part, taken: &Stamp) -> Duration {
    let left = part.deadline.saturating_sub(taken.since(&part.triggered));
    let finish = part.station.plc.as_ref().map_or(Duration::ZERO, |plc| plc.finish_late);
    if left.is_zero() { left } else { left + finish }
}

impl<M: Model> Inspector<M> {
    /// Puts one question to the model, beside the parts that it is given.
    pub fn ask_model(
        &mut self,
        station: &Station,
        question: &Question,
        crops: &[&Crop],
        deadline: Instant,
    ) -> Reply {
        self.model.ask(station, question, crops, deadline)
    }
}

impl<M> Inspector<M> {
    /// Looks up each serial that was read, and notes what it may have been.
    fn look_up_serials(&self, part: &Part, look: &mut Look) {
        let Some(rule) = &part.station.rules.serial else { return };
        let now = self.clerk.now();
        let asking = Asking {
            station: &part.station,
            part_id: &part.part_id,
            // Lines count from 1.
            job_id: (part.job_id > 0).then_some(part.job_id),
            now_ms: self.clerk.is_synchronized().then(|| now.wall.as_millisecond()),
        };
        let readings: BTreeSet<&str> = look.findings.iter().filter_map(Finding::serial).collect();
        if rule.looks_up() {
            let look_up = |text: &str| serials::look_up(rule, text, &asking, &*self.ledger);
            look.serial_facts = readings.into_iter().map(look_up).collect();
        }
        verdict::serial::propose(&mut look.findings, rule, &look.serial_facts);
    }
}

fn late(part: &Part, latency: Duration) -> Reason {
    let text = format!(
        "Late: {:.0} ms from the trigger, {} ms allowed.",
        millis(latency),
        part.deadline.as_millis()
    );
    Reason::new("late", text)
}

/// The rules' verdict, but never a pass where something went wrong.
fn conclude(station: &Station, look: &Look) -> Verdict {
    let mut verdict = verdict::judge(&look.findings, &station.rules, &look.serial_facts);
    if verdict.outcome == Outcome::Pass && !look.problems.is_empty() {
        verdict.outcome = Outcome::Review;
    }
    if verdict.outcome == Outcome::Fail {
        verdict.reasons.extend(look.problems.iter().cloned());
    } else {
        // What went wrong explains what is missing: it comes first.
        verdict.reasons = look.problems.iter().cloned().chain(verdict.reasons).collect();
    }
    verdict
}

fn millis(time: Duration) -> f64 {
    // A microsecond is as fine as any reader needs, and keeps records short.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_as_many_as_places_and_come_back() {
        let taken = Arc::new(AtomicUsize::new(0));
        let first = Ticket::take(&taken, 2).expect("a free place");
        let second = Ticket::take(&taken, 2).expect("a free place");
        assert!(Ticket::take(&taken, 2).is_none());
        drop(first);
        assert!(Ticket::take(&taken, 2).is_some());
        drop(second);
        assert_eq!(taken.load(Ordering::SeqCst), 0);
    }
}
