//! Evidence files: what the model saw, as lossless PNG, each named by the digest of its bytes.
//!
//! `ab/abcdef….png` holds the file whose SHA-256 is `abcdef…`. A file appears complete or not
//! at all: it is written under another name, forced to the disk, and renamed. So a record can be
//! checked against its files at any time with `sha256sum`.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::error::StoreError;
use crate::fault;
use crate::frame::Rgb8;
pub use crate::frame::file::png as encode;

/// Where unfinished files lie; emptied at every start.
const UNFINISHED: &str = ".unfinished";

/// The file of the evidence with digest `sha256` under the folder `dir`. A text that is no digest
/// leads to a path that does not exist, never out of `dir`.
pub fn path(dir: &Path, sha256: &str) -> PathBuf {
    if !is_digest(sha256) {
        return dir.join("no-such-digest");
    }
    dir.join(&sha256[..2]).join(format!("{sha256}.png"))
}

/// Whether `text` can be the name of an evidence file: 64 hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The names of all evidence files under the folder `dir`, in no order. What has another name is
/// not ours and left out.
pub(super) fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(dir)? {
        let folder = folder?;
        let name = folder.file_name();
        let Some(beginning) = name.to_str().filter(|name| name.len() == 2) else { continue };
        for file in std::fs::read_dir(folder.path())? {
            let name = file?.file_name();
            let digest = name.to_str().and_then(|name| name.strip_suffix(".png"));
            let ours = |digest: &&str| is_digest(digest) && digest.starts_with(beginning);
            found.extend(digest.filter(ours).map(str::to_owned));
        }
    }
    Ok(found)
}

/// SHA-256 of `bytes` as 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder of the evidence files, ready to be written.
#[derive(Debug)]
pub(super) struct EvidenceFolder {
    dir: PathBuf,
    /// Tells unfinished files of two threads apart.
    next: AtomicU64,
    /// Files whose record is on its way, and how many records: retention leaves them alone.
    unsettled: Mutex<HashMap<String, usize>>,
}

impl EvidenceFolder {
    /// Makes the folder, empties what a crash left unfinished, and tries to write.
    pub(super) fn open(dir: &Path) -> Result<EvidenceFolder, StoreError> {
        let unfinished = dir.join(UNFINISHED);
        let io = |why| StoreError::from_io(dir, why);
        if unfinished.is_dir() {
            std::fs::remove_dir_all(&unfinished).map_err(io)?;
        }
        std::fs::create_dir_all(&unfinished).map_err(io)?;
        let trial = unfinished.join("trial");
        match std::fs::write(&trial, b"x").and_then(|()| std::fs::remove_file(&trial)) {
            // A full disk is no reason not to start: parts are recorded without pictures then, and
            // retention, which makes room, runs only in a daemon that has started.
            Err(why) if why.kind() == std::io::ErrorKind::StorageFull => {}
            told => told.map_err(io)?,
        }
        Ok(EvidenceFolder {
            dir: dir.to_owned(),
            next: AtomicU64::new(0),
            unsettled: Mutex::default(),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `picture` unless it is there already; answers its digest. The file stays until its
    /// record is [`settled`](Self::settle).
    pub(super) fn put(&self, picture: &Rgb8) -> Result<String, StoreError> {
        let bytes = encode(picture).map_err(|why| StoreError::Evidence {
            path: self.dir.clone(),
            why: format!("{picture:?} cannot be encoded: {why}"),
        })?;
        let name = digest(&bytes);
        // Before the look whether it is there: what is removed after that would be missing.
        *self.unsettled().entry(name.clone()).or_default() += 1;
        let path = path(&self.dir, &name);
        // The size is compared as well: a file system that lost the contents in a crash leaves
        // the name with nothing behind it.
        let kept = std::fs::metadata(&path).is_ok_and(|file| file.len() == bytes.len() as u64);
        if !kept && let Err(why) = self.put_bytes(&name, &bytes) {
            self.settle([name.as_str()]);
            return Err(why);
        }
        Ok(name)
    }

    /// The record that names these files is committed, each as often as it was put.
    pub(super) fn settle<'s>(&self, names: impl IntoIterator<Item = &'s str>) {
        let mut unsettled = self.unsettled();
        for name in names {
            match unsettled.get_mut(name) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(unsettled.remove(name)),
            }
        }
    }

    /// Removes the file that is called `name`, unless a record on its way needs it or `is_needed`
    /// says so; answers whether it is gone.
    pub(super) fn remove(
        &self,
        name: &str,
        is_needed: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        // Held until the file is gone: whoever puts the same picture waits and writes it again.
        let unsettled = self.unsettled();
        if unsettled.contains_key(name) || is_needed()? {
            return Ok(false);
        }
        let path = path(&self.dir, name);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(true),
            Err(why) => Err(StoreError::Evidence { path, why: why.to_string() }),
        }
    }

    /// Forces the removal of these files to the disk.
    pub(super) fn sync(&self, names: &[&str]) -> Result<(), StoreError> {
        let folder = |name: &&str| path(&self.dir, name).parent().map(Path::to_owned);
        let folders: BTreeSet<PathBuf> = names.iter().filter_map(folder).collect();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|why| StoreError::from_io(folder, why))?;
        }
        Ok(())
    }

    /// A panic while it was held leaves a file too many at most.
    fn unsettled(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.unsettled.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Writes the file of the evidence that is called `name`, whole or not at all.
    pub(super) fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = path(&self.dir, name);
        self.write(&path, bytes).map_err(|why| match why.kind() {
            std::io::ErrorKind::StorageFull => StoreError::Full { doing: "keep a picture", path },
            _ => StoreError::Evidence { path, why: why.to_string() },
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.dir.join(UNFINISHED).join(number.to_string());
        let folder = path.parent().unwrap_or(&self.dir);
        let made_folder = !folder.is_dir();
        std::fs::create_dir_all(folder)?;
        let finish = || -> std::io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fault::point(fault::EVIDENCE_WRITTEN);
            std::fs::rename(&unfinished, path)
        };
        if let Err(why) = finish() {
            // What a full disk left of it would take the last room from the records.
            let _ = std::fs::remove_file(&unfinished);
            return Err(why);
        }
        fault::point(fault::EVIDENCE_NAMED);
        // The name is in the folder, and a new folder's name in the folder above: both must be on
        // the disk before the record that names the file.
        File::open(folder)?.sync_all()?;
        if made_folder {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_folder() {
        let dir = Path::new("/evidence");
        for bad in ["", "ab", "../../etc/passwd", &"é".repeat(32)] {
            assert_eq!(path(dir, bad), Path::new("/evidence/no-such-digest"), "{bad}");
        }
        let name = digest(b"");
        assert!(name.starts_with("e3b0c442") && name.len() == 64);
        assert_eq!(path(dir, &name), dir.join("e3").join(format!("{name}.png")));
    }

    #[test]
    fn a_picture_comes_back_from_its_file_unchanged() {
        let mut picture = Rgb8::new(31, 17);
        for (at, byte) in picture.data.iter_mut().enumerate() {
            *byte = (at * 7 % 251) as u8;
        }
        let bytes = encode(&picture).expect("plain picture");
        let back = image::load_from_memory(&bytes).expect("a PNG").into_rgb8();
        assert_eq!(back.dimensions(), (31, 17));
        assert_eq!(back.into_raw(), picture.data);
    }
}
