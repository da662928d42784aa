//! What the chain costs a commit: `cargo run --release --example commit_cost -- DIR COMMITS`.
//!
//! In DIR, which should lie on the disk in question, made-up records go in turns into an audit log,
//! and into a database of schema 1 by the statements that a commit had before there was a chain; so
//! both meet the same moments of the disk.

// As in the tests: made-up records may stop at the first thing that is not as it should be.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Instant;

use inspectd::inspection::Inspection;
use inspectd::publish::message;
use inspectd::store::to_canonical_json;
use rusqlite::{Connection, params};

#[path = "../tests/it/support/records.rs"]
mod records;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(commits)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: commit_cost DIR COMMITS");
        std::process::exit(2);
    };
    let commits: u64 = commits.parse().expect("a number of commits");
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir).expect("the folder can be made");
    let mut before = without_chain(&dir.join("before.db"));
    let store = records::open(dir);
    let (mut without_us, mut with_us) = (Vec::new(), Vec::new());
    for job_id in 1..=commits {
        let look = records::inspection("left", job_id);
        let messages = [message::result(&look)];
        let mut old = || {
            let start = Instant::now();
            commit_before(&mut before, &look, &messages[0].payload);
            without_us.push(start.elapsed().as_micros());
        };
        let mut new = || {
            let start = Instant::now();
            store.commit(&look, &messages).expect("a commit");
            with_us.push(start.elapsed().as_micros());
        };
        if job_id % 2 == 0 {
            old();
            new();
        } else {
            new();
            old();
        }
    }
    for (what, mut times_us) in [("without chain", without_us), ("with chain", with_us)] {
        times_us.sort_unstable();
        let at = |share: f64| times_us[((times_us.len() - 1) as f64 * share) as usize];
        println!(
            "{what:>13}: {commits} commits, p50 {} us, p90 {} us, p99 {} us",
            at(0.5),
            at(0.9),
            at(0.99)
        );
    }
}

fn without_chain(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("opens");
    let wal = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    connection.pragma_update_and_check(None, "journal_mode", "WAL", wal).expect("WAL");
    connection.pragma_update(None, "synchronous", "FULL").expect("set");
    connection.pragma_update(None, "foreign_keys", true).expect("set");
    connection
        .execute_batch(include_str!("../src/store/schema/0001_record.sql"))
        .expect("a new database");
    connection
}

fn commit_before(connection: &mut Connection, look: &Inspection, payload: &[u8]) {
    let result_id = look.result_id.to_string();
    let change = connection.transaction().expect("begins");
    change
        .prepare_cached(
            "INSERT INTO inspections (result_id, station, recipe, job_id, part_id, verdict, serial,
                 decided_wall_ms, latency_ms, is_simulated, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .expect("a statement")
        .execute(params![
            result_id,
            look.station,
            look.recipe,
            look.job_id as i64,
            look.part_id,
            look.verdict.outcome.as_str(),
            look.serial(),
            look.times.decided.wall.as_millisecond(),
            look.timings.latency_ms,
            look.is_simulated,
            to_canonical_json(look).expect("plain data"),
        ])
        .expect("inserted");
    change
        .prepare_cached(
            "INSERT INTO outbox (result_id, station, kind, payload, created_wall_ms)
             VALUES (?1, ?2, 'result', ?3, ?4)",
        )
        .expect("a statement")
        .execute(params![result_id, look.station, payload, 0])
        .expect("inserted");
    change.commit().expect("committed");
}
