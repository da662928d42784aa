//! Delivery over a made-up transport that fails wherever a network can: before a message arrived,
//! after it arrived, before and after its acknowledgement. Whatever it does, every message arrives,
//! first copies arrive in order, and none is marked sent that was not acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

async fn deliver(fates: Vec<Fate>, messages: u64) {
    let dir = tempdir().expect("a folder");
    let store = open(dir.path());
    let broker = Arc::new(Mutex::new(FakeBroker { fates: fates.into(), ..Default::default() }));
    let mut options = PublishOptions::new("nowhere", 1883, DEVICE, &["left".to_owned()]);
    options.inflight = INFLIGHT;
    options.backoff_min = Duration::from_millis(1);
    options.backoff_max = Duration::from_millis(2);
    let dial = FakeDial(Arc::clone(&broker));
    let publisher =
        Publisher::spawn_over(dial, options, store.clone(), clock(), None).expect("good options");
    let mut payloads = Vec::new();
    for job_id in 1..=messages {
        let payload = format!("{{\"job_id\":{job_id}}}").into_bytes();
        let message = OutboxMessage { kind: TopicKind::Result, payload: payload.clone() };
        store.commit(&inspection("left", job_id), &[message]).expect("a commit");
        publisher.wake();
        payloads.push(payload);
        tokio::task::yield_now().await;
    }
    let drained = publisher.drain_and_stop(DEADLINE).await;
    assert_eq!(drained.unsent, 0, "all were delivered within the deadline");

    let broker = broker.lock().expect("no panic");
    let mut first = Vec::new();
    for payload in &broker.arrived {
        if !first.contains(payload) {
            first.push(payload.clone());
        }
    }
    assert_eq!(first, payloads, "each arrived, first copies in order");
    assert_eq!(broker.acknowledged, payloads.into_iter().collect(), "sent means acknowledged");
    assert!(broker.most_under_way <= usize::from(INFLIGHT), "{}", broker.most_under_way);
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
    fn every_message_arrives_over_a_line_that_breaks(fates in fates(), messages in 0..20u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(deliver(fates, messages));
    }
}
