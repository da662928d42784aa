//! A copy of the record, taken while the daemon writes it.
//!
//! SQLite's backup API copies page by page, inside one read transaction of ours: the copy is the
//! record as it stood at one moment, the daemon goes on committing behind it, and no commit makes
//! the copying begin anew. `VACUUM INTO` would do as well, but cannot say how far it is, and takes
//! longer as it builds every table and index again.
//!
//! The copy appears under its name when it is whole, was checked and is on the disk; before that it
//! has a temporary name in the same folder.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::error::StoreError;
use super::evidence::{self, EvidenceFolder};
use super::read::Reader;

/// Pages copied between two looks at the progress: 1 MiB with pages of 4 KiB.
const STEP_PAGES: i32 = 256;

/// How often a page that is held for a moment is asked for again, and how long between.
const RETRIES: u32 = 500;
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// What a backup of the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseCopy {
    /// The file.
    pub path: PathBuf,
    /// Records in it.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
}

/// What became of the evidence files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceCopy {
    /// Files copied now.
    pub copied: u64,
    /// Files that were there already with the right length.
    pub kept: u64,
    /// Files that retention removed while the copying went on.
    pub gone: u64,
    /// Digests of files whose contents are not what their name says; they were not copied.
    pub damaged: Vec<String>,
}

/// Copies the database of `reader` to the file `to`, checks the copy, and answers what it holds. A
/// backup that is there already is replaced; any other file is refused. `progress` is told bytes
/// done and bytes in all.
pub fn database(
    reader: &Reader,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<DatabaseCopy, StoreError> {
    let folder = folder_of(to);
    std::fs::create_dir_all(folder).map_err(|why| StoreError::from_io(folder, why))?;
    check_target(reader, to)?;
    let unfinished = tempfile::Builder::new()
        .prefix(".inspectd-backup-")
        .suffix(".unfinished")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|why| StoreError::from_io(folder, why))?
        .into_temp_path();
    let told = copy(reader, &unfinished, progress)?;
    let found = check(&unfinished)?;
    if found != told {
        let why = format!(
            "the copy holds {} records up to number {}, and the database held {} up to {}; try \
             again, and check the disk if this comes back",
            found.0, found.1, told.0, told.1
        );
        return Err(StoreError::Backup { path: to.to_owned(), why });
    }
    let io = |why| StoreError::from_io(folder, why);
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    let bytes = std::fs::metadata(&unfinished).map_err(io)?.len();
    unfinished.persist(to).map_err(|why| io(why.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(DatabaseCopy { path: to.to_owned(), records: found.0, bytes })
}

/// Refuses a target whose loss would be one.
fn check_target(reader: &Reader, to: &Path) -> Result<(), StoreError> {
    if !to.exists() {
        return Ok(());
    }
    let refuse = |why: &str| Err(StoreError::Backup { path: to.to_owned(), why: why.to_owned() });
    if to.is_dir() {
        return refuse("there is a folder of that name; name a file in it");
    }
    let same = |path: &Path| path.canonicalize().ok();
    if same(to).is_some() && same(to) == same(reader.path()) {
        return refuse("that is the database itself; name another file");
    }
    match Reader::open(to) {
        Ok(_) | Err(StoreError::OlderSchema { .. }) => Ok(()),
        Err(why) => refuse(&format!("it would replace a file that is no backup ({why})")),
    }
}

/// Copies all pages as they stand at one moment; answers how many records there are, and the
/// number of the newest.
fn copy(
    reader: &Reader,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(u64, i64), StoreError> {
    let sql = |why| StoreError::from_sql("back up", reader.path(), why);
    let target = |why| StoreError::from_sql("write the backup", to, why);
    // The transaction holds the moment: without it, each commit would start the copying again.
    let moment = reader.connection().unchecked_transaction().map_err(sql)?;
    let told = counts(&moment).map_err(sql)?;
    let page: u64 = moment
        .query_row("PRAGMA page_size", [], |row| row.get::<_, i64>(0))
        .map_err(sql)?
        .unsigned_abs();
    let mut copy = Connection::open(to).map_err(target)?;
    let work = Backup::new(&moment, &mut copy).map_err(target)?;
    let mut retries = 0;
    loop {
        match work.step(STEP_PAGES).map_err(target)? {
            StepResult::Done => break,
            StepResult::More => retries = 0,
            _ if retries < RETRIES => {
                retries += 1;
                std::thread::sleep(RETRY_AFTER);
            }
            _ => {
                let path = reader.path().to_owned();
                return Err(StoreError::Locked { doing: "back up", path });
            }
        }
        let state = work.progress();
        let all = u64::from(state.pagecount.unsigned_abs()) * page;
        progress(all - u64::from(state.remaining.unsigned_abs()) * page, all);
    }
    drop(work);
    // One file alone, which can also be read from a medium that cannot be written.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(target)?;
    copy.close().map_err(|(_, why)| target(why))?;
    Ok(told)
}

/// Reads the whole copy through for damage and counts its records.
fn check(path: &Path) -> Result<(u64, i64), StoreError> {
    let copy = Reader::open(path)?;
    let sql = |why| StoreError::from_sql("check the backup", path, why);
    let told: String = copy
        .connection()
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(sql)?;
    if told != "ok" {
        return Err(StoreError::Corrupt { path: path.to_owned(), what: told });
    }
    counts(copy.connection()).map_err(sql)
}

/// How many records there are, and the number of the newest.
fn counts(connection: &Connection) -> rusqlite::Result<(u64, i64)> {
    let sql = "SELECT count(*), coalesce(max(sequence), 0) FROM inspections";
    connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)))
}

/// Copies the evidence files of the folder `from` into the folder `to`, each compared with its
/// digest on the way. Files that are there with the right length are not copied again. To be called
/// after [`database`], so that no record of the copy names a file that came later. `progress` is
/// told files done and files in all.
pub fn evidence(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<EvidenceCopy, StoreError> {
    let io = |why| StoreError::from_io(from, why);
    if let (Ok(from), Ok(to)) = (from.canonicalize(), to.canonicalize())
        && from == to
    {
        let why = "that is the folder of the evidence itself; name another one".to_owned();
        return Err(StoreError::Backup { path: to, why });
    }
    let names = evidence::names(from).map_err(io)?;
    let folder = EvidenceFolder::open(to)?;
    let mut told = EvidenceCopy::default();
    for (at, name) in names.iter().enumerate() {
        let (source, target) = (evidence::path(from, name), evidence::path(to, name));
        let length = |path: &Path| std::fs::metadata(path).ok().map(|file| file.len());
        match length(&source) {
            None => told.gone += 1,
            Some(bytes) if length(&target) == Some(bytes) => told.kept += 1,
            Some(_) => copy_file(&source, name, &folder, &mut told)?,
        }
        progress(at as u64 + 1, names.len() as u64);
    }
    Ok(told)
}

fn copy_file(
    source: &Path,
    name: &str,
    folder: &EvidenceFolder,
    told: &mut EvidenceCopy,
) -> Result<(), StoreError> {
    match std::fs::read(source) {
        Ok(bytes) if evidence::digest(&bytes) == name => {
            folder.put_bytes(name, &bytes)?;
            told.copied += 1;
        }
        Ok(_) => told.damaged.push(name.to_owned()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => told.gone += 1,
        Err(why) => {
            let (path, why) = (source.to_owned(), why.to_string());
            return Err(StoreError::Evidence { path, why });
        }
    }
    Ok(())
}

/// The folder of a file; one without a folder in its name lies here.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
