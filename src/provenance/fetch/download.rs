//! One file: from byte to byte into `NAME.partial`, over as many connections as it takes, and under
//! its name only when it is right.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::remote::{Hub, Listed, check_status, unreachable, wait_before};
use super::{FetchError, Options, Progress, ProvenanceError};
use crate::provenance::folder::open_regular;
use crate::vlm::Digest;

/// What a file's digest was compared with: the caller's manifest.
pub const MANIFEST: &str = "the manifest";
/// What a file's digest was compared with: the hub's list.
const HUB: &str = "the hub";
/// Attempts in a row without a byte of progress.
const ATTEMPTS_MAX: u32 = 5;
/// Largest file that is taken, in bytes.
const FILE_MAX_BYTES: u64 = 256 << 30;

/// A file to fetch, and what it must be.
pub struct Target {
    /// Its name.
    pub name: String,
    path: PathBuf,
    bytes: Option<u64>,
    digest: Option<Digest>,
    /// Who says what the digest must be.
    pub whose: Option<&'static str>,
    optional: bool,
    retry_wait: std::time::Duration,
}

/// How one connection ended.
enum Ended {
    Whole,
    Cut(String),
}

impl Target {
    /// The file `name`. A manifest counts before what the hub says.
    pub fn new(options: &Options, name: &str, listed: &Listed) -> Target {
        let entry = options.manifest.as_ref().and_then(|manifest| manifest.files.get(name));
        let by_hub = listed.digest.map(|_| HUB);
        Target {
            name: name.to_owned(),
            path: options.out.join(name),
            bytes: entry.map_or(listed.bytes, |entry| entry.bytes.or(listed.bytes)),
            digest: entry.map_or(listed.digest, |entry| Some(entry.digest)),
            whose: entry.map(|_| MANIFEST).or(by_hub),
            optional: listed.optional,
            retry_wait: options.retry_wait,
        }
    }

    fn partial(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".partial");
        name.into()
    }

    /// Where the hub's name for the bytes of the partial file is kept.
    fn etag_file(&self) -> PathBuf {
        let mut name = self.partial().into_os_string();
        name.push(".etag");
        name.into()
    }

    fn forget(&self) {
        // What is not there need not be removed; anything else shows when it is written again.
        let _ = fs::remove_file(self.partial());
        let _ = fs::remove_file(self.etag_file());
    }
}

/// Fetches `target`; answers its digest and length, or `None` for a file that may be absent and is.
pub fn file(
    hub: &Hub,
    revision: &str,
    target: &Target,
    progress: &dyn Progress,
) -> Result<Option<(Digest, u64)>, FetchError> {
    if let Some(there) = already_there(target)? {
        progress.word(&target.name, "is there already");
        return Ok(Some(there));
    }
    let url = hub.url(revision, &target.name);
    let was_resumed = length(&target.partial()) > 0;
    if !bring(hub, &url, target, progress)? {
        return Ok(None);
    }
    match settle(target) {
        // The beginning may have been of another file: once, from the first byte.
        Err(FetchError::Digest { .. } | FetchError::Length { .. }) if was_resumed => {
            progress.word(&target.name, "what was there before was not its beginning: again");
            bring(hub, &url, target, progress)?;
            settle(target).map(Some)
        }
        other => other.map(Some),
    }
}

