//! The record on a real disk: what was committed is there, and what is wrong is said.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use inspectd::frame::Rgb8;
use inspectd::inspection::Inspection;
use inspectd::publish::message;
use inspectd::store::export::{ExportFormat, export};
use inspectd::store::{Filter, Reader, SCHEMA_STEP, Store, StoreError, evidence, report};
use inspectd::verdict::Outcome;
use tempfile::tempdir;

use crate::support::records::{clock, decided, inspection, open, options};

fn commit(store: &Store, look: &Inspection) -> i64 {
    store.commit(look, &[message::result(look)]).expect("a commit")
}

/// Twelve records of two stations, jobs 1 to 6 each, taken in turns.
fn filled(dir: &Path) -> Store {
    let store = open(dir);
    for job_id in 1..=6 {
        commit(&store, &inspection("left", job_id));
        commit(&store, &inspection("right", job_id));
    }
    store
}

#[test]
fn a_committed_inspection_is_read_back_equal_and_numbers_have_no_hole() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let looks: Vec<Inspection> = (1..=3).map(|job| inspection("left", job)).collect();
    assert_eq!(commit(&store, &looks[0]), 1);
    assert_eq!(commit(&store, &looks[1]), 2);
    let twice = store.commit(&looks[1], &[message::result(&looks[1])]);
    assert!(matches!(twice, Err(StoreError::Duplicate { .. })), "{twice:?}");
    assert_eq!(commit(&store, &looks[2]), 3);
    assert_eq!(store.outbox_state().expect("counted").unsent, 3, "the failed commit left nothing");
    assert_eq!(store.last_job_id("left").expect("read"), Some(3));
    assert_eq!(store.last_job_id("right").expect("read"), None);
    drop(store);

    let reader = Reader::open(&dir.path().join("inspectd.db")).expect("reads");
    let records = reader.list(&Filter::default()).expect("reads");
    let read: Vec<Inspection> =
        records.iter().map(|record| record.inspection().expect("whole")).collect();
    assert_eq!(read, looks);
    assert_eq!(records[2].verdict, Outcome::Fail);
    assert_eq!(records[0].serial.as_deref(), Some("A7K20001"));
}

#[test]
fn the_body_is_canonical_and_a_number_that_is_none_does_not_stop_the_record() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let mut look = inspection("left", 1);
    look.timings.latency_ms = f64::NAN;
    commit(&store, &look);
    let record = store.reader().expect("reads").find("1").expect("reads").expect("is there");
    assert_eq!(record.latency_ms, None);
    assert!(
        record.body.starts_with(r#"{"device":"dev7","digests":{"config":"2"#),
        "{}",
        record.body
    );
    assert!(matches!(record.inspection(), Err(StoreError::Unreadable { sequence: 1, .. })));
}

#[test]
fn rows_cannot_be_changed_or_deleted_by_a_slip() {
    let dir = tempdir().expect("a folder");
    drop(filled(dir.path()));
    let raw = rusqlite::Connection::open(dir.path().join("inspectd.db")).expect("opens");
    for slip in [
        "UPDATE inspections SET verdict = 'pass' WHERE sequence = 3",
        "DELETE FROM inspections WHERE sequence = 3",
        "UPDATE outbox SET payload = x'00' WHERE id = 3",
        "DELETE FROM outbox WHERE id = 3",
    ] {
        let told = raw.execute(slip, []).expect_err(slip).to_string();
        assert!(told.contains("append-only") || told.contains("may not be"), "{told}");
    }
}

#[test]
fn filters_find_what_they_say() {
    let dir = tempdir().expect("a folder");
    let reader = filled(dir.path()).reader().expect("reads");
    let jobs = |filter: Filter| -> Vec<(String, i64)> {
        let count = reader.count(&filter).expect("counts");
        let found = reader.list(&filter).expect("reads");
        assert_eq!(found.len() as u64, count);
        found.into_iter().map(|record| (record.station, record.job_id)).collect()
    };
    let pairs = |wanted: &[(&str, i64)]| -> Vec<(String, i64)> {
        wanted.iter().map(|(station, job)| ((*station).to_owned(), *job)).collect()
    };
    assert_eq!(jobs(Filter::default()).len(), 12);
    let left = Filter { station: Some("left".into()), ..Filter::default() };
    assert_eq!(jobs(Filter { last: Some(2), ..left.clone() }), pairs(&[("left", 5), ("left", 6)]));
    assert_eq!(jobs(Filter { last: Some(99), ..left.clone() }).len(), 6);
    assert_eq!(jobs(Filter { last: Some(0), ..left.clone() }), []);
    let failed = Filter { verdict: Some(Outcome::Fail), ..left.clone() };
    assert_eq!(jobs(failed), pairs(&[("left", 3), ("left", 6)]));
    let serial = Filter { serial: Some("A7K20002".into()), ..Filter::default() };
    assert_eq!(jobs(serial), pairs(&[("left", 2), ("right", 2)]));
    let (since, until) = (Some(decided(2).wall), Some(decided(4).wall));
    let times = Filter { since, until, ..left };
    assert_eq!(jobs(times), pairs(&[("left", 2), ("left", 3)]));
    let injected = Filter { station: Some("' OR 1 --".into()), ..Filter::default() };
    assert_eq!(jobs(injected), []);
}

