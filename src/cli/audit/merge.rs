//! `inspectd audit merge`: the logs of several devices as one, each proven first.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::Exit;
use crate::store::Reader;
use crate::store::merge::{Log, merge};
use crate::store::sign::PublicKey;
use crate::store::verify::{Report, VerifyOptions, verify};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The databases, as `audit backup` writes them: one of each device.
    #[arg(value_name = "DATABASE", required = true, num_args = 1..)]
    databases: Vec<PathBuf>,
    /// The file to write, there when it is whole; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Check the signatures of each log's kept heads with one of these public keys (PEM).
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
}

/// Verifies every log, and writes nothing if one of them is broken.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut opened = Vec::new();
    for path in &arguments.databases {
        let reader = Reader::open(path).map_err(|error| Exit::Store.because(error))?;
        let report = proven(&reader, &arguments.keys)?;
        eprintln!("{}: {} records of {}, whole", path.display(), report.inspections, report.device);
        opened.push((reader, report));
    }
    for (at, (reader, report)) in opened.iter().enumerate() {
        let twin = opened[..at].iter().find(|(_, other)| other.chain_id == report.chain_id);
        if let Some((other, _)) = twin {
            return Err(Exit::Usage.because(anyhow::anyhow!(
                "{} and {} are copies of one log; name the newer one alone",
                other.path().display(),
                reader.path().display()
            )));
        }
    }
    let logs: Vec<Log<'_>> = opened
        .iter()
        .map(|(reader, report)| Log {
            reader,
            chain_id: report.chain_id.clone(),
            device: report.device.clone(),
        })
        .collect();
    match &arguments.out {
        None => {
            merge(&logs, out)?;
        }
        Some(path) => {
            let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let file = tempfile::NamedTempFile::new_in(folder)?;
            let written = merge(&logs, &mut BufWriter::new(file.as_file()))?;
            File::sync_all(file.as_file())?;
            file.persist(path)?;
            eprintln!("{written} records written to {}", path.display());
        }
    }
    Ok(())
}

/// The report of a log that is whole; with each of `keys` until one fits.
fn proven(reader: &Reader, keys: &[PathBuf]) -> anyhow::Result<Report> {
    let beside = reader.path().with_file_name("evidence");
    let evidence_dir = beside.is_dir().then_some(beside);
    let mut wanted: Vec<Option<PublicKey>> = Vec::new();
    for path in keys {
        wanted.push(Some(PublicKey::read(path).map_err(|error| Exit::Usage.because(error))?));
    }
    if wanted.is_empty() {
        wanted.push(None);
    }
    let mut first = None;
    for key in wanted {
        let options =
            VerifyOptions { evidence_dir: evidence_dir.clone(), key, ..VerifyOptions::default() };
        let report =
            verify(reader, &options, &mut |_, _| {}).map_err(|error| Exit::Store.because(error))?;
        match report.first_break() {
            None => return Ok(report),
            Some(found) => {
                let text = format!("{} at record {}", found.code.as_str(), found.sequence);
                first.get_or_insert(text);
            }
        }
    }
    let why = first.unwrap_or_default();
    Err(Exit::Broken.because(anyhow::anyhow!(
        "{} is not whole ({why}), so nothing was merged; `inspectd audit verify --database` tells more",
        reader.path().display()
    )))
}
