//! What can still be read of a damaged database goes into the new one: messages that were not sent,
//! the inspections that they tell of, and the newest inspection of each station, from which job
//! numbers go on.
//!
//! A scan stops where it meets damage, and another comes from the other end; so one damaged place
//! costs what lies in it.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params_from_iter};

use super::canonical::to_canonical_json;
use super::chain::{self, ChainTime, Entry, unwritable};
use super::events::{EventKind, Previous, Recovered};

const INSPECTION_COLUMNS: &str = "result_id, station, recipe, job_id, part_id, verdict, serial, \
                                  decided_wall_ms, latency_ms, is_simulated, body";

const MESSAGE_COLUMNS: &str =
    "id, result_id, station, kind, payload, created_wall_ms, quarantine_reason";

/// Copies from the file that `previous` names, if any, and appends the `recovered` event, in one
/// transaction. Damage of the old file is no error.
pub(super) fn rescue(
    new: &mut Connection,
    now: &ChainTime,
    previous: Previous,
) -> rusqlite::Result<Recovered> {
    let moved_to = previous.moved_to.clone();
    let mut recovered = Recovered {
        previous,
        inspections: 0,
        messages: 0,
        messages_without_inspection: 0,
        incomplete: false,
    };
    // A message whose inspection is lost is sent all the same.
    new.pragma_update(None, "foreign_keys", false)?;
    let change = new.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(old) = moved_to {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match Connection::open_with_flags(Path::new(&old), flags) {
            Ok(old) => Rescue { old, new: &change, now, told: &mut recovered }.run()?,
            Err(_) => recovered.incomplete = true,
        }
    }
    let body = to_canonical_json(&recovered).map_err(unwritable)?;
    chain::append(&change, now, Entry::Event(EventKind::Recovered, &body))?;
    change.commit()?;
    new.pragma_update(None, "foreign_keys", true)?;
    Ok(recovered)
}

struct Rescue<'r> {
    old: Connection,
    new: &'r Connection,
    now: &'r ChainTime,
    told: &'r mut Recovered,
}

impl Rescue<'_> {
    fn run(mut self) -> rusqlite::Result<()> {
        for id in self.unsent() {
            self.message(id)?;
        }
        for station in self.stations() {
            let sql = format!(
                "SELECT {INSPECTION_COLUMNS} FROM inspections
                 WHERE station = ?1 ORDER BY job_id DESC LIMIT 1"
            );
            if let Some(row) = self.read(&sql, Value::Text(station)) {
                self.inspection(row)?;
            }
        }
        Ok(())
    }

    /// The ids of the messages that can be found from either end, in their order.
    fn unsent(&mut self) -> Vec<i64> {
        let mut ids = self.scan("ASC", None);
        let from_end = self.scan("DESC", ids.last().copied());
        ids.extend(from_end.into_iter().rev());
        ids
    }

    /// The ids of unsent messages up to `end` or the first damage.
    fn scan(&mut self, order: &str, end: Option<i64>) -> Vec<i64> {
        let mut found = Vec::new();
        // The table itself is walked: an index may be damaged where the table is not.
        let sql = format!(
            "SELECT id FROM outbox NOT INDEXED WHERE sent_wall_ms IS NULL ORDER BY id {order}"
        );
        let mut read = || -> rusqlite::Result<()> {
            let mut query = self.old.prepare(&sql)?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let id = row.get(0)?;
                if Some(id) == end {
                    break;
                }
                found.push(id);
            }
            Ok(())
        };
        let failed = read().is_err();
        self.told.incomplete |= failed;
        found
    }

    fn stations(&mut self) -> Vec<String> {
        let mut stations = Vec::new();
        let mut read = || -> rusqlite::Result<()> {
            let mut query =
                self.old.prepare("SELECT DISTINCT station FROM inspections ORDER BY station")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                stations.push(row.get(0)?);
            }
            Ok(())
        };
        let failed = read().is_err();
        self.told.incomplete |= failed;
        stations
    }

    fn message(&mut self, id: i64) -> rusqlite::Result<()> {
        let sql = format!("SELECT {MESSAGE_COLUMNS} FROM outbox WHERE id = ?1");
        let Some(row) = self.read(&sql, Value::Integer(id)) else { return Ok(()) };
        let sql = format!("SELECT {INSPECTION_COLUMNS} FROM inspections WHERE result_id = ?1");
        let inspection = self.read(&sql, row[1].clone());
        let has_inspection = match inspection {
            Some(inspection) => self.inspection(inspection)?,
            None => false,
        };
        let sql =
            format!("INSERT INTO outbox ({MESSAGE_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        if self.insert(&sql, row)? {
            self.told.messages += 1;
            self.told.messages_without_inspection += u64::from(!has_inspection);
        }
        Ok(())
    }

    /// Copies an inspection as a new record; answers whether it is there now.
    fn inspection(&mut self, row: Vec<Value>) -> rusqlite::Result<bool> {
        let known = "SELECT 1 FROM inspections WHERE result_id = ?1";
        if self.new.prepare_cached(known)?.exists([&row[0]])? {
            return Ok(true);
        }
        let body = match row.last() {
            Some(Value::Text(body)) => body.clone(),
            _ => return Ok(false),
        };
        let sql = format!(
            "INSERT INTO inspections ({INSPECTION_COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        );
        if !self.insert(&sql, row)? {
            return Ok(false);
        }
        let number = self.new.last_insert_rowid();
        chain::append(self.new, self.now, Entry::Inspection(number, &body))?;
        self.told.inspections += 1;
        Ok(true)
    }

    /// One row of the old file; `None` if it is not there or cannot be read.
    fn read(&mut self, sql: &str, key: Value) -> Option<Vec<Value>> {
        let look = || -> rusqlite::Result<Option<Vec<Value>>> {
            let mut query = self.old.prepare_cached(sql)?;
            let columns = query.column_count();
            let mut rows = query.query([&key])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>().map(Some)
        };
        let found = look();
        self.told.incomplete |= found.is_err();
        found.ok().flatten()
    }

    /// Inserts a row as it was read; `false` if the new table refuses it, as nonsense from a damaged
    /// page is refused.
    fn insert(&mut self, sql: &str, row: Vec<Value>) -> rusqlite::Result<bool> {
        match self.new.prepare_cached(sql)?.execute(params_from_iter(row)) {
            Ok(_) => Ok(true),
            Err(why) if why.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.told.incomplete = true;
                Ok(false)
            }
            Err(why) => Err(why),
        }
    }
}
