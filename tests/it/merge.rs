//! The logs of several devices as one: in one order of time, and only if each is whole.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use inspectd::clock::{Clock, SystemClock};
use inspectd::store::{Store, StoreOptions};
use serde_json::Value;

use crate::support::records;

/// A log of `device` in `dir` with records that were decided at these seconds.
fn log(dir: &Path, device: &str, seconds: &[u64]) -> PathBuf {
    let folder = dir.join(device);
    std::fs::create_dir(&folder).expect("made");
    let mut options = StoreOptions::in_dir(&folder);
    options.device = device.to_owned();
    options.reserve_bytes = 0;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Store::open(&options, clock).expect("opens");
    for (at, second) in seconds.iter().enumerate() {
        let mut look = records::inspection("press", at as u64 + 1);
        look.device = device.to_owned();
        look.evidence.clear();
        let start = records::decided(0).wall;
        look.times.decided.wall = start + Duration::from_secs(*second);
        store.commit(&look, &[]).expect("committed");
    }
    options.path
}

fn merge(databases: &[&Path], out: &Path) -> (Option<i32>, String) {
    let told = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["audit", "merge"])
        .args(databases)
        .arg("--out")
        .arg(out)
        .output()
        .expect("it runs");
    let text = String::from_utf8([told.stdout, told.stderr].concat()).expect("text");
    (told.status.code(), text)
}

#[test]
fn logs_are_merged_by_time_and_each_keeps_its_own_order() {
    let dir = tempfile::tempdir().expect("a folder");
    // The clock of the second was set back in between.
    let first = log(dir.path(), "press-1", &[10, 20, 30, 700]);
    let second = log(dir.path(), "press-2", &[15, 25, 5, 26, 800]);
    let out = dir.path().join("plant.jsonl");
    let (code, text) = merge(&[&first, &second], &out);
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<Value> = std::fs::read_to_string(&out)
        .expect("written")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let order: Vec<(&str, i64)> = lines
        .iter()
        .map(|line| {
            (line["device"].as_str().unwrap(), line["inspection"]["job_id"].as_i64().unwrap())
        })
        .collect();
    let wanted = [
        ("press-1", 1),
        ("press-2", 1),
        ("press-1", 2),
        ("press-2", 2),
        ("press-2", 3),
        ("press-2", 4),
        ("press-1", 3),
        ("press-1", 4),
        ("press-2", 5),
    ];
    assert_eq!(order, wanted);
    assert_ne!(lines[0]["chain_id"], lines[1]["chain_id"]);
}

#[test]
fn a_broken_log_or_two_copies_of_one_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = log(dir.path(), "press-1", &[10, 20]);
    let second = log(dir.path(), "press-2", &[15, 25]);
    let out = dir.path().join("plant.jsonl");
    let copy = dir.path().join("copy.db");
    std::fs::copy(&first, &copy).expect("copied");
    let (code, text) = merge(&[&first, &second, &copy], &out);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("copies of one log"), "{text}");

    let connection = rusqlite::Connection::open(&second).expect("opens");
    let triggers: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .expect("read");
    for trigger in triggers {
        connection.execute_batch(&format!("DROP TRIGGER \"{trigger}\"")).expect("dropped");
    }
    let changed = connection
        .execute(
            "UPDATE inspections SET body = replace(body, 'press', 'prass') WHERE job_id = 1",
            [],
        )
        .expect("altered");
    assert_eq!(changed, 1);
    drop(connection);
    let (code, text) = merge(&[&first, &second], &out);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("not whole") && !out.exists(), "{text}");
}
