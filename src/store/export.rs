//! The record for other programs: JSON lines with everything, CSV with what a sheet can hold.

use std::io::Write;

use super::read::{Filter, Reader, Record};
use super::report::ReportError;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object a line: `{"sequence":1,"inspection":{…}}`.
    JsonLines,
    /// A header line and one line a record, RFC 4180.
    Csv,
}

/// The columns of the CSV form.
const COLUMNS: [&str; 11] = [
    "sequence",
    "result_id",
    "station",
    "recipe",
    "job_id",
    "part_id",
    "verdict",
    "serial",
    "decided_wall",
    "latency_ms",
    "is_simulated",
];

/// Writes the records that `filter` finds, oldest first; answers how many. Reads in pages, so its
/// memory does not grow with the record.
pub fn export(
    reader: &Reader,
    filter: &Filter,
    format: ExportFormat,
    out: &mut dyn Write,
) -> Result<u64, ReportError> {
    match format {
        ExportFormat::JsonLines => json_lines(reader, filter, out),
        ExportFormat::Csv => csv_lines(reader, filter, out),
    }
}

fn json_lines(reader: &Reader, filter: &Filter, out: &mut dyn Write) -> Result<u64, ReportError> {
    let mut rows = 0;
    reader.scan(filter, |record| -> Result<(), ReportError> {
        rows += 1;
        // The body goes out as it was recorded, to the byte: a digest over it can be checked.
        writeln!(out, "{{\"sequence\":{},\"inspection\":{}}}", record.sequence, record.body)?;
        Ok(())
    })?;
    out.flush()?;
    Ok(rows)
}

fn csv_lines(reader: &Reader, filter: &Filter, out: &mut dyn Write) -> Result<u64, ReportError> {
    let mut rows = 0;
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS).map_err(output)?;
    reader.scan(filter, |record| -> Result<(), ReportError> {
        rows += 1;
        csv.write_record(cells(record)).map_err(output)
    })?;
    csv.flush()?;
    Ok(rows)
}

fn cells(record: &Record) -> [String; COLUMNS.len()] {
    [
        record.sequence.to_string(),
        record.result_id.clone(),
        record.station.clone(),
        record.recipe.clone(),
        record.job_id.to_string(),
        record.part_id.clone(),
        record.verdict.as_str().to_owned(),
        record.serial.clone().unwrap_or_default(),
        record.decided_wall.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        record.latency_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        record.is_simulated.to_string(),
    ]
}

fn output(why: csv::Error) -> ReportError {
    ReportError::Output(why.into())
}
