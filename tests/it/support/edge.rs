//! A store with an edge node, as the daemon joins them, and a client that plays the host.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::inspection::Inspection;
use inspectd::publish::PublishOptions;
use inspectd::sparkplug::command::{Command, Commands};
use inspectd::sparkplug::{EdgeHandle, EdgeNode, EdgeState, SparkplugOptions};
use inspectd::store::Store;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use srad_types::payload::metric::Value;
use srad_types::payload::{Message, Metric, Payload};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::mosquitto::DEADLINE;
use super::records::{clock, inspection, open};

/// The group of all edge nodes of tests.
pub const GROUP: &str = "Plant 1";
/// The edge node.
pub const NODE: &str = "dev7";
/// Its stations.
pub const STATIONS: [&str; 2] = ["left", "right"];
/// The primary host, where there is one.
pub const HOST: &str = "scada";

/// The topic of `verb`, of the node or of a station.
pub fn topic(verb: &str, station: Option<&str>) -> String {
    match station {
        Some(station) => format!("spBv1.0/{GROUP}/{verb}/{NODE}/{station}"),
        None => format!("spBv1.0/{GROUP}/{verb}/{NODE}"),
    }
}

/// Takes every command of some stations and refuses those of the others.
#[derive(Default)]
pub struct Takes {
    pub taken: Mutex<Vec<(String, Command)>>,
}

impl Commands for Takes {
    fn take(&self, station: &str, command: Command) -> Result<(), String> {
        if station == "right" {
            return Err("not ready".to_owned());
        }
        self.taken.lock().expect("no panic").push((station.to_owned(), command));
        Ok(())
    }
}

/// A store with an edge node.
pub struct Edge {
    pub store: Store,
    pub handle: EdgeHandle,
    pub commands: Arc<Takes>,
}

impl Edge {
    /// An edge node at the broker on `port`, which keeps its record in `dir`.
    pub fn start(dir: &Path, port: u16) -> Edge {
        Edge::start_with(dir, port, |_| {})
    }

    /// As [`Edge::start`], with other options.
    pub fn start_with(dir: &Path, port: u16, change: impl FnOnce(&mut SparkplugOptions)) -> Edge {
        let store = open(dir);
        let stations = STATIONS.map(str::to_owned);
        let mut broker = PublishOptions::new("127.0.0.1", port, NODE, &stations);
        broker.backoff_min = Duration::from_millis(50);
        broker.backoff_max = Duration::from_millis(100);
        broker.watchdog = Duration::from_secs(5);
        let mut options = SparkplugOptions::new(GROUP, NODE, &stations, &dir.join("inspectd.db"));
        options.heartbeat = None;
        options.rebirth_cooldown = Duration::from_millis(100);
        change(&mut options);
        let commands = Arc::new(Takes::default());
        let takes: Arc<dyn Commands> = Arc::clone(&commands) as _;
        let handle = EdgeNode::spawn(options, broker, &store, clock(), Some(takes));
        Edge { store, handle: handle.expect("the options are good"), commands }
    }

    /// Commits one result, as the daemon does.
    pub fn commit(&self, station: &str, job_id: u64) -> Inspection {
        let look = self.commit_quietly(station, job_id);
        self.handle.wake();
        look
    }

    /// Commits one result that was decided now, and tells nobody.
    pub fn commit_quietly(&self, station: &str, job_id: u64) -> Inspection {
        let mut look = inspection(station, job_id);
        look.times.decided = clock().now();
        self.store.commit(&look, &[]).expect("a commit");
        look
    }

    /// Waits until the state fulfils `condition`, and answers it.
    pub async fn wait(&self, what: &str, condition: impl FnMut(&EdgeState) -> bool) -> EdgeState {
        let mut state = self.handle.state();
        let found = tokio::time::timeout(DEADLINE, state.wait_for(condition)).await;
        match found {
            Ok(found) => found.expect("the edge node lives").clone(),
            Err(_) => panic!("waited in vain for {what}: {:?}", self.handle.state().borrow()),
        }
    }

    /// Stops in good form, and lets go of the record.
    pub async fn stop(self) {
        self.handle.stop(DEADLINE).await;
    }
}

/// A message as a host gets it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub topic: String,
    pub payload: Option<Payload>,
}

/// What [`Watcher`] has heard.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    subscribed: bool,
    pub messages: Vec<Heard>,
}

/// A plain client that hears everything and sends what a host would.
pub struct Watcher {
    client: AsyncClient,
    heard: watch::Receiver<Hearing>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Subscribes at the broker on `port` and waits until that is confirmed.
    pub async fn start(port: u16) -> Watcher {
        let name = format!("watcher-{}", uuid::Uuid::now_v7().simple());
        let (client, mut events) = AsyncClient::new(MqttOptions::new(name, "127.0.0.1", port), 16);
        let (report, heard) = watch::channel(Hearing::default());
        client.try_subscribe("spBv1.0/#", QoS::AtLeastOnce).expect("room");
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        report.send_modify(|hearing| hearing.subscribed = true);
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let heard = Heard {
                            payload: Payload::decode(message.payload.as_ref()).ok(),
                            topic: message.topic,
                        };
                        report.send_modify(|hearing| hearing.messages.push(heard));
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let watcher = Watcher { client, heard, task };
        watcher.wait("the subscription", |hearing| hearing.subscribed).await;
        watcher
    }

    /// Waits until what was heard fulfils `condition`, and answers it.
    pub async fn wait(&self, what: &str, condition: impl FnMut(&Hearing) -> bool) -> Hearing {
        let mut heard = self.heard.clone();
        let found = tokio::time::timeout(DEADLINE, heard.wait_for(condition)).await;
        match found {
            Ok(found) => found.expect("the watcher lives").clone(),
            Err(_) => panic!("waited in vain for {what}: {:#?}", self.heard.borrow()),
        }
    }

    /// Writes to metrics of the node or of a station, by name.
    pub fn command(&self, station: Option<&str>, metrics: &[(&str, Value)], retain: bool) {
        let verb = if station.is_some() { "DCMD" } else { "NCMD" };
        let metrics = metrics.iter().map(|(name, value)| {
            let mut metric = Metric::new();
            metric.set_name((*name).to_owned()).set_value(value.clone());
            metric
        });
        let metrics = metrics.collect();
        let payload = Payload { timestamp: Some(1), metrics, seq: None, uuid: None, body: None };
        self.send(&topic(verb, station), payload.encode_to_vec(), retain);
    }

    /// Asks for births.
    pub fn ask_rebirth(&self) {
        self.command(None, &[("Node Control/Rebirth", Value::BooleanValue(true))], false);
    }

    /// Says as the host `host` whether it is online.
    pub fn say(&self, host: &str, online: bool, timestamp: u64) {
        let text = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
        self.send(&format!("spBv1.0/STATE/{host}"), text.into_bytes(), true);
    }

    /// Sends anything.
    pub fn send(&self, topic: &str, payload: Vec<u8>, retain: bool) {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).expect("room");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
