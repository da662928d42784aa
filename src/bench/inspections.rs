//! Whole inspections: a simulated part's picture, a station's questions, a verdict.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::count::{self, Work};
use super::stage::{Stage, Unit};
use super::stages::{product, time};
use super::{BenchError, Plan};
use crate::clock::{Clock, SystemClock};
use crate::frame::{Frame, Rgb8};
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Decider, EngineModel, EvidenceKeeper, Inspector, Part};
use crate::simulate::{self, Mix};
use crate::station::Station;
use crate::vlm::Engine;
use crate::vlm::pixels::{Layout, TILE};

/// The stage's name.
const ID: &str = "inspection";
/// Seed of the pictures: every measurement shows the same ones in the same order.
const SEED: u64 = 336;

/// Keeps no evidence: a disk is not what is measured.
struct NoEvidence;

impl EvidenceKeeper for NoEvidence {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok(String::new())
    }
}

/// Measures inspections of simulated parts, another picture for each run, with all questions of
/// `station`, whose regions should be whole pictures. `seen` hears of each run before it.
///
/// # Errors
/// A question that cannot be asked: its time would be that of a failure.
pub fn measure(
    engine: &Arc<Engine>,
    model: EngineModel,
    station: &Arc<Station>,
    plan: &Plan,
    seen: &mut dyn FnMut(&str),
) -> Result<Stage, BenchError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clerk = Clerk::new(Arc::clone(&clock), "bench", Decider::of(engine, None), "");
    let mut inspector = Inspector::new(model, clerk);
    let runs = plan.warm_up + plan.runs;
    let mut inspections = Vec::with_capacity(runs);
    let prepare = |number: usize| {
        let picture = simulate::picture(SEED, number as u64, &Mix::default()).pixels;
        part(station, number as u64, picture, &*clock)
    };
    let runs_s = time(plan, ID, seen, prepare, |part| {
        let inspection = inspector.inspect(&part, &NoEvidence);
        check(&inspection)?;
        inspections.push(inspection);
        Ok(())
    })?;
    let counted = &inspections[plan.warm_up..];
    let flop = counted.iter().map(|inspection| flop(engine, station, inspection)).sum::<u64>()
        / counted.len().max(1) as u64;
    // How many passes read the weights is not known: tokens that the grammar forces share one.
    let work = Work { flop, bytes: None };
    let weights = engine.decoder().layer_bytes();
    Ok(Stage::new(ID.to_owned(), (1, Unit::Parts), work, product(weights), runs_s))
}

fn part(station: &Arc<Station>, number: u64, picture: Rgb8, clock: &dyn Clock) -> Part {
    let now = clock.now();
    let frame = Frame {
        sequence: number + 1,
        camera: Arc::from(station.name.as_str()),
        captured: now,
        pipeline_ns: None,
        picture: picture.into(),
    };
    let mut part = Part::new(station, number + 1, format!("bench-{number}"), now);
    part.frame = Some(Arc::new(frame));
    part
}

/// Every question must have an answer. That it is cut off or odd is the model's affair: random
/// weights are measured, too.
fn check(inspection: &Inspection) -> Result<(), BenchError> {
    let failed = |question: &str, why: String| BenchError::Question {
        station: inspection.station.clone(),
        question: question.to_owned(),
        why,
    };
    if let Some(asked) = inspection.questions.iter().find(|asked| asked.answer.is_none()) {
        let why = asked.error.clone().unwrap_or_else(|| "no answer".to_owned());
        return Err(failed(&asked.question, why));
    }
    if inspection.questions.is_empty() {
        let why = inspection.verdict.reasons.first().map(|reason| reason.text.clone());
        return Err(failed("(all)", why.unwrap_or_else(|| "nothing was asked".to_owned())));
    }
    Ok(())
}

/// Operations of one inspection: each region's picture once for each number of crops, what was read
/// of the prompts, what was written.
fn flop(engine: &Engine, station: &Station, inspection: &Inspection) -> u64 {
    let decoder = &engine.config().decoder;
    let mut shown = BTreeSet::new();
    let mut flop = 0;
    for question in &station.questions {
        let golden = question.golden.as_ref().map(|golden| &golden.digest);
        for picture in question.looks.iter().flatten().chain(golden) {
            if shown.insert((picture, question.num_crops)) {
                flop += picture_flop(engine, question.num_crops);
            }
        }
    }
    for answer in inspection.questions.iter().filter_map(|asked| asked.answer.as_ref()) {
        let tokens = &answer.tokens;
        let read = tokens.prompt.saturating_sub(tokens.reused);
        flop += count::layers_flop(decoder, tokens.reused, read + tokens.generated);
        flop +=
            count::logits_flop(decoder, 1 + tokens.generated - tokens.forced.min(tokens.generated));
    }
    flop
}

/// A picture of one square region in at most `num_crops` tiles.
fn picture_flop(engine: &Engine, num_crops: usize) -> u64 {
    let (vision, decoder) = (&engine.config().vision, &engine.config().decoder);
    let side = TILE as u32;
    let Ok(layout) = Layout::of(side, side, num_crops) else { return 0 };
    // A picture of one tile passes the tower once: its global view is that tile.
    let views = if layout.tiles() == 1 { 1 } else { layout.tiles() as u64 + 1 };
    views * count::view_flop(vision) + count::projector_flop(vision, decoder, layout.tokens())
}
