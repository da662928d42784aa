//! The order in which parts are judged and recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::daemon::picture_watch::PictureWatch;

/// Lets what depends on earlier records happen one part after another, and for one station in the order of
/// its parts: two parts with one serial that are looked at at once must not both pass, and a controller
/// expects results in the order of its triggers. A part waits for those before it, whose deadlines are
/// earlier than its own.
#[derive(Default)]
pub struct Turns {
    orders: Mutex<BTreeMap<String, Order>>,
    moved: Condvar,
    /// Held from the look-up of serials until the record is committed.
    pictures: Mutex<PictureWatch>,
}

/// One station's parts, numbered as they were taken.
#[derive(Default)]
struct Order {
    taken: u64,
    /// All below have been recorded.
    recorded: u64,
    /// Recorded out of turn: only where a thread ended by a panic.
    ahead: BTreeSet<u64>,
}

/// One part's place; given up when it is dropped.
pub struct Place<'t> {
    turns: &'t Turns,
    station: String,
    number: u64,
}

impl Turns {
    /// The turn of a part whose station has no order to keep, as one thread looks at all of them.
    pub fn enter(&self) -> MutexGuard<'_, PictureWatch> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self, station: &str) -> Place<'_> {
        let mut orders = self.orders();
        let order = orders.entry(station.to_owned()).or_default();
        let number = order.taken;
        order.taken += 1;
        Place { turns: self, station: station.to_owned(), number }
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<String, Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'t> Place<'t> {
    /// Waits until the parts before this one are recorded.
    pub fn enter(&self) -> MutexGuard<'t, PictureWatch> {
        let is_waiting = |orders: &mut BTreeMap<String, Order>| {
            orders.get(&self.station).is_some_and(|order| order.recorded < self.number)
        };
        let orders = self.turns.orders();
        let waited = self.turns.moved.wait_while(orders, is_waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.turns.enter()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut orders = self.turns.orders();
        if let Some(order) = orders.get_mut(&self.station) {
            order.ahead.insert(self.number);
            while order.ahead.remove(&order.recorded) {
                order.recorded += 1;
            }
        }
        self.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn parts_of_a_station_are_recorded_in_their_order() {
        let turns = Turns::default();
        let recorded = Mutex::new(Vec::new());
        let places: Vec<Place<'_>> = (0..8).map(|_| turns.place("press")).collect();
        let other = turns.place("lathe");
        thread::scope(|scope| {
            // The last one first, so that most have to wait.
            for place in places.into_iter().rev() {
                let recorded = &recorded;
                scope.spawn(move || {
                    let guard = place.enter();
                    recorded.lock().expect("whole").push(place.number);
                    drop(guard);
                });
            }
            // Another station waits for nobody.
            drop(other.enter());
        });
        assert_eq!(recorded.into_inner().expect("whole"), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_part_that_is_given_up_holds_nobody_up() {
        let turns = Turns::default();
        let (first, second, third) = (turns.place("a"), turns.place("a"), turns.place("a"));
        drop(second);
        drop(first);
        drop(third.enter());
    }
}
