//! `inspectd model fetch`: bring a model's files from a hub.

use std::path::PathBuf;

use indicatif::ProgressBar;

use crate::cli::{Exit, simulate};
use crate::provenance::Manifest;
use crate::provenance::fetch::{self, FetchError, Options, Progress};

pub const EXAMPLES: &str = "\
Examples:
  inspectd model fetch --repo microsoft/Phi-3-vision-128k-instruct --out /opt/phi-3-vision
  inspectd model fetch --repo OWNER/NAME --revision c45209e --manifest model.sha256 --out DIR
  inspectd model fetch --repo OWNER/NAME --file model-q4_k_m.gguf --out DIR
  inspectd model fetch --repo OWNER/NAME --endpoint http://mirror.plant:8080 --out DIR

This is the only command that opens a connection out of the plant, and it does so only when it is
called. A cut download goes on where it was when the command is called again. HTTPS_PROXY is
heeded.

Without a network: fetch the model where there is one, copy the folder on a USB stick, then here
  inspectd model verify --model /media/usb/phi-3-vision
and set  path  in [model] of inspectd.toml to where the folder lies in the end.";

/// What to do where nothing answers.
const OFFLINE: &str = "without a network: fetch the model on a machine that has one, copy the folder \
    here by USB stick, check it with `inspectd model verify --model DIR`, and set `path` in [model]";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model's name at the hub.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: String,
    /// Branch, tag or commit.
    #[arg(long, value_name = "R", default_value = "main")]
    revision: String,
    /// The hub, or a mirror of it with the same addresses.
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT", default_value = fetch::ENDPOINT)]
    endpoint: String,
    /// Only this file, for models in one .gguf file.
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// The folder to write to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the files must be: `inspectd model manifest` or sha256sum wrote it where the model is
    /// trusted. Its files are fetched, and one with another SHA-256 is refused.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// A bar for the file in hand.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begin(&self, name: &str, have: u64, total: Option<u64>) {
        self.0.set_message(name.to_owned());
        self.0.set_length(total.unwrap_or(0));
        self.0.set_position(have);
        self.0.reset_eta();
    }

    fn came(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn word(&self, name: &str, word: &str) {
        self.0.suspend(|| eprintln!("{name}: {word}"));
    }
}

/// Fetches, and says what was compared with what.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let manifest = arguments.manifest.as_deref().map(Manifest::read).transpose();
    let manifest = manifest.map_err(|error| Exit::Usage.because(error))?;
    let options = Options {
        revision: arguments.revision.clone(),
        endpoint: arguments.endpoint.clone(),
        file: arguments.file.clone(),
        manifest,
        ..Options::new(&arguments.repo, &arguments.out)
    };
    let bar = Bar(simulate::bytes_bar(0, ""));
    let fetched = fetch::fetch(&options, &bar);
    bar.0.finish_and_clear();
    let fetched = fetched.map_err(exit_of)?;
    let out = arguments.out.display();
    println!("{} files in {out}", fetched.files.len());
    if let Some(commit) = &fetched.commit {
        println!("revision    {} is commit {commit}", arguments.revision);
    }
    let alone = fetched.files.len() - fetched.by_manifest - fetched.by_hub;
    println!(
        "SHA-256     {} right by the manifest, {} by what the hub says, {alone} not compared",
        fetched.by_manifest, fetched.by_hub
    );
    let model = match &arguments.file {
        Some(file) => arguments.out.join(file).display().to_string(),
        None => out.to_string(),
    };
    println!("next        inspectd model verify --model {model}");
    Ok(())
}

fn exit_of(error: FetchError) -> anyhow::Error {
    match error {
        FetchError::Argument(_) => Exit::Usage.because(error),
        FetchError::Digest { .. } | FetchError::Length { .. } => Exit::Model.because(error),
        FetchError::Unreachable { .. } => {
            Exit::Failed.because(anyhow::anyhow!("{error}; {OFFLINE}"))
        }
        other => Exit::Failed.because(other),
    }
}
