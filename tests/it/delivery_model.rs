//! Delivery over a made-up transport that fails wherever a network can: before a message arrived,
//! after it arrived, before and after its acknowledgement. Whatever it does, every message arrives,
//! first copies arrive in order within what is live and
//! within what is late, and none is marked sent that was not acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::publish::deliveries::Hearers;
use inspectd::publish::envelope;
use inspectd::publish::transport::{
    Connection, Dial, DialOptions, Event, Limits, Packet, Refused, Token,
};
use inspectd::publish::{PublishOptions, Publisher};
use inspectd::store::{OutboxMessage, TopicKind};
use proptest::prelude::*;
use tempfile::tempdir;
use tokio::sync::mpsc;

use crate::support::mosquitto::DEADLINE;
use crate::support::records::{DEVICE, clock, inspection, open};

const INFLIGHT: u16 = 4;

/// What becomes of one message.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It arrives and is acknowledged.
    Arrives,
    /// It arrives; the acknowledgement comes with that of the next message.
    ArrivesSlowly,
    /// It arrives; the connection breaks before the acknowledgement.
    BreaksAfter,
    /// The connection breaks before it arrives.
    BreaksBefore,
    /// The connection breaks after the acknowledgement was sent.
    BreaksAfterAcknowledgement,
    /// It is not even taken.
    Refused,
}

/// The other end, over all connections.
#[derive(Default)]
struct FakeBroker {
    fates: VecDeque<Fate>,
    /// Payloads of results, as they arrived.
    arrived: Vec<Vec<u8>>,
    acknowledged: BTreeSet<Vec<u8>>,
    most_under_way: usize,
}

#[derive(Clone)]
struct FakeDial(Arc<Mutex<FakeBroker>>);

struct FakeConnection {
    broker: Arc<Mutex<FakeBroker>>,
    report: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Arrived, and not yet acknowledged.
    waiting: Vec<(Token, Packet)>,
    next: Token,
    broken: bool,
}

impl Dial for FakeDial {
    type Connection = FakeConnection;

    fn dial(&self, _: &DialOptions) -> FakeConnection {
        let (report, events) = mpsc::unbounded_channel();
        let mut connection = FakeConnection {
            broker: Arc::clone(&self.0),
            report,
            events,
            waiting: Vec::new(),
            next: 0,
            broken: false,
        };
        // A connection may fail before the greeting as well.
        let mut broker = self.0.lock().expect("no panic");
        let refused = matches!(broker.fates.front(), Some(Fate::Refused));
        if refused {
            broker.fates.pop_front();
        }
        drop(broker);
        match refused {
            true => connection.break_off(),
            false => connection.tell(Event::Connected(Limits::default())),
        }
        connection
    }
}

impl FakeConnection {
    fn tell(&self, event: Event) {
        self.report.send(event).expect("we hold the other end");
    }

    fn break_off(&mut self) {
        self.broken = true;
        self.waiting.clear();
        self.tell(Event::Closed("broken by the test".to_owned()));
    }

    fn arrive(&mut self, token: Token, packet: Packet) {
        let mut broker = self.broker.lock().expect("no panic");
        if packet.topic.ends_with("/result") {
            broker.arrived.push(packet.payload.clone());
        }
        self.waiting.push((token, packet));
        broker.most_under_way = broker.most_under_way.max(self.waiting.len());
    }

    fn acknowledge_all(&mut self) {
        for (token, packet) in std::mem::take(&mut self.waiting) {
            if packet.topic.ends_with("/result") {
                self.broker.lock().expect("no panic").acknowledged.insert(packet.payload);
            }
            self.tell(Event::Acknowledged(token));
        }
    }
}

impl Connection for FakeConnection {
    fn subscribe(&mut self, _: &[String]) -> Result<(), Refused> {
        self.tell(Event::Subscribed(Vec::new()));
        Ok(())
    }

    fn try_publish(&mut self, packet: Packet) -> Result<Token, Refused> {
        if self.broken {
            return Err(Refused);
        }
        self.next += 1;
        let fate = self.broker.lock().expect("no panic").fates.pop_front();
        let fate = fate.unwrap_or(Fate::Arrives);
        match fate {
            Fate::Refused => {
                self.break_off();
                return Err(Refused);
            }
            Fate::BreaksBefore => {}
            _ => self.arrive(self.next, packet),
        }
        match fate {
            // A window full of slow ones would never be acknowledged by a next one.
            Fate::ArrivesSlowly if self.waiting.len() < usize::from(INFLIGHT) => {}
            Fate::Arrives | Fate::ArrivesSlowly => self.acknowledge_all(),
            Fate::BreaksAfterAcknowledgement => {
                self.acknowledge_all();
                self.break_off();
            }
            _ => self.break_off(),
        }
        Ok(self.next)
    }

