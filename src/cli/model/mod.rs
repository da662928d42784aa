//! `inspectd model`: make and look into models, one file per subcommand.

mod accuracy;
mod calibrate;
mod fetch;
mod info;
mod manifest;
mod quantize;
mod trace;
mod verify;

use clap::Subcommand;

pub const EXAMPLES: &str = "\
Examples:
  inspectd model quantize --model DIR --format q4_k_m --out phi3v-q4_k_m.gguf
  inspectd model accuracy --model models/builtin --set set
  inspectd model calibrate --model phi3v-q8_0.gguf --config C --pictures DIR --out press-3.imatrix
  inspectd model fetch --repo microsoft/Phi-3-vision-128k-instruct --out /opt/phi-3-vision
  inspectd model info --config /etc/inspectd/inspectd.toml --measure
  inspectd model manifest --model DIR
  inspectd model verify --model DIR
  inspectd model trace --model DIR --prompt-file prompt.txt --image part.png --out trace.safetensors
  inspectd model trace --model DIR --ids-file ids.json --steps 20 --ignore-eos --out trace.safetensors
  inspectd model trace --model DIR --adapter ADAPTER --ids-file ids.json --out trace.safetensors
  inspectd model trace --model DIR --prompt-file prompt.txt --device cuda --precision bf16 --out trace.safetensors";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show what fewer bits cost: errors, answers and evaluation of each format against f32.
    #[command(after_help = accuracy::EXAMPLES)]
    Accuracy(accuracy::Arguments),
    /// Learn from a station's pictures where the weights must be exact.
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::Arguments),
    /// Make one GGUF file of a model folder, with weights in fewer bits.
    #[command(after_help = quantize::EXAMPLES)]
    Quantize(quantize::Arguments),
    /// Bring a model's files from a hub: the only command that opens a connection out of the plant.
    #[command(after_help = fetch::EXAMPLES)]
    Fetch(fetch::Arguments),
    /// Tell what a model is, and what each station's questions cost on this machine.
    #[command(after_help = info::EXAMPLES)]
    Info(info::Arguments),
    /// Write the manifest of a model: each file with its SHA-256, as sha256sum writes them.
    #[command(after_help = manifest::EXAMPLES)]
    Manifest(manifest::Arguments),
    /// Compare every file of a model with a manifest, or with the digest that records hold.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Arguments),
    /// Write the tensors of one prompt, to compare with the publisher's own code.
    ///
    /// The file holds input_ids (picture k as -k), pixel_values, image_embeds, logits_last,
    /// steps_logits and greedy.
    Trace(trace::Arguments),
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Accuracy(arguments) => accuracy::run(arguments),
        Command::Calibrate(arguments) => calibrate::run(arguments),
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Fetch(arguments) => fetch::run(arguments),
        Command::Info(arguments) => info::run(arguments),
        Command::Manifest(arguments) => manifest::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Trace(arguments) => trace::run(arguments),
    }
}
