//! The digest of a model, computed on a thread of its own beside loading and computing: without the
//! processor's help SHA-256 takes as long over the weights as a first answer.
//!
//! Whoever needs the digest waits for it. A digest that cannot be computed is an error for all who
//! ask, and stays one.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::digest::Digest;
use super::mapped::MappedFile;

/// How much is to be hashed before its pace is believed, in bytes.
const PACE_MIN_BYTES: u64 = 64 << 20;

/// A digest that is known now or will be. Clones are the same one.
#[derive(Clone, Debug)]
pub struct PendingDigest(Arc<Shared>);

/// Why a model has no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DigestError(String);

/// What is hashed.
pub(crate) struct Hashed {
    /// The files to read, by name.
    pub(crate) files: Vec<(String, Arc<MappedFile>)>,
    /// Of a folder: the files whose digests are known. `None`: the one file's digest is the model's.
    pub(crate) known: Option<Vec<(String, Digest)>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    all_bytes: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    hashed_bytes: u64,
    result: Option<Result<Digest, DigestError>>,
}

impl DigestError {
    /// `problem`: what stands in the way.
    pub fn new(problem: impl Into<String>) -> DigestError {
        DigestError(format!("the model's digest cannot be computed: {}", problem.into()))
    }

    fn another(found: Digest, expected: Digest) -> DigestError {
        DigestError(format!(
            "the model is not the one that was signed: its digest is {found}, signed is {expected}; \
             `inspectd model verify` tells which file differs"
        ))
    }
}

impl PendingDigest {
    /// A digest that is known, or known not to come.
    pub fn known(result: Result<Digest, DigestError>) -> PendingDigest {
        let pending = PendingDigest::of_bytes(0);
        pending.0.end(result);
        pending
    }

    fn of_bytes(all_bytes: u64) -> PendingDigest {
        let (state, news, since) = (Mutex::default(), Condvar::new(), Instant::now());
        PendingDigest(Arc::new(Shared { state, news, all_bytes, since }))
    }

    /// Begins to hash on a thread. The thread ends when nobody holds the digest any more. A digest that is
    /// not the `expected` one is an error.
    pub(crate) fn start(what: Hashed, expected: Option<Digest>) -> PendingDigest {
        let all_bytes = what.files.iter().map(|(_, file)| file.len() as u64).sum();
        let pending = PendingDigest::of_bytes(all_bytes);
        let shared = Arc::downgrade(&pending.0);
        let hash = move || {
            let hashed = catch_unwind(AssertUnwindSafe(|| hash(what, &shared)));
            let ended = || Err(DigestError::new("the thread that hashed has ended"));
            if let Some(shared) = shared.upgrade() {
                let proven = |found: Digest| match expected.filter(|expected| *expected != found) {
                    None => Ok(found),
                    Some(expected) => Err(DigestError::another(found, expected)),
                };
                shared.end(hashed.unwrap_or_else(|_| ended()).and_then(proven));
            }
        };
        let spawned = thread::Builder::new().name("model digest".to_string()).spawn(hash);
        if let Err(error) = spawned {
            pending.0.end(Err(DigestError::new(format!("cannot start a thread: {error}"))));
        }
        pending
    }

    /// The digest; waits until it is known.
    ///
    /// # Errors
    /// [`DigestError`] if a file could not be read to its end, or changed meanwhile.
    pub fn wait(&self) -> Result<Digest, DigestError> {
        let mut state = self.0.lock();
        loop {
            match &state.result {
                Some(result) => return result.clone(),
                None => state = self.0.until_news(state),
            }
        }
    }

    /// Waits until the digest is known, or will be within `spare` at the pace so far.
    ///
    /// # Errors
    /// As [`PendingDigest::wait`], if it has failed by then.
    pub fn wait_until_within(&self, spare: Duration) -> Result<(), DigestError> {
        let mut state = self.0.lock();
        loop {
            if let Some(result) = &state.result {
                return result.clone().map(drop);
            }
            let left = left(state.hashed_bytes, self.0.all_bytes, self.0.since.elapsed());
            if left.is_some_and(|left| left <= spare) {
                return Ok(());
            }
            state = self.0.until_news(state);
        }
    }

