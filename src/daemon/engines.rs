//! Engines elsewhere: their queues and threads, and the way back to the device's own model.
//!
//! Parts of a station that asks an engine go into that engine's queue, from which `parallel` threads take
//! them. So nobody waits behind the device's own model, and nobody holds it up. A question that the engine
//! does not answer is an [`Errand`] to the thread that owns the model, where the station wants that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::DaemonError;
use super::desk::InHand;
use super::picture_watch::PictureWatch;
use crate::config::Settings;
use crate::inspector::{Inspector, LocalAsker, Model, RemoteModel, RemoteQuestion, Reply};
use crate::remote::{Engine, EngineOptions, Failure};
use crate::station::Station;
use crate::telemetry;

/// Questions that may wait for the device's own model beside its parts.
const ERRANDS_MAX: usize = 16;

/// So long an answer that was cut short by its deadline may be on its way.
const GRACE: Duration = Duration::from_millis(100);

/// The engines of a run.
pub struct Engines {
    models: BTreeMap<String, RemoteModel>,
    errands: flume::Receiver<Errand>,
}

/// A question of an engine's thread to the device's own model.
pub struct Errand {
    question: RemoteQuestion,
    answer: flume::Sender<Reply>,
}

/// What the thread that owns the model does next.
pub enum Work {
    /// Looks at a part.
    Part(InHand),
    /// Answers a question for another thread.
    Errand(Errand),
}

/// One engine's queue.
pub struct Queue {
    /// Asks the engine.
    pub model: RemoteModel,
    /// Where the parts for it are taken.
    pub intake: Intake,
}

/// Where questions come back from engines elsewhere.
pub type Errands = flume::Receiver<Errand>;

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

impl Engines {
    /// The engines that `stations` ask, with every question prepared. Nothing is connected yet: an engine
    /// that is not there is no reason not to start.
    ///
    /// # Errors
    /// Certificates that cannot be used, a question that cannot be asked.
    pub fn open(settings: &Settings, stations: &[Arc<Station>]) -> Result<Engines, DaemonError> {
        let (sender, errands) = flume::bounded(ERRANDS_MAX);
        let local: Arc<dyn LocalAsker> = Arc::new(Counter { sender });
        let mut models = BTreeMap::new();
        let is_asked = |options: &&EngineOptions| {
            stations.iter().any(|one| one.engine.as_ref().is_some_and(|it| it.name == options.name))
        };
        for options in settings.engines.iter().filter(is_asked) {
            let model = RemoteModel::new(open(options)?, stations, Some(Arc::clone(&local)))?;
            models.insert(options.name.clone(), model);
        }
        Ok(Engines { models, errands })
    }

    /// Their names.
    pub fn names(&self) -> BTreeSet<String> {
        self.models.keys().cloned().collect()
    }

    /// The queue of each engine with the way into it by the engine's name, and the questions that come back
    /// from them: none any more when all queues are gone. Bounded by the places that each station has.
    pub fn into_queues(self) -> (Vec<Queue>, BTreeMap<String, flume::Sender<InHand>>, Errands) {
        let (mut queues, mut ways) = (Vec::new(), BTreeMap::new());
        for (name, model) in self.models {
            let (sender, parts) = flume::unbounded();
            ways.insert(name, sender);
            queues.push(Queue { model, intake: Intake(Mutex::new(parts)) });
        }
        (queues, ways, self.errands)
    }
}

/// Takes the parts of one engine's queue in their order, for several threads.
pub struct Intake(Mutex<flume::Receiver<InHand>>);

impl Intake {
    /// The next part and its place in its station's order; `None` when all lines have ended.
    pub fn take<'t>(&self, turns: &'t Turns) -> Option<(InHand, Place<'t>)> {
        // Held while it waits: the others wait for the same.
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_hand = parts.recv().ok()?;
        let place = turns.place(&in_hand.part.station.name);
        Some((in_hand, place))
    }
}

/// The counter at which errands are handed in.
struct Counter {
    sender: flume::Sender<Errand>,
}

impl LocalAsker for Counter {
    fn ask(&self, question: RemoteQuestion) -> Option<Reply> {
        let (answer, answers) = flume::bounded(1);
        let deadline = question.deadline + GRACE;
        // A model with so much to do would answer too late.
        self.sender.try_send(Errand { question, answer }).ok()?;
        answers.recv_deadline(deadline).ok()
    }
}

impl Errand {
    /// Puts the question to the device's own model.
    pub fn run<M: Model>(self, inspector: &mut Inspector<M>) {
        let Errand { question, answer } = self;
        if std::time::Instant::now() >= question.deadline {
            return; // whoever asked has given up
        }
        let asked = question.station.questions.iter().find(|one| one.name == question.question);
        let Some(asked) = asked else { return };
        let crops: Vec<_> = question.crops.iter().collect();
        let reply = inspector.ask_model(&question.station, asked, &crops, question.deadline);
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(reply);
    }
}

/// The next thing for the thread that owns the model; `None` when neither parts nor errands come any more.
pub fn next_work(
    parts: &flume::Receiver<InHand>,
    errands: &flume::Receiver<Errand>,
) -> Option<Work> {
    enum Got {
        Part(Result<InHand, flume::RecvError>),
        Errand(Result<Errand, flume::RecvError>),
    }
    let got = flume::Selector::new().recv(parts, Got::Part).recv(errands, Got::Errand).wait();
    match got {
        Got::Part(Ok(part)) => Some(Work::Part(part)),
        Got::Errand(Ok(errand)) => Some(Work::Errand(errand)),
        Got::Part(Err(_)) => errands.recv().ok().map(Work::Errand),
        Got::Errand(Err(_)) => parts.recv().ok().map(Work::Part),
    }
}

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

    fn place(&self, station: &str) -> Place<'_> {
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
