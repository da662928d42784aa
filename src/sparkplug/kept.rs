//! What outlives the program, in one small file beside the database: the number of the next
//! connection, and which results have been told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::provenance::write_whole;

/// Largest file that is read, in bytes; a good one has less than a hundred.
const FILE_MAX_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    /// The newest bdSeq that was used.
    bd_seq: Option<u8>,
    /// The sequence number of the newest result that was told.
    told: Option<i64>,
}

/// The file, and what is to stand in it.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
    content: Content,
}

impl Kept {
    /// Reads the file at `path`. One that is not there, or cannot be read, is a first start; of the
    /// second the log tells.
    pub fn open(path: &Path) -> Kept {
        let content = match read(path) {
            Ok(content) => content,
            Err(why) => {
                let path = path.display();
                tracing::warn!(%path, why, "the Sparkplug numbers cannot be read; they start anew");
                Content::default()
            }
        };
        Kept { path: path.to_owned(), content }
    }

    /// The number of the next connection: 0 at first, then one more each time, and 0 again after 255.
    /// To be written before it is used.
    pub fn next_bd_seq(&mut self) -> u8 {
        let next = self.content.bd_seq.map_or(0, |last| last.wrapping_add(1));
        self.content.bd_seq = Some(next);
        next
    }

    /// The sequence number of the newest result that was told; `None` before the first start.
    pub fn told(&self) -> Option<i64> {
        self.content.told
    }

    /// Notes which results have been told; answers whether that is news.
    pub fn set_told(&mut self, told: i64) -> bool {
        self.content.told.replace(told) != Some(told)
    }

    /// Writes the file, whole. Blocks on the disk. One that cannot be written is told of, and what
    /// it should hold is used all the same.
    pub fn write(&self) {
        let text = serde_json::to_vec(&self.content).expect("numbers have a JSON form");
        if let Err(why) = write_whole(&self.path, &text) {
            // Sparkplug is not the record: a disk that is full must not stop it as well.
            tracing::error!(%why, "the Sparkplug numbers cannot be kept; after a restart they repeat");
        }
    }
}

fn read(path: &Path) -> Result<Content, String> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(why) => return Err(why.to_string()),
    };
    if !about.is_file() || about.len() > FILE_MAX_BYTES {
        return Err("it is not the file that was written here".to_owned());
    }
    let text = std::fs::read(path).map_err(|why| why.to_string())?;
    serde_json::from_slice(&text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_a_restart_and_wrap() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.sparkplug");
        let mut numbers = Vec::new();
        for _ in 0..2 {
            let mut kept = Kept::open(&path);
            numbers.extend([kept.next_bd_seq(), kept.next_bd_seq()]);
            kept.write();
        }
        assert_eq!(numbers, [0, 1, 2, 3]);
        let mut kept = Kept::open(&path);
        let last = (4..=256).map(|_| kept.next_bd_seq()).last();
        assert_eq!(last, Some(0), "255 is followed by 0");
        assert_eq!(kept.told(), None);
        assert_eq!([kept.set_told(7), kept.set_told(7)], [true, false]);
        kept.write();
        assert_eq!(Kept::open(&path).told(), Some(7));
    }

    #[test]
    fn a_file_that_is_not_ours_is_a_first_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.sparkplug");
        for bad in [&b"{"[..], b"{\"bd_seq\":300}", &[b' '; 5000]] {
            std::fs::write(&path, bad).expect("written");
            assert_eq!(Kept::open(&path).next_bd_seq(), 0);
        }
        // A folder in its place: nothing can be kept, and it goes on.
        std::fs::remove_file(&path).expect("removed");
        std::fs::create_dir(&path).expect("made");
        let mut kept = Kept::open(&path);
        assert_eq!(kept.next_bd_seq(), 0);
        kept.write();
        assert_eq!(kept.next_bd_seq(), 1);
    }
}
