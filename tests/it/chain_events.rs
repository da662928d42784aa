//! What is in the chain beside inspections: dispositions, starts, clock steps, heads, migrations.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inspectd::clock::{Clock, ManualClock, SystemClock};
use inspectd::publish::{message, schema};
use inspectd::store::chain::ChainDigest;
use inspectd::store::events::{Run, Stop};
use inspectd::store::sign::{PublicKey, SignKey};
use inspectd::store::verify::{Code, VerifyOptions, verify};
use inspectd::store::{
    Anchor, Disposition, EventKind, Filter, Reader, SCHEMA_STEP, Store, StoreError, StoreOptions,
    disposition, report,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::chain_log::{
    commit, database, events, first_break, kinds, report as verified, run, write_log,
};
use crate::support::records::{clock, inspection, open};

#[test]
fn a_disposition_is_recorded_beside_a_writing_daemon_and_changes_nothing() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    commit(&store, 1);
    let before = store.reader().expect("reads").find("1").expect("reads").expect("is there");
    let said = |by: &str, note: Option<&str>| {
        disposition::record(&database(dir.path()), &SystemClock, "1", Disposition::Scrap, by, note)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for job_id in 2..=40 {
                commit(&store, job_id);
            }
        });
        for _ in 0..20 {
            said("Ana", None).expect("recorded");
        }
    });
    let reader = store.reader().expect("reads");
    assert_eq!(reader.find("1").expect("reads").expect("is there"), before);
    assert_eq!(reader.dispositions(&before.result_id).expect("reads").len(), 20);
    assert_eq!(verified(dir.path(), &[]).last, 61);
    assert_eq!(first_break(dir.path(), &[]), "intact");
    let too_long = "x".repeat(1001);
    for (by, note) in [("", None), (" ", None), ("a\nb", None), ("Ana", Some(too_long.as_str()))] {
        assert!(matches!(said(by, note), Err(StoreError::Disposition { .. })), "{by:?}");
    }
    assert_eq!(verified(dir.path(), &[]).last, 61);
    let mut table = Vec::new();
    report::list(&reader, &Filter::default(), &mut table).expect("written");
    assert!(String::from_utf8_lossy(&table).contains("scrap"));
}

#[test]
fn starts_tell_what_changed_and_whether_the_run_before_ended_well() {
    let dir = tempdir().expect("a folder");
    let start = |run: &Run, stops: bool| {
        let store = open(dir.path());
        let start = store.record_start(run).expect("a start");
        if stops {
            store.record_stop(&Stop { records: 0, unsent: 0 }).expect("a stop");
        }
        start.unclean
    };
    assert!(!start(&run(), true), "the first");
    assert!(!start(&run(), false));
    let other = Run { model_sha256: "99".repeat(32), stations: [].into(), ..run() };
    assert!(start(&other, true), "no stop before it");
    let told = kinds(dir.path());
    let expected = ["genesis", "start", "stop", "start", "start", "model", "configuration", "stop"];
    assert_eq!(told, expected);
    assert_eq!(events(dir.path())[6].2["station"], "left");
    assert_eq!(events(dir.path())[6].2["after"], Value::Null);
    open(dir.path()).record_reload(&run()).expect("a reload");
    assert_eq!(kinds(dir.path())[8..], ["reload", "model", "configuration"]);
    assert_eq!(first_break(dir.path(), &[]), "intact");
}

#[test]
fn a_clock_of_1970_works_and_its_step_is_an_event() {
    let dir = tempdir().expect("a folder");
    let manual = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let store =
        Store::open(&StoreOptions::in_dir(dir.path()), Arc::clone(&manual) as Arc<dyn Clock>);
    let store = store.expect("opens");
    let commit = |job_id| {
        store.commit(&inspection("left", job_id), &[]).expect("a commit");
    };
    commit(1);
    manual.advance(Duration::from_secs(3600));
    commit(2);
    manual.set_wall("2026-11-21T10:00:00Z".parse().expect("a time"));
    commit(3);
    manual.set_wall("2026-11-21T09:59:00Z".parse().expect("a time"));
    manual.advance(Duration::from_secs(10));
    commit(4);
    let steps: Vec<(i64, Value)> = events(dir.path())
        .into_iter()
        .filter(|(_, kind, _)| kind == "clock_step")
        .map(|(sequence, _, body)| (sequence, body["step_ms"].clone()))
        .collect();
    let first_ms = 1_795_255_200_000_i64 - 3_600_000;
    assert_eq!(steps, [(4, json!(first_ms)), (6, json!(-60_000))]);
    assert_eq!(verified(dir.path(), &[]).last, 7);
    // Their pictures are made up.
    let reader = Reader::open(&database(dir.path())).expect("reads");
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert_eq!(report.first_break(), None);
    let numbers: Vec<i64> =
        reader.list(&Filter::default()).expect("reads").iter().map(|one| one.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "by sequence, whatever the clock says");
}

