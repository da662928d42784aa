//! A station's folder of clips: each appears whole, and the oldest go when there is no room.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{FootageError, INDEX};

/// What unfinished clips begin with; removed at every start.
const UNFINISHED: &str = ".unfinished-";

/// The folder.
#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    next: AtomicU64,
}

/// A clip that is there.
struct Clip {
    path: PathBuf,
    written: jiff::Timestamp,
    bytes: u64,
}

impl Shelf {
    /// Makes the folder, and removes what a crash left unfinished.
    pub(super) fn open(dir: &Path) -> Result<Shelf, FootageError> {
        std::fs::create_dir_all(dir).map_err(FootageError::file("make", dir))?;
        for entry in std::fs::read_dir(dir).map_err(FootageError::file("read", dir))?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED)) {
                let path = entry.path();
                std::fs::remove_dir_all(&path).map_err(FootageError::file("remove", &path))?;
            }
        }
        Ok(Shelf { dir: dir.to_owned(), next: AtomicU64::new(0) })
    }

    /// Where a clip is written before it has its name.
    pub(super) fn unfinished(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{UNFINISHED}{number}"))
    }

    /// Gives the whole clip at `unfinished` its `name`; it can be found by the `others`, too.
    pub(super) fn put(
        &self,
        unfinished: &Path,
        name: &str,
        others: &[String],
    ) -> Result<PathBuf, FootageError> {
        let path = self.dir.join(name);
        std::fs::rename(unfinished, &path).map_err(FootageError::file("write", &path))?;
        for other in others {
            let link = self.dir.join(other);
            symlink(name, &link).map_err(FootageError::file("write", &link))?;
        }
        let synced = std::fs::File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(FootageError::file("write", &self.dir))?;
        Ok(path)
    }

    /// Removes clips that were written before `oldest`, and the oldest while all take more than
    /// `max_bytes`.
    pub(super) fn tidy(
        &self,
        max_bytes: u64,
        oldest: Option<jiff::Timestamp>,
    ) -> Result<(), FootageError> {
        let mut clips = self.clips()?;
        clips.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
        let mut total: u64 = clips.iter().map(|clip| clip.bytes).sum();
        let mut removed = false;
        for clip in &clips {
            let is_old = oldest.is_some_and(|oldest| clip.written < oldest);
            if !is_old && total <= max_bytes {
                break;
            }
            self.remove(&clip.path)?;
            total -= clip.bytes;
            removed = true;
        }
        if removed { self.remove_loose_links() } else { Ok(()) }
    }

    /// By another name first: what is half removed must not look like a clip.
    fn remove(&self, path: &Path) -> Result<(), FootageError> {
        let going = self.unfinished();
        std::fs::rename(path, &going).map_err(FootageError::file("remove", path))?;
        std::fs::remove_dir_all(&going).map_err(FootageError::file("remove", &going))
    }

    fn remove_loose_links(&self) -> Result<(), FootageError> {
        for path in self.entries()? {
            if path.is_symlink() && !path.exists() {
                std::fs::remove_file(&path).map_err(FootageError::file("remove", &path))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<PathBuf>, FootageError> {
        let unreadable = || FootageError::file("read", &self.dir);
        let entries = std::fs::read_dir(&self.dir).map_err(unreadable())?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(unreadable())).collect()
    }

    fn clips(&self) -> Result<Vec<Clip>, FootageError> {
        let mut clips = Vec::new();
        for path in self.entries()? {
            let index = path.join(INDEX);
            if path.is_symlink() || !index.is_file() {
                continue;
            }
            let unreadable = FootageError::file("read", &path);
            let mut bytes = 0;
            for file in std::fs::read_dir(&path).map_err(&unreadable)?.flatten() {
                bytes += file.metadata().map_err(&unreadable)?.len();
            }
            let written = std::fs::metadata(&index).and_then(|file| file.modified());
            let written = jiff::Timestamp::try_from(written.map_err(&unreadable)?);
            let written = written.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            clips.push(Clip { path, written, bytes });
        }
        Ok(clips)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(shelf: &Shelf, name: &str, others: &[&str]) {
        let unfinished = shelf.unfinished();
        std::fs::create_dir(&unfinished).expect("made");
        std::fs::write(unfinished.join(INDEX), [b'x'; 100]).expect("written");
        let others: Vec<String> = others.iter().map(|&other| other.to_owned()).collect();
        shelf.put(&unfinished, name, &others).expect("put");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("readable").flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_with_their_other_names() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join(".unfinished-7")).expect("made");
        let shelf = Shelf::open(dir.path()).expect("opens");
        assert!(names(dir.path()).is_empty(), "what was unfinished is gone");
        clip(&shelf, "1-a", &["1-b"]);
        clip(&shelf, "2", &[]);
        clip(&shelf, "3", &[]);
        shelf.tidy(300, None).expect("tidied");
        assert_eq!(names(dir.path()), ["1-a", "1-b", "2", "3"]);
        shelf.tidy(299, None).expect("tidied");
        assert_eq!(names(dir.path()), ["2", "3"]);
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        shelf.tidy(300, Some(later)).expect("tidied");
        assert!(names(dir.path()).is_empty());
    }
}
