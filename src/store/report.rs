//! The record for people: a table of many, one in full.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::disposition::Recorded;
use super::error::StoreError;
use super::evidence;
use super::outbox::Delivery;
use super::read::{Filter, Reader, Record};
use crate::inspection::{Asked, Inspection, Timeliness};
use crate::verdict::{Finding, Seen, SerialFacts};

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The record cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such record.
    #[error(
        "there is no record \"{wanted}\"; give its number, its result_id, or at least the first 8 \
         characters of that, as `inspectd audit list` shows them"
    )]
    NotFound {
        /// What was asked for.
        wanted: String,
    },
    /// The output cannot be written.
    #[error("cannot write the report: {0}")]
    Output(#[from] std::io::Error),
}

/// Longest text of a cell in characters.
const CELL_MAX_CHARS: usize = 40;

/// Writes the records that `filter` finds as a table, newest last; answers how many.
pub fn list(reader: &Reader, filter: &Filter, out: &mut dyn Write) -> Result<u64, ReportError> {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "No.",
            "Decided (UTC)",
            "Station",
            "Part",
            "Verdict",
            "Disposition",
            "Serial",
            "Latency",
            "Result",
        ]);
    for right in [0, 7] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut rows = 0;
    reader.scan(filter, |record| -> Result<(), StoreError> {
        rows += 1;
        let decided = reader.dispositions(&record.result_id)?;
        table.add_row(cells(record, decided.last()));
        Ok(())
    })?;
    if rows == 0 {
        writeln!(out, "No record matches.")?;
    } else {
        writeln!(out, "{table}")?;
    }
    Ok(rows)
}

/// `decided` is what an operator said last.
fn cells(record: &Record, decided: Option<&Recorded>) -> [String; 9] {
    let verdict = match record.is_simulated {
        true => format!("{} (simulated)", record.verdict.as_str()),
        false => record.verdict.as_str().to_owned(),
    };
    [
        record.sequence.to_string(),
        record.decided_wall.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        cell(&record.station),
        cell(&record.part_id),
        verdict,
        decided.map_or_else(|| "–".to_owned(), |one| one.decision.disposition.as_str().to_owned()),
        record.serial.as_deref().map_or_else(|| "–".to_owned(), cell),
        record.latency_ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.0} ms")),
        record.result_id.clone(),
    ]
}

/// Writes the record that is called `wanted`, see [`Reader::find`]: for people, or as the JSON of
/// its body. With `evidence_dir`, each file is read and compared with its digest.
pub fn show(
    reader: &Reader,
    wanted: &str,
    as_json: bool,
    evidence_dir: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    let record =
        reader.find(wanted)?.ok_or_else(|| ReportError::NotFound { wanted: wanted.to_owned() })?;
    if as_json {
        writeln!(out, "{}", record.body)?;
        return Ok(());
    }
    let inspection = record.inspection()?;
    write_head(&record, &inspection, out)?;
    write_dispositions(&reader.dispositions(&record.result_id)?, out)?;
    write_findings(&inspection.findings, out)?;
    write_facts(&inspection.serial_facts, out)?;
    inspection.questions.iter().try_for_each(|asked| write_question(asked, out))?;
    write_evidence(&inspection, evidence_dir, reader, out)?;
    write_rest(&inspection, &reader.deliveries(&record.result_id)?, out)
}

/// What there is to know beside a verdict that came in time and alone.
fn write_timeliness(told: &Timeliness, out: &mut dyn Write) -> Result<(), ReportError> {
    if let Some(earlier) = &told.updates {
        field("Updates", &earlier.to_string(), out)?;
    }
    if told.is_partial {
        field("Partial", "told before every question was answered; an update follows", out)?;
    }
    if let (Some(false), Some(ms)) = (told.deadline_met, told.deadline_ms) {
        let would = told.late_outcome.map(|outcome| format!(", would be {}", outcome.as_str()));
        field("Deadline", &format!("{ms} ms, missed{}", would.unwrap_or_default()), out)?;
    }
    Ok(())
}

