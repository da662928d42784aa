//! Commands from the wire to the desks: a bounded queue, and the thread that takes them one by one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use super::desk::{Desk, ReplyTo};
use super::vitals::Pulse;
use crate::clock::{Clock, Stamp};
use crate::plc::command::{Ids, PAYLOAD_MAX_BYTES};
use crate::plc::{Code, Refusal, Reply};
use crate::publish::inbox::{self, Inbox};
use crate::publish::topics::{Kind, Topics};
use crate::publish::transport::Incoming;

/// Commands that may wait for the thread; one more is refused at once.
const QUEUE: usize = 256;

/// Longest topic that is answered, and longest correlation data that is given back, in bytes.
const NAMED_MAX_BYTES: usize = 256;

/// How often a waiting thread looks whether it is to end.
const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Takes commands from the wire, without waiting.
pub struct Commands {
    /// Before this stands nothing of anybody else's.
    root: String,
    topics: Topics,
    /// The desk of each station that takes commands, by what their topics begin with.
    desks: RwLock<HashMap<String, Arc<Desk>>>,
    queue: (flume::Sender<Arrived>, flume::Receiver<Arrived>),
    clock: Arc<dyn Clock>,
    is_closed: AtomicBool,
}

/// A command with the moment of its arrival.
struct Arrived {
    message: Incoming,
    at: Stamp,
}

impl Commands {
    /// The commands of a device with these `topics`, for nobody yet.
    pub fn new(topics: Topics, clock: Arc<dyn Clock>) -> Commands {
        let root = topics.command(None, "");
        let root = root.strip_suffix("cmd/").unwrap_or(&root).to_owned();
        let (desks, queue) = (RwLock::default(), flume::bounded(QUEUE));
        Commands { root, topics, desks, queue, clock, is_closed: AtomicBool::new(false) }
    }

    /// From now on commands are for those of `desks` that have a contract.
    pub fn serve(&self, desks: &[Arc<Desk>]) {
        let beginning = |desk: &Arc<Desk>| {
            let topic = self.topics.command(Some(desk.name()), "");
            (topic, Arc::clone(desk))
        };
        let served = desks.iter().filter(|desk| desk.has_contract()).map(beginning).collect();
        *self.desks.write().unwrap_or_else(PoisonError::into_inner) = served;
    }

    /// Ends [`Commands::run`].
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Hands commands to their desks, one by one, and lets the desks' heartbeats be heard: they say
    /// that commands are taken.
    pub fn run(&self, pulse: &Pulse) {
        let mut beating: Vec<Beating> = Vec::new();
        while !self.is_closed.load(Ordering::SeqCst) {
            pulse.beat();
            self.keep_beating(&mut beating);
            let now = Instant::now();
            beating.iter_mut().for_each(|one| one.beat(now));
            let next = beating.iter().map(|one| one.due).min();
            let wait = next.map_or(LOOK_AROUND, |due| due.saturating_duration_since(now));
            if let Ok(arrived) = self.queue.1.recv_timeout(wait.min(LOOK_AROUND)) {
                self.hand_over(&arrived);
            }
        }
    }

    /// Lets those beat, and no others, that are served now.
    fn keep_beating(&self, beating: &mut Vec<Beating>) {
        let desks = self.desks();
        beating.retain(|one| desks.values().any(|desk| Arc::ptr_eq(desk, &one.desk)));
        for desk in desks.values() {
            if beating.iter().any(|one| Arc::ptr_eq(desk, &one.desk)) {
                continue;
            }
            if let Some(every) = desk.first().plc.as_ref().map(|plc| plc.heartbeat) {
                let (desk, due) = (Arc::clone(desk), Instant::now());
                beating.push(Beating { desk, every, due, counter: 0 });
            }
        }
    }

    fn desks(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<Desk>>> {
        self.desks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, arrived: &Arrived) {
        let Arrived { message, at } = arrived;
        let Some((desk, name)) = self.find(&message.topic) else { return };
        let to = ReplyTo {
            topic: format!("{}/reply", message.topic),
            response_topic: message.response_topic.clone().filter(|topic| self.may_answer(topic)),
            correlation: message.correlation.clone().filter(|it| it.len() <= NAMED_MAX_BYTES),
        };
        desk.take(name, &message.payload, message.retain, at, &to);
    }

    fn find<'t>(&self, topic: &'t str) -> Option<(Arc<Desk>, &'t str)> {
        let (beginning, name) = topic.split_at(topic.rfind('/')? + 1);
        self.desks().get(beginning).map(|desk| (Arc::clone(desk), name))
    }

    /// Whether an answer may go to a topic that the sender named: it must be one, and none of ours,
    /// or a stranger could speak in our name or make us answer ourselves.
    fn may_answer(&self, topic: &str) -> bool {
        let is_topic = !topic.is_empty()
            && topic.len() <= NAMED_MAX_BYTES
            && !topic.contains(|c: char| matches!(c, '+' | '#') || c.is_control());
        is_topic && !topic.starts_with(&self.root)
    }
}

impl Inbox for Commands {
    fn filters(&self) -> Vec<String> {
        self.desks().keys().map(|beginning| format!("{beginning}+")).collect()
    }

    fn take(&self, mut message: Incoming) -> Option<inbox::Reply> {
        // Enough to see that it is too long; what waits here must not be large.
        message.payload.truncate(PAYLOAD_MAX_BYTES + 1);
        let arrived = Arrived { message, at: self.clock.now() };
        let Arrived { message, .. } = self.queue.0.try_send(arrived).err()?.into_inner();
        let refusal = Refusal::new(Code::RateLimited, "too many commands wait already");
        let name = message.topic.rsplit('/').next().unwrap_or_default();
        let payload = Reply::refuse(name, Ids::of(&message.payload), refusal).payload();
        let topic = format!("{}/reply", message.topic);
        let correlation = message.correlation;
        Some(inbox::Reply { topic, payload, correlation, schema: Kind::Reply.schema() })
    }
}

/// One desk's heartbeat.
struct Beating {
    desk: Arc<Desk>,
    every: Duration,
    due: Instant,
    counter: u64,
}

impl Beating {
    fn beat(&mut self, now: Instant) {
        if now >= self.due {
            self.counter += 1;
            self.desk.beat(self.counter);
            // Beats that were slept through are not made up for.
            self.due = now + self.every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_topics_of_others_only() {
        let topics = Topics::new("acme", "dev7").expect("they can be");
        let commands = Commands::new(topics, Arc::new(crate::clock::SystemClock));
        for good in ["plc/answers/7", "acme/dev8/s1/cmd/trigger"] {
            assert!(commands.may_answer(good), "{good}");
        }
        let long = "x".repeat(257);
        for bad in
            ["", "a/+", "#", "a\u{0}", "acme/dev7/s1/cmd/trigger", "acme/dev7/s1/result", &long]
        {
            assert!(!commands.may_answer(bad), "{bad}");
        }
    }
}
