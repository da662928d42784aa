//! The records one after another, with the rows and files that they cover.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, Row as SqlRow};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ends::Anchors;
use super::{Break, Code, Ends, Report, VerifyOptions};
use crate::store::chain::{self, ChainDigest, ChainTime, INSPECTION_KIND, Link};
use crate::store::events::EventKind;
use crate::store::evidence;

/// Records that one query brings, so that the daemon can cut its write-ahead log in between.
const PAGE_ROWS: i64 = 500;

/// Where the check of the rows ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// The number of the last inspection in the chain.
    pub(super) last_inspection: i64,
    /// How many inspections are in it.
    pub(super) inspections: i64,
}

/// A row of `chain` with the row that it covers.
struct Row {
    sequence: i64,
    kind: String,
    inspection: Option<i64>,
    time: ChainTime,
    /// Of the event, or of the inspection; `None`: that is not there.
    body: Option<String>,
    prev: ChainDigest,
    digest: ChainDigest,
    columns: Option<Columns>,
}

/// The columns of an inspection that repeat its body.
#[derive(PartialEq)]
struct Columns {
    result_id: String,
    station: String,
    recipe: String,
    job_id: i64,
    part_id: String,
    verdict: String,
    serial: Option<String>,
    decided_wall_ms: i64,
    latency_ms: Option<f64>,
    is_simulated: bool,
}

const QUERY: &str = "
    SELECT c.sequence, c.kind, c.inspection, c.wall_ms, c.monotonic_ns, c.boot_id,
           c.clock_synchronized, c.prev, c.digest, coalesce(c.body, i.body), i.result_id, i.station,
           i.recipe, i.job_id, i.part_id, i.verdict, i.serial, i.decided_wall_ms, i.latency_ms,
           i.is_simulated
    FROM chain AS c LEFT JOIN inspections AS i ON i.sequence = c.inspection
    WHERE c.sequence > ?1 AND c.sequence <= ?2 ORDER BY c.sequence LIMIT ?3";

fn row(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let columns = || -> rusqlite::Result<Columns> {
        Ok(Columns {
            result_id: row.get(10)?,
            station: row.get(11)?,
            recipe: row.get(12)?,
            job_id: row.get(13)?,
            part_id: row.get(14)?,
            verdict: row.get(15)?,
            serial: row.get(16)?,
            decided_wall_ms: row.get(17)?,
            latency_ms: row.get(18)?,
            is_simulated: row.get(19)?,
        })
    };
    let has_columns = row.get::<_, Option<String>>(10)?.is_some();
    Ok(Row {
        sequence: row.get(0)?,
        kind: row.get(1)?,
        inspection: row.get(2)?,
        time: chain::time(row, 3)?,
        body: row.get(9)?,
        prev: row.get(7)?,
        digest: row.get(8)?,
        columns: has_columns.then(columns).transpose()?,
    })
}

/// Checks every record from `options.from` to the end.
pub(super) fn check(
    connection: &Connection,
    options: &VerifyOptions,
    anchors: &Anchors,
    ends: &Ends,
    report: &mut Report,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<Done> {
    let removed = removed_evidence(connection)?;
    let mut check = Check {
        options,
        anchors,
        removed: &removed,
        expected: report.first,
        last: (report.first == 1).then_some(ChainDigest::NONE),
        done: Done::default(),
    };
    let total = (ends.chain - report.first + 1).max(0).unsigned_abs();
    let mut after = report.first - 1;
    let mut query = connection.prepare(QUERY)?;
    loop {
        let page: Vec<Row> =
            query.query_map([after, ends.chain, PAGE_ROWS], row)?.collect::<Result<_, _>>()?;
        let Some(newest) = page.last().map(|row| row.sequence) else { break };
        page.iter().for_each(|row| check.row(row, report));
        after = newest;
        progress((after - report.first + 1).unsigned_abs(), total);
    }
    if check.expected == report.first {
        let (expected, found) = ("a record".to_owned(), "none".to_owned());
        let (code, sequence) = (Code::MissingRecord, report.first);
        report.note_break(Break { code, sequence, subject: "the log".into(), expected, found });
    }
    Ok(check.done)
}

/// Evidence that retention removed, with the newest record that says so.
fn removed_evidence(connection: &Connection) -> rusqlite::Result<HashMap<ChainDigest, i64>> {
    let mut removed = HashMap::new();
    let mut query = connection
        .prepare("SELECT sequence, body FROM chain WHERE kind = ?1 AND inspection IS NULL")?;
    let mut rows = query.query([EventKind::Retention.as_str()])?;
    while let Some(row) = rows.next()? {
        let (sequence, body): (i64, String) = (row.get(0)?, row.get(1)?);
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        for file in body["files"].as_array().into_iter().flatten() {
            if let Some(digest) = file["sha256"].as_str().and_then(|text| text.parse().ok()) {
                let newest = removed.entry(digest).or_insert(sequence);
                *newest = sequence.max(*newest);
            }
        }
    }
    Ok(removed)
}

struct Check<'c> {
    options: &'c VerifyOptions,
    anchors: &'c Anchors,
    removed: &'c HashMap<ChainDigest, i64>,
    /// The number of the next record.
    expected: i64,
    /// The digest of the last record; `None` before the first of a partial check.
    last: Option<ChainDigest>,
    done: Done,
}

