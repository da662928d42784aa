//! How far the copy had come, in one small file beside the database.
//!
//! Nothing is decided by it: what is copied goes by what the table holds. It tells how much waits before there is
//! a connection, and that a table has lost what it was given.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::provenance::write_whole;

/// Largest file that is read, in bytes; a good one has less than a hundred.
const FILE_MAX_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// The chain that is copied.
    chain_id: Uuid,
    /// Its last record that was copied.
    copied: i64,
}

/// The file, and what is to stand in it.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    content: Content,
    written: Option<Content>,
}

impl Kept {
    /// Reads the file at `path`, which is of use if it is about the chain `chain_id`.
    pub fn open(path: &Path, chain_id: Uuid) -> Kept {
        let found = read(path).filter(|found| found.chain_id == chain_id && found.copied >= 0);
        let content = found.unwrap_or(Content { chain_id, copied: 0 });
        Kept { path: path.to_owned(), content, written: found }
    }

    /// The last record that was copied; 0: none.
    pub fn copied(&self) -> i64 {
        self.content.copied
    }

    /// Notes it.
    pub fn set(&mut self, copied: i64) {
        self.content.copied = copied;
    }

    /// Writes the file, whole, if it would be another. Blocks on the disk.
    pub fn write(&mut self) {
        if self.written == Some(self.content) {
            return;
        }
        // Tried again with the next records: a full disk would else fill the log as well.
        self.written = Some(self.content);
        let text = serde_json::to_vec(&self.content).expect("it has a JSON form");
        if let Err(why) = write_whole(&self.path, &text) {
            tracing::warn!(%why, "how far the copy to PostgreSQL has come cannot be kept");
        }
    }
}

/// A file that is not there, or is not ours, is a first start.
fn read(path: &Path) -> Option<Content> {
    let about = std::fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > FILE_MAX_BYTES {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_one_chain_and_a_foreign_file_is_a_first_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.db.postgres");
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        let mut kept = Kept::open(&path, one);
        assert_eq!(kept.copied(), 0);
        kept.set(7);
        kept.write();
        assert_eq!(Kept::open(&path, one).copied(), 7);
        assert_eq!(Kept::open(&path, other).copied(), 0);
        for bad in [&b"{"[..], b"{\"chain_id\":1}", &[b' '; 5000]] {
            std::fs::write(&path, bad).expect("written");
            assert_eq!(Kept::open(&path, one).copied(), 0);
        }
    }
}