#[test]
fn a_long_record_is_scanned_in_pages_while_it_grows() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    for job_id in 1..=1100 {
        store.commit(&inspection("left", job_id), &[]).expect("a commit");
    }
    let mut seen = Vec::new();
    let reader = store.reader().expect("reads");
    let scanned = reader.scan(&Filter::default(), |record| -> Result<(), StoreError> {
        if record.sequence == 10 {
            commit(&store, &inspection("left", 2000));
        }
        seen.push(record.sequence);
        Ok(())
    });
    scanned.expect("reads");
    assert_eq!(seen, (1..=1100).collect::<Vec<i64>>());
}

#[test]
fn evidence_is_lossless_named_by_its_digest_and_kept_once() {
    let dir = tempdir().expect("a folder");
    let unfinished = dir.path().join("evidence/.unfinished");
    std::fs::create_dir_all(&unfinished).expect("a folder");
    std::fs::write(unfinished.join("7"), b"half a file").expect("a file");
    let store = open(dir.path());
    assert!(!unfinished.join("7").exists(), "what a crash left is cleared away");

    let mut picture = Rgb8::new(336, 336);
    for (at, byte) in picture.data.iter_mut().enumerate() {
        *byte = (at / 7 % 256) as u8;
    }
    let name = store.put_evidence(&picture).expect("kept");
    assert_eq!(store.put_evidence(&picture).expect("kept"), name);
    let path = dir.path().join("evidence").join(&name[..2]).join(format!("{name}.png"));
    assert_eq!(store.evidence_path(&name), path);
    let bytes = std::fs::read(&path).expect("is there");
    assert_eq!(evidence::digest(&bytes), name);
    let back = image::load_from_memory(&bytes).expect("a PNG").into_rgb8();
    assert_eq!(back.into_raw(), picture.data);
    std::fs::write(&path, b"").expect("a crash of the file system");
    assert_eq!(store.put_evidence(&picture).expect("kept"), name);
    assert_eq!(std::fs::read(&path).expect("is there"), bytes);
}

/// Opens the store in `dir`, which must fail, and answers what it said.
fn refusal(dir: &Path) -> (StoreError, String) {
    let error = Store::open(&options(dir), clock()).expect_err("must be refused");
    let text = error.to_string();
    assert!(text.contains(';'), "says what to do: {text}");
    (error, text)
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let dir = tempdir().expect("a folder");
    let file = dir.path().join("a-file");
    std::fs::write(&file, b"x").expect("a file");
    let (error, text) = refusal(&file);
    assert!(matches!(error, StoreError::Folder { .. }), "{text}");
    // Not even root can write there.
    let (error, text) = refusal(Path::new("/proc/inspectd"));
    assert!(matches!(error, StoreError::Folder { .. }), "{text}");
    let taken = dir.path().join("taken");
    std::fs::create_dir_all(taken.join("inspectd.db")).expect("a folder in the file's place");
    let (error, text) = refusal(&taken);
    assert!(matches!(error, StoreError::Open { .. }), "{text}");
    let evidence = dir.path().join("no-evidence");
    std::fs::create_dir(&evidence).expect("a folder");
    std::fs::write(evidence.join("evidence"), b"x").expect("a file in the folder's place");
    let (error, text) = refusal(&evidence);
    assert!(matches!(error, StoreError::Folder { .. }), "{text}");
}

#[test]
fn files_of_others_and_of_newer_versions_are_left_alone() {
    let dir = tempdir().expect("a folder");
    let path = dir.path().join("inspectd.db");
    std::fs::write(&path, "important notes ".repeat(100)).expect("a file");
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, StoreError::NotOurs { .. }), "{text}");
    assert_eq!(std::fs::read(&path).expect("is there").len(), 1600, "untouched");

    std::fs::remove_file(&path).expect("removed");
    let raw = rusqlite::Connection::open(&path).expect("opens");
    raw.execute_batch("CREATE TABLE songs (name TEXT)").expect("a table");
    drop(raw);
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, StoreError::NotOurs { .. }), "{text}");

    std::fs::remove_file(&path).expect("removed");
    drop(open(dir.path()));
    let raw = rusqlite::Connection::open(&path).expect("opens");
    raw.pragma_update(None, "user_version", SCHEMA_STEP + 1).expect("set");
    drop(raw);
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{text}");
    let error = Reader::open(&path).expect_err("newer");
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error}");
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let dir = tempdir().expect("a folder");
    let store = filled(dir.path());
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, StoreError::InUse { .. }), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    let path = dir.path().join("inspectd.db");
    let reader = Reader::open(&path).expect("reads beside the writer");
    commit(&store, &inspection("left", 7));
    assert_eq!(reader.count(&Filter::default()).expect("counts"), 13);
    drop(store);
    drop(open(dir.path()));
    let missing = Reader::open(&dir.path().join("nothing.db")).expect_err("not there");
    assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
}

