//! A labelled set of what operators decided: pictures and `truth.jsonl`, as `inspectd evaluate --set`
//! and `training/finetune.py` read them.
//!
//! A decision says whether a part is good, and not what its serial number is or which defect it has.
//! So a label is only complete where decision and reading agree: a good part with its serial, a bad
//! one with the defects that were found. The others go into `incomplete.jsonl`, in the same form with
//! the operator's note, for a person to complete.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::disposition::{Decision, Disposition};
use super::error::StoreError;
use super::events::EventKind;
use super::evidence;
use super::read::{Filter, Reader, Record};
use crate::inspection::{Evidence, Inspection};
use crate::verdict::{Outcome, Seen};

/// What a labelled set holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labelled {
    /// Pictures with a complete label.
    pub complete: u64,
    /// Pictures whose label a person has to complete.
    pub incomplete: u64,
    /// Decided records without a picture in the evidence folder, or with one that is damaged.
    pub without_picture: u64,
    /// Decided records with several pictures, of which none was chosen by a region's name.
    pub ambiguous: u64,
}

/// A line of `truth.jsonl`.
#[derive(Serialize)]
struct Line<'l> {
    file: &'l str,
    verdict: Outcome,
    serial: Option<&'l str>,
    defects: Vec<Defect<'l>>,
    inspectable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'l str>,
}

#[derive(Serialize)]
struct Defect<'l> {
    class: &'l str,
    severity: &'l str,
    location: &'l str,
}

/// Writes the set into the folder `out`, which must be empty or new: the records that `filter` finds
/// and an operator has decided about, the newest decision of each, with their picture of `region`,
/// or their only one.
pub fn labelled(
    reader: &Reader,
    filter: &Filter,
    evidence_dir: &Path,
    region: Option<&str>,
    out: &Path,
) -> Result<Labelled, StoreError> {
    let io = |why| StoreError::from_io(out, why);
    std::fs::create_dir_all(out).map_err(io)?;
    if std::fs::read_dir(out).map_err(io)?.next().is_some() {
        let why = "the folder is not empty; name a new one".to_owned();
        return Err(StoreError::Evidence { path: out.to_owned(), why });
    }
    let decisions = decisions(reader)?;
    let lines = |name: &str| File::create(out.join(name)).map(BufWriter::new).map_err(io);
    let (mut truth, mut open) = (lines("truth.jsonl")?, lines("incomplete.jsonl")?);
    let mut told = Labelled::default();
    reader.scan(filter, |record| -> Result<(), StoreError> {
        let Some(decision) = decisions.get(&record.sequence) else { return Ok(()) };
        let look = record.inspection()?;
        let Some(crop) = chosen(&look, region) else {
            match look.evidence.len() {
                0 => told.without_picture += 1,
                _ => told.ambiguous += 1,
            }
            return Ok(());
        };
        let file = format!("{:06}.png", record.sequence);
        let bytes = std::fs::read(evidence::path(evidence_dir, &crop.sha256));
        match bytes {
            Ok(bytes) if evidence::digest(&bytes) == crop.sha256 => {
                std::fs::write(out.join(&file), bytes).map_err(io)?;
            }
            _ => {
                told.without_picture += 1;
                return Ok(());
            }
        }
        let (line, is_complete) = label(&file, record, &look, decision);
        let text = serde_json::to_string(&line).map_err(|why| io(why.into()))?;
        let (list, count) = match is_complete {
            true => (&mut truth, &mut told.complete),
            false => (&mut open, &mut told.incomplete),
        };
        *count += 1;
        writeln!(list, "{text}").map_err(io)
    })?;
    truth.flush().map_err(io)?;
    open.flush().map_err(io)?;
    Ok(told)
}

/// The newest decision about each record that one was made about.
fn decisions(reader: &Reader) -> Result<BTreeMap<i64, Decision>, StoreError> {
    let read = || -> rusqlite::Result<BTreeMap<i64, Decision>> {
        let mut query = reader.connection().prepare_cached(
            "SELECT body FROM chain WHERE kind = ?1 AND inspection IS NULL ORDER BY sequence",
        )?;
        let mut rows = query.query([EventKind::Disposition.as_str()])?;
        let mut newest = BTreeMap::new();
        while let Some(row) = rows.next()? {
            // One of another form says nothing here; `audit events` shows it.
            if let Ok(told) = serde_json::from_str::<Decision>(&row.get::<_, String>(0)?) {
                newest.insert(told.inspection, told);
            }
        }
        Ok(newest)
    };
    read().map_err(|why| StoreError::from_sql("read dispositions", reader.path(), why))
}

/// The picture of `region`, or the only one.
fn chosen<'l>(look: &'l Inspection, region: Option<&str>) -> Option<&'l Evidence> {
    // Neither a good part for comparison nor the other frames of a vote.
    let own = |crop: &&Evidence| crop.frame_sequence.is_none() && !crop.is_golden();
    let mut crops = look.evidence.iter().filter(own);
    match region {
        Some(region) => crops.find(|crop| crop.region == region),
        None => crops.next().filter(|_| crops.next().is_none()),
    }
}

/// The label, and whether it is complete.
fn label<'l>(
    file: &'l str,
    record: &'l Record,
    look: &'l Inspection,
    decision: &'l Decision,
) -> (Line<'l>, bool) {
    let found: Vec<Defect<'l>> = look
        .findings
        .iter()
        .filter_map(|finding| match &finding.seen {
            Seen::Defect { class, severity, location } => {
                Some(Defect { class, severity, location })
            }
            _ => None,
        })
        .collect();
    // A part that is used as it is has its defect all the same.
    let is_good = decision.disposition == Disposition::Pass;
    let (verdict, defects) = match is_good {
        true => (Outcome::Pass, Vec::new()),
        false => (Outcome::Fail, found),
    };
    let serial = record.serial.as_deref();
    let is_complete = serial.is_some() && (is_good || !defects.is_empty());
    let note = decision.note.as_deref().filter(|_| !is_complete);
    (Line { file, verdict, serial, defects, inspectable: true, note }, is_complete)
}
