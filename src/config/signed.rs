//! A configuration, and the models that it names, as somebody signed them.
//!
//! ```text
//! files as they were read ─→ list (config.sha256) ─minisign→ config.sha256.minisig
//! model.sha256 + .minisig beside the model ─→ the digest that the model must have
//! ```
//!
//! What counts is what was read: a file that is changed between the check and its use cannot slip through. Passwords,
//! certificates and the lists of expected serials are not part of it, as they change without a new configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Loaded, Problem, Problems, ReadFile};
use crate::provenance::folder::SIGNATURE_END;
use crate::provenance::manifest::is_inside;
use crate::provenance::{Entry, Folder, Manifest, ProvenanceError, signature};

/// The list's name, beside the main file.
pub const LIST_NAME: &str = "config.sha256";

/// Who must have signed a configuration: a public key of minisign, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer(String);

impl Signer {
    /// `key`: the key itself, or its file.
    pub fn new(key: impl Into<String>) -> Signer {
        Signer(key.into())
    }

    /// Holds what was read, from the main file at `main`, against the signed list beside it, and lets the model be
    /// held against its own.
    ///
    /// # Errors
    /// Every file that is changed, absent, or not in the list; a list without a good signature.
    pub fn prove(&self, loaded: &mut Loaded, main: &Path) -> Result<(), Problems> {
        let path = folder_of(main).join(LIST_NAME);
        let mut problems = match self.manifest(&path) {
            Ok(manifest) => differences(loaded, main, &manifest),
            Err(why) => vec![unsigned(&why, "configuration")],
        };
        if !loaded.settings.model.is_none() {
            match self.model_digest(&loaded.settings.model.path) {
                Ok(digest) => loaded.settings.model.signed_digest = Some(digest),
                Err(why) => problems.push(unsigned(&why, "model")),
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Problems::new(problems)),
        }
    }

    /// The list at `path`, if its signature is good.
    fn manifest(&self, path: &Path) -> Result<Manifest, ProvenanceError> {
        let beside = PathBuf::from(format!("{}{SIGNATURE_END}", path.display()));
        signature::check(path, &beside, &self.0)?;
        Manifest::read(path)
    }

    /// The digest that the model at `path` has by its signed list.
    fn model_digest(&self, path: &Path) -> Result<crate::vlm::Digest, ProvenanceError> {
        let folder = Folder::open(path)?;
        let list = folder.default_manifest();
        self.manifest(&list)?.model.ok_or_else(|| ProvenanceError::Manifest {
            path: list,
            line: None,
            problem: "names no model digest; make it with inspectd model manifest".to_owned(),
        })
    }
}

/// The list of a configuration's files, to be signed.
///
/// # Errors
/// A file that lies outside of the main file's folder: nobody could tell where it belongs on another device.
pub fn list(loaded: &Loaded, main: &Path) -> Result<Manifest, Problems> {
    let (files, outside) = by_name(&loaded.files, main);
    if !outside.is_empty() {
        return Err(Problems::new(outside.iter().map(|path| lies_outside(path)).collect()));
    }
    let entry = |(name, digest)| (name, Entry { digest, bytes: None });
    Ok(Manifest { files: files.into_iter().map(entry).collect(), model: None })
}

fn differences(loaded: &Loaded, main: &Path, manifest: &Manifest) -> Vec<Problem> {
    let (found, outside) = by_name(&loaded.files, main);
    let mut problems: Vec<Problem> = outside.iter().map(|path| lies_outside(path)).collect();
    for (name, digest) in &found {
        let title = match manifest.files.get(name) {
            Some(entry) if entry.digest == *digest => continue,
            Some(_) => format!("{name} is not as it was signed"),
            None => format!("{name} is not in the signed list"),
        };
        let remedy = "put the signed file back, or have this one looked at and signed anew";
        problems.push(Problem::error(title).remedy(remedy));
    }
    for name in manifest.files.keys().filter(|name| !found.contains_key(*name)) {
        let title = format!("{name} was signed and is not part of the configuration any more");
        let remedy = "put it back, or have the configuration without it signed anew";
        problems.push(Problem::error(title).remedy(remedy));
    }
    problems
}

type ByName = BTreeMap<String, crate::vlm::Digest>;

/// The files by their names as seen from the main file's folder, and those that lie outside of it.
fn by_name(files: &[ReadFile], main: &Path) -> (ByName, Vec<PathBuf>) {
    let folder = real(folder_of(main));
    let (mut names, mut outside) = (ByName::new(), Vec::new());
    for file in files {
        let path = real(&file.path);
        let name =
            path.strip_prefix(&folder).ok().and_then(Path::to_str).filter(|name| is_inside(name));
        match name {
            Some(name) => drop(names.insert(name.to_owned(), file.digest)),
            None => outside.push(file.path.clone()),
        }
    }
    (names, outside)
}

fn folder_of(main: &Path) -> &Path {
    main.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path without links and `..`; one that cannot be followed stays as it is, and is outside.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn lies_outside(path: &Path) -> Problem {
    let title = format!("{} lies outside of the folder that is signed", path.display());
    Problem::error(title).remedy("move it below the folder of inspectd.toml")
}

fn unsigned(why: &ProvenanceError, what: &str) -> Problem {
    let title = format!("this device takes a signed {what} only: {why}");
    let remedy = match what {
        "model" => {
            "inspectd model manifest writes the list of a model's files, minisign -Sm signs it"
        }
        _ => "inspectd config manifest writes the list of its files, minisign -Sm signs it",
    };
    Problem::error(title).remedy(remedy)
}
