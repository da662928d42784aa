//! What stands outside of the chain and beyond its end: anchors, rows that no record covers, and
//! messages.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::Value;

use super::rows::Done;
use super::{Break, Code, Ends, Report, VerifyOptions};
use crate::store::anchor::Anchor;
use crate::store::chain::ChainDigest;
use crate::store::events::{self, EventKind, Genesis, Recovered};

/// Messages that one query brings.
const PAGE_ROWS: i64 = 500;

/// The anchors of this chain by their sequence numbers, each with where it is from.
#[derive(Debug, Default)]
pub(super) struct Anchors(BTreeMap<i64, Vec<(ChainDigest, String)>>);

impl Anchors {
    /// Takes those of this chain, and tells of those that are of another, or not signed right.
    /// `heads` are the lines of the file of heads and the number of unreadable ones.
    pub(super) fn sort(
        heads: (Vec<(u64, Anchor)>, u64),
        options: &VerifyOptions,
        genesis: Option<&Genesis>,
        report: &mut Report,
    ) -> Anchors {
        let (heads, unreadable) = heads;
        if unreadable > 0 {
            let note = format!("{unreadable} lines of the file of heads cannot be read");
            report.notes.push(note + ", as after a power cut");
        }
        if heads.is_empty() && options.anchors.is_empty() {
            let note = "there is no anchor: records missing at the end cannot be told";
            report.notes.push(note.to_owned());
        }
        let own = genesis.map(|genesis| genesis.chain_id);
        let previous = genesis.and_then(|genesis| genesis.previous.as_ref()?.head.clone());
        let mut anchors = Anchors::default();
        let mut sorter = Sorter { options, report, skipped: 0, unsigned: 0 };
        // Of another chain, a head may only stand before ours, and the last must be the one that
        // our first record names.
        let (mut foreign, mut has_own) = (None, false);
        for (line, anchor) in heads {
            let source = format!("line {line} of the file of heads");
            match (own.is_none() || anchor.chain_id == own, has_own) {
                (true, _) => {
                    has_own = true;
                    anchors.take(anchor, source, &mut sorter);
                }
                (false, true) => sorter.replaced(&anchor, source),
                (false, false) => foreign = Some((anchor, source)),
            }
        }
        if let Some((anchor, source)) = foreign
            && previous.as_ref() != Some(&anchor)
        {
            sorter.replaced(&anchor, source);
        }
        for anchor in &options.anchors {
            let source = format!("the anchor given for record {}", anchor.sequence);
            let is_ours = own.is_none() || anchor.chain_id.is_none() || anchor.chain_id == own;
            match is_ours {
                true => anchors.take(anchor.clone(), source, &mut sorter),
                false
                    if previous
                        .as_ref()
                        .is_some_and(|previous| previous.chain_id == anchor.chain_id) =>
                {
                    let note = format!("{source} is of the chain before this one");
                    sorter.report.notes.push(note);
                }
                false => sorter.replaced(anchor, source),
            }
        }
        let (skipped, unsigned) = (sorter.skipped, sorter.unsigned);
        if skipped > 0 {
            report.notes.push(format!("{skipped} anchors stand before the first record checked"));
        }
        if unsigned > 0 {
            report.notes.push(format!("{unsigned} anchors are not signed"));
        }
        anchors
    }

    fn take(&mut self, anchor: Anchor, source: String, sorter: &mut Sorter<'_>) {
        if let Some(key) = &sorter.options.key {
            match anchor.is_signed_by(key) {
                Some(true) => sorter.report.signatures += 1,
                Some(false) => sorter.wrong(Code::BadSignature, &anchor, source.clone()),
                None => sorter.unsigned += 1,
            }
        }
        if anchor.sequence < sorter.report.first {
            sorter.skipped += 1;
            return;
        }
        sorter.report.anchors += 1;
        self.0.entry(anchor.sequence).or_default().push((anchor.digest, source));
    }

    /// The anchors of one record.
    pub(super) fn at(&self, sequence: i64) -> &[(ChainDigest, String)] {
        self.0.get(&sequence).map_or(&[], Vec::as_slice)
    }

    /// The first anchor beyond the record `last`.
    fn beyond(&self, last: i64) -> Option<(i64, &str)> {
        let (sequence, anchors) = self.0.range(last + 1..).next()?;
        Some((*sequence, anchors.first()?.1.as_str()))
    }
}

struct Sorter<'s> {
    options: &'s VerifyOptions,
    report: &'s mut Report,
    skipped: u64,
    unsigned: u64,
}

impl Sorter<'_> {
    fn replaced(&mut self, anchor: &Anchor, source: String) {
        self.wrong(Code::ChainReplaced, anchor, source);
    }

    fn wrong(&mut self, code: Code, anchor: &Anchor, subject: String) {
        let chain = anchor.chain_id.map_or("unknown".to_owned(), |id| id.to_string());
        let (expected, found) = match code {
            Code::BadSignature => ("a signature of the key given", "another one".to_owned()),
            _ => ("an anchor of this chain or the one before it", format!("chain {chain}")),
        };
        let (sequence, expected) = (anchor.sequence, expected.to_owned());
        self.report.note_break(Break { code, sequence, subject, expected, found });
    }
}

