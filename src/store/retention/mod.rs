//! Retention: pictures go, records stay.
//!
//! What always holds:
//!
//! 1. Nothing goes that a record still needs by [`Rules`]; `decide` is the one place that says so.
//! 2. Before files go, a record of kind `retention` that names them is in the chain. A crash between
//!    the two leaves files that should be gone, and the next round removes them.
//! 3. While the clock follows no time source, nothing goes by age. A clock that jumps ahead is
//!    believed slowly, see [`time`].
//! 4. A round removes a bounded number of files, and none before the whole record was read.
//! 5. A file that was just written for a record on its way stays.

pub mod decide;
mod index;
pub mod rules;
pub mod time;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use decide::{Class, Why};
pub use rules::{Rules, UnderPressure};

use super::error::StoreError;
use super::events::EventKind;
use super::read::Reader;
use super::reserve::free_bytes;
use super::{Store, StoreOptions};
use crate::clock::{Clock, Stamp};
use decide::{Candidate, Rank, decide};
use index::Index;

/// Files that one round removes at most: a mistake of a clock or a configuration shows itself
/// before it has cost everything.
const ROUND_FILES: usize = 1000;

/// Files that one record of the chain names at most.
const EVENT_FILES: usize = 500;

/// Records that one round reads at most.
const ROUND_RECORDS: u64 = 20_000;

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Files removed.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records of the chain that tell of it.
    pub events: u64,
    /// Bytes that are still to be freed, and that nothing may be removed for.
    pub stuck_bytes: u64,
    /// There is more to do at once: the record is not read to its end, or space is still short.
    pub more: bool,
    /// The record was read to its end; before that nothing goes.
    pub has_read_all: bool,
    /// How the time stands.
    pub time: Time,
}

/// What retention knows of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// The clock is right.
    #[default]
    Known,
    /// The clock follows no time source: nothing goes by age.
    NotSynchronized,
    /// The clock has jumped ahead of what is believed, in milliseconds.
    Ahead(i64),
}

/// What would go, for [`preview`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Files and bytes for each reason and class.
    pub parts: BTreeMap<(Why, Class), (u64, u64)>,
    /// Files that are there and named by a record, and their bytes.
    pub all: (u64, u64),
    /// Free bytes of the disk.
    pub free_bytes: u64,
    /// Bytes that are to be freed, less those that would go.
    pub stuck_bytes: u64,
    /// How the time stands.
    pub time: Time,
}

/// Removes pictures, a round at a time, beside a running line.
pub struct Pruner {
    store: Store,
    rules: Rules,
    reader: Reader,
    index: Index,
    last: Option<Stamp>,
}

/// The body of the chain's record of a removal.
#[derive(Serialize)]
struct Removal<'c> {
    /// The time by which pictures were too old; null: nobody knew the time.
    believed_wall: Option<jiff::Timestamp>,
    files: Vec<Gone<'c>>,
}

/// One file in it.
#[derive(Serialize)]
struct Gone<'c> {
    sha256: &'c str,
    bytes: u64,
    class: &'static str,
    why: &'static str,
}

