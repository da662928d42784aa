//! The same picture and question give the same answer, to the last bit, whatever was asked before:
//! only then can a record be repeated and proven.

use std::sync::Arc;

use inspectd::clock::{Clock, SystemClock};
use inspectd::evaluate::whole_picture_station;
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, EngineModel, EvidenceKeeper, Inspector, Part};
use inspectd::simulate::{Mix, picture};
use inspectd::station::Station;
use inspectd::vlm::{Engine, EngineOptions};

use crate::support::station::{Site, demo_station};

struct Nothing;

impl EvidenceKeeper for Nothing {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok(String::new())
    }
}

fn inspector(engine: &Arc<Engine>, station: &Arc<Station>) -> Inspector<EngineModel> {
    let model = EngineModel::new(Arc::clone(engine), std::slice::from_ref(station));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clerk = Clerk::new(clock, "box", "model", "program");
    Inspector::new(model.expect("the questions fit"), clerk)
}

fn look(inspector: &mut Inspector<EngineModel>, station: &Arc<Station>, index: u64) -> Inspection {
    let drawn = picture(99, index, &Mix::default());
    let now = SystemClock.now();
    let frame = Frame {
        sequence: index,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: drawn.pixels.into(),
    };
    let mut part = Part::new(station, index, index.to_string(), now);
    part.frame = Some(Arc::new(frame));
    inspector.inspect(&part, &Nothing)
}

/// Texts and probabilities, as bits.
fn said(inspection: &Inspection) -> Vec<(String, Vec<u64>)> {
    let answers = inspection.questions.iter().filter_map(|asked| asked.answer.as_ref());
    answers
        .map(|answer| {
            let bits = answer.fields.iter().map(|field| field.probability.to_bits()).collect();
            (answer.text.clone(), bits)
        })
        .collect()
}

#[test]
fn an_answer_does_not_depend_on_what_was_asked_before() {
    let site = Site::new(std::path::Path::new("/nowhere/line.mkv"), None);
    let engine = Engine::load(&site.dir.path().join("model"), &EngineOptions::default());
    let engine = Arc::new(engine.expect("the built-in model loads"));
    let station = Arc::new(whole_picture_station(&demo_station()));
    let mut used = inspector(&engine, &station);
    let first = look(&mut used, &station, 1);
    look(&mut used, &station, 2);
    look(&mut used, &station, 3);
    let again = look(&mut used, &station, 1);
    let fresh = look(&mut inspector(&engine, &station), &station, 1);
    assert_eq!(said(&first).len(), 2, "{first:?}");
    assert_eq!(said(&first), said(&again));
    assert_eq!(said(&first), said(&fresh));
    let reused = again.questions[1].answer.as_ref().map(|answer| answer.tokens.reused);
    assert!(reused > Some(300), "the second question shares the picture: {reused:?}");
}