fn write_head(record: &Record, look: &Inspection, out: &mut dyn Write) -> Result<(), ReportError> {
    let simulated = if look.is_simulated { ", simulated" } else { "" };
    let clock = if look.times.clock_synchronized { "" } else { " (clock not synchronised)" };
    writeln!(out, "Record {}, result {}{simulated}", record.sequence, record.result_id)?;
    let place = format!("{} on {}, recipe {}", look.station, look.device, look.recipe);
    field("Station", &place, out)?;
    let trigger = look.trigger_id.as_ref().map(|id| format!(", trigger {id}"));
    let part = format!("{} (job {}{})", look.part_id, look.job_id, trigger.unwrap_or_default());
    field("Part", &part, out)?;
    write_timeliness(&look.timeliness, out)?;
    field("Verdict", look.verdict.outcome.as_str(), out)?;
    for reason in &look.verdict.reasons {
        field("", &format!("{} ({})", reason.text, reason.code), out)?;
    }
    field("Serial", look.serial().unwrap_or("–"), out)?;
    let moment = |stamp: &crate::clock::Stamp| stamp.wall.to_string();
    field("Triggered", &format!("{}{clock}", moment(&look.times.triggered)), out)?;
    let captured = match (&look.times.captured, look.frame_sequence) {
        (Some(stamp), Some(frame)) => format!("{} (frame {frame})", moment(stamp)),
        (Some(stamp), None) => moment(stamp),
        (None, _) => "no frame".to_owned(),
    };
    field("Captured", &captured, out)?;
    field("Decided", &moment(&look.times.decided), out)
}

/// What operators decided, beside the verdict that stays.
fn write_dispositions(decided: &[Recorded], out: &mut dyn Write) -> Result<(), ReportError> {
    for one in decided {
        let decision = &one.decision;
        let note = decision.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
        let text = format!("{} by {}{note}", decision.disposition.as_str(), decision.by);
        field("Decided", &format!("{text} (record {} at {})", one.sequence, one.wall), out)?;
    }
    Ok(())
}

fn write_findings(findings: &[Finding], out: &mut dyn Write) -> Result<(), ReportError> {
    for finding in findings {
        let seen = match &finding.seen {
            Seen::Serial { value: Some(text), proposed: None } => format!("serial {text}"),
            Seen::Serial { value: Some(text), proposed: Some(repair) } => {
                let word = if repair.accepted { "taken for" } else { "perhaps" };
                format!("serial {text}, {word} {}", repair.serial)
            }
            Seen::Serial { value: None, .. } => "serial illegible".to_owned(),
            Seen::Inspected { count } => format!("looked at, {count} defects"),
            Seen::NotInspectable => "does not show the part".to_owned(),
            Seen::Defect { class, severity, location } => {
                format!("defect {class}, {severity}, at {location}")
            }
            Seen::Field { name, value } => format!("{name} = {value}"),
        };
        let sure = finding.confidence * 100.0;
        let text = format!("{seen} ({:.1} %, {} in {})", sure, finding.question, finding.region);
        field("Finding", &text, out)?;
    }
    Ok(())
}

/// What was looked up about the serials.
fn write_facts(facts: &[SerialFacts], out: &mut dyn Write) -> Result<(), ReportError> {
    for facts in facts {
        if let Some(list) = &facts.list {
            let word = if list.has_reading { "is" } else { "is not" };
            let text = format!(
                "{} {word} one of {} expected serials, list {}",
                facts.reading, list.entries, list.digest
            );
            field("Looked up", &text, out)?;
        }
        for earlier in [&facts.earlier, &facts.used].into_iter().flatten() {
            let text = format!(
                "{} stands in record {}, part {} of {}",
                earlier.serial, earlier.sequence, earlier.part_id, earlier.station
            );
            field("Looked up", &text, out)?;
        }
        if let Some(why) = &facts.unchecked {
            field("Looked up", &format!("{}: {why}", facts.reading), out)?;
        }
    }
    Ok(())
}

