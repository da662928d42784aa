//! Reading the record, while a daemon writes it or not.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params_from_iter};

use super::disposition::{self, Recorded};
use super::error::StoreError;
use super::events::EventKind;
use super::outbox::{self, Delivery};
use crate::inspection::Inspection;
use crate::verdict::Outcome;
use crate::verdict::serial::{Earlier, EarlierQuery};

/// Rows that one query brings. A long read would keep the write-ahead log from being cut, so a
/// long list is read in pages.
const PAGE_ROWS: i64 = 500;

/// Which records are asked for. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only this station.
    pub station: Option<String>,
    /// Only this verdict.
    pub verdict: Option<Outcome>,
    /// Only this serial number, the whole of it.
    pub serial: Option<String>,
    /// Decided at this time or later.
    pub since: Option<Timestamp>,
    /// Decided before this time.
    pub until: Option<Timestamp>,
    /// Only the newest so many of what is left.
    pub last: Option<u32>,
}

/// One record: the columns of its row, and the whole as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number in the record, from 1, in the order of commits.
    pub sequence: i64,
    /// The result's name.
    pub result_id: String,
    /// The station.
    pub station: String,
    /// The recipe.
    pub recipe: String,
    /// Which trigger of the station.
    pub job_id: i64,
    /// The part.
    pub part_id: String,
    /// What was decided.
    pub verdict: Outcome,
    /// The serial number that was read.
    pub serial: Option<String>,
    /// When, to the millisecond.
    pub decided_wall: Timestamp,
    /// From the trigger to the verdict.
    pub latency_ms: Option<f64>,
    /// Not from a line.
    pub is_simulated: bool,
    /// The whole inspection as canonical JSON.
    pub body: String,
}

impl Record {
    /// The whole inspection; `Unreadable` if it has another form than this program knows.
    pub fn inspection(&self) -> Result<Inspection, StoreError> {
        serde_json::from_str(&self.body)
            .map_err(|why| StoreError::Unreadable { sequence: self.sequence, why: why.to_string() })
    }
}

/// A read-only connection to the record.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

impl Reader {
    /// Opens the database at `path` for reading.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let connection = super::open::open_for_reading(path)?;
        Ok(Reader { path: path.to_owned(), connection })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection, for rooms of the store that ask what is not asked here.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How many records `filter` finds.
    pub fn count(&self, filter: &Filter) -> Result<u64, StoreError> {
        let (terms, values) = terms(filter);
        let sql = format!("SELECT count(*) FROM inspections WHERE {terms}");
        let found: i64 = self.sql("count records", |connection| {
            connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))
        })?;
        let most = filter.last.map_or(u64::MAX, u64::from);
        Ok(found.unsigned_abs().min(most))
    }

    /// The records that `filter` finds, oldest first. All at once: for a list that may be long
    /// there is [`Reader::scan`].
    pub fn list(&self, filter: &Filter) -> Result<Vec<Record>, StoreError> {
        let mut all = Vec::new();
        self.scan(filter, |record| {
            all.push(record.clone());
            Ok::<(), StoreError>(())
        })?;
        Ok(all)
    }

    /// Shows `visit` each record that `filter` finds, oldest first; stops at its first error.
    /// Records that are committed meanwhile are left out.
    pub fn scan<E: From<StoreError>>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let (terms, values) = terms(filter);
        let Some((mut after, newest)) = self.bounds(filter.last, &terms, &values)? else {
            return Ok(());
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM inspections
             WHERE {terms} AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT {PAGE_ROWS}"
        );
        loop {
            let mut values = values.clone();
            values.extend([SqlValue::Integer(after), SqlValue::Integer(newest)]);
            let page: Vec<Record> = self.sql("read records", |connection| {
                let mut query = connection.prepare_cached(&sql)?;
                query.query_map(params_from_iter(values), record)?.collect()
            })?;
            for record in &page {
                visit(record)?;
            }
            match page.last() {
                Some(last) => after = last.sequence,
                None => return Ok(()),
            }
        }
    }

    /// The records above `sequence`, oldest first, `limit` at most.
    pub fn after(&self, sequence: i64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM inspections WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.sql("read records", |connection| {
            connection.prepare_cached(&sql)?.query_map([sequence, limit], record)?.collect()
        })
    }

    /// The sequence number of the newest record; 0 while there is none.
    pub fn newest(&self) -> Result<i64, StoreError> {
        self.sql("look up the newest record", |connection| {
            let sql = "SELECT coalesce(max(sequence), 0) FROM inspections";
            connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
        })
    }

    /// The record that is called `wanted`: its sequence number, its result_id, or the beginning of
    /// that, from 8 characters on. `Ambiguous` if more than one begins so.
    pub fn find(&self, wanted: &str) -> Result<Option<Record>, StoreError> {
        find(&self.connection, &self.path, wanted)
    }

    /// What operators said about the result, oldest first.
    pub fn dispositions(&self, result_id: &str) -> Result<Vec<Recorded>, StoreError> {
        self.sql("read dispositions", |connection| disposition::of_result(connection, result_id))
    }

    /// When retention last removed the picture with this digest, by the wall clock; `None` if it did
    /// not.
    pub fn removed(&self, sha256: &str) -> Result<Option<Timestamp>, StoreError> {
        self.sql("look up a removed picture", |connection| {
            connection
                .prepare_cached(
                    "SELECT wall_ms FROM chain WHERE kind = ?1 AND inspection IS NULL
                     AND instr(body, ?2) ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([EventKind::Retention.as_str(), sha256], |row| row.get(0))
                .optional()
        })
        .map(|found| found.map(timestamp))
    }

    /// What became of the messages of one result.
    pub fn deliveries(&self, result_id: &str) -> Result<Vec<Delivery>, StoreError> {
        self.sql("read the outbox", |connection| outbox::deliveries(connection, result_id))
    }

    /// The highest job number that was recorded for `station`.
    pub fn last_job_id(&self, station: &str) -> Result<Option<u64>, StoreError> {
        self.sql("look up the last job", |connection| last_job_id(connection, station))
    }

    /// As [`super::Store::earlier_serial`].
    pub fn earlier_serial(&self, query: &EarlierQuery<'_>) -> Result<Option<Earlier>, StoreError> {
        self.sql("look up a serial", |connection| super::serials::earlier(connection, query))
    }

    /// The sequence numbers between which to look: above the first, up to the second.
    fn bounds(
        &self,
        last: Option<u32>,
        terms: &str,
        values: &[SqlValue],
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let nth = |offset: u32| -> Result<Option<i64>, StoreError> {
            let sql = format!(
                "SELECT sequence FROM inspections WHERE {terms}
                 ORDER BY sequence DESC LIMIT 1 OFFSET {offset}"
            );
            self.sql("read records", |connection| {
                let mut query = connection.prepare_cached(&sql)?;
                query.query_row(params_from_iter(values.to_vec()), |row| row.get(0)).optional()
            })
        };
        if last == Some(0) {
            return Ok(None);
        }
        let Some(newest) = nth(0)? else { return Ok(None) };
        let oldest = match last {
            Some(last) => nth(last - 1)?,
            None => None,
        };
        Ok(Some((oldest.map_or(0, |oldest| oldest - 1), newest)))
    }

    fn sql<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|why| StoreError::from_sql(doing, &self.path, why))
    }
}

