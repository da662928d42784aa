//! A Sparkplug host application from a library of others: it sees births, keeps values by name, puts
//! messages in order, and asks for a rebirth when one is missing. Only the MQTT client under it is
//! ours, as the library's own would bring a second TLS into the build.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use rumqttc::{AsyncClient, MqttOptions, Outgoing, Packet, QoS, SubscribeFilter};
use srad_app::generic_app::{ApplicationBuilder, MetricStore, RebirthConfig, StateUpdateError};
use srad_app::{AppClient, MetricBirthDetails, MetricDetails, SubscriptionConfig};
use srad_client::{Event, LastWill, StatePayload, topic_and_payload_to_event};
use srad_types::MetricId;
use srad_types::payload::metric::Value;
use srad_types::payload::{Message, Payload};
use srad_types::topic::{self, DeviceTopic, NodeTopic, StateTopic, TopicFilter};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::edge::{GROUP, HOST, NODE};
use super::mosquitto::DEADLINE;

/// A value with its name, as the host knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub name: String,
    pub value: Option<Value>,
    pub is_historical: bool,
}

/// What the host application was told about the node (`station` is `None`) or one of its stations.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Birth {
        station: Option<String>,
        values: Vec<Known>,
    },
    Data {
        station: Option<String>,
        values: Vec<Known>,
    },
    /// It is dead, or what is known of it cannot be trusted.
    Stale {
        station: Option<String>,
    },
}

impl Told {
    /// Whom it is about.
    pub fn station(&self) -> Option<&str> {
        let (Told::Birth { station, .. } | Told::Data { station, .. } | Told::Stale { station }) =
            self;
        station.as_deref()
    }

    /// The value of this name.
    pub fn value(&self, wanted: &str) -> Option<Value> {
        let (Told::Birth { values, .. } | Told::Data { values, .. }) = self else { return None };
        values.iter().find(|known| known.name == wanted).and_then(|known| known.value.clone())
    }
}

/// Notes what the library tells of one node or station.
struct Notes {
    station: Option<String>,
    names: HashMap<MetricId, String>,
    report: watch::Sender<Vec<Told>>,
}

impl Notes {
    fn note(&self, told: Told) {
        self.report.send_modify(|all| all.push(told));
    }
}

fn known(name: String, details: MetricDetails) -> Known {
    let value = details.value.map(|value| value.0);
    Known { name, value, is_historical: details.is_historical }
}

impl MetricStore for Notes {
    fn set_stale(&mut self) {
        self.note(Told::Stale { station: self.station.clone() });
    }

    fn update_from_birth(
        &mut self,
        details: Vec<(MetricBirthDetails, MetricDetails)>,
    ) -> Result<(), StateUpdateError> {
        let ids = details.iter().map(|(birth, _)| (birth.get_metric_id(), birth.name.clone()));
        self.names = ids.collect();
        let values = details.into_iter().map(|(birth, details)| known(birth.name, details));
        self.note(Told::Birth { station: self.station.clone(), values: values.collect() });
        Ok(())
    }

    fn update_from_data(
        &mut self,
        details: Vec<(MetricId, MetricDetails)>,
    ) -> Result<(), StateUpdateError> {
        let mut values = Vec::new();
        for (id, details) in details {
            let Some(name) = self.names.get(&id) else {
                return Err(StateUpdateError::UnknownMetric);
            };
            values.push(known(name.clone(), details));
        }
        self.note(Told::Data { station: self.station.clone(), values });
        Ok(())
    }
}

/// The host application.
pub struct HostApplication {
    pub client: AppClient,
    told: watch::Receiver<Vec<Told>>,
    task: JoinHandle<()>,
}

impl HostApplication {
    /// Starts it at the broker on `port`.
    pub fn start(port: u16) -> HostApplication {
        let name = format!("host-{}", uuid::Uuid::now_v7().simple());
        let (client, events) = AsyncClient::new(MqttOptions::new(name, "127.0.0.1", port), 64);
        let events = HostLoop { events, online: false };
        let (report, told) = watch::channel(Vec::new());
        let subscription = SubscriptionConfig::SingleGroup { group_id: GROUP.to_owned() };
        let rebirth = RebirthConfig {
            rebirth_cooldown: Duration::from_millis(200),
            reorder_timeout: Some(Duration::from_millis(200)),
            ..RebirthConfig::default()
        };
        let builder = ApplicationBuilder::new(HOST, events, HostClient(client), subscription)
            .with_rebirth_config(rebirth)
            .on_node_created(move |node| {
                let notes = |station: Option<String>| Notes {
                    station,
                    names: HashMap::new(),
                    report: report.clone(),
                };
                node.register_metric_store(notes(None));
                let report = report.clone();
                node.on_device_created(move |device| {
                    let station = Some(device.name().to_owned());
                    let notes = Notes { station, names: HashMap::new(), report: report.clone() };
                    device.register_metric_store(notes);
                });
            });
        let (application, client) = builder.build();
        let task = tokio::spawn(application.run());
        HostApplication { client, told, task }
    }

