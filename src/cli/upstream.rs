//! `inspectd upstream`: the copy of the audit log in PostgreSQL.

use std::io::{self, Write};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{ConfigFile, Exit};
use crate::config;
use crate::store::Reader;
use crate::upstream::check::{self, Proof, Which};
use crate::upstream::{UpstreamError, UpstreamOptions, options, tables};

pub const EXAMPLES: &str = "\
Examples:
  inspectd upstream schema | psql -d inspectd
  inspectd upstream check
  inspectd upstream check --all --config office.toml";

const CHECK_EXAMPLES: &str = "\
Nothing but what PostgreSQL holds is needed to prove a chain; where the log itself is on this
machine, each record is compared with it, too. Exit codes: 7 a copy does not hold; 6 PostgreSQL
cannot be asked.

Of the configuration [database] and [postgres] are read, so for an office computer a file with
[postgres] will do.

Examples:
  inspectd upstream check
  inspectd upstream check --all --config office.toml
  inspectd upstream check --log 0193a1b2-7c00-7000-8000-000000000000";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Print the SQL that makes the tables, for an administrator to run.
    Schema {
        /// The schema to make them in: `schema` in [postgres].
        #[arg(value_name = "SCHEMA", default_value = "inspectd", value_parser = schema_name)]
        schema: String,
    },
    /// Prove the copy by its hash chain, and say how far it is behind.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Prove the copies of all devices, not only that of the log here.
        #[arg(long, conflicts_with = "log")]
        all: bool,
        /// Prove the copy of this log, named by its `chain_id`.
        #[arg(long, value_name = "UUID")]
        log: Option<Uuid>,
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    match &arguments.what {
        What::Schema { schema } => Ok(out.write_all(tables::ddl(schema).as_bytes())?),
        What::Check { all, log, config } => {
            let which = match (all, log) {
                (_, Some(log)) => Which::Named(*log),
                (true, None) => Which::All,
                (false, None) => Which::OfLog,
            };
            check(config, &which, out)
        }
    }
}

fn schema_name(text: &str) -> Result<String, String> {
    match options::is_schema_name(text) {
        true => Ok(text.to_owned()),
        false => Err("use a-z, 0-9 and _, a letter first; not pg_…".to_owned()),
    }
}

fn check(file: &ConfigFile, which: &Which, out: &mut dyn Write) -> anyhow::Result<()> {
    let usage = |text: String| Exit::Usage.because(anyhow::anyhow!(text));
    let (path, options) =
        config::postgres_of(&file.path).map_err(|problems| usage(problems.to_string()))?;
    let place = file.path.display();
    let options = options.ok_or_else(|| usage(format!("there is no [postgres] in {place}")))?;
    let log = match path.exists() {
        true => Some(Reader::open(&path).map_err(|error| Exit::Store.because(error))?),
        false if *which == Which::OfLog => {
            let text = format!("there is no audit log {}; name one by --log", path.display());
            return Err(usage(text));
        }
        false => None,
    };
    let proofs = prove(&options, log.as_ref(), which)?;
    if proofs.is_empty() {
        writeln!(out, "There is no copy in PostgreSQL.")?;
    }
    proofs.iter().try_for_each(|proof| tell(proof, out))?;
    out.flush()?;
    match proofs.iter().find_map(|proof| Some((proof, proof.first_break.as_ref()?))) {
        None => Ok(()),
        Some((proof, first)) => Err(Exit::Broken.because(anyhow::anyhow!(
            "the first break of the copy of {} is {} at record {}",
            proof.chain_id,
            first.code,
            first.sequence
        ))),
    }
}

fn prove(
    options: &UpstreamOptions,
    log: Option<&Reader>,
    which: &Which,
) -> anyhow::Result<Vec<Proof>> {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {pos} records read");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let proofs = check::check(options, log, which, &mut |read| bar.set_position(read));
    bar.finish_and_clear();
    proofs.map_err(|error| match error {
        UpstreamError::Store(error) => Exit::Store.because(error),
        other => Exit::Check.because(other),
    })
}

fn tell(proof: &Proof, out: &mut dyn Write) -> io::Result<()> {
    let device = if proof.device.is_empty() { "unknown" } else { &proof.device };
    writeln!(out, "{}  log of {device}", proof.chain_id)?;
    match &proof.first_break {
        None if proof.records == 0 => writeln!(out, "  nothing is copied yet")?,
        None => writeln!(out, "  whole: {} records", proof.records)?,
        Some(first) => {
            let records = proof.records;
            let (code, sequence) = (first.code, first.sequence);
            writeln!(out, "  BROKEN: {code} at record {sequence}; {records} records are there")?;
        }
    }
    if let Some((sequence, digest)) = proof.end {
        writeln!(out, "  ends with {sequence}:{digest}")?;
    }
    match proof.behind {
        None => writeln!(out, "  the log itself is not on this machine"),
        Some(0) => writeln!(out, "  nothing waits to be copied"),
        Some(behind) => writeln!(out, "  {behind} records wait to be copied"),
    }
}
