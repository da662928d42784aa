//! The unfinished file and its journal.
//!
//! `FILE.gguf.partial` holds the tensors at their final places; where the header will be it holds
//! zeros until the end, so that it is no GGUF file before it is whole. `FILE.gguf.partial.journal`
//! begins with a line that says what is being made of what, and has one line for each tensor that
//! is written, with its SHA-256. Whoever resumes compares the bytes with the lines: what a power cut
//! took away is seen, and no tensor need wait for the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::encode::is_stopped;
use super::error::QuantizeError;
use super::plan::Plan;
use super::source::{SourceFile, hex};

/// Bytes read at once where written tensors are compared with the journal.
const PIECE_BYTES: usize = 4 << 20;
/// Longest journal that is read: its first line has a few KB, a tensor's line about 100 bytes.
const MAX_JOURNAL_BYTES: u64 = 16 << 20;

/// What is being made of what. Two runs with the same identity make the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The program's version: another may compute other blocks.
    pub(super) program: String,
    pub(super) mix: String,
    /// The importance matrix's SHA-256.
    pub(super) imatrix: Option<String>,
    pub(super) source: Vec<SourceFile>,
}

#[derive(Serialize, Deserialize)]
struct Done {
    tensor: String,
    sha256: String,
}

/// The unfinished file, locked against a second process.
pub(super) struct Partial {
    path: PathBuf,
    journal_path: PathBuf,
    file: File,
    journal: Option<File>,
    /// Where the tensors begin.
    data_start: u64,
    /// The SHA-256 of each tensor that is written, in the order of the file.
    pub(super) digests: Vec<String>,
}

