//! A scripted model through the real inspector: what goes wrong never passes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::clock::{Clock, ManualClock};
use inspectd::frame::{Frame, Rgb8};
use inspectd::inspection::Inspection;
use inspectd::inspector::{Clerk, Decider, EvidenceKeeper, Inspector, Model, Part, Reply};
use inspectd::roi::{Area, Crop, RectPx, Region};
use inspectd::station::{Question, Station};
use inspectd::verdict::{Outcome, Reason};
use inspectd::vlm::ask::{Answer, FieldConfidence, StopReason, Timings, TokenCounts};
use inspectd::vlm::{Digest, DigestError, PendingDigest};
use inspectd::{plc, quality};

use crate::support::degrade;
use crate::support::station::{demo_station, some_picture};

/// Answers what it was told, per question.
struct Script {
    serial: Result<Answer, String>,
    defects: Result<Answer, String>,
    clock: Arc<ManualClock>,
    takes: Duration,
}

impl Model for Script {
    fn ask(&mut self, _: &Station, question: &Question, crops: &[&Crop], _: Instant) -> Reply {
        assert_eq!(crops.len(), question.regions.len());
        self.clock.advance(self.takes);
        let answer = if question.name == "serial" { &self.serial } else { &self.defects };
        Reply::new("scripted", answer.clone())
    }
}

struct Keep(Result<String, String>);

impl EvidenceKeeper for Keep {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        self.0.clone()
    }
}

fn answer(text: &str, paths: &[&str]) -> Answer {
    let field = |path: &&str| FieldConfidence {
        path: (*path).to_owned(),
        probability: 0.9,
        min_token_probability: 0.9,
        min_allowed_mass: 0.9,
        tokens: 1,
    };
    Answer {
        text: text.to_owned(),
        fields: paths.iter().map(field).collect(),
        stop: StopReason::Complete,
        tokens: TokenCounts::default(),
        timings: Timings::default(),
    }
}

const SERIAL: &str = r#"{"legible":true,"serial":"A7K2M9PX"}"#;
const GOOD: &str = r#"{"inspectable":true,"defects":[]}"#;
const DENT: &str =
    r#"{"inspectable":true,"defects":[{"class":"dent","severity":"minor","location":"center"}]}"#;

struct Case {
    serial: Result<Answer, String>,
    defects: Result<Answer, String>,
    takes: Duration,
    keep: Result<String, String>,
    change: fn(&mut Part),
    decider: Decider,
}

fn good() -> Case {
    Case {
        serial: Ok(answer(SERIAL, &["legible", "serial"])),
        defects: Ok(answer(GOOD, &["inspectable", "defects"])),
        takes: Duration::ZERO,
        keep: Ok("ab".repeat(32)),
        change: |_| {},
        decider: "model-digest".into(),
    }
}

fn inspect(case: Case) -> Inspection {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let now = clock.now();
    let frame = Frame {
        sequence: 5,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: some_picture().into(),
    };
    let mut part = Part::new(&Arc::new(demo_station()), 7, "000007".into(), now);
    part.frame = Some(Arc::new(frame));
    (case.change)(&mut part);
    let takes = case.takes;
    let (serial, defects) = (case.serial, case.defects);
    let model = Script { serial, defects, clock: Arc::clone(&clock), takes };
    let clerk = Clerk::new(clock, "box", case.decider, "program-digest");
    Inspector::new(model, clerk).inspect(&part, &Keep(case.keep))
}

fn codes(inspection: &Inspection) -> Vec<&str> {
    inspection.verdict.reasons.iter().map(|reason| reason.code.as_str()).collect()
}

#[test]
fn a_good_part_passes_with_its_evidence() {
    let inspection = inspect(good());
    assert_eq!(inspection.verdict.outcome, Outcome::Pass, "{:?}", inspection.verdict);
    assert_eq!(inspection.serial(), Some("A7K2M9PX"));
    assert_eq!(inspection.evidence.len(), 1);
    assert_eq!(inspection.digests.model, "model-digest");
    assert_eq!(inspection.job_id, 7);
}

#[test]
fn a_record_names_the_model_by_the_digest_that_was_waited_for() {
    let digest = Digest::of(b"weights");
    let mut case = good();
    case.decider = PendingDigest::known(Ok(digest)).into();
    let inspection = inspect(case);
    assert_eq!(inspection.digests.model, digest.to_string());
    assert_eq!(inspection.verdict.outcome, Outcome::Pass, "{:?}", inspection.verdict);
}

