//! Keeps the audit log usable for years: the room for its pictures, and the reserve of its disk.
//!
//! A thread of its own, at low priority: a round of work is bounded, and the line does not wait.

use std::time::Duration;

use crate::store::retention::{Pruner, Round, Rules, Time};
use crate::store::{ReserveState, Store, StoreError};
use crate::telemetry;

/// How often it looks when nobody calls.
const EVERY: Duration = Duration::from_secs(300);

/// How soon it looks again while there is more to do, or while the disk is full.
const SOON: Duration = Duration::from_secs(1);

/// How much lower its priority is, in steps of `nice`.
const NICE: i32 = 10;

/// What the other threads tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Space may be short.
    Look,
    /// Pictures go by other rules from now on.
    Rules(Rules),
    /// The daemon ends.
    End,
}

/// Tells it to end when this is dropped.
#[derive(Debug)]
pub struct EndsKeeping(pub flume::Sender<Call>);

impl Drop for EndsKeeping {
    fn drop(&mut self) {
        // If it has ended already, nobody has to be told.
        let _ = self.0.send(Call::End);
    }
}

/// What it last told, so that nothing is told twice.
struct Keeper<'s> {
    store: &'s Store,
    rules: Rules,
    pruner: Option<Pruner>,
    reserve: ReserveState,
    told: String,
}

/// Works at once, every few minutes and when it is called, until it is told to end.
pub fn run(store: &Store, rules: Rules, calls: &flume::Receiver<Call>) {
    // It only means that the work is done at the line's own priority.
    let _ = rustix::process::nice(NICE);
    let reserve = ReserveState::Whole;
    let mut keeper = Keeper { store, rules, pruner: None, reserve, told: String::new() };
    loop {
        let wait = keeper.work();
        match calls.recv_timeout(wait) {
            Ok(Call::Rules(rules)) => (keeper.rules, keeper.pruner) = (rules, None),
            Ok(Call::Look) | Err(flume::RecvTimeoutError::Timeout) => {}
            Ok(Call::End) | Err(flume::RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Keeper<'_> {
    /// One round; answers when the next is due.
    fn work(&mut self) -> Duration {
        let more = match self.prune() {
            Ok(round) => self.tell(&round),
            Err(why) => {
                self.tell_once(why.to_string(), telemetry::retention_failed);
                self.pruner = None;
                false
            }
        };
        let reserve = self.store.tend_reserve();
        if reserve != self.reserve {
            self.reserve = reserve;
            match reserve {
                ReserveState::Whole => telemetry::reserve_whole(),
                ReserveState::InUse => telemetry::reserve_in_use(),
                ReserveState::Spent => telemetry::reserve_spent(),
            }
        }
        if more || reserve != ReserveState::Whole { SOON } else { EVERY }
    }

    fn prune(&mut self) -> Result<Round, StoreError> {
        if self.rules.is_off() {
            return Ok(Round::default());
        }
        let pruner = match self.pruner.take() {
            Some(pruner) => pruner,
            None => Pruner::open(self.store, self.rules)?,
        };
        self.pruner.insert(pruner).round()
    }

    fn tell(&mut self, round: &Round) -> bool {
        if round.files > 0 {
            telemetry::pictures_removed(round.files, round.bytes, round.events);
        }
        let waits = match round.time {
            _ if round.stuck_bytes > 0 => format!(
                "{} MiB are to be freed, and [retention] lets no more pictures go",
                round.stuck_bytes.div_ceil(1 << 20)
            ),
            Time::NotSynchronized => {
                "the clock follows no time source: no picture goes by age".to_owned()
            }
            Time::Ahead(ms) => format!(
                "the clock has jumped {} days ahead and is believed slowly: set it if it is wrong",
                ms / 86_400_000
            ),
            Time::Known => String::new(),
        };
        self.tell_once(waits, telemetry::retention_waits);
        round.more
    }

    fn tell_once(&mut self, text: String, tell: fn(&str)) {
        if !text.is_empty() && text != self.told {
            tell(&text);
        }
        self.told = text;
    }
}