fn write_question(asked: &Asked, out: &mut dyn Write) -> Result<(), ReportError> {
    let text = match (&asked.answer, &asked.error) {
        (Some(answer), None) => answer.text.clone(),
        (Some(answer), Some(error)) => format!("{} ({error})", answer.text),
        (None, Some(error)) => format!("no answer: {error}"),
        (None, None) => "no answer".to_owned(),
    };
    field("Question", &format!("{}: {text}", asked.question), out)
}

fn write_evidence(
    look: &Inspection,
    evidence_dir: Option<&Path>,
    reader: &Reader,
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    for crop in &look.evidence {
        let state = match evidence_dir {
            None => String::new(),
            Some(dir) => match std::fs::read(evidence::path(dir, &crop.sha256)) {
                Ok(bytes) if evidence::digest(&bytes) == crop.sha256 => ", file intact".to_owned(),
                Ok(_) => ", FILE CHANGED: its digest is another".to_owned(),
                Err(why) => match reader.removed(&crop.sha256)? {
                    Some(when) => format!(", removed by retention at {when}"),
                    None => format!(", file cannot be read: {why}"),
                },
            },
        };
        let px = crop.frame_px;
        let place = format!("{}x{} px at x {} y {}", px.width, px.height, px.x, px.y);
        field("Evidence", &format!("{} ({place}) {}{state}", crop.region, crop.sha256), out)?;
    }
    Ok(())
}

fn write_rest(
    look: &Inspection,
    deliveries: &[Delivery],
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    let timings = &look.timings;
    let stages = format!(
        "{:.0} ms from trigger to verdict: {:.0} waiting, {:.0} cutting, {:.0} measuring, \
         {:.0} model, {:.0} evidence",
        timings.latency_ms,
        timings.queued_ms,
        timings.crop_ms,
        timings.quality_ms,
        timings.model_ms,
        timings.evidence_ms
    );
    field("Time", &stages, out)?;
    for delivery in deliveries {
        let state = match (&delivery.sent, &delivery.quarantine_reason) {
            (Some(sent), _) => format!("acknowledged by the broker at {sent}"),
            (None, Some(reason)) => format!("put aside: {reason}"),
            (None, None) => format!("waits since {}", delivery.created),
        };
        field("Delivery", &format!("{}: {state}", delivery.kind), out)?;
    }
    field("Model", &look.digests.model, out)?;
    for asked in &look.questions {
        let Some(by) = &asked.answered_by else { continue };
        let model = by.model.as_ref().or(by.model_asked.as_ref());
        let model = model.map(|name| format!(", model {name}")).unwrap_or_default();
        let tries =
            if by.attempts > 1 { format!(", {} tries", by.attempts) } else { String::new() };
        let time = format!("{:.0} ms{tries}", by.timings.total_ms);
        let text = format!("{} at {}{model} for {}, {time}", by.engine, by.origin, asked.question);
        field("Engine", &text, out)?;
        if let Some(why) = &by.fallen_back {
            field("Fallback", &format!("the own model answered: {}", why.text), out)?;
        }
    }
    for (question, digest) in &look.digests.adapters {
        field("Adapter", &format!("{digest} for {question}"), out)?;
    }
    if let Some(on) = &look.computed_on {
        let fallback = on.fallback.as_ref().map(|why| format!(" (no GPU: {why})"));
        let text = format!("{}, {}{}", on.processor, on.precision, fallback.unwrap_or_default());
        field("Computed", &text, out)?;
    }
    if let Some(digest) = &look.digests.calibration {
        field("Calibration", digest, out)?;
    }
    field("Config", &look.digests.config, out)?;
    field("Program", &look.digests.program, out)
}

/// One line: a name and a text. What a model or a broker wrote cannot move the cursor.
fn field(name: &str, text: &str, out: &mut dyn Write) -> Result<(), ReportError> {
    writeln!(out, "  {name:<10}{}", printable(text))?;
    Ok(())
}

/// Replaces control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A bounded, printable text.
fn cell(text: &str) -> String {
    let mut shown = printable(text);
    if let Some((cut, _)) = shown.char_indices().nth(CELL_MAX_CHARS) {
        shown.truncate(cut);
        shown.push('…');
    }
    shown
}