/// A file of this name that is right; one that is not right is in the way.
fn already_there(target: &Target) -> Result<Option<(Digest, u64)>, FetchError> {
    let path = &target.path;
    if fs::symlink_metadata(path).is_err_and(|why| why.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    let found = digest_of(path)?;
    let is_right = target.digest.is_none_or(|digest| digest == found.0)
        && target.bytes.is_none_or(|bytes| bytes == found.1);
    if is_right { Ok(Some(found)) } else { Err(FetchError::InTheWay { path: path.clone() }) }
}

/// Brings the partial file to its full length. `false`: the hub has no such file, and need not.
fn bring(
    hub: &Hub,
    url: &str,
    target: &Target,
    progress: &dyn Progress,
) -> Result<bool, FetchError> {
    let mut attempts = 0;
    loop {
        let before = length(&target.partial());
        let why = match connect(hub, url, target, progress)? {
            None => return Ok(false),
            Some(Ended::Whole) => return Ok(true),
            Some(Ended::Cut(why)) => why,
        };
        let have = length(&target.partial());
        attempts = if have > before { 0 } else { attempts + 1 };
        if attempts >= ATTEMPTS_MAX {
            if have == 0 {
                return Err(FetchError::Unreachable { url: url.to_owned(), why });
            }
            return Err(FetchError::Cut { name: target.name.clone(), attempts, why, have });
        }
        progress.word(&target.name, &format!("cut after {have} bytes ({why}); going on"));
        // The hub is given time to come back; nothing else waits for this.
        std::thread::sleep(wait_before(attempts + 1, target.retry_wait));
    }
}

/// One connection. `None`: the hub has no such file, and need not.
fn connect(
    hub: &Hub,
    url: &str,
    target: &Target,
    progress: &dyn Progress,
) -> Result<Option<Ended>, FetchError> {
    let etag = fs::read_to_string(target.etag_file()).ok();
    // Without its digest or the hub's name for it, nobody could tell a beginning of another file.
    if etag.is_none() && target.digest.is_none() {
        target.forget();
    }
    let have = length(&target.partial());
    let response = match hub.get(url, have, etag.as_deref()) {
        Ok(response) => response,
        Err(why @ (ureq::Error::Io(_) | ureq::Error::Timeout(_))) if have > 0 => {
            return Ok(Some(Ended::Cut(why.to_string())));
        }
        Err(why) => return Err(unreachable(url, &why)),
    };
    let status = response.status().as_u16();
    if status == 404 && target.optional {
        return Ok(None);
    }
    if status == 416 {
        // Nothing follows what is there: it is whole, or it is of another file.
        if target.bytes != Some(have) {
            target.forget();
            return Ok(Some(Ended::Cut("the hub has fewer bytes than are here".to_owned())));
        }
        return Ok(Some(Ended::Whole));
    }
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let range = header("content-range").and_then(read_range);
    let goes_on = status == 206 && range.is_some_and(|(from, _)| from == have);
    if !goes_on {
        check_status(url, status, 200)?;
    }
    let from = if goes_on { have } else { 0 };
    let body = header("content-length").and_then(|text| text.parse::<u64>().ok());
    let told = range.filter(|_| goes_on).and_then(|(_, total)| total);
    let total = told.or(body.map(|bytes| from.saturating_add(bytes)));
    check_length(target, total)?;
    check_space(target, total.or(target.bytes).unwrap_or(0).saturating_sub(from))?;
    keep_etag(target, header("etag"))?;
    progress.begin(&target.name, from, total.or(target.bytes));
    let most = total.or(target.bytes).unwrap_or(FILE_MAX_BYTES) - from;
    let mut reader = response.into_body().into_reader().take(most);
    let ended = copy(&mut reader, target, from, progress)?;
    let have = length(&target.partial());
    Ok(Some(match (ended, total.or(target.bytes)) {
        (Ended::Whole, Some(total)) if have < total => {
            Ended::Cut(format!("{have} of {total} bytes came"))
        }
        (ended, _) => ended,
    }))
}

fn check_length(target: &Target, total: Option<u64>) -> Result<(), FetchError> {
    let name = target.name.clone();
    match (target.bytes, total) {
        (Some(expected), Some(found)) if expected != found => {
            target.forget();
            Err(FetchError::Length { name, expected, found })
        }
        (None, Some(found)) if found > FILE_MAX_BYTES => {
            Err(FetchError::Length { name, expected: FILE_MAX_BYTES, found })
        }
        _ => Ok(()),
    }
}

/// Writes what comes behind byte `from` of the partial file.
fn copy(
    reader: &mut impl Read,
    target: &Target,
    from: u64,
    progress: &dyn Progress,
) -> Result<Ended, FetchError> {
    let path = target.partial();
    let fail = |why: io::Error| match why.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FetchError::Space {
            path: path.clone(),
            needed_bytes: target.bytes.unwrap_or(0).saturating_sub(length(&path)),
            free_bytes: free_bytes(&path).unwrap_or(0),
        },
        _ => ProvenanceError::write(&path, why).into(),
    };
    let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
    file.set_len(from).map_err(fail)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&piece[..count]).map_err(fail)?;
                progress.came(count as u64);
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Ok(Ended::Cut(why.to_string())),
        }
    }
    file.sync_all().map_err(fail)?;
    Ok(Ended::Whole)
}

/// Compares the partial file with what it must be, and gives it its name.
fn settle(target: &Target) -> Result<(Digest, u64), FetchError> {
    let partial = target.partial();
    if length(&partial) == 0 && !partial.exists() {
        // A file of no bytes is a file, too.
        File::create(&partial).map_err(|why| ProvenanceError::write(&partial, why))?;
    }
    let (found, bytes) = digest_of(&partial)?;
    let name = target.name.clone();
    if let Some(expected) = target.bytes.filter(|expected| *expected != bytes) {
        target.forget();
        return Err(FetchError::Length { name, expected, found: bytes });
    }
    if let (Some(expected), Some(whose)) = (target.digest, target.whose)
        && expected != found
    {
        target.forget();
        return Err(FetchError::Digest { name, whose, expected, found });
    }
    fs::rename(&partial, &target.path).map_err(|why| ProvenanceError::write(&target.path, why))?;
    let _ = fs::remove_file(target.etag_file());
    if let Some(Ok(dir)) = target.path.parent().map(File::open) {
        // The name lasts through a power cut, or the file is fetched again.
        let _ = dir.sync_all();
    }
    Ok((found, bytes))
}

fn keep_etag(target: &Target, etag: Option<&str>) -> Result<(), FetchError> {
    let path = target.etag_file();
    match etag.filter(|etag| etag.len() < 300 && !etag.starts_with("W/")) {
        Some(etag) => {
            fs::write(&path, etag).map_err(|why| ProvenanceError::write(&path, why).into())
        }
        None => {
            let _ = fs::remove_file(&path);
            Ok(())
        }
    }
}

fn digest_of(path: &Path) -> Result<(Digest, u64), FetchError> {
    let digest = || Digest::of_reader(&mut open_regular(path)?, |_| {});
    digest().map_err(|why| ProvenanceError::read(path, why).into())
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

/// `bytes 5-9/10` → (5, 10).
fn read_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, total.trim().parse().ok()))
}

fn check_space(target: &Target, needed_bytes: u64) -> Result<(), FetchError> {
    match free_bytes(&target.path) {
        Some(free_bytes) if free_bytes < needed_bytes => {
            let path = target.path.clone();
            Err(FetchError::Space { path, needed_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

/// Bytes that may still be written where `path` lies; `None` if the system does not say.
fn free_bytes(path: &Path) -> Option<u64> {
    let dir = CString::new(path.parent()?.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros is a valid statvfs, and the call only writes to it.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with a zero, and a writable statvfs.
    let failed = unsafe { libc::statvfs(dir.as_ptr(), &mut about) } != 0;
    (!failed).then(|| about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read() {
        assert_eq!(read_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */10", "5-9/10", "bytes x-9/10", "bytes 5"] {
            assert_eq!(read_range(bad), None, "{bad}");
        }
    }
}