impl Check<'_> {
    fn row(&mut self, row: &Row, report: &mut Report) {
        let subject = subject(row);
        let mut wrong = |code, sequence, expected: String, found: String| {
            let subject = subject.clone();
            report.note_break(Break { code, sequence, subject, expected, found });
        };
        if row.sequence != self.expected {
            let (expected, found) = (self.expected, row.sequence);
            wrong(
                Code::MissingRecord,
                expected,
                format!("record {expected}"),
                format!("record {found} is the next"),
            );
        } else if let Some(last) = self.last.filter(|last| *last != row.prev) {
            let found = format!("it was made after {}", row.prev);
            wrong(Code::BrokenLink, row.sequence, format!("the digest before is {last}"), found);
        }
        self.expected = row.sequence + 1;
        self.last = Some(row.digest);
        if let Some(number) = row.inspection {
            self.done.last_inspection = number;
            self.done.inspections += 1;
        }
        match &row.body {
            None => {
                let number = row.inspection.unwrap_or_default();
                let expected = format!("inspection {number}");
                wrong(Code::MissingInspection, row.sequence, expected, "none".to_owned());
            }
            Some(body) => {
                let digest = link(row, body).digest();
                if digest != row.digest {
                    let found = format!("what is there has {digest}");
                    wrong(
                        Code::AlteredRecord,
                        row.sequence,
                        format!("digest {}", row.digest),
                        found,
                    );
                }
            }
        }
        for (digest, source) in self.anchors.at(row.sequence) {
            if *digest != row.digest {
                let expected = format!("digest {digest}, by {source}");
                wrong(
                    Code::AnchorDiffers,
                    row.sequence,
                    expected,
                    format!("digest {}", row.digest),
                );
            }
        }
        report.last = row.sequence;
        report.head = row.digest.to_string();
        if let (Some(columns), Some(body)) = (&row.columns, &row.body) {
            report.inspections += 1;
            let body: Value = serde_json::from_str(body).unwrap_or_default();
            self.inspection(row.sequence, &subject, columns, &body, report);
        }
    }

    /// What an inspection's body says, against its columns and files.
    fn inspection(
        &self,
        sequence: i64,
        subject: &str,
        columns: &Columns,
        body: &Value,
        report: &mut Report,
    ) {
        if let Some((column, expected, found)) = differing_column(columns, body) {
            let (code, subject) = (Code::ColumnsDiffer, subject.to_owned());
            let found = format!("the column has {found}");
            let expected = format!("{column} is {expected} in the body");
            report.note_break(Break { code, sequence, subject, expected, found });
        }
        let Some(dir) = &self.options.evidence_dir else { return };
        for crop in body["evidence"].as_array().into_iter().flatten() {
            let name = crop["sha256"].as_str().unwrap_or_default();
            let removed =
                name.parse().ok().and_then(|digest: ChainDigest| self.removed.get(&digest));
            let path = evidence::path(dir, name);
            let (code, found) = match file_digest(&path) {
                Ok(digest) if digest == name => {
                    report.evidence_files += 1;
                    continue;
                }
                Ok(digest) => (Code::EvidenceAltered, format!("the file has digest {digest}")),
                // Retention excuses records before its own: a later one had its picture written anew.
                Err(_) if removed.is_some_and(|removed| *removed > sequence) => {
                    report.evidence_removed += 1;
                    continue;
                }
                Err(why) => (Code::EvidenceMissing, why.to_string()),
            };
            let region = crop["region"].as_str().unwrap_or("?").escape_debug();
            let subject = format!("{subject}, picture of {region}, {}", path.display());
            let expected = format!("a file with digest {name}");
            report.note_break(Break { code, sequence, subject, expected, found });
        }
    }
}

