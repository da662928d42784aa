//! Who answers first about a part, the model or its deadline; and which deadlines are next.
//!
//! Each part has one [`Turn`]. Whoever wants to tell something about the part does so inside it, so
//! that what was told before is known and is on the disk:
//!
//! | told before | at the deadline   | verdict that stands early | full answer                    |
//! |-------------|-------------------|---------------------------|--------------------------------|
//! | nothing     | a late result     | a partial result          | the result                     |
//! | partial     | –                 | –                         | an update of it, in time       |
//! | late        | –                 | –                         | an update of it, late          |
//! | full        | –                 | –                         | –                              |
//!
//! So a part has one result that is no update, and at most one update.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

/// What was told about a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing yet.
    #[default]
    Nothing,
    /// This result, early.
    Partial(Uuid),
    /// This result, because the deadline had passed.
    Late(Uuid),
    /// The full answer.
    Full,
}

/// Lets one at a time tell about a part.
#[derive(Debug, Default)]
pub struct Turn(Mutex<Told>);

impl Turn {
    /// The deadline has passed: `tell` commits a late result and answers its name, if nothing was
    /// told before. Answers whether it was called.
    pub fn late(&self, tell: impl FnOnce() -> Uuid) -> bool {
        self.first(|| Told::Late(tell()))
    }

    /// The verdict stands early: `tell` commits a partial result and answers its name, if nothing was
    /// told before. Answers whether it was called.
    pub fn partial(&self, tell: impl FnOnce() -> Uuid) -> bool {
        self.first(|| Told::Partial(tell()))
    }

    /// The full answer is there: `tell` commits it, knowing what was told before. Called once.
    pub fn full<T>(&self, tell: impl FnOnce(Told) -> T) -> T {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = tell(*told);
        *told = Told::Full;
        done
    }

    fn first(&self, tell: impl FnOnce() -> Told) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = *told == Told::Nothing;
        if is_first {
            *told = tell();
        }
        is_first
    }
}

/// Things by the moment at which they are due, in monotonic nanoseconds.
#[derive(Debug)]
pub struct Deadlines<T> {
    due: BTreeMap<Key, T>,
    count: u64,
}

/// Names one thing among [`Deadlines`].
pub type Key = (u64, u64);

impl<T> Default for Deadlines<T> {
    fn default() -> Deadlines<T> {
        Deadlines { due: BTreeMap::new(), count: 0 }
    }
}

impl<T> Deadlines<T> {
    /// Adds `thing`, due at `at_ns`.
    pub fn add(&mut self, at_ns: u64, thing: T) -> Key {
        self.count += 1;
        let key = (at_ns, self.count);
        self.due.insert(key, thing);
        key
    }

    /// Takes one out that has been dealt with.
    pub fn remove(&mut self, key: &Key) {
        self.due.remove(key);
    }

    /// Takes out what is due at `now_ns`, the earliest first. A thing due at `now_ns` exactly is not:
    /// a verdict that stands at the deadline is in time.
    pub fn take_due(&mut self, now_ns: u64) -> Vec<T> {
        let later = self.due.split_off(&(now_ns, 0));
        std::mem::replace(&mut self.due, later).into_values().collect()
    }

    /// When the next thing is due.
    pub fn next_ns(&self) -> Option<u64> {
        self.due.keys().next().map(|(at_ns, _)| *at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    enum Who {
        Deadline,
        Early,
        Model,
    }

    /// Every order in which the three can come to their turn; the model tells early before it tells
    /// all, as it is one thread.
    #[test]
    fn in_every_order_one_result_is_first_and_the_rest_update_it() {
        let orders = [
            [Who::Deadline, Who::Early, Who::Model],
            [Who::Early, Who::Deadline, Who::Model],
            [Who::Early, Who::Model, Who::Deadline],
        ];
        for order in orders {
            let turn = Turn::default();
            let (late, early) = (Uuid::from_u128(1), Uuid::from_u128(2));
            let mut told = Vec::new();
            for who in order {
                match who {
                    Who::Deadline => {
                        _ = turn.late(|| {
                            told.push("late");
                            late
                        })
                    }
                    Who::Early => {
                        _ = turn.partial(|| {
                            told.push("partial");
                            early
                        })
                    }
                    Who::Model => turn.full(|before| match before {
                        Told::Nothing => told.push("full"),
                        Told::Late(id) => {
                            assert_eq!(id, late);
                            told.push("update of late")
                        }
                        Told::Partial(id) => {
                            assert_eq!(id, early);
                            told.push("update of partial")
                        }
                        Told::Full => panic!("told twice"),
                    }),
                }
            }
            match order[0] {
                Who::Deadline => assert_eq!(told, ["late", "update of late"]),
                _ => assert_eq!(told, ["partial", "update of partial"]),
            }
        }
        let turn = Turn::default();
        turn.full(|before| assert_eq!(before, Told::Nothing));
        assert!(!turn.late(|| panic!("too late for that")));
        assert!(!turn.partial(|| panic!("too late for that")));
    }

    /// Two threads that meet at the turn, many times: never both first, never neither, and the update
    /// is told after what it updates.
    #[test]
    fn a_race_has_one_winner() {
        for _ in 0..500 {
            let (turn, start) = (Arc::new(Turn::default()), Arc::new(Barrier::new(2)));
            let log = Arc::new(Mutex::new(Vec::new()));
            let watcher = std::thread::spawn({
                let (turn, start, log) = (Arc::clone(&turn), Arc::clone(&start), Arc::clone(&log));
                move || {
                    start.wait();
                    turn.late(|| {
                        log.lock().expect("no panic").push("late");
                        Uuid::nil()
                    })
                }
            });
            start.wait();
            turn.full(|before| {
                let word = if before == Told::Nothing { "full" } else { "update" };
                log.lock().expect("no panic").push(word);
            });
            let was_late = watcher.join().expect("no panic");
            let log = log.lock().expect("no panic").clone();
            let expected: &[&str] = if was_late { &["late", "update"] } else { &["full"] };
            assert_eq!(log, expected);
        }
    }

    #[test]
    fn what_is_due_comes_in_order_and_what_was_dealt_with_does_not() {
        let mut deadlines = Deadlines::default();
        deadlines.add(30, "c");
        let b = deadlines.add(20, "b");
        deadlines.add(10, "a");
        deadlines.add(10, "a2");
        assert_eq!(deadlines.next_ns(), Some(10));
        assert!(deadlines.take_due(10).is_empty(), "at the deadline is in time");
        assert_eq!(deadlines.take_due(11), ["a", "a2"]);
        deadlines.remove(&b);
        assert_eq!(deadlines.next_ns(), Some(30));
        assert_eq!(deadlines.take_due(u64::MAX), ["c"]);
        assert_eq!(deadlines.next_ns(), None);
    }
}
