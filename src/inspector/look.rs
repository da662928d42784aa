//! What gathers while one part is looked at.

use std::time::Instant;

use super::sight::{self, Sight};
use super::{EvidenceKeeper, Part, Reason, Reply, millis};
use crate::inspection::{Asked, Evidence, Timings};
use crate::quality::{FixedMeasures, RegionMeasures};
use crate::remote::AnsweredBy;
use crate::roi::Crop;
use crate::station::{Question, Station, Vote};
use crate::verdict::{Finding, SerialFacts, agree, finding};
use crate::vlm::ask::Answer;

/// Too few frames of a part can be judged by.
const VOTE_SHORT: &str = "vote_short";

/// Everything that is known of a part so far.
#[derive(Clone, Default)]
pub(super) struct Look {
    is_kept: bool,
    pub problems: Vec<Reason>,
    pub evidence: Vec<Evidence>,
    pub picture_quality: Vec<RegionMeasures>,
    pub fixed_areas: Vec<FixedMeasures>,
    pub asked: Vec<Asked>,
    /// One for each question of the station.
    pub ballots: Vec<Ballot>,
    pub findings: Vec<Finding>,
    pub serial_facts: Vec<SerialFacts>,
    pub timings: Timings,
}

/// What the frames say of one question.
#[derive(Clone, Default)]
pub(super) struct Ballot {
    /// One list for each frame that was asked about.
    pub votes: Vec<Vec<Finding>>,
    /// More frames would change nothing.
    pub is_settled: bool,
}

impl Look {
    /// Whether all that was asked was answered elsewhere, so that no model of the device decided.
    pub fn is_remote(&self) -> bool {
        !self.asked.is_empty() && !self.asked.iter().any(Asked::is_local)
    }

    /// Takes back all that was answered, for this reason.
    pub fn withdraw(&mut self, reason: Reason) {
        self.findings.clear();
        self.asked.clear();
        self.problems.push(reason);
    }

    /// Cuts and measures every frame of the part. Where frames vote, those with something wrong have no
    /// vote, as long as enough are left; what is wrong stands in the figures of the record.
    pub fn see(&mut self, station: &Station, part: &Part) -> Vec<Sight> {
        let started = Instant::now();
        let frames = part.frame.iter().chain(&part.more_frames).take(station.vote.frames);
        let mut sights: Vec<Sight> = Vec::with_capacity(station.vote.frames);
        let mut pictures = Vec::with_capacity(station.vote.frames);
        for (at, frame) in frames.enumerate() {
            let picture = sight::pixels(station, frame);
            let mut sight = Sight::cut(station, &picture);
            sight.frame_sequence = (at > 0).then_some(frame.sequence);
            sight.add_golden(station);
            sights.push(sight);
            pictures.push(picture);
        }
        self.timings.crop_ms = millis(started.elapsed());
        let started = Instant::now();
        for (sight, picture) in sights.iter_mut().zip(&pictures) {
            sight.measure(station, picture);
            self.picture_quality.append(&mut sight.measures);
        }
        if let Some(picture) = pictures.first() {
            for seen in station.quality.measure_fixed(picture) {
                let checks = station.quality.check_fixed(&seen);
                self.problems
                    .extend(checks.iter().filter_map(|check| sight::problem(check, &seen.area)));
                self.fixed_areas.push(seen);
            }
        }
        self.timings.quality_ms = millis(started.elapsed());
        self.ballots = vec![Ballot::default(); station.questions.len()];
        self.admit(&mut sights, &station.vote);
        sights
    }

    /// Which frames are asked about, and which problems count.
    fn admit(&mut self, sights: &mut [Sight], vote: &Vote) {
        let good = sights.iter().filter(|sight| sight.problems.is_empty()).count();
        if vote.frames > 1 && good >= vote.agree {
            for sight in sights {
                sight.is_asked = sight.problems.is_empty();
            }
            return;
        }
        if vote.frames > 1 {
            let (of, need) = (sights.len(), vote.agree);
            let text = format!(
                "Only {good} of the part's {of} frames can be judged by; {need} must agree."
            );
            self.problems.push(Reason::new(VOTE_SHORT, text));
            sights.iter_mut().for_each(|sight| sight.is_asked = false);
        }
        for sight in sights {
            self.problems.append(&mut sight.problems);
        }
    }

