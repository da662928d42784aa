//! One station's desk: its contract, shared by the threads, and the wire on which it is told.
//!
//! Every change of the contract is told before the desk is left, so that states, events and replies
//! go out in the order in which they came about.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::recorder::Recorder;
use super::tally::Tally;
use super::watcher::Watcher;
use crate::clock::{Clock, Stamp};
use crate::footage;
use crate::hard::{Panel, board};
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Part};
use crate::plc::contract::Terms;
use crate::plc::deadline::{Key, Told};
use crate::plc::ring::Waiting;
use crate::plc::seen::Entry;
use crate::plc::{
    Acknowledged, Code, CommandName, Contract, ExpectHandler, Job, Options, Outcome, Refusal,
    Reply, Ring, StateMessage, Task, Turn, message,
};
use crate::publish::outgoing::NotTaken;
use crate::publish::topics::Kind;
use crate::publish::{self, PublisherHandle, envelope, inbox};
use crate::station::Station;
use crate::store::{AcceptedTrigger, EventKind, Store, StoreError, events};
use crate::telemetry;
use crate::trigger;
use crate::verdict::Reason;
use crate::web::{self, status::Camera};

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

/// A part that the controller asked for.
pub struct Order {
    /// What it asked for.
    pub job: Job,
    /// When it arrived.
    pub asked: Stamp,
    /// The station with the recipe that was active then.
    pub station: Arc<Station>,
    /// Its place in hand.
    pub hand: Hand,
}

impl Order {
    /// What footage keeps of it.
    pub fn recorded(&self) -> footage::Order {
        let Job { trigger_id, named_part, deadline, .. } = &self.job;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let mut trigger = json!({ "trigger_id": trigger_id, "deadline_ms": deadline_ms });
        if let Some(part) = named_part {
            trigger["part_id"] = json!(part);
        }
        footage::Order { asked: self.asked, trigger }
    }

    /// The part, which has no picture yet, and its place in hand.
    pub fn into_part(self) -> (Part, Hand) {
        let Order { job, asked, station, hand } = self;
        (part(&station, &job, &asked), hand)
    }
}

/// The part that `job` is about.
fn part(station: &Arc<Station>, job: &Job, asked: &Stamp) -> Part {
    Part {
        trigger_id: Some(job.trigger_id.clone()),
        deadline: job.deadline,
        ..Part::new(station, job.job_id, job.part_id.clone(), *asked)
    }
}

/// A part's place in hand: given back when it is dropped.
pub struct Hand {
    desk: Arc<Desk>,
    turn: Arc<Turn>,
    key: Key,
}

/// A part on its way to the model. The part, with its ticket, goes before its place in hand does.
pub struct InHand {
    /// The part.
    pub part: Part,
    /// Its place.
    pub hand: Hand,
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
    /// The desk of `station`, as it was left: its jobs count on, its recipe is active again where that
    /// is agreed, and what was not acknowledged waits.
    pub fn open(
        station: &Arc<Station>,
        store: Store,
        watcher: Arc<Watcher>,
        clock: Arc<dyn Clock>,
    ) -> Result<Desk, StoreError> {
        let recipes = with_each_recipe(station);
        let terms = Terms {
            station: station.name.clone(),
            options: station.plc.clone().unwrap_or_default(),
            triggered_by_command: is_asked_for_parts(station),
            places: station.queue_parts,
            deadline: station.deadline,
            recipes: named(&recipes),
            next_job: next_job(&store, &station.name)?,
        };
        let contract = match &station.plc {
            Some(options) => restore(Contract::new(terms, &clock.now()), options, station, &store)?,
            None => Contract::new(terms, &clock.now()),
        };
        let switch_reply = ReplyTo::default();
        Ok(Desk {
            name: station.name.clone(),
            is_asked_for_parts: is_asked_for_parts(station),
            has_contract: station.plc.is_some(),
            panel: station.outputs.is_any().then(Arc::default),
            inner: Mutex::new(Inner {
                recipes,
                contract,
                told_state: None,
                told_pending: None,
                switch_reply,
            }),
            commits: Mutex::new(()),
            // No more wait than the contract lets be in hand.
            orders: flume::unbounded(),
            watcher,
            clock,
            store,
            tally: Mutex::default(),
            wire: OnceLock::new(),
            expect: OnceLock::new(),
        })
    }

