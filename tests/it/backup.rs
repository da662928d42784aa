//! Backups of a log that is being written, and what comes back from them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use inspectd::publish::message;
use inspectd::store::{Filter, Reader, Store, StoreError, backup};
use tempfile::tempdir;

use crate::support::records::{clock, inspection, open, options};

fn fill(store: &Store, jobs: std::ops::RangeInclusive<u64>) {
    for job_id in jobs {
        let look = inspection("left", job_id);
        store.commit(&look, &[message::result(&look)]).expect("a commit");
    }
}

fn copy(from: &Path, to: &Path) -> Result<backup::DatabaseCopy, StoreError> {
    backup::database(&Reader::open(from).expect("reads"), to, &mut |_, _| {})
}

fn bodies(path: &Path) -> Vec<String> {
    let reader = Reader::open(path).expect("reads");
    let records = reader.list(&Filter::default()).expect("reads");
    records.into_iter().map(|record| record.body).collect()
}

#[test]
fn a_backup_of_a_log_that_is_written_is_its_beginning_and_can_go_on() {
    let dir = tempdir().expect("a folder");
    let (log, away) = (dir.path().join("inspectd.db"), dir.path().join("away"));
    let store = open(dir.path());
    fill(&store, 1..=600);
    let stop = AtomicBool::new(false);
    let (copies, steps) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut job_id = 600;
            while !stop.load(Ordering::SeqCst) {
                job_id += 1;
                fill(&store, job_id..=job_id);
            }
            job_id
        });
        let mut steps = 0;
        let mut copies = Vec::new();
        let reader = Reader::open(&log).expect("reads");
        for number in 0..3 {
            // The writer has moved on since the last copy: each of them is of a log in motion.
            let before = reader.count(&Filter::default()).expect("counts");
            while reader.count(&Filter::default()).expect("counts") == before {
                std::thread::yield_now();
            }
            let to = away.join(format!("{number}.db"));
            let mut watch = |done: u64, all: u64| {
                assert!(done <= all);
                steps += 1;
            };
            copies.push(backup::database(&reader, &to, &mut watch).expect("a backup"));
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().expect("no panic");
        (copies, steps)
    });
    assert!(steps >= 3, "progress is told");
    let all = bodies(&log);
    let mut last = 0;
    for copy in &copies {
        assert!(copy.records > last && copy.records <= all.len() as u64);
        last = copy.records;
        let kept = bodies(&copy.path);
        assert_eq!(kept, all[..kept.len()], "the beginning of the log, to the byte");
        assert_eq!(kept.len() as u64, copy.records);
        let waiting: i64 = rusqlite::Connection::open(&copy.path)
            .and_then(|raw| raw.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)))
            .expect("reads");
        assert_eq!(waiting.unsigned_abs(), copy.records, "one message for each record");
    }
    let names: Vec<_> = std::fs::read_dir(&away).expect("a folder").flatten().collect();
    assert_eq!(names.len(), 3, "nothing unfinished is left: {names:?}");

    // Restored: put in the place of the log, it is the log.
    let restored = dir.path().join("restored");
    std::fs::create_dir(&restored).expect("a folder");
    std::fs::copy(&copies[2].path, restored.join("inspectd.db")).expect("copied");
    let store = Store::open(&options(&restored), clock()).expect("opens");
    let next = store.last_job_id("left").expect("reads").expect("a job") + 1;
    fill(&store, next..=next);
    assert_eq!(bodies(&restored.join("inspectd.db")).len() as u64, copies[2].records + 1);
}

#[test]
fn a_commit_between_two_steps_of_the_copying_is_not_in_the_copy_and_starts_nothing_anew() {
    let dir = tempdir().expect("a folder");
    let log = dir.path().join("inspectd.db");
    let store = open(dir.path());
    fill(&store, 1..=1400);
    let mut steps = Vec::new();
    let mut watch = |done: u64, all: u64| {
        fill(&store, 1401 + steps.len() as u64..=1401 + steps.len() as u64);
        steps.push((done, all));
    };
    let reader = Reader::open(&log).expect("reads");
    let copy = backup::database(&reader, &dir.path().join("copy.db"), &mut watch);
    assert_eq!(copy.expect("a backup").records, 1400);
    assert!(steps.len() > 1, "it takes several steps: {steps:?}");
    assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0), "it goes on: {steps:?}");
    assert_eq!(bodies(&log).len(), 1400 + steps.len());
}

#[test]
fn a_backup_replaces_a_backup_and_nothing_else() {
    let dir = tempdir().expect("a folder");
    let log = dir.path().join("inspectd.db");
    let store = open(dir.path());
    fill(&store, 1..=3);
    let to = dir.path().join("away/copy.db");
    assert_eq!(copy(&log, &to).expect("a backup").records, 3);
    fill(&store, 4..=5);
    assert_eq!(copy(&log, &to).expect("a backup").records, 5);

    let notes = dir.path().join("notes.txt");
    std::fs::write(&notes, "important ".repeat(1000)).expect("written");
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&log, &link).expect("linked");
    for (target, word) in [
        (notes.as_path(), "no backup"),
        (log.as_path(), "the database itself"),
        (link.as_path(), "the database itself"),
        (dir.path(), "a folder"),
    ] {
        let told = copy(&log, target).expect_err("refused").to_string();
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(std::fs::read(&notes).expect("is there").len(), 10_000, "untouched");
    assert_eq!(bodies(&log).len(), 5);
}

#[test]
fn a_damaged_log_makes_no_backup() {
    let dir = tempdir().expect("a folder");
    let log = dir.path().join("inspectd.db");
    let store = open(dir.path());
    fill(&store, 1..=200);
    let to = dir.path().join("copy.db");
    copy(&log, &to).expect("a backup");
    drop(store);
    let mut bytes = std::fs::read(&log).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xEE);
    std::fs::write(&log, &bytes).expect("written");
    let told = copy(&log, &to).expect_err("damaged");
    assert!(matches!(told, StoreError::Corrupt { .. }), "{told}");
    assert_eq!(bodies(&to).len(), 200, "the good one from before stays");
}

#[test]
fn pictures_are_copied_once_and_only_if_they_are_what_their_name_says() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let names: Vec<String> = (0..5u8)
        .map(|number| {
            let mut picture = inspectd::frame::Rgb8::new(16, 16);
            picture.data.fill(number);
            store.put_evidence(&picture).expect("kept")
        })
        .collect();
    let (from, to) = (dir.path().join("evidence"), dir.path().join("away"));
    let away = |name: &String| to.join(&name[..2]).join(format!("{name}.png"));
    std::fs::write(store.evidence_path(&names[4]), b"not that picture").expect("written");
    let told = backup::evidence(&from, &to, &mut |_, _| {}).expect("copied");
    assert_eq!((told.copied, told.kept, told.gone), (4, 0, 0));
    assert_eq!(told.damaged, [names[4].clone()]);
    assert!(!away(&names[4]).exists());
    // One is cut off as by a full stick, one is gone: both are copied again, the others are not.
    std::fs::write(away(&names[0]), b"").expect("written");
    std::fs::remove_file(away(&names[1])).expect("removed");
    let told = backup::evidence(&from, &to, &mut |_, _| {}).expect("copied");
    assert_eq!((told.copied, told.kept), (2, 2));
    for name in &names[..4] {
        let (here, there) = (std::fs::read(store.evidence_path(name)), std::fs::read(away(name)));
        assert_eq!(here.expect("is there"), there.expect("is there"));
    }
    let told = backup::evidence(&from, &from, &mut |_, _| {}).expect_err("itself");
    assert!(told.to_string().contains("itself"), "{told}");
}
