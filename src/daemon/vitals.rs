//! Whether every thread that matters makes progress: frames, model, record, messages.
//!
//! A thread beats when it has done a step, and rests while it waits for work. What neither rests nor
//! beats for as long as the service manager's watchdog allows is hung: the service manager is then no
//! longer told that all is well, and starts the program anew. Nothing here beats by a clock, so a thread
//! that is stuck cannot be kept alive by another that is not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What a watcher takes for hung where no service manager says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// Steps that are counted elsewhere, such as the layers that a model has computed.
type Steps = fn() -> u64;

/// One thread's pulse. It beats no more when it is dropped, and is then no longer watched.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    beats: AtomicU64,
    rests: AtomicBool,
    more: Option<Steps>,
}

impl Pulse {
    /// A step is done, and another is to come.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        self.rests.store(false, Ordering::Relaxed);
    }

    /// There is nothing to do.
    pub fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
    }

    /// Steps done; `None`: it rests.
    fn count(&self) -> Option<u64> {
        let rests = self.rests.load(Ordering::Relaxed);
        let beats = self.beats.load(Ordering::Relaxed);
        (!rests).then(|| beats.wrapping_add(self.more.map_or(0, |more| more())))
    }
}

/// The pulses of a run.
#[derive(Debug)]
pub struct Vitals {
    patience: Duration,
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    pulse: Weak<Pulse>,
    /// What it had counted when it was last seen to go on, and when that was.
    seen: (Option<u64>, Instant),
}

/// What makes no progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hung {
    /// The thread's name.
    pub name: String,
    /// For how long.
    pub since: Duration,
}

impl Vitals {
    /// Watches nothing yet. `patience`: after how long without progress a thread is hung; `None`: two
    /// minutes.
    pub fn new(patience: Option<Duration>) -> Vitals {
        Vitals { patience: patience.unwrap_or(PATIENCE), watched: Mutex::default() }
    }

    /// A pulse to be watched from now on; it rests.
    pub fn pulse(&self, name: impl Into<String>) -> Arc<Pulse> {
        self.add(name.into(), None)
    }

    /// The same, of a thread whose steps are counted by `more`, too.
    pub fn pulse_with(&self, name: impl Into<String>, more: Steps) -> Arc<Pulse> {
        self.add(name.into(), Some(more))
    }

    fn add(&self, name: String, more: Option<Steps>) -> Arc<Pulse> {
        let (beats, rests) = (AtomicU64::new(0), AtomicBool::new(true));
        let pulse = Arc::new(Pulse { name, beats, rests, more });
        let seen = (None, Instant::now());
        self.lock().push(Watched { pulse: Arc::downgrade(&pulse), seen });
        pulse
    }

    /// How often whoever watches should look.
    pub fn look_every(&self) -> Duration {
        self.patience / 4
    }

    /// What is hung, as far as it has been looked.
    pub fn hung(&self) -> Vec<Hung> {
        self.look(Instant::now())
    }

    /// Looks at all pulses, at `now`; answers what is hung.
    pub fn look(&self, now: Instant) -> Vec<Hung> {
        let mut hung = Vec::new();
        self.lock().retain_mut(|watched| {
            let Some(pulse) = watched.pulse.upgrade() else { return false };
            let count = pulse.count();
            if count.is_none() || count != watched.seen.0 {
                watched.seen = (count, now);
            }
            let since = now.saturating_duration_since(watched.seen.1);
            if since >= self.patience {
                hung.push(Hung { name: pulse.name.clone(), since });
            }
            true
        });
        hung
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_neither_rests_nor_beats_is_hung() {
        let vitals = Vitals::new(Some(Duration::from_secs(8)));
        assert_eq!(vitals.look_every(), Duration::from_secs(2));
        let begun = Instant::now();
        let look = |after: u64| {
            let hung = vitals.look(begun + Duration::from_secs(after));
            hung.into_iter().map(|hung| hung.name).collect::<Vec<_>>()
        };
        let (idle, busy) = (vitals.pulse("idle"), vitals.pulse("busy"));
        let stuck = vitals.pulse("stuck");
        busy.beat();
        stuck.beat();
        idle.rest();
        assert!(look(0).is_empty());
        busy.beat();
        assert!(look(7).is_empty());
        assert_eq!(look(8), ["stuck"], "no step for as long as is allowed");
        assert_eq!(look(14), ["stuck"]);
        assert_eq!(look(15), ["busy", "stuck"]);
        stuck.beat();
        assert_eq!(look(15), ["busy"], "one step is enough");
        busy.rest();
        assert!(look(16).is_empty());
        drop(stuck);
        busy.beat();
        look(16);
        assert_eq!(look(24), ["busy"], "what is gone is not hung");
    }

    #[test]
    fn steps_counted_elsewhere_are_progress() {
        static LAYERS: AtomicU64 = AtomicU64::new(0);
        let vitals = Vitals::new(Some(Duration::from_secs(1)));
        let model = vitals.pulse_with("model", || LAYERS.load(Ordering::Relaxed));
        let begun = Instant::now();
        model.beat();
        for second in 0..5 {
            assert!(vitals.look(begun + Duration::from_secs(second)).is_empty());
            LAYERS.fetch_add(1, Ordering::Relaxed);
        }
        assert!(vitals.look(begun + Duration::from_secs(5)).is_empty());
        assert_eq!(vitals.look(begun + Duration::from_secs(6)).len(), 1);
    }
}
