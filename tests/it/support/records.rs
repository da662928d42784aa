//! Inspections as they come from a line, made up for tests of the record and the delivery.

use std::sync::Arc;
use std::time::Duration;

use inspectd::clock::{Clock, Stamp, SystemClock};
use inspectd::inspection::{
    Asked, Digests, Evidence, Inspection, SCHEMA_VERSION, Timeliness, Times, Timings,
};
use inspectd::roi::RectPx;
use inspectd::store::{Store, StoreOptions};
use inspectd::verdict::{Finding, Outcome, Reason, Seen, Verdict};
use uuid::Uuid;

/// The device of all made-up records.
pub const DEVICE: &str = "dev7";

/// 2026-07-14T03:33:20Z and `job_id` seconds.
pub fn decided(job_id: u64) -> Stamp {
    let start = jiff::Timestamp::from_second(1_784_000_000).expect("in range");
    let wall = start + Duration::from_secs(job_id);
    Stamp { wall, monotonic_ns: job_id * 1_000_000_000 }
}

/// A record of `station`. Every third fails with a defect, every fourth cannot be read.
pub fn inspection(station: &str, job_id: u64) -> Inspection {
    let serial = (!job_id.is_multiple_of(4)).then(|| format!("A7K2{job_id:04}"));
    let defect = job_id.is_multiple_of(3);
    let mut findings = vec![finding(Seen::Serial { value: serial.clone(), proposed: None })];
    let mut verdict = Verdict { outcome: Outcome::Pass, reasons: Vec::new() };
    if serial.is_none() {
        verdict = Verdict::review(Reason::new("serial_illegible", "The serial is illegible."));
    }
    if defect {
        findings.push(finding(Seen::Defect {
            class: "scratch".into(),
            severity: "major".into(),
            location: "upper left".into(),
        }));
        verdict.outcome = Outcome::Fail;
        verdict.reasons.insert(0, Reason::new("defect", "Defect: scratch, major."));
    }
    let triggered = decided(job_id);
    Inspection {
        schema_version: SCHEMA_VERSION,
        result_id: Uuid::now_v7(),
        device: DEVICE.into(),
        station: station.into(),
        recipe: "housing".into(),
        job_id,
        part_id: format!("part-{job_id}"),
        trigger_id: None,
        timeliness: Timeliness::default(),
        frame_sequence: Some(job_id * 7),
        times: Times {
            triggered,
            captured: Some(triggered),
            decided: triggered,
            boot_id: "boot".into(),
            clock_synchronized: true,
        },
        evidence: vec![Evidence {
            region: "label".into(),
            frame_sequence: None,
            frame_px: RectPx { x: 10, y: 20, width: 336, height: 84 },
            sha256: "ab".repeat(32),
        }],
        picture_quality: vec![],
        fixed_areas: vec![],
        questions: vec![Asked {
            question: "serial".into(),
            regions: vec!["label".into()],
            frame_sequence: None,
            prompt: "<|user|>\nRead the \"serial\".<|end|>\n".into(),
            answer: None,
            error: Some("made up".into()),
            answered_by: None,
        }],
        findings,
        serial_facts: vec![],
        verdict,
        timings: Timings { latency_ms: 812.25, model_ms: 790.5, ..Timings::default() },
        digests: Digests {
            model: "11".repeat(32),
            config: "22".repeat(32),
            program: "33".repeat(32),
            ..Digests::default()
        },
        computed_on: None,
        is_simulated: false,
    }
}

fn finding(seen: Seen) -> Finding {
    Finding {
        question: "q".into(),
        region: "label".into(),
        seen,
        confidence: 0.75,
        is_unrated: false,
    }
}

/// The machine's clock, as a store takes it.
pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Where a store in `dir` lies, with no disk kept in reserve.
pub fn options(dir: &std::path::Path) -> StoreOptions {
    StoreOptions { reserve_bytes: 0, ..StoreOptions::in_dir(dir) }
}

/// The store in `dir`.
pub fn open(dir: &std::path::Path) -> Store {
    Store::open(&options(dir), clock()).expect("the store opens")
}
