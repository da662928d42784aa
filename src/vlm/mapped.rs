//! A model's file in memory: mapped, so that products read the weights where they lie, and open a
//! second time, so that its digest is read without making the mapping's pages resident.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};

/// A file that is mapped whole, read-only.
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
    /// Opened apart from the mapping: the system reads ahead for each by what each has read.
    reading: File,
    was: Identity,
}

/// What tells that a file is still the one that was mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// Bytes of a mapped file. Cheap to clone; the file stays mapped as long as one of them lives.
#[derive(Clone)]
pub struct MappedBytes {
    file: Arc<MappedFile>,
    range: Range<usize>,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// Those of the system, and a file that is replaced at this moment.
    pub(crate) fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and lives as long as the file handle's pages. A file
        // that another program shortens while we read is outside what a mapping can survive; a
        // model is installed, not edited.
        let map = unsafe { Mmap::map(&file) }?;
        let (reading, was) = (File::open(path)?, Identity::of(&file)?);
        let mapped = MappedFile { path: path.to_path_buf(), map, reading, was };
        mapped.check_unchanged()?;
        Ok(mapped)
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses if the file was written to since it was mapped: what was read of it before and after
    /// may then belong to two models.
    pub(crate) fn check_unchanged(&self) -> io::Result<()> {
        if Identity::of(&self.reading)? == self.was {
            return Ok(());
        }
        Err(io::Error::other("the file changed while the model was loaded; start again"))
    }

    /// Reads from byte `offset` on, by the system's own pages; answers the bytes read, 0 at the end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reading.read_at(buffer, offset)
    }

    /// Tells the system that its mapped pages may leave memory; they come back when touched again.
    pub(crate) fn release(&self) {
        self.release_range(&(0..self.map.len()));
    }

    fn release_range(&self, range: &Range<usize>) {
        // SAFETY: the mapping is read-only and of a file, so that a page dropped comes back with the
        // same bytes. It is advice: failure costs memory, nothing else.
        let _ = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Identity {
    fn of(file: &File) -> io::Result<Identity> {
        let about = file.metadata()?;
        Ok(Identity {
            device: about.dev(),
            inode: about.ino(),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        })
    }
}

impl MappedBytes {
    /// The bytes `range` of `file`, within which they must lie.
    pub(crate) fn new(file: Arc<MappedFile>, range: Range<usize>) -> MappedBytes {
        assert!(range.start <= range.end && range.end <= file.len(), "the header was checked");
        MappedBytes { file, range }
    }

    /// As [`MappedFile::release`], for the pages of these bytes.
    pub(crate) fn release(&self) {
        self.file.release_range(&self.range);
    }
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.file[self.range.clone()]
    }
}

impl AsRef<[u8]> for MappedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes of this process's pages of `path`, as the system counts them.
    fn resident(path: &Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let name = path.to_str().unwrap();
        let lines = maps.lines().skip_while(|line| !line.ends_with(name));
        let rss = lines.take(8).find_map(|line| line.strip_prefix("Rss:"));
        rss.and_then(|rss| rss.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0) * 1024
    }

    #[test]
    fn released_bytes_leave_the_process_and_come_back_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        let bytes: Vec<u8> = (0..8 << 20).map(|at: u32| (at >> 12) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = Arc::new(MappedFile::open(&path).unwrap());
        let mut buffer = vec![0; 1 << 20];
        assert_eq!(file.read_at(&mut buffer, 7 << 20).unwrap(), 1 << 20);
        assert_eq!(buffer, bytes[7 << 20..]);
        assert_eq!(resident(&path), 0, "reading is not mapping");

        let half = MappedBytes::new(Arc::clone(&file), 4 << 20..8 << 20);
        assert!(file[..] == *bytes);
        assert_eq!(resident(&path), 8 << 20);
        half.release();
        assert_eq!(resident(&path), 4 << 20);
        assert!(half[..] == bytes[4 << 20..]);
        file.release();
        assert_eq!(resident(&path), 0);
    }

    #[test]
    fn a_file_that_is_written_to_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::write(&path, b"one").unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert!(file.check_unchanged().is_ok());
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        assert!(file.check_unchanged().unwrap_err().to_string().contains("start again"));
    }
}
