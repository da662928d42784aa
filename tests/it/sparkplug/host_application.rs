//! A host application of another author sees the edge node: births, data, death and rebirth, through
//! a lost message, a killed process, and a broker that starts again without memory.

use srad_types::payload::metric::Value;
use tempfile::tempdir;

use crate::support::edge::{Edge, HOST, STATIONS, Watcher};
use crate::support::host_application::{HostApplication, Told};
use crate::support::mosquitto::{Gate, Mosquitto};
use crate::support::tap::Tap;

fn births(told: &[Told], whose: Option<&str>) -> usize {
    let is_birth = |one: &&Told| matches!(one, Told::Birth { .. }) && one.station() == whose;
    told.iter().filter(is_birth).count()
}

fn is_stale(told: &[Told], whose: Option<&str>) -> bool {
    matches!(told.iter().rfind(|one| one.station() == whose), Some(Told::Stale { .. }))
}

/// The results that `whose` was told, with whether each was told late.
fn results(told: &[Told], whose: &str) -> Vec<(u64, bool)> {
    let data = told.iter().filter(|one| one.station() == Some(whose));
    data.filter_map(|one| match one {
        Told::Data { values, .. } => {
            let id = values.iter().find(|known| known.name == "Result/TriggerId")?;
            let Some(Value::LongValue(number)) = id.value else { return None };
            Some((number, id.is_historical))
        }
        _ => None,
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_sees_stations_that_come_and_go_on_one_connection() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let host = HostApplication::start(broker.port());
    let edge = Edge::start(dir.path(), broker.port());
    host.wait("births", |told| STATIONS.iter().all(|one| births(told, Some(one)) == 1)).await;

    edge.handle.set_stations(vec!["right".into(), "press".into()]);
    let look = edge.commit("press", 1);
    let told = host.wait("its result", |told| !results(told, "press").is_empty()).await;
    let data = told.iter().rfind(|one| one.station() == Some("press")).expect("data");
    let id = Value::StringValue(look.result_id.to_string());
    assert_eq!(data.value("Result/Id"), Some(id));
    host.wait("the death", |told| is_stale(told, Some("left"))).await;

    // Its commands are heard on the connection that stands.
    let watcher = Watcher::start(broker.port()).await;
    watcher.command(Some("press"), &[("Trigger", Value::LongValue(7))], false);
    host.wait("the command's echo", |told| {
        let newest = told.iter().rfind(|one| one.station() == Some("press"));
        newest.and_then(|one| one.value("Trigger")) == Some(Value::LongValue(7))
    })
    .await;
    assert_eq!(edge.commands.taken.lock().expect("no panic")[0].0, "press");
    assert_eq!(edge.handle.state().borrow().births, 1, "one connection");
    edge.handle.set_stations(STATIONS.map(str::to_owned).to_vec());
    let told = host
        .wait("new births", |told| births(told, Some("left")) == 2 && is_stale(told, Some("press")))
        .await;
    assert_eq!((births(&told, None), births(&told, Some("right"))), (1, 1));
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_sees_births_data_death_and_what_comes_after() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let host = HostApplication::start(broker.port());
    let edge = Edge::start_with(dir.path(), broker.port(), |options| {
        options.primary_host_id = Some(HOST.to_owned());
    });
    let told =
        host.wait("births", |told| STATIONS.iter().all(|one| births(told, Some(one)) == 1)).await;
    assert_eq!(births(&told, None), 1);
    let birth = told.iter().find(|one| one.station() == Some("left")).expect("a birth");
    assert_eq!(birth.value("State/Ready"), Some(Value::BooleanValue(true)));
    assert_eq!(birth.value("Result/Verdict"), None, "there is none yet");

    let look = edge.commit("left", 3);
    let told = host.wait("a result", |told| !results(told, "left").is_empty()).await;
    let data = told.iter().rfind(|one| one.station() == Some("left")).expect("data");
    let text = |text: &str| Some(Value::StringValue(text.to_owned()));
    assert_eq!(data.value("Result/Verdict"), text("fail"));
    assert_eq!(data.value("Result/Id"), text(&look.result_id.to_string()));
    assert_eq!(data.value("Result/Serial"), text("A7K20003"));
    assert_eq!(data.value("Result/DefectCode"), text("scratch"));
    assert_eq!(data.value("Result/Confidence"), Some(Value::DoubleValue(0.75)));
    assert_eq!(data.value("Result/LatencyMs"), Some(Value::IntValue(812)));
    assert_eq!(data.value("Result/DeadlineMet"), Some(Value::BooleanValue(true)));
    assert_eq!(data.value("Model/Digest"), text(&"11".repeat(32)));
    assert_eq!(data.value("Fail"), Some(Value::LongValue(1)));
    assert_eq!(results(&told, "left"), [(3, false)]);

    // Without a word, as a process that is killed: the broker tells.
    drop(edge);
    host.wait("the death", |told| is_stale(told, None) && is_stale(told, Some("left"))).await;
    let edge = Edge::start_with(dir.path(), broker.port(), |options| {
        options.primary_host_id = Some(HOST.to_owned());
    });
    let told = host.wait("new births", |told| births(told, Some("left")) == 2).await;
    let birth =
        told.iter().rfind(|one| matches!(one, Told::Birth { .. }) && one.station() == Some("left"));
    let birth = birth.expect("a birth");
    assert_eq!(birth.value("Result/Serial"), text("A7K20003"), "the newest result");
    assert_eq!(birth.value("Total"), Some(Value::LongValue(0)), "counted since the start");
    edge.stop().await;
    host.wait("the goodbye", |told| is_stale(told, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_misses_a_message_asks_for_a_rebirth_and_gets_it() {
    let (broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let (host, tap) = (HostApplication::start(broker.port()), Tap::start(broker.port()).await);
    // The host must listen first: an edge node without a primary host waits for nobody.
    let edge = Edge::start_with(dir.path(), tap.port(), |options| {
        options.primary_host_id = Some(HOST.to_owned());
    });
    host.wait("births", |told| births(told, Some("right")) == 1).await;
    tap.lose(1);
    edge.commit("left", 1);
    edge.wait("it is sent", |state| state.sent == 1).await;
    edge.commit("left", 2);
    edge.wait("the rebirth", |state| state.births == 2 && state.born).await;
    let told = host.wait("it", |told| births(told, Some("left")) == 2).await;
    let birth =
        told.iter().rfind(|one| matches!(one, Told::Birth { .. }) && one.station() == Some("left"));
    // What was lost on the way is in the birth, as far as it is still true.
    assert_eq!(birth.expect("a birth").value("Total"), Some(Value::LongValue(2)));
    edge.commit("left", 3);
    host.wait("data again", |told| results(told, "left").contains(&(3, false))).await;
    // And by a person's command.
    host.ask_rebirth().await;
    host.wait("births by command", |told| births(told, Some("right")) == 3).await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_the_broker_was_away_is_told_as_history() {
    let (mut broker, dir) = (Mosquitto::start(), tempdir().expect("a folder"));
    let gate = Gate::start(broker.port()).await;
    let host = HostApplication::start(broker.port());
    let edge = Edge::start_with(dir.path(), gate.port(), |options| {
        options.primary_host_id = Some(HOST.to_owned());
    });
    host.wait("births", |told| births(told, Some("right")) == 1).await;
    gate.shut();
    broker.kill();
    edge.wait("the cut", |state| !state.connected).await;
    for job_id in 1..=20 {
        edge.commit("left", job_id);
    }
    broker.restart();
    gate.open();
    edge.wait("all", |state| state.sent_late == 20).await;
    edge.commit("left", 21);
    let told = host.wait("the last", |told| results(told, "left").contains(&(21, false))).await;
    let late: Vec<(u64, bool)> = (1..=20).map(|job_id| (job_id, true)).collect();
    assert_eq!(results(&told, "left"), [late, vec![(21, false)]].concat());
    let birth =
        told.iter().rfind(|one| matches!(one, Told::Birth { .. }) && one.station() == Some("left"));
    assert_eq!(birth.expect("a birth").value("Total"), Some(Value::LongValue(20)));
    edge.stop().await;
}

/// A process that is killed, with SIGKILL, when it is dropped: early if its test fails.
#[cfg(feature = "gst")]
struct Killed(std::process::Child);

#[cfg(feature = "gst")]
impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself; the test tells by what it waits for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The whole program: cameras, model, record, and Sparkplug to a host; then it is killed.
#[cfg(feature = "gst")]
#[test]
fn a_host_sees_the_daemon_and_its_death() {
    use inspectd::simulate::footage::{FootageOptions, write_footage};
    use std::process::{Command, Stdio};

    use crate::support::station::Site;

    let dir = tempdir().expect("a folder");
    let file = dir.path().join("line.mkv");
    let options = FootageOptions { parts: 2, seed: 4711, speed_mm_per_s: 240.0, out: file.clone() };
    write_footage(&options, |_, _| {}).expect("footage is written");
    let broker = Mosquitto::start();
    let site = Site::new(&file, Some(broker.port()));
    site.edit("repeat = false", "repeat = true");
    let mut text = std::fs::read_to_string(&site.file).expect("readable");
    text += "[sparkplug]\ngroup_id = \"Plant 1\"\nprimary_host_id = \"scada\"\n";
    std::fs::write(&site.file, text).expect("written");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let host = runtime.block_on(async { HostApplication::start(broker.port()) });
    let daemon = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args(["run", "--config"])
        .arg(&site.file)
        .stdout(Stdio::null())
        .spawn();
    let daemon = Killed(daemon.expect("the daemon starts"));
    runtime.block_on(host.wait("a result", |told| !results(told, "demo").is_empty()));
    drop(daemon);
    let told = runtime.block_on(host.wait("its death", |told| is_stale(told, None)));
    assert_eq!(births(&told, Some("demo")), 1);
    assert!(results(&told, "demo").iter().all(|(_, late)| !late));
}
