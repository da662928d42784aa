//! Where what is there contradicts the log the copy stands still, and nothing is replaced.

use std::fs;
use std::path::Path;

use inspectd::store::Reader;
use inspectd::upstream;
use tempfile::{TempDir, tempdir};

use super::{assert_copied, commit, copy_all, end, wait, write};
use crate::support::chain_log::database;
use crate::support::postgres::Postgres;
use crate::support::records::open;

/// A log and a copy of its file, which go different ways from there.
fn twins() -> (TempDir, TempDir) {
    let (one, other) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    write(one.path(), 10);
    fs::copy(database(one.path()), database(other.path())).expect("copied");
    (one, other)
}

/// Why the copy of the log in `dir` stands still.
fn conflict(server: &Postgres, dir: &Path) -> String {
    let reader = Reader::open(&database(dir)).expect("reads");
    let handle = upstream::start(server.options(dir), reader).expect("it starts");
    let state = wait(&handle, "the conflict", |state| state.conflict.is_some());
    assert!(!state.connected && state.copied == 0, "{state:?}");
    end(handle);
    state.conflict.expect("waited for")
}

#[test]
fn another_record_in_its_place_is_told_and_not_replaced() {
    let server = Postgres::start();
    let (one, other) = twins();
    commit(&open(one.path()), 11, 20);
    commit(&open(other.path()), 11, 30);
    copy_all(&server, one.path());
    let told = conflict(&server, other.path());
    assert!(told.contains("another record at 21") && told.contains("of unnamed"), "{told}");
    assert_copied(&server, one.path());
    // It goes on by itself when a person has mended it.
    server.sql("DELETE FROM inspectd.records WHERE sequence > 11");
    copy_all(&server, other.path());
    assert_copied(&server, other.path());
}

#[test]
fn a_log_that_was_put_back_is_told() {
    let server = Postgres::start();
    let (one, other) = twins();
    commit(&open(one.path()), 11, 20);
    copy_all(&server, one.path());
    let told = conflict(&server, other.path());
    assert!(told.contains("holds 21 records") && told.contains("itself has 11"), "{told}");
    assert_copied(&server, one.path());
}

#[test]
fn a_record_between_that_is_another_one_is_not_passed_over_in_silence() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 20);
    copy_all(&server, dir.path());
    // A hole beside a foreign record: the piece around the hole is copied again, and compared.
    server.sql(
        "UPDATE inspectd.records SET digest = sha256('x') WHERE sequence = 5;
         DELETE FROM inspectd.records WHERE sequence = 6",
    );
    let told = conflict(&server, dir.path());
    assert!(told.contains("another record at 5"), "{told}");
    let there = server.value("SELECT count(*) FROM inspectd.records WHERE sequence IN (5, 6)");
    assert_eq!(there, "1", "nothing was added beside it");
}

#[test]
fn tables_of_a_newer_program_and_of_another_one_are_left_alone() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 2);
    copy_all(&server, dir.path());
    server.sql("INSERT INTO inspectd.format (version) VALUES (2)");
    let told = conflict(&server, dir.path());
    assert!(told.contains("the form 2, this inspectd knows 1"), "{told}");
    server.sql("TRUNCATE inspectd.format");
    let told = conflict(&server, dir.path());
    assert!(told.contains("another program") && told.contains("`schema`"), "{told}");
    // Names alike, and other types.
    server.sql(
        "DROP TABLE inspectd.format; CREATE TABLE inspectd.format AS SELECT 1::bigint AS version;
         GRANT SELECT ON inspectd.format TO inspectd",
    );
    let told = conflict(&server, dir.path());
    assert!(told.contains("in another form"), "{told}");
}
