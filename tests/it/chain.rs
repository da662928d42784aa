//! The hash chain: what was done to a log is found, by the program and by a verifier in another
//! language, and both name the same first break.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use inspectd::clock::{Clock, ManualClock, SystemClock};
use inspectd::publish::message;
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
    commit, database, first_break, rehash, report as verified, run, tool, write_log,
};
use crate::support::records::{clock, inspection, open};

fn events(dir: &Path) -> Vec<(i64, String, Value)> {
    let events = Reader::open(&database(dir)).expect("reads").events(None, 1000).expect("reads");
    let parsed = |body: &str| serde_json::from_str(body).expect("JSON");
    events.iter().map(|event| (event.sequence, event.kind.clone(), parsed(&event.body))).collect()
}

fn kinds(dir: &Path) -> Vec<String> {
    events(dir).into_iter().map(|(_, kind, _)| kind).collect()
}

/// An anchor of `sequence` as somebody kept it elsewhere.
fn kept(dir: &Path, sequence: i64) -> Anchor {
    let reader = Reader::open(&database(dir)).expect("reads");
    let digest = reader.chain_digest(sequence).expect("reads").expect("is there");
    Anchor::parse(&format!("{sequence}:{digest}")).expect("an anchor")
}

#[test]
fn a_log_as_it_was_written_is_intact_for_both_verifiers() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    assert_eq!(first_break(dir.path(), &[kept(dir.path(), 5)]), "intact");
    let report = verified(dir.path(), &[]);
    assert_eq!((report.first, report.last, report.inspections), (1, 10, 6));
    assert_eq!((report.evidence_files, report.anchors, report.break_count), (6, 3, 0));
    let told = kinds(dir.path());
    assert_eq!(told, ["genesis", "start", "disposition", "stop"]);
}

