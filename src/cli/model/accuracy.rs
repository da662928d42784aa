//! `inspectd model accuracy`: what fewer bits cost, in one table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::{Exit, evaluate as ask, run as running};
use crate::daemon::{DaemonError, plan};
use crate::evaluate::{self, Report};
use crate::telemetry;
use crate::vlm::accuracy::{self, Distance, Probe, Trail};
use crate::vlm::quantize::{MIXES, Mix, Plan};
use crate::vlm::{CacheWish, Engine, EngineOptions};

pub const EXAMPLES: &str = "\
Examples:
  inspectd model accuracy --model DIR
  inspectd simulate pictures --count 200 --seed 7 --out set
  inspectd model accuracy --model models/builtin --set set
  inspectd model accuracy --model DIR --formats q8_0,q4_k_m --set set --config inspectd.toml --json accuracy.json
  inspectd model accuracy --model DIR --formats none --file phi3v-q4_k_m.gguf
  inspectd model accuracy --model DIR --formats f32,q4_k_m --cache auto,compact

Each format is made in memory of the model's own weights and asked what the weights in f32 were
asked. Rows that are not whole blocks are filled up with zeros, so a small model shows each
format's own rounding. `--set` adds what people feel: verdicts, serials, escapes, and how many
answers are the same, letter for letter.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model folder; the built-in model without it.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Formats to try, separated by commas: q8_0, q6_k, q5_k_m, q4_k_m, and f32 to try a cache
    /// alone; `none` for files only.
    #[arg(long, value_name = "LIST", default_value = "q8_0,q6_k,q5_k_m,q4_k_m")]
    formats: String,
    /// Also compare this GGUF file; repeat for more.
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What keys and values are kept in, separated by commas: auto, f32, f16, compact. Each format
    /// and file is tried with each.
    #[arg(long, value_name = "LIST", default_value = "auto", value_delimiter = ',')]
    cache: Vec<CacheWish>,
    /// Tokens of each answer that are compared.
    #[arg(long, value_name = "N", default_value_t = 16)]
    steps: usize,
    /// Also evaluate each on this labelled set (see `inspectd evaluate`).
    #[arg(long, value_name = "DIR")]
    set: Option<PathBuf>,
    /// Pictures of the set to use; all without it.
    #[arg(long, value_name = "N", requires = "set")]
    parts: Option<usize>,
    /// The configuration whose station is asked; the built-in demo's without it.
    #[arg(long, short = 'c', value_name = "FILE", requires = "set")]
    config: Option<PathBuf>,
    /// The station to ask; the first one without it.
    #[arg(long, requires = "set")]
    station: Option<String>,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A line of the table.
#[derive(Serialize)]
struct Line {
    name: String,
    /// Bytes of the tensors in a file.
    bytes: u64,
    distance: Option<Distance>,
    evaluation: Option<Report>,
    /// Of the set's pictures, those with the same answers as the weights in f32, letter for letter.
    same_answers: Option<u64>,
}

/// What is compared with the weights in f32.
struct Candidate {
    weights: Weights,
    cache: CacheWish,
}

