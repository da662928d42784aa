//! Engines elsewhere: their queues and threads, and the way back to the device's own model.
//!
//! Parts of a station that asks an engine go into that engine's queue, from which `parallel` threads take
//! them. So nobody waits behind the device's own model, and nobody holds it up. A question that the engine
//! does not answer is an [`Errand`] to the thread that owns the model, where the station wants that. A reload may
//! bring other engines: those before finish what is in their queues, and end.

mod asking;
mod errand;
mod turns;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::DaemonError;
use super::desk::InHand;
use crate::config::Settings;
use crate::inspector::{LocalAsker, RemoteModel};
use crate::remote::{Engine, EngineOptions, Failure};
use crate::station::Station;
use crate::telemetry;

pub use asking::Asking;
use asking::Queue;
use errand::Counter;
pub use errand::{Errand, Errands, Work, next_work};
pub use turns::Turns;

/// Where the parts of stations go. Bounded by the places that each station has.
#[derive(Clone)]
pub struct Ways {
    /// To the device's own model.
    own: flume::Sender<InHand>,
    /// To engines elsewhere, by their names.
    elsewhere: BTreeMap<String, Elsewhere>,
}

#[derive(Clone)]
struct Elsewhere {
    model: RemoteModel,
    parts: flume::Sender<InHand>,
}

/// What comes to the thread that owns the device's own model; nothing any more when all ways are gone.
pub struct Ours {
    /// Parts.
    pub parts: flume::Receiver<InHand>,
    /// Questions of engines' threads.
    pub errands: Errands,
}

/// The engines of the start: nobody asks them yet.
pub struct Opened {
    ways: Ways,
    local: Arc<dyn LocalAsker>,
    queues: Vec<Queue>,
}

/// The engines of a run.
pub struct Engines {
    asking: Asking,
    /// `None`: no part goes anywhere any more.
    open: Mutex<Option<Open>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Open {
    ways: Ways,
    local: Arc<dyn LocalAsker>,
}

/// An engine with the settings' options for it; what it goes through is told in the log.
///
/// # Errors
/// Certificates that cannot be used.
pub fn open(options: &EngineOptions) -> Result<Arc<Engine>, DaemonError> {
    let tell = |name: &str, told: Result<(), (&Failure, Duration)>| match told {
        Ok(()) => telemetry::engine_answers(name),
        Err((why, rest)) => telemetry::engine_rests(name, &why.text, rest.as_secs_f64()),
    };
    let engine = Engine::new(options, Box::new(tell));
    let engine = engine.map_err(|why| {
        DaemonError::Model(format!("engine \"{}\" cannot be asked: {why}", options.name))
    })?;
    Ok(Arc::new(engine))
}

impl Ways {
    /// The way of this station's parts.
    pub fn of(&self, station: &Station) -> &flume::Sender<InHand> {
        let engine = station.engine.as_ref().and_then(|used| self.elsewhere.get(&used.name));
        engine.map_or(&self.own, |engine| &engine.parts)
    }

    /// The ways of `stations` under `settings`, with the queues of engines that are new or have other options. Nothing is
    /// connected: an engine that is not there is no reason to refuse it.
    fn renewed(
        &self,
        settings: &Settings,
        stations: &[Arc<Station>],
        local: &Arc<dyn LocalAsker>,
    ) -> Result<(Ways, Vec<Queue>), DaemonError> {
        let (mut elsewhere, mut queues) = (BTreeMap::new(), Vec::new());
        let is_asked = |options: &&EngineOptions| {
            stations.iter().any(|one| one.engine.as_ref().is_some_and(|it| it.name == options.name))
        };
        for options in settings.engines.iter().filter(is_asked) {
            let known = self.elsewhere.get(&options.name);
            let engine = match known.filter(|known| known.model.engine().options() == options) {
                Some(known) => {
                    known.model.prepare(stations)?;
                    known.clone()
                }
                None => {
                    let model =
                        RemoteModel::new(open(options)?, stations, Some(Arc::clone(local)))?;
                    let (parts, taken) = flume::unbounded();
                    queues.push(Queue::new(model.clone(), taken));
                    Elsewhere { model, parts }
                }
            };
            elsewhere.insert(options.name.clone(), engine);
        }
        Ok((Ways { own: self.own.clone(), elsewhere }, queues))
    }
}

impl Opened {
    /// The engines that `stations` ask, with every question prepared.
    ///
    /// # Errors
    /// Certificates that cannot be used, a question that cannot be asked.
    pub fn new(
        settings: &Settings,
        stations: &[Arc<Station>],
    ) -> Result<(Opened, Ours), DaemonError> {
        let (own, parts) = flume::unbounded();
        let (counter, errands) = Counter::open();
        let local: Arc<dyn LocalAsker> = Arc::new(counter);
        let none = Ways { own, elsewhere: BTreeMap::new() };
        let (ways, queues) = none.renewed(settings, stations, &local)?;
        Ok((Opened { ways, local, queues }, Ours { parts, errands }))
    }

    /// The ways to them.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Lets them be asked.
    pub fn begin(self, asking: Asking) -> Engines {
        let Opened { ways, local, queues } = self;
        let threads = queues.into_iter().flat_map(|queue| queue.ask(&asking)).collect();
        let open = Some(Open { ways, local });
        Engines { asking, open: Mutex::new(open), threads: Mutex::new(threads) }
    }
}

impl Engines {
    /// Who comes first among parts.
    pub fn turns(&self) -> &Turns {
        &self.asking.turns
    }

    /// The ways as they are, and as they are for `stations` under `settings`. New engines can be asked already; they end
    /// when nobody has a way to them any more.
    ///
    /// # Errors
    /// As [`Opened::new`]; the run ends.
    pub fn renewed(
        &self,
        settings: &Settings,
        stations: &[Arc<Station>],
    ) -> Result<(Ways, Ways), DaemonError> {
        let open = self.lock();
        let ends = || DaemonError::Other("the run ends".to_owned());
        let Open { ways, local } = open.as_ref().ok_or_else(ends)?;
        let (renewed, queues) = ways.renewed(settings, stations, local)?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.extend(queues.into_iter().flat_map(|queue| queue.ask(&self.asking)));
        Ok((ways.clone(), renewed))
    }

    /// From now on the ways are `renewed`.
    pub fn take(&self, renewed: Ways) {
        if let Some(open) = &mut *self.lock() {
            open.ways = renewed;
        }
    }

    /// Nobody hands in a part here any more. When the lines have ended, too, the threads do.
    pub fn close(&self) {
        drop(self.lock().take());
    }

    /// Waits until all that was handed in has been recorded. [`Engines::close`] comes before.
    pub fn join(&self) {
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // One that died has told so.
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
