//! `inspectd model trace`: the tensors of one prompt, to compare with the publisher's own code.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::{Exit, run as running};
use crate::daemon::plan;
use crate::vlm::trace::{TraceOptions, TracePrompt};
use crate::vlm::{self, DeviceWish};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model's folder, as published.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// An adapter's folder, as PEFT writes it, to put beside the model's layers.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// A file with the full prompt, after the chat template.
    #[arg(long, value_name = "FILE", required_unless_present = "ids_file")]
    prompt_file: Option<PathBuf>,
    /// A file with token ids instead: one a line, or a JSON list.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt_file")]
    ids_file: Option<PathBuf>,
    /// A picture; repeat for <|image_2|> and so on.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Tiles of the high-definition view; the model's own number without it.
    #[arg(long, value_name = "N")]
    num_crops: Option<usize>,
    /// Tokens to generate, greedily.
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,
    /// Go on past the end-of-answer tokens.
    #[arg(long)]
    ignore_eos: bool,
    /// What happens where the prompt outgrows the short rotary factors: the first published code
    /// keeps the cached keys, the later one computes them anew. Inspections always do the latter.
    #[arg(long, value_enum, default_value = "keep")]
    long_context: LongContext,
    /// Where to compute: auto (a GPU if there is one), cpu, cuda, or cuda:N for the GPU of number N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: DeviceWish,
    /// What to compute in. Only f32 is meant to be close to the published code's own numbers.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LongContext {
    Keep,
    Reprefill,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Precision {
    F32,
    Bf16,
    F16,
}

/// Runs the subcommand.
pub fn run(trace: &Arguments) -> anyhow::Result<()> {
    let prompt = match (&trace.prompt_file, &trace.ids_file) {
        (_, Some(path)) => TracePrompt::IdsFile(path.clone()),
        (Some(path), None) => TracePrompt::PromptFile(path.clone()),
        (None, None) => anyhow::bail!("give --prompt-file or --ids-file"),
    };
    let options = TraceOptions {
        model: trace.model.clone(),
        adapter: trace.adapter.clone(),
        prompt,
        images: trace.images.clone(),
        num_crops: trace.num_crops,
        steps: trace.steps,
        ignore_eos: trace.ignore_eos,
        long_context: match trace.long_context {
            LongContext::Keep => vlm::LongContext::Keep,
            LongContext::Reprefill => vlm::LongContext::Reprefill,
        },
        device: trace.device,
        precision: match trace.precision {
            Precision::F32 => vlm::Precision::F32,
            Precision::Bf16 => vlm::Precision::Bf16,
            Precision::F16 => vlm::Precision::F16,
        },
        out: trace.out.clone(),
    };
    let (engine_options, _) =
        options.engine_options().map_err(|error| Exit::Model.because(error))?;
    plan::fits(&options.model, &engine_options, None, &[]).map_err(running::exit_of)?;
    let summary = vlm::trace::trace(&options).map_err(|error| Exit::Model.because(error))?;
    if let Some(why) = &summary.fallback {
        eprintln!("inspectd: computing on the CPU: {why}");
    }
    println!("model         {}", summary.model);
    if let Some(adapter) = summary.adapter {
        println!("adapter       {adapter}");
    }
    println!("computed on   {}", summary.computed_on);
    println!(
        "prompt        {} tokens, {} of pictures",
        summary.prompt_tokens, summary.image_tokens
    );
    println!("answer        {:?}", summary.text);
    println!(
        "time          load {:.2} s, pixels {:.2} s, tower {:.2} s, prefill {:.2} s, decode {:.2} s",
        summary.load.as_secs_f64(),
        summary.preprocess.as_secs_f64(),
        summary.tower.as_secs_f64(),
        summary.prefill.as_secs_f64(),
        summary.decode.as_secs_f64()
    );
    println!("written to    {}", trace.out.display());
    Ok(())
}
