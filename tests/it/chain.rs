//! The hash chain: what was done to a log is found, by the program and by a verifier in another
//! language, and both name the same first break.

use std::path::Path;

use assert_cmd::Command;
use inspectd::store::verify::{Code, VerifyOptions, verify};
use inspectd::store::{Anchor, EventKind, Filter, Reader};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::chain_log::{
    commit, database, first_break, kinds, rehash, report as verified, run, tool, write_log,
};
use crate::support::records::open;

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
