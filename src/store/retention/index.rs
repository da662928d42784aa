//! The index of pictures: which there are, how large, and which records name them.
//!
//! The record itself is in order of time and a year of it is millions of rows, so what retention
//! asks for is kept beside it, in `inspectd.db.pictures`, and read on from the record a bounded
//! number of rows at a time. A file that is missing, damaged or of another record is made anew.

use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use serde::Deserialize;

use super::decide::{Candidate, Class, Need, Rank};
use crate::store::disposition::{Decision, Disposition};
use crate::store::error::StoreError;
use crate::store::events::EventKind;
use crate::store::evidence;
use crate::store::read::Reader;
use crate::verdict::{NOT_SAMPLED, Outcome};

/// The form of the file; another one is made anew.
const VERSION: i64 = 1;

/// Records read in one transaction.
const PAGE_ROWS: i64 = 500;

/// What of a record says which pictures it needs, and what for. All else is passed over, so that a
/// record of another version can be read as long as it has these.
#[derive(Deserialize)]
struct Body {
    evidence: Vec<Picture>,
    #[serde(default)]
    questions: Vec<serde::de::IgnoredAny>,
    times: Times,
    verdict: Judged,
}

#[derive(Deserialize)]
struct Picture {
    sha256: String,
}

#[derive(Deserialize)]
struct Times {
    clock_synchronized: bool,
}

#[derive(Deserialize)]
struct Judged {
    outcome: Outcome,
    reasons: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

impl Body {
    fn class(&self) -> Class {
        let is_missed = self.questions.is_empty();
        match self.verdict.outcome {
            Outcome::Pass => Class::Pass,
            Outcome::Fail => Class::Fail,
            Outcome::Review if !is_missed => Class::Review,
            Outcome::Review => {
                let skipped = self.verdict.reasons.iter().any(|reason| reason.code == NOT_SAMPLED);
                if skipped { Class::NotSampled } else { Class::Missed }
            }
        }
    }
}

/// The file, open.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    connection: Connection,
}

impl Index {
    /// The index beside the database of `reader`.
    pub(super) fn path(reader: &Reader) -> PathBuf {
        let mut name = reader.path().as_os_str().to_owned();
        name.push(".pictures");
        PathBuf::from(name)
    }

