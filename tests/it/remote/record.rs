//! What stands in the record of a part that an engine elsewhere was asked about.

use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use inspectd::clock::{Clock, SystemClock};
use inspectd::config;
use inspectd::frame::{Frame, Rgb8, file};
use inspectd::inspection::{Digests, Inspection};
use inspectd::inspector::{
    Clerk, Decider, EvidenceKeeper, Inspector, LocalAsker, Part, RemoteModel, RemoteQuestion, Reply,
};
use inspectd::remote::{Engine, EngineOptions};
use inspectd::station::{EngineUse, Fallback, Station};
use inspectd::verdict::Outcome;
use inspectd::vlm::Digest;
use inspectd::vlm::ask::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};

use super::{options, quiet};
use crate::support::engine_server::{Act, Asked, EngineServer, error, say};
use crate::support::station::{Site, some_picture};

const SERIAL: &str = r#"{"legible":true,"serial":"A7K2M9PX"}"#;
const CLEAN: &str = r#"{"inspectable":true,"defects":[]}"#;

/// The right answer to each question of the demo station.
fn right(asked: &Asked) -> Act {
    Act::Answer(if asked.question() == "serial" { SERIAL } else { CLEAN }.to_owned())
}

/// Keeps evidence by its digest, as the store does.
#[derive(Default)]
struct Shelf(Mutex<Vec<(String, Vec<u8>)>>);

impl EvidenceKeeper for Shelf {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        let png = file::png(picture).map_err(|why| why.to_string())?;
        let digest = Digest::of(&png).to_string();
        self.0.lock().unwrap().push((digest.clone(), png));
        Ok(digest)
    }
}

/// The device's own model, which answers everything.
struct Own;

impl LocalAsker for Own {
    fn ask(&self, asked: RemoteQuestion) -> Option<Reply> {
        let (text, paths) = match asked.question.as_str() {
            "serial" => (SERIAL, ["legible", "serial"]),
            _ => (CLEAN, ["inspectable", "defects"]),
        };
        let field = |path: &str| FieldConfidence {
            path: path.to_owned(),
            probability: 0.5,
            min_token_probability: 0.5,
            min_allowed_mass: 0.5,
            tokens: 1,
        };
        let answer = Answer {
            text: text.to_owned(),
            fields: paths.map(field).to_vec(),
            stop: StopReason::Complete,
            tokens: TokenCounts::default(),
            timings: Timings::default(),
        };
        Some(Reply::new("own", Ok(answer)))
    }
}

/// The demo station, asking `server`.
fn station(
    server: &EngineServer,
    fallback: Fallback,
    rules: &str,
) -> (Arc<Station>, EngineOptions) {
    let site = Site::new(Path::new("/nowhere/line.mkv"), None);
    site.edit("[rules]\n", &format!("[rules]\n{rules}"));
    let loaded = config::load(&site.file).unwrap_or_else(|problems| panic!("{problems}"));
    let mut station = loaded.stations.into_iter().next().expect("one station");
    station.engine = Some(EngineUse { name: "gpu".to_owned(), fallback });
    (Arc::new(station), options(&server.url()))
}

