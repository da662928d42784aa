//! What arrives, and what it proves.

use inspectd::store::{Reader, Store};
use inspectd::upstream::check::{self, Break, Which};
use tempfile::tempdir;

use super::{assert_copied, commit, copy_all, end, prove, start, wait, write};
use crate::support::chain_log::write_log;
use crate::support::postgres::{Postgres, ROLE};
use crate::support::records::{clock, inspection, open, options};

#[test]
fn every_record_arrives_in_order_and_proves_itself() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write_log(dir.path());
    let state = copy_all(&server, dir.path());
    assert_eq!((state.copied, state.lost, state.conflict), (10, 0, None));
    assert_copied(&server, dir.path());

    // What stands beside the record, for queries.
    let third = server.sql(
        "SELECT device, station, recipe, job_id, part_id, verdict, reasons, serials, decided AT TIME ZONE 'UTC',
                latency_ms, is_simulated, disposition, decided_by
         FROM inspectd.inspections WHERE inspection = 3",
    );
    let should = [
        "dev7",
        "left",
        "housing",
        "3",
        "part-3",
        "fail",
        "{defect}",
        "{A7K20003}",
        "2026-07-14 03:33:23",
        "812.25",
        "f",
        "rework",
        "Ana \"A.\" Weber",
    ];
    assert_eq!(third, [should.map(str::to_owned)]);
    let fourth = "SELECT verdict, reasons, serials, disposition FROM inspectd.inspections WHERE inspection = 4";
    assert_eq!(
        server.sql(fourth),
        [["review", "{serial_illegible}", "{}", "NULL"].map(str::to_owned)]
    );
    let kinds =
        server.value("SELECT string_agg(kind, ' ' ORDER BY sequence) FROM inspectd.records");
    let six = ["inspection"; 6].join(" ");
    assert_eq!(kinds, format!("genesis start {six} disposition stop"));
    // A second copy of the same adds nothing.
    assert_eq!(copy_all(&server, dir.path()).copied, 0);
}

#[test]
fn what_is_changed_in_the_table_is_found_by_sql_and_by_the_program() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write(dir.path(), 20);
    copy_all(&server, dir.path());
    assert_copied(&server, dir.path());
    let cases = [
        (
            "UPDATE inspectd.records SET body = replace(body, 'fail', 'pass') WHERE sequence = 4",
            4,
            "altered_record",
        ),
        (
            "UPDATE inspectd.records SET wall_ms = wall_ms + 1 WHERE sequence = 9",
            9,
            "altered_record",
        ),
        (
            "UPDATE inspectd.records SET clock_synchronized = NOT clock_synchronized WHERE sequence = 9",
            9,
            "altered_record",
        ),
        ("UPDATE inspectd.records SET prev = digest WHERE sequence = 5", 5, "broken_link"),
        ("DELETE FROM inspectd.records WHERE sequence = 7", 7, "missing_record"),
        ("DELETE FROM inspectd.records WHERE sequence = 1", 1, "missing_record"),
    ];
    server.sql("CREATE TABLE kept AS SELECT * FROM inspectd.records");
    for (damage, sequence, code) in cases {
        server.sql(damage);
        let by_sql =
            server.sql("SELECT sequence, code FROM inspectd.breaks ORDER BY sequence LIMIT 1");
        // A hole is seen at the record behind it.
        let at = if code == "missing_record" { sequence + 1 } else { sequence };
        assert_eq!(by_sql, [[at.to_string(), code.to_owned()]], "{damage}");
        assert_eq!(
            prove(&server, dir.path()).first_break,
            Some(Break { code, sequence }),
            "{damage}"
        );
        server.sql("TRUNCATE inspectd.records; INSERT INTO inspectd.records SELECT * FROM kept");
    }
    // A column that lies about its body is no break of the chain, and the program finds it.
    server.sql("UPDATE inspectd.records SET verdict = 'pass' WHERE sequence = 4");
    let found = prove(&server, dir.path()).first_break.expect("found");
    assert_eq!((found.code, found.sequence), ("columns_differ", 4));
    // A chain that was written anew as a whole is whole, but it is not the log's.
    server.sql("TRUNCATE inspectd.records; INSERT INTO inspectd.records SELECT * FROM kept");
    let other = tempdir().expect("a folder");
    write(other.path(), 20);
    copy_all(&server, other.path());
    let own = |dir: &tempfile::TempDir| {
        Reader::open(&dir.path().join("inspectd.db"))
            .expect("reads")
            .genesis()
            .expect("begun")
            .chain_id
    };
    let (ours, theirs) = (own(&dir), own(&other));
    server.sql(&format!(
        "DELETE FROM inspectd.records WHERE chain_id = '{ours}';
         UPDATE inspectd.records SET chain_id = '{ours}' WHERE chain_id = '{theirs}'"
    ));
    let found = prove(&server, dir.path()).first_break.expect("found");
    assert_eq!((found.code, found.sequence), ("not_of_this_log", 1));
}

