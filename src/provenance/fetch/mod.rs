//! Brings a model's files from a hub: the only code of the program that opens a connection to
//! anything but the plant's own cameras and broker, and it runs only when it is called.
//!
//! ```text
//! listing (which files, their SHA-256) → each file: NAME.partial, resumed → digest → NAME
//! ```
//!
//! A file gets its name when it is whole and its digest is right, or could not be compared with
//! anything; what was cut off stays as `NAME.partial`, and the next call goes on there. The hub's
//! own client crate was weighed and left: its current version does not resume (its issue 196), which
//! for files of gigabytes over a plant's uplink is the one thing that is needed.

mod download;
mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::manifest::{Entry, Manifest};
use super::{ProvenanceError, folder, write_whole};
use crate::vlm::{Digest, model_files};
use download::Target;
use remote::{Hub, Listed};

/// Where models are asked for unless somebody says otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Files beside the weights that the engine or a person reads. All others stay where they are.
const SMALL: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "LICENSE",
    model_files::INDEX,
];

/// What is to be fetched, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// `OWNER/NAME`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// The hub, or a mirror with the same addresses.
    pub endpoint: String,
    /// Only this file: one `.gguf` of several.
    pub file: Option<String>,
    /// The folder that the files go to; made if it is not there.
    pub out: PathBuf,
    /// What the files must be.
    pub manifest: Option<Manifest>,
    /// Waiting time before the first new attempt after a cut; each is twice the one before.
    pub retry_wait: Duration,
    /// Longest silence of a connection.
    pub silence: Duration,
}

impl Options {
    /// Fetches the whole of `repo` from [`ENDPOINT`] to `out`.
    pub fn new(repo: &str, out: &Path) -> Options {
        Options {
            repo: repo.to_owned(),
            revision: "main".to_owned(),
            endpoint: ENDPOINT.to_owned(),
            file: None,
            out: out.to_owned(),
            manifest: None,
            retry_wait: Duration::from_secs(1),
            silence: Duration::from_secs(30),
        }
    }
}

/// What is told while it goes on.
pub trait Progress {
    /// `name` begins: `have` of `total` bytes are there, where the total is known.
    fn begin(&self, name: &str, have: u64, total: Option<u64>);
    /// So many bytes came.
    fn came(&self, bytes: u64);
    /// A word about `name`.
    fn word(&self, name: &str, word: &str);
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Files that are there now, ascending.
    pub files: Vec<String>,
    /// Those of them whose SHA-256 was compared with the manifest.
    pub by_manifest: usize,
    /// Those of them whose SHA-256 was compared with what the hub says.
    pub by_hub: usize,
    /// The commit that the revision stood for, if the hub said it.
    pub commit: Option<String>,
}