/// The record that is called `wanted`, see [`Reader::find`].
pub(super) fn find(
    connection: &Connection,
    path: &Path,
    wanted: &str,
) -> Result<Option<Record>, StoreError> {
    let (term, value) = match wanted.parse::<i64>() {
        // Digits alone may also begin a result_id: the number wins, and a longer beginning
        // holds a letter or a dash soon.
        Ok(sequence) => ("sequence = ?1", SqlValue::Integer(sequence)),
        // A range and not LIKE: it uses the index. "g" stands after every character of an id.
        Err(_) => {
            let beginning = SqlValue::Text(wanted.to_ascii_lowercase());
            ("result_id >= ?1 AND result_id < ?1 || 'g'", beginning)
        }
    };
    if matches!(value, SqlValue::Text(_)) && wanted.len() < 8 {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM inspections WHERE {term} LIMIT 2");
    let look = || -> rusqlite::Result<Vec<Record>> {
        connection.prepare_cached(&sql)?.query_map([value], record)?.collect()
    };
    let mut found = look().map_err(|why| StoreError::from_sql("look up a record", path, why))?;
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(StoreError::Ambiguous { wanted: wanted.to_owned() }),
    }
}

/// The highest job number of `station`.
pub(super) fn last_job_id(connection: &Connection, station: &str) -> rusqlite::Result<Option<u64>> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT max(job_id) FROM inspections WHERE station = ?1")?
        .query_row([station], |row| row.get(0))?;
    Ok(found.map(i64::unsigned_abs))
}

/// A time from its column; one outside of what the type holds becomes 1970.
pub(super) fn timestamp(wall_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

const COLUMNS: &str = "sequence, result_id, station, recipe, job_id, part_id, verdict, serial, \
                       decided_wall_ms, latency_ms, is_simulated, body";

fn record(row: &SqlRow<'_>) -> rusqlite::Result<Record> {
    let verdict: String = row.get(6)?;
    Ok(Record {
        sequence: row.get(0)?,
        result_id: row.get(1)?,
        station: row.get(2)?,
        recipe: row.get(3)?,
        job_id: row.get(4)?,
        part_id: row.get(5)?,
        verdict: match verdict.as_str() {
            "pass" => Outcome::Pass,
            "fail" => Outcome::Fail,
            // The table's CHECK allows no fourth word; if there is one, a person must look.
            _ => Outcome::Review,
        },
        serial: row.get(7)?,
        decided_wall: timestamp(row.get(8)?),
        latency_ms: row.get(9)?,
        is_simulated: row.get(10)?,
        body: row.get(11)?,
    })
}

/// The filter as SQL with its values, in order. Nothing that a person typed stands in the SQL.
fn terms(filter: &Filter) -> (String, Vec<SqlValue>) {
    let mut terms = vec!["1".to_owned()];
    let mut values = Vec::new();
    let mut add = |term: &str, value: Option<SqlValue>| {
        if let Some(value) = value {
            terms.push(term.to_owned());
            values.push(value);
        }
    };
    // The times are whole milliseconds in the table: a bound between two of them is rounded up, so
    // that `since` includes and `until` excludes its own moment.
    let wall_ms = |time: Timestamp| {
        let rest = i64::from(time.as_nanosecond().rem_euclid(1_000_000) != 0);
        SqlValue::Integer(time.as_nanosecond().div_euclid(1_000_000) as i64 + rest)
    };
    add("station = ?", filter.station.clone().map(SqlValue::Text));
    add("verdict = ?", filter.verdict.map(|verdict| SqlValue::Text(verdict.as_str().to_owned())));
    add("serial = ?", filter.serial.clone().map(SqlValue::Text));
    add("decided_wall_ms >= ?", filter.since.map(wall_ms));
    add("decided_wall_ms < ?", filter.until.map(wall_ms));
    (terms.join(" AND "), values)
}