/// Where a candidate's weights are from.
#[derive(Clone)]
enum Weights {
    /// The model's own, in f32.
    Full,
    /// The model's own in this format.
    Mix(Mix),
    File(PathBuf),
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    telemetry::start("warn", telemetry::Format::Auto);
    let candidates = candidates(arguments)?;
    let builtin = match &arguments.model {
        Some(_) => None,
        None => Some(super::super::demo::embedded(None)?),
    };
    let model = match (&arguments.model, &builtin) {
        (Some(path), _) => path.clone(),
        (None, Some((loaded, _))) => loaded.settings.model.path.clone(),
        (None, None) => unreachable!("one of them is there"),
    };
    if model.is_file() {
        let why =
            "--model must be a folder with full weights, to compare with; name files with --file";
        return Err(Exit::Usage.because(anyhow::anyhow!("{}: {why}", model.display())));
    }
    let questions = match &arguments.set {
        Some(set) => Some(Questions::new(set, arguments)?),
        None => None,
    };
    let probes = accuracy::probes();
    let bar = bar(candidates.len() as u64 + 1);
    bar.set_message("f32");
    let (first, reference) = reference(&model, &probes, arguments.steps, questions.as_ref())?;
    bar.inc(1);
    let mut lines = vec![first];
    for candidate in &candidates {
        bar.set_message(candidate.name());
        lines.push(candidate.line(&model, &probes, &reference, questions.as_ref())?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    print(&lines);
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&lines)? + "\n";
        std::fs::write(path, text)
            .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn candidates(arguments: &Arguments) -> anyhow::Result<Vec<Candidate>> {
    let mut all = Vec::new();
    if arguments.formats != "none" {
        for name in arguments.formats.split(',') {
            all.push(weights(name.trim())?);
        }
    }
    all.extend(arguments.files.iter().cloned().map(Weights::File));
    let with = |weights: &Weights| {
        let weights = weights.clone();
        arguments
            .cache
            .iter()
            .map(move |cache| Candidate { weights: weights.clone(), cache: *cache })
    };
    let same = |candidate: &Candidate| {
        matches!(candidate.weights, Weights::Full)
            && matches!(candidate.cache, CacheWish::Auto | CacheWish::F32)
    };
    Ok(all.iter().flat_map(with).filter(|candidate| !same(candidate)).collect())
}

fn weights(name: &str) -> anyhow::Result<Weights> {
    if name == FULL {
        return Ok(Weights::Full);
    }
    name.parse().map(Weights::Mix).map_err(|why: String| {
        let names = MIXES.map(Mix::name).join(",");
        Exit::Usage.because(anyhow::anyhow!("--formats: {why} (e.g. --formats {names})"))
    })
}

/// The format of the weights that all are compared with.
const FULL: &str = "f32";

/// The station's questions over a labelled set.
struct Questions {
    set: PathBuf,
    truths: Vec<evaluate::truth::Truth>,
    asked: ask::Asked,
}

/// What the weights in f32 said.
struct Reference {
    trails: Vec<Trail>,
    answers: Vec<String>,
}

impl Questions {
    fn new(set: &Path, arguments: &Arguments) -> anyhow::Result<Questions> {
        let mut truths = evaluate::read_set(set).map_err(|error| Exit::Usage.because(error))?;
        truths.truncate(arguments.parts.unwrap_or(usize::MAX));
        let asked = ask::Asked::load(
            arguments.config.as_deref(),
            arguments.station.as_deref(),
            arguments.model.as_deref(),
        )?;
        Ok(Questions { set: set.to_owned(), truths, asked })
    }

    /// The figures and each picture's answers.
    fn ask(&self, engine: &Arc<Engine>) -> anyhow::Result<(Report, Vec<String>)> {
        let mut answers = Vec::new();
        let (report, _) = self.asked.run(engine, &self.set, &self.truths, |_, inspection| {
            answers.push(evaluate::answers(inspection));
        })?;
        Ok((report, answers))
    }
}

fn load(path: &Path, options: &EngineOptions) -> anyhow::Result<Arc<Engine>> {
    if options.quantise.is_none() {
        // What is quantised while it is loaded takes less than the reference, which was there before.
        plan::fits(path, options, None, &[]).map_err(running::exit_of)?;
    }
    let engine =
        Engine::load(path, options).map_err(|error| running::exit_of(DaemonError::model(error)))?;
    Ok(Arc::new(engine))
}

fn reference(
    model: &Path,
    probes: &[Probe],
    steps: usize,
    questions: Option<&Questions>,
) -> anyhow::Result<(Line, Reference)> {
    let engine = load(model, &EngineOptions::default())?;
    let trails = accuracy::walk(&engine, probes, steps).map_err(|e| Exit::Model.because(e))?;
    let asked = questions.map(|questions| questions.ask(&engine)).transpose()?;
    let (evaluation, answers) = asked.map_or((None, Vec::new()), |(r, a)| (Some(r), a));
    let line = Line {
        name: FULL.to_string(),
        bytes: full_bytes(&engine),
        distance: None,
        same_answers: evaluation.as_ref().map(|_| answers.len() as u64),
        evaluation,
    };
    Ok((line, Reference { trails, answers }))
}

/// Bytes of all weights in f32.
fn full_bytes(engine: &Engine) -> u64 {
    4 * Plan::new(engine.config(), Mix::Q8_0).weights()
}

impl Candidate {
    fn name(&self) -> String {
        let weights = match &self.weights {
            Weights::Full => FULL.to_string(),
            Weights::Mix(mix) => mix.name().to_string(),
            Weights::File(path) => path.file_name().map_or_else(
                || path.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
        };
        match self.cache {
            CacheWish::Auto => weights,
            cache => format!("{weights}, {} cache", cache.as_str()),
        }
    }

    fn line(
        &self,
        model: &Path,
        probes: &[Probe],
        reference: &Reference,
        questions: Option<&Questions>,
    ) -> anyhow::Result<Line> {
        let (path, quantise) = match &self.weights {
            Weights::Full => (model, None),
            Weights::Mix(mix) => (model, Some(*mix)),
            Weights::File(path) => (path.as_path(), None),
        };
        let options = EngineOptions { quantise, cache: self.cache, ..EngineOptions::default() };
        let engine = load(path, &options)?;
        let distance = accuracy::follow(&engine, probes, &reference.trails)
            .map_err(|error| Exit::Model.because(error))?;
        let asked = questions.map(|questions| questions.ask(&engine)).transpose()?;
        let same = |answers: &[String]| {
            answers.iter().zip(&reference.answers).filter(|(a, b)| a == b).count() as u64
        };
        Ok(Line {
            name: self.name(),
            bytes: match &self.weights {
                Weights::Full => full_bytes(&engine),
                Weights::Mix(mix) => Plan::new(engine.config(), *mix).data_bytes(),
                Weights::File(path) => std::fs::metadata(path)?.len(),
            },
            distance: Some(distance),
            same_answers: asked.as_ref().map(|(_, answers)| same(answers)),
            evaluation: asked.map(|(report, _)| report),
        })
    }
}

fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{msg:>12} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn print(lines: &[Line]) {
    let evaluated = lines.iter().any(|line| line.evaluation.is_some());
    let mut header = vec!["format", "MB", "embeddings", "logits", "largest", "same token"];
    if evaluated {
        header.extend([
            "verdicts",
            "serials",
            "F1",
            "escapes",
            "overkill",
            "same answers",
            "p50 ms",
        ]);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header);
    for line in lines {
        table.add_row(cells(line, evaluated));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!(
        "embeddings, logits: root mean square of the error against f32, relative to the numbers' \
         own spread; largest: of a single logit; same token: steps at which both choose the same"
    );
}

fn cells(line: &Line, evaluated: bool) -> Vec<String> {
    let mut cells = vec![line.name.clone(), format!("{:.1}", line.bytes as f64 / 1e6)];
    match &line.distance {
        None => cells.extend(["0", "0", "0", ""].map(str::to_string)),
        Some(distance) => cells.extend([
            format!("{:.5}", distance.embeddings_relative),
            format!("{:.5}", distance.logits_relative),
            format!("{:.3}", distance.logits_largest),
            format!("{}/{}", distance.same_choice, distance.steps),
        ]),
    }
    if !evaluated {
        return cells;
    }
    if let Some(report) = &line.evaluation {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        cells.extend([
            percent(report.verdict_accuracy),
            percent(report.serial_exact),
            format!("{:.4}", report.defect_f1_macro),
            percent(report.escape_rate),
            percent(report.overkill_rate),
            format!("{}/{}", line.same_answers.unwrap_or_default(), report.count),
            format!("{:.0}", report.latency_p50_ms),
        ]);
    }
    cells
}