#[test]
fn heads_are_signed_and_only_by_the_owner_of_the_key() {
    let dir = tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let key = SignKey::create(&path("device.key")).expect("made");
    std::fs::write(path("device.pub"), key.public_pem()).expect("written");
    let other = SignKey::create(&path("other.key")).expect("made");
    std::fs::write(path("other.pub"), other.public_pem()).expect("written");
    let mut options = StoreOptions::in_dir(dir.path());
    options.sign_key = Some(path("device.key"));
    let store = Store::open(&options, clock()).expect("opens");
    commit(&store, 1);
    store.record_stop(&Stop { records: 1, unsent: 1 }).expect("a stop");
    let check = |public: &str, anchors: Vec<Anchor>| {
        let key = Some(PublicKey::read(&path(public)).expect("a key"));
        let options = VerifyOptions { key, anchors, ..VerifyOptions::default() };
        let reader = Reader::open(&database(dir.path())).expect("reads");
        let report = verify(&reader, &options, &mut |_, _| {}).expect("readable");
        (report.signatures, report.first_break().map(|first| (first.code, first.sequence)))
    };
    let payload = message::chain_head(&store.anchor().expect("an anchor"));
    let published: Anchor = serde_json::from_slice(&payload).expect("the payload is an anchor");
    assert_eq!(check("device.pub", vec![published.clone()]), (3, None));
    assert_eq!(check("other.pub", vec![]), (0, Some((Code::BadSignature, 1))));
    let forged = Anchor { wall_ms: published.wall_ms + 1, ..published };
    assert_eq!(check("device.pub", vec![forged]), (2, Some((Code::BadSignature, 3))));

    let schema: Value =
        serde_json::from_str(schema::find("chain").expect("there is one").text).expect("JSON");
    let payload: Value = serde_json::from_slice(&payload).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &payload), "{payload}");
    options.sign_key = Some(path("device.pub"));
    drop(store);
    let refused = Store::open(&options, clock()).expect_err("no private key");
    assert!(refused.to_string().contains("audit key"), "{refused}");
}

#[test]
fn heads_are_kept_every_so_many_records() {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    for job_id in 1..=600 {
        store.commit(&inspection("left", job_id), &[]).expect("a commit");
    }
    let heads = std::fs::read_to_string(dir.path().join("inspectd.db.heads")).expect("is there");
    let read = |line: &str| serde_json::from_str::<Anchor>(line).expect("an anchor").sequence;
    assert_eq!(heads.lines().map(read).collect::<Vec<_>>(), [1, 257, 513]);
}

#[test]
fn the_chain_refuses_slips_and_events_that_are_none() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    let raw = Connection::open(database(dir.path())).expect("opens");
    for slip in [
        "UPDATE chain SET body = '{}' WHERE sequence = 9",
        "DELETE FROM chain WHERE sequence = 10",
        "INSERT INTO chain SELECT 12, 'x', NULL, 0, 0, '', 0, '{}', prev, digest FROM chain WHERE sequence = 10",
    ] {
        let told = raw.execute(slip, []).expect_err(slip).to_string();
        assert!(told.contains("append-only"), "{told}");
    }
    let store = open(dir.path());
    for body in [json!("text"), json!({"long": "x".repeat(300_000)})] {
        let told = store.append_event(EventKind::Reload, &body).expect_err("refused");
        assert!(matches!(told, StoreError::Event { .. }), "{told}");
    }
    assert_eq!(first_break(dir.path(), &[]), "intact");
}

/// A database that inspectd 0.1.0 wrote, before there was a chain: four inspections of the demo.
const VERSION_1: &str = "tests/fixtures/store_v1.db";

#[test]
fn a_log_of_schema_1_is_chained_in_its_order_and_goes_on() {
    let dir = tempdir().expect("a folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(VERSION_1);
    std::fs::copy(fixture, database(dir.path())).expect("copied");
    let old = Reader::open(&database(dir.path())).expect_err("older");
    assert!(matches!(old, StoreError::OlderSchema { found: 1, .. }), "{old}");
    let rows = |dir: &Path| -> Vec<(i64, String)> {
        let raw = Connection::open(database(dir)).expect("opens");
        let mut query = raw.prepare("SELECT sequence, body FROM inspections").expect("reads");
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("reads");
        rows.collect::<Result<_, _>>().expect("reads")
    };
    let before = rows(dir.path());
    assert_eq!(before.len(), 4);
    let mut options = StoreOptions::in_dir(dir.path());
    options.device = "demo-box".into();
    let store = Store::open(&options, clock()).expect("brought up to date");
    assert_eq!(rows(dir.path()), before, "not a byte of them changes");
    let told = events(dir.path());
    assert_eq!((told[0].1.as_str(), &told[0].2["device"]), ("genesis", &json!("demo-box")));
    let migrated = json!({"from_schema": 1, "to_schema": SCHEMA_STEP, "chained_later": 4});
    assert_eq!(told[1], (6, "migrated".into(), migrated));
    assert_eq!(store.last_job_id("demo").expect("read"), Some(4));
    assert_eq!(commit(&store, 5), 5);
    let reader = store.reader().expect("reads");
    let report = verify(&reader, &VerifyOptions::default(), &mut |_, _| {}).expect("readable");
    assert_eq!((report.first_break(), report.last, report.inspections), (None, 7, 5));
    drop(store);
    drop(open(dir.path()));
    assert_eq!(kinds(dir.path()).len(), 2, "a second start migrates nothing");
}

#[test]
fn a_digest_prints_and_parses() {
    let text = "0123456789abcdef".repeat(4);
    assert_eq!(text.parse::<ChainDigest>().expect("a digest").to_string(), text);
}
