//! Where a model comes from, and whether it is still the one that came.
//!
//! ```text
//! folder (what lies there) ─┬→ manifest (written where the model is trusted)
//!                           └→ verify: manifest, signature, digest in a record → faults
//! ```
//!
//! A manifest is a list as `sha256sum` writes it, so that a machine without this program can check
//! it too. It says whether files are whole; who made it is said by a signature alone.

pub mod fetch;
pub mod folder;
pub mod manifest;
pub mod signature;
pub mod verify;

pub use folder::{Fault, Folder, FoundFile};
pub use manifest::{Entry, Manifest};
pub use verify::{Report, describe, verify};

use std::io;
use std::path::{Path, PathBuf};

/// Why a model, a manifest or a signature cannot be worked with at all.
#[derive(Debug, thiserror::Error)]
pub enum ProvenanceError {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The model is no folder and no file.
    #[error("{}: {problem}", path.display())]
    Model {
        /// What was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A manifest that cannot be understood.
    #[error("{}{}: {problem}", path.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A signature that does not hold.
    #[error("{}: {problem}", path.display())]
    Signature {
        /// The signature's or the key's file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl ProvenanceError {
    pub(crate) fn read(path: &Path, source: io::Error) -> ProvenanceError {
        ProvenanceError::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> ProvenanceError {
        ProvenanceError::Write { path: path.to_owned(), source }
    }
}

/// Reads a small text file of at most `max_bytes`.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, ProvenanceError> {
    use std::io::Read;
    let fail = |source| ProvenanceError::read(path, source);
    let file = folder::open_regular(path).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(fail)?;
    let wrong = |why: String| fail(io::Error::new(io::ErrorKind::InvalidData, why));
    if bytes.len() as u64 > max_bytes {
        return Err(wrong(format!("it has more than {max_bytes} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is not text".to_owned()))
}

/// Writes a file that appears whole or not at all, readable for everybody.
///
/// # Errors
/// [`ProvenanceError::Write`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ProvenanceError> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let write = || -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mode = std::fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new()
            .permissions(mode)
            .tempfile_in(dir.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|why| ProvenanceError::write(path, why))
}
