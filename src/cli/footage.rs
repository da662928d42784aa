//! `inspectd footage`: what footage holds.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Exit;
use crate::footage::{self, Summary};

pub const EXAMPLES: &str = "\
Examples:
  inspectd footage show shift-7                      (length, frames, drops, triggers)
  inspectd footage show --json shift-7/press-3";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Read the index and say what there is. A torn end is told and is no error.
    Show {
        /// The folder of a recording, of one station in it, or of a clip.
        #[arg(value_name = "DIR")]
        path: PathBuf,
        /// Print one JSON object for each station.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the action.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Action::Show { path, json } = &arguments.action;
    let out = &mut io::stdout().lock();
    for dir in footage::find(path).map_err(|why| Exit::Usage.because(why))? {
        let summary = Summary::read(&dir)?;
        match json {
            true => writeln!(out, "{}", object(&dir, &summary))?,
            false => show(&dir, &summary, out)?,
        }
    }
    Ok(())
}

fn speed(summary: &Summary) -> f64 {
    let frames = (summary.frames + summary.dropped + summary.skipped).saturating_sub(1);
    let seconds = summary.length_s();
    if seconds > 0.0 { frames as f64 / seconds } else { 0.0 }
}

fn object(dir: &Path, summary: &Summary) -> serde_json::Value {
    serde_json::json!({
        "path": dir.display().to_string(),
        "device": summary.header.device,
        "station": summary.header.station,
        "program": summary.header.program,
        "quality": summary.header.quality,
        "pixels": summary.header.pixels,
        "width": summary.header.width,
        "height": summary.header.height,
        "length_s": summary.length_s(),
        "frames": summary.frames,
        "frames_per_s": speed(summary),
        "dropped": summary.dropped,
        "skipped": summary.skipped,
        "segments": summary.segments,
        "bytes": summary.bytes,
        "camera_losses": summary.losses,
        "triggers": summary.orders,
        "eye_edges": summary.eye_edges,
        "verdicts": summary.marks,
        "first": summary.taken.map(|(first, _)| first.wall),
        "last": summary.taken.map(|(_, last)| last.wall),
        "ended": summary.ended,
        "is_torn": summary.is_torn,
    })
}

fn show(dir: &Path, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
    let header = &summary.header;
    let mut line = |name: &str, text: String| writeln!(out, "{name:<9} {text}");
    line("footage", dir.display().to_string())?;
    line("of", format!("{}, station {}", header.device, header.station))?;
    line(
        "pictures",
        format!(
            "{}x{} px, {}, {:.1} MB in {} segments",
            header.width,
            header.height,
            header.quality.as_str(),
            summary.bytes as f64 / 1e6,
            summary.segments
        ),
    )?;
    if let Some((first, last)) = summary.taken {
        line("taken", format!("{:.0} to {:.0}", first.wall, last.wall))?;
    }
    line(
        "length",
        format!(
            "{:.1} s, {} frames, {:.1} a second",
            summary.length_s(),
            summary.frames,
            speed(summary)
        ),
    )?;
    line(
        "missing",
        format!(
            "{} dropped by the encoder, {} not seen by the station",
            summary.dropped, summary.skipped
        ),
    )?;
    line("camera", format!("lost {} times", summary.losses))?;
    let (orders, edges) = (summary.orders, summary.eye_edges);
    line("triggers", format!("{orders} by command, {edges} edges of a photo eye"))?;
    for mark in &summary.marks {
        let text = format!("{} of part {}, result {}", mark.verdict, mark.part_id, mark.result_id);
        line("verdict", text)?;
    }
    let torn = if summary.is_torn { "; its last line is torn" } else { "" };
    match &summary.ended {
        Some(why) => line("ended", format!("in good order: {why}"))?,
        None => line("ended", format!("cut off{torn}; what is whole can be played"))?,
    }
    Ok(())
}
