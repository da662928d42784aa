//! MQTT 3.1.1.

use std::time::Duration;

use rumqttc::mqttbytes;
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing,
    Packet as Wire, QoS, StateError, SubscribeFilter, SubscribeReasonCode, TlsConfiguration,
    TlsError, Transport,
};

use super::{Client, Failures, Library, Step, bracketed};
use crate::publish::transport::{DialOptions, Incoming, Limits, Packet, Qos, Refused};

/// A client and its event loop.
pub(super) fn open(options: &DialOptions, queue: usize) -> (V4Client, V4) {
    let (client, mut event_loop) = AsyncClient::new(library_options(options), queue);
    let mut network = event_loop.network_options();
    network.set_connection_timeout(options.connect_timeout.as_secs().max(1));
    network.set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    let failures = Failures::new(options);
    (V4Client(client.clone()), V4 { client, event_loop, failures, ended: None })
}

fn library_options(options: &DialOptions) -> MqttOptions {
    let mut library = MqttOptions::new(&options.client_id, bracketed(&options.host), options.port);
    let will = &options.last_will;
    library
        // The library panics below one second.
        .set_keep_alive(options.keep_alive.max(Duration::from_secs(1)))
        .set_clean_session(true)
        .set_inflight(options.inflight.max(1))
        .set_max_packet_size(options.max_packet_bytes, options.max_packet_bytes)
        .set_last_will(LastWill::new(
            &will.topic,
            will.payload.clone(),
            quality(will.qos),
            will.retain,
        ));
    if let Some((user, password)) = &options.login {
        library.set_credentials(user, password);
    }
    if let Some(tls) = &options.tls {
        library.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.config.clone())));
    }
    library
}

fn quality(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Refused> {
    let filters =
        filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
    client.try_subscribe_many(filters).map_err(|_| Refused)
}

/// Hands messages over.
pub(super) struct V4Client(AsyncClient);

impl Client for V4Client {
    fn try_publish(&self, packet: Packet) -> Result<(), Refused> {
        let qos = quality(packet.qos);
        let sent = self.0.try_publish(packet.topic, qos, packet.retain, packet.payload);
        sent.map_err(|_| Refused)
    }

    fn try_subscribe(&self, filters: &[String]) -> Result<(), Refused> {
        subscribe(&self.0, filters)
    }

    fn try_disconnect(&self) -> Result<(), Refused> {
        self.0.try_disconnect().map_err(|_| Refused)
    }
}

/// The library at work.
pub(super) struct V4 {
    client: AsyncClient,
    event_loop: EventLoop,
    failures: Failures,
    /// How it ended, to be told after what was read before.
    ended: Option<Step>,
}

impl Library for V4 {
    async fn step(&mut self) -> Step {
        if self.ended.is_none() {
            match self.event_loop.poll().await {
                Ok(event) => return self.taken(event),
                Err(why) => self.ended = Some(self.end(&why)),
            }
        }
        // The library reads several packets at once. Those before the one that it failed at are
        // noted, and forgotten on the next poll: acknowledgements among them.
        match self.event_loop.state.events.pop_front() {
            // Noted before it is written, and perhaps it was not.
            Some(Event::Outgoing(_)) => Step::Nothing,
            Some(event) => self.taken(event),
            None => self.ended.take().expect("noted above, or told already and not polled again"),
        }
    }

    fn subscribe(&self, filters: &[String]) -> Result<(), Refused> {
        subscribe(&self.client, filters)
    }
}

impl V4 {
    fn taken(&mut self, event: Event) -> Step {
        match event {
            Event::Incoming(Wire::ConnAck(_)) => {
                self.failures.greeted = true;
                Step::Connected(Limits::default())
            }
            Event::Incoming(Wire::SubAck(answer)) => {
                let why = |code: &SubscribeReasonCode| match code {
                    SubscribeReasonCode::Success(_) => None,
                    SubscribeReasonCode::Failure => {
                        Some("it does not say why (MQTT 3.1.1)".to_owned())
                    }
                };
                Step::Subscribed(answer.return_codes.iter().map(why).collect())
            }
            Event::Incoming(Wire::Publish(message)) => Step::Message(Incoming {
                topic: message.topic,
                payload: message.payload.to_vec(),
                retain: message.retain,
                duplicate: message.dup,
                response_topic: None,
                correlation: None,
            }),
            Event::Incoming(Wire::PubAck(ack)) => Step::Acknowledged(ack.pkid),
            Event::Outgoing(Outgoing::Publish(number)) => Step::Left(number),
            Event::Outgoing(Outgoing::Disconnect) => Step::Disconnected,
            _ => Step::Nothing,
        }
    }

    fn end(&self, error: &ConnectionError) -> Step {
        Step::Failed(self.told(error))
    }

    fn told(&self, error: &ConnectionError) -> String {
        match error {
            ConnectionError::Io(why)
            | ConnectionError::Tls(TlsError::Io(why))
            | ConnectionError::MqttState(
                StateError::Io(why) | StateError::Deserialization(mqttbytes::Error::Io(why)),
            ) => self.failures.io(why),
            ConnectionError::ConnectionRefused(code) => self.failures.refused(&format!("{code:?}")),
            ConnectionError::MqttState(_)
            | ConnectionError::NetworkTimeout
            | ConnectionError::NotConnAck(_) => self.failures.cut(&error.to_string()),
            other => other.to_string(),
        }
    }
}