/// Why a model could not be fetched. What came is kept for the next call.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// An argument that cannot be.
    #[error("{0}")]
    Argument(String),
    /// Nothing answers.
    #[error("cannot reach {url}: {why}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// It answers something else than the file.
    #[error("{url} answers {status}: {why}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What that means here.
        why: &'static str,
    },
    /// The connection was cut too often.
    #[error(
        "{name}: the connection was cut {attempts} times in a row ({why}); {have} bytes are kept, call again to go on"
    )]
    Cut {
        /// The file.
        name: String,
        /// Attempts without a byte of progress.
        attempts: u32,
        /// The last reason.
        why: String,
        /// Bytes that are there.
        have: u64,
    },
    /// What came is not what it should be.
    #[error("{name}: SHA-256 is {found}, {whose} says {expected}; what came was removed")]
    Digest {
        /// The file.
        name: String,
        /// Who says it.
        whose: &'static str,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// What came has another length than was told.
    #[error("{name}: {found} bytes came, {expected} were told; what came was removed")]
    Length {
        /// The file.
        name: String,
        /// Bytes told.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A file is in the way.
    #[error("{} is there already and is another file; remove it, or choose another --out", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The disk is too small.
    #[error("{}: {needed_bytes} bytes are needed and {free_bytes} are free; what came is kept", path.display())]
    Space {
        /// Where.
        path: PathBuf,
        /// Bytes to come.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// The hub's list of files makes no sense.
    #[error("{url}: {problem}")]
    Listing {
        /// What was asked for.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of ours.
    #[error(transparent)]
    File(#[from] ProvenanceError),
}

/// Fetches the model. Files that are there and right are left alone.
///
/// # Errors
/// [`FetchError`]. Nothing that is not whole and right stands under its final name then.
pub fn fetch(options: &Options, progress: &dyn Progress) -> Result<Fetched, FetchError> {
    check(options)?;
    let hub = Hub::new(options);
    let mut listing = hub.list()?;
    let wanted = choose(options, &listing.files)?;
    std::fs::create_dir_all(&options.out)
        .map_err(|why| ProvenanceError::write(&options.out, why))?;
    // A commit names the same files for ever; a branch may move between two of them.
    let revision = listing.commit.clone().unwrap_or_else(|| options.revision.clone());
    let mut done = Fetched { commit: listing.commit.take(), ..Fetched::default() };
    let mut entries = BTreeMap::new();
    let mut open: Vec<(String, Listed)> = wanted.into_iter().rev().collect();
    while let Some((name, listed)) = open.pop() {
        let target = Target::new(options, &name, &listed);
        let came = download::file(&hub, &revision, &target, progress)?;
        let Some((digest, bytes)) = came else { continue };
        if name == model_files::INDEX && !listing.is_complete {
            add_weights(options, &mut open)?;
        }
        match target.whose {
            Some(download::MANIFEST) => done.by_manifest += 1,
            Some(_) => done.by_hub += 1,
            None => {}
        }
        entries.insert(name.clone(), Entry { digest, bytes: Some(bytes) });
        done.files.push(name);
    }
    done.files.sort();
    keep_manifest(options, entries)?;
    Ok(done)
}

/// Beside the files goes what they were when they came, so that `verify` can tell later.
fn keep_manifest(options: &Options, files: BTreeMap<String, Entry>) -> Result<(), FetchError> {
    let pairs: Vec<_> = files.iter().map(|(name, entry)| (name.clone(), entry.digest)).collect();
    let path = match &options.file {
        Some(name) => options.out.join(format!("{name}.sha256")),
        None => options.out.join(folder::MANIFEST_NAME),
    };
    let model = match (&options.file, model_files::read_for_loading(&options.out)) {
        (Some(_), _) => pairs.first().map(|(_, digest)| *digest),
        (None, Ok(names)) => {
            let read: Vec<_> = pairs.into_iter().filter(|(name, _)| names.contains(name)).collect();
            (read.len() == names.len()).then(|| Digest::of_files(&read))
        }
        (None, Err(_)) => None,
    };
    Ok(write_whole(&path, Manifest { files, model }.to_string().as_bytes())?)
}

fn check(options: &Options) -> Result<(), FetchError> {
    let wrong = |what: String| Err(FetchError::Argument(what));
    let plain = |text: &str, more: &[char]| {
        let fits = |c: char| {
            c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c) || more.contains(&c)
        };
        !text.is_empty() && text.len() < 200 && text.chars().all(fits) && !text.contains("..")
    };
    match options.repo.split_once('/') {
        Some((owner, name)) if plain(owner, &[]) && plain(name, &[]) => {}
        _ => return wrong(format!("--repo {:?} is not OWNER/NAME", options.repo)),
    }
    if !plain(&options.revision, &['/']) {
        return wrong(format!("--revision {:?} is no branch, tag or commit", options.revision));
    }
    if !options.endpoint.starts_with("http://") && !options.endpoint.starts_with("https://") {
        return wrong(format!(
            "--endpoint {:?} begins neither with https:// nor http://",
            options.endpoint
        ));
    }
    let names = options.manifest.iter().flat_map(|manifest| manifest.files.keys());
    for name in names.chain(&options.file) {
        if !model_files::is_plain_name(name) {
            return wrong(format!("{name:?} is not the name of a file directly in the repository"));
        }
    }
    Ok(())
}

/// Which of the hub's files to fetch: what the manifest lists, or the one file asked for, or what a
/// model is made of. Without a list of the hub the names that every model has are tried.
fn choose(
    options: &Options,
    listed: &BTreeMap<String, Listed>,
) -> Result<BTreeMap<String, Listed>, FetchError> {
    let of = |name: &String| (name.clone(), listed.get(name).cloned().unwrap_or_default());
    if let Some(name) = &options.file {
        return Ok([of(name)].into());
    }
    if let Some(manifest) = &options.manifest {
        return Ok(manifest.files.keys().map(of).collect());
    }
    if listed.is_empty() {
        let optional = |name: &str| !model_files::REQUIRED.contains(&name);
        let one = |name: &str| {
            (name.to_owned(), Listed { optional: optional(name), ..Listed::default() })
        };
        let mut names: BTreeMap<String, Listed> = SMALL.iter().map(|name| one(name)).collect();
        names.insert(model_files::SINGLE.to_owned(), one(model_files::SINGLE).1);
        return Ok(names);
    }
    let is_wanted = |name: &&String| {
        SMALL.contains(&name.as_str())
            || (name.ends_with(".safetensors") && model_files::is_plain_name(name))
    };
    let wanted: BTreeMap<String, Listed> = listed.keys().filter(is_wanted).map(of).collect();
    if wanted.keys().any(|name| name.ends_with(".safetensors")) {
        return Ok(wanted);
    }
    let one_file: Vec<&String> = listed.keys().filter(|name| name.ends_with(".gguf")).collect();
    Err(FetchError::Argument(match one_file.as_slice() {
        [] => {
            format!("{} holds no .safetensors and no .gguf: it is not a model to run", options.repo)
        }
        names => {
            let names: Vec<&str> = names.iter().take(20).map(|name| name.as_str()).collect();
            format!(
                "{} holds single files; choose one with --file: {}",
                options.repo,
                names.join(", ")
            )
        }
    }))
}

/// Adds the weights that the index, which has come, names.
fn add_weights(options: &Options, open: &mut Vec<(String, Listed)>) -> Result<(), FetchError> {
    let path = options.out.join(model_files::INDEX);
    let text = super::read_text(&path, 64 << 20)?;
    let names = model_files::weights_of_index(&path, text.as_bytes()).map_err(|why| {
        FetchError::Listing { url: path.display().to_string(), problem: why.to_string() }
    })?;
    open.retain(|(name, _)| name != model_files::SINGLE);
    open.extend(names.into_iter().rev().map(|name| (name, Listed::default())));
    Ok(())
}