#[test]
fn what_a_model_without_a_digest_answers_does_not_count() {
    for defects in [GOOD, DENT] {
        let mut case = good();
        case.defects = Ok(answer(defects, &["inspectable", "defects"]));
        let unread = DigestError::new("weights: input/output error");
        case.decider = PendingDigest::known(Err(unread)).into();
        let inspection = inspect(case);
        assert_eq!(inspection.verdict.outcome, Outcome::Review);
        assert_eq!(codes(&inspection)[0], "model_unproven");
        assert!(inspection.verdict.reasons[0].text.contains("input/output error"));
        assert!(inspection.questions.is_empty() && inspection.findings.is_empty());
        assert_eq!(inspection.digests.model, "unknown");
        assert_eq!(inspection.evidence.len(), 1, "a person can look at it");
    }
}

#[test]
fn a_defect_fails_whatever_else_is_doubtful() {
    let mut case = good();
    case.defects = Ok(answer(DENT, &["inspectable", "defects", "defects[0].class"]));
    case.serial = Err("the model broke".into());
    let inspection = inspect(case);
    assert_eq!(inspection.verdict.outcome, Outcome::Fail);
    assert_eq!(codes(&inspection)[0], "defect");
    assert!(codes(&inspection).contains(&"question_failed"));
}

