//! The life of one edge node over three connections, recorded once for all tests that look at it:
//! births, results, more messages than numbers, a lost camera, a rebirth, commands, a goodbye; then a crash,
//! and a last session.

use std::sync::OnceLock;
use std::time::Duration;

use inspectd::sparkplug::StationState;
use rumqttc::{Connect, Packet, SubscribeFilter};
use srad_types::payload::metric::Value;
use srad_types::payload::{Metric, Payload};
use tempfile::tempdir;

use crate::support::edge::{Edge, Heard, Watcher, topic};
use crate::support::mosquitto::Mosquitto;
use crate::support::tap::{Log, Sent, Tap};

/// Results of the first session, but for the last one.
pub const RESULTS: u64 = 20;

/// What was recorded.
pub struct Recording {
    /// What passed between edge node and broker.
    pub log: Log,
    /// What a host got.
    pub heard: Vec<Heard>,
    /// Milliseconds since 1970 before it began and after it ended.
    pub from_ms: u64,
    pub until_ms: u64,
}

/// The recording, made by the first test of a process that asks.
pub fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(record())
    })
}

fn now_ms() -> u64 {
    jiff::Timestamp::now().as_millisecond().unsigned_abs()
}

async fn record() -> Recording {
    let from_ms = now_ms();
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let (tap, host) = (Tap::start(broker.port()).await, Watcher::start(broker.port()).await);
    let beating = |options: &mut inspectd::sparkplug::SparkplugOptions| {
        // Uses up numbers quickly.
        options.heartbeat = Some(Duration::from_millis(1));
    };
    let edge = Edge::start_with(dir.path(), tap.port(), beating);
    edge.wait("the births", |state| state.born).await;
    for job_id in 1..=RESULTS {
        edge.commit(if job_id % 2 == 0 { "left" } else { "right" }, job_id);
    }
    edge.wait("all results", |state| state.sent == RESULTS).await;
    let is_last = |sent: &Sent| sent.seq() == Some(255);
    tap.wait("the last number", |log| log.sent().iter().any(is_last)).await;
    edge.handle.set_state("left", StationState::of_camera(false));
    tap.wait("a death", |log| log.of("DDEATH").len() == 1).await;
    edge.handle.set_state("left", StationState::of_camera(true));
    tap.wait("its birth", |log| log.of("DBIRTH").len() == 3).await;
    host.ask_rebirth();
    edge.wait("the rebirth", |state| state.births == 2 && state.born).await;
    let data = tap.log().of("DDATA").len();
    host.command(Some("left"), &[("Trigger", Value::LongValue(7))], false);
    tap.wait("the echo", |log| log.of("DDATA").len() > data).await;
    edge.commit("left", RESULTS + 1);
    edge.wait("one more", |state| state.sent == RESULTS + 1).await;
    edge.stop().await;

    let edge = Edge::start_with(dir.path(), tap.port(), beating);
    let second = |sent: &Sent| sent.connection == 1 && sent.verb() == "DBIRTH";
    tap.wait("births after a restart", |log| log.sent().into_iter().filter(second).count() == 2)
        .await;
    let deaths =
        |heard: &[Heard]| heard.iter().filter(|one| one.topic == topic("NDEATH", None)).count();
    host.wait("the goodbye", |heard| deaths(&heard.messages) == 1).await;
    // Without a word to the broker, as a process that is killed.
    drop(edge);
    host.wait("the last will", |heard| deaths(&heard.messages) == 2).await;

    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("births after a crash", |state| state.born).await;
    edge.stop().await;
    let heard = host.wait("the end", |heard| deaths(&heard.messages) == 3).await;
    Recording { log: tap.log(), heard: heard.messages, from_ms, until_ms: now_ms() }
}

impl Recording {
    /// What the edge node sent, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.log.sent()
    }

    /// What it sent of this verb; there is some.
    pub fn of(&self, verb: &str) -> Vec<Sent> {
        let found = self.log.of(verb);
        assert!(!found.is_empty(), "no {verb} was recorded");
        found
    }

    /// Births and data.
    pub fn with_values(&self) -> Vec<Sent> {
        let mut all = self.sent();
        all.retain(|sent| sent.verb() != "NDEATH" && sent.verb() != "DDEATH");
        all
    }

    /// The greetings, with what was sent on each connection.
    pub fn connections(&self) -> Vec<(Connect, Vec<Sent>)> {
        let greetings = self.log.greetings();
        assert_eq!(greetings.len(), 3);
        let sent = self.sent();
        let on = |at: usize| sent.iter().filter(|one| one.connection == at).cloned().collect();
        greetings.into_iter().enumerate().map(|(at, greeting)| (greeting, on(at))).collect()
    }

    /// The topic filters that were subscribed to on the first connection.
    pub fn subscriptions(&self) -> Vec<SubscribeFilter> {
        let filters = self.log.0.iter().filter(|passed| passed.connection == 0);
        let filters = filters.filter_map(|passed| match &passed.packet {
            Packet::Subscribe(subscribe) => Some(subscribe.filters.clone()),
            _ => None,
        });
        filters.flatten().collect()
    }

    /// Every message of this verb goes to the node's topic, or to one of its stations'.
    pub fn topics_are(&self, verb: &str) {
        let known = match verb.starts_with('N') {
            true => vec![topic(verb, None)],
            false => vec![topic(verb, Some("left")), topic(verb, Some("right"))],
        };
        for sent in self.of(verb) {
            assert!(known.contains(&sent.topic), "{} is not of {known:?}", sent.topic);
        }
    }

    /// Every message of this verb goes at QoS 0 and is not kept.
    pub fn is_fleeting(&self, verb: &str) {
        for sent in self.of(verb) {
            assert_eq!(
                (sent.qos, sent.retain),
                (rumqttc::QoS::AtMostOnce, false),
                "{}",
                sent.topic
            );
        }
    }

    /// Every message of this verb says when it was sent.
    pub fn is_timed(&self, verb: &str) {
        for sent in self.of(verb) {
            let at = sent.payload().timestamp.unwrap_or_else(|| panic!("{}: no time", sent.topic));
            assert!((self.from_ms..=self.until_ms).contains(&at), "{at} in {}", sent.topic);
        }
    }

    /// Every message of this verb has the number after that of the message before it, of the same
    /// connection; the edge node's birth begins again with 0.
    pub fn is_numbered(&self, verb: &str) {
        let mut seen = 0;
        for (_, sent) in self.connections() {
            let mut next = None;
            for one in sent.iter().filter(|one| one.verb() != "NDEATH") {
                let expected = if one.verb() == "NBIRTH" { Some(0) } else { next };
                if one.verb() == verb {
                    assert_eq!(one.seq(), expected, "{}", one.topic);
                    seen += 1;
                }
                next = one.seq().map(|seq| (seq + 1) % 256);
            }
        }
        assert!(seen > 0, "no {verb} was recorded");
    }
}

/// The metric `name` of a payload.
pub fn metric<'p>(payload: &'p Payload, name: &str) -> &'p Metric {
    let found = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no metric {name}"))
}

/// The bdSeq of a payload, which must be an Int64 (type 4).
pub fn bd_seq(payload: &Payload) -> u64 {
    let metric = metric(payload, "bdSeq");
    assert_eq!(metric.datatype, Some(4));
    match metric.value {
        Some(Value::LongValue(number)) => number,
        _ => panic!("bdSeq is {:?}", metric.value),
    }
}
