//! A pause before a start that is likely to fail again: longer each time, as service managers before
//! systemd 254 have none of their own.
//!
//! A file in the service's runtime folder counts starts that did not end in good order. It is gone with the
//! boot, and with a clean stop.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where systemd says that the service's runtime folder is.
const FOLDER: &str = "RUNTIME_DIRECTORY";
const FILE: &str = "starts";

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A run of so long was no failed start, however it ended.
const GOOD_RUN: Duration = Duration::from_secs(600);

/// The count of starts, which goes when the program ends in good order.
#[derive(Debug)]
pub struct Starts {
    file: PathBuf,
    before: u32,
}

impl Starts {
    /// Counts one more start; `None`: no service manager has given a folder for that.
    pub fn count() -> Option<Starts> {
        Starts::count_in(&PathBuf::from(env::var_os(FOLDER)?))
    }

    fn count_in(folder: &Path) -> Option<Starts> {
        let file = folder.join(FILE);
        let last = fs::metadata(&file).and_then(|meta| meta.modified()).ok();
        let age = last.and_then(|last| SystemTime::now().duration_since(last).ok());
        let text = fs::read_to_string(&file).unwrap_or_default();
        let counted = text.trim().parse().unwrap_or(0u32);
        let before = if age.is_some_and(|age| age < GOOD_RUN) { counted } else { 0 };
        // Without the file the pause stays short, which is no reason not to start.
        let _ = fs::write(&file, before.saturating_add(1).to_string());
        Some(Starts { file, before })
    }

    /// How many starts in a row have failed before this one.
    pub fn failed(&self) -> u32 {
        self.before
    }

    /// How long to wait before this one: nothing at first, then 1 s, 2 s, 4 s and so on, 60 s at most.
    pub fn pause(&self) -> Duration {
        match self.before {
            0 => Duration::ZERO,
            failed => Duration::from_secs(1 << (failed - 1).min(6)).min(PAUSE_MAX),
        }
    }

    /// The program ends in good order.
    pub fn forget(self) {
        // As above.
        let _ = fs::remove_file(self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_start_ends_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let start = || Starts::count_in(folder.path()).expect("counted");
        let seconds: Vec<u64> = (0..9).map(|_| start().pause().as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        let last = start();
        assert_eq!(last.failed(), 9);
        last.forget();
        assert_eq!(start().pause(), Duration::ZERO);
        fs::write(folder.path().join(FILE), "many").expect("written");
        assert_eq!(start().failed(), 0, "what is no number counts nothing");
        let old = SystemTime::now() - GOOD_RUN;
        let file = fs::File::options().write(true).open(folder.path().join(FILE)).expect("there");
        file.set_modified(old).expect("set");
        assert_eq!(start().failed(), 0, "a long run was no failed start");
    }
}
