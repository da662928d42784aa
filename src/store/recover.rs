//! Going on after a damaged or lost database.
//!
//! The file is moved aside, never deleted; a new chain begins, whose first record names the old
//! chain's last known head; messages that can still be read are copied, so that they are sent. The
//! event `recovered` tells all of it. A start that is cut between these steps takes the rest of
//! them the next time.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::anchor::last_kept;
use super::begin::{self, Opening};
use super::chain::ChainTime;
use super::error::{NOT_SQLITE, StoreError};
use super::events::{self, EventKind, Previous};
use super::{StoreOptions, open, rescue};

/// Most names that are tried for the file that is moved aside.
const NAMES_MAX: u32 = 1000;

/// Opens the database for writing; a damaged one is moved aside and a new one begun.
pub(super) fn open(options: &StoreOptions, now: &ChainTime) -> Result<Connection, StoreError> {
    let path = options.path.as_path();
    let head = last_kept(path);
    let is_there = std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
    let lost = (!is_there && head.is_some()).then(|| Previous {
        head: head.clone(),
        moved_to: None,
        cause: "the database file was missing or empty".to_owned(),
    });
    let open = |previous| {
        let opening = Opening { device: options.device.clone(), now: now.clone(), previous };
        open::open_for_writing(path, options.quick_check_max_bytes, &opening)
    };
    let mut connection = match open(lost) {
        Ok(connection) => connection,
        Err(error) => {
            let Some(cause) = damage(&error, head.is_some()) else { return Err(error) };
            let moved_to = move_aside(path, now).map_err(|why| StoreError::MoveAside {
                path: path.to_owned(),
                what: cause.clone(),
                why,
            })?;
            tracing::error!(
                database = %path.display(),
                moved_to = %moved_to.display(),
                cause,
                "THE AUDIT LOG IS DAMAGED and was moved aside; inspection goes on in a new one"
            );
            let moved_to = Some(moved_to.display().to_string());
            open(Some(Previous { head, moved_to, cause }))?
        }
    };
    finish(&mut connection, path, now)?;
    Ok(connection)
}

/// Copies what can be read from the file before, unless that was done.
fn finish(connection: &mut Connection, path: &Path, now: &ChainTime) -> Result<(), StoreError> {
    let genesis = begin::genesis(connection, path)?;
    let Some(previous) = genesis.previous else { return Ok(()) };
    let sql = |why| StoreError::from_sql("copy from the damaged database", path, why);
    if events::newest(connection, EventKind::Recovered).map_err(sql)?.is_some() {
        return Ok(());
    }
    let recovered = rescue::rescue(connection, now, previous).map_err(sql)?;
    tracing::error!(
        cause = recovered.previous.cause,
        inspections = recovered.inspections,
        messages = recovered.messages,
        incomplete = recovered.incomplete,
        "A NEW AUDIT LOG was begun, as the one before cannot go on"
    );
    Ok(())
}

/// What is wrong with the file, if it is damage; `None` for an error that says nothing about it, such
/// as a lock, missing rights, or a newer program's schema.
fn damage(error: &StoreError, had_heads: bool) -> Option<String> {
    match error {
        StoreError::Corrupt { what, .. } => Some(what.clone()),
        // With heads beside it, it was a database of ours; without, it may be anybody's file.
        StoreError::NotOurs { what, .. } if had_heads && what == NOT_SQLITE => {
            Some("its header is damaged".to_owned())
        }
        _ => None,
    }
}

/// Renames the database with its -wal and -shm files, and answers the new name. The database goes
/// last: as long as it is in its place, the next start finds the damage again.
fn move_aside(path: &Path, now: &ChainTime) -> std::io::Result<PathBuf> {
    let beside = |path: &Path, end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let moment = super::read::timestamp(now.wall_ms).strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = (1..=NAMES_MAX).map(|number| match number {
        1 => beside(path, &format!(".corrupt-{moment}")),
        // A clock that always starts in 1970 may give one name twice.
        _ => beside(path, &format!(".corrupt-{moment}-{number}")),
    });
    let mut free = names.filter(|name| !name.exists());
    let target = free.next().ok_or_else(|| std::io::Error::other("too many such files"))?;
    for end in ["-wal", "-shm", ""] {
        let from = beside(path, end);
        if end.is_empty() || from.exists() {
            std::fs::rename(&from, beside(&target, end))?;
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32) -> StoreError {
        let why = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        StoreError::from_sql("open", Path::new("x.db"), why)
    }

    #[test]
    fn only_damage_moves_a_file() {
        use rusqlite::ffi::*;
        assert!(damage(&failed(SQLITE_CORRUPT), false).is_some());
        assert!(damage(&failed(SQLITE_NOTADB), true).is_some());
        assert!(damage(&failed(SQLITE_NOTADB), false).is_none(), "it may be anybody's");
        for code in [
            SQLITE_BUSY,
            SQLITE_LOCKED,
            SQLITE_PERM,
            SQLITE_READONLY,
            SQLITE_CANTOPEN,
            SQLITE_FULL,
            SQLITE_IOERR,
        ] {
            assert!(damage(&failed(code), true).is_none(), "{code}");
        }
    }
}