    /// Opens the index of the record that `reader` reads, or makes an empty one.
    pub(super) fn open(reader: &Reader) -> Result<Index, StoreError> {
        let path = Index::path(reader);
        if let Ok(index) = Index::with(&path, Connection::open(&path))
            && index.fits(reader).unwrap_or(false)
        {
            return Ok(index);
        }
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            // What was not there need not go; what cannot go shows itself below.
            let _ = std::fs::remove_file(name);
        }
        Index::with(&path, Connection::open(&path))
    }

    /// An index that leaves nothing behind, for a look at what would go.
    pub(super) fn in_memory() -> Result<Index, StoreError> {
        Index::with(Path::new(":memory:"), Connection::open_in_memory())
    }

    fn with(path: &Path, opened: rusqlite::Result<Connection>) -> Result<Index, StoreError> {
        let sql = |why| StoreError::from_sql("open the index of pictures", path, why);
        let connection = opened.map_err(sql)?;
        let prepare = || -> rusqlite::Result<()> {
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            // A power cut may take back what was read last: it is read again.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(concat!(
                    "BEGIN;",
                    include_str!("index.sql"),
                    "COMMIT;"
                ))?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            Ok(())
        };
        prepare().map_err(sql)?;
        Ok(Index { path: path.to_owned(), connection })
    }

    /// Whether it is of this form, and what was read last is in this record.
    fn fits(&self, reader: &Reader) -> Result<bool, StoreError> {
        let version: i64 = self
            .sql(|connection| connection.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
        let last: Option<String> = self.state("read_result")?;
        let there: Option<String> = reader
            .connection()
            .query_row(
                "SELECT result_id FROM inspections WHERE sequence = ?1",
                [self.read_up_to()?],
                |row| row.get(0),
            )
            .optional()
            .map_err(|why| StoreError::from_sql("read records", reader.path(), why))?;
        Ok(version == VERSION && last == there)
    }

    /// The number of the last record that was read.
    pub(super) fn read_up_to(&self) -> Result<i64, StoreError> {
        Ok(self.state("read_up_to")?.unwrap_or(0))
    }

    /// The time that was believed last, or of the last record whose clock was right.
    pub(super) fn believed_ms(&self) -> Result<Option<i64>, StoreError> {
        match self.state("believed_ms")? {
            Some(believed) => Ok(Some(believed)),
            None => self.state("recorded_ms"),
        }
    }

    /// The time that the daemon of the record that `reader` reads believed last, if there is one.
    pub(super) fn kept_belief_ms(reader: &Reader) -> Option<i64> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let kept = Connection::open_with_flags(Index::path(reader), flags).ok()?;
        let sql = "SELECT value FROM state WHERE name = 'believed_ms'";
        kept.query_row(sql, [], |row| row.get(0)).ok()
    }

    /// Keeps the time that is believed.
    pub(super) fn believe(&self, believed_ms: i64) -> Result<(), StoreError> {
        self.sql(|connection| set(connection, "believed_ms", believed_ms))
    }

    /// Reads at most `most` more records of `reader`, whose pictures lie in `evidence_dir`. `true`:
    /// all are read.
    pub(super) fn read_on(
        &mut self,
        reader: &Reader,
        evidence_dir: &Path,
        most: u64,
    ) -> Result<bool, StoreError> {
        let mut read = 0;
        while read < most {
            let page = next_page(reader, self.read_up_to()?)?;
            read += page.len() as u64;
            let Some((sequence, result_id, _, _)) = page.last() else { return Ok(true) };
            let (sequence, result_id) = (*sequence, result_id.clone());
            let path = self.path.clone();
            let write = |connection: &mut Connection| -> rusqlite::Result<()> {
                let change = connection.transaction()?;
                for (sequence, _, wall_ms, body) in &page {
                    take(&change, evidence_dir, *sequence, *wall_ms, body)?;
                }
                set(&change, "read_up_to", sequence)?;
                set(&change, "read_result", result_id)?;
                change.commit()
            };
            write(&mut self.connection)
                .map_err(|why| StoreError::from_sql("write the index of pictures", &path, why))?;
        }
        Ok(false)
    }

    /// Reads on which records persons have decided about, a bounded number of them. `true`: all that
    /// are about records read before are read.
    pub(super) fn read_decisions(
        &mut self,
        reader: &Reader,
        evidence_dir: &Path,
    ) -> Result<bool, StoreError> {
        let after = self.state("decided_up_to")?.unwrap_or(0);
        let page = next_decisions(reader, after, self.read_up_to()?)?;
        let Some(last) = page.last().map(|decided| decided.sequence) else { return Ok(true) };
        let path = self.path.clone();
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let change = connection.transaction()?;
            for decided in &page {
                let Ok(body) = serde_json::from_str::<Body>(&decided.body) else { continue };
                let need = decided.need(&body);
                add_all(&change, evidence_dir, &body, &need)?;
            }
            set(&change, "decided_up_to", last)?;
            change.commit()
        };
        write(&mut self.connection)
            .map_err(|why| StoreError::from_sql("write the index of pictures", &path, why))?;
        Ok((page.len() as i64) < PAGE_ROWS)
    }

    /// Bytes of all pictures.
    pub(super) fn total_bytes(&self) -> Result<u64, StoreError> {
        let sum = |connection: &Connection| {
            connection.query_row("SELECT coalesce(sum(bytes), 0) FROM files", [], |row| {
                row.get::<_, i64>(0)
            })
        };
        Ok(self.sql(sum)?.unsigned_abs())
    }

    /// Of each of `ranks` the `most` pictures that go first.
    pub(super) fn candidates(
        &self,
        ranks: &[Rank],
        most: usize,
    ) -> Result<Vec<Candidate>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.sql(|connection| {
            let mut files = connection.prepare_cached(
                "SELECT sha256, bytes FROM files WHERE rank = ?1 ORDER BY sequence LIMIT ?2",
            )?;
            let mut found = Vec::new();
            for rank in ranks {
                let mut rows = files.query(params![*rank as i64, most])?;
                while let Some(row) = rows.next()? {
                    let sha256: String = row.get(0)?;
                    let bytes = row.get::<_, i64>(1)?.unsigned_abs();
                    let needs = needs(connection, &sha256)?;
                    found.push(Candidate { sha256, bytes, needs });
                }
            }
            Ok(found)
        })
    }

    /// Forgets pictures that are gone.
    pub(super) fn forget<'s>(
        &mut self,
        gone: impl Iterator<Item = &'s str>,
    ) -> Result<(), StoreError> {
        let path = self.path.clone();
        let forget = || -> rusqlite::Result<()> {
            let change = self.connection.transaction()?;
            for sha256 in gone {
                change.prepare_cached("DELETE FROM files WHERE sha256 = ?1")?.execute([sha256])?;
            }
            change.commit()
        };
        forget().map_err(|why| StoreError::from_sql("write the index of pictures", &path, why))
    }

    fn state<T: FromSql>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.sql(|connection| {
            connection
                .prepare_cached("SELECT value FROM state WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })
    }

    fn sql<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection)
            .map_err(|why| StoreError::from_sql("use the index of pictures", &self.path, why))
    }
}

