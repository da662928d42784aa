//! A damaged database: moved aside, told of, and inspection goes on in a new chain that names the old.

use std::fs;
use std::path::{Path, PathBuf};

use inspectd::publish::message;
use inspectd::store::events::{Genesis, Recovered};
use inspectd::store::{OutboxRow, Reader, SCHEMA_STEP, Store, StoreError, StoreOptions};
use tempfile::tempdir;

use crate::support::chain_log::{commit, database, first_break};
use crate::support::records::{clock, inspection, open};

/// A log of 120 inspections, of which the last 40 are not sent.
fn write(dir: &Path) -> Vec<OutboxRow> {
    let store = open(dir);
    for job_id in 1..=119 {
        let look = inspection("left", job_id);
        store.commit(&look, &[message::result(&look)]).expect("a commit");
    }
    commit(&store, 120);
    store.mark_sent(&(1..=80).collect::<Vec<i64>>()).expect("marked");
    store.quarantine(81, "too long").expect("put aside");
    store.unsent(1000, 0, i64::MAX, &[]).expect("read")
}

/// The files that were moved aside.
fn aside(dir: &Path) -> Vec<PathBuf> {
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains(".corrupt-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let files = fs::read_dir(dir).expect("a folder").map(|file| file.expect("a file").path());
    files.filter(is_aside).collect()
}

fn event<T: serde::de::DeserializeOwned>(dir: &Path, kind: &str) -> T {
    let events =
        Reader::open(&database(dir)).expect("reads").events(Some(kind), 10).expect("reads");
    assert_eq!(events.len(), 1, "{events:?}");
    serde_json::from_str(&events[0].body).expect("its form")
}

/// Opens the damaged log, which must go on, and answers what it said of it.
fn goes_on(dir: &Path) -> (Store, Genesis, Recovered) {
    let before = fs::read_to_string(dir.join("inspectd.db.heads")).expect("heads");
    let last = before.lines().last().expect("a head").to_owned();
    let store = open(dir);
    let genesis: Genesis = event(dir, "genesis");
    let previous = genesis.previous.clone().expect("names the chain before");
    assert_eq!(
        serde_json::to_value(&previous.head).unwrap(),
        serde_json::from_str::<serde_json::Value>(&last).unwrap()
    );
    let recovered: Recovered = event(dir, "recovered");
    assert_eq!(recovered.previous, previous);
    (store, genesis, recovered)
}

#[test]
fn a_page_of_garbage_costs_what_lay_on_it_and_no_more() {
    let dir = tempdir().expect("a folder");
    let unsent = write(dir.path());
    assert_eq!(unsent.len(), 39);
    let path = database(dir.path());
    let mut bytes = fs::read(&path).expect("is there");
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 4096].fill(0xEE);
    fs::write(&path, &bytes).expect("written");

    let (store, _, recovered) = goes_on(dir.path());
    assert_eq!(aside(dir.path()).len(), 1);
    let moved_to = recovered.previous.moved_to.clone().expect("moved");
    assert_eq!(fs::read(moved_to).expect("kept"), bytes, "not a byte of it changes");
    assert!(recovered.messages >= 30, "{recovered:?}");
    let rescued = store.unsent(1000, 0, i64::MAX, &[]).expect("read");
    for row in &rescued {
        assert!(unsent.contains(row), "the same to the byte: {}", row.id);
    }
    assert!(rescued.is_sorted_by_key(|row| row.id), "in the old order");
    let state = store.outbox_state().expect("counted");
    assert_eq!(state.unsent + state.quarantined, recovered.messages);
    assert_eq!(store.last_job_id("left").expect("read"), Some(120), "job numbers go on");
    commit(&store, 121);
    drop(store);
    drop(open(dir.path()));
    assert_eq!(aside(dir.path()).len(), 1, "the second start finds nothing wrong");
    let _: Recovered = event(dir.path(), "recovered");
}

#[test]
fn a_truncated_file_is_moved_aside() {
    let dir = tempdir().expect("a folder");
    write(dir.path());
    let path = database(dir.path());
    let bytes = fs::read(&path).expect("is there");
    fs::write(&path, &bytes[..bytes.len() / 2 + 100]).expect("cut");
    let (store, _, recovered) = goes_on(dir.path());
    assert!(recovered.incomplete, "{recovered:?}");
    commit(&store, 500);
    drop(store);
    // Its copied inspections name pictures that were made up: without these it is whole.
    fs::remove_dir_all(dir.path().join("evidence")).expect("removed");
    assert!(first_break(dir.path(), &[]).starts_with("evidence_missing"));
}