    /// Records what was accepted before the start and never answered: each as `review`.
    pub fn record_cut_off(&self, clerk: &Clerk, recorder: &Recorder) -> Result<(), StoreError> {
        let recipes = self.lock().recipes.clone();
        for (trigger, is_recorded) in self.store.accepted(&self.name)? {
            if is_recorded {
                continue;
            }
            let known = recipes.iter().find(|one| one.recipe_index == trigger.recipe_index);
            // Its moment by the monotonic clock was another boot's, perhaps.
            let triggered = Stamp { wall: trigger.accepted, ..clerk.now() };
            let station = known.unwrap_or(&recipes[0]);
            let text = "The program ended after it had accepted this part and before it answered.";
            let part = Part {
                trigger_id: Some(trigger.trigger_id),
                deadline: Duration::from_millis(trigger.deadline_ms),
                missed: Some(Reason::new("restarted", text)),
                ..Part::new(station, trigger.job_id, trigger.part_id, triggered)
            };
            telemetry::part_missed(&self.name, &part.part_id, text);
            let inspection = clerk.missed(&part, recorder);
            let late = Reason::new("late", "Its deadline, if it was still to come, was not kept.");
            recorder.record(&inspection.into_late(late));
        }
        Ok(())
    }

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

    fn show(&self, change: impl FnOnce(&mut board::Board)) {
        if let Some(panel) = &self.panel {
            panel.update(change);
        }
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
        if !inner.contract.adopt(named(&recipes), station.deadline, &now) {
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

    /// Takes the command `name`, which arrived at `at`.
    pub fn take(
        self: &Arc<Desk>,
        name: &str,
        payload: &[u8],
        retained: bool,
        at: &Stamp,
        to: &ReplyTo,
    ) {
        // A result is acknowledged after it was told, never in between.
        let _commits = self.commits();
        let mut inner = self.lock();
        let Outcome { task, mut reply } = inner.contract.take(name, payload, retained, at);
        match task {
            None => {}
            Some(Task::Inspect(job)) => {
                self.show(|board| board.trigger(job.job_id));
                // Whoever is told that a trigger was accepted gets a result, whatever happens.
                match self.keep_accepted(&inner, &job, at) {
                    Ok(()) => self.order(&inner, job, at),
                    Err(why) => {
                        inner.contract.finish(at);
                        reply = reply.map(|reply| self.not_kept(&mut inner, &why, at, reply));
                    }
                }
            }
            Some(Task::Acknowledged(marks)) => {
                let marks = serde_json::to_string(&marks).expect("numbers have a JSON form");
                if let Err(why) = self.store.keep_acknowledged(&self.name, &marks) {
                    reply = reply.map(|reply| self.not_kept(&mut inner, &why, at, reply));
                }
            }
            Some(Task::SwitchRecipe) => inner.switch_reply = to.clone(),
            Some(Task::Expect) => reply = reply.map(|reply| self.expected(payload, reply)),
        }
        if let Some(reply) = reply {
            let is_trigger = name == CommandName::Trigger.as_str() && self.is_asked_for_parts;
            if is_trigger && !reply.accepted {
                // The part that was not accepted is before the camera all the same.
                self.show(board::Board::pass_over);
            }
            self.answer(&reply, to);
        }
        self.tell(&mut inner);
    }

    fn keep_accepted(&self, inner: &Inner, job: &Job, at: &Stamp) -> Result<(), StoreError> {
        let trigger = AcceptedTrigger {
            job_id: job.job_id,
            trigger_id: job.trigger_id.clone(),
            named_part: job.named_part.clone(),
            part_id: job.part_id.clone(),
            deadline_ms: u64::try_from(job.deadline.as_millis()).unwrap_or(u64::MAX),
            recipe_index: inner.contract.active_index(),
            accepted: at.wall,
        };
        self.store.keep_accepted(&self.name, &trigger)
    }

    /// What a command asks for cannot be kept: a fault, and a refusal in place of its `reply`.
    fn not_kept(&self, inner: &mut Inner, why: &StoreError, at: &Stamp, reply: Reply) -> Reply {
        telemetry::record_failed(&why.to_string());
        inner.contract.record_failed(&why.to_string(), at);
        reply.refused(Refusal::new(Code::NotReady, "the record cannot be written"))
    }

    /// Hands an accepted job to the station's thread, and watches its deadline from now on.
    fn order(self: &Arc<Desk>, inner: &Inner, job: Job, asked: &Stamp) {
        let station = Arc::clone(inner.active());
        let hand = self.hand(&part(&station, &job, asked));
        // Cannot fail: the desk holds the other end, too.
        let _ = self.orders.0.send(Order { job, asked: *asked, station, hand });
    }

    /// A place in hand for a part that the contract counts already.
    fn hand(self: &Arc<Desk>, part: &Part) -> Hand {
        let turn = Arc::new(Turn::default());
        let key = self.watcher.watch(part, &turn);
        self.show(|board| board.begin(shown(part)));
        Hand { desk: Arc::clone(self), turn, key }
    }

    fn expected(&self, payload: &[u8], reply: Reply) -> Reply {
        let handled = match self.expect.get() {
            Some(handler) => handler.expect(&self.name, payload),
            None => {
                let text = "nothing here knows what to expect";
                Err(Refusal::new(Code::NotOffered, text))
            }
        };
        match handled {
            Ok(()) => reply,
            Err(refusal) => reply.refused(refusal),
        }
    }

    /// The orders that wait for the station's thread.
    pub fn orders(&self) -> flume::TryIter<'_, Order> {
        self.orders.1.try_iter()
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

    /// A part that the station found is in hand from now on.
    pub fn begin(self: &Arc<Desk>, part: &Part) -> Hand {
        self.change(|contract, now| contract.begin(now));
        self.hand(part)
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

    /// Tells what has changed since it was told last. Whoever cannot be told now gets the state on
    /// the next connection; events and replies are lost, as their moment is.
    fn tell(&self, inner: &mut Inner) {
        self.show(|board| board.set_status((&inner.contract.state()).into()));
        if !self.has_contract {
            // Nobody is told; what an operator should know is logged where it happens.
            inner.contract.take_events();
            return;
        }
        for event in inner.contract.take_events() {
            telemetry::contract(&self.name, &event);
            self.send(|wire| wire.publish_event(Kind::Event, Some(&self.name), event.payload()));
        }
        if let Some(reply) = inner.contract.take_switched() {
            if reply.accepted
                && let Err(why) = self.keep_recipe(inner)
            {
                // It is active all the same; only a restart would not know.
                telemetry::record_failed(&why.to_string());
            }
            let to = std::mem::take(&mut inner.switch_reply);
            self.answer(&reply, &to);
        }
        if self.wire.get().is_none() {
            return;
        }
        let state = inner.contract.state();
        if inner.told_state.as_ref() != Some(&state) {
            self.send(|wire| wire.publish_state(Kind::State, Some(&self.name), state.payload()));
            inner.told_state = Some(state);
        }
        let Some(oldest) = inner.contract.oldest_pending() else { return };
        let name = oldest.map(|waiting| waiting.result_id.clone());
        if inner.told_pending.as_ref() != Some(&name) {
            let payload = oldest.map_or_else(message::nothing_pending, kept_for_later);
            self.send(|wire| wire.publish_state(Kind::Pending, Some(&self.name), payload));
            inner.told_pending = Some(name);
        }
    }

    /// Keeps which recipe is active now, and that it was changed.
    fn keep_recipe(&self, inner: &Inner) -> Result<(), StoreError> {
        let active = inner.active();
        self.store.keep_recipe(&self.name, active.recipe_index)?;
        let change = events::Recipe {
            station: self.name.clone(),
            index: active.recipe_index,
            recipe: active.recipe.clone(),
            config_sha256: active.config_digest.clone(),
        };
        self.store.append_event(EventKind::Recipe, &change).map(drop)
    }

    fn answer(&self, reply: &Reply, to: &ReplyTo) {
        let (payload, correlation) = (reply.payload(), to.correlation.clone());
        let topics = to.response_topic.iter().chain([&to.topic]).filter(|topic| !topic.is_empty());
        for topic in topics {
            let (topic, payload, correlation) =
                (topic.clone(), payload.clone(), correlation.clone());
            let reply = inbox::Reply { topic, payload, correlation, schema: Kind::Reply.schema() };
            self.send(|wire| wire.reply(reply));
        }
    }

    /// Tells of the heartbeat with this number.
    pub fn beat(&self, counter: u64) {
        let payload = message::heartbeat(&self.name, counter, &self.clock.now());
        self.send(|wire| wire.publish_event(Kind::Heartbeat, Some(&self.name), payload));
    }

    fn send(&self, send: impl FnOnce(&PublisherHandle) -> Result<(), NotTaken>) {
        let Some(wire) = self.wire.get().filter(|_| self.has_contract) else { return };
        match send(wire) {
            Ok(()) | Err(NotTaken::NotConnected) => {}
            Err(why) => telemetry::not_told(&self.name, &why.to_string()),
        }
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

fn is_asked_for_parts(station: &Station) -> bool {
    matches!(station.trigger, trigger::Options::Command(_))
}

/// `station` with each of its recipes.
fn with_each_recipe(station: &Station) -> Vec<Arc<Station>> {
    station.recipes().cloned().map(Arc::new).collect()
}

/// Index and name of each.
fn named(recipes: &[Arc<Station>]) -> Vec<(u32, String)> {
    recipes.iter().map(|recipe| (recipe.recipe_index, recipe.recipe.clone())).collect()
}

/// `part` as hard outputs show it.
fn shown(part: &Part) -> board::Part {
    let length_ns = u64::try_from(part.deadline.as_nanos()).unwrap_or(u64::MAX);
    board::Part {
        job_id: part.job_id,
        trigger_id: part.trigger_id.clone(),
        part_id: part.part_id.clone(),
        deadline_ms: u64::try_from(part.deadline.as_millis()).unwrap_or(u64::MAX),
        deadline_ns: part.triggered.monotonic_ns.saturating_add(length_ns),
    }
}

/// A result as it is kept for whoever missed it: marked, as what comes late is no order to act.
fn kept_for_later(waiting: &Waiting) -> Vec<u8> {
    envelope::seal(&waiting.payload, true).unwrap_or_else(|| waiting.payload.clone())
}

/// The number of the next job: beyond every record, and every trigger that was accepted.
fn next_job(store: &Store, station: &str) -> Result<u64, StoreError> {
    let recorded = store.last_job_id(station)?.unwrap_or(0);
    let accepted = store.accepted(station)?.last().map_or(0, |(trigger, _)| trigger.job_id);
    Ok(recorded.max(accepted) + 1)
}

/// The contract as it was left.
fn restore(
    mut contract: Contract,
    options: &Options,
    station: &Station,
    store: &Store,
) -> Result<Contract, StoreError> {
    let kept = store.contract(&station.name)?;
    if let Some(index) = kept.recipe_index.filter(|_| options.keep_recipe)
        && !contract.start_with(index)
    {
        telemetry::recipe_gone(&station.name, index);
    }
    for (trigger, _) in store.accepted(&station.name)? {
        let AcceptedTrigger { trigger_id, named_part, job_id, .. } = trigger;
        contract.remember(Entry { trigger_id, part_id: named_part, job_id });
    }
    if !options.acknowledge {
        return Ok(contract);
    }
    // Text that is no mark is somebody's who had the file: then everything waits again.
    let kept = kept.acknowledged.map(|text| serde_json::from_str(&text).unwrap_or_default());
    let marks = match kept {
        Some(marks) => marks,
        None => {
            // Nobody has promised to acknowledge what was recorded before.
            let marks = Acknowledged { up_to: store.last_sequence()?, ..Acknowledged::default() };
            let text = serde_json::to_string(&marks).expect("numbers have a JSON form");
            store.keep_acknowledged(&station.name, &text)?;
            marks
        }
    };
    let waiting = store.asked_for_after(&station.name, marks.up_to)?;
    let mut ring = Ring::new(options.ring, marks);
    for (sequence, look) in waiting {
        let payload = publish::message::result(&look).payload;
        let result_id = look.result_id.to_string();
        ring.push(sequence, Waiting { result_id, trigger_id: look.trigger_id, payload });
    }
    Ok(contract.with_ring(ring))
}

impl Hand {
    /// Tells of the part early, unless it was told of before; answers whether it did.
    pub fn record_partial(&self, inspection: &Inspection, recorder: &Recorder) -> bool {
        self.turn.partial(|| {
            recorder.record(inspection);
            inspection.result_id
        })
    }

    /// Records the full answer, as an update of what was told before. `false`: it could not be
    /// written, and the daemon must stop.
    pub fn record(&self, inspection: Inspection, recorder: &Recorder) -> bool {
        self.turn.full(|told| {
            let inspection = match told {
                Told::Nothing | Told::Full => inspection,
                Told::Partial(earlier) => inspection.into_update(earlier),
                Told::Late(earlier) => {
                    let text = "The verdict came after the deadline had been told as missed.";
                    inspection.into_late(Reason::new("late", text)).into_update(earlier)
                }
            };
            recorder.record(&inspection)
        })
    }

    /// The desk that the place belongs to.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.desk.watcher.forget(&self.key);
        self.desk.change(|contract, now| contract.finish(now));
    }
}
