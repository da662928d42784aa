//! MQTT 5.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnectProperties, Filter, LastWill, LastWillProperties, Packet as Wire, PubAck, PubAckReason,
    Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError, TlsError,
};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};

use super::{Client, Failures, Library, Step, bracketed};
use crate::publish::transport::{
    Decline, DialOptions, Incoming, Limits, Packet, Properties, Qos, Refused,
};

/// Messages to us that the broker may send before we acknowledge one.
const RECEIVE_MAX: u16 = 16;

/// A client and its event loop.
pub(super) fn open(options: &DialOptions, queue: usize) -> (V5Client, V5) {
    let (client, event_loop) = AsyncClient::new(library_options(options), queue);
    let failures = Failures::new(options);
    (V5Client(client.clone()), V5 { client, event_loop, failures, ended: None })
}

fn library_options(options: &DialOptions) -> MqttOptions {
    let mut library = MqttOptions::new(&options.client_id, bracketed(&options.host), options.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut greeting = ConnectProperties::new();
    // No session beyond the connection: the outbox replaces the broker's memory of us.
    greeting.session_expiry_interval = Some(0);
    greeting.receive_maximum = Some(RECEIVE_MAX);
    greeting.max_packet_size = Some(u32::try_from(options.max_packet_bytes).unwrap_or(u32::MAX));
    greeting.topic_alias_max = Some(0);
    let will = &options.last_will;
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: will.properties.expiry_s,
        content_type: will.properties.content_type.map(str::to_owned),
        response_topic: None,
        correlation_data: None,
        user_properties: user_properties(&will.properties),
    };
    library
        // The library panics below five seconds.
        .set_keep_alive(options.keep_alive.max(Duration::from_secs(5)))
        .set_clean_start(true)
        .set_outgoing_inflight_upper_limit(options.inflight.max(1))
        .set_connection_timeout(options.connect_timeout.as_secs().max(1))
        .set_network_options(network)
        .set_connect_properties(greeting)
        .set_last_will(LastWill::new(
            &will.topic,
            will.payload.clone(),
            quality(will.qos),
            will.retain,
            Some(properties),
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

fn user_properties(properties: &Properties) -> Vec<(String, String)> {
    properties.schema.map(|name| ("schema".to_owned(), name.to_owned())).into_iter().collect()
}

/// Hands messages over.
pub(super) struct V5Client(AsyncClient);

impl Client for V5Client {
    fn try_publish(&self, packet: Packet) -> Result<(), Refused> {
        let said = packet.properties;
        let properties = PublishProperties {
            user_properties: user_properties(&said),
            message_expiry_interval: said.expiry_s,
            content_type: said.content_type.map(str::to_owned),
            correlation_data: said.correlation.map(Into::into),
            ..PublishProperties::default()
        };
        let qos = quality(packet.qos);
        let (topic, payload) = (packet.topic, packet.payload);
        let sent =
            self.0.try_publish_with_properties(topic, qos, packet.retain, payload, properties);
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
pub(super) struct V5 {
    client: AsyncClient,
    event_loop: EventLoop,
    failures: Failures,
    /// How it ended, to be told after what was read before.
    ended: Option<Step>,
}

impl Library for V5 {
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

fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), Refused> {
    let filters = filters.iter().map(|filter| Filter {
        path: filter.clone(),
        qos: QoS::AtLeastOnce,
        nolocal: true,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::OnEverySubscribe,
    });
    client.try_subscribe_many(filters).map_err(|_| Refused)
}

fn incoming(message: Publish) -> Step {
    let Ok(topic) = String::from_utf8(message.topic.to_vec()) else {
        tracing::warn!("a message came in whose topic is no text");
        return Step::Nothing;
    };
    let said = message.properties.unwrap_or_default();
    Step::Message(Incoming {
        topic,
        payload: message.payload.to_vec(),
        retain: message.retain,
        duplicate: message.dup,
        response_topic: said.response_topic,
        correlation: said.correlation_data.map(|bytes| bytes.to_vec()),
    })
}

/// An acknowledgement with an error is no delivery.
fn acknowledged(ack: PubAck) -> Step {
    let number = ack.pkid;
    let (reason, decline) = match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
            return Step::Acknowledged(number);
        }
        PubAckReason::NotAuthorized => ("its access rules do not allow it", Decline::ForNow),
        PubAckReason::QuotaExceeded => ("a quota is exceeded", Decline::ForNow),
        PubAckReason::TopicNameInvalid => ("it does not accept the topic", Decline::ForGood),
        PubAckReason::PayloadFormatInvalid => {
            ("it does not accept the payload's form", Decline::ForGood)
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse => ("it does not say why", Decline::ForNow),
    };
    let said = ack.properties.and_then(|said| said.reason_string);
    let reason = match said {
        Some(text) => format!("{reason} ({})", text.escape_debug().take(200).collect::<String>()),
        None => format!("{reason} ({:?})", ack.reason),
    };
    Step::Declined { number, reason, decline }
}

impl V5 {
    fn taken(&mut self, event: Event) -> Step {
        match event {
            // The library answers an error for any code but success.
            Event::Incoming(Wire::ConnAck(greeting)) => {
                self.failures.greeted = true;
                let said = greeting.properties.as_ref();
                let most = said.and_then(|said| said.max_packet_size);
                Step::Connected(Limits {
                    max_packet_bytes: most
                        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
                    inflight: said.and_then(|said| said.receive_max),
                })
            }
            Event::Incoming(Wire::SubAck(answer)) => {
                let why = |code: &SubscribeReasonCode| match code {
                    SubscribeReasonCode::Success(_) => None,
                    refused => Some(format!("{refused:?}")),
                };
                Step::Subscribed(answer.return_codes.iter().map(why).collect())
            }
            Event::Incoming(Wire::Publish(message)) => incoming(message),
            Event::Incoming(Wire::PubAck(ack)) => acknowledged(ack),
            Event::Outgoing(Outgoing::Publish(number)) => Step::Left(number),
            Event::Outgoing(Outgoing::Disconnect) => Step::Disconnected,
            _ => Step::Nothing,
        }
    }

    fn end(&self, error: &ConnectionError) -> Step {
        match error {
            // mosquitto answers 0x95 (packet too large), which a PUBACK cannot say by the standard
            // and the library cannot read.
            ConnectionError::MqttState(StateError::Deserialization(
                mqttbytes::Error::InvalidConnectReturnCode(code),
            )) if self.failures.greeted => Step::BadAcknowledgement(*code),
            other => Step::Failed(self.told(other)),
        }
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
            | ConnectionError::Timeout(_)
            | ConnectionError::NotConnAck(_) => self.failures.cut(&error.to_string()),
            other => other.to_string(),
        }
    }
}
