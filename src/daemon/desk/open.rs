//! A desk as it was left: jobs count on, and what was not answered or acknowledged is known.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::{Desk, Inner, ReplyTo};
use crate::clock::{Clock, Stamp};
use crate::daemon::recorder::Recorder;
use crate::daemon::watcher::Watcher;
use crate::inspector::{Clerk, Part};
use crate::plc::contract::Terms;
use crate::plc::ring::Waiting;
use crate::plc::seen::Entry;
use crate::plc::{Acknowledged, Contract, Options, Ring};
use crate::publish;
use crate::station::Station;
use crate::store::{AcceptedTrigger, Store, StoreError};
use crate::telemetry;
use crate::trigger;
use crate::verdict::Reason;

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

    /// Takes parts from now on. What was accepted before and never answered is recorded first.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn begin_work(&self, clerk: &Clerk, recorder: &Recorder) -> Result<(), StoreError> {
        let recorded = self.record_cut_off(clerk, recorder);
        self.change(|contract, now| contract.start(now));
        recorded
    }

    /// Records what was accepted before the start and never answered: each as `review`.
    fn record_cut_off(&self, clerk: &Clerk, recorder: &Recorder) -> Result<(), StoreError> {
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
}

pub(super) fn is_asked_for_parts(station: &Station) -> bool {
    matches!(station.trigger, trigger::Options::Command(_))
}

/// `station` with each of its recipes.
pub(super) fn with_each_recipe(station: &Station) -> Vec<Arc<Station>> {
    station.recipes().cloned().map(Arc::new).collect()
}

/// Index and name of each.
pub(super) fn named(recipes: &[Arc<Station>]) -> Vec<(u32, String)> {
    recipes.iter().map(|recipe| (recipe.recipe_index, recipe.recipe.clone())).collect()
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