impl<'c> Removal<'c> {
    fn of(batch: &[(&'c Candidate, Why)], now_ms: Option<i64>) -> Removal<'c> {
        let gone = |(one, why): &(&'c Candidate, Why)| Gone {
            sha256: &one.sha256,
            bytes: one.bytes,
            class: one.class().as_str(),
            why: why.as_str(),
        };
        let believed_wall = now_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        Removal { believed_wall, files: batch.iter().map(gone).collect() }
    }
}

impl Pruner {
    /// Opens the index of pictures beside the database of `store`.
    pub fn open(store: &Store, rules: Rules) -> Result<Pruner, StoreError> {
        let reader = store.reader()?;
        let index = Index::open(&reader)?;
        Ok(Pruner { store: store.clone(), rules, reader, index, last: None })
    }

    /// Reads the record on and removes what is to go, a bounded number of files.
    pub fn round(&mut self) -> Result<Round, StoreError> {
        if self.rules.is_off() {
            return Ok(Round { has_read_all: true, ..Round::default() });
        }
        let dir = self.store.evidence_dir().to_owned();
        let has_read_all = match self.index.read_on(&self.reader, &dir, ROUND_RECORDS) {
            // The disk is full, and the index is what makes room: the reserve is for this too.
            Err(StoreError::Full { .. }) if self.store.give_reserve() => {
                self.index.read_on(&self.reader, &dir, ROUND_RECORDS)?
            }
            told => told?,
        };
        let has_read_all = has_read_all && self.index.read_decisions(&self.reader, &dir)?;
        let (now_ms, time) = self.time()?;
        if !has_read_all {
            return Ok(Round { more: true, time, ..Round::default() });
        }
        let free = free_bytes(&dir).map_err(|why| StoreError::from_io(&dir, why))?;
        let shortage = self.rules.shortage_bytes(self.index.total_bytes()?, free);
        // One more than may go: then those of a rank are either all here, or more than enough.
        let candidates = self.index.candidates(&Rank::ALL, ROUND_FILES + 1)?;
        let plan = decide(&candidates, &self.rules, now_ms, shortage, ROUND_FILES);
        let mut round = Round { has_read_all, time, ..Round::default() };
        for batch in plan.chunks(EVENT_FILES) {
            self.remove(batch, now_ms, &mut round)?;
        }
        let left = shortage.saturating_sub(round.bytes);
        round.more = left > 0 && plan.len() >= ROUND_FILES;
        round.stuck_bytes = if round.more { 0 } else { left };
        Ok(round)
    }

    /// The time that is believed, if the clock may be believed at all.
    fn time(&mut self) -> Result<(Option<i64>, Time), StoreError> {
        let clock = self.store.clock();
        let now = clock.now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.since(&last));
        self.last = Some(now);
        if !clock.synchronized() {
            return Ok((None, Time::NotSynchronized));
        }
        let now_ms = now.wall.as_millisecond();
        let known_ms = self.index.believed_ms()?.unwrap_or(now_ms);
        let believed_ms = time::believe(known_ms, now_ms, elapsed);
        self.index.believe(believed_ms.max(known_ms))?;
        let told = match now_ms - believed_ms {
            0 => Time::Known,
            ahead => Time::Ahead(ahead),
        };
        Ok((Some(believed_ms), told))
    }

    /// Writes that `batch` goes, then lets it go.
    fn remove(
        &mut self,
        batch: &[(&Candidate, Why)],
        now_ms: Option<i64>,
        round: &mut Round,
    ) -> Result<(), StoreError> {
        self.store.append_event(EventKind::Retention, &Removal::of(batch, now_ms))?;
        round.events += 1;
        let read_up_to = self.index.read_up_to()?;
        let reader = &self.reader;
        let mut gone = Vec::with_capacity(batch.len());
        for (one, _) in batch {
            let is_needed = || named_after(reader, read_up_to, &one.sha256);
            if self.store.remove_evidence(&one.sha256, is_needed)? {
                gone.push(one.sha256.as_str());
                round.files += 1;
                round.bytes += one.bytes;
            }
        }
        self.store.sync_evidence(&gone)?;
        self.index.forget(gone.into_iter())
    }
}

/// Whether a record after number `after` names this picture.
fn named_after(reader: &Reader, after: i64, sha256: &str) -> Result<bool, StoreError> {
    let find = || -> rusqlite::Result<bool> {
        reader
            .connection()
            .prepare_cached("SELECT 1 FROM inspections WHERE sequence > ?1 AND instr(body, ?2)")?
            .exists(rusqlite::params![after, sha256])
    };
    find().map_err(|why| StoreError::from_sql("read records", reader.path(), why))
}

/// What `rules` would remove now, all of it at once. Reads the whole record and changes nothing;
/// a daemon may be running.
pub fn preview(
    reader: &Reader,
    options: &StoreOptions,
    clock: &dyn Clock,
) -> Result<Preview, StoreError> {
    let (dir, rules) = (&options.evidence_dir, &options.retention);
    let mut index = Index::in_memory()?;
    index.read_on(reader, dir, u64::MAX)?;
    while !index.read_decisions(reader, dir)? {}
    let now_ms = clock.now().wall.as_millisecond();
    let known_ms = Index::kept_belief_ms(reader).max(index.believed_ms()?).unwrap_or(now_ms);
    let believed_ms = time::believe(known_ms, now_ms, Duration::ZERO);
    let (now_ms, time) = match (clock.synchronized(), now_ms - believed_ms) {
        (false, _) => (None, Time::NotSynchronized),
        (true, 0) => (Some(believed_ms), Time::Known),
        (true, ahead) => (Some(believed_ms), Time::Ahead(ahead)),
    };
    let free_bytes = free_bytes(dir).map_err(|why| StoreError::from_io(dir, why))?;
    let candidates = index.candidates(&Rank::ALL, usize::MAX)?;
    let total = index.total_bytes()?;
    let shortage = rules.shortage_bytes(total, free_bytes);
    let mut told = Preview { free_bytes, time, ..Preview::default() };
    told.all = (candidates.len() as u64, total);
    let mut freed = 0;
    for (one, why) in decide(&candidates, rules, now_ms, shortage, usize::MAX) {
        let part = told.parts.entry((why, one.class())).or_default();
        *part = (part.0 + 1, part.1 + one.bytes);
        freed += one.bytes;
    }
    told.stuck_bytes = shortage.saturating_sub(freed);
    Ok(told)
}
