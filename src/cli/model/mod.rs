//! `inspectd model`: look into a model, one file per subcommand.

mod trace;

use clap::Subcommand;

pub const EXAMPLES: &str = "\
Examples:
  inspectd model trace --model DIR --prompt-file prompt.txt --image part.png --out trace.safetensors
  inspectd model trace --model DIR --ids-file ids.json --steps 20 --ignore-eos --out trace.safetensors";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the tensors of one prompt, to compare with the publisher's own code.
    ///
    /// The file holds input_ids (picture k as -k), pixel_values, image_embeds, logits_last,
    /// steps_logits and greedy, computed in f32.
    Trace(trace::Arguments),
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Trace(arguments) => trace::run(arguments),
    }
}
