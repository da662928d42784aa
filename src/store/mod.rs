//! The record: what was decided, why, and whether it was delivered, in one SQLite file; the crops
//! that were looked at lie beside it as lossless PNG files.
//!
//! One process writes ([`Store`]); any number reads at the same time ([`Reader`]). A commit writes
//! the inspection, its link in the hash chain and its messages in one transaction and returns when
//! all are on the disk: what was committed survives a power cut, and a message without a record
//! cannot exist. `FORMAT.md` describes the chain for those who verify it without this program.

pub mod anchor;
mod append;
mod audit;
pub mod backup;
mod begin;
mod canonical;
pub mod chain;
mod contract;
pub mod disposition;
mod durable;
mod error;
pub mod events;
pub mod evidence;
pub mod export;
pub mod history;
pub mod labelled;
mod links;
pub mod merge;
mod open;
mod outbox;
mod read;
mod recover;
pub mod report;
mod rescue;
mod reserve;
pub mod retention;
mod serials;
pub mod sign;
pub mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;
use rusqlite::TransactionBehavior::Immediate;

pub use anchor::Anchor;
pub use canonical::to_canonical_json;
pub use contract::{AcceptedTrigger, KeptContract};
pub use disposition::Disposition;
pub use error::StoreError;
pub use events::EventKind;
pub use links::ChainRecord;
pub use open::SCHEMA_STEP;
pub use outbox::{Delivery, OutboxMessage, OutboxRow, OutboxState, TopicKind};
pub use read::{Filter, Reader, Record};
pub use reserve::{ReserveState, free_bytes};

use crate::clock::Clock;
use crate::fault;
use crate::frame::Rgb8;
use crate::inspection::Inspection;
use crate::verdict::serial::{Earlier, EarlierQuery};
use anchor::Heads;
use chain::{ChainTime, Entry};
use durable::without_haste;
use evidence::EvidenceFolder;
use open::WriterLock;
use reserve::Reserve;
use sign::SignKey;

/// Where the record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The database file; SQLite and the lock put files with the same beginning beside it.
    pub path: PathBuf,
    /// The folder of the evidence files.
    pub evidence_dir: PathBuf,
    /// A database of up to this many bytes is read through for damage at start; a larger one only
    /// where it is used, as reading it all would keep the line waiting.
    pub quick_check_max_bytes: u64,
    /// The device's name, for the first record of a chain.
    pub device: String,
    /// The private key that signs the chain's heads; `None`: they are not signed.
    pub sign_key: Option<PathBuf>,
    /// Bytes of the disk that are kept for the record when it fills; 0 for none.
    pub reserve_bytes: u64,
    /// When pictures go.
    pub retention: retention::Rules,
}

impl StoreOptions {
    /// `inspectd.db` and `evidence/` in the folder `dir`.
    pub fn in_dir(dir: &Path) -> StoreOptions {
        StoreOptions {
            path: dir.join("inspectd.db"),
            evidence_dir: dir.join("evidence"),
            quick_check_max_bytes: 256 * 1024 * 1024,
            device: "unnamed".to_owned(),
            sign_key: None,
            reserve_bytes: 64 * 1024 * 1024,
            retention: retention::Rules::default(),
        }
    }
}

/// The one writer. Clones share it. Calls block until the disk has it: from async code they go
/// through `spawn_blocking`.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// What the publisher asks again and again is read here, so that no commit waits for an answer.
    // Before `connection`: fields drop in order, and the last to close must be able to write, as it
    // takes the write-ahead log into the database.
    watcher: Mutex<Connection>,
    connection: Mutex<Connection>,
    evidence: EvidenceFolder,
    reserve: Reserve,
    clock: Arc<dyn Clock>,
    boot_id: String,
    /// The chain that is written, and who signs its heads.
    signer: append::Signer,
    heads: Mutex<Heads>,
    /// What the heads said against the chain when it was opened.
    heads_differ: Option<String>,
    // Declared after `connection`: fields drop in order, so the lock outlives the last write.
    _lock: WriterLock,
}

impl Store {
    /// Opens the record for writing, or makes it. A damaged database is moved aside, and a new chain
    /// goes on that names the old one's head. Every error here is a reason not to start.
    pub fn open(options: &StoreOptions, clock: Arc<dyn Clock>) -> Result<Store, StoreError> {
        let folder = backup::folder_of(&options.path);
        std::fs::create_dir_all(folder).map_err(|why| StoreError::from_io(folder, why))?;
        let lock = WriterLock::take(&options.path)?;
        let key = options.sign_key.as_deref().map(SignKey::read).transpose()?;
        let boot_id = clock.boot_id();
        let now = ChainTime::now(&*clock, &boot_id);
        let reserve = Reserve::open(&options.path, options.reserve_bytes);
        let connection = match recover::open(options, &now) {
            Err(StoreError::Full { .. }) if reserve.give() => recover::open(options, &now)?,
            told => told?,
        };
        let watcher = open::open_for_reading(&options.path)?;
        let evidence = EvidenceFolder::open(&options.evidence_dir)?;
        let heads = Heads::open(&options.path)
            .map_err(|why| StoreError::Heads { path: anchor::heads_path(&options.path), why })?;
        let sql = |why| StoreError::from_sql("read the chain", &options.path, why);
        let genesis = begin::genesis(&connection, &options.path)?;
        let heads_differ =
            anchor::contradiction(&options.path, &connection, &genesis).map_err(sql)?;
        let end = chain::end(&connection).map_err(sql)?;
        let store = Store(Arc::new(Inner {
            path: options.path.clone(),
            connection: Mutex::new(connection),
            watcher: Mutex::new(watcher),
            evidence,
            reserve,
            clock,
            boot_id,
            signer: append::Signer { chain_id: genesis.chain_id, device: genesis.device, key },
            heads: Mutex::new(heads),
            heads_differ,
            _lock: lock,
        }));
        if let Some(end) = end {
            store.keep_head(&end, true);
        }
        Ok(store)
    }

