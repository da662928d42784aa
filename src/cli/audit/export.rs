//! `inspectd audit export`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Selection;
use crate::store::Reader;
use crate::store::export::{ExportFormat, export, export_to_file};
use crate::store::labelled::labelled;
use crate::store::report::ReportError;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// The form.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// The file to write, there when it is whole; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Instead, write a labelled set into this new folder: pictures of records that an operator has
    /// decided about, for `evaluate --set` and for training.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "format"])]
    labelled: Option<PathBuf>,
    /// The region whose pictures go into the labelled set; needed where records have several.
    #[arg(long, value_name = "NAME", requires = "labelled")]
    region: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object a line, with everything.
    Jsonl,
    /// One line a record, for a sheet (RFC 4180).
    Csv,
    /// Typed columns, for DuckDB, pandas and their like.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    fn form(self) -> ExportFormat {
        match self {
            Format::Jsonl => ExportFormat::JsonLines,
            Format::Csv => ExportFormat::Csv,
            #[cfg(feature = "parquet")]
            Format::Parquet => ExportFormat::Parquet,
        }
    }
}

/// Writes the records that were selected.
pub fn run(
    arguments: &Arguments,
    reader: &Reader,
    evidence_dir: &Path,
    out: &mut (dyn Write + Send),
) -> anyhow::Result<()> {
    if let Some(folder) = &arguments.labelled {
        return labelled_set(arguments, reader, evidence_dir, folder, out);
    }
    let (filter, form) = (arguments.selection.filter(), arguments.format.form());
    let Some(path) = &arguments.out else {
        export(reader, &filter, form, out)?;
        return Ok(());
    };
    let count = export_to_file(reader, &filter, form, path).map_err(|why| match why {
        ReportError::Output(why) => anyhow::anyhow!("cannot write {}: {why}", path.display()),
        other => other.into(),
    })?;
    eprintln!("{count} records written to {}", path.display());
    Ok(())
}

fn labelled_set(
    arguments: &Arguments,
    reader: &Reader,
    evidence_dir: &Path,
    folder: &Path,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (filter, region) = (arguments.selection.filter(), arguments.region.as_deref());
    let told = labelled(reader, &filter, evidence_dir, region, folder)?;
    writeln!(out, "{} labelled pictures in {}", told.complete, folder.display())?;
    if told.incomplete > 0 {
        writeln!(
            out,
            "{} more in incomplete.jsonl: complete their serials or defects, and add them to \
             truth.jsonl",
            told.incomplete
        )?;
    }
    if told.without_picture > 0 {
        writeln!(out, "{} decided records have no picture any more", told.without_picture)?;
    }
    if told.ambiguous > 0 {
        writeln!(out, "{} have several pictures: choose one by --region", told.ambiguous)?;
    }
    Ok(())
}
