//! What lies in a model's folder: every file, and what is no file that may count as one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::ProvenanceError;
use crate::vlm::Digest;

/// The manifest's name in a model's folder; beside a model in one file it is `FILE.sha256`.
pub const MANIFEST_NAME: &str = "model.sha256";
/// What a signature's name adds to that of the file it signs.
pub const SIGNATURE_END: &str = ".minisig";
/// Most files and folders that are looked at: a model has about twenty.
const ENTRIES_MAX: usize = 4096;
/// How deep folders may lie in each other.
const DEPTH_MAX: usize = 8;
/// Folders of the tools that bring models. The engine reads none of them.
const TOOLS: [&str; 2] = [".git", ".cache"];

/// A model on disk: a folder, or one file of a folder.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    single: Option<String>,
}

/// A regular file of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    /// Its name as seen from the folder, with `/` between the levels.
    pub name: String,
    /// Its length when it was listed.
    pub bytes: u64,
}

/// Something wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The manifest lists it, and it is not there.
    #[error("missing    {name}: the manifest lists it")]
    Missing {
        /// The file.
        name: String,
    },
    /// It is there, and the manifest does not list it.
    #[error(
        "extra      {name}: the manifest does not list it; remove it, or find out who put it there"
    )]
    Extra {
        /// The file.
        name: String,
    },
    /// It is shorter than the manifest says.
    #[error("truncated  {name}: {found} of {expected} bytes; copy it again")]
    Truncated {
        /// The file.
        name: String,
        /// Bytes that the manifest says.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// It has other bytes than the manifest says.
    #[error("changed    {name}: SHA-256 is {found}, the manifest says {expected}")]
    Changed {
        /// The file.
        name: String,
        /// What the manifest says.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// It is longer than the manifest says.
    #[error("changed    {name}: {found} bytes, the manifest says {expected}")]
    Longer {
        /// The file.
        name: String,
        /// Bytes that the manifest says.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// A link to something outside the folder, which nobody can vouch for.
    #[error("leads out  {name}: a link to {}, outside the folder; copy the file itself", target.display())]
    LeadsOut {
        /// The link.
        name: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("no file    {name}: {what}")]
    NotAFile {
        /// Its name.
        name: String,
        /// What it is.
        what: String,
    },
    /// It could not be read to its end.
    #[error("unreadable {name}: {why}")]
    Unreadable {
        /// The file.
        name: String,
        /// The system's reason.
        why: String,
    },
}

impl Fault {
    /// The file it is about.
    pub fn name(&self) -> &str {
        match self {
            Fault::Missing { name }
            | Fault::Extra { name }
            | Fault::Truncated { name, .. }
            | Fault::Changed { name, .. }
            | Fault::Longer { name, .. }
            | Fault::LeadsOut { name, .. }
            | Fault::NotAFile { name, .. }
            | Fault::Unreadable { name, .. } => name,
        }
    }
}

impl Folder {
    /// Opens the folder `model`, or the one file `model`. A link to either is followed: which model
    /// is installed may be said by a link.
    ///
    /// # Errors
    /// If there is nothing, or neither a file nor a folder.
    pub fn open(model: &Path) -> Result<Folder, ProvenanceError> {
        let real = model.canonicalize().map_err(|why| ProvenanceError::read(model, why))?;
        let wrong = |problem: &str| {
            let problem = problem.to_owned();
            Err(ProvenanceError::Model { path: model.to_owned(), problem })
        };
        if real.is_dir() {
            return Ok(Folder { root: real, single: None });
        }
        if !real.is_file() {
            return wrong("is neither a folder nor a file");
        }
        let name = real.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        match (real.parent(), name) {
            (Some(root), Some(name)) => Ok(Folder { root: root.to_owned(), single: Some(name) }),
            _ => wrong("has a name that is not text"),
        }
    }

    /// Whether the model is one file.
    pub fn is_one_file(&self) -> bool {
        self.single.is_some()
    }

    /// The folder that names are seen from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file of this model.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the manifest lies unless somebody says otherwise.
    pub fn default_manifest(&self) -> PathBuf {
        match &self.single {
            None => self.root.join(MANIFEST_NAME),
            Some(name) => self.root.join(format!("{name}.sha256")),
        }
    }

    /// Every file, ascending by name, and what may not count as one. `except` are files that belong
    /// to the check itself. Nothing is opened.
    ///
    /// # Errors
    /// A folder that cannot be listed, or that holds too much to be a model.
    pub fn list(&self, except: &[&Path]) -> Result<(Vec<FoundFile>, Vec<Fault>), ProvenanceError> {
        let except: Vec<PathBuf> = except.iter().filter_map(|p| p.canonicalize().ok()).collect();
        let mut walk = Walk { folder: self, except, files: vec![], faults: vec![], seen: 0 };
        match &self.single {
            Some(name) => walk.one(&self.path(name), name.clone(), 0)?,
            None => walk.inside(&self.root, "", 0)?,
        }
        walk.files.sort();
        walk.faults.sort_by(|a, b| a.name().cmp(b.name()));
        Ok((walk.files, walk.faults))
    }

    /// The digest of the file `name` and its length. `seen` is told each piece's length.
    pub fn digest(&self, name: &str, seen: impl FnMut(u64)) -> io::Result<(Digest, u64)> {
        Digest::of_reader(&mut open_regular(&self.path(name))?, seen)
    }
}

/// Opens a regular file for reading: anything else is an error, and a pipe does not hang.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    Ok(file)
}

struct Walk<'f> {
    folder: &'f Folder,
    except: Vec<PathBuf>,
    files: Vec<FoundFile>,
    faults: Vec<Fault>,
    seen: usize,
}

