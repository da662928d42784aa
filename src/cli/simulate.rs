//! `inspectd simulate`: footage and labelled pictures of a simulated line.

use std::path::PathBuf;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::simulate::footage::{self, FootageOptions};
use crate::simulate::{Mix, SetOptions, write_set};

pub const EXAMPLES: &str = "\
Examples:
  inspectd simulate footage --parts 20 --seed 1 --speed 120 --out line.mkv
  inspectd simulate pictures --count 1000 --seed 7 --out set
  inspectd simulate pictures --count 100 --seed 7 --dense --out training-set
  inspectd simulate pictures --count 300 --seed 21 --rust 0.5 --out rusty-set";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write footage of parts on a moving belt, with the truth beside it as FILE.truth.jsonl.
    Footage {
        /// Parts on the belt.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        parts: u32,
        /// The same seed gives the same footage.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Belt speed in millimetres per second.
        #[arg(long, default_value_t = 120.0, value_name = "MM_PER_S")]
        speed: f64,
        /// The file to write; its ending (.mkv, .avi) chooses the container.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write a labelled set: pictures as one region sees them, and truth.jsonl.
    Pictures {
        /// How many.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        count: u64,
        /// The same seed gives the same pictures.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Write per-pixel truth too (FILE.truth.png), for training.
        #[arg(long)]
        dense: bool,
        /// The share of pictures that show an empty belt or hardly any part.
        #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
        empty: f64,
        /// The share of parts with rust, a defect that the built-in model was not trained on.
        #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
        rust: f64,
        /// The folder to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the subcommand, with a progress bar on a terminal.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Footage { parts, seed, speed, out } => {
            let options = FootageOptions {
                parts: *parts,
                seed: *seed,
                speed_mm_per_s: *speed,
                out: out.clone(),
            };
            let summary = write_footage(&options)?;
            println!(
                "{} parts in {} frames, {:.1} MB: {}\ntruth: {}",
                summary.parts,
                summary.frames,
                summary.bytes as f64 / 1e6,
                summary.out.display(),
                summary.truth.display()
            );
        }
        Command::Pictures { count, seed, dense, empty, rust, out } => {
            let mix = Mix { empty: *empty, rust: *rust, ..Mix::default() };
            let options =
                SetOptions { count: *count, seed: *seed, dense: *dense, mix, out: out.clone() };
            let bar = bar(*count, "pictures");
            write_set(&options, |done| bar.set_position(done))?;
            bar.finish_and_clear();
            println!("{count} pictures and truth.jsonl in {}", out.display());
        }
    }
    Ok(())
}

/// Writes footage with a progress bar; the demo does it, too.
pub(super) fn write_footage(options: &FootageOptions) -> anyhow::Result<footage::FootageSummary> {
    let bar = bar(1, "frames of footage");
    let summary = footage::write_footage(options, |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(summary)
}

/// A progress bar of bytes on standard error; silent where that is no terminal.
pub(super) fn bytes_bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{wide_bar} {bytes}/{total_bytes} {msg}, {bytes_per_sec}, {eta} left",
    );
    let bar = ProgressBar::new(length).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A progress bar on standard error; silent where that is no terminal.
pub(super) fn bar(length: u64, unit: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}, {eta} left");
    let bar = ProgressBar::new(length).with_message(unit);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