#[test]
fn an_answer_that_is_illegible_wrong_cut_off_or_off_schema_is_review() {
    let mut cut = answer(r#"{"legible":true,"ser"#, &[]);
    cut.stop = StopReason::Deadline;
    let illegible = answer(r#"{"legible":false,"serial":null}"#, &["legible"]);
    let wrong = answer(r#"{"legible":true,"serial":"A7K2M9P"}"#, &["legible", "serial"]);
    for (serial, code) in [
        (Ok(illegible), "serial_illegible"),
        (Ok(wrong), "serial_template"),
        (Ok(cut), "answer_incomplete"),
        (Ok(answer("not json", &[])), "answer_off_schema"),
        (Err("out of memory".to_owned()), "question_failed"),
    ] {
        let mut case = good();
        case.serial = serial;
        let inspection = inspect(case);
        assert_eq!(inspection.verdict.outcome, Outcome::Review, "{code}");
        assert!(codes(&inspection).contains(&code), "{code}: {:?}", inspection.verdict);
        assert_eq!(inspection.questions.len(), 2, "the other question was still asked");
    }
}

#[test]
fn a_late_answer_is_review_even_if_it_is_good() {
    let mut case = good();
    case.takes = Duration::from_secs(3600);
    let inspection = inspect(case);
    assert_eq!(inspection.verdict.outcome, Outcome::Review);
    assert_eq!(codes(&inspection), ["late"]);
    let told = &inspection.timeliness;
    assert_eq!((told.deadline_met, told.late_outcome), (Some(false), Some(Outcome::Pass)));

    let mut case = good();
    case.takes = Duration::from_secs(3600);
    case.defects = Ok(answer(DENT, &["inspectable", "defects", "defects[0].class"]));
    let inspection = inspect(case);
    assert_eq!(inspection.verdict.outcome, Outcome::Review, "the line went on without it");
    assert_eq!(inspection.timeliness.late_outcome, Some(Outcome::Fail));
}

/// Looks at a part whose first question shows a dent, each question taking `takes` of the ten
/// seconds; answers what was told early and the full record.
fn inspect_early(takes: Duration, partial: bool) -> (Vec<Inspection>, Inspection) {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let frame = Frame {
        sequence: 5,
        camera: Arc::from("demo"),
        captured: clock.now(),
        pipeline_ns: None,
        picture: some_picture().into(),
    };
    let mut station = demo_station();
    station.questions.reverse();
    station.plc = Some(plc::Options { partial, ..plc::Options::default() });
    let mut part = Part::new(&Arc::new(station), 1, "1".into(), clock.now());
    part.frame = Some(Arc::new(frame));
    let serial = Ok(answer(SERIAL, &["legible", "serial"]));
    let defects = Ok(answer(DENT, &["inspectable", "defects", "defects[0].class"]));
    let model = Script { serial, defects, clock: clock.clone(), takes };
    let clerk = Clerk::new(clock, "box", "m", "p");
    let mut told = Vec::new();
    let full = Inspector::new(model, clerk).inspect_telling(
        &part,
        &Keep(Ok("ab".repeat(32))),
        &mut |early| {
            told.push(early);
            true
        },
    );
    (told, full)
}

#[test]
fn a_verdict_that_stands_is_offered_once_and_in_time_only() {
    let (told, full) = inspect_early(Duration::from_secs(6), true);
    let [early] = &told[..] else { panic!("told once: {told:?}") };
    assert_eq!((early.verdict.outcome, codes(early)[0]), (Outcome::Fail, "defect"));
    assert!(early.timeliness.is_partial && early.timeliness.deadline_met == Some(true));
    assert_eq!((early.questions.len(), early.evidence.len()), (1, 1));
    assert_eq!((full.verdict.outcome, full.questions.len()), (Outcome::Fail, 2));
    // Twelve seconds in all: the verdict was told in time all the same.
    assert_eq!((full.timeliness.deadline_met, full.timeliness.late_outcome), (Some(true), None));
    assert!(!full.timeliness.is_partial && full.evidence.len() == 1);

    let (told, full) = inspect_early(Duration::from_secs(11), true);
    assert!(told.is_empty(), "too late to be early");
    assert_eq!(full.timeliness.late_outcome, Some(Outcome::Fail));
    let (told, _) = inspect_early(Duration::ZERO, false);
    assert!(told.is_empty(), "nobody asked for it");
}

#[test]
fn a_lost_frame_and_a_missed_part_are_records() {
    let mut case = good();
    case.change = |part| part.frame = None;
    let lost = inspect(case);
    assert_eq!((lost.verdict.outcome, codes(&lost)[0]), (Outcome::Review, "frame_lost"));
    assert_eq!(lost.times.captured, None);

    let mut case = good();
    case.change = |part| part.missed = Some(Reason::new("queue_full", "4 parts were waiting."));
    let missed = inspect(case);
    assert_eq!((missed.verdict.outcome, codes(&missed)[0]), (Outcome::Review, "queue_full"));
    assert!(missed.questions.is_empty());
    assert_eq!(missed.evidence.len(), 1, "the crop is kept for whoever reviews it");
}

#[test]
fn evidence_that_cannot_be_kept_is_review() {
    let mut case = good();
    case.keep = Err("the disk is full".into());
    let inspection = inspect(case);
    assert_eq!(inspection.verdict.outcome, Outcome::Review);
    assert!(codes(&inspection).contains(&"evidence_lost"));
}

#[test]
fn a_region_past_the_frame_or_too_narrow_is_review() {
    for (rect, words) in [
        (RectPx { x: 600, y: 0, width: 300, height: 300 }, "reaches past"),
        (RectPx { x: 0, y: 0, width: 1, height: 480 }, "1x480"),
    ] {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let mut station = demo_station();
        let name = station.regions[0].name.clone();
        station.regions = vec![Region { name, area: Area::Pixels(rect) }];
        let frame = Frame {
            sequence: 1,
            camera: Arc::from("demo"),
            captured: clock.now(),
            pipeline_ns: None,
            picture: some_picture().into(),
        };
        let mut part = Part::new(&Arc::new(station), 1, "1".into(), clock.now());
        part.frame = Some(Arc::new(frame));
        let Case { serial, defects, keep, .. } = good();
        let model = Script { serial, defects, clock: clock.clone(), takes: Duration::ZERO };
        let clerk = Clerk::new(clock, "box", "m", "p");
        let inspection = Inspector::new(model, clerk).inspect(&part, &Keep(keep));
        assert_eq!(inspection.verdict.outcome, Outcome::Review);
        assert!(inspection.verdict.reasons[0].text.contains(words), "{:?}", inspection.verdict);
    }
}

#[test]
fn no_answer_passes_when_a_probability_is_not_a_number() {
    let mut case = good();
    let mut unsure = answer(SERIAL, &["legible", "serial"]);
    unsure.fields[1].probability = f64::NAN;
    case.serial = Ok(unsure);
    case.change = |part| {
        let mut station = (*part.station).clone();
        station.rules.confidence_min = 0.5;
        part.station = Arc::new(station);
    };
    let inspection = inspect(case);
    assert_eq!(inspection.verdict.outcome, Outcome::Review);
    assert!(codes(&inspection).contains(&"confidence_low"));
}

/// A station that looks at whole simulated pictures, with references of one of them.
fn calibrated_part(picture: Rgb8) -> Part {
    let mut station = inspectd::evaluate::whole_picture_station(&demo_station());
    let reference = quality::Reference::of(&simulated(2));
    station.quality.references.insert(station.regions[0].name.clone(), Arc::new(reference));
    station.quality.limits.motion_max_px = 4.0;
    let now = ManualClock::new(jiff::Timestamp::UNIX_EPOCH).now();
    let frame = Frame {
        sequence: 1,
        camera: Arc::from("demo"),
        captured: now,
        pipeline_ns: None,
        picture: picture.into(),
    };
    let mut part = Part::new(&Arc::new(station), 1, "1".into(), now);
    part.frame = Some(Arc::new(frame));
    part
}

fn simulated(index: u64) -> Rgb8 {
    inspectd::simulate::picture(3, index, &inspectd::simulate::Mix::default()).pixels
}

fn inspect_picture(picture: Rgb8, defects: &str) -> Inspection {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let serial = Ok(answer(SERIAL, &["legible", "serial"]));
    let defects = Ok(answer(defects, &["inspectable", "defects", "defects[0].class"]));
    let model = Script { serial, defects, clock: clock.clone(), takes: Duration::ZERO };
    let clerk = Clerk::new(clock, "box", "m", "p");
    Inspector::new(model, clerk).inspect(&calibrated_part(picture), &Keep(Ok("ab".repeat(32))))
}

#[test]
fn a_picture_that_cannot_be_judged_by_never_passes() {
    let good = inspect_picture(simulated(5), GOOD);
    assert_eq!(good.verdict.outcome, Outcome::Pass, "{:?}", good.verdict);
    assert_eq!(good.picture_quality.len(), 1);
    for (spoilt, code) in [
        (degrade::blurred(&simulated(5), 3.0), "picture_out_of_focus"),
        (degrade::moved(&simulated(5), 12, 0), "picture_motion_blur"),
        (degrade::exposed(&simulated(5), 0.3), "picture_too_dark"),
    ] {
        let inspection = inspect_picture(spoilt.clone(), GOOD);
        assert_eq!(inspection.verdict.outcome, Outcome::Review, "{code}");
        assert_eq!(codes(&inspection), [code], "{:?}", inspection.verdict);
        assert_eq!(inspection.questions.len(), 2, "a person may want to know what was answered");
        assert!(inspection.is_picture_out() && !good.is_picture_out());
        let bad = inspect_picture(spoilt, DENT);
        assert_eq!(bad.verdict.outcome, Outcome::Fail, "bad parts stay bad");
        assert_eq!(codes(&bad), ["defect", code]);
    }
}

#[test]
fn nobody_is_asked_about_a_picture_that_shows_nothing() {
    for level in [0, 255, 128] {
        let mut empty = Rgb8::new(336, 336);
        empty.data.fill(level);
        let inspection = inspect_picture(empty, GOOD);
        assert_eq!(inspection.verdict.outcome, Outcome::Review);
        assert_eq!(codes(&inspection)[0], "picture_blank", "{:?}", inspection.verdict);
        assert!(inspection.questions.is_empty() && inspection.evidence.len() == 1);
    }
}

#[test]
fn a_record_tells_what_was_measured_and_an_older_one_is_read_as_before() {
    let record = inspect_picture(simulated(5), GOOD);
    let mut told = serde_json::to_value(&record).expect("plain data");
    let measured = &told["picture_quality"][0];
    assert_eq!(measured["region"], "plate");
    assert!(measured["edge_widths_px"]["0"].as_f64().is_some_and(|px| px > 1.0), "{measured}");
    assert!(told.get("fixed_areas").is_none() && measured.get("is_blank").is_none());
    told.as_object_mut().expect("an object").remove("picture_quality");
    told["timings"].as_object_mut().expect("an object").remove("quality_ms");
    let older: Inspection = serde_json::from_value(told.clone()).expect("an older record");
    assert!(older.picture_quality.is_empty() && older.verdict == record.verdict);
    assert!(serde_json::to_value(&older).expect("plain data").get("picture_quality").is_none());
}