#[test]
fn texts_that_postgresql_cannot_hold_are_copied_by_their_escapes() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    let store = open(dir.path());
    let mut look = inspection("left", 1);
    look.part_id = "a\0b'; DROP TABLE inspectd.records; --\u{1F600}{\"\\".into();
    store.commit(&look, &[]).expect("a commit");
    let handle = start(server.options(dir.path()), &store);
    wait(&handle, "the record", |state| state.connected && state.waiting == 0);
    end(handle);
    assert_copied(&server, dir.path());
    let part = server.value("SELECT part_id FROM inspectd.inspections");
    assert_eq!(part, look.part_id.replace('\0', "\u{fffd}"));
}

#[test]
fn new_records_follow_and_those_of_several_devices_stand_beside_each_other() {
    let server = Postgres::start();
    let dirs: Vec<_> = (0..3).map(|_| tempdir().expect("a folder")).collect();
    // All at once, into a database without tables.
    let lines: Vec<_> = dirs
        .iter()
        .enumerate()
        .map(|(number, dir)| {
            let mut settings = options(dir.path());
            settings.device = format!("line-{number}");
            let store = Store::open(&settings, clock()).expect("opens");
            let mut copy = server.options(dir.path());
            copy.batch_records = 3;
            let handle = start(copy, &store);
            (store, handle)
        })
        .collect();
    for (store, _) in &lines {
        commit(store, 1, 40);
    }
    for (store, handle) in lines {
        wait(&handle, "the first", |state| state.connected && state.copied >= 41);
        commit(&store, 41, 50);
        wait(&handle, "all", |state| state.copied == 51 && state.waiting == 0);
        assert_eq!(end(handle), 0);
    }
    dirs.iter().for_each(|dir| assert_copied(&server, dir.path()));
    let options = server.options(dirs[0].path());
    let proofs = check::check(&options, None, &Which::All, &mut |_| {}).expect("it can be asked");
    let mut devices: Vec<&str> = proofs.iter().map(|proof| proof.device.as_str()).collect();
    devices.sort_unstable();
    assert_eq!(devices, ["line-0", "line-1", "line-2"]);
    assert!(proofs.iter().all(|proof| proof.first_break.is_none() && proof.behind.is_none()));
}

/// Every query of the manual, as whoever reads runs it: with the right to read alone.
#[test]
fn the_queries_of_the_manual_run() {
    let (server, dir) = (Postgres::start(), tempdir().expect("a folder"));
    write_log(dir.path());
    copy_all(&server, dir.path());
    let text = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/postgres.md"),
    )
    .expect("there");
    let blocks: Vec<&str> =
        text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let (queries, others): (Vec<&str>, Vec<&str>) =
        blocks.into_iter().partition(|block| block.trim_start().starts_with("SELECT"));
    assert!(queries.len() >= 6 && others.len() == 2);
    let rights =
        others.iter().find(|block| block.contains("GRANT SELECT")).expect("the readers' rights");
    let reader = rights.split("-- Whoever reads").nth(1).expect("the readers' part");
    let reader = reader.split_once('\n').expect("lines").1;
    let (role, grants) = reader.split_once(";\n").expect("two statements");
    server.sql(&format!(
        "{} PASSWORD '{}'",
        role.split(" PASSWORD").next().expect("a role"),
        crate::support::postgres::PASSWORD
    ));
    server.sql(grants);
    for query in queries {
        let rows = server.ask("reporting", query).unwrap_or_else(|why| panic!("{query}: {why}"));
        let is_break = query.contains("breaks");
        assert_eq!(rows.is_empty(), is_break, "{query}: {rows:?}");
    }
    let told = server.ask("reporting", "DELETE FROM inspectd.records").expect_err("it may not");
    assert!(told.contains("permission denied"), "{told}");
    assert!(server.ask(ROLE, "SELECT 1").is_ok());
}
