//! `inspectd model quantize`: a published model folder to one GGUF file.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::capacity::machine::Resident;
use crate::cli::Exit;
use crate::vlm::quantize::{Event, Mix, QuantizeError, QuantizeOptions, QuantizeSummary, quantize};

pub const EXAMPLES: &str = "\
The file holds the whole model: weights, configuration, tokenizer, preprocessing, licence, and the
SHA-256 of every file it was made from. Name it under [model] path, or after --model.

  q4_k_m   4.5 to 6.6 bits a weight, 2.7 GB for the full model: fits a board with 8 GB
  q5_k_m   5.5 to 6.6 bits
  q6_k     6.6 bits
  q8_0     8.5 bits, 4.4 GB for the full model

Vision tower and projector have 8.5 bits in each. Less than 2 GB of memory are needed. An
interrupted run goes on where it stopped when the same command is given again; the file gets its
name when every tensor has been read back and compared with the source.

Examples:
  inspectd model quantize --model Phi-3-vision-128k-instruct --format q4_k_m --out phi3v-q4_k_m.gguf
  inspectd model quantize --model DIR --format q8_0 --out phi3v-q8_0.gguf --threads 2";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model's folder, as published.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The mix of formats: q8_0, q6_k, q5_k_m or q4_k_m.
    #[arg(long, value_name = "FORMAT")]
    format: Mix,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there already.
    #[arg(long)]
    force: bool,
    /// An importance matrix from `inspectd model calibrate`: errors are kept small where this
    /// station's pictures make inputs large.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Threads to compute with; all of the machine's without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = QuantizeOptions {
        model: arguments.model.clone(),
        mix: arguments.format,
        out: arguments.out.clone(),
        force: arguments.force,
        imatrix: arguments.imatrix.clone(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let threads = arguments.threads.map_or(0, usize::from); // 0: as many as there are
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let began = Instant::now();
    let mut show = Show::new();
    let summary = pool.install(|| quantize(&options, &stop, &mut |event| show.event(event)));
    show.end();
    let summary = summary.map_err(with_exit_code)?;
    print(&summary, began.elapsed());
    Ok(())
}

fn with_exit_code(error: QuantizeError) -> anyhow::Error {
    let exit = match &error {
        QuantizeError::Exists { .. } | QuantizeError::Target { .. } => Exit::Usage,
        QuantizeError::Load(_)
        | QuantizeError::AlreadyOneFile { .. }
        | QuantizeError::NotFinite { .. }
        | QuantizeError::Imatrix(_) => Exit::Model,
        QuantizeError::Unfaithful { .. } => Exit::Check,
        _ => Exit::Failed,
    };
    exit.because(error)
}

/// Sets `stop` on SIGINT and SIGTERM, so that the end comes between two pieces and says how to go
/// on; a second signal ends the process at once, which costs the piece in work and nothing else.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::SeqCst) {
                    std::process::exit(1);
                }
            }
        });
    })?;
    Ok(())
}

/// Shows how far the work is: a bar on a terminal, else a line now and then, on standard error.
struct Show {
    bar: ProgressBar,
    terminal: bool,
    stage: &'static str,
    total: u64,
    done: u64,
    said: Instant,
}

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Show {
    fn new() -> Show {
        let terminal = std::io::stderr().is_terminal();
        Show {
            bar: ProgressBar::hidden(),
            terminal,
            stage: "",
            total: 0,
            done: 0,
            said: Instant::now(),
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Stage { name, bytes } => self.stage(name, bytes),
            Event::Advance(bytes) => {
                self.done += bytes;
                self.bar.inc(bytes);
            }
            Event::Tensor { name, kind, done, of } => {
                self.bar.set_message(format!("{done}/{of} {name} {kind}"));
                if !self.terminal && self.said.elapsed() >= LINE_EVERY {
                    let share = 100.0 * self.done as f64 / self.total.max(1) as f64;
                    eprintln!(
                        "{}: {share:.0} %, {done} of {of} tensors, {name} {kind}",
                        self.stage
                    );
                    self.said = Instant::now();
                }
            }
            Event::Note(text) => self.bar.suspend(|| eprintln!("{text}")),
        }
    }

    fn stage(&mut self, name: &'static str, total: u64) {
        self.end();
        (self.stage, self.total, self.done) = (name, total, 0);
        if !self.terminal {
            eprintln!("{name}");
            self.said = Instant::now();
            return;
        }
        let template = "{prefix} {wide_bar} {percent:>3} % {msg} {eta} left";
        self.bar = ProgressBar::new(total).with_prefix(name);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn print(summary: &QuantizeSummary, took: Duration) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["storage", "tensors", "weights", "MB", "bits", "error", "worst", "tensor"]);
    for kind in &summary.kinds {
        table.add_row([
            kind.kind.to_string(),
            kind.tensors.to_string(),
            kind.weights.to_string(),
            format!("{:.1}", kind.bytes as f64 / 1e6),
            format!("{:.2}", kind.bytes as f64 * 8.0 / kind.weights as f64),
            format!("{:.5}", kind.mean_error),
            format!("{:.5}", kind.worst_error),
            kind.worst_tensor.clone(),
        ]);
    }
    println!("{table}");
    println!("error: root mean square against the source, relative to the weights themselves");
    let picture = &summary.embeddings;
    println!(
        "embeddings    of a test picture: {:.5} off (root mean square, relative), worst cosine \
         {:.6}, largest difference {:.5}",
        picture.relative, picture.worst_cosine, picture.largest
    );
    if summary.fell_back > 0 {
        println!(
            "fallback      {} matrices have rows that are not whole blocks of 256 (or 32): they \
             are q8_0 (or f16) instead",
            summary.fell_back
        );
    }
    if summary.weighed > 0 {
        println!("importance    of inputs was heeded in {} matrices", summary.weighed);
    }
    if summary.resumed > 0 {
        println!("resumed       {} tensors were written by an earlier run", summary.resumed);
    }
    println!(
        "size          {:.3} GB, {:.2} bits a weight; the decoder alone {:.3} GB",
        summary.file_bytes as f64 / 1e9,
        summary.file_bytes as f64 * 8.0 / summary.weights as f64,
        summary.decoder_bytes as f64 / 1e9
    );
    println!("memory        {:.2} GB at most", Resident::now().peak_bytes as f64 / 1e9);
    println!("time          {:.1} s", took.as_secs_f64());
    println!("written to    {}", summary.out.display());
}