/// Marks the process that [`every_acknowledged_commit_survives_a_kill`] starts.
const CHILD_FOLDER: &str = "INSPECTD_TEST_STORE_CHILD";

/// Not a test: commits until it is killed, and says so after each commit.
#[test]
#[ignore = "started by every_acknowledged_commit_survives_a_kill"]
fn child_that_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let store = open(Path::new(&folder));
    let first = store.last_job_id("left").expect("read").unwrap_or(0) + 1;
    for job_id in first..first + 100_000 {
        let look = inspection("left", job_id);
        let sequence = commit(&store, &look);
        println!("committed {sequence} {}", look.result_id);
        std::io::stdout().flush().expect("a pipe");
    }
}

#[test]
fn every_acknowledged_commit_survives_a_kill() {
    let dir = tempdir().expect("a folder");
    let program = std::env::current_exe().expect("this program");
    let room = module_path!().split_once("::").map_or("", |(_, room)| room);
    let name = format!("{room}::child_that_commits_until_it_is_killed");
    let mut acknowledged: Vec<(i64, String)> = Vec::new();
    for commits in [1, 7, 40] {
        let mut child = Command::new(&program)
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut next = || -> Option<(i64, String)> {
            lines.by_ref().map_while(Result::ok).find_map(|line| {
                // The harness writes the name of the test before the first line.
                let (_, told) = line.split_once("committed ")?;
                let (sequence, result_id) = told.split_once(' ')?;
                // A line that was cut by the kill acknowledges nothing.
                (result_id.len() == 36)
                    .then(|| (sequence.parse().expect("a number"), result_id.to_owned()))
            })
        };
        acknowledged.extend((0..commits).map(|_| next().expect("the child commits")));
        child.kill().expect("killed");
        acknowledged.extend(std::iter::from_fn(next));
        child.wait().expect("ended");
        check_after_kill(dir.path(), &acknowledged);
    }
}

/// All that was acknowledged is there, all that is there is whole, and the numbers have no hole.
fn check_after_kill(dir: &Path, acknowledged: &[(i64, String)]) {
    let store = open(dir);
    let reader = store.reader().expect("reads");
    let records = reader.list(&Filter::default()).expect("reads");
    let numbers: Vec<i64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers, (1..=records.len() as i64).collect::<Vec<i64>>());
    for (sequence, result_id) in acknowledged {
        assert_eq!(&records[*sequence as usize - 1].result_id, result_id);
    }
    let unsent = store.unsent(usize::MAX, 0, i64::MAX, &[]).expect("read");
    assert_eq!(unsent.len(), records.len(), "one message for each record");
    for (record, row) in records.iter().zip(&unsent) {
        let look = record.inspection().expect("whole");
        assert_eq!(row.result_id, record.result_id);
        assert_eq!(row.payload, message::result(&look).payload, "made from the record alone");
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn reports_show_a_table_one_record_and_exports() {
    let dir = tempdir().expect("a folder");
    let store = filled(dir.path());
    store.mark_sent(&[1]).expect("marked");
    store.quarantine(2, "too long").expect("put aside");
    let reader = store.reader().expect("reads");
    let last = Filter { last: Some(2), ..Filter::default() };

    let table = written(|out| assert_eq!(report::list(&reader, &last, out).expect("written"), 2));
    assert!(
        table.contains("Verdict") && table.contains("part-6") && table.contains("fail"),
        "{table}"
    );
    let none = Filter { station: Some("nowhere".into()), ..Filter::default() };
    let empty = written(|out| assert_eq!(report::list(&reader, &none, out).expect("written"), 0));
    assert_eq!(empty, "No record matches.\n");

    let shown =
        written(|out| report::show(&reader, "1", false, Some(dir.path()), out).expect("shown"));
    for part in ["Record 1,", "serial A7K20001", "acknowledged by the broker", "cannot be read"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let shown = written(|out| report::show(&reader, "2", false, None, out).expect("shown"));
    assert!(shown.contains("put aside: too long"), "{shown}");
    let record = reader.find("12").expect("reads").expect("is there");
    let json =
        written(|out| report::show(&reader, &record.result_id, true, None, out).expect("shown"));
    assert_eq!(json.trim_end(), record.body);
    let missing = report::show(&reader, "99", false, None, &mut Vec::new()).expect_err("not there");
    assert!(missing.to_string().contains("audit list"), "{missing}");

    let lines = written(|out| {
        let rows = export(&reader, &Filter::default(), ExportFormat::JsonLines, out);
        assert_eq!(rows.expect("written"), 12);
    });
    for (at, line) in lines.lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["sequence"], at + 1);
    }
    let csv = written(|out| {
        assert_eq!(export(&reader, &last, ExportFormat::Csv, out).expect("written"), 2);
    });
    assert_eq!(csv.lines().count(), 3);
    assert!(
        csv.contains(",left,housing,6,part-6,fail,A7K20006,2026-07-14T03:33:26.000Z,812.25,false"),
        "{csv}"
    );
}
