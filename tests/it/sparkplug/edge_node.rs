//! Ids, and what the edge node does over a transport that the test holds in its hands.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::publish::PublishOptions;
use inspectd::publish::transport::{
    Connection, Dial, DialOptions, Event, Incoming, Limits, Packet, Refused, Token,
};
use inspectd::sparkplug::{EdgeHandle, EdgeNode, SparkplugOptions};
use inspectd::store::Store;
use srad_types::payload::metric::Value;
use srad_types::payload::{Message, Metric, Payload};
use tempfile::{TempDir, tempdir};
use tokio::sync::{Notify, mpsc};

use super::recording::bd_seq;
use crate::support::edge::{GROUP, NODE, topic};
use crate::support::mosquitto::DEADLINE;
use crate::support::records::{clock, inspection, open};

fn refused(change: impl FnOnce(&mut SparkplugOptions)) {
    let mut options =
        SparkplugOptions::new(GROUP, NODE, &["left".to_owned()], &PathBuf::from("x.db"));
    assert_eq!(options.check(), Ok(()));
    change(&mut options);
    assert!(options.check().is_err(), "{options:?}");
}

fn foreign_ids(change: fn(&mut SparkplugOptions, &str)) {
    for bad in ["", "a/b", "a+", "#", "a\n", "a\u{0}"] {
        refused(|options| change(options, bad));
    }
}

#[test]
fn tck_id_topic_structure_namespace_valid_group_id() {
    foreign_ids(|options, bad| options.group_id = bad.into());
}

#[test]
fn tck_id_topic_structure_namespace_valid_edge_node_id() {
    foreign_ids(|options, bad| options.edge_node_id = bad.into());
}

#[test]
fn tck_id_topic_structure_namespace_valid_device_id() {
    foreign_ids(|options, bad| options.stations = vec![bad.into()]);
}

#[test]
fn tck_id_intro_group_id_chars() {
    foreign_ids(|options, bad| options.group_id = bad.into());
}

#[test]
fn tck_id_intro_edge_node_id_chars() {
    foreign_ids(|options, bad| options.edge_node_id = bad.into());
}

#[test]
fn tck_id_intro_device_id_chars() {
    foreign_ids(|options, bad| options.stations = vec![bad.into()]);
}

#[test]
fn tck_id_case_sensitivity_sparkplug_ids() {
    refused(|options| options.stations = vec!["left".into(), "Left".into()]);
}

/// What a hand-held connection does with what it is given.
#[derive(Default)]
struct Hands {
    dialled: Vec<DialOptions>,
    /// Topics that were asked for on a connection that stood.
    asked: Vec<Vec<String>>,
    /// What stood in the file of numbers when it was dialled.
    kept: Vec<String>,
    /// All that was taken, over all connections.
    taken: Vec<(usize, Packet)>,
    /// Messages are taken, and do not leave.
    holds: bool,
    /// So many more messages are taken; then the connection refuses and is gone.
    until_refusal: Option<usize>,
    report: Option<mpsc::UnboundedSender<Event>>,
    held: VecDeque<Token>,
}

#[derive(Clone)]
struct HeldDial {
    hands: Arc<Mutex<Hands>>,
    moved: Arc<Notify>,
    kept_path: PathBuf,
}

struct Held {
    dial: HeldDial,
    number: usize,
    report: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    next: Token,
}

impl Dial for HeldDial {
    type Connection = Held;

    fn dial(&self, options: &DialOptions) -> Held {
        let (report, events) = mpsc::unbounded_channel();
        let mut hands = self.hands.lock().expect("no panic");
        hands.kept.push(std::fs::read_to_string(&self.kept_path).unwrap_or_default());
        hands.dialled.push(options.clone());
        hands.report = Some(report.clone());
        hands.held.clear();
        let number = hands.dialled.len() - 1;
        report.send(Event::Connected(Limits::default())).expect("we hold the other end");
        report.send(Event::Subscribed(Vec::new())).expect("we hold the other end");
        drop(hands);
        Held { dial: self.clone(), number, report, events, next: 0 }
    }
}

impl Connection for Held {
    fn subscribe(&mut self, filters: &[String]) -> Result<(), Refused> {
        let mut hands = self.dial.hands.lock().expect("no panic");
        hands.asked.push(filters.to_vec());
        self.report.send(Event::Subscribed(Vec::new())).expect("we hold the other end");
        Ok(())
    }