#[test]
fn whatever_is_done_to_a_log_is_found_where_it_was_done() {
    let sql = |text: &'static str| {
        move |dir: &Path| tool(dir).execute_batch(text).expect("nothing stops it")
    };
    type Damage = Box<dyn Fn(&Path)>;
    let cases: Vec<(&str, Damage, &str)> = vec![
        (
            "an altered row",
            Box::new(sql("UPDATE inspections SET body = replace(body, 'fail', 'pass') WHERE sequence = 3")),
            "altered_record at 5",
        ),
        (
            "an altered column",
            Box::new(sql("UPDATE inspections SET verdict = 'pass' WHERE sequence = 3")),
            "columns_differ at 5",
        ),
        (
            "an altered serial number in its column",
            Box::new(sql("UPDATE inspections SET serial = NULL WHERE sequence = 1")),
            "columns_differ at 3",
        ),
        (
            "an altered event",
            Box::new(sql("UPDATE chain SET body = replace(body, 'Weber', 'Huber') WHERE sequence = 9")),
            "altered_record at 9",
        ),
        (
            "an altered time",
            Box::new(sql("UPDATE chain SET wall_ms = wall_ms - 86400000 WHERE sequence = 4")),
            "altered_record at 4",
        ),
        (
            "a row altered with its digest made right",
            Box::new(|dir: &Path| {
                let raw = tool(dir);
                let sql = "UPDATE inspections SET body = replace(body, 'part-3', 'part-4'),
                                                  part_id = 'part-4' WHERE sequence = 3";
                raw.execute_batch(sql).expect("altered");
                rehash(&raw, 5, 5);
            }),
            "broken_link at 6",
        ),
        (
            "a log written anew from one row on",
            Box::new(|dir: &Path| {
                let raw = tool(dir);
                let sql = "UPDATE inspections SET body = replace(body, 'part-3', 'part-4'),
                                                  part_id = 'part-4' WHERE sequence = 3";
                raw.execute_batch(sql).expect("altered");
                rehash(&raw, 5, 10);
            }),
            "anchor_differs at 10",
        ),
        (
            "a removed row",
            Box::new(sql("DELETE FROM chain WHERE sequence = 5; DELETE FROM inspections WHERE sequence = 3")),
            "missing_record at 5",
        ),
        (
            "a removed inspection whose record stays",
            Box::new(sql("DELETE FROM inspections WHERE sequence = 3")),
            "missing_inspection at 5",
        ),
        (
            "a removed beginning",
            Box::new(sql("DELETE FROM chain WHERE sequence = 1")),
            "missing_record at 1",
        ),
        (
            "two rows exchanged",
            Box::new(sql("UPDATE chain SET inspection = NULL, kind = 'x', body = '{}' WHERE sequence = 4;
                          UPDATE chain SET inspection = 2 WHERE sequence = 5")),
            "altered_record at 4",
        ),
        (
            "an inspection put in past the program",
            Box::new(sql("INSERT INTO inspections SELECT 7, '00000000-0000-0000-0000-000000000000', station,
                          recipe, 7, part_id, verdict, serial, decided_wall_ms, latency_ms, is_simulated, body
                          FROM inspections WHERE sequence = 1")),
            "unchained_inspection at 11",
        ),
        (
            "an altered message",
            Box::new(sql("UPDATE outbox SET payload = CAST(replace(CAST(payload AS TEXT), '\"fail\"', '\"pass\"')
                          AS BLOB) WHERE id = 3")),
            "outbox_differs at 5",
        ),
        (
            "a truncated tail",
            Box::new(sql("DELETE FROM chain WHERE sequence > 7; DELETE FROM inspections WHERE sequence > 5;
                          DELETE FROM outbox WHERE id > 5;
                          UPDATE sqlite_sequence SET seq = 7 WHERE name = 'chain';
                          UPDATE sqlite_sequence SET seq = 5 WHERE name = 'inspections'")),
            "truncated at 8",
        ),
        (
            "everything gone",
            Box::new(sql("DELETE FROM chain; DELETE FROM inspections; DELETE FROM outbox")),
            "missing_record at 1",
        ),
    ];
    for (what, damage, expected) in cases {
        let dir = tempdir().expect("a folder");
        write_log(dir.path());
        damage(dir.path());
        assert_eq!(first_break(dir.path(), &[]), expected, "{what}");
    }
}

#[test]
fn a_truncated_tail_is_found_by_an_anchor_or_by_the_counter_that_was_forgotten() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    let anchors = [kept(dir.path(), 9)];
    std::fs::remove_file(dir.path().join("inspectd.db.heads")).expect("removed");
    let raw = tool(dir.path());
    raw.execute_batch("DELETE FROM chain WHERE sequence > 8").expect("removed");
    assert_eq!(first_break(dir.path(), &[]), "truncated at 9", "SQLite's counter");
    raw.execute_batch("UPDATE sqlite_sequence SET seq = 8 WHERE name = 'chain'").expect("set");
    assert_eq!(first_break(dir.path(), &anchors), "truncated at 9", "the anchor");
    // Nothing inside can show this: it is why anchors go out.
    assert_eq!(first_break(dir.path(), &[]), "intact");
    let notes = verified(dir.path(), &[]).notes;
    assert!(notes.iter().any(|note| note.contains("no anchor")), "{notes:?}");
}

#[test]
fn a_swapped_a_missing_and_a_retired_picture_are_told_apart() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    let reader = Reader::open(&database(dir.path())).expect("reads");
    let looks = reader.list(&Filter::default()).expect("reads");
    let name = |at: usize| looks[at].inspection().expect("whole").evidence[0].sha256.clone();
    let path = |at: usize| inspectd::store::evidence::path(&dir.path().join("evidence"), &name(at));
    let (second, fourth) = (std::fs::read(path(1)).expect("a file"), path(3));
    let original = std::fs::read(&fourth).expect("a file");
    std::fs::write(&fourth, second).expect("swapped");
    assert_eq!(first_break(dir.path(), &[]), "evidence_altered at 6");
    std::fs::remove_file(&fourth).expect("removed");
    assert_eq!(first_break(dir.path(), &[]), "evidence_missing at 6");

    let store = open(dir.path());
    let body = json!({"schema_version": 1, "files": [{"sha256": name(3), "why": "age"}]});
    store.append_event(EventKind::Retention, &body).expect("recorded");
    assert_eq!(first_break(dir.path(), &[]), "intact", "retention says so");
    assert_eq!(verified(dir.path(), &[]).evidence_removed, 1);
    // The same picture again, later: retention of the first time excuses nothing.
    commit(&store, 4);
    assert_eq!(std::fs::read(&fourth).expect("written anew"), original);
    assert_eq!(first_break(dir.path(), &[]), "intact");
    std::fs::remove_file(&fourth).expect("removed");
    assert_eq!(first_break(dir.path(), &[]), "evidence_missing at 12");
}

#[test]
fn a_database_in_the_place_of_another_is_found() {
    let (dir, other) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
    write_log(dir.path());
    write_log(other.path());
    std::fs::copy(database(other.path()), database(dir.path())).expect("copied");
    assert_eq!(first_break(dir.path(), &[]), "chain_replaced at 10");
    // The next start goes on, and says it in the record.
    let store = open(dir.path());
    let start = store.record_start(&run()).expect("a start");
    assert!(start.heads_differ.is_some_and(|how| how.contains("another chain")));
}

#[test]
fn a_check_of_a_part_believes_what_stands_before() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    let alter = "UPDATE inspections SET body = replace(body, 'fail', 'pass') WHERE sequence = 3";
    tool(dir.path()).execute_batch(alter).expect("altered");
    let reader = Reader::open(&database(dir.path())).expect("reads");
    let from = |from| {
        let options = VerifyOptions { from, ..VerifyOptions::default() };
        let report = verify(&reader, &options, &mut |_, _| {}).expect("readable");
        (report.inspections, report.first_break().map(|first| (first.code, first.sequence)))
    };
    assert_eq!(from(5), (4, Some((Code::AlteredRecord, 5))));
    assert_eq!(from(6), (3, None));
    assert_eq!(from(11), (0, Some((Code::MissingRecord, 11))));
    assert_eq!(reader.first_since(jiff::Timestamp::UNIX_EPOCH).expect("reads"), 1);
    assert_eq!(reader.first_since(jiff::Timestamp::MAX).expect("reads"), 11);
}

#[test]
fn the_commands_tell_the_break_and_end_with_their_own_code() {
    let dir = tempdir().expect("a folder");
    write_log(dir.path());
    let audit = |arguments: &[&str], code: i32| {
        let mut command = Command::cargo_bin("inspectd").expect("built by cargo");
        let command = command.args(["audit", "--database"]).arg(database(dir.path()));
        let output = command.args(arguments).assert().code(code).get_output().clone();
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let told = audit(&["verify"], 0);
    assert!(told.contains("INTACT") && told.contains("6 intact"), "{told}");
    let anchor = dir.path().join("anchor.json");
    std::fs::write(&anchor, audit(&["anchor"], 0)).expect("kept");
    let told = audit(&["disposition", "2", "--as", "use-as-is", "--by", "Ben"], 0);
    assert!(told.contains("record 11: use_as_is by Ben"), "{told}");
    assert!(audit(&["list"], 0).contains("use_as_is"));
    assert!(audit(&["show", "3"], 0).contains("rework by Ana \"A.\" Weber: scratch polished, ä"));
    assert!(audit(&["events", "--kind", "disposition"], 0).lines().count() == 2);
    audit(&["disposition", "99", "--as", "pass", "--by", "Ben"], 4);

    let raw = tool(dir.path());
    raw.execute_batch("UPDATE inspections SET serial = 'X' WHERE sequence = 3").expect("altered");
    let told = audit(&["verify", "--anchor", anchor.to_str().expect("UTF-8")], 7);
    for part in ["BROKEN at record 5: columns_differ", "serial is \"A7K20003\"", "meaning"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let report: Value = serde_json::from_str(&audit(&["verify", "--json"], 7)).expect("JSON");
    assert_eq!(report["breaks"][0]["code"], "columns_differ");
    assert_eq!(report["breaks"][0]["sequence"], 5);
    audit(&["verify", "--anchor", "no anchor"], 2);
}

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
        scope.spawn(|| (2..=40).for_each(|job_id| drop(commit(&store, job_id))));
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
    assert_eq!(first_break(dir.path(), &[]), "intact");
}

#[test]
fn a_clock_of_1970_works_and_its_step_is_an_event() {
    let dir = tempdir().expect("a folder");
    let manual = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let store =
        Store::open(&StoreOptions::in_dir(dir.path()), Arc::clone(&manual) as Arc<dyn Clock>);
    let store = store.expect("opens");
    let commit = |job_id| drop(store.commit(&inspection("left", job_id), &[]).expect("a commit"));
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

    let schema: Value = serde_json::from_str(message::CHAIN_SCHEMA).expect("JSON");
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