    /// Writes `inspection`, its link in the chain and the `messages` that tell of it, in one
    /// transaction; answers the inspection's number, which counts up from 1 without a hole. When
    /// this returns, all are on the disk. On an error none is.
    pub fn commit(
        &self,
        inspection: &Inspection,
        messages: &[OutboxMessage],
    ) -> Result<i64, StoreError> {
        let row = audit::Row::of(inspection)?;
        let written = self.with_room(|connection| {
            let now = self.chain_time();
            let change = connection.transaction_with_behavior(Immediate)?;
            fault::point(fault::COMMIT_BEGUN);
            let number = audit::insert(&change, &row)?;
            let end = chain::append(&change, &now, Entry::Inspection(number, &row.body))?;
            for message in messages {
                outbox::insert(&change, &row, message, now.wall_ms)?;
            }
            fault::point(fault::COMMIT_WRITTEN);
            change.commit()?;
            fault::point(fault::COMMIT_DONE);
            Ok((number, end))
        });
        let (number, end) = written.map_err(|why| match audit::is_duplicate(&why) {
            true => StoreError::Duplicate { result_id: row.result_id.clone() },
            false => self.told("record an inspection", why),
        })?;
        self.0.evidence.settle(inspection.evidence.iter().map(|crop| crop.sha256.as_str()));
        self.keep_head(&end, false);
        Ok(number)
    }

    /// Keeps `picture` as a lossless file and answers its SHA-256 in hexadecimal. To be called
    /// before the commit of the inspection that names it. The same picture is kept once. Refused
    /// while the disk is so full that the reserve is in use: what room there is belongs to records.
    pub fn put_evidence(&self, picture: &Rgb8) -> Result<String, StoreError> {
        if self.0.reserve.state() != ReserveState::Whole {
            return Err(StoreError::NoPictures { path: self.0.path.clone() });
        }
        self.0.evidence.put(picture)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The folder of the evidence files.
    pub fn evidence_dir(&self) -> &Path {
        self.0.evidence.dir()
    }

    /// How the reserve stands.
    pub fn reserve(&self) -> ReserveState {
        self.0.reserve.state()
    }

    /// Makes the reserve whole again if there is room; answers how it stands then.
    pub fn tend_reserve(&self) -> ReserveState {
        self.0.reserve.tend()
    }

    /// Gives up a part of the reserve; `false`: nothing was left.
    fn give_reserve(&self) -> bool {
        self.0.reserve.give()
    }

    /// Removes an evidence file unless a record on its way needs it or `is_needed`; `true`: gone.
    fn remove_evidence(
        &self,
        sha256: &str,
        is_needed: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        self.0.evidence.remove(sha256, is_needed)
    }

    /// Forces the removal of evidence files to the disk.
    fn sync_evidence(&self, names: &[&str]) -> Result<(), StoreError> {
        self.0.evidence.sync(names)
    }

    /// The clock that its records are dated by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// Where the evidence file with this digest lies, present or not.
    pub fn evidence_path(&self, sha256: &str) -> PathBuf {
        evidence::path(self.0.evidence.dir(), sha256)
    }

    /// The highest job number that was recorded for `station`, so that counting goes on after a
    /// restart.
    pub fn last_job_id(&self, station: &str) -> Result<Option<u64>, StoreError> {
        self.sql("look up the last job", |connection| read::last_job_id(connection, station))
    }

    /// What is kept of the contract of `station` with its controller.
    pub fn contract(&self, station: &str) -> Result<KeptContract, StoreError> {
        self.sql("read a contract", |connection| contract::contract(connection, station))
    }

    /// Keeps which recipe of `station` is active.
    pub fn keep_recipe(&self, station: &str, index: u32) -> Result<(), StoreError> {
        self.sql("keep a recipe", |connection| contract::keep_recipe(connection, station, index))
    }

    /// Keeps how far the results of `station` were acknowledged, as JSON.
    pub fn keep_acknowledged(&self, station: &str, marks: &str) -> Result<(), StoreError> {
        self.sql("keep an acknowledgement", |connection| {
            contract::keep_acknowledged(connection, station, marks)
        })
    }

    /// Keeps that a trigger of `station` was accepted, before anybody is told.
    pub fn keep_accepted(
        &self,
        station: &str,
        trigger: &AcceptedTrigger,
    ) -> Result<(), StoreError> {
        self.sql("keep a trigger", |connection| {
            contract::keep_accepted(connection, station, trigger)
        })
    }

    /// The newest triggers of `station` that were accepted, the oldest first; with each, whether there
    /// is an inspection of its job.
    pub fn accepted(&self, station: &str) -> Result<Vec<(AcceptedTrigger, bool)>, StoreError> {
        self.sql("read triggers", |connection| contract::accepted(connection, station))
    }

    /// The latest record about another part that has one of the serials of `query`, a record with the
    /// very serial before one with a look-alike.
    pub fn earlier_serial(&self, query: &EarlierQuery<'_>) -> Result<Option<Earlier>, StoreError> {
        self.sql("look up a serial", |connection| serials::earlier(connection, query))
    }

    /// The newest record's number, 0 if there is none.
    pub fn last_sequence(&self) -> Result<i64, StoreError> {
        self.sql("look up the newest record", |connection| contract::last_sequence(connection))
    }

    /// The records of `station` beyond `sequence` that a controller asked for, the oldest first, each
    /// with its number.
    pub fn asked_for_after(
        &self,
        station: &str,
        sequence: i64,
    ) -> Result<Vec<(i64, Inspection)>, StoreError> {
        self.sql("read what was asked for", |connection| {
            contract::asked_for_after(connection, station, sequence)
        })
    }

    /// A second, read-only connection, which does not make the writer wait.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.0.path)
    }