    /// Why there will never be a digest, if that is known already.
    pub fn failure(&self) -> Option<DigestError> {
        self.0.lock().result.clone()?.err()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|lock| lock.into_inner())
    }

    fn until_news<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.news.wait(state).unwrap_or_else(|lock| lock.into_inner())
    }

    fn add(&self, bytes: u64) {
        self.lock().hashed_bytes += bytes;
        self.news.notify_all();
    }

    fn end(&self, result: Result<Digest, DigestError>) {
        self.lock().result = Some(result);
        self.news.notify_all();
    }
}

/// The time for the rest at the pace so far; `None` while there is too little to tell by.
fn left(hashed_bytes: u64, all_bytes: u64, elapsed: Duration) -> Option<Duration> {
    let rest = all_bytes.saturating_sub(hashed_bytes) as f64;
    let told = hashed_bytes >= PACE_MIN_BYTES.min(all_bytes).max(1);
    told.then(|| elapsed.mul_f64(rest / hashed_bytes as f64))
}

fn hash(what: Hashed, shared: &Weak<Shared>) -> Result<Digest, DigestError> {
    let mut files = Vec::with_capacity(what.files.len());
    for (name, file) in what.files {
        let refuse =
            |error: io::Error| DigestError::new(format!("{}: {error}", file.path().display()));
        let mut reader = Reader { file: &file, offset: 0, shared };
        let (digest, bytes) = Digest::of_reader(&mut reader, |_| ()).map_err(refuse)?;
        file.check_unchanged().map_err(refuse)?;
        if bytes != file.len() as u64 {
            return Err(refuse(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        files.push((name, digest));
    }
    match what.known {
        Some(known) => {
            files.extend(known);
            Ok(Digest::of_files(&files))
        }
        None => match files.as_slice() {
            [(_, digest)] => Ok(*digest),
            _ => Err(DigestError::new("a model in one file has one file")),
        },
    }
}

/// Reads a file from its beginning, tells how far it is, and fails when nobody waits any more.
struct Reader<'a> {
    file: &'a MappedFile,
    offset: u64,
    shared: &'a Weak<Shared>,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let nobody = || io::Error::other("nobody waits for it");
        let shared = self.shared.upgrade().ok_or_else(nobody)?;
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        shared.add(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mapped(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> (String, Arc<MappedFile>) {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (name.to_string(), Arc::new(MappedFile::open(&path).unwrap()))
    }

    #[test]
    fn one_file_s_digest_is_its_own_and_a_folder_s_that_of_its_list() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; (3 << 20) + 1];
        let one = Hashed { files: vec![mapped(&dir, "a", &bytes)], known: None };
        assert_eq!(PendingDigest::start(one, None).wait(), Ok(Digest::of(&bytes)));

        let known = ("b".to_string(), Digest::of(b"b"));
        let files = vec![mapped(&dir, "a", &bytes)];
        let folder = Hashed { files, known: Some(vec![known.clone()]) };
        let all = Digest::of_files(&[("a".to_string(), Digest::of(&bytes)), known]);
        let pending = PendingDigest::start(folder, None);
        assert_eq!(pending.wait_until_within(Duration::ZERO), Ok(()));
        assert_eq!((pending.wait(), pending.failure()), (Ok(all), None));
    }

    #[test]
    fn a_file_that_changed_since_it_was_mapped_has_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        let file = mapped(&dir, "a", b"one");
        let path = dir.path().join("a");
        std::fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        let pending = PendingDigest::start(Hashed { files: vec![file], known: None }, None);
        let told = pending.wait().unwrap_err();
        assert!(told.to_string().contains("changed while the model was loaded"), "{told}");
        assert_eq!(pending.failure(), Some(told.clone()));
        assert_eq!(pending.wait_until_within(Duration::MAX), Err(told));
    }

    #[test]
    fn the_rest_is_told_by_the_pace_and_not_before_there_is_one() {
        let second = Duration::from_secs(1);
        assert_eq!(left(0, 1 << 30, second), None);
        assert_eq!(left(PACE_MIN_BYTES - 1, 1 << 30, second), None);
        assert_eq!(left(256 << 20, 1 << 30, second), Some(3 * second));
        assert_eq!(left(1 << 30, 1 << 30, second), Some(Duration::ZERO));
        assert_eq!(left(0, 0, second), None, "an empty file is known at once or never");
    }
}
