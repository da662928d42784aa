//! `inspectd audit`: read the log, verify it, copy it, see to its pictures, and add to it what an
//! operator decided.

mod backup;
mod export;
mod merge;
mod operator;
mod prune;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::{ConfigFile, Exit};
use crate::store::{self, Filter, Reader, StoreOptions};
use crate::verdict::Outcome;

pub const EXAMPLES: &str = "\
Examples:
  inspectd audit list --last 20
  inspectd audit list --verdict review --since 2026-11-20T06:00:00Z
  inspectd audit show 17
  inspectd audit show 0193a1b2 --json
  inspectd audit export --format csv --out shift.csv
  inspectd audit verify --anchor 4711:9f86d081…
  inspectd audit disposition 17 --as rework --by \"A. Weber\" --note \"scratch polished\"
  inspectd audit events --kind configuration
  inspectd audit key --out /etc/inspectd/device.key
  inspectd audit export --format parquet --out year.parquet
  inspectd audit export --labelled set --region label
  inspectd audit backup --to /mnt/backup --evidence
  inspectd audit merge press-1.db press-2.db --out plant.jsonl
  inspectd audit prune --dry-run";

/// Records that `list` shows when nothing is selected.
const LIST_LAST: u32 = 20;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Read this database instead of the configured one.
    #[arg(long, value_name = "FILE", global = true)]
    database: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the newest 20 records as a table, or those selected, oldest first.
    List(Selection),
    /// Show one record.
    Show {
        /// Its sequence number, or its result_id or the beginning of it.
        record: String,
        /// Print the record as it is stored.
        #[arg(long)]
        json: bool,
    },
    /// Verify the chain, the pictures and the anchors; name the first break. Never writes.
    Verify(verify::Arguments),
    /// Record what an operator decided about a result, beside a running daemon or not. The result
    /// itself never changes.
    Disposition(operator::DispositionArguments),
    /// List events: starts, stops, changed configurations and models, clock steps, dispositions.
    Events(operator::EventsArguments),
    /// Print the head of the chain as JSON: kept elsewhere, it shows that no record is missing.
    Anchor,
    /// Make a private key that signs the heads, and print its public part.
    Key {
        /// The file to make; one that is there is never replaced.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write records as JSON lines, CSV or Parquet.
    Export(export::Arguments),
    /// Write the records of several devices' logs as JSON lines in one order of time, each log proven first.
    Merge(merge::Arguments),
    /// Copy the log while the daemon writes it, and check the copy.
    Backup(backup::Arguments),
    /// Remove pictures as [retention] says, which the daemon does by itself. Records stay.
    Prune(prune::Arguments),
}

#[derive(clap::Args, Debug)]
struct Selection {
    /// Only this station.
    #[arg(long)]
    station: Option<String>,
    /// Only this verdict.
    #[arg(long, value_enum)]
    verdict: Option<Word>,
    /// Only this serial number.
    #[arg(long)]
    serial: Option<String>,
    /// Only records decided at or after this moment (RFC 3339), by the wall clock as it was then; the
    /// order is always that of the log.
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Only records decided before this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// Only the newest N of them.
    #[arg(long, value_name = "N")]
    last: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    Pass,
    Fail,
    Review,
}

impl Selection {
    fn filter(&self) -> Filter {
        Filter {
            station: self.station.clone(),
            serial: self.serial.clone(),
            verdict: self.verdict.map(|word| match word {
                Word::Pass => Outcome::Pass,
                Word::Fail => Outcome::Fail,
                Word::Review => Outcome::Review,
            }),
            since: self.since,
            until: self.until,
            last: self.last,
        }
    }
}

/// Opens the log, beside a running daemon or not, and answers. Only `disposition` and `prune` write.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Command::Key { out } = &arguments.command {
        // It needs no log and no configuration.
        return operator::key(out, &mut io::stdout().lock());
    }
    if let Command::Merge(wanted) = &arguments.command {
        return merge::run(wanted, &mut BufWriter::new(io::stdout()));
    }
    let options = match &arguments.database {
        Some(path) => beside(path),
        None => super::run::load(&arguments.config)?.settings.store,
    };
    // Beside a database that was named there may be no pictures; the configured ones must be there.
    let there = arguments.database.is_none() || options.evidence_dir.is_dir();
    let evidence_dir = there.then_some(options.evidence_dir.as_path());
    let mut out = BufWriter::new(io::stdout());
    match &arguments.command {
        Command::Prune(wanted) if !wanted.dry_run => return prune::run(&options),
        // With no reader beside it, SQLite tidies up when it is done.
        Command::Disposition(wanted) => {
            operator::dispose(&options.path, wanted, &mut out)?;
            return Ok(out.flush()?);
        }
        _ => {}
    }
    let reader = Reader::open(&options.path).map_err(|error| Exit::Store.because(error))?;
    match &arguments.command {
        Command::List(selection) => {
            let mut filter = selection.filter();
            let all = Filter::default();
            if filter == all {
                // A log of a year is no table for a terminal.
                filter.last = Some(LIST_LAST);
            }
            store::report::list(&reader, &filter, &mut out)?;
        }
        Command::Show { record, json } => {
            store::report::show(&reader, record, *json, evidence_dir, &mut out)?;
        }
        Command::Verify(arguments) => verify::run(&reader, arguments, evidence_dir, &mut out)?,
        Command::Events(arguments) => operator::events(&reader, arguments, &mut out)?,
        Command::Anchor => operator::anchor(&reader, options.sign_key.as_ref(), &mut out)?,
        Command::Disposition(_) | Command::Key { .. } | Command::Merge(_) => {
            unreachable!("done above")
        }
        Command::Export(wanted) => export::run(wanted, &reader, &options.evidence_dir, &mut out)?,
        Command::Backup(wanted) => backup::run(wanted, &reader, &options, &mut out)?,
        Command::Prune(_) => prune::preview(&reader, &options, &mut out)?,
    }
    out.flush()?;
    Ok(())
}

/// The log at `path`, with the pictures in the folder that is theirs unless the configuration says
/// otherwise.
fn beside(path: &Path) -> StoreOptions {
    let mut options = StoreOptions::in_dir(path.parent().unwrap_or(Path::new("")));
    options.path = path.to_owned();
    options
}
