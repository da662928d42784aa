//! Looking up a serial: has another part the same?
//!
//! Records stand in the order of their commits, and that order is sure; wall time is not. So a
//! window of days is turned into a sequence number first: the one of a record that is surely older
//! than the window, by a clock that followed a time source. Whatever stands after it counts. A record
//! whose time nobody knows thereby counts rather than not, and so does everything where there is no
//! such clock at all.

use rusqlite::{Connection, OptionalExtension, params};

use super::read::last_job_id;
use crate::verdict::serial::{Earlier, EarlierQuery, Scope, Window};

/// Most records that are looked at for one with a sure clock: on a device that has never had one, all
/// would have to be.
const DATED_MAX_ROWS: i64 = 1000;

/// The latest record about another part that `query` finds.
pub(super) fn earlier(
    connection: &Connection,
    query: &EarlierQuery<'_>,
) -> rusqlite::Result<Option<Earlier>> {
    let (after_sequence, after_job) = borders(connection, query)?;
    let texts = serde_json::to_string(query.texts).expect("a list of texts is JSON");
    connection
        .prepare_cached(
            "SELECT sequence, result_id, station, part_id, serial
             FROM inspections INDEXED BY inspections_by_serial
             WHERE serial IN (SELECT value FROM json_each(?1)) AND is_simulated = ?2
                 AND sequence > ?3 AND (?4 OR station = ?5)
                 AND (station <> ?5 OR (part_id <> ?6 AND job_id > ?7))
             ORDER BY serial = ?8 DESC, sequence DESC LIMIT 1",
        )?
        .query_row(
            params![
                texts,
                query.is_simulated,
                after_sequence,
                query.scope == Scope::Device,
                query.station,
                query.part_id,
                after_job,
                query.serial,
            ],
            |row| {
                Ok(Earlier {
                    sequence: row.get(0)?,
                    result_id: row.get(1)?,
                    station: row.get(2)?,
                    part_id: row.get(3)?,
                    serial: row.get(4)?,
                })
            },
        )
        .optional()
}

/// The sequence number and, for records of the own station, the job number after which records count.
fn borders(connection: &Connection, query: &EarlierQuery<'_>) -> rusqlite::Result<(i64, i64)> {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    match (query.window, query.scope) {
        (Window::Always, _) => Ok((0, -1)),
        // Each trigger of a station is one job and one part.
        (Window::Parts { count }, Scope::Station) => {
            let job = match query.job_id {
                Some(job) => whole(job),
                None => 1 + last_job_id(connection, query.station)?.map_or(0, whole),
            };
            // As low as -1: the first job that counts may be 0.
            Ok((0, job.saturating_sub(whole(count)).max(0) - 1))
        }
        (Window::Parts { count }, Scope::Device) => {
            let newest: Option<i64> = connection
                .prepare_cached("SELECT max(sequence) FROM inspections")?
                .query_row([], |row| row.get(0))?;
            Ok((newest.unwrap_or(0).saturating_sub(whole(count)), -1))
        }
        (Window::Time { ms }, _) => {
            let now = match query.now_ms {
                Some(now) => Some(now),
                // It is at least as late as the latest moment that is sure.
                None => dated(connection, i64::MAX)?.map(|(_, wall_ms)| wall_ms),
            };
            let Some(now) = now else { return Ok((0, -1)) };
            let older = dated(connection, now.saturating_sub(ms))?;
            Ok((older.map_or(0, |(sequence, _)| sequence), -1))
        }
    }
}

/// The latest record before `before_ms` whose clock followed a time source: its sequence number and
/// its time.
fn dated(connection: &Connection, before_ms: i64) -> rusqlite::Result<Option<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT sequence, decided_wall_ms FROM (
                 SELECT sequence, decided_wall_ms, body FROM inspections
                 WHERE decided_wall_ms < ?1 ORDER BY decided_wall_ms DESC LIMIT ?2)
             WHERE json_extract(body, '$.times.clock_synchronized') ORDER BY decided_wall_ms DESC
             LIMIT 1",
        )?
        .query_row(params![before_ms, DATED_MAX_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}
