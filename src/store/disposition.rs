//! What a person decided about a result: a record of its own, which never changes the result.
//!
//! It is written beside a running daemon, by one short transaction under SQLite's own lock. The
//! alternative, a folder that the daemon picks up, would say "recorded" before it is, and nothing
//! would take it while the daemon is down. The daemon waits for the few milliseconds; its own
//! connection gives the lock five seconds.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use serde::{Deserialize, Serialize};

use super::append::event_body;
use super::chain::{self, ChainTime, Entry};
use super::error::StoreError;
use super::events::EventKind;
use super::open::open_beside;
use super::read;
use crate::clock::Clock;

/// Longest name of a person, in characters.
pub const NAME_MAX_CHARS: usize = 64;

/// Longest note, in characters.
pub const NOTE_MAX_CHARS: usize = 1000;

/// Most dispositions of one result that are shown.
const SHOWN_MAX: usize = 100;

/// What becomes of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// It is good.
    Pass,
    /// It is bad.
    Fail,
    /// It goes back to be made good.
    Rework,
    /// It is thrown away.
    Scrap,
    /// It has a defect and is used all the same.
    UseAsIs,
}

impl Disposition {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Disposition::Pass => "pass",
            Disposition::Fail => "fail",
            Disposition::Rework => "rework",
            Disposition::Scrap => "scrap",
            Disposition::UseAsIs => "use_as_is",
        }
    }
}

/// The body of a `disposition` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The result.
    pub result_id: String,
    /// Its number in the record.
    pub inspection: i64,
    /// The verdict that stands there, and stays.
    pub verdict: String,
    /// What the person decided.
    pub disposition: Disposition,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub note: Option<String>,
}

/// A decision with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The sequence number of its record.
    pub sequence: i64,
    /// When, by the wall clock.
    pub wall: jiff::Timestamp,
    /// What was decided.
    pub decision: Decision,
}

/// Records in the database at `path`, beside a running daemon or not, what `by` decided about the
/// result that is called `wanted` (see [`read::Reader::find`]); answers it with its place.
///
/// # Errors
/// A result that is not there, a name or note that does not fit, a database that cannot be written
/// or stays locked for more than five seconds.
pub fn record(
    path: &Path,
    clock: &dyn Clock,
    wanted: &str,
    disposition: Disposition,
    by: &str,
    note: Option<&str>,
) -> Result<Recorded, StoreError> {
    check_text("name", by, NAME_MAX_CHARS)?;
    note.map_or(Ok(()), |note| check_text("note", note, NOTE_MAX_CHARS))?;
    let mut connection = open_beside(path)?;
    let found = read::find(&connection, path, wanted)?.ok_or_else(|| StoreError::Disposition {
        why: format!(
            "there is no result \"{}\"; `inspectd audit list` shows them",
            wanted.escape_debug()
        ),
    })?;
    let decision = Decision {
        result_id: found.result_id,
        inspection: found.sequence,
        verdict: found.verdict.as_str().to_owned(),
        disposition,
        by: by.to_owned(),
        note: note.map(str::to_owned),
    };
    let body = event_body(EventKind::Disposition, &decision)?;
    let boot_id = clock.boot_id();
    let written: rusqlite::Result<chain::End> = (|| {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = ChainTime::now(clock, &boot_id);
        let end = chain::append(&change, &now, Entry::Event(EventKind::Disposition, &body))?;
        change.commit()?;
        Ok(end)
    })();
    let end = written.map_err(|why| StoreError::from_sql("record a disposition", path, why))?;
    let wall = read::timestamp(end.time.wall_ms);
    Ok(Recorded { sequence: end.sequence, wall, decision })
}

/// What was decided about a result, oldest first.
pub(super) fn of_result(
    connection: &Connection,
    result_id: &str,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut query = connection.prepare_cached(
        "SELECT sequence, wall_ms, body FROM chain
         WHERE kind = 'disposition' AND json_extract(body, '$.result_id') = ?1
         ORDER BY sequence LIMIT ?2",
    )?;
    let rows = query.query_map((result_id, SHOWN_MAX as i64), |row| {
        Ok((row.get(0)?, read::timestamp(row.get(1)?), row.get::<_, String>(2)?))
    })?;
    let mut all = Vec::new();
    for row in rows {
        let (sequence, wall, body) = row?;
        // One of a newer form is shown by `audit events`.
        if let Ok(decision) = serde_json::from_str(&body) {
            all.push(Recorded { sequence, wall, decision });
        }
    }
    Ok(all)
}

fn check_text(what: &str, text: &str, max_chars: usize) -> Result<(), StoreError> {
    let chars = text.chars().count();
    let why = if text.trim().is_empty() {
        format!("the {what} is empty")
    } else if chars > max_chars {
        format!("the {what} has {chars} characters, {max_chars} at most")
    } else if text.chars().any(char::is_control) {
        format!("the {what} holds control characters; write it on one line")
    } else {
        return Ok(());
    };
    Err(StoreError::Disposition { why })
}
