//! A board that threads share: whoever drives an output wakes when it changes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::board::Board;

/// One station's board, shared. Its lock is the last that is taken, and never held for long.
#[derive(Debug, Default)]
pub struct Panel {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    board: Board,
    /// Counts changes, so that none between two looks is slept over.
    changes: u64,
}

impl Panel {
    /// Changes the board and wakes whoever waits.
    pub fn update(&self, change: impl FnOnce(&mut Board)) {
        let mut inner = self.lock();
        change(&mut inner.board);
        inner.changes = inner.changes.wrapping_add(1);
        self.changed.notify_all();
    }

    /// Reads the board, all of it at one moment.
    pub fn read<T>(&self, read: impl FnOnce(&Board) -> T) -> T {
        read(&self.lock().board)
    }

    /// Which change was the last.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Sleeps until something has changed since `seen`, or for `at_most`.
    pub fn wait(&self, seen: u64, at_most: Duration) {
        let inner = self.lock();
        // Whoever wakes looks at the board itself: why it woke is of no interest.
        let _ = self.changed.wait_timeout_while(inner, at_most, |inner| inner.changes == seen);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
