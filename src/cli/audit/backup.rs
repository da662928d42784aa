//! `inspectd audit backup`.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::Exit;
use crate::cli::simulate::{bar, bytes_bar};
use crate::store::{Reader, StoreOptions, backup};

/// Damaged pictures that are named; the others are counted.
const NAMED_MAX: usize = 10;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The file to write, or a folder, where it is called inspectd-TIME.db.
    #[arg(long, value_name = "FILE|DIR")]
    to: PathBuf,
    /// Copy the pictures too, into `evidence` beside the file; those that are there are left alone.
    #[arg(long)]
    evidence: bool,
}

/// Copies the log, checks the copy, and says what it holds.
pub fn run(
    arguments: &Arguments,
    reader: &Reader,
    options: &StoreOptions,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let to = target(&arguments.to);
    let progress = bytes_bar(0, "copied");
    let mut show = |done: u64, all: u64| {
        progress.set_length(all);
        progress.set_position(done);
    };
    let copy = backup::database(reader, &to, &mut show).map_err(|why| Exit::Store.because(why))?;
    progress.finish_and_clear();
    writeln!(
        out,
        "{} records in {}, {} bytes, checked",
        copy.records,
        copy.path.display(),
        copy.bytes
    )?;
    if arguments.evidence {
        evidence(options, &to, out)?;
    }
    Ok(())
}

fn evidence(options: &StoreOptions, to: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = to.with_file_name("evidence");
    let progress = bar(0, "pictures");
    let mut show = |done: u64, all: u64| {
        progress.set_length(all);
        progress.set_position(done);
    };
    let told = backup::evidence(&options.evidence_dir, &folder, &mut show)
        .map_err(|why| Exit::Store.because(why))?;
    progress.finish_and_clear();
    writeln!(
        out,
        "{} pictures copied to {}, {} were there already, {} removed by retention meanwhile",
        told.copied,
        folder.display(),
        told.kept,
        told.gone
    )?;
    if told.damaged.is_empty() {
        return Ok(());
    }
    let named = told.damaged.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    Err(Exit::Store.because(anyhow::anyhow!(
        "{} pictures are not what their names say and were not copied: {named}; check the disk of {}",
        told.damaged.len(),
        options.evidence_dir.display()
    )))
}

/// A file in the folder that was named, or the file itself.
fn target(to: &Path) -> PathBuf {
    if !to.is_dir() {
        return to.to_owned();
    }
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    to.join(format!("inspectd-{now}.db"))
}
