//! `inspectd model verify`: whether a model is the one that was trusted.

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;

use crate::cli::{Exit, simulate};
use crate::provenance::folder::SIGNATURE_END;
use crate::provenance::{self, Folder, Manifest, ProvenanceError, Report};
use crate::vlm::Digest;

pub const EXAMPLES: &str = "\
Examples:
  inspectd model verify --model /opt/phi-3-vision
  inspectd model verify --model /opt/phi-3-vision --manifest /media/usb/model.sha256
  inspectd model verify --model /opt/phi-3-vision --public-key engineering.pub
  inspectd model verify --model /opt/phi-3-vision --digest 1f0c…   (digests.model of a record)

Ends with 0 if every file is as it should be, with 3 and a line for each file that is missing,
extra, changed, truncated or a link out of the folder. Opens no connection.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model's folder, or its one .gguf file.
    #[arg(long, value_name = "DIR|FILE")]
    model: PathBuf,
    /// What the files must be: a list as `inspectd model manifest` or sha256sum write it. Without it:
    /// model.sha256 in the folder, FILE.sha256 beside a file.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The manifest's minisign signature. Without it, with --public-key: MANIFEST.minisig.
    #[arg(long, value_name = "FILE", requires = "public_key")]
    signature: Option<PathBuf>,
    /// Who must have signed the manifest: a public key of minisign, or the file that holds it.
    #[arg(long, value_name = "FILE|KEY")]
    public_key: Option<String>,
    /// What `digests.model` of a record says: the model must be the one that decided there.
    #[arg(long, value_name = "SHA256", value_parser = read_digest)]
    digest: Option<Digest>,
}

fn read_digest(hex: &str) -> Result<Digest, String> {
    Digest::parse(hex).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

/// Checks the signature, then every file, and prints what it found.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let unusable = |error: ProvenanceError| Exit::Model.because(error);
    let folder = Folder::open(&arguments.model).map_err(unusable)?;
    let path = arguments.manifest.clone().unwrap_or_else(|| folder.default_manifest());
    let wanted = arguments.manifest.is_some() || arguments.public_key.is_some();
    let manifest = if wanted || path.exists() {
        let signer = check_signature(arguments, &path).map_err(unusable)?;
        let manifest = Manifest::read(&path).map_err(unusable)?;
        println!("manifest   {}, {} files", path.display(), manifest.files.len());
        match signer {
            Some(comment) => println!("signature  good; {comment}"),
            None => println!("signature  not asked for: shows damage, not who made the manifest"),
        }
        Some(manifest)
    } else if arguments.digest.is_some() {
        None
    } else {
        return Err(Exit::Usage.because(anyhow::anyhow!(
            "nothing to compare with: there is no manifest {}; give --manifest or --digest, or make \
             one where you trust the model: inspectd model manifest --model {}",
            path.display(),
            arguments.model.display()
        )));
    };
    let report = hash(&folder, manifest.as_ref(), &path).map_err(unusable)?;
    tell(&report);
    conclude(arguments, &report)
}

fn check_signature(
    arguments: &Arguments,
    manifest: &Path,
) -> Result<Option<String>, ProvenanceError> {
    let Some(key) = &arguments.public_key else { return Ok(None) };
    let beside = || PathBuf::from(format!("{}{SIGNATURE_END}", manifest.display()));
    let signature = arguments.signature.clone().unwrap_or_else(beside);
    provenance::signature::check(manifest, &signature, key).map(Some)
}

fn hash(
    folder: &Folder,
    manifest: Option<&Manifest>,
    path: &Path,
) -> Result<Report, ProvenanceError> {
    let bar = simulate::bytes_bar(0, "hashed");
    let signature = PathBuf::from(format!("{}{SIGNATURE_END}", path.display()));
    let except = [path, signature.as_path()];
    let (total, seen) = (|bytes| bar.set_length(bytes), |piece| bar.inc(piece));
    let report = match manifest {
        Some(manifest) => provenance::verify(folder, manifest, &except, total, seen),
        None => provenance::describe(folder, &except, total, seen),
    };
    bar.finish_and_clear();
    report
}

fn tell(report: &Report) {
    for (file, digest) in &report.files {
        println!("{digest}  {}  {}", file.name, HumanBytes(file.bytes));
    }
    for fault in &report.faults {
        println!("{fault}");
    }
    match report.model {
        Some(digest) => println!("model digest {digest}, as records have it"),
        None => println!("model digest unknown: not all of the model's files could be hashed"),
    }
}

fn conclude(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let model = arguments.model.display();
    if !report.faults.is_empty() {
        let count = report.faults.len();
        return Err(Exit::Model.because(anyhow::anyhow!(
            "{model} is not what it should be: {count} problem(s), listed above"
        )));
    }
    if arguments.digest.is_some() && arguments.digest != report.model {
        return Err(Exit::Model.because(anyhow::anyhow!(
            "{model} is not the model of that record: its digest is another one"
        )));
    }
    println!("{model} is good.");
    Ok(())
}
