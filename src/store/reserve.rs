//! Room that is kept for the record when the disk fills.
//!
//! A file beside the database, `inspectd.db.reserve`, whose blocks are really allocated. When a
//! commit finds the disk full, most of the file is given up and the commit is tried again; from then
//! on no picture is kept, so that what was given up serves records alone. When the disk is full once
//! more, the rest is given up: it is for the last records of a daemon that now stops. When there is
//! room again, the file is made anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// The share of the reserve that stays for the last records: one in so many.
const LAST_SHARE: u64 = 8;

/// How the reserve stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveState {
    /// All of it is there, or none is wanted.
    Whole,
    /// The disk was full: most of it was given up, and pictures are not kept.
    InUse,
    /// All of it was given up: the next full disk is the end of the record.
    Spent,
}

/// The file and how much of it is there.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: Mutex<u64>,
}

impl Reserve {
    /// Makes the reserve of the database at `database` as far as there is room; 0 `bytes` is none.
    /// Never fails: what is missing shows in its state.
    pub(super) fn open(database: &Path, bytes: u64) -> Reserve {
        let mut name = database.as_os_str().to_owned();
        name.push(".reserve");
        let reserve = Reserve { path: PathBuf::from(name), bytes, held: Mutex::new(0) };
        if bytes == 0 {
            // One that was wanted before only takes room; none being there is as well.
            let _ = std::fs::remove_file(&reserve.path);
            return reserve;
        }
        let there = std::fs::metadata(&reserve.path).map_or(0, |file| allocated(&file));
        *reserve.held() = there.min(bytes);
        reserve.tend();
        reserve
    }

    pub(super) fn state(&self) -> ReserveState {
        let held = *self.held();
        match held {
            held if held >= self.bytes => ReserveState::Whole,
            held if held >= self.last_bytes() => ReserveState::InUse,
            _ => ReserveState::Spent,
        }
    }

    /// Gives up a part. `false`: nothing was left to give.
    pub(super) fn give(&self) -> bool {
        let mut held = self.held();
        let keep = match *held {
            0 => return false,
            held if held > self.last_bytes() => self.last_bytes(),
            _ => 0,
        };
        let done = cut(&self.path, keep).is_ok();
        *held = if done { keep } else { 0 };
        done
    }

    /// Makes the reserve whole again if there is room for it and half as much again; what is left
    /// for the last records first. Answers how it stands then.
    pub(super) fn tend(&self) -> ReserveState {
        for wanted in [self.last_bytes(), self.bytes] {
            let mut held = self.held();
            let missing = wanted.saturating_sub(*held);
            let free = free_bytes(&self.path).unwrap_or(0);
            if missing > 0 && free >= missing.saturating_add(missing / 2) {
                match allocate(&self.path, wanted) {
                    Ok(bytes) => *held = bytes.min(self.bytes),
                    // Without room after all it stays as it was, and is tried again later.
                    Err(_) => drop(cut(&self.path, *held)),
                }
            }
        }
        self.state()
    }

    fn last_bytes(&self) -> u64 {
        self.bytes / LAST_SHARE
    }

    /// A panic between two statements leaves a number that is still right or too small.
    fn held(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Gives back what the file takes beyond `keep` bytes.
fn cut(path: &Path, keep: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(keep)?;
    // Some file systems free the blocks only when the change is on the disk.
    file.sync_all()
}

/// Lets the file at `path` take `bytes` of the disk; answers how many it takes.
fn allocate(path: &Path, bytes: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_through(&mut file, bytes)?,
        Err(why) => return Err(why.into()),
    }
    file.sync_all()?;
    Ok(allocated(&file.metadata()?).min(bytes))
}

/// For a file system that cannot allocate: written blocks are blocks.
fn write_through(file: &mut File, bytes: u64) -> io::Result<()> {
    let block = [0x52; 64 * 1024];
    file.seek(SeekFrom::Start(0))?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        file.write_all(&block[..part as usize])?;
        left -= part;
    }
    Ok(())
}

/// Bytes of the disk that the file really takes.
fn allocated(file: &std::fs::Metadata) -> u64 {
    file.len().min(file.blocks() * 512)
}

/// Bytes that this user can still write on the disk of `path`, a file or its folder.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let on = if path.exists() { path } else { super::backup::folder_of(path) };
    let disk = statvfs(on)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1 << 20;

    #[test]
    fn it_is_really_allocated_given_up_in_two_steps_and_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::open(&dir.path().join("a.db"), BYTES);
        let file = dir.path().join("a.db.reserve");
        let taken = || std::fs::metadata(&file).map_or(0, |file| allocated(&file));
        assert_eq!((reserve.state(), taken()), (ReserveState::Whole, BYTES));
        assert!(reserve.give());
        assert_eq!((reserve.state(), taken()), (ReserveState::InUse, BYTES / LAST_SHARE));
        let again = Reserve::open(&dir.path().join("b.db"), BYTES);
        assert_eq!(again.state(), ReserveState::Whole, "each database has its own");
        assert!(reserve.give());
        assert_eq!((reserve.state(), taken()), (ReserveState::Spent, 0));
        assert!(!reserve.give(), "nothing is left");
        assert_eq!((reserve.tend(), taken()), (ReserveState::Whole, BYTES));
    }

    #[test]
    fn none_is_wanted_and_the_old_one_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let database = dir.path().join("a.db");
        drop(Reserve::open(&database, BYTES));
        let reserve = Reserve::open(&database, 0);
        assert!(!dir.path().join("a.db.reserve").exists());
        assert_eq!(reserve.state(), ReserveState::Whole);
        assert!(!reserve.give());
        assert_eq!(reserve.tend(), ReserveState::Whole);
    }

    #[test]
    fn a_smaller_one_than_before_is_kept_as_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let database = dir.path().join("a.db");
        drop(Reserve::open(&database, BYTES));
        assert_eq!(Reserve::open(&database, BYTES / 2).state(), ReserveState::Whole);
    }
}
