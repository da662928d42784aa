//! `inspectd model info`: what a model is, and what it costs on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::capacity::Origin;
use crate::capacity::fit::{self, Gravity, figure};
use crate::capacity::footprint::mib;
use crate::capacity::kept::Entry;
use crate::capacity::measure::{self, Measurement};
use crate::cli::{Exit, demo, simulate};
use crate::config::{self, Settings};
use crate::daemon::{self, plan, plan::Plan};
use crate::provenance::{self, Folder};
use crate::station::Station;
use crate::vlm::{Engine, device};

pub const EXAMPLES: &str = "\
Examples:
  inspectd model info --model /opt/phi-3-vision
  inspectd model info --config /etc/inspectd/inspectd.toml
  inspectd model info --config /etc/inspectd/inspectd.toml --measure    once on each machine
  inspectd model info --model DIR --measure --json

--measure loads the model and times it here. With --config the figures are kept in
measurements.json beside the audit log, where `inspectd check` and `inspectd run` find them;
without a measurement the seconds are estimated: 30 GFLOP/s a core for pictures and prompts, one
reading of the decoder's weights at 10 GB/s for each token of an answer. An estimate may be wrong
by a factor of a few.";

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["model", "config"]))]
pub struct Arguments {
    /// The model's folder, or its one .gguf file. With --config: this one instead of the configured.
    #[arg(long, value_name = "DIR|FILE")]
    model: Option<PathBuf>,
    /// The configuration whose model and stations are looked at.
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Load the model and time it on this machine.
    #[arg(long)]
    measure: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Reads the model, measures if asked to, and prints.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (loaded, _site) = load(arguments)?;
    let stations: Vec<Arc<Station>> = match &arguments.config {
        Some(_) => loaded.stations.iter().cloned().map(Arc::new).collect(),
        None => Vec::new(),
    };
    let settings = &loaded.settings;
    let is_kept = arguments.config.is_some();
    let (digest, fresh) = match arguments.measure {
        true => {
            let (engine, measurement) = measure_here(settings)?;
            let digest = engine.digest().map_err(|error| Exit::Model.because(error))?;
            (digest.to_string(), Some(measurement))
        }
        false => (digest(settings)?, None),
    };
    let mut plan =
        plan::make(settings, &stations, &digest).map_err(|error| Exit::Model.because(error))?;
    if let Some(measurement) = fresh {
        let key = plan::key(&plan.card, &settings.model, &plan.machine, &digest);
        let entry = Entry { key, measured_at: jiff::Timestamp::now(), measurement };
        if is_kept {
            plan::kept(settings).add(entry).map_err(|error| Exit::Failed.because(error))?;
            plan = plan::make(settings, &stations, &digest)
                .map_err(|error| Exit::Model.because(error))?;
        } else {
            plan.speed = measurement.speed;
            plan.measured = Some(entry);
        }
    } else if !is_kept {
        plan.measured = None;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&as_json(&plan, settings, &digest))?);
        return Ok(());
    }
    print(&plan, settings, &digest);
    if fresh.is_some() {
        match is_kept {
            true => println!("kept in      {}", plan::kept(settings).path().display()),
            false => println!("not kept: with --config, check and run would find the measurement"),
        }
    }
    Ok(())
}

/// The configuration, or the built-in one with the given model.
fn load(arguments: &Arguments) -> anyhow::Result<(config::Loaded, Option<demo::BuiltinSite>)> {
    demo::configured(arguments.config.as_deref(), arguments.model.as_deref())
}

fn measure_here(settings: &Settings) -> anyhow::Result<(Engine, Measurement)> {
    let plan = plan::make(settings, &[], "").map_err(|error| Exit::Model.because(error))?;
    if let Some(remark) = plan.remarks.iter().find(|remark| remark.gravity > Gravity::Warning) {
        let words = anyhow::anyhow!("{}; {}", remark.text, remark.remedy);
        return Err(Exit::Model.because(words));
    }
    drop(plan);
    daemon::use_threads(settings.model.threads);
    eprintln!("Measuring: the model is loaded and gives four answers …");
    let placement =
        device::find(settings.model.device).map_err(|error| Exit::Model.because(error))?;
    measure::measure(&settings.model.path, &settings.model.engine_options(&placement))
        .map_err(|error| Exit::Model.because(error))
}

