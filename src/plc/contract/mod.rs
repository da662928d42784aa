//! One station's side of the contract: what becomes of each command, and what is true meanwhile.
//!
//! What always holds:
//!
//! 1. Each command has exactly one reply. A change of recipe may have it later.
//! 2. A trigger that is accepted is one [`Job`], once, however often its message arrives.
//! 3. While a recipe changes no job begins, and it changes only while none is in hand.
//! 4. With a ring, a job begins only if its first result has a place.

mod conditions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Options;
use super::command::{self, Command, CommandName, Ids, Trigger};
use super::message::{Event, EventName, Fault, Reply, StateMessage};
use super::packml::LineState;
use super::rate::Bucket;
use super::refusal::{Code, Refusal};
use super::ring::{Acknowledged, Ring};
use super::seen::{Accepted, Entry, Known};
use super::state::Machine;
use crate::clock::Stamp;
use crate::inspection::ForeignId;

/// Parts in a row on which the model must fail for a fault.
pub const MODEL_FAILURES: u32 = 3;

/// Events that wait to be fetched; more are dropped, the oldest first.
const EVENTS_MAX: usize = 256;

/// What a station brings to its contract.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The station's name.
    pub station: String,
    /// What was agreed on.
    pub options: Options,
    /// Whether parts are asked for by command; else the station finds them.
    pub triggered_by_command: bool,
    /// Parts that may be in hand.
    pub places: usize,
    /// From the trigger to the verdict, where the trigger does not say.
    pub deadline: Duration,
    /// Index and name of each recipe, the first one first; at least one.
    pub recipes: Vec<(u32, String)>,
    /// The number of the next job.
    pub next_job: u64,
}

/// One look that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub job_id: u64,
    /// What the controller called its trigger.
    pub trigger_id: ForeignId,
    /// The part.
    pub part_id: String,
    /// The part as the controller named it, if it did.
    pub named_part: Option<String>,
    /// From its arrival to the verdict.
    pub deadline: Duration,
}

/// What is to be done because of a command, before its reply goes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Look at a part.
    Inspect(Job),
    /// Keep how far results were acknowledged.
    Acknowledged(Acknowledged),
    /// Hand the payload to whoever knows what to expect.
    Expect,
    /// The recipe of this index becomes active once no part is in hand; see
    /// [`Contract::take_switched`].
    SwitchRecipe,
}

/// What becomes of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What is to be done.
    pub task: Option<Task>,
    /// What is to be answered; `None`: later.
    pub reply: Option<Reply>,
}

/// A change of recipe under way.
#[derive(Clone, Debug)]
struct Switch {
    to: usize,
    ids: Ids,
}

/// A station's side of the contract.
#[derive(Debug)]
pub struct Contract {
    terms: Terms,
    machine: Machine,
    bucket: Bucket,
    accepted: Accepted,
    ring: Option<Ring>,
    faults: BTreeMap<Fault, String>,
    /// Why the camera delivers nothing, if it does not.
    camera_lost: Option<String>,
    line: Option<LineState>,
    active: usize,
    switch: Option<Switch>,
    switched: Option<Reply>,
    in_hand: usize,
    failures: u32,
    started: bool,
    halted: bool,
    since: String,
    events: Vec<Event>,
}

impl Contract {
    /// A contract in the state `Preoperational`.
    pub fn new(terms: Terms, now: &Stamp) -> Contract {
        assert!(!terms.recipes.is_empty(), "a station has a recipe");
        let options = &terms.options;
        let rate = options.commands_per_s;
        Contract {
            machine: Machine::default(),
            bucket: Bucket::new(rate, rate.saturating_mul(2)),
            accepted: Accepted::default(),
            ring: None,
            faults: BTreeMap::new(),
            camera_lost: None,
            line: None,
            active: 0,
            switch: None,
            switched: None,
            in_hand: 0,
            failures: 0,
            started: false,
            halted: false,
            since: super::message::time_text(now),
            events: Vec::new(),
            terms,
        }
    }

    /// How many parts are in hand.
    pub fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// The ring, with what waited before.
    pub fn with_ring(mut self, ring: Ring) -> Contract {
        self.ring = Some(ring);
        self
    }

    /// The recipe that is active from the start on. `false`: there is none of this index.
    pub fn start_with(&mut self, index: u32) -> bool {
        let found = self.terms.recipes.iter().position(|(known, _)| *known == index);
        self.active = found.unwrap_or(self.active);
        found.is_some()
    }

    /// Remembers a trigger that was accepted before the start.
    pub fn remember(&mut self, entry: Entry) {
        self.accepted.remember(entry);
    }

