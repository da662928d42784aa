//! A record and its commit → the spans of the part.
//!
//! The stages stand in the record by their lengths, and each begins where the one before it ended: so they are laid
//! out here, and the same trace could be made of the record years later. What lies between two stages, such as the
//! wait for a turn, is in the time of `judge`. Questions follow one another in the same way within `model`.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, status::StatusCode};
use uuid::Uuid;

use super::span::{PART, Time, attribute, maybe, span, span_id, unix_ns};
use crate::clock::Stamp;
use crate::inspection::{Asked, Digests, Inspection, Timings};
use crate::remote::{Address, AnsweredBy};
use crate::vlm::answer::{Answer, StopReason};

/// Questions of one part that are told; a part with tiles and frames that vote may have hundreds.
const QUESTIONS_MAX: usize = 128;

/// Reasons of one part that are told.
const REASONS_MAX: usize = 16;

/// Digits of a digest that are told: enough to know it by.
const DIGEST_CHARS: usize = 12;

/// When a record was written.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// The first try began.
    pub begun: Stamp,
    /// It was on the disk.
    pub ended: Stamp,
}

/// Where the parts of a trace are put: all moments by one clock.
struct Course {
    result_id: Uuid,
    base: Stamp,
    /// From the first to the last moment of the part.
    whole: Time,
    spans: Vec<Span>,
}

/// The spans of one part, the whole part first. `serials`: whether they name the serial.
pub fn spans(look: &Inspection, commit: &Commit, serials: bool) -> Vec<Span> {
    let mut course = Course::new(look, commit);
    course.lay_wait(look);
    if was_looked_at(look) {
        course.lay_stages(look);
    }
    let time = (course.at(&commit.begun), course.at(&commit.ended));
    course.add("commit", PART, "commit", time);
    let mut whole = span(look.result_id, PART, None, PART, course.whole);
    whole.attributes = of_part(look, serials);
    whole.links.extend(look.timeliness.updates.map(earlier));
    course.spans.insert(0, whole);
    course.spans
}

fn was_looked_at(look: &Inspection) -> bool {
    // Of a part that was missed only the latency is known.
    let latency_ms = look.timings.latency_ms;
    look.timings != Timings { latency_ms, ..Timings::default() }
}

/// The trace that this one completes.
fn earlier(result_id: Uuid) -> Link {
    let attributes = vec![attribute("inspectd.link", "updates")];
    let (trace_id, span_id) = (result_id.as_bytes().to_vec(), span_id(result_id, PART));
    Link { trace_id, span_id, attributes, ..Link::default() }
}

impl Course {
    fn new(look: &Inspection, commit: &Commit) -> Course {
        let base = look.times.triggered;
        let mut course =
            Course { result_id: look.result_id, base, whole: (0, u64::MAX), spans: Vec::new() };
        let begin = look.times.captured.map_or(u64::MAX, |captured| course.at(&captured));
        let begin = begin.min(course.at(&base));
        course.whole = (begin, course.at(&commit.ended).max(begin));
        course
    }

    /// A moment by the wall clock as it was at the trigger: it may have been set since, and spans must not turn
    /// around.
    fn at(&self, stamp: &Stamp) -> u64 {
        unix_ns(&self.base.at(stamp.monotonic_ns)).clamp(self.whole.0, self.whole.1)
    }

    fn add(&mut self, about: &str, parent: &str, name: &str, time: Time) -> &mut Span {
        let fit = |moment: u64| moment.clamp(self.whole.0, self.whole.1);
        let time = (fit(time.0), fit(time.1));
        self.spans.push(span(self.result_id, about, Some(parent), name, time));
        self.spans.last_mut().expect("just put there")
    }

    /// From the first of trigger and picture to the second.
    fn lay_wait(&mut self, look: &Inspection) {
        let Some(captured) = look.times.captured else { return };
        let (triggered, captured) = (self.at(&look.times.triggered), self.at(&captured));
        let name = if captured >= triggered { "capture" } else { "trigger" };
        if captured != triggered {
            self.add(name, PART, name, (triggered.min(captured), triggered.max(captured)));
        }
    }