/// The digest of the model's files, with a progress bar.
fn digest(settings: &Settings) -> anyhow::Result<String> {
    let folder = Folder::open(&settings.model.path).map_err(|error| Exit::Model.because(error))?;
    let bar = simulate::bytes_bar(0, "hashed");
    let digest = provenance::verify::model_only(
        &folder,
        |bytes| bar.set_length(bytes),
        |piece| bar.inc(piece),
    );
    bar.finish_and_clear();
    Ok(digest.map_or_else(|| "unknown".to_owned(), |digest| digest.to_string()))
}

fn print(plan: &Plan, settings: &Settings, digest: &str) {
    let (card, config) = (&plan.card, &plan.card.config);
    println!("model        {}", card.path.display());
    println!("digest       {digest}");
    println!("licence      {}", card.licence.as_deref().unwrap_or("not told by its files"));
    let stored: Vec<String> =
        card.stored.iter().map(|(dtype, count)| format!("{} {dtype}", millions(*count))).collect();
    println!("parameters   {} ({})", millions(card.parameters()), stored.join(", "));
    println!(
        "computes in  {}, cache in {}, {} threads",
        settings.model.precision.as_str(),
        plan.cache,
        settings.model.threads
    );
    for file in &card.files {
        println!("file         {}  {}", file.name, HumanBytes(file.bytes));
    }
    let (tower, decoder) = (&config.vision, &config.decoder);
    println!(
        "tower        {} of {} layers, {} wide, {} heads",
        tower.used_layers, tower.layers, tower.hidden, tower.heads
    );
    println!(
        "decoder      {} layers, {} wide, {} heads ({} for keys), vocabulary {}",
        decoder.layers, decoder.hidden, decoder.heads, decoder.kv_heads, decoder.vocab
    );
    println!(
        "context      {} tokens, {} with the short position factors; pictures in up to {} tiles",
        decoder.max_positions, config.rope.original_positions, config.image.num_crops
    );
    if card.tokenizer.is_none() {
        println!("tokenizer    none: without tokenizer.json the model cannot be loaded");
    }
    print_memory(plan);
    print_speed(plan);
    print_stations(plan);
    for remark in &plan.remarks {
        println!("\n{}\n  {}", remark.text, remark.remedy);
    }
}

fn print_memory(plan: &Plan) {
    println!(
        "memory       {} needed for {} positions: {}",
        mib(plan.footprint.total_bytes()),
        plan.context,
        plan.footprint.in_words()
    );
    if let Some(budget) = plan.budget_bytes {
        println!("budget       {} ({})", mib(budget), plan.machine.usable_word());
    }
}

fn print_speed(plan: &Plan) {
    println!("machine      {}, {} cores", plan.machine.cpu, plan.machine.cores);
    if let Some(entry) = &plan.measured {
        let m = &entry.measurement;
        println!(
            "cold start   loaded in {} s, first answer after {} s",
            figure(m.load_s),
            figure(m.first_answer_s)
        );
        println!(
            "resident     {} ({} its own, {} of files), {} at most",
            mib(m.resident_bytes),
            mib(m.own_bytes),
            mib(m.file_bytes),
            mib(m.peak_bytes)
        );
    }
    let origin = match (&plan.measured, plan.speed.origin) {
        (Some(entry), _) => format!("measured {}", entry.measured_at.strftime("%Y-%m-%d %H:%M")),
        (None, Origin::Measured) => "measured".to_owned(),
        (None, Origin::Estimated) => "estimated, may be wrong by a factor of a few".to_owned(),
    };
    println!(
        "speed        {} s a view, prompts {} tokens/s, answers {} tokens/s ({origin})",
        figure(plan.speed.view_s),
        figure(plan.speed.prefill_tokens_per_s),
        figure(plan.speed.decode_tokens_per_s)
    );
}