    fn try_publish(&mut self, packet: Packet) -> Result<Token, Refused> {
        let mut hands = self.dial.hands.lock().expect("no panic");
        match &mut hands.until_refusal {
            Some(0) => {
                hands.until_refusal = None;
                return Err(Refused);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.next += 1;
        hands.taken.push((self.number, packet));
        match hands.holds {
            true => hands.held.push_back(self.next),
            false => {
                let _ = self.report.send(Event::Written(self.next));
                let _ = self.report.send(Event::Acknowledged(self.next));
            }
        }
        self.dial.moved.notify_one();
        Ok(self.next)
    }

    async fn next(&mut self) -> Event {
        self.events.recv().await.expect("we hold the other end")
    }

    fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    async fn close(self) {}
}

/// An edge node over a connection in our hands.
struct InHand {
    dial: HeldDial,
    store: Store,
    handle: EdgeHandle,
    _dir: TempDir,
}

impl InHand {
    fn start(inflight: u16, change: impl FnOnce(&mut Hands)) -> InHand {
        let dir = tempdir().expect("a folder");
        let store = open(dir.path());
        let stations = ["left".to_owned()];
        let mut options = SparkplugOptions::new(GROUP, NODE, &stations, &dir.path().join("x.db"));
        options.heartbeat = None;
        let mut broker = PublishOptions::new("nowhere", 1883, NODE, &stations);
        broker.inflight = inflight;
        broker.backoff_min = Duration::from_millis(1);
        broker.backoff_max = Duration::from_millis(2);
        let mut hands = Hands::default();
        change(&mut hands);
        let dial = HeldDial {
            hands: Arc::new(Mutex::new(hands)),
            moved: Arc::new(Notify::new()),
            kept_path: options.kept_path.clone(),
        };
        let handle = EdgeNode::spawn_over(dial.clone(), options, broker, &store, clock(), None);
        InHand { dial, store, handle: handle.expect("good options"), _dir: dir }
    }

    fn commit(&self, job_id: u64) {
        self.store.commit(&inspection("left", job_id), &[]).expect("a commit");
        self.handle.wake();
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, Hands> {
        self.dial.hands.lock().expect("no panic")
    }

    /// Waits until what was taken fulfils `condition`, and answers it: verb, number, connection.
    async fn wait(
        &self,
        condition: impl Fn(&[(String, Option<u64>, usize)]) -> bool,
    ) -> Vec<(String, Option<u64>, usize)> {
        let look = async {
            loop {
                let taken = taken(&self.hands());
                if condition(&taken) {
                    return taken;
                }
                self.dial.moved.notified().await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, look).await;
        found.unwrap_or_else(|_| panic!("waited in vain: {:?}", taken(&self.hands())))
    }

    fn tell(&self, event: Event) {
        self.hands().report.as_ref().expect("dialled").send(event).expect("it lives");
    }

    /// The oldest message that is held leaves.
    fn release(&self) {
        let token = self.hands().held.pop_front().expect("one is held");
        self.tell(Event::Written(token));
    }
}

fn taken(hands: &Hands) -> Vec<(String, Option<u64>, usize)> {
    let seen = hands.taken.iter().map(|(connection, packet)| {
        let verb = packet.topic.split('/').nth(2).unwrap_or_default().to_owned();
        let payload = Payload::decode(packet.payload.as_slice()).expect("a payload");
        (verb, payload.seq, *connection)
    });
    seen.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tck_id_operational_behavior_data_commands_rebirth_action_1() {
    let edge = InHand::start(1, |_| {});
    edge.wait(|taken| taken.len() == 2).await;
    edge.hands().holds = true;
    for job_id in 1..=5 {
        edge.commit(job_id);
    }
    edge.wait(|taken| taken.len() == 3).await;
    // One result is under way and four wait when the host asks.
    let mut metric = Metric::new();
    metric.set_name("Node Control/Rebirth".into()).set_value(Value::BooleanValue(true));
    let payload =
        Payload { timestamp: Some(1), metrics: vec![metric], seq: None, uuid: None, body: None };
    let (topic, payload) = (topic("NCMD", None), payload.encode_to_vec());
    edge.tell(Event::Message(Incoming { topic, payload, ..Incoming::default() }));
    edge.hands().holds = false;
    edge.release();
    let taken = edge.wait(|taken| taken.len() == 9).await;
    let verbs: Vec<&str> = taken[2..].iter().map(|(verb, _, _)| verb.as_str()).collect();
    assert_eq!(verbs, ["DDATA", "NBIRTH", "DBIRTH", "DDATA", "DDATA", "DDATA", "DDATA"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_used_up_when_a_message_is_taken_and_a_result_that_was_not_comes_again() {
    let edge = InHand::start(4, |hands| hands.until_refusal = Some(3));
    edge.wait(|taken| taken.len() == 2).await;
    edge.commit(1);
    edge.commit(2);
    let taken = edge.wait(|taken| taken.len() >= 7).await;
    let of = |connection: usize| -> Vec<(&str, Option<u64>)> {
        let on = taken.iter().filter(|(_, _, on)| *on == connection);
        on.map(|(verb, seq, _)| (verb.as_str(), *seq)).collect()
    };
    assert_eq!(of(0), [("NBIRTH", Some(0)), ("DBIRTH", Some(1)), ("DDATA", Some(2))]);
    let again = [("NBIRTH", Some(0)), ("DBIRTH", Some(1)), ("DDATA", Some(2)), ("DDATA", Some(3))];
    assert_eq!(of(1), again, "the first was in doubt, the second never left");
    let hands = edge.hands();
    let late = Payload::decode(hands.taken[6].1.payload.as_slice()).expect("a payload");
    assert!(late.metrics.iter().all(|metric| metric.is_historical == Some(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_a_connection_is_on_the_disk_before_it_is_dialled() {
    let edge = InHand::start(4, |_| {});
    for connection in 0..3 {
        edge.wait(|taken| taken.len() == 2 * (connection + 1)).await;
        edge.tell(Event::Closed("by the test".into()));
    }
    edge.wait(|taken| taken.len() == 8).await;
    let hands = edge.hands();
    for (at, (dialled, kept)) in hands.dialled.iter().zip(&hands.kept).enumerate() {
        let will = Payload::decode(dialled.last_will.payload.as_slice()).expect("a payload");
        assert_eq!(bd_seq(&will), at as u64);
        let kept: serde_json::Value = serde_json::from_str(kept).expect("written");
        assert_eq!(kept["bd_seq"], at);
    }
}
