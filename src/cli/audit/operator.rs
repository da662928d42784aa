//! What an operator adds to the log or takes from it: dispositions, events, anchors, the key.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::super::Exit;
use crate::clock::SystemClock;
use crate::store::sign::SignKey;
use crate::store::{Disposition, Reader, disposition};

#[derive(clap::Args, Debug)]
pub struct DispositionArguments {
    /// The result: its number, or its result_id or the beginning of that.
    result: String,
    /// What becomes of the part.
    #[arg(long = "as", value_enum)]
    disposition: Word,
    /// Who decided, 64 characters at most.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why, 1000 characters at most.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// It is good.
    Pass,
    /// It is bad.
    Fail,
    /// It goes back to be made good.
    Rework,
    /// It is thrown away.
    Scrap,
    /// It has a defect and is used all the same.
    UseAsIs,
}

impl From<Word> for Disposition {
    fn from(word: Word) -> Disposition {
        match word {
            Word::Pass => Disposition::Pass,
            Word::Fail => Disposition::Fail,
            Word::Rework => Disposition::Rework,
            Word::Scrap => Disposition::Scrap,
            Word::UseAsIs => Disposition::UseAsIs,
        }
    }
}

#[derive(clap::Args, Debug)]
pub struct EventsArguments {
    /// Only this kind: start, stop, configuration, model, clock_step, disposition, …
    #[arg(long)]
    kind: Option<String>,
    /// The newest N of them.
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: u32,
}

/// Records what a person decided about a result.
pub fn dispose(
    database: &Path,
    arguments: &DispositionArguments,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let DispositionArguments { result, disposition, by, note } = arguments;
    let (disposition, note) = ((*disposition).into(), note.as_deref());
    let done = disposition::record(database, &SystemClock, result, disposition, by, note)
        .map_err(|error| Exit::Store.because(error))?;
    let decision = &done.decision;
    writeln!(
        out,
        "record {}: {} by {} on result {} (verdict {}, which stays)",
        done.sequence,
        disposition.as_str(),
        by,
        decision.result_id,
        decision.verdict
    )?;
    Ok(())
}

/// Lists events, oldest first, one a line.
pub fn events(
    reader: &Reader,
    arguments: &EventsArguments,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let events = reader
        .events(arguments.kind.as_deref(), arguments.last)
        .map_err(|error| Exit::Store.because(error))?;
    for event in events {
        // Canonical JSON escapes every control character but DEL and those above it.
        let body = event.body.replace(char::is_control, "\u{fffd}");
        let clock = if event.clock_synchronized { ' ' } else { '?' };
        let moment = event.wall.strftime("%Y-%m-%d %H:%M:%S%.3f");
        writeln!(out, "{:>8}  {moment}{clock} {:<13} {body}", event.sequence, event.kind)?;
    }
    Ok(())
}

/// Prints the head of the chain, for whoever keeps it.
pub fn anchor(
    reader: &Reader,
    sign_key: Option<&PathBuf>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let store = |error| Exit::Store.because(error);
    let key = sign_key.map(|path| SignKey::read(path)).transpose().map_err(store)?;
    let anchor = reader.anchor(key).map_err(store)?;
    writeln!(out, "{}", serde_json::to_string(&anchor)?)?;
    Ok(())
}

/// Makes a key for the device and prints its public part.
pub fn key(path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let key = SignKey::create(path).map_err(|error| Exit::Failed.because(error))?;
    write!(out, "{}", key.public_pem())?;
    eprintln!(
        "private key in {}, public key above; set `sign_key` in [database], and keep the public key \
         where the log is verified",
        path.display()
    );
    Ok(())
}
