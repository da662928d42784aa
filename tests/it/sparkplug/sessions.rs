//! What the edge node promises beyond the specification: what an outage costs, who may ask for what,
//! and that nothing of it is without a bound.

use std::time::Duration;

use inspectd::publish::PublishOptions;
use inspectd::sparkplug::StationState;
use inspectd::sparkplug::command::Command;
use inspectd::sparkplug::metrics::Tag;
use srad_types::payload::metric::Value;
use tempfile::tempdir;

use super::recording::metric;
use crate::support::edge::{Edge, NODE, STATIONS, Watcher, topic};
use crate::support::mosquitto::Mosquitto;
use crate::support::tap::{Log, Sent, Tap};

/// The value of `tag` of station number `station` in data.
fn value(sent: &Sent, station: usize, tag: Tag) -> Option<Value> {
    let metrics = &sent.payload().metrics;
    let found = metrics.iter().find(|metric| metric.alias == Some(tag.alias(station)));
    found.and_then(|metric| metric.value.clone())
}

/// The results that were sent, as trigger number, whether late, and connection.
fn results(log: &Log) -> Vec<(u64, bool, usize)> {
    let sent = log.of("DDATA");
    sent.iter()
        .filter_map(|sent| {
            let late = sent.payload().metrics.iter().all(|one| one.is_historical == Some(true));
            match value(sent, 0, Tag::TriggerId).or(value(sent, 1, Tag::TriggerId)) {
                Some(Value::LongValue(number)) => Some((number, late, sent.connection)),
                _ => None,
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_brings_back_what_was_in_doubt_and_a_goodbye_does_not() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let tap = Tap::start(broker.port()).await;
    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("births", |state| state.born).await;
    edge.commit("left", 1);
    tap.wait("a result", |log| results(log).len() == 1).await;
    tap.cut();
    edge.wait("it again", |state| state.sent == 2 && state.sent_late == 1).await;
    edge.commit("right", 2);
    edge.wait("one more", |state| state.sent == 3).await;
    edge.stop().await;
    assert_eq!(results(&tap.log()), [(1, false, 0), (1, true, 1), (2, false, 1)]);

    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("births", |state| state.born).await;
    edge.commit("left", 3);
    edge.wait("a result", |state| state.sent == 1).await;
    edge.stop().await;
    assert_eq!(results(&tap.log())[3..], [(3, false, 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_broker_is_told_births_and_the_one_before_a_death() {
    let (first, second) = (Mosquitto::start(), Mosquitto::start());
    let dir = tempdir().expect("a folder");
    let (here, there) = (Tap::start(first.port()).await, Tap::start(second.port()).await);
    let edge = Edge::start(dir.path(), here.port());
    edge.wait("births", |state| state.born).await;
    edge.commit("left", 1);
    here.wait("a result", |log| results(log).len() == 1).await;
    let stations = STATIONS.map(str::to_owned);
    edge.handle.set_route(PublishOptions::new("127.0.0.1", there.port(), NODE, &stations));
    there.wait("births", |log| log.of("DBIRTH").len() == 2).await;
    here.wait("a death", |log| log.of("NDEATH").len() == 1).await;
    edge.commit("right", 2);
    there.wait("a result", |log| results(log).contains(&(2, false, 0))).await;
    edge.stop().await;
    assert_eq!(results(&here.log()), [(1, false, 0)]);
    assert_eq!(there.log().of("NBIRTH").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_much_history_the_newest_is_told_and_the_rest_is_counted() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let tap = Tap::start(broker.port()).await;
    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("births", |state| state.born).await;
    edge.stop().await;
    let small = |options: &mut inspectd::sparkplug::SparkplugOptions| {
        options.history_max = 5;
        options.primary_host_id = Some("scada".into());
    };
    let edge = Edge::start_with(dir.path(), tap.port(), small);
    edge.wait("the broker", |state| state.connected).await;
    for job_id in 1..=12 {
        edge.commit("left", job_id);
    }
    let host = Watcher::start(broker.port()).await;
    host.say("scada", true, 1);
    edge.wait("history", |state| state.sent == 5 && state.skipped == 7).await;
    let late: Vec<_> = (8..=12).map(|job_id| (job_id, true, 1)).collect();
    let log = tap.wait("them", |log| results(log).len() == 5).await;
    assert_eq!(results(&log), late);
    let birth = log.of("NBIRTH").pop().expect("a birth");
    let skipped = metric(birth.payload(), "History/Skipped");
    assert_eq!(skipped.value, Some(Value::LongValue(7)));
    // The counters know them all.
    let births = log.of("DBIRTH");
    let birth = births.iter().rfind(|one| one.topic == topic("DBIRTH", Some("left")));
    let total = metric(birth.expect("a birth").payload(), "Total");
    assert_eq!(total.value, Some(Value::LongValue(12)));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blind_station_is_born_for_a_late_result_and_dies_again() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let tap = Tap::start(broker.port()).await;
    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("births", |state| state.born).await;
    // Recorded first, as the line does, and told before the death.
    edge.commit_quietly("left", 1);
    edge.handle.set_state("left", StationState::of_camera(false));
    tap.wait("a death", |log| log.of("DDEATH").len() == 1).await;
    edge.commit("left", 2);
    tap.wait("another", |log| log.of("DDEATH").len() == 2).await;
    edge.handle.set_state("left", StationState::of_camera(true));
    let log = tap.wait("its birth", |log| log.of("DBIRTH").len() == 4).await;
    edge.stop().await;
    let left = log.sent().into_iter().filter(|sent| sent.topic.ends_with("/left"));
    let verbs: Vec<String> = left.map(|sent| sent.verb().to_owned()).collect();
    let told = ["DBIRTH", "DDATA", "DDATA", "DDEATH", "DBIRTH", "DDATA", "DDEATH", "DBIRTH"];
    assert_eq!(verbs, told, "state, result, death; a late result; the end of it");
    let last = log.of("DBIRTH").pop().expect("a birth");
    assert_eq!(metric(last.payload(), "State/Ready").value, Some(Value::BooleanValue(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_rebirth_requests_is_answered_once_a_cooldown() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let (tap, host) = (Tap::start(broker.port()).await, Watcher::start(broker.port()).await);
    let edge = Edge::start_with(dir.path(), tap.port(), |options| {
        options.rebirth_cooldown = Duration::from_secs(3600);
    });
    edge.wait("births", |state| state.born).await;
    host.ask_rebirth();
    edge.wait("the first, at once", |state| state.births == 2).await;
    for _ in 0..9 {
        host.ask_rebirth();
    }
    edge.wait("all of them", |state| state.heard == 10).await;
    assert_eq!(edge.handle.state().borrow().births, 2, "and no other");
    edge.commit("left", 1);
    // What waits for the cooldown waits no longer at the end.
    edge.stop().await;
    assert_eq!(tap.log().of("NBIRTH").len(), 3);
    assert_eq!(results(&tap.log()), [(1, false, 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_handed_on_and_a_refusal_is_a_metric() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let (tap, host) = (Tap::start(broker.port()).await, Watcher::start(broker.port()).await);
    // The broker keeps it: it is older than any connection of ours.
    host.command(Some("left"), &[("Reset", Value::BooleanValue(true))], true);
    host.command(None, &[("Node Control/Rebirth", Value::BooleanValue(true))], true);
    host.wait("both", |hearing| hearing.messages.len() == 2).await;
    let edge = Edge::start(dir.path(), tap.port());
    edge.wait("the old ones", |state| state.born && state.heard == 2).await;
    let trigger =
        [("Trigger", Value::LongValue(7)), ("Command/PartId", Value::StringValue("A-1".into()))];
    host.command(Some("left"), &trigger, false);
    host.command(Some("right"), &[("Recipe/Select", Value::IntValue(2))], false);
    host.command(Some("right"), &[("Result/Verdict", Value::StringValue("pass".into()))], false);
    host.send(&topic("DCMD", Some("left")), vec![0xff; 50], false);
    let refusals = |log: &Log| -> Vec<String> {
        let sent = log.of("DDATA");
        let both =
            sent.iter().flat_map(|sent| [0, 1].map(|at| value(sent, at, Tag::CommandRefused)));
        both.filter_map(|value| match value {
            Some(Value::StringValue(text)) => Some(text),
            _ => None,
        })
        .collect()
    };
    edge.wait("all", |state| state.heard == 6).await;
    let log = tap
        .wait("the refusals", |log| refusals(log).iter().any(|text| text.contains("not writable")))
        .await;
    let log = match refusals(&log).len() {
        1 => tap.wait("the other station's", |log| refusals(log).len() > 1).await,
        _ => log,
    };
    let echo = log.of("DDATA").iter().find_map(|sent| value(sent, 0, Tag::Trigger));
    assert_eq!(echo, Some(Value::LongValue(7)), "what was accepted shows");
    let part_id = Some("A-1".to_owned());
    let command = Command::Trigger { trigger_id: 7, part_id, deadline_ms: None };
    assert_eq!(*edge.commands.taken.lock().expect("no panic"), [("left".to_owned(), command)]);
    assert_eq!(edge.handle.state().borrow().births, 1, "an old request is none");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_late_and_one_that_stalls_are_borne() {
    let (mut broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    broker.kill();
    let edge = Edge::start(dir.path(), broker.port());
    edge.commit("left", 1);
    edge.wait("a failed dial", |state| state.last_error.is_some()).await;
    broker.restart();
    edge.wait("what waited", |state| state.born && state.sent_late == 1).await;
    assert_eq!(edge.handle.state().borrow().last_error, None, "over once it was born");
    // A stop does not wait for a broker that does nothing.
    broker.stall();
    tokio::time::timeout(Duration::from_secs(30), edge.stop()).await.expect("it ends");
}
