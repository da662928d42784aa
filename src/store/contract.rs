//! What must be known of a station's contract with its controller after a restart: the active recipe,
//! how far results were acknowledged, and which triggers were accepted.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::read::timestamp;
use crate::inspection::{ForeignId, Inspection};

/// Accepted triggers that are kept of each station: twice as many as can be in hand.
const ACCEPTED_KEPT: i64 = 128;

/// What is kept of one station's contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptContract {
    /// The active recipe's index.
    pub recipe_index: Option<u32>,
    /// How far results were acknowledged, as JSON.
    pub acknowledged: Option<String>,
}

/// A trigger that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedTrigger {
    /// The number under which it is inspected.
    pub job_id: u64,
    /// What the controller called it.
    pub trigger_id: ForeignId,
    /// The part as the controller named it, if it did.
    pub named_part: Option<String>,
    /// The part.
    pub part_id: String,
    /// From its arrival to the verdict.
    pub deadline_ms: u64,
    /// The recipe that was active.
    pub recipe_index: u32,
    /// When it was accepted, by the wall clock.
    pub accepted: jiff::Timestamp,
}

pub(super) fn contract(connection: &Connection, station: &str) -> rusqlite::Result<KeptContract> {
    let kept = connection
        .prepare_cached("SELECT recipe_index, acknowledged FROM contracts WHERE station = ?1")?
        .query_row([station], |row| {
            Ok(KeptContract { recipe_index: row.get(0)?, acknowledged: row.get(1)? })
        })
        .optional()?;
    Ok(kept.unwrap_or_default())
}

pub(super) fn keep_recipe(
    connection: &Connection,
    station: &str,
    index: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO contracts (station, recipe_index) VALUES (?1, ?2)
             ON CONFLICT (station) DO UPDATE SET recipe_index = excluded.recipe_index",
        )?
        .execute(params![station, index])
        .map(drop)
}

pub(super) fn keep_acknowledged(
    connection: &Connection,
    station: &str,
    acknowledged: &str,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO contracts (station, acknowledged) VALUES (?1, ?2)
             ON CONFLICT (station) DO UPDATE SET acknowledged = excluded.acknowledged",
        )?
        .execute([station, acknowledged])
        .map(drop)
}

/// Adds one and forgets the oldest, in one transaction.
pub(super) fn keep_accepted(
    connection: &mut Connection,
    station: &str,
    trigger: &AcceptedTrigger,
) -> rusqlite::Result<()> {
    let job_id = i64::try_from(trigger.job_id).unwrap_or(i64::MAX);
    let deadline_ms = i64::try_from(trigger.deadline_ms).unwrap_or(i64::MAX);
    let trigger_id = serde_json::to_string(&trigger.trigger_id).expect("a name has a JSON form");
    let change = connection.transaction()?;
    change
        .prepare_cached(
            "INSERT INTO accepted_triggers (station, job_id, trigger_id, named_part, part_id,
                 deadline_ms, recipe_index, accepted_wall_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            station,
            job_id,
            trigger_id,
            trigger.named_part,
            trigger.part_id,
            deadline_ms,
            trigger.recipe_index,
            trigger.accepted.as_millisecond(),
        ])?;
    change
        .prepare_cached("DELETE FROM accepted_triggers WHERE station = ?1 AND job_id <= ?2")?
        .execute(params![station, job_id.saturating_sub(ACCEPTED_KEPT)])?;
    change.commit()
}

/// Those that are kept, the oldest first; with each, whether there is an inspection of its job.
pub(super) fn accepted(
    connection: &Connection,
    station: &str,
) -> rusqlite::Result<Vec<(AcceptedTrigger, bool)>> {
    connection
        .prepare_cached(
            "SELECT job_id, trigger_id, named_part, part_id, deadline_ms, recipe_index,
                 accepted_wall_ms, EXISTS (SELECT 1 FROM inspections AS look
                     WHERE look.station = accepted.station AND look.job_id = accepted.job_id)
             FROM accepted_triggers AS accepted WHERE station = ?1 ORDER BY job_id",
        )?
        .query_map([station], accepted_row)?
        .collect()
}

fn accepted_row(row: &SqlRow<'_>) -> rusqlite::Result<(AcceptedTrigger, bool)> {
    let trigger_id: String = row.get(1)?;
    let trigger = AcceptedTrigger {
        job_id: row.get::<_, i64>(0)?.unsigned_abs(),
        // Only what was a name was written; anything else is somebody's who had the file.
        trigger_id: serde_json::from_str(&trigger_id).unwrap_or(ForeignId::Text(trigger_id)),
        named_part: row.get(2)?,
        part_id: row.get(3)?,
        deadline_ms: row.get::<_, i64>(4)?.unsigned_abs(),
        recipe_index: row.get(5)?,
        accepted: timestamp(row.get(6)?),
    };
    Ok((trigger, row.get(7)?))
}

/// The newest record's number, 0 if there is none.
pub(super) fn last_sequence(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(sequence), 0) FROM inspections")?
        .query_row([], |row| row.get(0))
}

/// The records of `station` beyond `sequence` that a controller asked for, the oldest first.
pub(super) fn asked_for_after(
    connection: &Connection,
    station: &str,
    sequence: i64,
) -> rusqlite::Result<Vec<(i64, Inspection)>> {
    connection
        .prepare_cached(
            "SELECT sequence, body FROM inspections
             WHERE station = ?1 AND sequence > ?2 AND body ->> '$.trigger_id' IS NOT NULL
             ORDER BY sequence",
        )?
        .query_map(params![station, sequence], |row| {
            let body: String = row.get(1)?;
            let inspection = serde_json::from_str(&body).map_err(|why| {
                rusqlite::Error::FromSqlConversionFailure(
                    1,
                    rusqlite::types::Type::Text,
                    Box::new(why),
                )
            })?;
            Ok((row.get(0)?, inspection))
        })?
        .collect()
}
