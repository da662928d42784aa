//! An audit log as the program writes it, and the two verifiers that look at it: the program's own,
//! and `tests/verify_audit.py`, which knows FORMAT.md alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use inspectd::clock::SystemClock;
use inspectd::frame::Rgb8;
use inspectd::publish::message;
use inspectd::store::chain::{ChainDigest, ChainTime, Link};
use inspectd::store::events::{Run, Stop};
use inspectd::store::verify::{Report, VerifyOptions, verify};
use inspectd::store::{Anchor, Disposition, Reader, Store, disposition};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::records::{DEVICE, inspection, open};

/// What runs in made-up logs.
pub fn run() -> Run {
    Run {
        device: DEVICE.into(),
        model_sha256: "11".repeat(32),
        stations: [("left".to_owned(), "22".repeat(32))].into(),
        ..Run::default()
    }
}

/// Commits job `job_id` of the station "left" with a picture of its own.
pub fn commit(store: &Store, job_id: u64) -> i64 {
    let mut picture = Rgb8::new(8, 8);
    picture.data.fill(job_id as u8);
    let mut look = inspection("left", job_id);
    look.evidence[0].sha256 = store.put_evidence(&picture).expect("kept");
    store.commit(&look, &[message::result(&look)]).expect("a commit")
}

/// A log in `dir`: records 1 genesis, 2 start, 3 to 8 inspections, 9 a disposition of inspection 3,
/// 10 stop; its file of heads names 1, 2 and 10.
pub fn write_log(dir: &Path) {
    let store = open(dir);
    store.record_start(&run()).expect("a start");
    for job_id in 1..=6 {
        commit(&store, job_id);
    }
    let said = disposition::record(
        &database(dir),
        &SystemClock,
        "3",
        Disposition::Rework,
        "Ana \"A.\" Weber",
        Some("scratch polished, ä"),
    );
    assert_eq!(said.expect("recorded").sequence, 9);
    store.record_stop(&Stop { records: 6, unsent: 6 }).expect("a stop");
}

/// The database of [`write_log`].
pub fn database(dir: &Path) -> PathBuf {
    dir.join("inspectd.db")
}

/// A connection that may do everything, as somebody with a tool has it.
pub fn tool(dir: &Path) -> Connection {
    let raw = Connection::open(database(dir)).expect("opens");
    raw.execute_batch(
        "PRAGMA foreign_keys = OFF;
         DROP TRIGGER chain_never_changes; DROP TRIGGER chain_never_goes;
         DROP TRIGGER inspections_never_change; DROP TRIGGER inspections_never_go;
         DROP TRIGGER outbox_messages_never_change; DROP TRIGGER outbox_unsent_never_goes;",
    )
    .expect("nothing stops a person with the file");
    raw
}

/// Makes the digests right again from record `first` on, as somebody does who knows the format.
pub fn rehash(raw: &Connection, first: i64, last: i64) {
    for sequence in first..=last {
        let prev: ChainDigest = raw
            .query_row("SELECT digest FROM chain WHERE sequence = ?1", [sequence - 1], |row| {
                row.get(0)
            })
            .expect("a record before");
        let digest = raw
            .query_row(
                "SELECT kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized,
                        coalesce(c.body, i.body)
                 FROM chain AS c LEFT JOIN inspections AS i ON i.sequence = c.inspection
                 WHERE c.sequence = ?1",
                [sequence],
                |row| {
                    let (kind, body): (String, String) = (row.get(0)?, row.get(6)?);
                    let time = ChainTime {
                        wall_ms: row.get(2)?,
                        monotonic_ns: row.get::<_, i64>(3)?.cast_unsigned(),
                        boot_id: row.get(4)?,
                        clock_synchronized: row.get(5)?,
                    };
                    let (kind, body) = (kind.as_str(), body.as_str());
                    let inspection = row.get(1)?;
                    Ok(Link { sequence, prev, kind, inspection, time, body }.digest())
                },
            )
            .expect("a record");
        raw.execute(
            "UPDATE chain SET prev = ?2, digest = ?3 WHERE sequence = ?1",
            params![sequence, prev, digest],
        )
        .expect("written");
    }
}

/// The program's report on the log in `dir`.
pub fn report(dir: &Path, anchors: &[Anchor]) -> Report {
    let reader = Reader::open(&database(dir)).expect("reads");
    let options = VerifyOptions {
        evidence_dir: Some(dir.join("evidence")),
        anchors: anchors.to_vec(),
        ..VerifyOptions::default()
    };
    verify(&reader, &options, &mut |_, _| {}).expect("readable")
}

/// The first break that both verifiers find, as `code at sequence`; `intact` if there is none.
pub fn first_break(dir: &Path, anchors: &[Anchor]) -> String {
    let report = report(dir, anchors);
    let ours = report.first_break().map_or("intact".to_owned(), |first| {
        format!("{} at {}", first.code.as_str(), first.sequence)
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verify_audit.py");
    let mut python = Command::new("python3");
    python.arg(script).arg(database(dir)).arg("--evidence").arg(dir.join("evidence"));
    for anchor in anchors {
        python.arg("--anchor").arg(format!("{}:{}", anchor.sequence, anchor.digest));
    }
    let output = python.output().expect("python3 is installed");
    let told = String::from_utf8(output.stdout).expect("UTF-8");
    let theirs = match serde_json::from_str::<Value>(&told) {
        Ok(found) => {
            format!("{} at {}", found["code"].as_str().expect("a code"), found["sequence"])
        }
        Err(_) if told.trim() == "INTACT" => "intact".to_owned(),
        Err(_) => panic!("{told}{}", String::from_utf8_lossy(&output.stderr)),
    };
    assert_eq!(ours, theirs, "the two verifiers differ: {report:#?}");
    ours
}

/// Every event in the log: sequence number, kind, body.
pub fn events(dir: &Path) -> Vec<(i64, String, Value)> {
    let events = Reader::open(&database(dir)).expect("reads").events(None, 1000).expect("reads");
    let parsed = |body: &str| serde_json::from_str(body).expect("JSON");
    events.iter().map(|event| (event.sequence, event.kind.clone(), parsed(&event.body))).collect()
}

/// The kinds of all events.
pub fn kinds(dir: &Path) -> Vec<String> {
    events(dir).into_iter().map(|(_, kind, _)| kind).collect()
}
