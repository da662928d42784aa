//! Delivery to a real broker, which is killed, stalled and started again.

use std::collections::BTreeSet;
use std::time::Duration;

use inspectd::inspection::{ForeignId, Inspection, Timeliness};
use inspectd::publish::deliveries::Hearers;
use inspectd::publish::{
    Protocol, PublishOptions, PublishState, Publisher, envelope, message, schema,
};
use inspectd::store::{OutboxMessage, TopicKind};
use inspectd::verdict::{Outcome, Seen as Saw};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::delivery::Line;
use crate::support::mosquitto::{DEADLINE, Gate, Mosquitto, Subscriber};
use crate::support::records::{DEVICE, clock, inspection, open};

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn ids(results: &[Value]) -> BTreeSet<String> {
    results.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_in_order_and_the_broker_keeps_last_and_status() {
    let (broker, dir) = (Mosquitto::start(), folder());
    let early = Subscriber::start(broker.port()).await;
    let line = Line::start(dir.path(), broker.port());
    let mut sent = Vec::new();
    for job_id in 1..=20 {
        let station = if job_id % 2 == 0 { "left" } else { "right" };
        sent.push(Value::from(line.commit(station, job_id).result_id.to_string()));
    }
    let seen = early.wait("20 results", |seen| seen.under("result").len() >= 20).await;
    assert_eq!(seen.results("result_id"), sent);
    assert_eq!(seen.under("result")[0].topic, "acme/plant1/dev7/right/result");
    line.wait("an empty outbox", |state| state.unsent == 0 && state.sent == 20).await;
    let newest = |seen: &crate::support::mosquitto::Seen, station: &str| -> Option<Value> {
        let topic = format!("acme/plant1/dev7/{station}/last");
        let found = seen.messages.iter().rfind(|message| message.topic == topic);
        found.map(|message| message.payload["job_id"].clone())
    };
    early
        .wait("the last messages", |seen| {
            newest(seen, "left") == Some(20.into()) && newest(seen, "right") == Some(19.into())
        })
        .await;

    let late = Subscriber::start(broker.port()).await;
    let kept = late
        .wait("what the broker keeps", |seen| {
            seen.under("last").len() >= 2 && !seen.under("status").is_empty()
        })
        .await;
    assert!(kept.messages.iter().all(|message| message.retain));
    assert!(kept.under("result").is_empty(), "results are not kept");
    assert_eq!(newest(&kept, "left"), Some(20.into()));
    assert_eq!(kept.under("status")[0].payload["online"], true);
    let drained = line.publisher.drain_and_stop(DEADLINE).await;
    assert_eq!(drained.unsent, 0);
    let offline =
        |message: &crate::support::mosquitto::Received| message.payload["online"] == false;
    let seen =
        late.wait("the goodbye", |seen| seen.under("status").iter().any(|m| offline(m))).await;
    let status = seen.under("status");
    assert_eq!(status.last().expect("one").payload["reason"], "stopped", "and no last will");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_vanishes_is_reported_by_the_broker() {
    let (broker, dir) = (Mosquitto::start(), folder());
    let watcher = Subscriber::start(broker.port()).await;
    let line = Line::start(dir.path(), broker.port());
    let online = |online: bool| {
        move |seen: &crate::support::mosquitto::Seen| {
            seen.under("status").last().is_some_and(|message| message.payload["online"] == online)
        }
    };
    watcher.wait("online", online(true)).await;
    // Without a word to the broker, as a process that is killed.
    drop(line);
    let seen = watcher.wait("the last will", online(false)).await;
    let status = seen.under("status");
    assert_eq!(status.last().expect("one").payload["reason"], "connection_lost");
    let late = Subscriber::start(broker.port()).await;
    late.wait("the kept will", online(false)).await;
}

/// Fifty results; `trouble` befalls the broker after the twentieth, which must be dead afterwards.
/// It is started again while results go on, and a subscriber that comes back gets every one.
async fn fifty_results_through(
    trouble: impl AsyncFnOnce(&mut Mosquitto, &Line, &mut BTreeSet<String>),
) {
    let (mut broker, dir) = (Mosquitto::start(), folder());
    let gate = Gate::start(broker.port()).await;
    let subscriber = Subscriber::start(broker.port()).await;
    let line = Line::start(dir.path(), gate.port());
    let mut sent = BTreeSet::new();
    for job_id in 1..=20 {
        sent.insert(line.commit("left", job_id).result_id.to_string());
    }
    subscriber.wait("the first results", |seen| seen.under("result").len() >= 10).await;
    trouble(&mut broker, &line, &mut sent).await;
    line.wait("the cut to be noticed", |state| !state.connected).await;
    for job_id in sent.len() as u64 + 1..=40 {
        sent.insert(line.commit("left", job_id).result_id.to_string());
    }
    // A message reaches only those who have subscribed: the publisher comes second, or this would
    // test who is quicker. A real receiver has a persistent session at a broker with a memory.
    gate.shut();
    let before = subscriber.seen().subscribed;
    broker.restart();
    subscriber.wait("the subscription", |seen| seen.subscribed > before).await;
    gate.open();
    for job_id in 41..=50 {
        sent.insert(line.commit("left", job_id).result_id.to_string());
    }
    let seen =
        subscriber.wait("all fifty", |seen| ids(&seen.results("result_id")).len() >= 50).await;
    assert_eq!(ids(&seen.results("result_id")), sent);
    assert_copies_are_equal(&seen);
    // The state is told from time to time; what was seen may be ahead of it.
    let done = |state: &PublishState| state.connected && state.unsent == 0 && state.sent == 50;
    line.wait("fifty acknowledged", done).await;
    assert_eq!(line.publisher.drain_and_stop(DEADLINE).await.unsent, 0);
}

/// A message that came twice came the same but for `replayed`, and first copies came in order
/// within what was live and within what was late.
fn assert_copies_are_equal(seen: &crate::support::mosquitto::Seen) {
    let mut known: Vec<&Value> = Vec::new();
    for message in seen.under("result") {
        match known.iter().find(|first| first["result_id"] == message.payload["result_id"]) {
            Some(first) => assert_eq!(unmarked(first), unmarked(&message.payload)),
            None => known.push(&message.payload),
        }
    }
    for late in [true, false] {
        let of = known.iter().filter(|first| first["replayed"] == late);
        let jobs: Vec<u64> = of.filter_map(|first| first["job_id"].as_u64()).collect();
        assert!(jobs.is_sorted(), "{jobs:?}");
    }
    assert_eq!(known.len(), 50);
}

/// Without the one member that may differ between copies.
fn unmarked(sent: &Value) -> Value {
    let mut row = sent.clone();
    row.as_object_mut().expect("an object").remove("replayed").expect("always there");
    row
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed() {
    fifty_results_through(async |broker: &mut Mosquitto, _: &Line, _: &mut BTreeSet<String>| {
        broker.kill()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_stalls_and_is_killed() {
    fifty_results_through(
        async |broker: &mut Mosquitto, line: &Line, sent: &mut BTreeSet<String>| {
            broker.stall();
            // These leave, and are never acknowledged. The connection looks alive: only the
            // watchdog can tell that it is not.
            for job_id in 21..=25 {
                sent.insert(line.commit("left", job_id).result_id.to_string());
            }
            let noticed = line.wait("the watchdog", |state| !state.connected).await;
            assert!(noticed.last_error.is_some_and(|why| why.contains("nothing was acknowledged")));
            // Four seconds in all, as brokers on a swapping machine do.
            tokio::time::sleep(Duration::from_secs(2)).await;
            broker.kill();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_long_is_put_aside_and_the_rest_flows() {
    let (broker, dir) = (Mosquitto::start(), folder());
    let subscriber = Subscriber::start(broker.port()).await;
    let line = Line::start_with(dir.path(), broker.port(), |options| {
        options.max_packet_bytes = 4096;
    });
    line.commit("left", 1);
    let long = inspection("left", 2);
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(5000)).into_bytes();
    let message = OutboxMessage { kind: TopicKind::Result, payload };
    line.store.commit(&long, &[message]).expect("a commit");
    line.commit("left", 3);
    let seen = subscriber.wait("two results", |seen| seen.under("result").len() >= 2).await;
    assert_eq!(seen.results("job_id"), [1, 3]);
    // The counters are set one after the other.
    let counted = |state: &PublishState| (state.quarantined, state.unsent, state.sent) == (1, 0, 2);
    let state = line.wait("the counts", counted).await;
    assert!(state.connected, "{state:?}");
    let told = line.store.reader().expect("reads").deliveries(&long.result_id.to_string());
    let reason = told.expect("read")[0].quarantine_reason.clone().expect("put aside");
    assert!(reason.contains("max_packet_bytes is 4096"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_sent_after_a_restart_and_by_a_broker_that_comes_late() {
    let (mut broker, dir) = (Mosquitto::start(), folder());
    broker.kill();
    let line = Line::start(dir.path(), broker.port());
    let first = line.commit("left", 1).result_id.to_string();
    line.wait("a failed dial", |state| state.last_error.is_some()).await;
    let drained = line.publisher.drain_and_stop(Duration::from_millis(300)).await;
    assert_eq!(drained.unsent, 1, "a drain ends at its deadline");
    drop(line);

    let gate = Gate::start(broker.port()).await;
    gate.shut();
    let line = Line::start(dir.path(), gate.port());
    broker.restart();
    let subscriber = Subscriber::start(broker.port()).await;
    gate.open();
    let second = line.commit("left", 2).result_id.to_string();
    let seen = subscriber.wait("both", |seen| seen.under("result").len() >= 2).await;
    // The second is live, the first is late.
    assert_eq!(ids(&seen.results("result_id")), [first, second].into());
    let state = line.wait("an empty outbox", |state| state.unsent == 0).await;
    assert_eq!(state.last_error, None, "over once something was delivered");

    // A broker that lost its memory gets the newest result again, though nothing new was committed.
    gate.shut();
    broker.kill();
    broker.restart();
    gate.open();
    let late = Subscriber::start(broker.port()).await;
    let kept = late.wait("the newest", |seen| !seen.under("last").is_empty()).await;
    assert_eq!(kept.under("last")[0].payload["job_id"], 2);
}

#[test]
fn results_have_the_form_that_the_schema_states() {
    let validator = validator("result");
    let mut looks: Vec<Inspection> = (1..=12).map(|job| inspection("left", job)).collect();
    looks.push(worst_inspection());
    for look in &looks {
        let payload = envelope::seal(&message::result(look).payload, false).expect("an object");
        let value: Value = serde_json::from_slice(&payload).expect("JSON");
        let faults: Vec<String> =
            validator.iter_errors(&value).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {value:#}");
        assert!(payload.len() <= message::PAYLOAD_MAX_BYTES, "{}", payload.len());
        let order: Vec<&String> = value.as_object().expect("an object").keys().collect();
        let first_list = value.as_object().expect("an object").values().position(Value::is_array);
        assert_eq!(first_list, Some(order.len() - 2), "flat scalars first: {order:?}");
    }
}

fn validator(name: &str) -> jsonschema::Validator {
    let schema = schema::find(name).expect("there is one");
    let schema: Value = serde_json::from_str(schema.text).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

/// Every text far too long, of the characters that take most room.
fn worst_inspection() -> Inspection {
    let long = "\u{1}".repeat(5000);
    let mut look = inspection("left", 3);
    look.part_id = long.clone();
    look.recipe = long.clone();
    look.timings.latency_ms = f64::NAN;
    look.trigger_id = Some(ForeignId::Text("\u{10348}".repeat(64)));
    look.timeliness = Timeliness {
        deadline_ms: Some(u64::MAX),
        deadline_met: Some(false),
        updates: Some(look.result_id),
        is_partial: true,
        late_outcome: Some(Outcome::Review),
    };
    let mut defect = look.defects().next().expect("every third has one").clone();
    defect.seen =
        Saw::Defect { class: long.clone(), severity: long.clone(), location: long.clone() };
    look.findings = vec![defect; 64];
    look.findings[0].seen = Saw::Serial { value: Some(long), proposed: None };
    let reason = look.verdict.reasons[0].clone();
    look.verdict.reasons = (0..100)
        .map(|at| {
            let mut reason = reason.clone();
            reason.code = format!("{at}{}", "\u{1}".repeat(500));
            reason
        })
        .collect();
    look
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let dir = folder();
    let store = open(dir.path());
    let refused = |change: fn(&mut PublishOptions)| -> String {
        let mut options = PublishOptions::new("127.0.0.1", 1883, DEVICE, &["left".to_owned()]);
        change(&mut options);
        Publisher::spawn(options, store.clone(), clock(), Hearers::default())
            .expect_err("refused")
            .to_string()
    };
    for (change, part) in [
        ((|options| options.prefix = "a/#".into()) as fn(&mut PublishOptions), "'#'"),
        (|options| options.stations.push("a/b".into()), "'/'"),
        (|options| options.inflight = 21, "`inflight`"),
        (|options| options.keep_alive = Duration::from_millis(10), "`keep_alive`"),
        (|options| options.client_id = " ".into(), "`client_id`"),
        (|options| options.password_file = Some("/nowhere".into()), "username"),
        (
            |options| {
                options.username = Some("line".into());
                options.password_file = Some("/nowhere".into());
            },
            "/nowhere",
        ),
        (|options| options.stations = vec!["s".repeat(64); 1000], "lists all stations"),
    ] {
        let told = refused(change);
        assert!(told.contains(part), "{part} in: {told}");
    }
}

#[cfg(feature = "demo-broker")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_broker_carries_results_and_keeps_the_last() {
    let dir = folder();
    let broker = inspectd::publish::demo_broker::DemoBroker::start().expect("starts");
    let subscriber = Subscriber::start(broker.port()).await;
    let line = Line::start_with(dir.path(), broker.port(), |options| {
        options.protocol = Protocol::V311;
    });
    for job_id in 1..=50 {
        line.commit("left", job_id);
    }
    let seen = subscriber.wait("50 results", |seen| seen.under("result").len() >= 50).await;
    assert_eq!(seen.results("job_id"), (1..=50).collect::<Vec<u64>>());
    line.wait("an empty outbox", |state| state.unsent == 0 && state.sent == 50).await;
    subscriber
        .wait("the last", |seen| {
            seen.under("last").last().is_some_and(|message| message.payload["job_id"] == 50)
        })
        .await;
    let late = Subscriber::start(broker.port()).await;
    late.wait("what is kept", |seen| {
        seen.under("last").last().is_some_and(|message| message.payload["job_id"] == 50)
    })
    .await;
}

#[cfg(not(feature = "demo-broker"))]
#[test]
fn without_its_feature_the_demo_broker_says_how_to_get_it() {
    let told = inspectd::publish::demo_broker::DemoBroker::start().expect_err("not compiled in");
    assert!(told.to_string().contains("--features demo-broker"), "{told}");
}
