//! What controllers send: commands, and the parts that they ask for.

use std::sync::Arc;

use serde_json::json;

use super::hand::Hand;
use super::{Desk, Inner, ReplyTo};
use crate::clock::Stamp;
use crate::footage;
use crate::hard::board;
use crate::inspector::Part;
use crate::plc::{Code, CommandName, Job, Outcome, Refusal, Reply, Task};
use crate::station::Station;
use crate::store::{AcceptedTrigger, StoreError};
use crate::telemetry;

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

impl Desk {
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
        // Whoever reads the answer finds it on hard outputs, too.
        self.show_status(&inner);
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
}