    /// Messages that are to be sent, oldest first: at most `limit`, with an id above `after` and up to
    /// `upto`, without those of the stations `but`.
    pub fn unsent(
        &self,
        limit: usize,
        after: i64,
        upto: i64,
        but: &[String],
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.watched("read the outbox", |connection| {
            outbox::unsent(connection, limit, after, upto, but)
        })
    }

    /// The number of the newest message, sent or not; 0 if there was none.
    pub fn newest_message(&self) -> Result<i64, StoreError> {
        self.watched("read the outbox", outbox::newest)
    }

    /// Notes that the broker has acknowledged these messages. Repeating it changes nothing. A power cut
    /// right after it may undo it: then they are sent once more.
    pub fn mark_sent(&self, ids: &[i64]) -> Result<(), StoreError> {
        let now = self.0.clock.now().wall.as_millisecond();
        self.with_room(|connection| without_haste(connection, |c| outbox::mark_sent(c, ids, now)))
            .map_err(|why| StoreError::from_sql("mark messages as sent", &self.0.path, why))
    }

    /// Takes a message that can never be sent out of the way; it stays, with the `reason`.
    pub fn quarantine(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        self.sql("put a message aside", |connection| outbox::quarantine(connection, id, reason))
    }

    /// The newest message of `station` that was sent.
    pub fn last_sent(&self, station: &str) -> Result<Option<OutboxRow>, StoreError> {
        self.watched("read the outbox", |connection| outbox::last_sent(connection, station))
    }

    /// Deletes sent messages that have at least `keep_rows` newer ones, at most 250 a call, but never
    /// the newest of a station. Answers whether more of them may be left. Inspections are not touched.
    pub fn prune_sent(&self, keep_rows: usize) -> Result<bool, StoreError> {
        self.sql("tidy the outbox", |connection| {
            without_haste(connection, |connection| outbox::prune_sent(connection, keep_rows))
                .map(|gone| gone == outbox::PRUNE_MAX_ROWS)
        })
    }

    /// How many messages wait, and since when.
    pub fn outbox_state(&self) -> Result<OutboxState, StoreError> {
        let now = self.0.clock.now().wall.as_millisecond();
        self.watched("count the outbox", |connection| outbox::state(connection, now))
    }

    /// Carries out a change; where it finds the disk full, once more with what the reserve gives. The
    /// change is on the disk when it returns, whatever another one left behind.
    fn with_room<T>(
        &self,
        mut work: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut connection = self.connection();
        durable::wait_for_the_disk(&connection, true)?;
        loop {
            match work(&mut connection) {
                Err(why) if error::is_full(&self.0.path, &why) && self.0.reserve.give() => {}
                told => return told,
            }
        }
    }

    fn sql<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done = work(&mut self.connection());
        done.map_err(|why| self.told(doing, why))
    }

    /// Reads beside the writer, in a transaction of its own: it sees every commit that has returned.
    fn watched<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let watcher = self.0.watcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        read(&watcher).map_err(|why| self.told(doing, why))
    }

    /// Sorts an error. Damage is noted beside the database, so that the next start looks for it.
    fn told(&self, doing: &'static str, why: rusqlite::Error) -> StoreError {
        let error = StoreError::from_sql(doing, &self.0.path, why);
        if matches!(error, StoreError::Corrupt { .. }) {
            // If that fails too, the next start meets the damage as this one did.
            let _ = std::fs::write(open::suspect_path(&self.0.path), b"");
        }
        error
    }

    /// A panic while the lock was held has dropped its transaction, which rolls it back: the
    /// connection is sound.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.connection.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.path.display())
    }
}
