//! Why the record could not be opened, written or read. Each text says what to do.

use std::path::{Path, PathBuf};

use super::reserve::free_bytes;

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A folder could not be made, or cannot be written to.
    #[error(
        "cannot write in the folder {folder}: {why}; make it writable for the user that inspectd \
         runs as, or name another one in the configuration",
        folder = .folder.display()
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// Another process holds the store.
    #[error(
        "the database {path} is in use by another inspectd{holder}; stop that one first, or give \
         this one its own database",
        path = .path.display()
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// ` (process 123)`, or empty if it is not known.
        holder: String,
    },
    /// There is no database to read.
    #[error(
        "there is no database {path}; correct the path, or start inspectd once to make it",
        path = .path.display()
    )]
    Missing {
        /// The database file.
        path: PathBuf,
    },
    /// The file cannot be opened at all.
    #[error(
        "cannot open the database {path}: {why}; check the path and that this user may read and \
         write the file and its folder",
        path = .path.display()
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        why: rusqlite::Error,
    },
    /// The file can only be read.
    #[error(
        "the database {path} cannot be written; give the user that inspectd runs as the right to \
         write it, and check that its disk is not mounted read-only",
        path = .path.display()
    )]
    NotWritable {
        /// The database file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error(
        "{path} is not a database of inspectd ({what}); it was left as it is: name another file in \
         the configuration, or move this one away",
        path = .path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// The file was written by a newer program.
    #[error(
        "the database {path} has schema version {found}, this inspectd knows up to {known}; use \
         the newer inspectd that wrote it, or restore a copy from before the update",
        path = .path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file was written by an older program and has not been brought up to date.
    #[error(
        "the database {path} has schema version {found}, this inspectd reads {known}; start the \
         daemon once, which brings it up to date",
        path = .path.display()
    )]
    OlderSchema {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this program reads.
        known: i64,
    },
    /// The file is damaged.
    #[error(
        "the database {path} is damaged: {what}; do not delete it: move it and its -wal and -shm \
         files aside, recover what can be read with `sqlite3 {path} .recover`, and start with a \
         new database",
        path = .path.display()
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite found.
        what: String,
    },
    /// The disk is full.
    #[error(
        "no room to {doing} in {path}: the disk is full; free some space and start again",
        path = .path.display()
    )]
    Full {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// The disk was full, and what was made free is for records.
    #[error(
        "the picture was not kept: the disk of {path} is full, and what room is left is for records; \
         free some space, or let [retention] remove pictures",
        path = .path.display()
    )]
    NoPictures {
        /// The database file.
        path: PathBuf,
    },
    /// The result was committed before.
    #[error(
        "result {result_id} is already in the record; a result is committed once: give each \
         inspection its own result_id"
    )]
    Duplicate {
        /// The result.
        result_id: String,
    },
    /// A value does not fit its column.
    #[error(
        "cannot record result {result_id}: {why}; this is a fault of inspectd, please report it"
    )]
    Unrecordable {
        /// The result.
        result_id: String,
        /// What does not fit.
        why: String,
    },
    /// A record cannot be read back as this program's type.
    #[error(
        "record {sequence} cannot be read as an inspection: {why}; read it as plain JSON instead \
         (`inspectd audit export`), or with the version of inspectd that wrote it"
    )]
    Unreadable {
        /// Its audit sequence number.
        sequence: i64,
        /// What is wrong with it.
        why: String,
    },
    /// More than one result begins like that.
    #[error("more than one result_id begins with \"{wanted}\"; give more of it")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
    },
    /// An evidence file could not be written.
    #[error(
        "cannot write the evidence file {path}: {why}; check the disk and the rights of its folder",
        path = .path.display()
    )]
    Evidence {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// A damaged database cannot be moved out of the way.
    #[error(
        "the database {path} is damaged ({what}) and cannot be moved aside: {why}; move it and its \
         -wal and -shm files to another name, and start again",
        path = .path.display()
    )]
    MoveAside {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// A key of the device cannot be used.
    #[error(
        "cannot use the key {path}: {why}; make one with `inspectd audit key --out FILE`, readable \
         for the user that inspectd runs as",
        path = .path.display()
    )]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file of heads, or another file of anchors, cannot be used.
    #[error("cannot use the file of heads {path}: {why}; check its rights", path = .path.display())]
    Heads {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// An operator's disposition cannot be recorded as it is.
    #[error("cannot record the disposition: {why}")]
    Disposition {
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// An event cannot be recorded as it is.
    #[error(
        "cannot record an event of kind {kind}: {why}; this is a fault of inspectd, please report it"
    )]
    Event {
        /// Its kind.
        kind: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Another program holds the database.
    #[error(
        "cannot {doing}: the database {path} is locked by another program; nothing was changed: \
         close what has it open (a database browser, a copy of it in progress) and start again",
        path = .path.display()
    )]
    Locked {
        /// What was tried.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
    },
    /// A backup cannot be made there, or is not what it should be.
    #[error("cannot make the backup {path}: {why}", path = .path.display())]
    Backup {
        /// The backup's file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// Anything else that SQLite refused.
    #[error(
        "cannot {doing} in the database {path}: {why}; check the disk, and the system's log for \
         errors of it",
        path = .path.display()
    )]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        why: rusqlite::Error,
    },
}

/// What [`StoreError::NotOurs`] says of a file that SQLite does not know as one of its own.
pub(super) const NOT_SQLITE: &str = "not a SQLite file";

impl StoreError {
    /// Sorts an error of SQLite, met while `doing` something in the database at `path`.
    pub(super) fn from_sql(doing: &'static str, path: &Path, why: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode as Code;
        let is_full = is_full(path, &why);
        let path = path.to_owned();
        match why.sqlite_error_code() {
            _ if is_full => StoreError::Full { doing, path },
            Some(Code::DatabaseCorrupt) => StoreError::Corrupt { path, what: why.to_string() },
            Some(Code::NotADatabase) => StoreError::NotOurs { path, what: NOT_SQLITE.to_owned() },
            Some(Code::DatabaseBusy | Code::DatabaseLocked) => StoreError::Locked { doing, path },
            Some(Code::ReadOnly) => StoreError::NotWritable { path },
            Some(Code::CannotOpen) => StoreError::Open { path, why },
            _ => StoreError::Sql { doing, path, why },
        }
    }

    /// Sorts an error of the file system, met at the folder `folder`.
    pub(super) fn from_io(folder: &Path, why: std::io::Error) -> StoreError {
        let folder = folder.to_owned();
        if why.kind() == std::io::ErrorKind::StorageFull {
            return StoreError::Full { doing: "write a file", path: folder };
        }
        StoreError::Folder { folder, why }
    }
}

/// Less free disk than this explains an error of input or output, in bytes.
const TIGHT_BYTES: u64 = 256 * 1024;

/// Whether `why`, met in the database at `path`, is that the disk is full. SQLite says so of some of
/// its files; of the others it says that input or output failed, or that they cannot be made.
pub(super) fn is_full(path: &Path, why: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    match why.sqlite_error_code() {
        Some(Code::DiskFull) => true,
        Some(Code::SystemIoFailure | Code::CannotOpen) => {
            free_bytes(path).is_ok_and(|free| free < TIGHT_BYTES)
        }
        _ => false,
    }
}