fn print_stations(plan: &Plan) {
    for planned in &plan.stations {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        let head =
            ["question", "text", "picture", "reused", "longest answer", "usual s", "longest s"];
        table.set_header(head);
        for question in &planned.cost.questions {
            let seconds = plan.speed.question(question);
            let figures = [
                question.text_tokens.to_string(),
                question.picture_tokens.to_string(),
                question.reused_tokens.to_string(),
                question.longest_tokens.to_string(),
                figure(seconds.usual_s),
                figure(seconds.longest_s),
            ];
            let name = Cell::new(&question.question);
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row(std::iter::once(name).chain(figures.into_iter().map(right)));
        }
        println!(
            "\nstation      {} (tokens and {} seconds a part)",
            planned.cost.station, plan.speed.origin
        );
        println!("{table}");
        println!(
            "a part       {} s usually, {} s at most: {} parts a minute",
            figure(planned.part.usual_s),
            figure(planned.part.longest_s),
            figure(60.0 / planned.part.usual_s)
        );
        if let Some(demand) = &planned.demand {
            let (share, _) = fit::shares(std::slice::from_ref(demand));
            println!(
                "line         {} parts a minute, every {}. inspected: {:.0} % of the model's time",
                demand.parts_per_minute,
                demand.inspect_every,
                100.0 * share
            );
        }
    }
}

fn millions(count: u64) -> String {
    match count {
        0..1_000_000_000 => format!("{:.2} million", count as f64 / 1e6),
        _ => format!("{:.3} billion", count as f64 / 1e9),
    }
}

fn as_json(plan: &Plan, settings: &Settings, digest: &str) -> Value {
    let (card, decoder, tower) = (&plan.card, &plan.card.config.decoder, &plan.card.config.vision);
    let files = card.files.iter().map(|file| json!({"name": file.name, "bytes": file.bytes}));
    json!({
        "model": card.path,
        "digest": digest,
        "licence": card.licence,
        "parameters": card.parameters(),
        "stored": card.stored,
        "precision": settings.model.precision.as_str(),
        "cache": plan.cache.to_string(),
        "threads": settings.model.threads,
        "files": files.collect::<Vec<_>>(),
        "bytes": card.bytes(),
        "tower": {"layers": tower.layers, "used_layers": tower.used_layers, "hidden": tower.hidden,
            "heads": tower.heads, "intermediate": tower.intermediate},
        "decoder": {"layers": decoder.layers, "hidden": decoder.hidden, "heads": decoder.heads,
            "kv_heads": decoder.kv_heads, "intermediate": decoder.intermediate,
            "vocab": decoder.vocab},
        "context_tokens": decoder.max_positions,
        "short_context_tokens": plan.card.config.rope.original_positions,
        "num_crops": plan.card.config.image.num_crops,
        "memory": {
            "weights_bytes": plan.footprint.weights_bytes,
            "kv_cache_bytes": plan.footprint.kv_cache_bytes,
            "working_bytes": plan.footprint.working_bytes,
            "base_bytes": plan.footprint.base_bytes,
            "total_bytes": plan.footprint.total_bytes(),
            "positions": plan.context,
            "budget_bytes": plan.budget_bytes,
        },
        "machine": {"cpu": plan.machine.cpu, "cores": plan.machine.cores,
            "memory_bytes": plan.machine.memory_bytes, "limit_bytes": plan.machine.limit_bytes},
        "speed": plan.speed,
        "measurement": plan.measured,
        "stations": plan.stations.iter().map(|one| station_json(plan, one)).collect::<Vec<_>>(),
        "remarks": plan.remarks.iter().map(|remark| json!({
            "refused": remark.gravity > Gravity::Warning,
            "text": remark.text,
            "remedy": remark.remedy,
        })).collect::<Vec<_>>(),
    })
}

fn station_json(plan: &Plan, planned: &plan::Planned) -> Value {
    let question = |cost: &crate::capacity::QuestionCost| {
        let seconds = plan.speed.question(cost);
        json!({
            "question": cost.question,
            "text_tokens": cost.text_tokens,
            "picture_tokens": cost.picture_tokens,
            "prompt_tokens": cost.prompt_tokens(),
            "reused_tokens": cost.reused_tokens,
            "views": cost.views,
            "usual_answer_tokens": cost.usual_chosen_tokens + cost.usual_fixed_tokens,
            "longest_answer_tokens": cost.longest_tokens,
            "usual_s": seconds.usual_s,
            "longest_s": seconds.longest_s,
        })
    };
    let share = planned.demand.as_ref().map(|demand| fit::shares(std::slice::from_ref(demand)).0);
    json!({
        "station": planned.cost.station,
        "questions": planned.cost.questions.iter().map(question).collect::<Vec<_>>(),
        "usual_s": planned.part.usual_s,
        "longest_s": planned.part.longest_s,
        "parts_per_minute": planned.demand.as_ref().map(|demand| demand.parts_per_minute),
        "inspect_every": planned.demand.as_ref().map(|demand| demand.inspect_every),
        "share": share,
    })
}