#[test]
fn an_empty_file_and_a_missing_one_begin_a_chain_that_names_the_old_one() {
    for empties in [true, false] {
        let dir = tempdir().expect("a folder");
        commit(&open(dir.path()), 1);
        let path = database(dir.path());
        match empties {
            true => fs::write(&path, b"").expect("emptied"),
            false => fs::remove_file(&path).expect("removed"),
        }
        let (store, genesis, recovered) = goes_on(dir.path());
        assert_eq!((recovered.messages, recovered.incomplete), (0, false));
        assert_eq!(genesis.previous.expect("named").moved_to, None);
        assert_eq!(commit(&store, 1), 1);
        drop(store);
        assert_eq!(first_break(dir.path(), &[]), "intact");
        assert_eq!(aside(dir.path()), Vec::<PathBuf>::new());
        // A chain that begins after another is no place to hide the other's file.
        let heads = fs::read_to_string(dir.path().join("inspectd.db.heads")).expect("heads");
        let without_last_of_old: Vec<&str> = heads.lines().skip(1).collect();
        fs::write(dir.path().join("inspectd.db.heads"), without_last_of_old.join("\n"))
            .expect("cut");
        assert_eq!(first_break(dir.path(), &[]), "intact", "an older head may be lost");
    }
}

#[test]
fn a_header_of_garbage_is_damage_only_where_our_heads_lie_beside_it() {
    let dir = tempdir().expect("a folder");
    commit(&open(dir.path()), 1);
    let path = database(dir.path());
    let mut bytes = fs::read(&path).expect("is there");
    bytes[..4096].fill(0);
    fs::write(&path, &bytes).expect("written");
    fs::rename(dir.path().join("inspectd.db.heads"), dir.path().join("heads")).expect("moved");
    let refused = Store::open(&StoreOptions::in_dir(dir.path()), clock()).expect_err("not ours");
    assert!(matches!(refused, StoreError::NotOurs { .. }), "{refused}");
    fs::rename(dir.path().join("heads"), dir.path().join("inspectd.db.heads")).expect("moved");
    let (_store, _, recovered) = goes_on(dir.path());
    assert!(recovered.incomplete);
}

#[test]
fn what_is_not_damage_is_refused_and_stays_where_it_is() {
    let dir = tempdir().expect("a folder");
    commit(&open(dir.path()), 1);
    let raw = rusqlite::Connection::open(database(dir.path())).expect("opens");
    raw.pragma_update(None, "user_version", SCHEMA_STEP + 1).expect("set");
    drop(raw);
    let refused = Store::open(&StoreOptions::in_dir(dir.path()), clock()).expect_err("newer");
    assert!(matches!(refused, StoreError::NewerSchema { .. }), "{refused}");
    assert_eq!(aside(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn damage_that_was_met_at_work_is_looked_for_at_the_next_start_whatever_the_size() {
    let dir = tempdir().expect("a folder");
    write(dir.path());
    let path = database(dir.path());
    let raw = rusqlite::Connection::open(&path).expect("opens");
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'";
    let page: u32 = raw.query_row(root, [], |row| row.get(0)).expect("a table");
    let page = page as usize;
    drop(raw);
    let mut bytes = fs::read(&path).expect("is there");
    bytes[(page - 1) * 4096..page * 4096].fill(0xEE);
    fs::write(&path, &bytes).expect("written");
    let mut options = StoreOptions::in_dir(dir.path());
    options.quick_check_max_bytes = 0;
    let store = Store::open(&options, clock()).expect("too large to be read through");
    let met = store.unsent(1000, 0, i64::MAX, &[]).expect_err("damaged");
    assert!(matches!(met, StoreError::Corrupt { .. }), "{met}");
    assert!(dir.path().join("inspectd.db.suspect").exists());
    drop(store);
    let store = Store::open(&options, clock()).expect("goes on");
    assert_eq!(aside(dir.path()).len(), 1);
    assert!(!dir.path().join("inspectd.db.suspect").exists());
    commit(&store, 121);
}
