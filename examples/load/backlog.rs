//! A backlog that is sent while live results come in.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::Site;

/// Fills the outbox with copies of one result, runs the daemon beside it, and reports; whether all
/// arrived and live results did not wait.
pub fn run(dir: &Path, rows: u64, rate: u32, backlog_per_s: u32) -> bool {
    let site = Site::new(dir, 1, rate, &format!("backlog_per_s = {backlog_per_s}\n"));
    let alone = site.run(u64::from(rate) * 20, 0);
    println!("without backlog  {}", alone.arrived.delays());
    let started = Instant::now();
    fill(&site, rows);
    println!("{rows} results wait after {:.0} s", started.elapsed().as_secs_f64());
    // Ten times as long as it should take: the run ends sooner, when all have arrived.
    let parts = (rows as f64 / f64::from(backlog_per_s) * 10.0 * f64::from(rate)) as u64 + 20;
    let beside = site.run(parts, rows);
    let drained = beside.drained.unwrap_or(beside.seconds);
    println!("with backlog     {}", beside.arrived.delays());
    println!(
        "backlog          {} of {rows} arrived as replayed in {drained:.0} s: {:.0}/s of \
         {backlog_per_s}; {} copies, {} unsent",
        beside.arrived.replayed,
        beside.arrived.replayed as f64 / drained,
        beside.arrived.copies,
        beside.unsent
    );
    println!(
        "commit           p99 {} us alone, {} us beside",
        alone.commit_us.1, beside.commit_us.1
    );
    let most = beside.memory.iter().copied().fold(0.0, f64::max);
    println!("memory           {most:.0} MB at most");
    beside.arrived.replayed == rows && beside.unsent == 0
}

/// As the outbox is after a long outage. The rows are copies of one result under ids of their own,
/// written past the audit log, which would take an hour to commit as many.
fn fill(site: &Site, rows: u64) {
    let mut connection = Connection::open(site.database()).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    let (id, payload): (String, Vec<u8>) = connection
        .query_row("SELECT result_id, payload FROM outbox ORDER BY id LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let payload = String::from_utf8(payload).unwrap();
    let all = connection.transaction().unwrap();
    {
        let mut insert = all
            .prepare(
                "INSERT INTO outbox (result_id, station, kind, payload, created_wall_ms)
                 VALUES (?1, 's1', 'result', ?2, 0)",
            )
            .unwrap();
        for _ in 0..rows {
            let new = Uuid::now_v7().to_string();
            insert.execute(params![new, payload.replace(&id, &new).into_bytes()]).unwrap();
        }
    }
    all.commit().unwrap();
}