    /// Counts the votes on the question at `at`, if more frames would change nothing: enough of them
    /// say the same, and none says anything else.
    pub fn settle(&mut self, at: usize, vote: &Vote) {
        let Some(ballot) = self.ballots.get_mut(at) else { return };
        if !ballot.is_settled
            && ballot.votes.len() >= vote.agree
            && agree::is_unanimous(&ballot.votes)
        {
            self.count(at, vote);
        }
    }

    /// Counts what has not been counted: no frame is left.
    pub fn close(&mut self, vote: &Vote) {
        for at in 0..self.ballots.len() {
            if !self.ballots[at].is_settled {
                self.count(at, vote);
            }
        }
    }

    fn count(&mut self, at: usize, vote: &Vote) {
        let ballot = &mut self.ballots[at];
        ballot.is_settled = true;
        let mut joined = agree::agree(&ballot.votes, vote.agree);
        self.findings.append(&mut joined.findings);
        self.problems.append(&mut joined.disputes);
    }

    /// Keeps the crops as evidence, once.
    pub fn keep(&mut self, sights: &[Sight], keeper: &dyn EvidenceKeeper) {
        if std::mem::replace(&mut self.is_kept, true) {
            return;
        }
        let started = Instant::now();
        for sight in sights {
            self.keep_all(&sight.crops, sight.frame_sequence, keeper);
        }
        // The good parts are the same beside every frame.
        if let Some(sight) = sights.first() {
            let mut golden: Vec<Crop> = Vec::new();
            for (_, crop) in &sight.golden {
                if !golden.contains(crop) {
                    golden.push(crop.clone());
                }
            }
            self.keep_all(&golden, None, keeper);
        }
        self.timings.evidence_ms = millis(started.elapsed());
    }

    /// Keeps these crops of one frame.
    pub fn keep_all(
        &mut self,
        crops: &[Crop],
        frame_sequence: Option<u64>,
        keeper: &dyn EvidenceKeeper,
    ) {
        for crop in crops {
            match keeper.keep(&crop.picture) {
                Ok(sha256) => self.evidence.push(Evidence {
                    region: crop.region.clone(),
                    frame_sequence,
                    frame_px: crop.frame_px,
                    sha256,
                }),
                Err(why) => self.problems.push(Reason::new("evidence_lost", why)),
            }
        }
    }

    /// Notes what came back; answers what it says.
    pub fn take_reply(
        &mut self,
        question: &Question,
        names: &[String],
        shown: &[&Crop],
        sight: &Sight,
        reply: Reply,
    ) -> Vec<Finding> {
        let mut error = None;
        let mut found = Vec::new();
        match &reply.answer {
            Err(why) => error = Some(Reason::new(why.code, why.text.clone())),
            Ok(answer) if !answer.is_complete() => {
                let text = format!("\"{}\" was cut off: {:?}.", question.name, answer.stop);
                error = Some(Reason::new("answer_incomplete", text));
            }
            Ok(answer) => match read(question, names, answer) {
                Ok(findings) => found = rated(findings, reply.answered_by.as_ref()),
                Err(off) => error = Some(Reason::new("answer_off_schema", off.to_string())),
            },
        }
        self.asked.push(Asked {
            question: question.name.clone(),
            regions: shown.iter().map(|crop| crop.region.clone()).collect(),
            frame_sequence: sight.frame_sequence,
            prompt: reply.prompt,
            answer: reply.answer.ok(),
            error: error.as_ref().map(|reason| reason.text.clone()),
            answered_by: reply.answered_by,
        });
        self.problems.extend(error);
        found
    }
}

/// The findings of an engine that tells no probabilities, marked as such.
fn rated(findings: Vec<Finding>, by: Option<&AnsweredBy>) -> Vec<Finding> {
    let is_unrated = by.is_some_and(|by| by.is_unrated && by.fallen_back.is_none());
    findings.into_iter().map(|finding| Finding { is_unrated, ..finding }).collect()
}

fn read(
    question: &Question,
    names: &[String],
    answer: &Answer,
) -> Result<Vec<Finding>, finding::OffSchema> {
    let confidence = |path: &str| {
        let field = answer.fields.iter().find(|field| field.path == path);
        let told = field.map(|field| field.probability);
        // What is no probability counts as none: it must neither pass nor spoil the record.
        told.filter(|share| (0.0..=1.0).contains(share)).unwrap_or(0.0)
    };
    let region = names.join("+");
    finding::read(&question.name, &region, &question.task.expected(), &answer.text, confidence)
}