impl Partial {
    /// Opens or makes the unfinished file of `target` and locks it.
    pub(super) fn open(target: &Path) -> Result<Partial, QuantizeError> {
        let path = beside(target, ".partial");
        let refuse = |e| QuantizeError::write(&path, e);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(refuse)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(QuantizeError::Busy { path }),
            Err(TryLockError::Error(e)) => return Err(refuse(e)),
        }
        let journal_path = beside(target, ".partial.journal");
        Ok(Partial { path, journal_path, file, journal: None, data_start: 0, digests: Vec::new() })
    }

    /// The unfinished file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the journal says is being made, and the tensors it lists as written; `None` if there is
    /// no journal that can be read.
    pub(super) fn read_journal(&self) -> Option<(Identity, Vec<(String, String)>)> {
        let journal = File::open(&self.journal_path).ok()?;
        if journal.metadata().ok()?.len() > MAX_JOURNAL_BYTES {
            return None;
        }
        let mut lines = BufReader::new(journal).lines().map_while(Result::ok);
        let identity = serde_json::from_str(&lines.next()?).ok()?;
        // A line cut short by a kill, and all after it, count as not written.
        let done = lines.map_while(|line| serde_json::from_str::<Done>(&line).ok());
        Some((identity, done.map(|done| (done.tensor, done.sha256)).collect()))
    }

    /// Goes on from `listed`, the journal's tensors, as far as their bytes are there; `data_start`
    /// is where tensors begin. `seen` hears of the bytes that were read.
    pub(super) fn resume(
        &mut self,
        plan: &Plan,
        data_start: u64,
        listed: &[(String, String)],
        stop: &AtomicBool,
        mut seen: impl FnMut(u64),
    ) -> Result<(), QuantizeError> {
        self.data_start = data_start;
        for (tensor, (name, sha256)) in plan.tensors.iter().zip(listed) {
            let found = self.digest(tensor.offset_bytes, tensor.len_bytes, stop)?;
            if *name != tensor.named.gguf || found.as_ref() != Some(sha256) {
                break;
            }
            self.digests.push(sha256.clone());
            seen(tensor.len_bytes);
        }
        Ok(())
    }

    /// The SHA-256 of `len_bytes` bytes from `offset_bytes` after the header; `None` if the file
    /// ends before.
    fn digest(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        stop: &AtomicBool,
    ) -> Result<Option<String>, QuantizeError> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; PIECE_BYTES.min(len_bytes as usize)];
        let (mut at, end) =
            (self.data_start + offset_bytes, self.data_start + offset_bytes + len_bytes);
        while at < end {
            if is_stopped(stop) {
                return Err(QuantizeError::Stopped { done: self.digests.len(), of: 0 });
            }
            let len = buffer.len().min((end - at) as usize);
            if self.file.read_exact_at(&mut buffer[..len], at).is_err() {
                return Ok(None);
            }
            hasher.update(&buffer[..len]);
            at += len as u64;
        }
        Ok(Some(hex(&hasher.finalize())))
    }

    /// Empties the file and begins a journal of `identity`.
    pub(super) fn begin(
        &mut self,
        identity: &Identity,
        data_start: u64,
    ) -> Result<(), QuantizeError> {
        self.data_start = data_start;
        self.digests.clear();
        self.file.set_len(0).map_err(|e| QuantizeError::write(&self.path, e))?;
        self.rewrite_journal(identity, &[])
    }

    /// Writes the journal of `identity` and of the tensors that are written, and opens it for more.
    pub(super) fn rewrite_journal(
        &mut self,
        identity: &Identity,
        names: &[&str],
    ) -> Result<(), QuantizeError> {
        let refuse = |e| QuantizeError::write(&self.journal_path, e);
        let mut text = serde_json::to_string(identity).expect("plain data becomes JSON");
        text.push('\n');
        for (tensor, sha256) in names.iter().zip(&self.digests) {
            text += &line(tensor, sha256);
        }
        let fresh = self.journal_path.with_extension("journal-new");
        std::fs::write(&fresh, &text).map_err(refuse)?;
        std::fs::rename(&fresh, &self.journal_path).map_err(refuse)?;
        let journal = OpenOptions::new().append(true).open(&self.journal_path).map_err(refuse)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Writes bytes of a tensor, `offset_bytes` after the header.
    pub(super) fn write(&self, bytes: &[u8], offset_bytes: u64) -> Result<(), QuantizeError> {
        self.file
            .write_all_at(bytes, self.data_start + offset_bytes)
            .map_err(|e| QuantizeError::write(&self.path, e))
    }

    /// Notes that the next tensor is written.
    pub(super) fn note(&mut self, tensor: &str, sha256: String) -> Result<(), QuantizeError> {
        let journal = self.journal.as_mut().expect("the journal is begun before the first tensor");
        journal
            .write_all(line(tensor, &sha256).as_bytes())
            .map_err(|e| QuantizeError::write(&self.journal_path, e))?;
        self.digests.push(sha256);
        Ok(())
    }

    /// Writes the header, cuts the file to `file_bytes`, and waits for the disk.
    pub(super) fn finish(&self, header: &[u8], file_bytes: u64) -> Result<(), QuantizeError> {
        assert_eq!(header.len() as u64, self.data_start, "digests do not change its length");
        let refuse = |e| QuantizeError::write(&self.path, e);
        self.file.set_len(file_bytes).map_err(refuse)?;
        self.file.write_all_at(header, 0).map_err(refuse)?;
        self.file.sync_all().map_err(refuse)
    }

    /// Gives the whole file its name and forgets the journal.
    pub(super) fn publish(self, target: &Path) -> Result<(), QuantizeError> {
        let refuse = |e| QuantizeError::write(target, e);
        std::fs::rename(&self.path, target).map_err(refuse)?;
        sync_folder(target).map_err(refuse)?;
        // The journal of a file that is finished says nothing; it may be gone already.
        let _ = std::fs::remove_file(&self.journal_path);
        Ok(())
    }

    /// Bytes of the disk that the file takes already.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.blocks() * 512)
    }

    /// Forgets everything that is written: the next run starts anew.
    pub(super) fn discard(&self) {
        // Best effort: without a journal nobody resumes from the file.
        let _ = std::fs::remove_file(&self.journal_path);
        let _ = self.file.set_len(0);
    }
}

fn line(tensor: &str, sha256: &str) -> String {
    let done = Done { tensor: tensor.to_string(), sha256: sha256.to_string() };
    serde_json::to_string(&done).expect("plain data becomes JSON") + "\n"
}

/// `target` with something after its whole name.
fn beside(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The folder of `target`.
pub(super) fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Waits until the name of `target` is on the disk.
fn sync_folder(target: &Path) -> std::io::Result<()> {
    File::open(folder_of(target))?.sync_all()
}

/// Bytes that an ordinary user may still write to the disk of `folder`; `None` if the system does
/// not say.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with a zero byte and `found` has room for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call above succeeded and filled it in.
    let found = unsafe { found.assume_init() };
    // Both are narrower on some systems.
    #[allow(clippy::unnecessary_cast)]
    Some(found.f_bavail as u64 * found.f_frsize as u64)
}