fn inspect(
    (station, options): (Arc<Station>, EngineOptions),
    local: Option<Arc<dyn LocalAsker>>,
    shelf: &Shelf,
) -> Inspection {
    let engine = Arc::new(Engine::new(&options, quiet()).expect("an engine"));
    let model = RemoteModel::new(engine, std::slice::from_ref(&station), local).expect("prepared");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clerk = Clerk::new(Arc::clone(&clock), "box", Decider::from("own-model"), "program");
    let now = clock.now();
    let mut part = Part::new(&station, 1, "000001".into(), now);
    part.deadline = super::PATIENCE;
    part.frame = Some(Arc::new(Frame {
        sequence: 1,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: some_picture().into(),
    }));
    Inspector::new(model, clerk).inspect(&part, shelf)
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn the_record_proves_what_was_sent_and_who_answered() {
    let server = EngineServer::start(|asked, _| right(asked));
    let shelf = Shelf::default();
    let inspection = inspect(station(&server, Fallback::Review, ""), None, &shelf);
    assert_eq!(inspection.verdict.outcome, Outcome::Pass, "{:?}", inspection.verdict);
    assert_eq!(inspection.digests.model, Digests::REMOTE, "no model of the device decided");
    assert_eq!(inspection.computed_on, None);
    let kept = shelf.0.lock().unwrap();
    for (asked, sent) in inspection.questions.iter().zip(server.asked()) {
        let by = asked.answered_by.as_ref().expect("an engine elsewhere");
        assert_eq!((by.engine.as_str(), by.model.as_deref()), ("gpu", Some("tiny-vl")));
        // The prompt with the evidence files in their places is what was sent, to the byte.
        let mut body = asked.prompt.clone();
        for (digest, png) in kept.iter() {
            let data = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
            body = body.replace(&format!("sha256:{digest}"), &data);
        }
        assert_eq!(body.as_bytes(), sent.body);
        assert_eq!(by.request_sha256, Some(Digest::of(body.as_bytes()).to_string()));
        assert!(asked.answer.as_ref().is_some_and(|answer| answer.is_complete()));
    }
    // It survives the record, and a record without engines is what it was.
    let text = serde_json::to_string(&inspection).expect("JSON");
    assert_eq!(serde_json::from_str::<Inspection>(&text).expect("read"), inspection);
    let mut local = inspection.clone();
    local.questions.iter_mut().for_each(|asked| asked.answered_by = None);
    let text = serde_json::to_string(&local).expect("JSON");
    assert!(!text.contains("answered_by") && !text.contains("is_unrated"), "{text}");
}

#[test]
fn what_fails_is_review_with_the_engines_name() {
    for (act, code) in [
        (error(500, "no"), "engine_error"),
        (Act::Answer("pass".to_owned()), "answer_off_schema"),
        (say(|body| body["choices"][0]["finish_reason"] = "length".into()), "answer_incomplete"),
    ] {
        let server = EngineServer::start(move |_, _| act.clone());
        let inspection = inspect(station(&server, Fallback::Review, ""), None, &Shelf::default());
        assert_eq!(inspection.verdict.outcome, Outcome::Review);
        let reason = &inspection.verdict.reasons[0];
        assert_eq!(reason.code, code);
        assert!(reason.text.contains("\"gpu\""), "{}", reason.text);
        assert!(inspection.questions[0].answered_by.is_some(), "who failed is in the record");
    }
}

#[test]
fn a_missing_probability_is_no_pass_unless_the_station_says_so() {
    let unrated = |asked: &Asked| match right(asked) {
        Act::Answer(content) => say(|body| {
            body["choices"][0]["message"]["content"] = content.into();
            body["choices"][0]["logprobs"] = serde_json::Value::Null;
        }),
        other => other,
    };
    let judged = |rules: &str| {
        let server = EngineServer::start(move |asked, _| unrated(asked));
        inspect(station(&server, Fallback::Review, rules), None, &Shelf::default())
    };
    let strict = judged("confidence_min = 0.5\n");
    assert_eq!(strict.verdict.outcome, Outcome::Review);
    assert!(codes(&strict).contains(&"confidence_unknown"), "{:?}", codes(&strict));
    assert!(strict.findings.iter().all(|finding| finding.is_unrated && finding.confidence == 0.0));
    let accepted = judged("confidence_min = 0.5\naccept_without_confidence = true\n");
    assert_eq!(accepted.verdict.outcome, Outcome::Pass, "{:?}", accepted.verdict);
    // And one that is told and too low is no pass either way.
    let server = EngineServer::start(|asked, _| right(asked));
    let rules = "confidence_min = 0.99\naccept_without_confidence = true\n";
    let low = inspect(station(&server, Fallback::Review, rules), None, &Shelf::default());
    assert!(codes(&low).contains(&"confidence_low"), "{:?}", codes(&low));
}

#[test]
fn the_own_model_answers_where_the_station_wants_that() {
    let server = EngineServer::start(|asked, _| match asked.question().as_str() {
        "serial" => error(500, "no"),
        _ => Act::Answer(CLEAN.to_owned()),
    });
    let local = Fallback::Local { reserve: std::time::Duration::from_secs(1) };
    let at = || station(&server, local, "");
    let inspection = inspect(at(), Some(Arc::new(Own)), &Shelf::default());
    assert_eq!(inspection.verdict.outcome, Outcome::Pass, "{:?}", inspection.verdict);
    assert_eq!(inspection.digests.model, "own-model", "it decided, too");
    let serial = &inspection.questions[0];
    let by = serial.answered_by.as_ref().expect("who was asked first");
    let why = by.fallen_back.as_ref().expect("who answered");
    assert_eq!((why.code.as_str(), serial.prompt.as_str()), ("engine_error", "own"));
    assert!(serial.is_local() && !inspection.questions[1].is_local());
    assert!(inspection.findings[0].confidence > 0.0 && !inspection.findings[0].is_unrated);
    // Nobody there to take its place: a person must look.
    let inspection = inspect(at(), None, &Shelf::default());
    assert_eq!(inspection.verdict.outcome, Outcome::Review);
    assert_eq!(codes(&inspection)[0], "fallback_full");
}
