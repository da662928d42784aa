//! Whether the record is whole: the chain, the rows that it covers, the evidence files, and the
//! anchors that were kept outside. Reads, and never writes.
//!
//! Checks come in the order of the chain, and of one record in the order of [`Code`]; after the last
//! record come those of the end. So the first break is the same for everyone who follows
//! `FORMAT.md`. After a break the check goes on from what is there, to find further ones.

mod ends;
mod rows;

use std::path::PathBuf;

use rusqlite::Connection;
use serde::Serialize;

use super::anchor::{Anchor, heads_path, read_file};
use super::begin;
use super::error::StoreError;
use super::events::Genesis;
use super::read::Reader;
use super::sign::PublicKey;
use ends::Anchors;

/// Most breaks that are told in full; the rest is counted.
pub const BREAKS_MAX: usize = 100;

/// What is to be checked beside the chain itself.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Where the evidence files lie; `None`: they are not looked at.
    pub evidence_dir: Option<PathBuf>,
    /// Anchors that someone kept elsewhere, beside those in the file of heads.
    pub anchors: Vec<Anchor>,
    /// Checks the signatures of anchors.
    pub key: Option<PublicKey>,
    /// The first record to check. Above 1, what stands before is believed.
    pub from: i64,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions { evidence_dir: None, anchors: Vec::new(), key: None, from: 1 }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A number is left out.
    MissingRecord,
    /// A record does not follow the one before it.
    BrokenLink,
    /// The inspection that a record covers is not there.
    MissingInspection,
    /// A record is not what its digest was made of.
    AlteredRecord,
    /// An anchor has another digest for this record.
    AnchorDiffers,
    /// A column of an inspection contradicts its body.
    ColumnsDiffer,
    /// An evidence file is not there, and no retention record says why.
    EvidenceMissing,
    /// An evidence file is another.
    EvidenceAltered,
    /// An inspection is not in the chain.
    UnchainedInspection,
    /// The end of the chain is gone.
    Truncated,
    /// A message contradicts the inspection that it tells of.
    OutboxDiffers,
    /// An anchor's signature is not of this key.
    BadSignature,
    /// The anchors tell of another chain.
    ChainReplaced,
}

impl Code {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::MissingRecord => "missing_record",
            Code::BrokenLink => "broken_link",
            Code::MissingInspection => "missing_inspection",
            Code::AlteredRecord => "altered_record",
            Code::AnchorDiffers => "anchor_differs",
            Code::ColumnsDiffer => "columns_differ",
            Code::EvidenceMissing => "evidence_missing",
            Code::EvidenceAltered => "evidence_altered",
            Code::UnchainedInspection => "unchained_inspection",
            Code::Truncated => "truncated",
            Code::OutboxDiffers => "outbox_differs",
            Code::BadSignature => "bad_signature",
            Code::ChainReplaced => "chain_replaced",
        }
    }

    /// What it means for who relies on the record.
    pub fn meaning(self) -> &'static str {
        match self {
            Code::MissingRecord => "one or more records were removed from the middle of the log",
            Code::BrokenLink => {
                "this record or the one before it was written anew after the log had gone on"
            }
            Code::MissingInspection => {
                "the result was removed; only its place in the chain is left"
            }
            Code::AlteredRecord => "the record was changed after it was written",
            Code::AnchorDiffers => {
                "the log was written anew, digests and all, after this anchor had been given away"
            }
            Code::ColumnsDiffer => {
                "a column that lists and filters use was changed; the record itself is intact"
            }
            Code::EvidenceMissing => "the picture was removed, and not by retention",
            Code::EvidenceAltered => "the picture is not the one that was looked at",
            Code::UnchainedInspection => "the result was put in past the program",
            Code::Truncated => "records at the end were removed",
            Code::OutboxDiffers => "the message says something else than the record",
            Code::BadSignature => "the anchor is not from the owner of this key",
            Code::ChainReplaced => "the database was replaced by another, or by an old copy",
        }
    }
}

