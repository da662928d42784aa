//! The server is crashed, is away, or loses what it had: every record is there once in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inspectd::clock::SystemClock;
use inspectd::store::retention::{Pruner, Rules};
use inspectd::store::{Disposition, disposition};
use tempfile::tempdir;

use super::{assert_copied, commit, copy_all, end, log, start, wait, write};
use crate::support::chain_log;
use crate::support::postgres::Postgres;
use crate::support::records::{open, options};

#[test]
fn a_server_that_crashes_in_the_middle_of_load_has_all_once() {
    let (mut server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    let store = open(dir.path());
    let mut copy = server.options(dir.path());
    copy.batch_records = 7;
    let handle = start(copy, &store);
    let (done, written) = (AtomicBool::new(false), 1500);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            commit(&store, 1, written);
            done.store(true, Ordering::SeqCst);
        });
        for crash in 1..=3 {
            wait(&handle, "some", |state| state.connected && state.copied >= crash * 100);
            server.crash();
            wait(&handle, "the break", |state| !state.connected && state.last_error.is_some());
            server.restart();
        }
    });
    assert!(done.load(Ordering::SeqCst));
    let state = wait(&handle, "all", |state| state.connected && state.waiting == 0);
    assert_eq!((state.lost, state.last_error), (0, None), "what was committed there survives");
    assert_eq!(end(handle), 0);
    assert_copied(&server, dir.path());
    assert_eq!(log(dir.path()).len() as u64, written + 1);
}

#[test]
fn a_server_that_is_away_holds_up_nobody_and_gets_all_of_it_later() {
    let (mut server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    server.crash();
    let store = open(dir.path());
    let handle = start(server.options(dir.path()), &store);
    commit(&store, 1, 200);
    let state = wait(&handle, "the count", |state| state.waiting == 201);
    assert!(!state.connected && state.copied == 0 && state.oldest_wall_ms.is_some());
    let told = wait(&handle, "the reason", |state| state.last_error.is_some()).last_error;
    assert!(told.is_some_and(|why| why.contains(&format!("127.0.0.1:{}", server.port()))));
    // Its end does not wait for a server that is not there, however long that was allowed.
    let begun = std::time::Instant::now();
    assert_eq!(end(handle), 201);
    assert!(begun.elapsed() < Duration::from_secs(30));
    server.restart();
    drop(store);
    assert_eq!(copy_all(&server, dir.path()).copied, 201);
    assert_copied(&server, dir.path());
}

#[test]
fn pictures_go_by_retention_and_records_wait_for_their_copy() {
    let (mut server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    server.crash();
    let store = open(dir.path());
    let handle = start(server.options(dir.path()), &store);
    for job_id in 1..=12 {
        chain_log::commit(&store, job_id);
    }
    let path = chain_log::database(dir.path());
    let said = disposition::record(&path, &SystemClock, "3", Disposition::Scrap, "Ana", None);
    said.expect("recorded");
    let rules = Rules { max_evidence_bytes: Some(1), ..Rules::default() };
    let mut settings = options(dir.path());
    settings.retention = rules;
    let mut pruner = Pruner::open(&store, rules).expect("opens");
    let mut removed = 0;
    loop {
        let round = pruner.round().expect("a round");
        removed += round.files;
        if !round.more {
            break;
        }
    }
    assert!(removed >= 4, "{removed}");
    wait(&handle, "the count", |state| state.waiting == log(dir.path()).len() as u64);
    server.restart();
    wait(&handle, "all", |state| state.connected && state.waiting == 0);
    assert_eq!(end(handle), 0);
    assert_copied(&server, dir.path());
    let kinds = server.sql("SELECT DISTINCT kind FROM inspectd.records ORDER BY 1");
    assert_eq!(kinds, [["disposition"], ["genesis"], ["inspection"], ["retention"]]);
}

/// The server's process for us stops answering in the middle of load, with its transaction open, and wakes up
/// later: as a cut of the network that only one side notices.
#[test]
fn a_session_that_is_stuck_is_left_and_what_it_held_does_not_count_twice() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    let store = open(dir.path());
    let mut copy = server.options(dir.path());
    copy.batch_records = 3;
    copy.statement_timeout = Duration::from_secs(1);
    let handle = start(copy, &store);
    wait(&handle, "the beginning", |state| state.connected && state.waiting == 0);
    let session = "SELECT pid FROM pg_stat_activity WHERE usename = 'inspectd'";
    let pid: libc::pid_t = server.value(session).parse().expect("a process");
    std::thread::scope(|scope| {
        scope.spawn(|| commit(&store, 1, 300));
        wait(&handle, "some", |state| state.copied > 30);
        // SAFETY: a signal to a process of our own server.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
    });
    let state = wait(&handle, "to leave it", |state| state.last_error.is_some());
    assert!(state.waiting > 0, "{state:?}");
    let told = state.last_error.expect("waited for");
    assert!(told.contains("within 6 s"), "{told}");
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    wait(&handle, "all", |state| state.connected && state.waiting == 0);
    assert_eq!(end(handle), 0);
    assert_copied(&server, dir.path());
}

#[test]
fn a_table_that_is_emptied_while_a_connection_stands_is_filled_again() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    let store = open(dir.path());
    commit(&store, 1, 50);
    let mut copy = server.options(dir.path());
    copy.confirm_every = Duration::from_millis(100);
    let handle = start(copy, &store);
    wait(&handle, "all", |state| state.connected && state.copied == 51);
    server.sql("DELETE FROM inspectd.records WHERE sequence > 20");
    wait(&handle, "the rest again", |state| state.lost == 31 && state.copied == 51 + 31);
    end(handle);
    assert_copied(&server, dir.path());
}

#[test]
fn what_a_table_has_lost_is_noticed_and_copied_again() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 300);
    let all = 301;
    assert_eq!(copy_all(&server, dir.path()).copied, all);
    // Put back to an older state.
    server.sql("DELETE FROM inspectd.records WHERE sequence > 250");
    let state = copy_all(&server, dir.path());
    assert_eq!((state.copied, state.lost), (51, 51));
    assert_copied(&server, dir.path());
    // Replaced by an empty one.
    server.sql("DROP SCHEMA inspectd CASCADE");
    let state = copy_all(&server, dir.path());
    assert_eq!((state.copied, state.lost), (all, all));
    assert_copied(&server, dir.path());
    // Holes in the middle are looked for after a start, while a connection stands.
    server.sql("DELETE FROM inspectd.records WHERE sequence IN (1, 17, 18, 19, 200)");
    let store = open(dir.path());
    let mut copy = server.options(dir.path());
    copy.batch_records = 10;
    let handle = start(copy, &store);
    let state = wait(&handle, "the holes", |state| state.lost == 5);
    assert_eq!(state.copied, 5);
    end(handle);
    assert_copied(&server, dir.path());
}