type Row = (i64, String, i64, String);

/// The next records of the log: number, result, time of the verdict, body.
fn next_page(reader: &Reader, after: i64) -> Result<Vec<Row>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Row>> {
        reader
            .connection()
            .prepare_cached(
                "SELECT sequence, result_id, decided_wall_ms, body FROM inspections
                 WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )?
            .query_map([after, PAGE_ROWS], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect()
    };
    read().map_err(|why| StoreError::from_sql("read records", reader.path(), why))
}

/// What a person decided about a record, with that record.
struct Decided {
    sequence: i64,
    inspection: i64,
    disposition: Option<Disposition>,
    wall_ms: i64,
    body: String,
}

impl Decided {
    /// What its record needs its pictures for, now.
    fn need(&self, body: &Body) -> Need {
        let class = match body.class() {
            // Found bad afterwards: it is kept as a fail is.
            Class::Pass if self.disposition != Some(Disposition::Pass) => Class::Fail,
            class => class,
        };
        let wall_ms = body.times.clock_synchronized.then_some(self.wall_ms);
        Need { class, sequence: self.inspection, wall_ms, is_decided: self.disposition.is_some() }
    }
}

/// The next decisions of the chain after number `after`, up to the first one about a record beyond
/// `read_up_to`.
fn next_decisions(
    reader: &Reader,
    after: i64,
    read_up_to: i64,
) -> Result<Vec<Decided>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Decided>> {
        let mut query = reader.connection().prepare_cached(
            "SELECT chain.sequence, chain.body, seen.sequence, seen.decided_wall_ms, seen.body
             FROM chain JOIN inspections AS seen
                 ON seen.result_id = json_extract(chain.body, '$.result_id')
             WHERE chain.kind = ?1 AND chain.inspection IS NULL AND chain.sequence > ?2
             ORDER BY chain.sequence LIMIT ?3",
        )?;
        let mut rows = query.query(params![EventKind::Disposition.as_str(), after, PAGE_ROWS])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let inspection = row.get(2)?;
            if inspection > read_up_to {
                break;
            }
            // One of another form decides nothing here.
            let told: Option<Decision> = serde_json::from_str(&row.get::<_, String>(1)?).ok();
            found.push(Decided {
                sequence: row.get(0)?,
                inspection,
                disposition: told.map(|told| told.disposition),
                wall_ms: row.get(3)?,
                body: row.get(4)?,
            });
        }
        Ok(found)
    };
    read().map_err(|why| StoreError::from_sql("read dispositions", reader.path(), why))
}