    fn lay_stages(&mut self, look: &Inspection) {
        let Timings { queued_ms, crop_ms, quality_ms, model_ms, evidence_ms, .. } = look.timings;
        let triggered = self.at(&look.times.triggered);
        let mut now = triggered.saturating_add(ns(queued_ms));
        let decided = self.at(&look.times.decided).max(now);
        let shown = look.times.captured.map_or(triggered, |captured| self.at(&captured));
        self.add("queue", PART, "queue", (shown.max(triggered).min(now), now));
        let mut stages = vec![("cut", crop_ms), ("quality", quality_ms), ("model", model_ms)];
        stages.push(("evidence", evidence_ms));
        for (name, ms) in stages {
            let time = (now.min(decided), now.saturating_add(ns(ms)).min(decided));
            now = time.1;
            self.add(name, PART, name, time);
            if name == "model" {
                self.lay_questions(look, time);
            }
        }
        self.add("judge", PART, "judge", (now, decided));
    }

    fn lay_questions(&mut self, look: &Inspection, model: Time) {
        let mut now = model.0;
        for (at, asked) in look.questions.iter().take(QUESTIONS_MAX).enumerate() {
            let time = (now, now.saturating_add(ns(took_ms(asked))).min(model.1));
            now = time.1;
            let name = format!("question {}", asked.question);
            let about = format!("question {at}");
            let span = self.add(&about, "model", &name, time);
            span.attributes = of_question(asked, &look.digests);
            let is_elsewhere = asked.answered_by.is_some();
            span.kind = if is_elsewhere { SpanKind::Client } else { SpanKind::Internal }.into();
            if let Some(kind) = error_of(asked) {
                let code = StatusCode::Error.into();
                span.status = Some(Status { code, message: String::new() });
                span.attributes.push(attribute("error.type", kind));
            }
        }
    }
}

fn ns(ms: f64) -> u64 {
    // A cast of a float saturates, and makes 0 of what is no number.
    (ms * 1e6).round() as u64
}

/// How long a question took: at its engine elsewhere, and at the own model.
fn took_ms(asked: &Asked) -> f64 {
    let by = asked.answered_by.as_ref();
    let elsewhere = by.map_or(0.0, |by| by.timings.encode_ms + by.timings.total_ms);
    let here = asked.answer.as_ref().filter(|_| asked.is_local()).map_or(0.0, |answer| {
        let times = &answer.timings;
        times.preprocess_ms + times.tower_ms + times.prefill_ms + times.decode_ms
    });
    elsewhere + here
}

fn of_part(look: &Inspection, serials: bool) -> Vec<KeyValue> {
    let timeliness = &look.timeliness;
    let reasons = look.verdict.reasons.iter().take(REASONS_MAX);
    let reasons: Vec<&str> = reasons.map(|reason| reason.code.as_str()).collect();
    let mut all = vec![
        attribute("inspectd.device", look.device.as_str()),
        attribute("inspectd.station", look.station.as_str()),
        attribute("inspectd.recipe", look.recipe.as_str()),
        attribute("inspectd.part_id", look.part_id.as_str()),
        attribute("inspectd.job_id", look.job_id),
        attribute("inspectd.result_id", look.result_id.to_string().as_str()),
        attribute("inspectd.verdict", look.verdict.outcome.as_str()),
        attribute("inspectd.reasons", reasons),
        attribute("inspectd.model", model(&look.digests)),
        attribute("inspectd.latency_ms", look.timings.latency_ms),
        attribute("inspectd.is_simulated", look.is_simulated),
        attribute("inspectd.is_partial", timeliness.is_partial),
    ];
    let trigger_id = look.trigger_id.as_ref().map(ToString::to_string);
    all.extend(maybe("inspectd.trigger_id", trigger_id.as_deref()));
    all.extend(maybe("inspectd.deadline_ms", timeliness.deadline_ms));
    all.extend(maybe("inspectd.deadline_met", timeliness.deadline_met));
    all.extend(maybe("inspectd.frame_sequence", look.frame_sequence));
    all.extend(maybe("inspectd.serial", look.serial().filter(|_| serials)));
    all
}

