//! One station's desk: its contract, shared by the threads, and the wire on which it is told.
//!
//! Every change of the contract is told before the desk is left, so that states, events and replies
//! go out in the order in which they came about.

mod hand;
mod open;
mod orders;
mod tell;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use hand::{Hand, InHand};
pub use orders::Order;

use super::tally::Tally;
use super::watcher::Watcher;
use crate::clock::{Clock, Stamp};
use crate::hard::{Panel, board};
use crate::inspection::Inspection;
use crate::plc::{Contract, ExpectHandler, StateMessage};
use crate::publish::PublisherHandle;
use crate::station::Station;
use crate::store::Store;
use crate::telemetry;
use crate::verdict::Reason;
use crate::web::{self, status::Camera};
use open::{named, with_each_recipe};

/// Where the answer to one command goes.
#[derive(Clone, Debug, Default)]
pub struct ReplyTo {
    /// The topic that was agreed on.
    pub topic: String,
    /// The topic that the sender named, if it can be answered there.
    pub response_topic: Option<String>,
    /// What the sender called its request.
    pub correlation: Option<Vec<u8>>,
}

/// One station's desk.
pub struct Desk {
    name: String,
    /// Whether parts are asked for by command; else the station finds them.
    is_asked_for_parts: bool,
    /// Whether a controller is told anything.
    has_contract: bool,
    /// What hard outputs show of the station, if it has any.
    panel: Option<Arc<Panel>>,
    inner: Mutex<Inner>,
    /// Held over a commit and its telling, so that results are told in the order of their records.
    commits: Mutex<()>,
    orders: (flume::Sender<Order>, flume::Receiver<Order>),
    watcher: Arc<Watcher>,
    clock: Arc<dyn Clock>,
    store: Store,
    tally: Mutex<Tally>,
    wire: OnceLock<PublisherHandle>,
    expect: OnceLock<Arc<dyn ExpectHandler>>,
}

struct Inner {
    /// The station with each recipe, as the contract counts them.
    recipes: Vec<Arc<Station>>,
    contract: Contract,
    told_state: Option<StateMessage>,
    told_pending: Option<Option<String>>,
    /// Where the reply to the change of recipe under way goes.
    switch_reply: ReplyTo,
}

impl Desk {
    /// The station's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a controller is told anything.
    pub fn has_contract(&self) -> bool {
        self.has_contract
    }

    /// What hard outputs show of the station, if it has any.
    pub fn panel(&self) -> Option<&Arc<Panel>> {
        self.panel.as_ref()
    }

    /// Lets whoever reads a hard output know that this desk is alive: its lock is not held for ever.
    pub fn beat_panel(&self) {
        let _alive = self.lock();
        self.show(|board| board.beat(self.clock.now().monotonic_ns));
    }

    /// The station as it is set up.
    pub fn first(&self) -> Arc<Station> {
        Arc::clone(&self.lock().recipes[0])
    }

    /// From the next part on the station is as `station` says. Parts in hand are finished as they began.
    pub fn adopt(&self, station: &Arc<Station>) {
        let (recipes, now) = (with_each_recipe(station), self.clock.now());
        let mut inner = self.lock();
        let was = inner.contract.active_index();
        let bounds = (station.deadline, station.queue_parts);
        if !inner.contract.adopt(named(&recipes), bounds, &now) {
            telemetry::recipe_gone(&self.name, was);
        }
        inner.recipes = recipes;
        self.tell(&mut inner);
    }

    /// Everything is told over `wire` from now on. The first call counts.
    pub fn connect(&self, wire: PublisherHandle) {
        // Only a second call finds it set.
        let _ = self.wire.set(wire);
    }

    /// `cmd/expect` goes to `handler`. The first call counts.
    pub fn expect_with(&self, handler: Arc<dyn ExpectHandler>) {
        // As above.
        let _ = self.expect.set(handler);
    }

    /// The number of one more job, which is before the camera now, and the station with the active
    /// recipe. `Err`: the recipe is about to change.
    pub fn next_job(&self) -> (u64, Arc<Station>, Result<(), Reason>) {
        let job_id = self.number_part();
        self.show(|board| board.trigger(job_id));
        let (station, changing) = self.active();
        (job_id, station, changing)
    }

    /// The number of one more job, for a part that is still on its way to the camera.
    pub fn number_part(&self) -> u64 {
        self.lock().contract.next_job()
    }

    /// The station with the active recipe. `Err`: it is about to change.
    pub fn active(&self) -> (Arc<Station>, Result<(), Reason>) {
        let inner = self.lock();
        let station = Arc::clone(inner.active());
        let changing = match inner.contract.is_changing() {
            true => Err(Reason::new("recipe_change", "The recipe was about to change.")),
            false => Ok(()),
        };
        (station, changing)
    }

    /// A part that the station found while the line stood is not looked at.
    pub fn ignore(&self) {
        self.show(board::Board::pass_over);
        self.change(|contract, now| contract.ignored(now));
    }

    /// Whether a part that the station found is to be inspected.
    pub fn inspects(&self) -> bool {
        self.lock().contract.inspects()
    }

    /// How many parts are in hand: accepted or sent to the model, and not yet answered.
    pub fn in_hand(&self) -> usize {
        self.lock().contract.in_hand()
    }

    /// Whether the machine makes parts, as far as we were told.
    pub fn is_producing(&self) -> bool {
        self.lock().contract.is_producing()
    }

    /// Makes a change and tells of it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Contract, &Stamp) -> T) -> T {
        let now = self.clock.now();
        let mut inner = self.lock();
        let done = change(&mut inner.contract, &now);
        self.tell(&mut inner);
        done
    }

    /// To be held from before a commit until [`Desk::recorded`] was called.
    pub fn commits(&self) -> MutexGuard<'_, ()> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record `sequence` was written; `payload` tells of it.
    pub fn recorded(&self, inspection: &Inspection, sequence: i64, payload: &[u8]) {
        self.lock_tally().add(inspection);
        self.show(|board| board.record(inspection, self.clock.now().monotonic_ns));
        self.change(|contract, now| contract.result(inspection, sequence, payload, now));
    }

    /// How the camera is now.
    pub fn camera_is(&self, camera: Camera) {
        self.lock_tally().camera = camera;
    }

    /// The station for whoever looks at the daemon.
    pub fn status(&self) -> web::status::Station {
        let (state, tally) = (self.lock().contract.state(), self.lock_tally().clone());
        let word = serde_json::to_value(state.state).ok();
        web::status::Station {
            name: self.name.clone(),
            recipe: state.recipe,
            state: word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
            ready: state.ready,
            fault: state.fault_text.filter(|_| state.fault),
            queue: state.queue,
            queue_places: state.queue_places,
            latency_ms: tally.latency_ms(),
            camera: tally.camera,
            parts: tally.parts,
            last: tally.last,
        }
    }

    fn lock_tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The station with the active recipe.
    fn active(&self) -> &Arc<Station> {
        &self.recipes[self.contract.active()]
    }
}