/// Takes one record up. One that cannot be read names no picture that is known here, and what only
/// it names is never removed.
fn take(
    change: &Transaction<'_>,
    evidence_dir: &Path,
    sequence: i64,
    wall_ms: i64,
    body: &str,
) -> rusqlite::Result<()> {
    let Ok(body) = serde_json::from_str::<Body>(body) else { return Ok(()) };
    let is_right = body.times.clock_synchronized;
    if is_right {
        // Those before it, by a clock that was not right, are at least as old as this one.
        change
            .prepare_cached("UPDATE needs SET wall_ms = ?1 WHERE wall_ms IS NULL")?
            .execute([wall_ms])?;
        set(change, "recorded_ms", wall_ms)?;
    }
    let wall_ms = is_right.then_some(wall_ms);
    let need = Need { class: body.class(), sequence, wall_ms, is_decided: false };
    add_all(change, evidence_dir, &body, &need)
}

/// Notes that the record with this `body` needs its pictures, those that are there.
fn add_all(
    change: &Transaction<'_>,
    evidence_dir: &Path,
    body: &Body,
    need: &Need,
) -> rusqlite::Result<()> {
    for picture in &body.evidence {
        if let Ok(file) = std::fs::metadata(evidence::path(evidence_dir, &picture.sha256)) {
            add(change, &picture.sha256, file.len(), need)?;
        }
    }
    Ok(())
}

fn add(change: &Transaction<'_>, sha256: &str, bytes: u64, need: &Need) -> rusqlite::Result<()> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    change
        .prepare_cached(
            "INSERT INTO files (sha256, bytes, rank, sequence) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET bytes = excluded.bytes",
        )?
        .execute(params![sha256, bytes, need.rank() as i64, need.sequence])?;
    // The same record once more, decided about: what it was before no longer counts. Of classes that
    // wait for nobody, the newest record holds the picture longest, and alone is kept.
    let supersedes = !matches!(need.class, Class::Missed | Class::Review);
    change
        .prepare_cached(
            "DELETE FROM needs WHERE sha256 = ?1
             AND (sequence = ?2 OR (?3 AND class = ?4 AND sequence < ?2))",
        )?
        .execute(params![sha256, need.sequence, supersedes, need.class as i64])?;
    change
        .prepare_cached(
            "INSERT INTO needs (sha256, class, sequence, wall_ms, is_decided)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            sha256,
            need.class as i64,
            need.sequence,
            need.wall_ms,
            need.is_decided
        ])?;
    let needs = needs(change, sha256)?;
    let one = Candidate { sha256: sha256.to_owned(), bytes: 0, needs };
    change
        .prepare_cached("UPDATE files SET rank = ?2, sequence = ?3 WHERE sha256 = ?1")?
        .execute(params![sha256, one.rank() as i64, one.sequence()])
        .map(drop)
}

fn needs(connection: &Connection, sha256: &str) -> rusqlite::Result<Vec<Need>> {
    connection
        .prepare_cached("SELECT class, sequence, wall_ms, is_decided FROM needs WHERE sha256 = ?1")?
        .query_map([sha256], |row| {
            let class: u32 = row.get(0)?;
            Ok(Need {
                // A number that is none of ours holds the picture best.
                class: Class::ALL.get(class as usize).copied().unwrap_or(Class::Review),
                sequence: row.get(1)?,
                wall_ms: row.get(2)?,
                is_decided: row.get(3)?,
            })
        })?
        .collect()
}

fn set(connection: &Connection, name: &str, value: impl ToSql) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO state (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])
        .map(drop)
}
