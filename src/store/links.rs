//! The chain as whoever copies it reads it: record by record, with all that its digest covers.

use rusqlite::{OptionalExtension, Row, params};

use super::begin;
use super::chain::{self, ChainDigest, ChainTime, Link};
use super::error::StoreError;
use super::events::Genesis;
use super::read::Reader;

/// One record of the chain, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRecord {
    /// Its place, from 1.
    pub sequence: i64,
    /// `inspection`, or an event's kind.
    pub kind: String,
    /// The row of `inspections` that it covers.
    pub inspection: Option<i64>,
    /// When it was chained.
    pub time: ChainTime,
    /// The canonical JSON that it covers, to the byte.
    pub body: String,
    /// The digest of the record before.
    pub prev: ChainDigest,
    /// Its own digest, as it is stored; [`ChainRecord::computed`] says what it should be.
    pub digest: ChainDigest,
}

impl ChainRecord {
    /// The digest of what it holds.
    pub fn computed(&self) -> ChainDigest {
        let link = Link {
            sequence: self.sequence,
            prev: self.prev,
            kind: &self.kind,
            inspection: self.inspection,
            time: self.time.clone(),
            body: &self.body,
        };
        link.digest()
    }
}

impl Reader {
    /// The first record of the chain: its name and device.
    pub fn genesis(&self) -> Result<Genesis, StoreError> {
        begin::genesis(self.connection(), self.path())
    }

    /// The sequence number of the chain's last record; 0 while there is none.
    pub fn chain_end(&self) -> Result<i64, StoreError> {
        self.chain("look up the chain's end", || {
            let end = chain::end(self.connection())?;
            Ok(end.map_or(0, |end| end.sequence))
        })
    }

    /// Digest and wall time, in milliseconds since 1970, of the record `sequence`; `None`: there is none.
    pub fn chain_at(&self, sequence: i64) -> Result<Option<(ChainDigest, i64)>, StoreError> {
        self.chain("look up a record of the chain", || {
            self.connection()
                .prepare_cached("SELECT digest, wall_ms FROM chain WHERE sequence = ?1")?
                .query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
    }

    /// The records above `after` up to `upto`, oldest first: `most` at most, and no more than `most_bytes` of
    /// bodies, but the first in any case.
    pub fn chain_records(
        &self,
        after: i64,
        upto: i64,
        most: usize,
        most_bytes: usize,
    ) -> Result<Vec<ChainRecord>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.chain("read the chain", || {
            let mut query = self.connection().prepare_cached(
                "SELECT c.sequence, c.kind, c.inspection, c.wall_ms, c.monotonic_ns, c.boot_id,
                        c.clock_synchronized, coalesce(c.body, i.body), c.prev, c.digest
                 FROM chain AS c LEFT JOIN inspections AS i ON i.sequence = c.inspection
                 WHERE c.sequence > ?1 AND c.sequence <= ?2 ORDER BY c.sequence LIMIT ?3",
            )?;
            let mut rows = query.query(params![after, upto, most])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let record = record(row)?;
                bytes += record.body.len();
                if bytes > most_bytes && !found.is_empty() {
                    break;
                }
                found.push(record);
            }
            Ok(found)
        })
    }

    fn chain<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce() -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read().map_err(|why| StoreError::from_sql(doing, self.path(), why))
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<ChainRecord> {
    Ok(ChainRecord {
        sequence: row.get(0)?,
        kind: row.get(1)?,
        inspection: row.get(2)?,
        time: chain::time(row, 3)?,
        body: row.get(7)?,
        prev: row.get(8)?,
        digest: row.get(9)?,
    })
}
