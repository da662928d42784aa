//! `inspectd model manifest`: the list of a model's files, written where the model is trusted.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::{Exit, simulate};
use crate::provenance::{self, Folder, ProvenanceError};

pub const EXAMPLES: &str = "\
Examples:
  inspectd model manifest --model /opt/phi-3-vision            writes /opt/phi-3-vision/model.sha256
  inspectd model manifest --model model.gguf                   writes model.gguf.sha256
  minisign -Sm /opt/phi-3-vision/model.sha256                  signs it, with a key made by minisign -G
  cd /opt/phi-3-vision && sha256sum -c model.sha256            checks it without inspectd

Make it where you trust the model, and keep a copy elsewhere: whoever can change the model can
change a manifest that lies beside it. A signature is the way out.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model's folder, or its one .gguf file.
    #[arg(long, value_name = "DIR|FILE")]
    model: PathBuf,
    /// Where to write; - is standard output. Without it: model.sha256 in the folder, FILE.sha256
    /// beside a file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Hashes every file and writes the list.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let unusable = |error: ProvenanceError| Exit::Model.because(error);
    let folder = Folder::open(&arguments.model).map_err(unusable)?;
    let out = arguments.out.clone().unwrap_or_else(|| folder.default_manifest());
    let bar = simulate::bytes_bar(0, "hashed");
    let report = provenance::describe(
        &folder,
        &[&out],
        |bytes| bar.set_length(bytes),
        |piece| bar.inc(piece),
    )
    .map_err(unusable)?;
    bar.finish_and_clear();
    if !report.faults.is_empty() {
        for fault in &report.faults {
            eprintln!("{fault}");
        }
        let count = report.faults.len();
        let model = arguments.model.display();
        return Err(Exit::Model.because(anyhow::anyhow!(
            "{model}: {count} of its files cannot be vouched for, listed above; no manifest written"
        )));
    }
    if report.files.is_empty() {
        let model = arguments.model.display();
        return Err(Exit::Model.because(anyhow::anyhow!("{model} holds no file")));
    }
    let text = report.manifest().to_string();
    if out.as_os_str() == "-" {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    provenance::write_whole(&out, text.as_bytes()).map_err(|error| Exit::Failed.because(error))?;
    println!("{} files in {}", report.files.len(), out.display());
    match report.model {
        Some(digest) => println!("model digest {digest}, as records have it"),
        None => println!("no model digest: config.json, tokenizer.json or weights are missing"),
    }
    Ok(())
}