    /// Asks for births.
    pub async fn ask_rebirth(&self) {
        self.client.publish_node_rebirth(GROUP, NODE).await.expect("it is sent");
    }

    /// Waits until what it was told fulfils `condition`, and answers it.
    pub async fn wait(&self, what: &str, mut condition: impl FnMut(&[Told]) -> bool) -> Vec<Told> {
        let mut told = self.told.clone();
        let found = tokio::time::timeout(DEADLINE, told.wait_for(|told| condition(told))).await;
        match found {
            Ok(found) => found.expect("the host lives").clone(),
            Err(_) => panic!("the host waited in vain for {what}: {:#?}", self.told.borrow()),
        }
    }
}

impl Drop for HostApplication {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct HostClient(AsyncClient);

fn quality(qos: topic::QoS) -> QoS {
    match qos {
        topic::QoS::AtMostOnce => QoS::AtMostOnce,
        topic::QoS::AtLeastOnce => QoS::AtLeastOnce,
    }
}

impl HostClient {
    fn send(&self, topic: String, how: (topic::QoS, bool), payload: Vec<u8>) -> Result<(), ()> {
        self.0.try_publish(topic, quality(how.0), how.1, payload).map_err(|_| ())
    }
}

#[async_trait]
impl srad_client::Client for HostClient {
    async fn disconnect(&self) -> Result<(), ()> {
        self.0.try_disconnect().map_err(|_| ())
    }

    async fn publish_state_message(&self, to: StateTopic, what: StatePayload) -> Result<(), ()> {
        self.try_publish_state_message(to, what).await
    }

    async fn try_publish_state_message(
        &self,
        to: StateTopic,
        what: StatePayload,
    ) -> Result<(), ()> {
        let how = what.get_publish_quality_retain();
        self.send(to.topic, how, what.into())
    }

    async fn publish_node_message(&self, to: NodeTopic, what: Payload) -> Result<(), ()> {
        self.try_publish_node_message(to, what).await
    }

    async fn try_publish_node_message(&self, to: NodeTopic, what: Payload) -> Result<(), ()> {
        let how = to.get_publish_quality_retain();
        self.send(to.topic, how, what.encode_to_vec())
    }

    async fn publish_device_message(&self, to: DeviceTopic, what: Payload) -> Result<(), ()> {
        self.try_publish_device_message(to, what).await
    }

    async fn try_publish_device_message(&self, to: DeviceTopic, what: Payload) -> Result<(), ()> {
        let how = to.get_publish_quality_retain();
        self.send(to.topic, how, what.encode_to_vec())
    }

    async fn subscribe_many(&self, topics: Vec<TopicFilter>) -> Result<(), ()> {
        let filters = topics
            .into_iter()
            .map(|filter| SubscribeFilter::new(String::from(filter.topic), quality(filter.qos)));
        self.0.try_subscribe_many(filters).map_err(|_| ())
    }
}

struct HostLoop {
    events: rumqttc::EventLoop,
    online: bool,
}

#[async_trait]
impl srad_client::EventLoop for HostLoop {
    async fn poll(&mut self) -> Event {
        loop {
            match self.events.poll().await {
                Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => {
                    self.online = true;
                    return Event::Online;
                }
                Ok(rumqttc::Event::Incoming(Packet::Publish(message))) => {
                    let (topic, payload) = (message.topic.into_bytes(), message.payload.to_vec());
                    return topic_and_payload_to_event(topic, payload);
                }
                Ok(rumqttc::Event::Outgoing(Outgoing::Disconnect)) => return Event::Offline,
                Ok(_) => {}
                Err(_) if self.online => {
                    self.online = false;
                    return Event::Offline;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn set_last_will(&mut self, will: LastWill) {
        let will = rumqttc::LastWill::new(will.topic, will.payload, quality(will.qos), will.retain);
        self.events.mqtt_options.set_last_will(will);
    }
}