fn link<'r>(row: &'r Row, body: &'r str) -> Link<'r> {
    Link {
        sequence: row.sequence,
        prev: row.prev,
        kind: &row.kind,
        inspection: row.inspection,
        time: row.time.clone(),
        body,
    }
}

fn subject(row: &Row) -> String {
    match (&row.columns, row.inspection) {
        (Some(columns), Some(number)) => {
            let job = format!("{} job {}", columns.station.escape_debug(), columns.job_id);
            format!("record {}: inspection {number}, {job}, {}", row.sequence, columns.result_id)
        }
        (None, Some(number)) => format!("record {}: inspection {number}", row.sequence),
        (_, None) if row.kind == INSPECTION_KIND => format!("record {}", row.sequence),
        (_, None) => format!("record {}: {}", row.sequence, row.kind),
    }
}

/// The first column that contradicts the body, with both values.
fn differing_column(columns: &Columns, body: &Value) -> Option<(&'static str, String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let is_serial = |finding: &&Value| finding["kind"] == "serial" && finding["value"].is_string();
    let findings = body["findings"].as_array();
    let serial = findings.and_then(|findings| findings.iter().find(is_serial));
    let decided = body["times"]["decided"]["wall"].as_str().and_then(|wall| wall.parse().ok());
    let latency_ms = body["timings"]["latency_ms"].as_f64();
    // A decimal text may be read back as the neighbour of the number that it was made from.
    let is_close = |(a, b): (f64, f64)| (a - b).abs() <= 1e-9 * a.abs().max(1.0);
    let found_ms = match latency_ms.zip(columns.latency_ms) {
        Some(pair) if is_close(pair) => latency_ms,
        _ => columns.latency_ms,
    };
    let pairs = [
        ("result_id", text(&body["result_id"]), Some(columns.result_id.clone())),
        ("station", text(&body["station"]), Some(columns.station.clone())),
        ("recipe", text(&body["recipe"]), Some(columns.recipe.clone())),
        (
            "job_id",
            body["job_id"].as_i64().map(|n| n.to_string()),
            Some(columns.job_id.to_string()),
        ),
        ("part_id", text(&body["part_id"]), Some(columns.part_id.clone())),
        ("verdict", text(&body["verdict"]["outcome"]), Some(columns.verdict.clone())),
        ("serial", serial.and_then(|serial| text(&serial["value"])), columns.serial.clone()),
        (
            "decided_wall_ms",
            decided.map(|wall: jiff::Timestamp| wall.as_millisecond().to_string()),
            Some(columns.decided_wall_ms.to_string()),
        ),
        ("latency_ms", latency_ms.map(|ms| ms.to_string()), found_ms.map(|ms| ms.to_string())),
        (
            "is_simulated",
            body["is_simulated"].as_bool().map(|is| is.to_string()),
            Some(columns.is_simulated.to_string()),
        ),
    ];
    let shown =
        |value: Option<String>| value.map_or("nothing".to_owned(), |text| format!("{text:?}"));
    let differing = pairs.into_iter().find(|(_, expected, found)| expected != found);
    differing.map(|(column, expected, found)| (column, shown(expected), shown(found)))
}

/// SHA-256 of the file's bytes, a piece at a time.
fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(ChainDigest(hash.finalize().into()).to_string()),
            bytes => hash.update(&piece[..bytes]),
        }
    }
}
