//! The record for other programs: JSON lines with everything, CSV with what a sheet can hold,
//! Parquet for whoever counts over years.

#[cfg(feature = "parquet")]
mod parquet;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::backup::folder_of;
use super::read::{Filter, Reader, Record};
use super::report::ReportError;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object a line: `{"sequence":1,"inspection":{…}}`.
    JsonLines,
    /// A header line and one line a record, RFC 4180.
    Csv,
    /// Apache Parquet: typed columns, one row a record.
    #[cfg(feature = "parquet")]
    Parquet,
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
    out: &mut (dyn Write + Send),
) -> Result<u64, ReportError> {
    match format {
        ExportFormat::JsonLines => json_lines(reader, filter, out),
        ExportFormat::Csv => csv_lines(reader, filter, out),
        #[cfg(feature = "parquet")]
        ExportFormat::Parquet => parquet::write(reader, filter, out),
    }
}

/// As [`export`], into the file `path`, which is there when it is whole and on the disk, and not
/// before. A file of that name is replaced.
pub fn export_to_file(
    reader: &Reader,
    filter: &Filter,
    format: ExportFormat,
    path: &Path,
) -> Result<u64, ReportError> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".inspectd-export-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    let mut out = BufWriter::new(file.as_file_mut());
    let rows = export(reader, filter, format, &mut out)?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|why| why.error)?;
    File::open(folder)?.sync_all()?;
    Ok(rows)
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
    let mut csv = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    csv.write_record(COLUMNS).map_err(output)?;
    reader.scan(filter, |record| -> Result<(), ReportError> {
        rows += 1;
        csv.write_record(cells(record).iter().map(AsRef::as_ref)).map_err(output)
    })?;
    csv.flush()?;
    Ok(rows)
}

fn cells(record: &Record) -> [Cow<'_, str>; COLUMNS.len()] {
    [
        record.sequence.to_string().into(),
        harmless(&record.result_id),
        harmless(&record.station),
        harmless(&record.recipe),
        record.job_id.to_string().into(),
        harmless(&record.part_id),
        record.verdict.as_str().into(),
        harmless(record.serial.as_deref().unwrap_or_default()),
        record.decided_wall.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into(),
        record.latency_ms.map(|ms| ms.to_string()).unwrap_or_default().into(),
        record.is_simulated.to_string().into(),
    ]
}

/// A text that a sheet takes as a text: one that begins like a formula gets a `'` in front, as what
/// a part carries or a model read must not compute anything in an office.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n') => format!("'{text}").into(),
        _ => text.into(),
    }
}

fn output(why: csv::Error) -> ReportError {
    ReportError::Output(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_becomes_a_text_and_a_text_stays() {
        for bad in ["=1+1", "+49", "-3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"] {
            assert_eq!(harmless(bad), format!("'{bad}"));
        }
        for good in ["", "A7-K2", "1=1", "'x", "ä"] {
            assert_eq!(harmless(good), good);
        }
    }
}