    async fn next(&mut self) -> Event {
        // The last slow ones are acknowledged once the sender has nothing more to say.
        if self.events.is_empty() && !self.waiting.is_empty() {
            self.acknowledge_all();
        }
        self.events.recv().await.expect("we hold the other end")
    }

    fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    async fn close(self) {}
}

/// Delivers `late` messages that were committed before the publisher began, and `live` ones after;
/// `yields`: it has a turn after each of these.
async fn deliver(fates: Vec<Fate>, late: u64, live: u64, yields: bool) -> Arc<Mutex<FakeBroker>> {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let broker = Arc::new(Mutex::new(FakeBroker { fates: fates.into(), ..Default::default() }));
    let mut options = PublishOptions::new("nowhere", 1883, DEVICE, &["left".to_owned()]);
    options.inflight = INFLIGHT;
    options.backoff_min = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(2);
    options.backlog_per_s = 10_000;
    options.live_for = Duration::from_secs(3600);
    let commit = |job_id: u64| {
        let payload = format!("{{\"job_id\":{job_id}}}").into_bytes();
        let message = OutboxMessage { kind: TopicKind::Result, payload };
        store.commit(&inspection("left", job_id), &[message]).expect("a commit");
    };
    (1..=late).for_each(commit);
    let dial = FakeDial(Arc::clone(&broker));
    let publisher =
        Publisher::spawn_over(dial, options, store.clone(), clock(), Hearers::default());
    let publisher = publisher.expect("good options");
    for job_id in late + 1..=late + live {
        commit(job_id);
        publisher.wake();
        if yields {
            tokio::task::yield_now().await;
        }
    }
    let drained = publisher.drain_and_stop(DEADLINE).await;
    assert_eq!(drained.unsent, 0, "all were delivered within the deadline");
    broker
}

/// First copies in the order in which they came, each with its mark.
fn first_copies(broker: &FakeBroker) -> Vec<(u64, bool)> {
    let mut first: Vec<(u64, bool)> = Vec::new();
    for payload in &broker.arrived {
        let sent: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
        let job_id = sent["job_id"].as_u64().expect("a number");
        let replayed = sent["replayed"].as_bool().expect("a mark");
        // What is around the row's bytes is the mark and nothing else.
        let row = envelope::open(payload).expect("sealed");
        assert_eq!(row, format!("{{\"job_id\":{job_id}}}").into_bytes());
        match first.iter().find(|(known, _)| *known == job_id) {
            Some((_, before)) => assert_eq!(*before, replayed, "no row grew old meanwhile"),
            None => first.push((job_id, replayed)),
        }
    }
    first
}

async fn every_message_arrives(fates: Vec<Fate>, late: u64, live: u64) {
    let broker = deliver(fates, late, live, true).await;
    let broker = broker.lock().expect("no panic");
    let first = first_copies(&broker);
    let of = |replayed: bool| -> Vec<u64> {
        first.iter().filter(|(_, mark)| *mark == replayed).map(|(job_id, _)| *job_id).collect()
    };
    assert_eq!(of(true), (1..=late).collect::<Vec<_>>(), "the backlog arrived, in order");
    assert_eq!(of(false), (late + 1..=late + live).collect::<Vec<_>>(), "what is live, in order");
    let arrived: BTreeSet<Vec<u8>> = broker.arrived.iter().cloned().collect();
    assert_eq!(broker.acknowledged, arrived, "sent means acknowledged");
    assert!(broker.most_under_way <= usize::from(INFLIGHT), "{}", broker.most_under_way);
}

#[test]
fn neither_live_results_nor_backlog_starve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // All is committed before the publisher has its first turn: 40 wait, and 100 are live.
    let broker = runtime.expect("a runtime").block_on(deliver(Vec::new(), 40, 100, false));
    let broker = broker.lock().expect("no panic");
    let first = first_copies(&broker);
    assert!(!first[0].1, "what is live goes first");
    let last_live = first.iter().rposition(|(_, replayed)| !replayed).expect("100 of them");
    let passed = first[..last_live].iter().filter(|(_, replayed)| *replayed).count();
    // One after every eight.
    assert!((11..=13).contains(&passed), "{passed} late ones went before the last live one");
    let run = first[..last_live].split(|(_, replayed)| *replayed).map(<[_]>::len).max();
    assert!(run <= Some(8), "a run of {run:?} live ones while late ones waited");
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => Just(Fate::Arrives),
        3 => Just(Fate::ArrivesSlowly),
        1 => Just(Fate::BreaksAfter),
        1 => Just(Fate::BreaksBefore),
        1 => Just(Fate::BreaksAfterAcknowledgement),
        1 => Just(Fate::Refused),
    ];
    prop::collection::vec(fate, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_message_arrives_over_a_line_that_breaks(
        fates in fates(),
        late in 0..12u64,
        live in 0..16u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(every_message_arrives(fates, late, live));
    }
}
