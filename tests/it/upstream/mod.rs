//! The copy of the audit log in PostgreSQL: a real server, crashed, lied to, put back and taken away.

mod contradictions;
mod copy;
mod cuts;
mod login;
mod program;

use std::path::Path;
use std::time::{Duration, Instant};

use inspectd::store::{ChainRecord, Reader, Store};
use inspectd::upstream::check::{self, Proof, Which};
use inspectd::upstream::{self, UpstreamHandle, UpstreamOptions, UpstreamState};

use crate::support::chain_log::database;
use crate::support::mosquitto::DEADLINE;
use crate::support::postgres::Postgres;
use crate::support::records::{inspection, open};

/// Commits the jobs `first` to `last` of the station "left".
fn commit(store: &Store, first: u64, last: u64) {
    for job_id in first..=last {
        store.commit(&inspection("left", job_id), &[]).expect("a commit");
    }
}

/// Copies the log of `store` by `options`.
fn start(options: UpstreamOptions, store: &Store) -> UpstreamHandle {
    upstream::start(options, store.reader().expect("reads")).expect("it starts")
}

/// Copies the log in `dir`, which nobody writes, until nothing waits.
fn copy_all(server: &Postgres, dir: &Path) -> UpstreamState {
    let reader = Reader::open(&database(dir)).expect("reads");
    let handle = upstream::start(server.options(dir), reader).expect("it starts");
    let state = wait(&handle, "all to be copied", |state| state.connected && state.waiting == 0);
    end(handle);
    state
}

/// Waits until the state fulfils `condition`, and answers it.
#[track_caller]
fn wait(
    handle: &UpstreamHandle,
    what: &str,
    condition: impl Fn(&UpstreamState) -> bool,
) -> UpstreamState {
    let until = Instant::now() + DEADLINE;
    loop {
        let state = handle.state().borrow().clone();
        if condition(&state) {
            return state;
        }
        assert!(Instant::now() < until, "waited in vain for {what}: {state:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the copy; answers the records that still wait.
fn end(handle: UpstreamHandle) -> u64 {
    handle.finish(DEADLINE)
}

/// The log in `dir`.
fn log(dir: &Path) -> Vec<ChainRecord> {
    let reader = Reader::open(&database(dir)).expect("reads");
    reader.chain_records(0, i64::MAX, usize::MAX, usize::MAX).expect("reads")
}

/// Holds the table against the log in `dir`: every record once, to the byte, and proven by SQL alone.
#[track_caller]
fn assert_copied(server: &Postgres, dir: &Path) {
    let log = log(dir);
    let id = Reader::open(&database(dir)).expect("reads").genesis().expect("begun").chain_id;
    let there = server.sql(&format!(
        "SELECT sequence, kind, inspection, wall_ms, monotonic_ns, boot_id, clock_synchronized::int, body,
                encode(prev, 'hex'), encode(digest, 'hex')
         FROM inspectd.records WHERE chain_id = '{id}' ORDER BY sequence"
    ));
    assert_eq!(there.len(), log.len());
    for (row, record) in there.iter().zip(&log) {
        let inspection = record.inspection.map_or("NULL".to_owned(), |number| number.to_string());
        let should = [
            record.sequence.to_string(),
            record.kind.clone(),
            inspection,
            record.time.wall_ms.to_string(),
            record.time.monotonic_ns.to_string(),
            record.time.boot_id.clone(),
            u8::from(record.time.clock_synchronized).to_string(),
            record.body.clone(),
            record.prev.to_string(),
            record.digest.to_string(),
        ];
        assert_eq!(row[..], should);
    }
    assert_eq!(server.sql("SELECT * FROM inspectd.breaks"), Vec::<Vec<String>>::new());
    let proof = prove(server, dir);
    assert_eq!((proof.records, proof.behind, proof.first_break), (log.len() as u64, Some(0), None));
}

/// What the program makes of the copy of the log in `dir`.
fn prove(server: &Postgres, dir: &Path) -> Proof {
    let reader = Reader::open(&database(dir)).expect("reads");
    let proofs = check::check(&server.options(dir), Some(&reader), &Which::OfLog, &mut |_| {});
    proofs.expect("it can be asked").remove(0)
}

/// A log of `jobs` inspections in `dir`, closed again.
fn write(dir: &Path, jobs: u64) {
    commit(&open(dir), 1, jobs);
}
