//! `inspectd model`: make and look into models, one file per subcommand.

mod accuracy;
mod quantize;
mod trace;

use clap::Subcommand;

pub const EXAMPLES: &str = "\
Examples:
  inspectd model quantize --model DIR --format q4_k_m --out phi3v-q4_k_m.gguf
  inspectd model accuracy --model models/builtin --set set
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
    /// Make one GGUF file of a model folder, with weights in fewer bits.
    #[command(after_help = quantize::EXAMPLES)]
    Quantize(quantize::Arguments),
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
        Command::Quantize(arguments) => quantize::run(arguments),
        Command::Trace(arguments) => trace::run(arguments),
    }
}