impl Walk<'_> {
    fn inside(&mut self, dir: &Path, prefix: &str, depth: usize) -> Result<(), ProvenanceError> {
        let fail = |why| ProvenanceError::read(dir, why);
        for entry in fs::read_dir(dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            self.seen += 1;
            if self.seen > ENTRIES_MAX || depth > DEPTH_MAX {
                let problem = format!(
                    "holds more than {ENTRIES_MAX} files or {DEPTH_MAX} folders in each other: \
                     this is not a model's folder"
                );
                return Err(ProvenanceError::Model { path: self.folder.root.clone(), problem });
            }
            let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}"))
            else {
                let name = entry.file_name().to_string_lossy().into_owned();
                let what = "its name is not text; rename or remove it".to_owned();
                self.faults.push(Fault::NotAFile { name, what });
                continue;
            };
            self.one(&entry.path(), name, depth)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, name: String, depth: usize) -> Result<(), ProvenanceError> {
        let unreadable = |name, why: io::Error| Fault::Unreadable { name, why: why.to_string() };
        let about = match fs::symlink_metadata(path) {
            Ok(about) => about,
            Err(why) => {
                self.faults.push(unreadable(name, why));
                return Ok(());
            }
        };
        if about.is_dir() {
            let is_tool = depth == 0 && TOOLS.contains(&name.as_str());
            return if is_tool {
                Ok(())
            } else {
                self.inside(path, &format!("{name}/"), depth + 1)
            };
        }
        let about = if about.is_symlink() {
            match path.canonicalize() {
                Ok(target) if !target.starts_with(&self.folder.root) => {
                    self.faults.push(Fault::LeadsOut { name, target });
                    return Ok(());
                }
                Ok(target) => fs::metadata(target),
                Err(why) => Err(why),
            }
        } else {
            Ok(about)
        };
        match about {
            Err(why) => self.faults.push(unreadable(name, why)),
            Ok(about) if about.is_file() => {
                let itself = path.canonicalize().is_ok_and(|real| self.except.contains(&real));
                if !itself {
                    self.files.push(FoundFile { name, bytes: about.len() });
                }
            }
            Ok(about) => {
                let what = if about.is_dir() { "a link to a folder" } else { "not a regular file" };
                self.faults.push(Fault::NotAFile { name, what: what.to_owned() });
            }
        }
        Ok(())
    }
}