    /// Takes the command `name` with its `payload`, which the broker had kept (`retained`) or not.
    pub fn take(&mut self, name: &str, payload: &[u8], retained: bool, now: &Stamp) -> Outcome {
        let ids = Ids::of(payload);
        let taken = self
            .admit(name, payload, retained, now)
            .and_then(|(name, command)| self.carry_out(name, command, &ids, now));
        self.settle(now);
        taken.unwrap_or_else(|refusal| {
            // A flood is answered, and told nobody else: it would drown what they wait for.
            if refusal.code != Code::RateLimited {
                self.tell(EventName::CommandRefused, now, |event| {
                    event.trigger_id = ids.trigger_id.clone();
                    event.part_id = ids.part_id.clone();
                    event.reason = Some(refusal.code.as_str().to_owned());
                    event.text = refusal.text.clone();
                });
            }
            Outcome { task: None, reply: Some(Reply::refuse(name, ids, refusal)) }
        })
    }

    /// What can be said of a command before anything is known of the station.
    fn admit(
        &mut self,
        name: &str,
        payload: &[u8],
        retained: bool,
        now: &Stamp,
    ) -> Result<(CommandName, Command), Refusal> {
        if !self.bucket.take(now.monotonic_ns) {
            let text = format!("{} commands a second at most", self.terms.options.commands_per_s);
            return Err(Refusal::new(Code::RateLimited, text));
        }
        let Some(known) = CommandName::of(name) else {
            return Err(Refusal::new(Code::UnknownCommand, "there is no such command"));
        };
        if retained {
            let text = "send commands without the retain flag, and clear this topic";
            return Err(Refusal::new(Code::Retained, text));
        }
        Ok((known, command::parse(known, payload)?))
    }

    fn carry_out(
        &mut self,
        name: CommandName,
        command: Command,
        ids: &Ids,
        now: &Stamp,
    ) -> Result<Outcome, Refusal> {
        let reply = Reply::accept(name, ids.clone());
        let done = |task| Ok(Outcome { task, reply: Some(reply.clone()) });
        match command {
            Command::Trigger(trigger) => self.trigger(trigger, reply, now),
            Command::Recipe(index) => self.recipe(index, ids, reply, now),
            Command::Ack(ack) => {
                let Some(ring) = &mut self.ring else {
                    let text = "this station does not wait for acknowledgements";
                    return Err(Refusal::new(Code::NotOffered, text));
                };
                let marks = ring.acknowledge(&ack)?.clone();
                self.tell(EventName::ResultAcknowledged, now, |event| match ack {
                    command::Ack::Result(result_id) => event.result_id = Some(result_id),
                    command::Ack::Trigger(trigger_id) => event.trigger_id = Some(trigger_id),
                });
                done(Some(Task::Acknowledged(marks)))
            }
            Command::Reset => {
                self.reset(now);
                done(None)
            }
            Command::Line(state) => {
                self.line_state(state, now);
                done(None)
            }
            Command::Expect => done(Some(Task::Expect)),
        }
    }

    fn trigger(
        &mut self,
        trigger: Trigger,
        mut reply: Reply,
        now: &Stamp,
    ) -> Result<Outcome, Refusal> {
        if !self.terms.triggered_by_command {
            let text = "this station finds its parts itself: its trigger is not of kind command";
            return Err(Refusal::new(Code::NotOffered, text));
        }
        match self.accepted.know(&trigger.trigger_id, trigger.part_id.as_deref()) {
            Known::Same(job_id) => {
                reply.job_id = Some(job_id);
                reply.duplicate = true;
                return Ok(Outcome { task: None, reply: Some(reply) });
            }
            Known::Other => {
                let text = "this trigger_id was accepted for another part a short while ago";
                return Err(Refusal::new(Code::Duplicate, text));
            }
            Known::New => {}
        }
        let deadline = trigger.deadline_ms.map_or(self.terms.deadline, Duration::from_millis);
        if trigger.sent_at.is_some_and(|sent| age(now, sent) > deadline) {
            let text = "it was sent longer ago than its deadline, by our clock";
            return Err(Refusal::new(Code::Stale, text));
        }
        if let Some(refusal) = self.not_ready() {
            return Err(refusal);
        }
        let job_id = self.next_job();
        let part_id = trigger.part_id.clone().unwrap_or_else(|| format!("{job_id:06}"));
        let Trigger { trigger_id, part_id: named, .. } = trigger;
        let entry = Entry { trigger_id: trigger_id.clone(), part_id: named.clone(), job_id };
        self.accepted.remember(entry);
        self.in_hand += 1;
        self.tell(EventName::JobStarted, now, |event| {
            event.trigger_id = Some(trigger_id.clone());
            event.part_id = Some(part_id.clone());
            event.job_id = Some(job_id);
        });
        reply.job_id = Some(job_id);
        let task = Task::Inspect(Job { job_id, trigger_id, part_id, named_part: named, deadline });
        Ok(Outcome { task: Some(task), reply: Some(reply) })
    }

