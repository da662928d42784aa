//! The outbox: what is to be delivered, kept until the broker has said that it has it.
//!
//! What always holds:
//!
//! 1. A message is written in the transaction of the inspection that it tells of. Neither exists
//!    without the other.
//! 2. Its bytes are made once and never change. When it is sent, one member (`replayed`: whether it
//!    is sent late) is put before the others, by the rule in `publish/envelope.rs`, and nothing else:
//!    sent again, it is the same to the byte but for that member, and its `result_id` lets a receiver
//!    drop the second copy.
//! 3. A row is in one of three states, and moves only along these arrows:
//!
//!    ```text
//!    unsent ──PUBACK──→ sent ──prune──→ deleted
//!       └───can never be sent──→ quarantined
//!    ```
//!
//! 4. It is marked sent on its PUBACK and on nothing else. A crash between the two sends it once
//!    more; nothing sends it less than once.
//! 5. Unsent rows are read in the order of `id`, which is the order of commits: those of the last
//!    seconds and older ones apart, so that what is live need not wait for what is late.
//! 6. Only sent rows are deleted, and never the newest sent one of a station: it is the retained
//!    `last` message, to be set again when a broker comes back without its memory.
//!
//! | column            | unsent | sent | quarantined |
//! |-------------------|--------|------|-------------|
//! | sent_wall_ms      | NULL   | time | NULL        |
//! | quarantine_reason | NULL   | NULL | text        |
//!
//! Triggers in `schema/0001_record.sql` enforce 2, 3 and the first half of 6.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::audit;

/// Longest quarantine reason kept, in bytes.
const REASON_MAX_BYTES: usize = 500;

/// Most rows that one call of [`prune_sent`] deletes: a long delete would keep a commit waiting.
pub(super) const PRUNE_MAX_ROWS: usize = 250;

/// Which family of topics a message belongs to. The topic itself is made when it is sent, so that a
/// corrected prefix also holds for what still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// The result of one inspection.
    Result,
}

impl TopicKind {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            TopicKind::Result => "result",
        }
    }
}

/// A message to be committed with its inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its family of topics.
    pub kind: TopicKind,
    /// The bytes to send.
    pub payload: Vec<u8>,
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Counts up in the order of commits.
    pub id: i64,
    /// The result that it tells of.
    pub result_id: String,
    /// The station of that result.
    pub station: String,
    /// Its family of topics.
    pub kind: TopicKind,
    /// The bytes to send.
    pub payload: Vec<u8>,
    /// When it was committed, by the wall clock.
    pub created: jiff::Timestamp,
}

/// How the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxState {
    /// Messages that wait.
    pub unsent: u64,
    /// Messages that were put aside because they can never be sent.
    pub quarantined: u64,
    /// How long the oldest unsent message has waited, by the wall clock; `None` if none waits.
    pub oldest_age: Option<Duration>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its family of topics, as the word in the table.
    pub kind: String,
    /// When it was committed.
    pub created: jiff::Timestamp,
    /// When the broker acknowledged it.
    pub sent: Option<jiff::Timestamp>,
    /// Why it can never be sent.
    pub quarantine_reason: Option<String>,
}

/// Adds one message for `row`, inside the caller's transaction.
pub(super) fn insert(
    connection: &Connection,
    row: &audit::Row<'_>,
    message: &OutboxMessage,
    now_wall_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (result_id, station, kind, payload, created_wall_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            row.result_id,
            row.station(),
            message.kind.as_str(),
            message.payload,
            now_wall_ms
        ])
        .map(drop)
}

/// Unsent rows with an id above `after` and up to `upto`, at most `limit`, oldest first, without
/// those of the stations `but`.
pub(super) fn unsent(
    connection: &Connection,
    limit: usize,
    after: i64,
    upto: i64,
    but: &[String],
) -> rusqlite::Result<Vec<OutboxRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let but = serde_json::Value::from(but).to_string();
    connection
        .prepare_cached(
            "SELECT id, result_id, station, payload, created_wall_ms FROM outbox
             WHERE sent_wall_ms IS NULL AND quarantine_reason IS NULL AND id > ?1 AND id <= ?2
               AND station NOT IN (SELECT value FROM json_each(?3))
             ORDER BY id LIMIT ?4",
        )?
        .query_map(params![after, upto, but, limit], outbox_row)?
        .collect()
}

/// The highest id; 0 if there is no row.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce(max(id), 0) FROM outbox")?
        .query_row([], |row| row.get(0))
}

/// Notes the acknowledgement of `ids` in one transaction.
pub(super) fn mark_sent(
    connection: &mut Connection,
    ids: &[i64],
    now_wall_ms: i64,
) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    {
        let mut mark = change.prepare_cached(
            "UPDATE outbox SET sent_wall_ms = ?2
             WHERE id = ?1 AND sent_wall_ms IS NULL AND quarantine_reason IS NULL",
        )?;
        for id in ids {
            mark.execute([*id, now_wall_ms])?;
        }
    }
    change.commit()
}

