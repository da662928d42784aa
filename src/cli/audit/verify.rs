//! `inspectd audit verify`: whether the log is whole, and where it is not.

use std::io::Write;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::Exit;
use crate::store::sign::PublicKey;
use crate::store::verify::{self, Break, Report, VerifyOptions};
use crate::store::{Anchor, Reader};

/// Records below which no progress is shown.
const PROGRESS_MIN_RECORDS: u64 = 5000;

/// Largest file of anchors that is read, in bytes.
const ANCHORS_MAX_BYTES: u64 = 16 * 1024 * 1024;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// An anchor that was kept elsewhere: SEQUENCE:DIGEST, or a file with the payload of the MQTT topic
    /// `chain` or lines of it. May be given several times.
    #[arg(long = "anchor", value_name = "ANCHOR")]
    anchors: Vec<String>,
    /// Check the signatures of anchors with this public key (PEM).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The folder of the evidence files, if it is not the configured one.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
    /// Begin at this record of the chain; what stands before it is believed.
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// Begin at the first record, by sequence, that was chained at this moment or later (RFC 3339).
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    since: Option<jiff::Timestamp>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Verifies, tells, and ends with an exit code of its own if the log is broken. `evidence_dir` is the
/// configured folder.
pub fn run(
    reader: &Reader,
    arguments: &Arguments,
    evidence_dir: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let options = options(reader, arguments, evidence_dir)?;
    let bar = ProgressBar::hidden();
    let progress = &mut |done: u64, total: u64| {
        if total >= PROGRESS_MIN_RECORDS && bar.length() != Some(total) {
            bar.set_length(total);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:40} {pos} of {len} records, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        bar.set_position(done);
    };
    let report =
        verify::verify(reader, &options, progress).map_err(|error| Exit::Store.because(error))?;
    bar.finish_and_clear();
    match arguments.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        false => tell(&report, options.evidence_dir.is_some(), out)?,
    }
    out.flush()?;
    match report.first_break() {
        None => Ok(()),
        Some(first) => {
            let (code, sequence) = (first.code.as_str(), first.sequence);
            let error = anyhow::anyhow!("the first break is {code} at record {sequence}");
            Err(Exit::Broken.because(error))
        }
    }
}

fn options(
    reader: &Reader,
    arguments: &Arguments,
    evidence_dir: Option<&Path>,
) -> anyhow::Result<VerifyOptions> {
    let usage = |text: String| Exit::Usage.because(anyhow::anyhow!(text));
    let mut anchors = Vec::new();
    for given in &arguments.anchors {
        match Path::new(given).is_file() {
            true => anchors.extend(anchors_in(Path::new(given)).map_err(usage)?),
            false => anchors.push(Anchor::parse(given).map_err(|why| {
                usage(format!("--anchor {given}: {why}, or the name of a file with anchors"))
            })?),
        }
    }
    let key = arguments.key.as_deref().map(PublicKey::read).transpose();
    let beside = reader.path().with_file_name("evidence");
    let evidence_dir = arguments.evidence.clone().or_else(|| match evidence_dir {
        Some(dir) => Some(dir.to_owned()),
        None => beside.is_dir().then_some(beside),
    });
    let from = match (arguments.from, arguments.since) {
        (Some(from), _) => from,
        (None, Some(since)) => {
            reader.first_since(since).map_err(|error| Exit::Store.because(error))?
        }
        (None, None) => 1,
    };
    let key = key.map_err(|error| Exit::Usage.because(error))?;
    Ok(VerifyOptions { evidence_dir, anchors, key, from })
}

/// The anchors of a file: one JSON object, or one a line.
fn anchors_in(path: &Path) -> Result<Vec<Anchor>, String> {
    let wrong = |why: String| format!("the file of anchors {}: {why}", path.display());
    let bytes = std::fs::metadata(path).map_err(|why| wrong(why.to_string()))?.len();
    if bytes > ANCHORS_MAX_BYTES {
        return Err(wrong(format!("it has {bytes} bytes, {ANCHORS_MAX_BYTES} at most")));
    }
    let text = std::fs::read_to_string(path).map_err(|why| wrong(why.to_string()))?;
    let anchors: Result<Vec<Anchor>, _> =
        serde_json::Deserializer::from_str(&text).into_iter().collect();
    let anchors = anchors.map_err(|why| wrong(format!("it is no anchor as JSON: {why}")))?;
    match anchors.is_empty() {
        true => Err(wrong("it is empty".to_owned())),
        false => Ok(anchors),
    }
}

fn tell(report: &Report, has_evidence: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let Report { first, last, inspections, anchors, .. } = report;
    writeln!(out, "Chain {} of {}", report.chain_id, report.device.escape_debug())?;
    writeln!(out, "  records    {first} to {last}, {inspections} of them inspections")?;
    writeln!(out, "  head       {last}:{}", report.head)?;
    match has_evidence {
        true => {
            let (files, removed) = (report.evidence_files, report.evidence_removed);
            writeln!(out, "  pictures   {files} intact, {removed} removed by retention")?;
        }
        false => writeln!(out, "  pictures   not looked at: name their folder with --evidence")?,
    }
    writeln!(out, "  anchors    {anchors}, {} with a right signature", report.signatures)?;
    for note in &report.notes {
        writeln!(out, "  note       {note}")?;
    }
    let Some((first, others)) = report.breaks.split_first() else {
        return writeln!(out, "INTACT");
    };
    tell_break("BROKEN", first, out)?;
    for other in others {
        tell_break("  further", other, out)?;
    }
    let untold = report.break_count - report.breaks.len() as u64;
    match untold {
        0 => Ok(()),
        _ => writeln!(out, "  further    {untold} more"),
    }
}

fn tell_break(title: &str, found: &Break, out: &mut dyn Write) -> std::io::Result<()> {
    let Break { code, sequence, subject, .. } = found;
    writeln!(out, "{title} at record {sequence}: {}", code.as_str())?;
    writeln!(out, "    where      {subject}")?;
    writeln!(out, "    expected   {}", found.expected)?;
    writeln!(out, "    found      {}", found.found)?;
    writeln!(out, "    meaning    {}", code.meaning())
}