    fn recipe(
        &mut self,
        index: u32,
        ids: &Ids,
        mut reply: Reply,
        now: &Stamp,
    ) -> Result<Outcome, Refusal> {
        let Some(to) = self.terms.recipes.iter().position(|(known, _)| *known == index) else {
            let known: Vec<String> =
                self.terms.recipes.iter().map(|(index, _)| index.to_string()).collect();
            let text = format!("there is no recipe {index}; there are {}", known.join(", "));
            return Err(Refusal::new(Code::UnknownRecipe, text));
        };
        if self.switch.is_some() {
            return Err(Refusal::new(Code::Busy, "another change of recipe is under way"));
        }
        if to == self.active {
            reply.recipe_index = Some(index);
            return Ok(Outcome { task: None, reply: Some(reply) });
        }
        self.switch = Some(Switch { to, ids: ids.clone() });
        self.settle(now);
        Ok(Outcome { task: Some(Task::SwitchRecipe), reply: None })
    }

    /// The number of one more job, for a part that the station found itself.
    pub fn next_job(&mut self) -> u64 {
        let job_id = self.terms.next_job;
        self.terms.next_job += 1;
        job_id
    }

    /// A part that the station found itself is in hand.
    pub fn begin(&mut self, now: &Stamp) {
        self.in_hand += 1;
        self.settle(now);
    }

    /// A part is no longer in hand.
    pub fn finish(&mut self, now: &Stamp) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.settle(now);
    }

    /// The reply to a change of recipe that has happened since it was asked for last.
    pub fn take_switched(&mut self) -> Option<Reply> {
        self.switched.take()
    }

    /// Other recipes, another deadline and other `places` hold from now on. The active recipe stays active by its index;
    /// `false`: it is gone, and the first one is active. A change of recipe that is under way goes on, or
    /// is refused if its recipe is gone.
    pub fn adopt(
        &mut self,
        recipes: Vec<(u32, String)>,
        (deadline, places): (Duration, usize),
        now: &Stamp,
    ) -> bool {
        assert!(!recipes.is_empty(), "a station has a recipe");
        let place = |old: usize, terms: &Terms| {
            let index = terms.recipes[old].0;
            recipes.iter().position(|(known, _)| *known == index)
        };
        let active = place(self.active, &self.terms);
        if let Some(switch) = self.switch.take() {
            match place(switch.to, &self.terms) {
                Some(to) => self.switch = Some(Switch { to, ..switch }),
                None => {
                    let text = "a new configuration has no such recipe any more";
                    let reply = Reply::accept(CommandName::Recipe, switch.ids);
                    self.switched = Some(reply.refused(Refusal::new(Code::UnknownRecipe, text)));
                }
            }
        }
        self.active = active.unwrap_or(0);
        self.terms = Terms { recipes, deadline, places, ..self.terms.clone() };
        self.settle(now);
        active.is_some()
    }

    /// Which recipe is active, by its place in the list.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Which recipe is active, by its index.
    pub fn active_index(&self) -> u32 {
        self.terms.recipes[self.active].0
    }

    /// What happened since it was asked for last.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What the station is doing.
    pub fn state(&self) -> StateMessage {
        let not_ready = self.not_ready();
        let fault = self.faults.iter().next();
        let (index, name) = &self.terms.recipes[self.active];
        StateMessage {
            schema_version: super::message::VERSION,
            state: self.machine.state(),
            ready: not_ready.is_none(),
            busy: self.in_hand > 0,
            fault: fault.is_some(),
            fault_reason: fault.map(|(fault, _)| *fault),
            fault_text: fault.map(|(_, text)| text.clone()),
            not_ready_reason: not_ready.map(|refusal| refusal.code),
            recipe: name.clone(),
            recipe_index: *index,
            mode: if self.terms.triggered_by_command { "single" } else { "continuous" },
            queue: self.in_hand,
            queue_places: self.terms.places,
            pending_acks: self.ring.as_ref().map_or(0, Ring::len),
            line_state: self.line,
            camera_lost: self.camera_lost.is_some(),
            since: self.since.clone(),
            station: self.terms.station.clone(),
        }
    }

    /// Notes an event, which `fill` completes.
    fn tell(&mut self, name: EventName, now: &Stamp, fill: impl FnOnce(&mut Event)) {
        let mut event = Event::new(name, &self.terms.station, now);
        fill(&mut event);
        if self.events.len() == EVENTS_MAX {
            self.events.remove(0);
        }
        self.events.push(event);
    }
}

/// How long ago `sent` was; zero if it is in the future.
fn age(now: &Stamp, sent: jiff::Timestamp) -> Duration {
    Duration::try_from(now.wall.duration_since(sent)).unwrap_or_default()
}
