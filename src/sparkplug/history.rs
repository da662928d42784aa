//! The results that are told: read from the record, in its order, page by page; and how far the
//! telling is certain.
//!
//! Data goes at QoS 0, so nobody confirms it. A connection that breaks takes with it what was sent
//! since the broker was last known to be alive, and that is at most one and a half times the
//! keep-alive. So a result counts as told after that time; until then a break of the connection
//! brings it back, to be told once more as history. Copies have the same `Result/Id` and time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::kept::Kept;
use crate::store::{Reader, Record};

/// Records that one read brings.
pub const PAGE_ROWS: usize = 64;

/// Most results that wait to count as told. Of more the oldest count at once: at such a rate the
/// connection would have been found broken.
const HANDED_MAX: usize = 65_536;

/// How often the file is written while results are told.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Reads the record for one task; the reads run on threads that may block.
#[derive(Clone)]
pub struct Rows(Arc<Mutex<Reader>>);

impl Rows {
    /// Reads with `reader`.
    pub fn new(reader: Reader) -> Rows {
        Rows(Arc::new(Mutex::new(reader)))
    }

    /// The records above `sequence`, oldest first, [`PAGE_ROWS`] at most.
    pub async fn after(&self, sequence: i64) -> Result<Vec<Record>, String> {
        let Rows(reader) = self.clone();
        let read = move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.after(sequence, PAGE_ROWS)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(rows) => rows.map_err(|why| why.to_string()),
            Err(why) => Err(format!("the record's thread ended: {why}")),
        }
    }
}

/// How far the telling has come.
#[derive(Debug)]
pub struct Told {
    kept: Kept,
    /// The newest result that was handed to a connection, or passed over.
    cursor: i64,
    /// The newest that counts as told.
    certain: i64,
    /// Handed over, and not yet certain.
    handed: VecDeque<(Instant, i64)>,
    /// For how long a result is not certain.
    doubt: Duration,
    written: Instant,
}

impl Told {
    /// Goes on where `kept` left off; `newest` is the newest result of the record. A first start tells
    /// nothing of what is older.
    pub fn new(kept: Kept, newest: i64, keep_alive: Duration) -> Told {
        // A database that was replaced by a shorter one begins anew.
        let certain = kept.told().map_or(newest, |told| told.min(newest));
        let doubt = keep_alive + keep_alive / 2;
        let (handed, written) = (VecDeque::new(), Instant::now());
        Told { kept, cursor: certain, certain, handed, doubt, written }
    }

    /// The newest result that was handed to a connection, or passed over.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The result `sequence` was handed to a connection.
    pub fn hand(&mut self, sequence: i64, now: Instant) {
        self.cursor = sequence;
        if self.handed.len() >= HANDED_MAX
            && let Some((_, oldest)) = self.handed.pop_front()
        {
            self.certain = oldest;
        }
        self.handed.push_back((now, sequence));
    }

    /// Passes over what is before the newest `most` of those up to `newest`; answers how many these
    /// are.
    pub fn pass_over(&mut self, newest: i64, most: u64) -> u64 {
        let waiting = newest.abs_diff(self.cursor.min(newest));
        let too_many = waiting.saturating_sub(most);
        if too_many > 0 {
            self.cursor += too_many as i64;
            self.certain = self.cursor;
        }
        too_many
    }

    /// The connection broke: what was in doubt is to be told again.
    pub fn bring_back(&mut self, now: Instant) {
        let _ = self.settle(now);
        self.handed.clear();
        self.cursor = self.certain;
    }

    /// Time passes: doubts end. `true`: the file is to be written.
    #[must_use]
    pub fn settle(&mut self, now: Instant) -> bool {
        while let Some((at, sequence)) = self.handed.front()
            && now.duration_since(*at) >= self.doubt
        {
            self.certain = *sequence;
            self.handed.pop_front();
        }
        if now.duration_since(self.written) < KEEP_EVERY {
            return false;
        }
        self.written = now;
        self.kept.set_told(self.certain)
    }

    /// The connection ended in good form: everything handed over counts as told.
    pub fn conclude(&mut self) {
        self.handed.clear();
        self.certain = self.cursor;
    }

    /// The numbers of connections, and what is to be kept of this.
    pub fn kept(&mut self) -> &mut Kept {
        self.kept.set_told(self.certain);
        &mut self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kept: Option<i64>, newest: i64) -> (tempfile::TempDir, Told) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = Kept::open(&dir.path().join("x.sparkplug"));
        if let Some(sequence) = kept {
            let _ = file.set_told(sequence);
        }
        (dir, Told::new(file, newest, Duration::from_secs(20)))
    }

    #[test]
    fn a_break_brings_back_what_is_in_doubt() {
        let (_dir, mut told) = told(Some(10), 15);
        assert_eq!(told.cursor(), 10);
        let start = Instant::now();
        told.hand(11, start);
        told.hand(12, start + Duration::from_secs(20));
        told.bring_back(start + Duration::from_secs(29));
        assert_eq!(told.cursor(), 10, "none is certain before 30 s");
        told.hand(11, start);
        told.hand(12, start + Duration::from_secs(20));
        told.bring_back(start + Duration::from_secs(30));
        assert_eq!(told.cursor(), 11);
        told.hand(12, start + Duration::from_secs(31));
        told.conclude();
        told.bring_back(start + Duration::from_secs(31));
        assert_eq!((told.cursor(), told.kept().told()), (12, Some(12)));
    }

    #[test]
    fn a_first_start_and_another_database_tell_nothing_old() {
        assert_eq!(told(None, 15).1.cursor(), 15);
        assert_eq!(told(Some(99), 15).1.cursor(), 15);
    }

    #[test]
    fn what_is_too_much_is_passed_over() {
        let (_dir, mut told) = told(Some(10), 100);
        assert_eq!(told.pass_over(100, 90), 0);
        assert_eq!(told.pass_over(100, 30), 60);
        assert_eq!(told.cursor(), 70);
        told.bring_back(Instant::now());
        assert_eq!(told.cursor(), 70, "for good");
        assert_eq!(told.pass_over(5, 30), 0, "a record that became shorter");
    }
}