/// One place where the record is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// What is wrong.
    pub code: Code,
    /// The record's sequence number.
    pub sequence: i64,
    /// Which record, file or anchor, for people.
    pub subject: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// What a verification saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The chain.
    pub chain_id: String,
    /// The device that wrote it.
    pub device: String,
    /// The first record that was checked.
    pub first: i64,
    /// The last record.
    pub last: i64,
    /// Its digest: the head of the chain.
    pub head: String,
    /// Inspections among them.
    pub inspections: u64,
    /// Evidence files whose digest was compared.
    pub evidence_files: u64,
    /// Evidence files that retention removed.
    pub evidence_removed: u64,
    /// Anchors that were compared with the chain.
    pub anchors: u64,
    /// Signatures that are right.
    pub signatures: u64,
    /// Every break there is.
    pub break_count: u64,
    /// The first [`BREAKS_MAX`] of them, in the order in which they were found.
    pub breaks: Vec<Break>,
    /// What could not be checked, and what is worth knowing.
    pub notes: Vec<String>,
}

impl Report {
    /// The first break; `None`: the record is whole.
    pub fn first_break(&self) -> Option<&Break> {
        self.breaks.first()
    }

    fn note_break(&mut self, found: Break) {
        self.break_count += 1;
        if self.breaks.len() < BREAKS_MAX {
            self.breaks.push(found);
        }
    }
}

/// The ends of the tables at one moment; what a daemon appends later is left for the next time.
#[derive(Clone, Copy, Debug)]
struct Ends {
    chain: i64,
    /// The highest number that was ever given; SQLite keeps it beside the table.
    chain_given: i64,
    inspections: i64,
    inspections_given: i64,
    inspection_count: i64,
}

/// Checks the record that `reader` reads. `progress` is told how many records of how many are done.
///
/// # Errors
/// A database or file of heads that cannot be read; what can be read and is wrong is a [`Break`].
pub fn verify(
    reader: &Reader,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, StoreError> {
    let mut report = Report { first: options.from.max(1), ..Report::default() };
    // Kept heads first: the daemon may go on meanwhile, and a head must not come before its record.
    let heads = read_heads(reader)?;
    let path = reader.path();
    let sql = |why| StoreError::from_sql("verify the record", path, why);
    let ends = find_ends(reader.connection()).map_err(sql)?;
    // Whatever is wrong with the first record, the check of the rows tells.
    let genesis: Option<Genesis> = begin::genesis(reader.connection(), path).ok();
    if let Some(genesis) = &genesis {
        report.chain_id = genesis.chain_id.to_string();
        report.device = genesis.device.clone();
    }
    let anchors = Anchors::sort(heads, options, genesis.as_ref(), &mut report);
    let done = rows::check(reader.connection(), options, &anchors, &ends, &mut report, progress);
    let done = done.map_err(sql)?;
    ends::check(reader.connection(), &anchors, &ends, &done, &mut report).map_err(sql)?;
    Ok(report)
}

/// The anchors in the file of heads, with their line numbers, and how many lines cannot be read.
fn read_heads(reader: &Reader) -> Result<(Vec<(u64, Anchor)>, u64), StoreError> {
    let path = heads_path(reader.path());
    let mut heads = Vec::new();
    match read_file(&path, |line, anchor| heads.push((line, anchor))) {
        Ok(unreadable) => Ok((heads, unreadable)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok((heads, 0)),
        Err(why) => Err(StoreError::Heads { path, why }),
    }
}

/// In one statement, so that all of it is of one moment.
fn find_ends(connection: &Connection) -> rusqlite::Result<Ends> {
    let sql = "SELECT (SELECT coalesce(max(sequence), 0) FROM chain),
                      coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'chain'), 0),
                      (SELECT coalesce(max(sequence), 0) FROM inspections),
                      coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inspections'), 0),
                      (SELECT count(*) FROM inspections)";
    connection.query_row(sql, [], |row| {
        Ok(Ends {
            chain: row.get(0)?,
            chain_given: row.get(1)?,
            inspections: row.get(2)?,
            inspections_given: row.get(3)?,
            inspection_count: row.get(4)?,
        })
    })
}