/// The model's digest, short, or the word that stands in its place.
fn model(digests: &Digests) -> &str {
    let end =
        digests.model.char_indices().nth(DIGEST_CHARS).map_or(digests.model.len(), |(at, _)| at);
    &digests.model[..end]
}

fn of_question(asked: &Asked, digests: &Digests) -> Vec<KeyValue> {
    let mut all = vec![
        attribute("inspectd.question", asked.question.as_str()),
        attribute("gen_ai.operation.name", "chat"),
        attribute("inspectd.is_local", asked.is_local()),
    ];
    let regions: Vec<&str> = asked.regions.iter().take(REASONS_MAX).map(String::as_str).collect();
    all.push(attribute("inspectd.regions", regions));
    match &asked.answered_by {
        Some(by) => all.extend(of_engine(by)),
        None => {
            all.push(attribute("gen_ai.provider.name", "inspectd"));
            all.push(attribute("gen_ai.request.model", model(digests)));
        }
    }
    if let Some(answer) = &asked.answer {
        all.extend(of_answer(answer, asked.is_local()));
    }
    all
}

/// Of an engine elsewhere.
fn of_engine(by: &AnsweredBy) -> Vec<KeyValue> {
    let provider = if by.kind == "azure-ml" { "azure.ai.inference" } else { by.kind.as_str() };
    let mut all = vec![
        attribute("gen_ai.provider.name", provider),
        attribute("inspectd.engine", by.engine.as_str()),
        attribute("inspectd.attempts", u64::from(by.attempts)),
        attribute("inspectd.first_byte_ms", by.timings.first_byte_ms),
    ];
    all.extend(maybe("gen_ai.request.model", by.model_asked.as_deref()));
    all.extend(maybe("gen_ai.response.model", by.model.as_deref()));
    all.extend(maybe("http.response.status_code", by.status.map(u64::from)));
    all.extend(maybe("inspectd.fallen_back", by.fallen_back.as_ref().map(|why| why.code.as_str())));
    if let Ok(address) = Address::parse(&by.origin) {
        all.push(attribute("server.address", address.host()));
        all.push(attribute("server.port", u64::from(address.port())));
    }
    all
}

fn of_answer(answer: &Answer, is_local: bool) -> Vec<KeyValue> {
    let (tokens, times) = (&answer.tokens, &answer.timings);
    let finish = match answer.stop {
        StopReason::Complete => "stop",
        StopReason::Budget => "length",
        StopReason::Deadline => "deadline",
        StopReason::Cancelled => "cancelled",
    };
    let mut all = vec![
        attribute("gen_ai.usage.input_tokens", tokens.prompt as u64),
        attribute("gen_ai.usage.output_tokens", tokens.generated as u64),
        attribute("gen_ai.response.finish_reasons", vec![finish]),
    ];
    if is_local {
        all.extend([
            attribute("inspectd.tokens.image", tokens.image as u64),
            attribute("inspectd.tokens.reused", tokens.reused as u64),
            attribute("inspectd.tokens.forced", tokens.forced as u64),
            attribute("inspectd.preprocess_ms", times.preprocess_ms),
            attribute("inspectd.tower_ms", times.tower_ms),
            attribute("inspectd.prefill_ms", times.prefill_ms),
            attribute("inspectd.decode_ms", times.decode_ms),
        ]);
    }
    all
}

/// What kind of failure a question met. Its text is not told: it may quote the answer, and with it a serial.
fn error_of(asked: &Asked) -> Option<&'static str> {
    asked.error.as_ref()?;
    Some(match &asked.answer {
        None => "no_answer",
        Some(answer) if !answer.is_complete() => "answer_incomplete",
        Some(_) => "answer_off_schema",
    })
}
