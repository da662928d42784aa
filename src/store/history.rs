//! Reading the chain: its end, and the events in it.

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use super::anchor::Anchor;
use super::append::Signer;
use super::begin;
use super::chain::{self, ChainDigest};
use super::error::StoreError;
use super::read::{Reader, timestamp};
use super::sign::SignKey;

/// One event of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its sequence number.
    pub sequence: i64,
    /// Its kind, as the word in the table.
    pub kind: String,
    /// When it was chained, by the wall clock.
    pub wall: Timestamp,
    /// The wall clock followed a time source.
    pub clock_synchronized: bool,
    /// The whole of it as canonical JSON.
    pub body: String,
}

impl Reader {
    /// The chain's end, signed with `key` if there is one.
    pub fn anchor(&self, key: Option<SignKey>) -> Result<Anchor, StoreError> {
        let sql = |why| StoreError::from_sql("read the chain's end", self.path(), why);
        let genesis = begin::genesis(self.connection(), self.path())?;
        let end = chain::end(self.connection()).map_err(sql)?;
        let end = end.ok_or(rusqlite::Error::QueryReturnedNoRows).map_err(sql)?;
        let signer = Signer { chain_id: genesis.chain_id, device: genesis.device, key };
        Ok(signer.anchor(&end))
    }

    /// The newest `last` events, or those of one `kind`, oldest first.
    pub fn events(&self, kind: Option<&str>, last: u32) -> Result<Vec<Event>, StoreError> {
        let sql = |why| StoreError::from_sql("read events", self.path(), why);
        let read = || -> rusqlite::Result<Vec<Event>> {
            let mut query = self.connection().prepare_cached(
                "SELECT sequence, kind, wall_ms, clock_synchronized, body FROM chain
                 WHERE inspection IS NULL AND (?1 IS NULL OR kind = ?1)
                 ORDER BY sequence DESC LIMIT ?2",
            )?;
            let rows = query.query_map((kind, last), |row| {
                Ok(Event {
                    sequence: row.get(0)?,
                    kind: row.get(1)?,
                    wall: timestamp(row.get(2)?),
                    clock_synchronized: row.get(3)?,
                    body: row.get(4)?,
                })
            })?;
            rows.collect()
        };
        let mut events = read().map_err(sql)?;
        events.reverse();
        Ok(events)
    }

    /// The digest of the record with this sequence number.
    pub fn chain_digest(&self, sequence: i64) -> Result<Option<ChainDigest>, StoreError> {
        let find = || -> rusqlite::Result<Option<ChainDigest>> {
            let sql = "SELECT digest FROM chain WHERE sequence = ?1";
            self.connection().query_row(sql, [sequence], |row| row.get(0)).optional()
        };
        find().map_err(|why| StoreError::from_sql("read the chain", self.path(), why))
    }

    /// The first record, by sequence, that was chained at `since` or later by the wall clock. Where the
    /// clock was stepped, earlier times may follow; one past the end if there is none.
    pub fn first_since(&self, since: Timestamp) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce((SELECT min(sequence) FROM chain WHERE wall_ms >= ?1),
                                   (SELECT coalesce(max(sequence), 0) + 1 FROM chain))";
        let found = self.connection().query_row(sql, [since.as_millisecond()], |row| row.get(0));
        found.map_err(|why| StoreError::from_sql("read the chain", self.path(), why))
    }
}
