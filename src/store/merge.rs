//! The records of several logs in one order of time.
//!
//! Within a log the order is that of its chain, whatever its clock did: a record is never put before one
//! that its chain has before it. Between logs the wall clocks decide.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::json;

use super::error::StoreError;
use super::read::{Reader, Record};

/// Records of a log that are in memory at a time.
const PAGE: usize = 256;

/// A log and the names by which its records are told apart.
pub struct Log<'r> {
    /// Its reader.
    pub reader: &'r Reader,
    /// The chain's name.
    pub chain_id: String,
    /// The device that writes it.
    pub device: String,
}

/// Why logs could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is written cannot be.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Writes every record of `logs` as a line of JSON, by time; answers how many.
///
/// # Errors
/// A log that cannot be read, or `out`.
pub fn merge(logs: &[Log<'_>], out: &mut dyn Write) -> Result<u64, MergeError> {
    let mut heads = Vec::new();
    for log in logs {
        let mut head = Head { log, page: VecDeque::new(), last: 0, at: Timestamp::MIN };
        head.fill()?;
        heads.push(head);
    }
    // By moment, then by the order in which the logs were named.
    let mut queue: BTreeMap<(Timestamp, usize), ()> = BTreeMap::new();
    for (at, head) in heads.iter().enumerate() {
        queue.extend(head.moment().map(|moment| ((moment, at), ())));
    }
    let mut written = 0;
    while let Some(((_, at), ())) = queue.pop_first() {
        let head = &mut heads[at];
        if let Some(record) = head.take()? {
            write_line(head.log, &record, out)?;
            written += 1;
        }
        queue.extend(head.moment().map(|moment| ((moment, at), ())));
    }
    out.flush()?;
    Ok(written)
}

/// The record's own text goes in as it is stored: canonical JSON, without a line break.
fn write_line(log: &Log<'_>, record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let (chain_id, device) = (json!(log.chain_id), json!(log.device));
    let Record { sequence, body, .. } = record;
    writeln!(
        out,
        "{{\"chain_id\":{chain_id},\"device\":{device},\"sequence\":{sequence},\"inspection\":{body}}}"
    )
}

/// Where a log has come to.
struct Head<'l, 'r> {
    log: &'l Log<'r>,
    page: VecDeque<Record>,
    last: i64,
    /// The latest moment that it has told: a clock that was set back does not take it back.
    at: Timestamp,
}

impl Head<'_, '_> {
    fn fill(&mut self) -> Result<(), StoreError> {
        self.page = self.log.reader.after(self.last, PAGE)?.into();
        Ok(())
    }

    /// When its next record stands in the order of all.
    fn moment(&self) -> Option<Timestamp> {
        self.page.front().map(|record| record.decided_wall.max(self.at))
    }

    fn take(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(record) = self.page.pop_front() else { return Ok(None) };
        self.at = self.at.max(record.decided_wall);
        self.last = record.sequence;
        if self.page.is_empty() {
            self.fill()?;
        }
        Ok(Some(record))
    }
}
