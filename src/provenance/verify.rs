//! Hashes a model's files, and compares them with a manifest.

use std::collections::BTreeSet;
use std::path::Path;

use super::ProvenanceError;
use super::folder::{Fault, Folder, FoundFile, MANIFEST_NAME, SIGNATURE_END};
use super::manifest::{Entry, Manifest};
use crate::vlm::{Digest, model_files};

/// What the files of a model are, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every file that could be hashed, ascending by name.
    pub files: Vec<(FoundFile, Digest)>,
    /// What is wrong, ascending by name. Empty: every file is as it should be.
    pub faults: Vec<Fault>,
    /// The digest by which records name this model; `None` if a file that it needs was not hashed.
    pub model: Option<Digest>,
}

impl Report {
    /// The manifest that these files fulfil.
    pub fn manifest(&self) -> Manifest {
        let entry = |(file, digest): &(FoundFile, Digest)| {
            (file.name.clone(), Entry { digest: *digest, bytes: Some(file.bytes) })
        };
        Manifest { files: self.files.iter().map(entry).collect(), model: self.model }
    }
}

/// Hashes every file of a model. `total` is told the bytes in all before the first, `seen` each
/// piece's length. `except` are files that belong to the check itself.
///
/// # Errors
/// A folder that cannot be listed. What is wrong with single files stands in the report.
pub fn describe(
    folder: &Folder,
    except: &[&Path],
    total: impl FnOnce(u64),
    seen: impl FnMut(u64),
) -> Result<Report, ProvenanceError> {
    hash_all(folder, except, None, total, seen)
}

/// The digest by which records name a model: only the files that loading reads are hashed. `None` if
/// one of them cannot be read.
pub fn model_only(
    folder: &Folder,
    total: impl FnOnce(u64),
    mut seen: impl FnMut(u64),
) -> Option<Digest> {
    let (found, _) = folder.list(&[]).ok()?;
    let names = match folder.is_one_file() {
        true => found.iter().map(|file| file.name.clone()).collect(),
        false => model_files::read_for_loading(folder.root()).ok()?,
    };
    let wanted: Vec<&FoundFile> = found.iter().filter(|f| names.contains(&f.name)).collect();
    if wanted.len() < names.len() {
        return None; // before gigabytes are read for nothing
    }
    total(wanted.iter().map(|file| file.bytes).sum());
    let hash = |name: &String| Some((name.clone(), folder.digest(name, &mut seen).ok()?.0));
    let files = names.iter().map(hash).collect::<Option<Vec<_>>>()?;
    match folder.is_one_file() {
        true => files.first().map(|(_, digest)| *digest),
        false => Some(Digest::of_files(&files)),
    }
}

/// Compares every file of a model with `manifest`. A file of the wrong length is not hashed.
///
/// # Errors
/// As [`describe`].
pub fn verify(
    folder: &Folder,
    manifest: &Manifest,
    except: &[&Path],
    total: impl FnOnce(u64),
    seen: impl FnMut(u64),
) -> Result<Report, ProvenanceError> {
    hash_all(folder, except, Some(manifest), total, seen)
}

