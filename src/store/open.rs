//! Opening the database: everything that can be wrong with it is found here, before the first part.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::begin::{self, Opening};
use super::durable;
use super::error::StoreError;

/// Marks a SQLite file as ours: "insp" in ASCII.
const APPLICATION_ID: i64 = 0x696e_7370;

/// The steps from an empty file to the present schema; step `n` leads to `user_version` n + 1.
/// A step that was released is never edited: a change is a new file.
const STEPS: [&str; 3] = [
    include_str!("schema/0001_record.sql"),
    include_str!("schema/0002_chain.sql"),
    include_str!("schema/0003_contract.sql"),
];

/// The schema that this program writes and reads.
pub const SCHEMA_STEP: i64 = STEPS.len() as i64;

/// How long a statement waits for a reader or a checkpoint before it fails. Readers never block the
/// writer in WAL mode, so this is only ever reached if something outside holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this size after a checkpoint, in bytes.
const WAL_KEEP_BYTES: i64 = 64 * 1024 * 1024;

/// Opens the database at `path` for writing, makes it if there is none, and brings its schema up to
/// date; a chain that is not there is begun with `opening`. Files up to `quick_check_max_bytes` are
/// read through for damage first.
pub(super) fn open_for_writing(
    path: &Path,
    quick_check_max_bytes: u64,
    opening: &Opening,
) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)
        .map_err(|why| StoreError::Open { path: path.to_owned(), why })?;
    let sql = |doing| move |why| StoreError::from_sql(doing, path, why);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql("set a time-out"))?;
    let found = check_identity(&connection, path)?;
    if connection.is_readonly("main").map_err(sql("ask for the mode"))? {
        return Err(StoreError::NotWritable { path: path.to_owned() });
    }
    set_pragmas(&connection).map_err(sql("switch to write-ahead logging"))?;
    let suspect = suspect_path(path);
    let is_small = std::fs::metadata(path).is_ok_and(|file| file.len() <= quick_check_max_bytes);
    if is_small || suspect.exists() {
        quick_check(&connection, path)?;
    }
    migrate(&mut connection, found, opening).map_err(sql("bring the schema up to date"))?;
    // What is left behind costs one more check at the next start.
    let _ = std::fs::remove_file(suspect);
    Ok(connection)
}

/// Marks that damage was met at work: the next start reads the database through, whatever its size.
pub(super) fn suspect_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".suspect");
    PathBuf::from(name)
}

/// Opens the database at `path` for one short transaction beside a running daemon, which keeps its
/// own right to write: SQLite's lock orders the two.
pub(super) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|why| StoreError::Open { path: path.to_owned(), why })?;
    let sql = |why| StoreError::from_sql("prepare to write", path, why);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    check_is_current(&connection, path)?;
    if connection.is_readonly("main").map_err(sql)? {
        return Err(StoreError::NotWritable { path: path.to_owned() });
    }
    set_pragmas(&connection).map_err(sql)?;
    Ok(connection)
}

/// Opens the database at `path` for reading, while a daemon writes it or not.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|why| StoreError::Open { path: path.to_owned(), why })?;
    let sql = |why| StoreError::from_sql("prepare to read", path, why);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    check_is_current(&connection, path)?;
    connection.pragma_update(None, "query_only", true).map_err(sql)?;
    Ok(connection)
}

fn check_is_current(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = check_identity(connection, path)?;
    if found < SCHEMA_STEP {
        let path = path.to_owned();
        return Err(StoreError::OlderSchema { path, found, known: SCHEMA_STEP });
    }
    Ok(())
}

/// Tells our files from others; answers the schema step found, 0 for an empty file.
fn check_identity(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let number = |sql: &str| -> Result<i64, StoreError> {
        connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(|why| StoreError::from_sql("read the header", path, why))
    };
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    let path = path.to_owned();
    if application != APPLICATION_ID && (application, tables, found) != (0, 0, 0) {
        let what = format!("a SQLite file of another program, application_id {application}");
        return Err(StoreError::NotOurs { path, what });
    }
    if found > SCHEMA_STEP {
        return Err(StoreError::NewerSchema { path, found, known: SCHEMA_STEP });
    }
    Ok(found)
}

/// Write-ahead logging lets readers read while the daemon writes; `FULL` makes a commit survive a
/// power cut, which an audit record must.
fn set_pragmas(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
        row.get::<_, String>(0).map(drop)
    })?;
    durable::wait_for_the_disk(connection, true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEEP_BYTES, |_| Ok(()))
}

fn quick_check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let told: rusqlite::Result<String> =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match told {
        Ok(text) if text == "ok" => Ok(()),
        Ok(what) => Err(StoreError::Corrupt { path: path.to_owned(), what }),
        Err(why) => Err(StoreError::from_sql("check for damage", path, why)),
    }
}

/// Takes the missing steps, and begins the chain, in one transaction. The version is written even if nothing is missing:
/// a disk that is full or read-only shows itself now and not at the first part.
fn migrate(connection: &mut Connection, found: i64, opening: &Opening) -> rusqlite::Result<()> {
    let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "application_id", APPLICATION_ID)?;
    change.pragma_update(None, "user_version", SCHEMA_STEP)?;
    begin::chain(&change, opening, found)?;
    change.commit()
}

/// Holds the right to write one database; given back when it is dropped or the process dies.
///
/// It is a file of its own: SQLite's locks on the database are POSIX locks, and a process that
/// opens and closes that file by another way loses them all.
#[derive(Debug)]
pub(super) struct WriterLock(#[expect(dead_code, reason = "held for its lock")] File);

impl WriterLock {
    /// Takes the lock beside the database at `database`, or says who holds it.
    pub(super) fn take(database: &Path) -> Result<WriterLock, StoreError> {
        let path = lock_path(database);
        let folder = path.parent().unwrap_or(Path::new("."));
        let io = |why| StoreError::from_io(folder, why);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(StoreError::InUse { path: database.to_owned(), holder });
            }
            Err(TryLockError::Error(why)) => return Err(io(why)),
        }
        let number = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        match file.write_all(number.as_bytes()) {
            // The number is for people; the lock holds without it, also on a full disk.
            Err(why) if why.kind() == std::io::ErrorKind::StorageFull => {}
            told => told.map_err(io)?,
        }
        Ok(WriterLock(file))
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// ` (process 123)`, as the holder wrote it.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(number)) => format!(" (process {number})"),
        _ => String::new(),
    }
}