/// Checks what lies beyond the last record, and the messages.
pub(super) fn check(
    connection: &Connection,
    anchors: &Anchors,
    ends: &Ends,
    done: &Done,
    report: &mut Report,
) -> rusqlite::Result<()> {
    check_unchained(ends, done, report);
    let last = ends.chain;
    let beyond = anchors.beyond(last).map(|(sequence, source)| (sequence, source.to_owned()));
    let given = (ends.chain_given, "the database's own counter".to_owned());
    if let Some((sequence, source)) = beyond.or((given.0 > last).then_some(given)) {
        report.note_break(Break {
            code: Code::Truncated,
            sequence: last + 1,
            subject: "the end of the log".to_owned(),
            expected: format!("records up to {sequence} at least, by {source}"),
            found: format!("record {last} is the last"),
        });
    } else if ends.inspections_given > ends.inspections {
        report.note_break(Break {
            code: Code::Truncated,
            sequence: last + 1,
            subject: "the end of the log".to_owned(),
            expected: format!(
                "inspections up to {}, by the database's own counter",
                ends.inspections_given
            ),
            found: format!("inspection {} is the last", ends.inspections),
        });
    }
    check_outbox(connection, ends, report)
}

/// Inspections that no record covers.
fn check_unchained(ends: &Ends, done: &Done, report: &mut Report) {
    let is_partial = report.first > 1;
    let extra = ends.inspections > done.last_inspection && done.inspections > 0
        || !is_partial && ends.inspection_count > done.inspections;
    if extra {
        report.note_break(Break {
            code: Code::UnchainedInspection,
            sequence: ends.chain + 1,
            subject: format!("inspection {}", done.last_inspection + 1),
            expected: format!("{} inspections, as the chain has", done.inspections),
            found: format!(
                "{} inspections, up to number {}",
                ends.inspection_count, ends.inspections
            ),
        });
    }
}

/// Messages that say something else than their inspection. A payload of another form than JSON is
/// not looked into.
fn check_outbox(connection: &Connection, ends: &Ends, report: &mut Report) -> rusqlite::Result<()> {
    let recovered = events::newest(connection, EventKind::Recovered)?;
    let recovered = recovered.and_then(|(_, body)| serde_json::from_str::<Recovered>(&body).ok());
    let mut orphans = recovered.map_or(0, |recovered| recovered.messages_without_inspection);
    let mut query = connection.prepare(
        "SELECT o.id, o.result_id, o.station, o.payload, i.station, i.verdict, c.sequence
         FROM outbox AS o LEFT JOIN inspections AS i ON i.result_id = o.result_id
                          LEFT JOIN chain AS c ON c.inspection = i.sequence
         WHERE o.id > ?1 AND o.kind = 'result' ORDER BY o.id LIMIT ?2",
    )?;
    let mut after = 0;
    loop {
        let mut rows = query.query([after, PAGE_ROWS])?;
        let mut is_last = true;
        while let Some(row) = rows.next()? {
            is_last = false;
            after = row.get(0)?;
            let (result_id, station): (String, String) = (row.get(1)?, row.get(2)?);
            let sequence: Option<i64> = row.get(6)?;
            let told = (row.get::<_, Option<String>>(4)?, row.get::<_, Option<String>>(5)?);
            let (expected, found) = match told {
                (Some(of_station), Some(verdict)) => {
                    let payload: Vec<u8> = row.get(3)?;
                    match contradiction(&payload, &result_id, &of_station, &verdict) {
                        Some(found) => (format!("{result_id}, {of_station}, {verdict}"), found),
                        None if of_station != station => (of_station, station),
                        None => continue,
                    }
                }
                _ if orphans > 0 => {
                    orphans -= 1;
                    continue;
                }
                _ => (format!("an inspection {result_id}"), "none".to_owned()),
            };
            // A daemon may have committed it after the ends were looked up.
            if sequence.is_none_or(|sequence| sequence <= ends.chain) {
                let (code, subject) =
                    (Code::OutboxDiffers, format!("message {after} of the outbox"));
                let sequence = sequence.unwrap_or(0);
                report.note_break(Break { code, sequence, subject, expected, found });
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What a result message says differently; `None` if nothing, or if it is no JSON object.
fn contradiction(payload: &[u8], result_id: &str, station: &str, verdict: &str) -> Option<String> {
    let message: Value = serde_json::from_slice(payload).ok()?;
    let pairs = [("result_id", result_id), ("station", station), ("verdict", verdict)];
    let differs = |(key, wanted): &(&str, &str)| {
        let found = message.get(*key).and_then(Value::as_str);
        found.filter(|found| found != wanted).map(|found| format!("{key} is {found:?}"))
    };
    pairs.iter().find_map(differs)
}