fn hash_all(
    folder: &Folder,
    except: &[&Path],
    manifest: Option<&Manifest>,
    total: impl FnOnce(u64),
    mut seen: impl FnMut(u64),
) -> Result<Report, ProvenanceError> {
    let own = own_files(folder, except);
    let own: Vec<&Path> = own.iter().map(AsRef::as_ref).collect();
    let (found, mut faults) = folder.list(&own)?;
    // Of a model in one file the other lines are not asked about: they are about its neighbours.
    let only: Option<Manifest> = manifest.filter(|_| folder.is_one_file()).map(|manifest| {
        let is_here = |name: &String| found.iter().any(|file| file.name == *name);
        let files = manifest.files.iter().filter(|(name, _)| is_here(name));
        Manifest { files: files.map(|(n, e)| (n.clone(), e.clone())).collect(), model: None }
    });
    let manifest = only.as_ref().or(manifest);
    if let Some(manifest) = manifest {
        compare_names(manifest, &found, &mut faults);
    }
    let listed =
        |file: &&FoundFile| manifest.is_none_or(|manifest| manifest.files.contains_key(&file.name));
    total(found.iter().filter(listed).map(|file| file.bytes).sum());
    let mut files = Vec::new();
    for file in found.iter().filter(listed) {
        let expected = manifest.and_then(|manifest| manifest.files.get(&file.name));
        match hash_one(folder, file, expected, &mut seen) {
            Ok((file, digest)) => files.push((file, digest)),
            Err(fault) => faults.push(fault),
        }
    }
    faults.sort_by(|a, b| a.name().cmp(b.name()));
    let model = model_digest(folder, &files);
    if let (true, Some(expected), Some(found)) =
        (faults.is_empty(), manifest.and_then(|manifest| manifest.model), model)
        && expected != found
    {
        let name = "the model's digest".to_owned();
        faults.push(Fault::Changed { name, expected, found });
    }
    Ok(Report { files, faults, model })
}

/// The files beside a model that are about it and not of it.
fn own_files(folder: &Folder, except: &[&Path]) -> Vec<std::path::PathBuf> {
    let mut own: Vec<_> = except.iter().map(|path| path.to_path_buf()).collect();
    if !folder.is_one_file() {
        own.push(folder.path(MANIFEST_NAME));
        own.push(folder.path(&format!("{MANIFEST_NAME}{SIGNATURE_END}")));
    }
    own
}

/// Notes what only one side has.
fn compare_names(manifest: &Manifest, found: &[FoundFile], faults: &mut Vec<Fault>) {
    let mut there: BTreeSet<&str> = found.iter().map(|file| file.name.as_str()).collect();
    there.extend(faults.iter().map(Fault::name));
    let absent = manifest.files.keys().filter(|name| !there.contains(name.as_str()));
    let missing: Vec<Fault> = absent.map(|name| Fault::Missing { name: name.clone() }).collect();
    faults.extend(missing);
    for file in found {
        if !manifest.files.contains_key(&file.name) {
            faults.push(Fault::Extra { name: file.name.clone() });
        }
    }
}

fn hash_one(
    folder: &Folder,
    file: &FoundFile,
    expected: Option<&Entry>,
    seen: &mut impl FnMut(u64),
) -> Result<(FoundFile, Digest), Fault> {
    let name = file.name.clone();
    if let Some(bytes) = expected.and_then(|entry| entry.bytes)
        && bytes != file.bytes
    {
        seen(file.bytes);
        let (expected, found) = (bytes, file.bytes);
        return Err(match found < expected {
            true => Fault::Truncated { name, expected, found },
            false => Fault::Longer { name, expected, found },
        });
    }
    let (found, bytes) = folder
        .digest(&file.name, seen)
        .map_err(|why| Fault::Unreadable { name: name.clone(), why: why.to_string() })?;
    match expected {
        Some(entry) if entry.digest != found => {
            Err(Fault::Changed { name, expected: entry.digest, found })
        }
        _ => Ok((FoundFile { name, bytes }, found)),
    }
}

/// The digest of the files that loading the model reads, if all of them were hashed.
fn model_digest(folder: &Folder, files: &[(FoundFile, Digest)]) -> Option<Digest> {
    let pair = |(file, digest): &(FoundFile, Digest)| (file.name.clone(), *digest);
    if folder.is_one_file() {
        return files.first().map(|(_, digest)| *digest);
    }
    let names = model_files::read_for_loading(folder.root()).ok()?;
    let read: Vec<_> =
        files.iter().filter(|(file, _)| names.contains(&file.name)).map(pair).collect();
    (read.len() == names.len()).then(|| Digest::of_files(&read))
}