/// Puts an unsent row aside.
pub(super) fn quarantine(connection: &Connection, id: i64, reason: &str) -> rusqlite::Result<()> {
    let kept = &reason[..reason.floor_char_boundary(REASON_MAX_BYTES)];
    connection
        .prepare_cached(
            "UPDATE outbox SET quarantine_reason = ?2
             WHERE id = ?1 AND sent_wall_ms IS NULL AND quarantine_reason IS NULL",
        )?
        .execute(params![id, kept])
        .map(drop)
}

/// The newest sent row of `station`.
pub(super) fn last_sent(
    connection: &Connection,
    station: &str,
) -> rusqlite::Result<Option<OutboxRow>> {
    connection
        .prepare_cached(
            "SELECT id, result_id, station, payload, created_wall_ms FROM outbox
             WHERE station = ?1 AND sent_wall_ms IS NOT NULL ORDER BY id DESC LIMIT 1",
        )?
        .query_row([station], outbox_row)
        .optional()
}

/// Deletes sent rows that have at least `keep_rows` newer rows, sent or not, except the newest sent one
/// of each station. It goes from station to station by the index of sent rows: what waits, be it a
/// million rows, is not looked at.
pub(super) fn prune_sent(connection: &Connection, keep_rows: usize) -> rusqlite::Result<usize> {
    let keep_rows = i64::try_from(keep_rows).unwrap_or(i64::MAX);
    let upto = newest(connection)?.saturating_sub(keep_rows);
    let mut left = PRUNE_MAX_ROWS;
    let mut station = String::new();
    while left > 0 {
        let Some((next, newest_sent)) = next_with_sent(connection, &station)? else { break };
        left -= connection
            .prepare_cached(
                "DELETE FROM outbox WHERE id IN (
                     SELECT id FROM outbox WHERE station = ?1 AND sent_wall_ms IS NOT NULL
                     AND id <= ?2 AND id < ?3 ORDER BY id LIMIT ?4)",
            )?
            .execute(params![next, upto, newest_sent, left.cast_signed()])?;
        station = next;
    }
    Ok(PRUNE_MAX_ROWS - left)
}

/// The first station after `station`, by name, that has sent rows, and the newest of these.
fn next_with_sent(
    connection: &Connection,
    station: &str,
) -> rusqlite::Result<Option<(String, i64)>> {
    connection
        .prepare_cached(
            "SELECT station, (SELECT max(id) FROM outbox AS sent
                              WHERE sent.station = next.station AND sent_wall_ms IS NOT NULL)
             FROM (SELECT min(station) AS station FROM outbox
                   WHERE sent_wall_ms IS NOT NULL AND station > ?1) AS next
             WHERE station IS NOT NULL",
        )?
        .query_row([station], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Counts, for `now_wall_ms`. A wall clock that was set back makes the age zero, not negative.
pub(super) fn state(connection: &Connection, now_wall_ms: i64) -> rusqlite::Result<OutboxState> {
    let (unsent, quarantined, oldest): (i64, i64, Option<i64>) = connection
        .prepare_cached(
            "SELECT
                 (SELECT count(*) FROM outbox
                  WHERE sent_wall_ms IS NULL AND quarantine_reason IS NULL),
                 (SELECT count(*) FROM outbox WHERE quarantine_reason IS NOT NULL),
                 (SELECT created_wall_ms FROM outbox
                  WHERE sent_wall_ms IS NULL AND quarantine_reason IS NULL ORDER BY id LIMIT 1)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let age = |created: i64| {
        Duration::from_millis(u64::try_from(now_wall_ms.saturating_sub(created)).unwrap_or(0))
    };
    Ok(OutboxState {
        unsent: unsent.unsigned_abs(),
        quarantined: quarantined.unsigned_abs(),
        oldest_age: oldest.map(age),
    })
}

/// What became of the messages of one result.
pub(super) fn deliveries(
    connection: &Connection,
    result_id: &str,
) -> rusqlite::Result<Vec<Delivery>> {
    connection
        .prepare_cached(
            "SELECT kind, created_wall_ms, sent_wall_ms, quarantine_reason FROM outbox
             WHERE result_id = ?1 ORDER BY id",
        )?
        .query_map([result_id], |row| {
            Ok(Delivery {
                kind: row.get(0)?,
                created: super::read::timestamp(row.get(1)?),
                sent: row.get::<_, Option<i64>>(2)?.map(super::read::timestamp),
                quarantine_reason: row.get(3)?,
            })
        })?
        .collect()
}

fn outbox_row(row: &SqlRow<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        id: row.get(0)?,
        result_id: row.get(1)?,
        station: row.get(2)?,
        // The table's CHECK allows one word only.
        kind: TopicKind::Result,
        payload: row.get(3)?,
        created: super::read::timestamp(row.get(4)?),
    })
}
